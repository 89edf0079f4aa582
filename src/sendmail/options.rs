//! The options of sendmail, as programs have given them for forty years: letters that may stand together, values attached
//! or as the next word, and those of other mail servers, which are ignored. Pure.

use std::path::PathBuf;

use crate::config::problem::quoted;
use crate::smtp::command::Body;
use crate::smtp::dsn::{EnvelopeId, Notify, Return, to_xtext};

/// Letters that have a value, attached or as the next word.
const WITH_VALUE: &str = "ABCFLNORVXbefhopr";
/// Letters that may have one, attached.
const WITH_OPTIONAL_VALUE: &str = "dq";
/// Letters without one.
const FLAGS: &str = "GIUcimnstvx";

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Take a message from standard input.
    Submit,
    /// `-bs`: speak SMTP on standard input and output.
    Dialogue,
    /// `-bp`, `mailq`.
    List,
    /// `-bv`: say what would become of addresses.
    Verify,
    /// `-q`.
    Flush(Flush),
    /// `-bi`, `-I`, `newaliases`.
    Aliases,
    /// What another mail server would do, and this one has no need of.
    Nothing,
    /// `--help`.
    Help,
}

/// What is tried again at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flush {
    /// All that waits.
    All,
    /// `-qI`: a message, by its ID.
    Message(String),
    /// `-qR`: what waits for a next hop.
    Hop(String),
}

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What to do.
    pub mode: Mode,
    /// `-f`, `-r`: the envelope's sender, as it was given.
    pub sender: Option<String>,
    /// `-F`.
    pub full_name: Option<String>,
    /// `-t`: the recipients of the header, too.
    pub by_header: bool,
    /// `-i`, `-oi`: a line with only a dot is a line.
    pub ignores_dot: bool,
    /// `-N`.
    pub notify: Option<Notify>,
    /// `-R`.
    pub ret: Option<Return>,
    /// `-V`.
    pub envelope_id: Option<EnvelopeId>,
    /// `-B`.
    pub body: Option<Body>,
    /// `-C`: the configuration file of the MTA.
    pub config: Option<PathBuf>,
    /// The words behind the options: recipients.
    pub words: Vec<String>,
}

/// What `--help` says.
#[must_use]
pub fn help() -> String {
    "Usage: sendmail [OPTIONS] [RECIPIENT ...] < MESSAGE\n       \
     mailq | sendmail -bp\n       \
     newaliases | sendmail -bi\n       \
     sendmail -bs | sendmail -bv ADDRESS ... | sendmail -q\n\nSee smtpmta-sendmail(8).\n"
        .to_owned()
}

/// Reads the words behind `name`, which is one of [`super::NAMES`].
///
/// # Errors
/// What is wrong, in a sentence.
pub fn parse(name: &str, words: &[String]) -> Result<Asked, String> {
    let mut asked = Asked {
        mode: match name {
            "mailq" => Mode::List,
            "newaliases" => Mode::Aliases,
            _ => Mode::Submit,
        },
        sender: None,
        full_name: None,
        by_header: false,
        ignores_dot: false,
        notify: None,
        ret: None,
        envelope_id: None,
        body: None,
        config: None,
        words: Vec::new(),
    };
    let mut rest = words.iter();
    while let Some(word) = rest.as_slice().first() {
        let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
            break;
        };
        rest.next();
        match letters {
            "-" => break,
            "-help" => asked.mode = Mode::Help,
            // Long options are those of other mail servers.
            _ if letters.starts_with('-') => {}
            _ => asked.take(letters, &mut rest)?,
        }
    }
    asked.words = rest.cloned().collect();
    Ok(asked)
}

impl Asked {
    /// Takes the letters of a word, and the next word if the last of them needs one.
    fn take(&mut self, letters: &str, rest: &mut std::slice::Iter<'_, String>) -> Result<(), String> {
        for (at, letter) in letters.char_indices() {
            let attached = &letters[at + letter.len_utf8()..];
            if WITH_OPTIONAL_VALUE.contains(letter) {
                self.take_value(letter, attached)?;
                return Ok(());
            }
            if WITH_VALUE.contains(letter) {
                let value = match attached {
                    "" => rest
                        .next()
                        .map(String::as_str)
                        .ok_or_else(|| format!("-{letter}: expected a value behind it"))?,
                    attached => attached,
                };
                return self.take_value(letter, value);
            }
            if !FLAGS.contains(letter) {
                // Whatever it means elsewhere, what is attached belongs to it.
                return Ok(());
            }
            match letter {
                'i' => self.ignores_dot = true,
                't' => self.by_header = true,
                'I' => self.mode = Mode::Aliases,
                _ => {}
            }
        }
        Ok(())
    }

    fn take_value(&mut self, letter: char, value: &str) -> Result<(), String> {
        let wrong = |expected: &str| format!("-{letter}: {}: expected {expected}", quoted(value));
        match letter {
            'f' | 'r' => self.sender = Some(value.to_owned()),
            'F' => self.full_name = Some(value.to_owned()),
            'C' => self.config = Some(PathBuf::from(value)),
            'o' if ["i", "itrue"].contains(&value) => self.ignores_dot = true,
            'b' => self.mode = mode(value).map_err(wrong)?,
            'q' => self.mode = Mode::Flush(flush(value)),
            'B' => {
                self.body = Some(match value.to_ascii_uppercase().as_str() {
                    "7BIT" => Body::SevenBit,
                    "8BITMIME" => Body::EightBitMime,
                    _ => return Err(wrong("7BIT or 8BITMIME")),
                });
            }
            'N' => {
                let notify = value.parse();
                self.notify =
                    Some(notify.map_err(|_| wrong("never, or some of success, failure and delay"))?);
            }
            'R' => self.ret = Some(value.parse().map_err(|_| wrong("full or hdrs"))?),
            'V' => {
                // Who knows no xtext means what is there.
                let id = value.parse::<EnvelopeId>().or_else(|_| to_xtext(value).parse());
                self.envelope_id = Some(id.map_err(|_| wrong("printable ASCII, 100 octets at most"))?);
            }
            _ => {}
        }
        Ok(())
    }
}

/// What a value of `-b` asks for.
fn mode(value: &str) -> Result<Mode, &'static str> {
    match value {
        "m" | "a" => Ok(Mode::Submit),
        "s" => Ok(Mode::Dialogue),
        "p" => Ok(Mode::List),
        "v" => Ok(Mode::Verify),
        "i" => Ok(Mode::Aliases),
        "h" | "H" | "P" => Ok(Mode::Nothing),
        "d" | "D" | "l" => Err("another way: the MTA is started as smtpmta, without this name"),
        _ => Err("m, s, p, v or i"),
    }
}

/// What is attached to `-q`: nothing, how often another mail server would look, or what is meant.
fn flush(value: &str) -> Flush {
    match value.split_at_checked(1) {
        Some(("I", id)) => Flush::Message(id.to_owned()),
        Some(("R", hop)) => Flush::Hop(hop.to_owned()),
        _ => Flush::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str) -> Asked {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse("sendmail", &words).unwrap_or_else(|wrong| panic!("{line}: {wrong}"))
    }

    fn wrong(line: &str) -> String {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse("sendmail", &words).unwrap_err()
    }

    #[test]
    fn what_well_known_programs_call_is_understood() {
        // cron, mailx, PHP, git send-email, mutt, logwatch and others.
        for (line, sender, by_header, ignores_dot, words) in [
            (
                "-FCronDaemon -i -B8BITMIME -oem root",
                None,
                false,
                true,
                &["root"][..],
            ),
            ("-i -FCronDaemon -oem -oi -t", None, true, true, &[]),
            ("-oi -oem -t", None, true, true, &[]),
            ("-t -i", None, true, true, &[]),
            ("-t -i -fwww@a.example", Some("www@a.example"), true, true, &[]),
            ("-i -f a@b -- c@d e@f", Some("a@b"), false, true, &["c@d", "e@f"]),
            ("-f a@b c@d -x", Some("a@b"), false, false, &["c@d", "-x"]),
            ("-ti", None, true, true, &[]),
            ("-it -odb -f <> -G", Some("<>"), true, true, &[]),
            ("-oitrue -ra@b root", Some("a@b"), false, true, &["root"]),
            ("-tfa@b", Some("a@b"), true, false, &[]),
            ("-oi -oee -os -om -o7 -oQ/q root", None, false, true, &["root"]),
            (
                "-Am -Ac -L tag -h 3 -p ESMTP:a -X log -e m root",
                None,
                false,
                false,
                &["root"],
            ),
            (
                "-O DeliveryMode=b -ODeliveryMode=b -d0.1 -d root",
                None,
                false,
                false,
                &["root"],
            ),
            ("-v -n -m -U -c -s -x root", None, false, false, &["root"]),
            ("--long --long=x -Zit -Y root", None, false, false, &["root"]),
            ("-- -t", None, false, false, &["-t"]),
            ("- -t", None, false, false, &["-", "-t"]),
        ] {
            let asked = asked(line);
            assert_eq!(
                (asked.sender.as_deref(), asked.by_header, asked.ignores_dot),
                (sender, by_header, ignores_dot),
                "{line}"
            );
            assert_eq!(asked.mode, Mode::Submit, "{line}");
            assert_eq!(asked.words, words, "{line}");
        }
        let words = ["-F", "Full Name", "-f", ""].map(str::to_owned);
        let asked = parse("sendmail", &words).unwrap();
        assert_eq!(asked.full_name.as_deref(), Some("Full Name"));
        assert_eq!(asked.sender.as_deref(), Some(""));
    }

    #[test]
    fn what_is_to_be_done_is_said_by_the_name_and_by_options() {
        for (line, mode) in [
            ("-bm root", Mode::Submit),
            ("-bs", Mode::Dialogue),
            ("-bp", Mode::List),
            ("-b p", Mode::List),
            ("-bv root", Mode::Verify),
            ("-bi", Mode::Aliases),
            ("-I", Mode::Aliases),
            ("-q", Mode::Flush(Flush::All)),
            ("-qf -v", Mode::Flush(Flush::All)),
            ("-q30m", Mode::Flush(Flush::All)),
            (
                "-qI000660F7867DF443",
                Mode::Flush(Flush::Message("000660F7867DF443".into())),
            ),
            ("-qRa.example", Mode::Flush(Flush::Hop("a.example".into()))),
            ("-bH", Mode::Nothing),
            ("--help", Mode::Help),
        ] {
            assert_eq!(asked(line).mode, mode, "{line}");
        }
        assert_eq!(parse("mailq", &[]).unwrap().mode, Mode::List);
        assert_eq!(parse("newaliases", &[]).unwrap().mode, Mode::Aliases);
        let config = parse("mailq", &["-C".to_owned(), "/x".to_owned()])
            .unwrap()
            .config;
        assert_eq!(config, Some(PathBuf::from("/x")));
    }

    #[test]
    fn what_is_said_of_reports_and_of_the_body_is_read() {
        let asked = asked("-N success,FAILURE -R hdrs -V QQ314159 -B 8bitmime root");
        assert_eq!(
            asked.notify.map(|notify| notify.to_string()).as_deref(),
            Some("SUCCESS,FAILURE")
        );
        assert_eq!(asked.ret, Some(Return::Headers));
        assert_eq!(
            asked.envelope_id.map(|id| id.decoded()).as_deref(),
            Some("QQ314159")
        );
        assert_eq!(asked.body, Some(Body::EightBitMime));
        let words = ["-Va b=c"].map(str::to_owned);
        let id = parse("sendmail", &words).unwrap().envelope_id;
        assert_eq!(id.map(|id| id.decoded()).as_deref(), Some("a b=c"));
    }

    #[test]
    fn what_can_not_be_meant_is_told() {
        for (line, told) in [
            ("-f", "-f: expected a value behind it"),
            ("-tiF", "-F: expected a value behind it"),
            (
                "-N always root",
                "-N: \"always\": expected never, or some of success, failure and delay",
            ),
            ("-R some root", "-R: \"some\": expected full or hdrs"),
            ("-B 9BIT root", "-B: \"9BIT\": expected 7BIT or 8BITMIME"),
            (
                "-V ü root",
                "-V: \"ü\": expected printable ASCII, 100 octets at most",
            ),
            ("-bz", "-b: \"z\": expected m, s, p, v or i"),
            (
                "-bd",
                "-b: \"d\": expected another way: the MTA is started as smtpmta, without this name",
            ),
        ] {
            assert_eq!(wrong(line), told, "{line}");
        }
    }
}
