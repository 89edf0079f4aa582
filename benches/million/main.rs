//! What a queue with a million waiting messages costs, against an empty one.

#![allow(clippy::print_stdout, clippy::print_stderr, clippy::expect_used, missing_docs)]

mod spool;

use std::path::Path;
use std::time::Instant;

fn main() {
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["fill", folder, messages] => {
            let messages = messages.parse().expect("a number of messages");
            let begun = Instant::now();
            spool::fill(Path::new(folder), messages).expect("a work queue");
            println!("{messages} messages in {:.1} s", begun.elapsed().as_secs_f64());
        }
        _ => eprintln!("usage: million fill FOLDER MESSAGES"),
    }
}
