//! TLS: certificates and keys from files, and connections that speak it.
