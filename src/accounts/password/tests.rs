//! Passwords against hashes that other programs made.

use super::*;

fn matching(field: &str, password: &str) -> bool {
    let read = Password::parse(field).unwrap_or_else(|what| panic!("{field}: {what}"));
    assert!(read.can_log_in());
    assert!(!read.matches(b"") && !read.matches(format!("{password}!").as_bytes()));
    read.matches(password.as_bytes())
}

fn wrong(field: &str) -> String {
    Password::parse(field).unwrap_err()
}

/// Of `openssl passwd`, of `doveadm pw`, of glibc's crypt(3), of the test vectors of SHA-crypt.
#[test]
fn sha_crypt_of_others_is_checked() {
    for (hash, password) in [
        (
            "$6$abcdefgh$BPABm5D7ZFU2YVfMLyE5XRqe91qwdcZ6APg7kB/YBeADxUUqXXhg3mlHBbjpyHcrE9xl/9BuqqivCjN2qGEi30",
            "pencil",
        ),
        ("$5$xyz$xa9bZQqN39Pft.2nUTlTLhku1.DF/xqs4Rp4cj2NJbD", "pencil"),
        (
            "$6$rounds=2000$saltsalt$RmjqRj.x86Bhb3M5ZBRvehmnB98GzxeVPJUvt3qODnK6d.lnnPxXP1icfWicz8oJiq5O5s0mn\
             FDSn/XFe7jYJ/",
            "pencil",
        ),
        (
            "{SHA512-CRYPT}$6$rounds=1000$T64gP9Z1Op4mfKD4$46na3q4PGJhjrmjoUeFPZemQn2uFbkPqBuCuMQGqwOLOEGqQVaa\
             PMXxj5plVnaDa5pt269sxEKNyrTuNCpAjb1",
            "pencil",
        ),
        (
            "{sha256-crypt}$5$rounds=1000$oeckDjUjq8Zmogf2$cCJq1CIwxTZsInyDFGXsbSjpyTxeMkRlU892FdVB5Z4",
            "pencil",
        ),
        (
            "{CRYPT}$6$rounds=1000$DH8xaAsU299Ugm8O$EkJc9PmE4MZ1.mMuongyWPfNi1oG1fShqv6zK6fMkgTCJIZAVtnkS1WphR\
             eASp.E7CPjLVsNvA3PTOwdd90wo.",
            "Grüße 1",
        ),
        (
            "{SHA512-CRYPT.B64}JDYkS2daME5oNFRBSGRzS2l2ZiRJTU1scUR2ZmwvT3FqVTk2OUV3cjF3dFVwNEVVWEtKU0h0SEJzWU5Y\
             VmFtRkZuUVJ0UjB2bVZmS2tDVllndEZaR2tMNGRoVlVkUHJJWnFENm04MnpSLg==",
            "pencil",
        ),
        (
            "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
            "Hello world!",
        ),
    ] {
        assert!(matching(hash, password), "{hash}");
    }
}

/// Of the reference implementation's command argon2.
#[test]
fn argon2_of_others_is_checked() {
    for hash in [
        "$argon2id$v=19$m=64,t=2,p=2$c29tZXNhbHQ$6TuEvRwHFVRPBM5gFDBZERFHMIYIzf4k2eEE2JXVBtw",
        "{ARGON2I}$argon2i$v=19$m=64,t=2,p=2$c29tZXNhbHQ$PbyJPwb/kgdyz8enOkBrfdLnClCALELltWImo5+CpJM",
        "$argon2i$v=16$m=64,t=2,p=2$c29tZXNhbHQ$x7QyCCqJ4pKULFEQIydOJQrOG/mJzpbBkvmaIFJYuuk",
        "$argon2i$m=64,t=2,p=2$c29tZXNhbHQ$x7QyCCqJ4pKULFEQIydOJQrOG/mJzpbBkvmaIFJYuuk",
        "{Argon2id}$argon2id$v=19$m=64,t=2,p=2$c29tZXNhbHQ$6TuEvRwHFVRPBM5gFDBZERFHMIYIzf4k2eEE2JXVBtw",
    ] {
        assert!(matching(hash, "pencil"), "{hash}");
    }
    assert!(matching(
        "$argon2id$v=19$m=256,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$GVA8jeN7o9EVyvkMJ626NXDmeO6yDHc8KRgPFXYyR88",
        "a:b c"
    ));
}

#[test]
fn plain_passwords_have_three_names_and_two_encodings() {
    for field in [
        "{PLAIN}pencil",
        "{cleartext}pencil",
        "{CLEAR}pencil",
        "{PLAIN.B64}cGVuY2ls",
        "{CLEARTEXT.HEX}70656e63696C",
    ] {
        assert!(matching(field, "pencil"), "{field}");
    }
    assert!(matching("{PLAIN.hex}613a62", "a:b"));
    assert!(matching("{PLAIN}gru\u{308}n", "grün"));
    assert!(matching("{PLAIN}{x} $6$", "{x} $6$"));
}

#[test]
fn locked_accounts_match_nothing() {
    for field in [
        "", "!", "!!", "*", "*LK*", "x", "!$6$a$b", "{PLAIN}", "{CRYPT}!", "{crypt}*",
    ] {
        let read = Password::parse(field).unwrap();
        assert_eq!(read, Password::Locked, "{field}");
        assert!(!read.can_log_in() && !read.matches(b"") && !read.matches(field.as_bytes()));
    }
}

#[test]
fn unknown_schemes_are_named_with_those_that_are_known() {
    for (field, name) in [
        ("{SSHA}abc", "{SSHA}: "),
        ("{md5-crypt}$1$a$b", "{md5-crypt}: "),
        ("{NO.b64}abc", "{NO.b64}: "),
        ("{}abc", "{}: "),
    ] {
        let told = wrong(field);
        let schemes = "the schemes known are ARGON2ID, ARGON2I, SHA512-CRYPT, SHA256-CRYPT, CRYPT, \
                       SCRAM-SHA-256, PLAIN, CLEARTEXT, CLEAR";
        assert_eq!(told, format!("{name}{schemes}"));
    }
    assert!(wrong("$2y$05$abc").starts_with("$2y$: expected a hash that begins with $argon2id$ or "));
    assert!(wrong("{SHA512-CRYPT}$argon2id$x").contains("begins with $6$ or $5$"));
    assert!(wrong("{ARGON2ID}$6$a$b").contains("begins with $argon2id$ or $argon2i$"));
    assert!(wrong("{PLAIN.rot13}cravy").contains("expected .b64 or .hex"));
}

#[test]
fn no_problem_repeats_a_secret() {
    for field in [
        "sesame",
        "$sesame",
        "{sesame",
        "{open sesame}x",
        "$open sesame$x",
        "$sesame$x",
        "{PLAIN.b64}sesame!",
        "{ARGON2ID}sesame",
        "{SHA512-CRYPT}$6$sesame",
        "{SHA512-CRYPT}$6$rounds=sesame$a$b",
        "{SCRAM-SHA-256}sesame",
        "{SCRAM-SHA-256}4096,sesame!,sesame,sesame",
        "$argon2id$sesame",
        "$5$sesame$sesame",
    ] {
        let told = wrong(field);
        assert!(!told.contains("sesame"), "{field}: {told}");
    }
    for field in ["{PLAIN}sesame", "$6$sesame$$"] {
        assert!(
            !format!("{:?}", Password::parse(field)).contains("sesame"),
            "{field}"
        );
    }
}

#[test]
fn costs_have_a_bound() {
    let argon2 = |cost: &str| {
        Password::parse(&format!(
            "$argon2id$v=19${cost}$c29tZXNhbHQ$6TuEvRwHFVRPBM5gFDBZERFHMIYIzf4k2eEE2JXVBtw"
        ))
    };
    assert!(argon2("m=1048576,t=4,p=1").is_ok());
    assert!(argon2("m=8,t=524288,p=1").is_ok());
    for cost in [
        "m=1048577,t=1,p=1",
        "m=1048576,t=5,p=1",
        "m=4294967295,t=4294967295,p=1",
    ] {
        assert!(argon2(cost).unwrap_err().contains("cost is at most"), "{cost}");
    }
    for cost in [
        "m=7,t=1,p=1",
        "m=64,t=0,p=1",
        "m=64,t=1,p=9",
        "m=64,t=1,p=0",
        "m=x,t=1,p=1",
    ] {
        assert!(
            argon2(cost).unwrap_err().contains("expected $argon2id$v="),
            "{cost}"
        );
    }
    let rounds = |rounds: &str| {
        Password::parse(&format!(
            "$5$rounds={rounds}$xyz$xa9bZQqN39Pft.2nUTlTLhku1.DF/xqs4Rp4cj2NJbD"
        ))
    };
    assert!(rounds("1000").is_ok() && rounds("10000000").is_ok());
    for count in ["999", "10000001", "", "x", "4294967296", "-1"] {
        assert!(
            rounds(count)
                .unwrap_err()
                .contains("rounds from 1000 to 10000000"),
            "{count}"
        );
    }
    let long = "x".repeat(LONGEST + 1);
    assert!(wrong(&format!("{{PLAIN}}{long}")).contains("at most 1024 octets"));
}

#[test]
fn cut_hashes_are_refused() {
    let whole = "$5$xyz$xa9bZQqN39Pft.2nUTlTLhku1.DF/xqs4Rp4cj2NJbD";
    for at in 3..whole.len() {
        assert!(Password::parse(&whole[..at]).is_err(), "{at}");
    }
    for hash in [
        format!("{whole}x"),
        format!("{whole}$"),
        whole.replace("NJbD", "NJbz"),
    ] {
        assert!(wrong(&hash).contains("$5$salt$hash"), "{hash}");
    }
    let whole = "$argon2id$v=19$m=64,t=2,p=2$c29tZXNhbHQ$6TuEvRwHFVRPBM5gFDBZERFHMIYIzf4k2eEE2JXVBtw";
    for hash in [
        &whole[..40],
        &whole[..whole.len() - 1],
        "$argon2id$v=18$m=64,t=2,p=2$c29tZXNhbHQ$6TuE",
    ] {
        assert!(Password::parse(hash).is_err(), "{hash}");
    }
}
