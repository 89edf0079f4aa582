//! Next hops with TLS and logins, and whatever may be wrong with either: a table as in `next_hops`.

use crate::support::next_hops::{Fate, GOOD, HERE, Row, Table, later, never, row};

/// What may go wrong between STARTTLS and the first word in TLS.
const FAULTS: [&str; 5] = [
    "fault handshake=drop",
    "fault handshake=garbage",
    "fault handshake=reset",
    "fault starttls=drop",
    "fault starttls=454 4.7.0 not now",
];

const FLAWS: [&str; 3] = ["expired", "not-yet", "name"];

impl Row {
    fn at(self, tls: &'static str) -> Row {
        Row { tls, ..self }
    }

    fn over_tls(self) -> Row {
        let encrypted = Some(true);
        Row { encrypted, ..self }
    }

    fn in_the_clear(self) -> Row {
        let encrypted = Some(false);
        Row { encrypted, ..self }
    }

    fn trusted(self) -> Row {
        let trusted = true;
        Row { trusted, ..self }
    }

    fn login(self, login: &'static str) -> Row {
        Row { login, ..self }
    }
}

/// Where the level is `may`.
fn may() -> Vec<Row> {
    let mut rows = vec![
        row("starttls", HERE).over_tls(),
        row("starttls | require-tls", HERE).over_tls(),
        row(GOOD, HERE).in_the_clear(),
        // It offers TLS, and has no certificate.
        row("offer PIPELINING,SIZE,STARTTLS", HERE).in_the_clear(),
        row("starttls | fault starttls=refuse", HERE).in_the_clear(),
        row("starttls | fault starttls=garbage", HERE).in_the_clear(),
        // The connection is no more, and another one does without.
        row("starttls | fault starttls=421 4.3.2 closing", HERE).in_the_clear(),
        row("starttls | fault starttls=354 go on", HERE).in_the_clear(),
        row("starttls | fault starttls=early", later("4.5.0")),
        row(r"starttls | fault starttls=220 2.0.0 go\n250 SIZE 1", HERE),
        // Lost right after TLS has begun, and later.
        row("starttls | fault ehlo#2=drop", HERE).in_the_clear(),
        row("starttls | fault ehlo#2=reset", HERE).in_the_clear(),
        row("starttls | fault ehlo#2=garbage", HERE).in_the_clear(),
        row("starttls | fault mail=drop", later("4.4.2")),
        row("starttls | fault dot=drop", later("4.4.2")),
        row("starttls | fault dot=421 4.3.2 closing", later("4.3.2")),
        // MAIL is refused in the clear: for good only where there was no TLS to be had.
        row("require-tls", never("5.7.0")),
        row("starttls | require-tls | fault handshake=drop", later("4.7.0")),
        row("starttls | require-tls | fault starttls=defer", later("4.7.0")),
        Row {
            messages: 5,
            ..row("starttls | max-per-session 2", HERE).copies(5).over_tls()
        },
        Row {
            messages: 5,
            ..row("starttls | fault handshake=drop", HERE)
                .copies(5)
                .in_the_clear()
        },
        row("fault connect=drop", HERE).then("starttls").over_tls(),
    ];
    rows.extend(FAULTS.map(|fault| row(format!("starttls | {fault}"), HERE).in_the_clear()));
    rows.extend(FLAWS.map(|flaw| row(format!("starttls | cert-flaw {flaw}"), HERE).over_tls()));
    rows
}

/// Where mail has to go over TLS, or must not.
fn must_verify_and_never() -> Vec<Row> {
    let mut rows = Vec::new();
    for level in ["must", "verify"] {
        rows.extend([
            row(GOOD, later("4.7.4")).at(level),
            row("offer PIPELINING,STARTTLS", later("4.7.5")).at(level),
            row("starttls | no-ehlo", later("4.7.4")).at(level),
            row("starttls | fault starttls=refuse", later("4.7.4")).at(level),
            // Words that were slipped in before TLS.
            row(
                r"starttls | fault starttls=220 2.0.0 go\n250 SIZE 1",
                later("4.5.0"),
            )
            .at(level),
            row("starttls | fault ehlo#2=421 4.3.2 closing", later("4.")).at(level),
        ]);
        rows.extend(FAULTS.map(|fault| {
            let status = match fault {
                "fault starttls=drop" => "4.4.2",
                "fault starttls=454 4.7.0 not now" => "4.7.4",
                // It may come with the answer to STARTTLS.
                "fault handshake=garbage" => "4.",
                _ => "4.7.5",
            };
            row(format!("starttls | {fault}"), later(status)).at(level)
        }));
    }
    rows.extend([
        row("starttls", HERE).at("must").over_tls(),
        row("starttls | require-tls", HERE).at("must").over_tls(),
        row("starttls | fault ehlo#2=drop", later("4.4.2")).at("must"),
        row(GOOD, HERE).then("starttls").at("must").over_tls(),
        row("starttls | fault handshake=drop", HERE)
            .then("starttls")
            .at("must")
            .over_tls(),
        row("starttls | hostname {name}", HERE)
            .at("verify")
            .trusted()
            .over_tls(),
        row("starttls | hostname {name}", later("4.7.5")).at("verify"),
        // The very certificate is in the file.
        row("starttls | hostname other.test", HERE)
            .at("verify")
            .trusted()
            .over_tls(),
        row("starttls", HERE).at("never").in_the_clear(),
        row("starttls | fault handshake=drop", HERE)
            .at("never")
            .in_the_clear(),
        row("starttls | require-tls", never("5.7.0")).at("never"),
        row("starttls", later("4.7.5"))
            .then("starttls | hostname {name}")
            .at("verify"),
    ]);
    rows.extend(FLAWS.map(|flaw| {
        row(format!("starttls | cert-flaw {flaw}"), HERE)
            .at("must")
            .over_tls()
    }));
    rows.extend(FLAWS.map(|flaw| {
        let host = format!("starttls | hostname {{name}} | cert-flaw {flaw}");
        row(host, later("4.7.5")).at("verify")
    }));
    rows
}

const LOGIN: &str = "me:sesame";

/// Where we log in.
fn logins() -> Vec<Row> {
    let at = |options: &str, fate: Fate| row(options, fate).login(LOGIN);
    let mut rows = vec![
        row("auth me:sesame", never("5.7.0")),
        at(GOOD, later("4.7.0")),
        at("no-ehlo", later("4.7.0")),
        at("offer AUTH X-OURS", later("4.7.0")),
        // A password of which the host makes too much.
        at(
            r"auth me:sesame | fault auth=535 5.7.8 no: AUTH PLAIN AG1lAHNlc2FtZQ==",
            later("4.7.8"),
        ),
        at(
            r"auth me:sesame | fault auth=500 5.5.2 what is sesame, c2VzYW1l",
            later("4."),
        ),
        at(
            r"auth me:sesame | fault auth=235-hello sesame\n550 AG1lAHNlc2FtZQ==",
            later("4."),
        ),
        at(
            r"auth me:sesame | mechanisms LOGIN | fault auth=421 4.7.8 no: c2VzYW1l",
            later("4.7.8"),
        ),
        at(
            r"auth me:sesame | fault auth=999 AG1lAHNlc2FtZQ==",
            later("4.5.0"),
        ),
        at(
            r"auth me:sesame | fault auth=500 AUTH PLAIN AG1LAHNLC2FTZQ",
            later("4.7.8"),
        ),
        at(
            r"auth me:sesame | fault auth=354 AG1lAHNlc2FtZQ==",
            later("4.5.0"),
        ),
        at("starttls | auth me:sesame | fault handshake=drop", HERE).in_the_clear(),
        at("starttls | auth me:sesame | fault handshake=drop", later("4.7.5")).at("must"),
        at("starttls | auth me:sesame", HERE).at("must").over_tls(),
        at("starttls | auth me:sesame | hostname {name}", HERE)
            .at("verify")
            .trusted()
            .over_tls(),
        at(
            "starttls | auth me:sesame | hostname {name} | mechanisms SCRAM-SHA-256",
            HERE,
        )
        .at("verify")
        .trusted()
        .over_tls(),
        at("starttls | auth me:sesame", later("4.7.5")).at("verify"),
        at("starttls | auth me:sesame", HERE).at("never").in_the_clear(),
        Row {
            messages: 5,
            ..at("auth me:sesame | max-per-session 2", HERE).copies(5)
        },
    ];
    for mechanism in ["PLAIN", "LOGIN", "SCRAM-SHA-256", "LOGIN,PLAIN,SCRAM-SHA-256"] {
        for tls in ["", "starttls | "] {
            let host = |rest: &str| format!("{tls}auth me:{rest} | mechanisms {mechanism}");
            rows.extend([
                at(&host("sesame"), HERE),
                // Another password: it is for the operator to put right.
                at(&host("simsim"), later("4.7.8")),
            ]);
        }
        let host = |what: &str| format!("auth me:sesame | mechanisms {mechanism} | fault auth={what}");
        rows.extend([
            at(&host("454 4.7.0 not now"), later("4.7.0")),
            at(&host("421 4.3.2 closing"), later("4.3.2")),
            at(&host("drop"), later("4.4.2")),
            at(&host("garbage"), later("4.5.0")),
            at(&host("334 go on"), later("4.7.0")),
        ]);
    }
    rows
}

#[test]
fn where_tls_is_as_the_host_likes_mail_arrives_over_it_or_in_the_clear() {
    let rows = may();
    Table::set(&rows, &["--retry-schedule", "1h"]).check(&rows);
}

#[test]
fn where_tls_is_required_no_mail_is_said_in_the_clear_and_where_it_is_not_wanted_none_is_asked_for() {
    let rows = must_verify_and_never();
    Table::set(&rows, &["--retry-schedule", "1h"]).check(&rows);
}

#[test]
fn we_log_in_where_there_is_a_login_and_nobody_ever_sees_the_password() {
    let rows = logins();
    let table = Table::set(&rows, &["--retry-schedule", "1h", "--log-level", "verbose"]);
    table.check(&rows);

    let world = &table.world;
    let names = world.sql("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')");
    let mut shown: Vec<String> = names
        .lines()
        .map(|name| world.sql(&format!("SELECT * FROM {name}")))
        .collect();
    shown.extend(["hops", "queue", "config"].map(|what| world.ask(&format!("show {what}")).text));
    shown.extend(world.daemon().said());
    assert!(shown.iter().any(|line| line.contains(" C: AUTH …")));
    let asked = shown.iter().filter(|line| line.contains(" S: 334"));
    assert!(asked.clone().count() > 0);
    assert!(
        asked.clone().all(|line| line.ends_with(" S: 334 …")),
        "{:#?}",
        asked.collect::<Vec<_>>()
    );
    // As it is, and as PLAIN and LOGIN say it.
    for secret in ["sesame", "c2VzYW1l", "AG1lAHNlc2FtZQ"] {
        let has_it = |line: &&str| line.to_ascii_lowercase().contains(&secret.to_ascii_lowercase());
        let found = shown.iter().flat_map(|text| text.lines()).find(has_it);
        assert_eq!(found, None, "{secret}");
    }
}
