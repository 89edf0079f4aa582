//! What the benchmark measures with is right itself: where a message ends, and what a percentile is.

use std::time::Duration;

#[path = "../../benches/peers/ending.rs"]
mod ending;
#[path = "../../benches/peers/latencies.rs"]
mod latencies;

use ending::Ending;
use latencies::Latencies;

/// What `wire` holds after each end, if it comes in pieces of `size` octets.
fn ends(wire: &[u8], size: usize) -> Vec<usize> {
    let mut ending = Ending::new();
    let (mut ends, mut at) = (Vec::new(), 0);
    for mut piece in wire.chunks(size) {
        while let Some(end) = ending.find(piece) {
            at += end;
            ends.push(at);
            piece = &piece[end..];
        }
        at += piece.len();
    }
    ends
}

#[test]
fn the_sink_finds_each_end_wherever_the_pieces_are_cut() {
    let messages: [&[u8]; 6] = [
        b"a\r\n.\r\n",
        b".\r\n",
        b"..\r\n.b\r\n\r\n.\r\n",
        b"\r\r\n.\r\r\n\n.\n\r\n.\r\n",
        b".a\r\n.\r.\r\n\r\n\r\n.\r\n",
        b"x\r\n.\r\n",
    ];
    let wire = messages.concat();
    let mut expected = Vec::new();
    for message in messages {
        expected.push(expected.last().unwrap_or(&0) + message.len());
    }
    for size in 1..=wire.len() {
        assert_eq!(ends(&wire, size), expected, "in pieces of {size}");
    }
}

#[test]
fn percentiles_are_right_to_two_per_cent() {
    for step in [1_u64, 7, 1_000, 123_457] {
        let (mut lower, mut upper) = (Latencies::default(), Latencies::default());
        for number in 1..=1_000 {
            let half = if number <= 500 { &mut lower } else { &mut upper };
            half.add(Duration::from_micros(number * step));
        }
        lower.join(&upper);
        assert_eq!(lower.count(), 1_000);
        for (part, number) in [(0.001, 1), (0.5, 500), (0.99, 990), (1.0, 1_000)] {
            let (right, found) = ((number * step) as f64 / 1000.0, lower.percentile(part));
            assert!(
                found >= right && found <= right * 1.02,
                "{part} of {step}: {found}, not {right}"
            );
        }
        assert_eq!(lower.longest(), (1_000 * step) as f64 / 1000.0);
    }
}
