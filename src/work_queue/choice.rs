//! Which recipients an order of the operator is for: those of messages that are named, those that look so, or both at
//! once. Pure.

use std::time::Duration;

use super::id::MessageId;
use super::listing::MailRow;
use super::states::State;
use crate::clock::Stamp;

/// A choice of recipients: each that fits all that is said here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Of one of these messages; of any, where there are none.
    pub ids: Vec<MessageId>,
    /// The reverse path looks so.
    pub sender: Option<Pattern>,
    /// The recipient looks so.
    pub recipient: Option<Pattern>,
    /// It goes to one of these next hops, by their names; to any or to none, where there are none.
    pub hops: Vec<String>,
    /// It is in one of these states; in any, where there are none.
    pub states: Vec<State>,
    /// The message arrived so long ago, or earlier.
    pub older: Option<Duration>,
    /// The content has so many octets.
    pub size: Option<Sizes>,
    /// This stands in the subject, in any case.
    pub subject: Option<String>,
    /// This stands in what went wrong last, in any case.
    pub error: Option<String>,
}

/// What an address looks like: an address, or with a star for any text; `@domain` is any at that domain, `<>` the null
/// path. In any case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

/// So many octets at least, and at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// At least.
    pub least: u64,
    /// At most.
    pub most: u64,
}

impl Choice {
    /// All recipients of these messages.
    #[must_use]
    pub fn of_messages(ids: Vec<MessageId>) -> Choice {
        Choice {
            ids,
            ..Choice::default()
        }
    }

    /// Whether it says nothing: each recipient fits.
    #[must_use]
    pub fn is_of_everything(&self) -> bool {
        *self == Choice::default()
    }

    /// Whether it says nothing but which messages.
    #[must_use]
    pub fn is_by_id(&self) -> bool {
        let unnamed = Choice {
            ids: Vec::new(),
            ..self.clone()
        };
        !self.ids.is_empty() && unnamed.is_of_everything()
    }

    /// Whether it may be of recipients that have been removed.
    #[must_use]
    pub fn may_be_of_removed(&self) -> bool {
        self.states.contains(&State::Removed)
    }

    /// Whether this recipient fits, at the moment `now`. That its message is one of those that are named is looked to by
    /// who reads its row.
    #[must_use]
    pub fn fits(&self, row: &MailRow, now: Stamp) -> bool {
        let stands_in = |word: &Option<String>, text: Option<&str>| {
            word.as_ref().is_none_or(|word| {
                text.is_some_and(|text| text.to_lowercase().contains(&word.to_lowercase()))
            })
        };
        let is_old = |age: Duration| row.id.arrived().plus(age) <= now;
        self.sender.as_ref().is_none_or(|looks| looks.fit(&row.sender))
            && self
                .recipient
                .as_ref()
                .is_none_or(|looks| looks.fit(&row.recipient))
            && (self.hops.is_empty() || self.hops.iter().any(|name| is_hop(row.next_hop.as_deref(), name)))
            && (self.states.is_empty()
                || row
                    .state
                    .known()
                    .is_some_and(|state| self.states.contains(&state)))
            && self.older.is_none_or(is_old)
            && self
                .size
                .is_none_or(|size| (size.least..=size.most).contains(&row.size))
            && stands_in(&self.subject, row.subject.as_deref())
            && stands_in(&self.error, row.last_error.as_deref())
    }
}

/// Whether the next hop of a row is the one of this name, as people write it: in any case, and without the usual port.
fn is_hop(next_hop: Option<&str>, name: &str) -> bool {
    next_hop.is_some_and(|hop| {
        let plain = hop.strip_suffix(":25").unwrap_or(hop);
        hop.eq_ignore_ascii_case(name) || plain.eq_ignore_ascii_case(name)
    })
}

impl Pattern {
    /// What this word means; `None` where it is empty.
    #[must_use]
    pub fn of(word: &str) -> Option<Pattern> {
        let word = word.to_lowercase();
        let inner = word
            .strip_prefix('<')
            .and_then(|rest| rest.strip_suffix('>'))
            .unwrap_or(&word);
        match (word.as_str(), inner) {
            ("", _) => None,
            (_, at) if at.starts_with('@') => Some(Pattern(format!("*{at}"))),
            (_, inner) => Some(Pattern(inner.to_owned())),
        }
    }

    /// Whether an address, without angle brackets, looks so. The null path is empty.
    fn fit(&self, address: &str) -> bool {
        looks_like(&self.0, &address.to_lowercase())
    }
}

/// Whether `text` looks like `pattern`, in which a star stands for any text.
fn looks_like(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::super::listing::Standing;
    use super::*;

    fn row() -> MailRow {
        MailRow {
            id: MessageId(1_000_000_000_000_000),
            n: 0,
            size: 2048,
            sender: "Ann@Lotus.com".to_owned(),
            recipient: "bob@iris.com".to_owned(),
            state: Standing::Known(State::PendingXmit),
            next_hop: Some("iris.com".to_owned()),
            via: None,
            handler: None,
            next_attempt: None,
            attempts: 1,
            last_error: Some("451 4.7.1 Greylisted, come back".to_owned()),
            subject: Some("Invoice 77".to_owned()),
        }
    }

    fn fits(choice: &Choice) -> bool {
        choice.fits(&row(), row().id.arrived().plus(Duration::from_secs(3600)))
    }

    #[test]
    fn an_address_fits_as_a_whole_in_any_case_and_a_star_stands_for_any_text() {
        for (word, address, is_so) in [
            ("ann@lotus.com", "Ann@LOTUS.com", true),
            ("<ann@lotus.com>", "ann@lotus.com", true),
            ("ann@lotus.com", "joann@lotus.com", false),
            ("ann@lotus.com", "ann@lotus.com.example", false),
            ("@lotus.com", "ann@lotus.com", true),
            ("@lotus.com", "ann@mail.lotus.com", false),
            ("*@*.lotus.com", "ann@mail.lotus.com", true),
            ("*", "anybody@example.org", true),
            ("*", "", true),
            ("<>", "", true),
            ("<>", "ann@lotus.com", false),
            ("a*n*@lotus.com", "ann@lotus.com", true),
            ("a*n*n@lotus.com", "an@lotus.com", false),
            ("aba*aba", "aba", false),
            ("Straße*@lotus.com", "straße-7@lotus.com", true),
        ] {
            let pattern = Pattern::of(word).unwrap();
            assert_eq!(pattern.fit(address), is_so, "{word} and {address}");
        }
        assert_eq!(Pattern::of(""), None);
    }

    #[test]
    fn a_recipient_fits_that_fits_all_that_is_said() {
        let all = Choice {
            ids: vec![row().id],
            sender: Pattern::of("@lotus.com"),
            recipient: Pattern::of("bob@*"),
            hops: vec!["other.example".to_owned(), "IRIS.com".to_owned()],
            states: vec![State::Held, State::PendingXmit],
            older: Some(Duration::from_secs(3600)),
            size: Some(Sizes {
                least: 2048,
                most: 2048,
            }),
            subject: Some("INVOICE".to_owned()),
            error: Some("greylisted".to_owned()),
        };
        assert!(fits(&all) && fits(&Choice::default()));
        let others: [fn(&mut Choice); 8] = [
            |c| c.sender = Pattern::of("<>"),
            |c| c.recipient = Pattern::of("@lotus.com"),
            |c| c.hops = vec!["lotus.com".to_owned()],
            |c| c.states = vec![State::Held],
            |c| c.older = Some(Duration::from_secs(3601)),
            |c| {
                c.size = Some(Sizes { least: 0, most: 2047 });
            },
            |c| c.subject = Some("Offer".to_owned()),
            |c| c.error = Some("refused".to_owned()),
        ];
        for (number, other) in others.iter().enumerate() {
            let mut choice = all.clone();
            other(&mut choice);
            assert!(!fits(&choice), "{number}");
            let mut alone = Choice::default();
            other(&mut alone);
            assert!(!fits(&alone) && !alone.is_of_everything(), "{number}");
        }
    }

    #[test]
    fn what_a_row_does_not_say_fits_nothing_that_is_asked_of_it() {
        let row = MailRow {
            next_hop: None,
            last_error: None,
            subject: None,
            state: Standing::Unknown(77),
            ..row()
        };
        let now = row.id.arrived();
        for choice in [
            Choice {
                hops: vec!["iris.com".to_owned()],
                ..Choice::default()
            },
            Choice {
                error: Some(String::new()),
                ..Choice::default()
            },
            Choice {
                subject: Some(String::new()),
                ..Choice::default()
            },
            Choice {
                states: State::ALL.to_vec(),
                ..Choice::default()
            },
        ] {
            assert!(!choice.fits(&row, now), "{choice:?}");
        }
        assert!(Choice::default().fits(&row, now));
    }

    #[test]
    fn a_next_hop_is_named_with_the_usual_port_or_without() {
        assert!(is_hop(Some("mx.iris.com:25"), "MX.iris.com"));
        assert!(is_hop(Some("mx.iris.com:25"), "mx.iris.com:25"));
        assert!(!is_hop(Some("mx.iris.com:26"), "mx.iris.com"));
        assert!(!is_hop(None, "mx.iris.com"));
    }

    #[test]
    fn a_choice_by_id_says_nothing_else() {
        let by_id = Choice {
            ids: vec![MessageId(7)],
            ..Choice::default()
        };
        assert!(by_id.is_by_id() && !by_id.is_of_everything());
        let also = Choice {
            error: Some("x".to_owned()),
            ..by_id
        };
        assert!(!also.is_by_id());
        assert!(!Choice::default().is_by_id());
    }
}
