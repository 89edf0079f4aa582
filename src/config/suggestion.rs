//! The word that somebody probably meant.

/// The nearest of the known words, if it is near enough to be a slip of the fingers.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
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

/// How many letters must be put in, taken out or changed to come from one word to the other (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (above, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (column, other) in to.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
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
