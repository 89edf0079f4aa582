//! The one integration binary; its rooms mirror those of `src/`.

mod support {
    pub mod dialogue;
}

mod rooms {
    mod inbound_dialogues;
}
