//! A command line of any octets: what is understood can be written down again, and means the same then; what is not
//! gets a reply that holds nothing of it. And lines: the same ones come out wherever the reads fall.

#![no_main]

use std::fmt::Write;

use libfuzzer_sys::fuzz_target;
use smtpmta::inbound::replies::refuse_command;
use smtpmta::smtp::command::{self, Body, Command};
use smtpmta::smtp::line::{Line, LineFault, LineSplitter};
use smtpmta_fuzz::reads::{joined, reads};
use smtpmta_fuzz::replies;

/// The longest line here, CRLF included.
const LIMIT: usize = 40;

fuzz_target!(|data: &[u8]| {
    check_command(data);
    check_lines(data);
});

fn check_command(line: &[u8]) {
    let found = command::find(line);
    match command::parse(line) {
        Ok(command) => {
            assert!(!line.iter().any(u8::is_ascii_control));
            let written = written(&command);
            assert!(!written.contains(char::is_control), "{written:?}");
            let mut again =
                command::parse(written.as_bytes()).unwrap_or_else(|e| panic!("{e:?}: {written:?}"));
            if let (
                Command::Rcpt { parameters: one, .. },
                Command::Rcpt {
                    parameters: other, ..
                },
            ) = (&command, &mut again)
            {
                // A domain in another script is written in ASCII.
                other.utf8 |= one.utf8;
            }
            assert_eq!(command, again, "{written:?}");
        }
        Err(error) => {
            let reply = refuse_command(error, found.ok().map(|(verb, _)| verb));
            replies::check_written(&reply);
            replies::check_codes(&reply, true, false);
            assert!(reply.is_permanent());
        }
    }
}

fn written(command: &Command) -> String {
    match command {
        Command::Helo(name) => format!("HELO {name}"),
        Command::Ehlo(name) => format!("EHLO {name}"),
        Command::StartTls => "STARTTLS".to_owned(),
        Command::Auth {
            mechanism,
            initial: None,
        } => format!("AUTH {mechanism}"),
        Command::Auth {
            mechanism,
            initial: Some(initial),
        } => format!("AUTH {mechanism} {initial}"),
        Command::Mail { from, parameters } => {
            let mut line = format!("MAIL FROM:<{from}>");
            parameter(&mut line, "SIZE", parameters.size);
            let body = parameters.body.map(|body| match body {
                Body::SevenBit => "7BIT",
                Body::EightBitMime => "8BITMIME",
                Body::BinaryMime => "BINARYMIME",
            });
            parameter(&mut line, "BODY", body);
            parameter(&mut line, "RET", parameters.ret);
            parameter(&mut line, "ENVID", parameters.envelope_id.as_ref());
            parameter(&mut line, "AUTH", parameters.auth.then_some("<>"));
            if parameters.utf8 {
                line += " SMTPUTF8";
            }
            line
        }
        Command::Rcpt { to, parameters } => {
            let mut line = format!("RCPT TO:<{to}>");
            parameter(&mut line, "NOTIFY", parameters.notify);
            parameter(&mut line, "ORCPT", parameters.original.as_ref());
            line
        }
        Command::Data => "DATA".to_owned(),
        Command::Bdat { size, last: false } => format!("BDAT {size}"),
        Command::Bdat { size, last: true } => format!("BDAT {size} LAST"),
        Command::Rset => "RSET".to_owned(),
        Command::Noop => "NOOP".to_owned(),
        Command::Vrfy => "VRFY somebody".to_owned(),
        Command::Help => "HELP".to_owned(),
        Command::Quit => "QUIT".to_owned(),
    }
}

fn parameter(line: &mut String, name: &str, value: Option<impl std::fmt::Display>) {
    if let Some(value) = value {
        write!(line, " {name}={value}").expect("a string takes everything");
    }
}

type Told = Result<Vec<u8>, LineFault>;

fn lines<'i>(reads: impl Iterator<Item = &'i [u8]>) -> Vec<Told> {
    let mut splitter = LineSplitter::new(LIMIT);
    let mut told = Vec::new();
    for mut read in reads {
        while let Some(line) = splitter.take(&mut read) {
            told.push(match line {
                Line::Whole(line) => Ok(line.to_vec()),
                Line::Bad(fault) => Err(fault),
            });
        }
        assert!(read.is_empty());
    }
    told
}

fn check_lines(data: &[u8]) {
    let whole = joined(data);
    let told = lines(reads(data));
    // A line that is too long is told as soon as that is certain, so that one which ends badly as well may be told for
    // either. How many there are, and which of them are good, is the same.
    let shape = |told: &[Told]| told.iter().map(|line| line.clone().ok()).collect::<Vec<_>>();
    assert_eq!(shape(&told), shape(&lines([&*whole].into_iter())));
    assert_eq!(shape(&told), shape(&lines(whole.chunks(1))));
    let feeds = whole.iter().filter(|octet| **octet == b'\n').count();
    assert!((feeds..=feeds + 1).contains(&told.len()), "{feeds} for {told:?}");
    for line in told.iter().flatten() {
        assert!(line.len() + 2 <= LIMIT && !line.contains(&b'\r') && !line.contains(&b'\n'));
    }
}
