//! `smtpmta passwd`: what it prints is what the accounts file wants.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use smtpmta::accounts::Accounts;
use smtpmta::accounts::scheme::Scheme;

/// What the program says when this comes on standard input.
fn passwd(args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_smtpmta"))
        .arg("passwd")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Where the command line is wrong nobody reads it.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn printed(args: &[&str], input: &[u8]) -> String {
    let run = passwd(args, input);
    assert_eq!(String::from_utf8_lossy(&run.stderr), "");
    assert!(run.status.success());
    String::from_utf8(run.stdout).unwrap()
}

#[test]
fn every_scheme_makes_a_line_with_which_one_can_log_in() {
    for (word, scheme) in Scheme::WORDS {
        let line = printed(&["--scheme", word, "Bob@a.example"], "Grüße: 1\n".as_bytes());
        assert!(
            line.starts_with("Bob@a.example:{") && line.ends_with('\n'),
            "{line}"
        );
        let accounts = Accounts::parse(line.as_bytes(), "accounts", "a.example").unwrap();
        let login = accounts.verify("bob", "Grüße: 1".as_bytes());
        assert_eq!(login.unwrap().address.to_string(), "Bob@a.example", "{line}");
        assert_eq!(accounts.verify("bob", b"Gr"), None);
        let scram = matches!(scheme, Scheme::ScramSha256 | Scheme::Plain);
        assert_eq!(accounts.offers_scram(), scram, "{line}");
    }
}

#[test]
fn without_an_address_it_is_the_field_alone_and_each_has_its_own_salt() {
    let one = printed(&[], b"pencil\r\n");
    assert!(
        one.starts_with("{ARGON2ID}$argon2id$v=19$m=19456,t=2,p=1$"),
        "{one}"
    );
    assert_ne!(one, printed(&[], b"pencil\n"));
    assert_eq!(printed(&["--scheme=plain"], b" pen cil"), "{PLAIN} pen cil\n");
}

#[test]
fn what_is_no_password_is_refused_and_not_repeated() {
    let long = "x".repeat(1025);
    for (input, expected) in [
        (&b""[..], "expected a password that is not empty"),
        (b"\n", "expected a password that is not empty"),
        (b"sesame\xff\n", "expected a password in UTF-8"),
        (long.as_bytes(), "expected a password of at most 1024 octets"),
    ] {
        let run = passwd(&["bob"], input);
        assert_eq!(
            String::from_utf8_lossy(&run.stderr),
            format!("smtpmta: passwd: {expected}\n")
        );
        assert_eq!((run.status.code(), run.stdout.len()), (Some(64), 0));
    }
    let run = passwd(&["--scheme", "md5"], b"sesame\n");
    assert_eq!(run.status.code(), Some(64));
}
