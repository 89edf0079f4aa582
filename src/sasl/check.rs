//! The step of an exchange that takes time: a password or a proof is checked.
//!
//! Never done by itself: whoever holds a session runs it where nobody else has to wait. Never shows what it
//! checks.

use std::fmt;

use super::{Context, Progress, scram};

/// Something to be checked.
#[derive(Clone, PartialEq)]
pub struct Check {
    context: Context,
    what: What,
}

#[derive(Clone, PartialEq)]
enum What {
    Password { name: String, password: String },
    Proof(scram::Proof),
}

impl Check {
    /// Whether this is the password of that name.
    pub(super) fn password(context: Context, name: String, password: String) -> Check {
        let what = What::Password { name, password };
        Check { context, what }
    }

    /// Whether this proof holds.
    pub(super) fn proof(context: Context, proof: scram::Proof) -> Check {
        let what = What::Proof(proof);
        Check { context, what }
    }

    /// The login name as the client gave it: any text but NUL.
    #[must_use]
    pub fn name(&self) -> &str {
        match &self.what {
            What::Password { name, .. } => name,
            What::Proof(proof) => proof.name(),
        }
    }

    /// Checks it. Takes a processor for some time, and may have to wait for one. Gives
    /// [`Progress::Done`], [`Progress::Failed`], or for SCRAM a last [`Progress::Challenge`].
    #[must_use]
    pub fn run(self) -> Progress {
        match self.what {
            What::Password { name, password } => {
                match self.context.accounts.verify(&name, password.as_bytes()) {
                    Some(login) => Progress::Done(login),
                    None => Progress::Failed,
                }
            }
            What::Proof(proof) => proof.check(self.context),
        }
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Check({:?}, …)", self.name())
    }
}
