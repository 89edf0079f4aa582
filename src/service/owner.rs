//! The user that the MTA becomes: `--user` and `--group`.

use std::ffi::CString;
use std::io;

use nix::unistd::{Gid, Group, Uid, User, initgroups, setgid, setgroups, setresgid, setresuid, setuid};

use super::ServiceError;

/// A user and a group of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    name: String,
    uid: Uid,
    gid: Gid,
    /// The user's further groups are not his here: a group was named.
    alone: bool,
}

impl Owner {
    /// Who these are, by name or by number; `None` where nobody is named. Without a group it is the user's own; without a
    /// user it stays who it is.
    ///
    /// # Errors
    /// Where there is no such user or group.
    pub fn find(user: Option<&str>, group: Option<&str>) -> Result<Option<Owner>, ServiceError> {
        if user.is_none() && group.is_none() {
            return Ok(None);
        }
        let found = match user {
            None => User::from_uid(Uid::effective()),
            Some(name) => match User::from_name(name) {
                Ok(None) => name
                    .parse()
                    .map_or(Ok(None), |n| User::from_uid(Uid::from_raw(n))),
                found => found,
            },
        };
        let no_user = || ServiceError::Owner(format!("user: \"{}\": no such user", user.unwrap_or_default()));
        let found = found
            .map_err(|error| ServiceError::System("user", error.into()))?
            .ok_or_else(no_user)?;
        let gid = match group {
            None => found.gid,
            Some(name) => {
                let group = match Group::from_name(name) {
                    Ok(None) => name
                        .parse()
                        .map_or(Ok(None), |n| Group::from_gid(Gid::from_raw(n))),
                    found => found,
                };
                group
                    .map_err(|error| ServiceError::System("group", error.into()))?
                    .ok_or_else(|| ServiceError::Owner(format!("group: \"{name}\": no such group")))?
                    .gid
            }
        };
        Ok(Some(Owner {
            name: found.name,
            uid: found.uid,
            gid,
            alone: group.is_some(),
        }))
    }

    /// The user's number.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid.as_raw()
    }

    /// The group's number.
    #[must_use]
    pub fn gid(&self) -> u32 {
        self.gid.as_raw()
    }

    /// Whether that is somebody else than who this process is.
    #[must_use]
    pub fn is_another(&self) -> bool {
        self.uid != Uid::effective() || self.gid != Gid::effective()
    }

    /// Becomes this user, and can never be anybody else again: groups first, since who is not root may not choose them.
    ///
    /// # Errors
    /// When the system does not let us, or did not take the rights away.
    pub fn become_for_good(&self) -> Result<(), ServiceError> {
        let wrong = |what: &'static str| move |error: nix::Error| ServiceError::System(what, error.into());
        if Uid::effective().is_root() {
            if self.alone {
                setgroups(&[self.gid]).map_err(wrong("setgroups"))?;
            } else {
                let name = CString::new(self.name.as_str()).unwrap_or_default();
                initgroups(&name, self.gid).map_err(wrong("initgroups"))?;
            }
        }
        setresgid(self.gid, self.gid, self.gid).map_err(wrong("group"))?;
        setresuid(self.uid, self.uid, self.uid).map_err(wrong("user"))?;
        let stays_root = self.uid.is_root();
        let user_is_back = !stays_root && setuid(Uid::from_raw(0)).is_ok();
        // Who asked for root's group has it.
        let group_is_back = !stays_root && self.gid.as_raw() != 0 && setgid(Gid::from_raw(0)).is_ok();
        if user_is_back || group_is_back {
            let error = io::Error::other("the rights of root are still there");
            return Err(ServiceError::System("user", error));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_name_and_by_number_and_brings_a_group() {
        let root = Owner::find(Some("root"), None).unwrap().unwrap();
        assert_eq!((root.uid(), root.gid(), root.alone), (0, 0, false));
        assert_eq!(Owner::find(Some("0"), None).unwrap(), Some(root));
        assert_eq!(Owner::find(None, None).unwrap(), None);
        let wrong = Owner::find(Some("no-such-user"), None).unwrap_err();
        assert_eq!(wrong.to_string(), "user: \"no-such-user\": no such user");
        let wrong = Owner::find(Some("root"), Some("no-such-group")).unwrap_err();
        assert_eq!(wrong.to_string(), "group: \"no-such-group\": no such group");
        assert_eq!(wrong.exit(), crate::config::exit::Exit::Configuration);
    }
}
