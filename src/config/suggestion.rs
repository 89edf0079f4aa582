//! The word that somebody probably meant.

/// The nearest of the known words, if it is near enough to be a slip of the fingers.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: String = word.chars().take(64).collect(); // a line that is no option may be long
    let word = word.to_ascii_lowercase().replace('_', "-");
    // Longer words have room for more slips; a word of three letters is near to anything.
    let most = (word.chars().count() / 3).min(3);
    let near = |candidate: &'a str| {
        let begins = word.len() >= 4 && candidate.starts_with(&word);
        let slips = if begins { 1 } else { distance(&word, candidate) };
        (slips <= most).then_some((slips, candidate))
    };
    known
        .into_iter()
        .filter_map(near)
        .min()
        .map(|(_, candidate)| candidate)
}

/// How many letters must be put in, taken out, changed or swapped with their neighbour to come from one word
/// to the other (Damerau, Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=to.len()).collect()];
    for (i, letter) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, other) in to.iter().enumerate() {
            let changed = rows[i][j] + usize::from(letter != other);
            let mut least = changed.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *letter == to[j - 1] && from[i - 1] == *other {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 5] = ["listen", "list-messages", "max-hops", "max-recipients", "user"];

    #[test]
    fn a_slip_of_the_fingers_is_seen_through() {
        for (word, meant) in [
            ("lsiten", "listen"),
            ("max_hops", "max-hops"),
            ("Max-Hop", "max-hops"),
            ("max-rec", "max-recipients"),
        ] {
            assert_eq!(nearest(word, KNOWN), Some(meant), "{word}");
        }
    }

    #[test]
    fn a_foreign_word_suggests_nothing() {
        for word in ["", "x", "abc", "mynetworks", "smtpd_banner", "höhö"] {
            assert_eq!(nearest(word, KNOWN), None, "{word}");
        }
    }

    #[test]
    fn distance_counts_letters() {
        assert_eq!(
            (
                distance("", "abc"),
                distance("abc", ""),
                distance("kitten", "sitting")
            ),
            (3, 3, 3)
        );
    }
}
