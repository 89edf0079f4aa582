//! PLAIN: name and password in one message (RFC 4616).
//!
//! Never lets anybody act for somebody else.

use super::check::Check;
use super::{Context, Progress};

/// The message `[authzid] NUL authcid NUL passwd`.
pub(super) fn message(context: Context, message: &[u8]) -> Progress {
    let Ok(message) = str::from_utf8(message) else {
        return Progress::Malformed;
    };
    let fields: Vec<&str> = message.split('\0').collect();
    let [acts_for, name, password] = fields[..] else {
        return Progress::Malformed;
    };
    // RFC 4616 2 wants one character of each at least, but a client that sends none has its form right.
    let someone_else = !acts_for.is_empty() && !context.accounts.same_login(acts_for, name);
    if name.is_empty() || password.is_empty() || someone_else {
        return Progress::Failed;
    }
    Progress::Check(Check::password(context, name.to_owned(), password.to_owned()))
}
