//! flags → configuration → log → run → exit status, and nothing else.

fn main() {}
