//! LOGIN: asks for the name, then for the password (draft-murchison-sasl-login).
//!
//! Never more than two questions; an initial response is the name.

use super::check::Check;
use super::{Context, Exchange, Progress, State};

/// The first question. Clients look for these very words.
pub(super) const USERNAME: &[u8] = b"Username:";
/// The second.
const PASSWORD: &[u8] = b"Password:";

/// The answer to the first question.
pub(super) fn name(context: Context, name: &[u8]) -> Progress {
    match text(name) {
        Some(name) => {
            let state = State::LoginPassword(name.to_owned());
            Progress::Challenge(Exchange { context, state }, PASSWORD.to_vec())
        }
        None => Progress::Malformed,
    }
}

/// The answer to the second.
pub(super) fn password(context: Context, name: String, password: &[u8]) -> Progress {
    match text(password) {
        Some(password) if name.is_empty() || password.is_empty() => Progress::Failed,
        Some(password) => Progress::Check(Check::password(context, name, password.to_owned())),
        None => Progress::Malformed,
    }
}

fn text(response: &[u8]) -> Option<&str> {
    str::from_utf8(response).ok().filter(|text| !text.contains('\0'))
}
