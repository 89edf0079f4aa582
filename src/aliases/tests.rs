//! Whole aliases files: what they are read as, what is wrong with them, and what addresses stand for.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::reader::Bounds;
use super::*;
use crate::smtp::path::Mailbox;

fn domains() -> Vec<String> {
    vec!["example.org".to_owned(), "example.net".to_owned()]
}

/// The aliases of `/etc/aliases` among other files.
fn read_among(text: &str, others: &[(&str, &str)]) -> Result<Aliases, String> {
    let bounds = Bounds {
        octets: 1 << 20,
        targets: 20_000,
        at_once: 1000,
        steps: 100_000,
    };
    let others: HashMap<PathBuf, &str> = others.iter().map(|(path, text)| (path.into(), *text)).collect();
    let mut open = |path: &Path, _: usize| match others.get(path) {
        Some(text) => Ok(text.as_bytes().to_vec()),
        None => Err(io::Error::new(io::ErrorKind::NotFound, "no such file")),
    };
    Aliases::parse_within(
        bounds,
        text.as_bytes(),
        Path::new("/etc/aliases"),
        &domains(),
        &mut open,
    )
    .map_err(|error| error.to_string())
}

fn read(text: &str) -> Aliases {
    read_among(text, &[]).unwrap()
}

fn problems(text: &str) -> String {
    read_among(text, &[]).unwrap_err()
}

fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text).unwrap()
}

fn shown(targets: Option<Vec<Mailbox>>) -> String {
    match targets {
        Some(targets) => targets
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" "),
        None => "-".to_owned(),
    }
}

fn expanded(aliases: &Aliases, address: &str) -> String {
    shown(aliases.expand(&mailbox(address)))
}

/// What each address stands for.
fn check(text: &str, expected: &[(&str, &str)]) {
    let aliases = read(text);
    for (address, targets) in expected {
        assert_eq!(expanded(&aliases, address), *targets, "{address}");
    }
}

#[test]
fn a_file_as_it_is_usually_written() {
    let text = "# Basic system aliases\r\n\
                MAILER-DAEMON:\tpostmaster\r\n\
                postmaster: root\r\n\
                # Person who should get root's mail\r\n\
                root: Jane, bob@Elsewhere.example,\r\n\
                \x20 # on holiday: carol\r\n\
                \x20 \"John Doe\"@c.example\r\n\
                \"jane doe\": jane\r\n";
    check(
        text,
        &[
            (
                "root@example.org",
                r#"Jane@example.org bob@elsewhere.example "John Doe"@c.example"#,
            ),
            (
                "Root@example.net",
                r#"Jane@example.org bob@elsewhere.example "John Doe"@c.example"#,
            ),
            (
                "mailer-daemon@example.net",
                r#"Jane@example.org bob@elsewhere.example "John Doe"@c.example"#,
            ),
            (r#""JANE DOE"@example.org"#, "jane@example.org"),
            ("jane@example.org", "-"),
            ("carol@example.org", "-"),
            ("root@elsewhere.example", "-"),
        ],
    );
    assert_eq!(read(text).len(), 4);
}

#[test]
fn the_nearest_name_counts() {
    check(
        "bob: everywhere@a.example\n\
         bob@example.net: net@a.example\n\
         bob+x@example.net: x@a.example\n\
         @example.net: caught@a.example\n",
        &[
            ("bob@example.org", "everywhere@a.example"),
            ("bob+x@example.org", "everywhere@a.example"),
            ("BOB@example.net", "net@a.example"),
            ("bob+X@example.net", "x@a.example"),
            ("bob+y@example.net", "net@a.example"),
            ("carol@example.net", "caught@a.example"),
            ("carol@example.org", "-"),
            ("+x@example.net", "caught@a.example"),
        ],
    );
}

#[test]
fn each_target_comes_once_and_in_order() {
    check(
        "team: alice, bob, Alice, \"bob\", carol@c.example\n\
         bob: carol@c.example, dave, team\n\
         all: team, bob, erin\n",
        &[
            (
                "all@example.org",
                "alice@example.org carol@c.example dave@example.org team@example.org erin@example.org",
            ),
            (
                "team@example.org",
                "alice@example.org carol@c.example dave@example.org team@example.org",
            ),
        ],
    );
}

#[test]
fn an_alias_that_contains_itself_keeps_itself_as_a_mailbox() {
    check(
        "bob: bob, alice@a.example\n\
         carol: team\n\
         team: carol, dave\n\
         erin: erin\n\
         frank: \\frank, alice\n\
         x: \\bob\n",
        &[
            ("bob@example.net", "bob@example.org alice@a.example"),
            ("carol@example.org", "carol@example.org dave@example.org"),
            ("team@example.org", "team@example.org dave@example.org"),
            ("erin@example.org", "erin@example.org"),
            ("frank@example.org", "frank@example.org alice@example.org"),
            ("x@example.org", "bob@example.org"),
        ],
    );
}

#[test]
fn a_domain_alias_takes_what_nothing_names_and_does_not_chase_itself() {
    let aliases = read(
        "@example.org: info\n\
         @example.net: any@example.org, x@a.example\n\
         bob: bob\n",
    );
    assert_eq!(expanded(&aliases, "carol@example.org"), "info@example.org");
    assert_eq!(expanded(&aliases, "bob@example.org"), "bob@example.org");
    assert_eq!(
        expanded(&aliases, "carol@example.net"),
        "info@example.org x@a.example"
    );
    let is_account = |address: &Mailbox| address.local_part() == "any";
    let carol = mailbox("carol@example.net");
    assert_eq!(
        shown(aliases.expand_among(&carol, &is_account)),
        "any@example.org x@a.example"
    );
    assert_eq!(
        shown(aliases.expand_among(&mailbox("any@example.net"), &is_account)),
        "-"
    );
    assert!(aliases.names(&mailbox("BOB+x@example.org")) && !aliases.names(&carol));
    assert!(!aliases.names_exactly(&mailbox("bob+x@example.org")) && aliases.catches(&carol));
    assert!(!Aliases::default().catches(&carol) && Aliases::default().is_empty());
}

#[test]
fn included_files_list_targets_and_may_include_others() {
    let files = [
        (
            "/etc/lists/staff",
            "# staff\r\nalice, bob\r\n\n  carol@c.example\n:include:lists/more\n",
        ),
        ("/etc/lists/more", "dave\n\":include:/srv/the last\"\n"),
        ("/srv/the last", "erin\nalice\n"),
    ];
    let aliases = read_among("staff: boss, :include:lists/staff, zoe\n", &files).unwrap();
    assert_eq!(
        expanded(&aliases, "staff@example.org"),
        "boss@example.org alice@example.org bob@example.org carol@c.example dave@example.org \
         erin@example.org zoe@example.org"
    );
}

#[test]
fn everything_that_is_wrong_is_told_with_its_line() {
    let files = [
        ("/etc/loop", "a\n:include:/etc/loop2\n"),
        ("/etc/loop2", "\n:include:/etc/loop\n"),
        ("/etc/bad", "fine\n|cat\n/dev/null\na@@b\n"),
        ("/etc/empty", "# nobody yet\n"),
    ];
    let text = "ok: a\n\
                no colon\n\
                a@b@c: x\n\
                far@elsewhere.example: x\n\
                OK: b\n\
                pipe: a,\n\
                \x20 \"|/bin/cat -v\",\n\
                \x20 /var/mail/b,\n\
                \x20 c d\n\
                none:\n\
                round: :include:/etc/loop\n\
                gone: :include:gone\n\
                bad: :include:bad\n\
                empty: :include:empty\n\
                : x\n";
    let told = read_among(text, &files).unwrap_err();
    let expected = [
        r#"/etc/aliases:2: "no colon": expected a name, a colon and targets"#,
        "/etc/aliases:3: \"a@b@c\": expected name, name@domain or @domain before the colon: \
         malformed domain",
        "/etc/aliases:4: \"far@elsewhere.example\": expected a name in one of the local domains \
         (example.org, example.net)",
        r#"/etc/aliases:5: "OK": expected each name once; this one stands in line 1, too"#,
        r#"/etc/aliases:7: "\"|/bin/cat -v\"": expected an address; an alias never runs a program"#,
        r#"/etc/aliases:8: "/var/mail/b": expected an address; an alias never writes to a file"#,
        "/etc/aliases:9: \"c d\": expected an address, a local name or :include:/file: malformed local part; \
         commas stand between targets",
        r#"/etc/aliases:10: "none": expected at least one target"#,
        r#"/etc/loop2:2: "/etc/loop": expected a file that does not include itself"#,
        r#"/etc/aliases:12: "/etc/gone" cannot be read: no such file"#,
        r#"/etc/bad:2: "|cat": expected an address; an alias never runs a program"#,
        r#"/etc/bad:3: "/dev/null": expected an address; an alias never writes to a file"#,
        r#"/etc/bad:4: "a@@b": expected an address, a local name or :include:/file: malformed domain"#,
        r#"/etc/aliases:14: "empty": expected at least one target"#,
        r#"/etc/aliases:15: expected a name before the colon"#,
    ];
    assert_eq!(told.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn a_loop_without_any_other_target_is_told_and_what_leads_there_is_not() {
    let told = problems("x: a\na: b\nb: A+list\nc: d, c\nd: c\ne: f, x@a.example\nf: e\n");
    assert_eq!(
        told,
        r#"/etc/aliases:2: "a": expected a target that does not lead back, as "b" (line 3) to "a""#
    );
    let names: Vec<String> = (0..40).map(|n| format!("a{n}: a{}\n", (n + 1) % 40)).collect();
    assert!(problems(&names.concat()).ends_with(r#""a10" (line 11) to … to "a0""#));
    // A line that is wrong may be the one that leads out.
    assert!(!problems("a: b, bad@@\nb: a\n").contains("lead back"));
}

#[test]
fn files_include_others_eight_deep_at_most() {
    let files: Vec<(String, String)> = (0..9)
        .map(|n| (format!("/etc/{n}"), format!("u{n}\n:include:{}\n", n + 1)))
        .chain([("/etc/9".to_owned(), "u9\n".to_owned())])
        .collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(p, t)| (p.as_str(), t.as_str())).collect();
    assert!(read_among("a: :include:2\n", &files).is_ok());
    let told = read_among("a: :include:1\n", &files).unwrap_err();
    assert!(
        told.starts_with(r#"/etc/8:2: "/etc/9": expected files that include others 8 deep at most"#),
        "{told}"
    );
}

#[test]
fn an_alias_stands_for_a_bounded_number_at_most() {
    let list = |begin: usize, end: usize| {
        (begin..end)
            .map(|n| format!("u{n}@a.example\n"))
            .collect::<String>()
    };
    let halves = [("/etc/1", list(0, 500)), ("/etc/2", list(500, 1001))];
    let files: Vec<(&str, &str)> = halves.iter().map(|(path, text)| (*path, text.as_str())).collect();
    let text = "one: :include:1\ntwo: :include:2\n";
    assert!(read_among(&format!("{text}most: one, :include:1\n"), &files).is_ok());
    let told = read_among(&format!("{text}all: one, two\n"), &files).unwrap_err();
    assert_eq!(
        told,
        "/etc/aliases:3: \"all\": expected an alias for 1000 targets at most, others followed"
    );
}

#[test]
fn files_that_include_each_other_again_and_again_are_read_up_to_a_bound() {
    let many = ":include:/etc/b\n".repeat(1000);
    let files = [
        ("/etc/a", many.as_str()),
        ("/etc/b", &many.replace('b', "c")),
        ("/etc/c", "# nothing\n"),
    ];
    let told = read_among("a: :include:/etc/a\n", &files).unwrap_err();
    assert!(told.contains("targets in all"), "{told}");
    let long = format!("u\n{}", "#\n".repeat(300_000));
    let files = [("/etc/a", long.as_str())];
    assert!(read_among("a: :include:a\n", &files).is_ok());
    let told = read_among("a: :include:a\nb: c, :include:a\n", &files).unwrap_err();
    assert!(
        told.contains("/etc/aliases:2: \"/etc/a\": expected files of 64M at most"),
        "{told}"
    );
}

#[test]
fn files_are_read_from_the_disk_and_say_why_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("aliases");
    let told = Aliases::read(&path, &domains()).unwrap_err().to_string();
    assert_eq!(
        told,
        format!(
            "{}: cannot be read: No such file or directory (os error 2)",
            path.display()
        )
    );
    std::fs::write(&path, "staff: :include:staff\n").unwrap();
    std::fs::write(folder.path().join("staff"), "alice\n").unwrap();
    let aliases = Aliases::read(&path, &domains()).unwrap();
    assert_eq!(expanded(&aliases, "staff@example.net"), "alice@example.org");
}

#[test]
fn what_leads_through_each_other_without_end_is_refused_in_time() {
    let others: Vec<String> = (0..100).map(|n| format!("u{n}")).collect();
    let line = |n| format!("u{n}: {}, v{n}\n", others.join(","));
    let told = problems(&(0..100).map(line).collect::<String>());
    assert!(told.contains("lead through fewer others"), "{told}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_file_is_beyond_reading(
        text in "([ab]|[:,@ \t\n\r#\"|/\\\\<>+]|example.org|:include:/x|a: b\n|b: a,c\n){0,40}",
    ) {
        let others = [("/x", "a\n:include:/x\n|b\n")];
        match read_among(&text, &others) {
            Ok(aliases) => {
                for address in ["a@example.org", "b@example.net", "a+b@example.org"] {
                    let targets = aliases.expand(&mailbox(address));
                    prop_assert!(targets.is_none_or(|targets| !targets.is_empty()));
                }
            }
            Err(told) => prop_assert!(told.lines().count() <= 21),
        }
    }

    #[test]
    fn whatever_aliases_lead_to_each_other_every_one_ends(
        targets in prop::collection::vec(prop::collection::vec(0..12usize, 1..4), 1..10),
    ) {
        let line = |(n, targets): (usize, &Vec<usize>)| {
            let targets: Vec<String> = targets.iter().map(|to| format!("u{to}")).collect();
            format!("u{n}: {}\n", targets.join(", "))
        };
        let text: String = targets.iter().enumerate().map(line).collect();
        // Those above the last line are mailboxes.
        if let Ok(aliases) = read_among(&text, &[]) {
            for n in 0..targets.len() {
                let found = aliases.expand(&mailbox(&format!("u{n}@example.org"))).unwrap();
                prop_assert!(!found.is_empty() && found.len() <= 12);
            }
        }
    }
}
