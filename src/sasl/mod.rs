//! SASL: how a client proves who it is (RFC 4422).
