//! Where local recipients find their mail.
