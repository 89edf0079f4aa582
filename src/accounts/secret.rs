//! What this process alone knows: a key from which values follow that look random to others and are the same
//! each time.
//!
//! Made once, at the first use. Never stored, never shown.

use std::sync::LazyLock;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;

static KEY: LazyLock<hmac::Key> = LazyLock::new(|| {
    // Without random octets no TLS would be spoken either, and so no client would get this far.
    hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
        .expect("the system has random octets to give")
});

/// 32 octets for this purpose and this name.
pub(super) fn octets(purpose: &str, name: &str) -> [u8; 32] {
    let mut context = hmac::Context::with_key(&KEY);
    context.update(purpose.as_bytes());
    context.update(&[0]);
    context.update(name.as_bytes());
    let mut octets = [0; 32];
    octets.copy_from_slice(context.sign().as_ref());
    octets
}

/// A number below `end` for this purpose and this name; 0 where `end` is.
pub(super) fn below(end: usize, purpose: &str, name: &str) -> usize {
    let octets = octets(purpose, name);
    let number = octets[..8]
        .iter()
        .fold(0_u64, |number, octet| number << 8 | u64::from(*octet));
    usize::try_from(number % (end.max(1) as u64)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_name_gives_the_same_and_another_gives_another() {
        assert_eq!(octets("salt", "bob"), octets("salt", "bob"));
        assert_ne!(octets("salt", "bob"), octets("salt", "eve"));
        assert_ne!(octets("salt", "bob"), octets("sal", "tbob"));
        assert!((0..100).all(|name| below(3, "x", &name.to_string()) < 3));
        assert!((0..100).any(|name| below(3, "x", &name.to_string()) == 2));
        assert_eq!(below(0, "x", "bob"), 0);
    }
}
