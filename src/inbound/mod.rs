//! isesctl and iseshlrN: accept connections, and speak SMTP with whoever calls.
