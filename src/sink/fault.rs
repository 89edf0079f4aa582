//! One order to misbehave: where, for whom, which time, how often, and what is done wrong. The grammar of `--fault`.
//!
//! Pure. Never decides whether it is time: that is [`super::faults`].

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::stage::Stage;

/// All of the times, in the ten thousandths that a percentage is kept in.
pub const ALWAYS: u32 = 10_000;
/// Longest pause that can be ordered: an hour, in milliseconds.
const LONGEST_PAUSE: u64 = 3_600_000;
/// What is said as `garbage`: no reply by any reading, and nothing that a terminal should be shown.
const GARBAGE: &[u8] = b"\x16\x03\x01\x1b[2J\xff\xfeHTTP/1.1 400 Bad Request\r\n";

/// What the sink does wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Says these octets in place of the reply. What it grants goes by the first digit; after a 421 it closes.
    Say(Vec<u8>),
    /// Closes the connection instead of an answer.
    Drop,
    /// The same, by RST.
    Reset,
    /// Says nothing, ever; also takes nothing more.
    Stall,
    /// Says what is right an octet at a time, with this pause before each; takes content in just so.
    Slow(Duration),
    /// Says what is right after this pause.
    Late(Duration),
    /// Says what is right before it is asked, together with the reply before it.
    Early,
    /// Says what is right, and closes.
    CloseAfter,
}

/// Which of the occasions that fit, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// The first one.
    pub from: u64,
    /// The last one.
    pub to: u64,
}

impl Times {
    /// All of them.
    pub const ALL: Times = Times {
        from: 1,
        to: u64::MAX,
    };

    /// Whether this one is among them.
    #[must_use]
    pub fn include(self, number: u64) -> bool {
        (self.from..=self.to).contains(&number)
    }
}

/// One order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where in the dialogue.
    pub stage: Stage,
    /// Only for addresses like this: `*` stands for anything. For MAIL the sender, for RCPT the recipient.
    pub only: Option<String>,
    /// Only these times.
    pub times: Times,
    /// What.
    pub deed: Deed,
    /// How often, in ten thousandths.
    pub share: u32,
    /// The order in the words in which it was given.
    pub text: String,
}

impl Fault {
    /// An order without any bounds.
    #[must_use]
    pub fn new(stage: Stage, deed: Deed) -> Fault {
        Fault {
            stage,
            only: None,
            times: Times::ALL,
            deed,
            share: ALWAYS,
            text: stage.to_string(),
        }
    }

    /// Whether it is for this stage and, where it names an address, for this one.
    #[must_use]
    pub fn fits(&self, stage: Stage, about: &str) -> bool {
        self.stage == stage && self.only.as_ref().is_none_or(|only| is_like(about, only))
    }
}

/// The words in which it was given.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `STAGE=WHAT`, with `[PATTERN]` and `#N`, `#N-` or `#N-M` behind the stage and `@PERCENT` behind it all.
/// `Err` says what was expected.
impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Fault, String> {
        let end = text.find(['[', '#', '=']).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        let stage = Stage::from_word(word).ok_or_else(|| {
            format!(
                "STAGE=WHAT, where STAGE is one of {}",
                Stage::ALL.map(Stage::word).join(", ")
            )
        })?;
        let (only, rest) = pattern(rest)?;
        if only.is_some() && !matches!(stage, Stage::Mail | Stage::Rcpt | Stage::Dot) {
            return Err("an address in brackets behind mail, rcpt and dot only".into());
        }
        let (times, what) = times(rest)?;
        let (what, share) = share(what)?;
        Ok(Fault {
            stage,
            only,
            times,
            deed: Deed::at(stage, what)?,
            share,
            text: text.escape_default().to_string(),
        })
    }
}

fn pattern(rest: &str) -> Result<(Option<String>, &str), String> {
    let Some(inside) = rest.strip_prefix('[') else {
        return Ok((None, rest));
    };
    // An address literal has brackets, too.
    let end = ["]=", "]#"].iter().filter_map(|end| inside.find(end)).min();
    let end = end.ok_or("a ] behind the address, and then = or #")?;
    Ok((Some(inside[..end].to_owned()), &inside[end + 1..]))
}

fn times(rest: &str) -> Result<(Times, &str), String> {
    let expected = || "a number behind #, as in dot#3=drop, dot#3-=drop or dot#3-5=drop".to_owned();
    let (times, what) = rest.split_once('=').ok_or("a = and what to do")?;
    let Some(times) = times.strip_prefix('#') else {
        return Ok((Times::ALL, what));
    };
    let number = |text: &str| text.parse().ok().filter(|number: &u64| *number > 0);
    let (from, to) = match times.split_once('-') {
        None => (number(times), number(times)),
        Some((from, "")) => (number(from), Some(u64::MAX)),
        Some((from, to)) => (number(from), number(to)),
    };
    match (from, to) {
        (Some(from), Some(to)) if from <= to => Ok((Times { from, to }, what)),
        _ => Err(expected()),
    }
}

/// `@PERCENT` at the end. What else an `@` is followed by belongs to a reply.
fn share(what: &str) -> Result<(&str, u32), String> {
    let Some((before, percent)) = what.rsplit_once('@') else {
        return Ok((what, ALWAYS));
    };
    let percent = percent.strip_suffix('%').unwrap_or(percent);
    let (whole, parts) = percent.split_once('.').unwrap_or((percent, ""));
    let is_number = |text: &str| text.bytes().all(|octet| octet.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(parts) {
        return Ok((what, ALWAYS));
    }
    let share = format!("{whole}{parts:0<2}").parse().ok();
    match share.filter(|share| parts.len() <= 2 && *share <= ALWAYS) {
        Some(share) => Ok((before, share)),
        None => Err("a percentage from 0 to 100 behind @, with two decimals at most".into()),
    }
}

impl Deed {
    /// What this word of `--fault` stands for at a stage.
    ///
    /// # Errors
    /// What was expected.
    pub(super) fn at(stage: Stage, what: &str) -> Result<Deed, String> {
        deed(stage, what)
    }
}

fn deed(stage: Stage, what: &str) -> Result<Deed, String> {
    let (word, value) = what.split_once(':').unwrap_or((what, ""));
    let pause = || {
        let number = value.parse().ok().filter(|ms| *ms <= LONGEST_PAUSE);
        number.map(Duration::from_millis)
    };
    let deed = match word {
        "refuse" => stage.refusal().map(said),
        "defer" => stage.deferral().map(said),
        "drop" => Some(Deed::Drop),
        "reset" => Some(Deed::Reset),
        "stall" => Some(Deed::Stall),
        "garbage" => Some(Deed::Say(GARBAGE.to_vec())),
        "early" => Some(Deed::Early),
        "close-after" => Some(Deed::CloseAfter),
        "slow" => pause().map(Deed::Slow),
        "late" => pause().map(Deed::Late),
        _ if what.len() >= 3 && what.bytes().take(3).all(|octet| octet.is_ascii_digit()) => {
            Some(Deed::Say(literal(what)?))
        }
        _ => None,
    };
    deed.filter(|deed| stage.allows(deed)).ok_or_else(|| {
        format!(
            "at the stage {stage} one of {}",
            stage.deeds().collect::<Vec<_>>().join(", ")
        )
    })
}

fn said(reply: &str) -> Deed {
    Deed::Say(format!("{reply}\r\n").into_bytes())
}

/// The octets of a reply with `\n` (CRLF), `\\` and `\xHH` in it, and a CRLF at the end.
fn literal(text: &str) -> Result<Vec<u8>, String> {
    let mut octets = Vec::new();
    let mut rest = text;
    while let Some((before, escaped)) = rest.split_once('\\') {
        octets.extend_from_slice(before.as_bytes());
        let hex = |escaped: &str| u8::from_str_radix(escaped.get(1..3)?, 16).ok();
        let taken = match (escaped.bytes().next(), hex(escaped)) {
            (Some(b'n'), _) => {
                octets.extend_from_slice(b"\r\n");
                1
            }
            (Some(b'\\'), _) => {
                octets.push(b'\\');
                1
            }
            (Some(b'x'), Some(octet)) => {
                octets.push(octet);
                3
            }
            _ => return Err("\\n, \\\\ or \\xHH behind a backslash".into()),
        };
        rest = &escaped[taken..];
    }
    octets.extend_from_slice(rest.as_bytes());
    octets.extend_from_slice(b"\r\n");
    Ok(octets)
}

/// Whether an address is like a pattern in which `*` stands for anything, in whatever case.
fn is_like(address: &str, pattern: &str) -> bool {
    let (address, pattern) = (address.to_ascii_lowercase(), pattern.to_ascii_lowercase());
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = address.strip_prefix(first) else {
        return false;
    };
    let Some(last) = pieces.next_back() else {
        return rest.is_empty();
    };
    for piece in pieces {
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> Fault {
        text.parse()
            .unwrap_or_else(|wrong| panic!("{text}: expected {wrong}"))
    }

    #[test]
    fn an_order_says_where_for_whom_when_what_and_how_often() {
        let whole = fault("rcpt[bob@*]#3-5=452 4.5.3 too many@12.5%");
        assert_eq!(
            (whole.stage, whole.only.as_deref(), whole.times, whole.share),
            (Stage::Rcpt, Some("bob@*"), Times { from: 3, to: 5 }, 1250)
        );
        assert_eq!(whole.deed, Deed::Say(b"452 4.5.3 too many\r\n".to_vec()));
        assert_eq!(whole.to_string(), "rcpt[bob@*]#3-5=452 4.5.3 too many@12.5%");
        let plain = fault("dot=drop");
        assert_eq!((plain.only, plain.times, plain.share), (None, Times::ALL, ALWAYS));
        assert_eq!(fault("dot#2=drop").times, Times { from: 2, to: 2 });
        assert_eq!(
            fault("dot#2-=drop").times,
            Times {
                from: 2,
                to: u64::MAX
            }
        );
        assert_eq!(
            fault("rcpt[a@[192.0.2.1]]=refuse").only.as_deref(),
            Some("a@[192.0.2.1]")
        );
    }

    #[test]
    fn a_reply_may_have_several_lines_and_any_octets() {
        let said = |text: &str| match fault(text).deed {
            Deed::Say(octets) => octets,
            other => panic!("{other:?}"),
        };
        assert_eq!(said(r"ehlo=250-a\n250 SIZE"), b"250-a\r\n250 SIZE\r\n");
        assert_eq!(said(r"dot=250 a\\b\xff\x0a"), b"250 a\\b\xff\n\r\n");
        // An address at the end is no percentage.
        assert_eq!(said("rcpt=550 no bob@example.org"), b"550 no bob@example.org\r\n");
        assert_eq!(said("rcpt=550 no bob@50"), b"550 no bob\r\n");
    }

    #[test]
    fn refuse_and_defer_are_what_the_stage_calls_so() {
        for (text, reply) in [
            ("greeting=refuse", "554 "),
            ("greeting=defer", "421 "),
            ("ehlo=defer", "421 "),
            ("auth=refuse", "535 "),
            ("rcpt=refuse", "550 5.1.1 "),
            ("rcpt=defer", "450 4.2.1 "),
            ("dot=defer", "451 "),
        ] {
            assert!(
                matches!(&fault(text).deed, Deed::Say(said) if said.starts_with(reply.as_bytes())),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_order_is_told() {
        for (text, expected) in [
            ("", "STAGE=WHAT, where STAGE is one of connect, greeting"),
            ("rctp=refuse", "STAGE=WHAT, where"),
            ("rcpt", "a = and what to do"),
            ("rcpt[bob=refuse", "a ] behind"),
            (
                "data[bob]=refuse",
                "an address in brackets behind mail, rcpt and dot only",
            ),
            ("dot#0=drop", "a number behind #"),
            ("dot#5-3=drop", "a number behind #"),
            ("dot=drop@101", "a percentage"),
            ("dot=drop@1.234", "a percentage"),
            ("dot=explode", "at the stage dot one of refuse, defer"),
            ("dot=slow:x", "at the stage dot one of"),
            (
                "connect=refuse",
                "at the stage connect one of drop, reset, stall, late:MS",
            ),
            ("greeting=early", "at the stage greeting one of"),
            ("content=close-after", "at the stage content one of"),
            (r"dot=250 \q", r"\n, \\ or \xHH"),
            (r"dot=250 \x4", r"\n, \\ or \xHH"),
        ] {
            let wrong = text.parse::<Fault>().unwrap_err();
            assert!(wrong.starts_with(expected), "{text}: {wrong}");
        }
    }

    #[test]
    fn an_asterisk_stands_for_anything() {
        for (address, pattern, is) in [
            ("bob@a.example", "bob@a.example", true),
            ("Bob@A.example", "bob@a.EXAMPLE", true),
            ("bob@a.example", "bob", false),
            ("bob@a.example", "bob*", true),
            ("bob@a.example", "*@a.example", true),
            ("bob@a.example", "b*@*.example", true),
            ("bob@a.example", "b*@*.test", false),
            ("aa", "a*a", true),
            ("a", "a*a", false),
            ("", "*", true),
            ("a", "", false),
        ] {
            assert_eq!(is_like(address, pattern), is, "{address} {pattern}");
        }
    }
}
