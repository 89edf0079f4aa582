//! What the operator says and sees.
