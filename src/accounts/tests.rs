//! A file of accounts: whose mail it is, who may log in, and what a stranger learns.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::smtp::path::Mailbox;

const FILE: &str = "\
# name:password
Bob@a.example:{PLAIN}pencil
bob+lists@a.example:
carol:{SCRAM-SHA-256}4096,W22ZaJ0SNY7soEsUEjb6gQ==,WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=,\
wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=
*@b.example:{PLAIN}anything
dave@b.example:$argon2id$v=19$m=64,t=2,p=2$c29tZXNhbHQ$6TuEvRwHFVRPBM5gFDBZERFHMIYIzf4k2eEE2JXVBtw
erin@b.example:!
";

fn accounts(text: &str) -> Accounts {
    Accounts::parse(text.as_bytes(), "accounts", "a.example").unwrap_or_else(|wrong| panic!("{wrong}"))
}

fn wrong(text: &str) -> String {
    Accounts::parse(text.as_bytes(), "accounts", "a.example")
        .unwrap_err()
        .to_string()
}

fn takes(accounts: &Accounts, address: &str) -> Option<String> {
    let address = Mailbox::parse(address).unwrap();
    accounts.mailbox(&address).map(Mailbox::to_string)
}

#[test]
fn mail_goes_to_its_own_account_then_without_the_detail_then_to_the_one_that_catches_all() {
    let accounts = accounts(FILE);
    for (address, taken_by) in [
        ("bob@a.example", Some("Bob@a.example")),
        ("BOB@A.example", Some("Bob@a.example")),
        ("\"bob\"@a.example", Some("Bob@a.example")),
        ("\"b\\ob\"@a.example", Some("Bob@a.example")),
        ("bob+lists@a.example", Some("bob+lists@a.example")),
        ("bob+lists+x@a.example", Some("Bob@a.example")),
        ("bob+@a.example", Some("Bob@a.example")),
        ("\"bob+x y\"@a.example", Some("Bob@a.example")),
        ("carol+x@a.example", Some("carol@a.example")),
        ("+bob@a.example", None),
        ("bo@a.example", None),
        ("\"bob@a.example\"@a.example", None),
        ("bob@b.example", Some("*@b.example")),
        ("+bob@b.example", Some("*@b.example")),
        ("dave+x@b.example", Some("dave@b.example")),
        ("erin@b.example", Some("erin@b.example")),
        ("*@b.example", Some("*@b.example")),
        ("bob@c.example", None),
        ("bob@sub.a.example", None),
    ] {
        assert_eq!(takes(&accounts, address).as_deref(), taken_by, "{address}");
    }
    assert_eq!((accounts.len(), accounts.addresses().count()), (6, 6));
}

#[test]
fn passwords_are_checked_under_every_form_of_the_name() {
    let accounts = accounts(FILE);
    for (name, account) in [
        ("bob@a.example", "Bob@a.example"),
        ("BOB", "Bob@a.example"),
        ("\"bob\"@A.EXAMPLE", "Bob@a.example"),
        ("carol", "carol@a.example"),
        ("Dave@b.example", "dave@b.example"),
    ] {
        let login = accounts
            .verify(name, b"pencil")
            .map(|login| login.address.to_string());
        assert_eq!(login.as_deref(), Some(account), "{name}");
        assert_eq!(
            accounts.login(name).map(Mailbox::to_string).as_deref(),
            Some(account)
        );
        for password in ["Pencil", "", "pencil ", "pencil\0"] {
            assert_eq!(
                accounts.verify(name, password.as_bytes()),
                None,
                "{name} {password:?}"
            );
        }
    }
}

#[test]
fn nobody_else_logs_in() {
    let accounts = accounts(FILE);
    for name in [
        "eve",
        "dave",
        "bob+lists",
        "bob+x",
        "erin@b.example",
        "*@b.example",
        "\"*\"@b.example",
        "any@b.example",
        "",
        "@",
        "bob@",
        "bob@a.example ",
        "bob\0",
    ] {
        for password in ["pencil", "anything", "", "!", "x"] {
            assert_eq!(accounts.verify(name, password.as_bytes()), None, "{name:?}");
        }
        assert_eq!(accounts.login(name), None, "{name:?}");
        assert_eq!(accounts.scram_keys(name).login, None, "{name:?}");
    }
    assert_eq!(accounts.verify("bob", &[b'x'; LONGEST_PASSWORD + 1]), None);
    let nobody = super::Accounts::parse(b"bob:", "accounts", "a.example").unwrap();
    assert_eq!(nobody.verify("bob", b"x"), None);
    assert!(!nobody.offers_scram());
}

#[test]
fn the_same_login_has_many_names() {
    let accounts = accounts(FILE);
    assert!(accounts.same_login("bob", "BOB@a.example") && accounts.same_login("eve", "eve@A.example"));
    assert!(!accounts.same_login("bob", "carol") && !accounts.same_login("bob", "bob@b.example"));
    assert!(!accounts.same_login("", "bob"));
}

#[test]
fn an_address_stands_once() {
    let told = wrong("bob:\n\nBOB@a.example:{PLAIN}x\neve:\n\"bob\"@A.example:\n");
    assert_eq!(
        told,
        "accounts:3: expected each address once; this one stands in line 1, too\n\
         accounts:5: expected each address once; this one stands in line 1, too"
    );
}

#[test]
fn all_bad_lines_are_told_up_to_a_bound() {
    let told = wrong("bob:{SSHA}x\neve:{PLAIN}y\n:z\n");
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(
        lines[0].starts_with("accounts:1: {SSHA}: the schemes known are "),
        "{told}"
    );
    assert!(
        lines[1].starts_with("accounts:3: expected local@domain"),
        "{told}"
    );
    let told = wrong(&"bob:sesame\n".repeat(22));
    assert_eq!(told.lines().count(), 21);
    assert!(told.ends_with("\naccounts: 2 more lines are wrong"));
    assert!(!told.contains("sesame"));
    assert!(wrong(&"x y\n".repeat(21)).ends_with("\naccounts: 1 more line is wrong"));
}

#[test]
fn a_file_that_cannot_be_read_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("accounts");
    let read = || Accounts::read(&path, "a.example").map_err(|wrong| wrong.to_string());
    let told = read().unwrap_err();
    assert!(
        told.starts_with(&format!("{}: cannot be read: ", path.display())),
        "{told}"
    );
    std::fs::write(&path, FILE).unwrap();
    assert_eq!(read().unwrap().len(), 6);
    assert!(Accounts::read(folder.path(), "a.example").is_err());
    let endless = Accounts::read("/dev/zero".as_ref(), "a.example").unwrap_err();
    assert_eq!(
        endless.to_string(),
        "/dev/zero: cannot be read: expected a regular file"
    );
}

#[test]
fn nothing_secret_is_shown() {
    let accounts = accounts(FILE);
    assert_eq!(format!("{accounts:?}"), "Accounts(6, 3 can log in)");
    let keys = accounts.scram_keys("carol");
    assert!(!format!("{keys:?}").contains(&keys.stored_key[0].to_string()));
}

#[test]
fn scram_has_the_keys_of_the_file_and_of_passwords_in_clear() {
    let accounts = accounts(FILE);
    assert!(accounts.offers_scram());
    let carol = accounts.scram_salt("carol");
    assert_eq!(
        data_encoding::BASE64.encode(&carol.salt),
        "W22ZaJ0SNY7soEsUEjb6gQ=="
    );
    assert_eq!(carol.iterations.get(), 4096);
    for name in ["carol", "BOB@a.example"] {
        let (salt, keys) = (accounts.scram_salt(name), accounts.scram_keys(name));
        let right = scram::Keys::derive(b"pencil", &salt.salt, salt.iterations);
        assert_eq!(
            (keys.stored_key, keys.server_key),
            (right.stored_key, right.server_key)
        );
        assert!(keys.login.is_some());
    }
}

#[test]
fn a_stranger_gets_a_salt_that_stays_and_keys_that_nobody_has() {
    let first = accounts(FILE);
    let again = accounts(&FILE.replace("pencil", "crayon"));
    for name in ["eve", "dave@b.example", "erin@b.example", "", "no name"] {
        let salt = first.scram_salt(name);
        assert_eq!(salt, first.scram_salt(name));
        assert_eq!(salt, again.scram_salt(name));
        assert_eq!((salt.salt.len(), salt.iterations.get()), (16, 4096));
        assert_eq!(first.scram_keys(name).login, None);
    }
    assert_eq!(first.scram_salt("eve"), first.scram_salt("EVE@a.example"));
    assert_ne!(first.scram_salt("eve"), first.scram_salt("mallory"));
    // An account with another salt length and other iterations is not told apart by them.
    let keys = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let long = "A".repeat(64);
    let others = accounts(&format!("bob:{{SCRAM-SHA-256}}5000,{long},{keys},{keys}"));
    let (bob, eve) = (others.scram_salt("bob"), others.scram_salt("eve"));
    assert_eq!((bob.salt.len(), bob.iterations), (eve.salt.len(), eve.iterations));
}

/// The least time of a few, so that what else the machine does counts little.
fn time_of(accounts: &Accounts, name: &str) -> Duration {
    let once = |_| {
        let begin = Instant::now();
        assert_eq!(accounts.verify(name, b"wrong"), None);
        begin.elapsed()
    };
    (0..5).map(once).min().unwrap()
}

#[test]
fn a_stranger_takes_about_as_long_as_an_account() {
    let accounts = accounts(
        "bob:$6$rounds=2000$saltsalt$RmjqRj.x86Bhb3M5ZBRvehmnB98GzxeVPJUvt3qODnK6d.lnnPxXP1icfWicz8oJiq5O5s0mn\
         FDSn/XFe7jYJ/\nerin:!",
    );
    let known = time_of(&accounts, "bob");
    for name in ["eve", "erin", "*", "no name"] {
        let stranger = time_of(&accounts, name);
        assert!(
            stranger > known / 4 && stranger < known * 4,
            "{name}: {stranger:?}, bob: {known:?}"
        );
    }
}

#[test]
fn strangers_stand_in_for_all_that_can_log_in() {
    let accounts = accounts(FILE);
    let of = |name: &str| {
        accounts
            .stand_in(name, &accounts.logins)
            .map(|account| account.address.to_string())
    };
    let mut stand_ins: Vec<_> = (0..100).map(|n| of(&format!("stranger{n}"))).collect();
    assert_eq!(of("stranger0"), stand_ins[0]);
    stand_ins.sort();
    stand_ins.dedup();
    let all = ["Bob@a.example", "carol@a.example", "dave@b.example"];
    assert_eq!(stand_ins, all.map(|address| Some(address.to_owned())));
}

proptest! {
    #[test]
    fn no_file_is_beyond_reading(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Accounts::parse(&text, "accounts", "a.example");
    }
}
