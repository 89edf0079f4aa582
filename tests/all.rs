//! The one integration binary: rooms that mirror `src/`, and what they need in `support`.

mod rooms {
    mod outbound_dialogues;
    mod outbound_on_the_wire;
}
mod support {
    pub mod sink;
}
