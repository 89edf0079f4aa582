//! Accounts: who may log in, and who has a mailbox.
