//! The one integration binary: rooms that mirror `src/`, and what they need in `support`.

mod rooms {
    mod outbound_dialogues;
    mod sink_misbehaves;
}
mod support {
    pub mod sink;
}
