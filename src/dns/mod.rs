//! Names into addresses: MX, null MX, A and AAAA (RFC 5321 5.1).
