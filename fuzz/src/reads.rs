//! How an input becomes reads: what arrives together, and what comes later.

/// The octet that ends a read, and is none of what arrives.
pub const END_OF_READ: u8 = 0xFE;

/// The reads that an input stands for. None of them is empty, as none is that brings anything.
pub fn reads(input: &[u8]) -> impl Iterator<Item = &[u8]> {
    input
        .split(|octet| *octet == END_OF_READ)
        .filter(|read| !read.is_empty())
}

/// All that arrives, in one piece.
#[must_use]
pub fn joined(input: &[u8]) -> Vec<u8> {
    reads(input).flatten().copied().collect()
}
