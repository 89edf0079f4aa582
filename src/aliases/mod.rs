//! Aliases: addresses of ours that stand for others.
