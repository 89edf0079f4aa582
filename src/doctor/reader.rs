//! Whether the user of the MTA may read a file. Root reads all of them before it becomes that user, so that a start says
//! nothing of one that a refresh can not read again. Pure: users and modes in, findings out.

use std::path::PathBuf;

use super::finding::Finding;

/// Who reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reader {
    /// The user's name.
    pub name: String,
    /// The user's number.
    pub uid: u32,
    /// The numbers of all groups.
    pub groups: Vec<u32>,
}

/// A file, or a folder that has to be gone through to get to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Where it is.
    pub path: PathBuf,
    /// Its mode.
    pub mode: u32,
    /// Its owner.
    pub owner: u32,
    /// Its group.
    pub group: u32,
    /// Whether it is a folder.
    pub is_folder: bool,
    /// Whether there is a list of who else may do what (setfacl), which is not known here.
    pub has_list: bool,
}

impl Reader {
    /// What keeps this user from a file, of the steps on the way to it and itself.
    #[must_use]
    pub fn barrier<'s>(&self, way: &'s [Step]) -> Option<&'s Step> {
        way.iter().find(|step| !self.may(step))
    }

    fn may(&self, step: &Step) -> bool {
        let wanted = if step.is_folder { 0o1 } else { 0o4 };
        let granted = if step.owner == self.uid {
            step.mode >> 6
        } else if self.groups.contains(&step.group) {
            step.mode >> 3
        } else {
            step.mode
        };
        self.uid == 0 || granted & wanted != 0
    }
}

/// What is to be said of a file that an option names, where this keeps the user of the MTA from it.
#[must_use]
pub fn unreadable(option: &'static str, path: &str, reader: &Reader, barrier: &Step) -> Finding {
    let name = &reader.name;
    let (mode, at) = (barrier.mode & 0o7777, barrier.path.display());
    let why = match barrier.is_folder {
        true => format!("may not go through {at} (mode {mode:04o})"),
        false => format!("may not read it (mode {mode:04o})"),
    };
    if barrier.has_list {
        let what = format!("{path}: whether {name} may read it is said by the access list of {at}");
        let advice = format!("see `getfacl {at}`: a refresh (SIGHUP) reads it again as {name}");
        return Finding::unknown(option, what, advice);
    }
    let right = if barrier.is_folder { "g+x" } else { "g+r" };
    Finding::warning(
        option,
        format!(
            "{path}: {name} {why}: a refresh (SIGHUP) will not be able to read it again, and changes nothing at all then"
        ),
        format!(
            "`chgrp` {at} to a group of {name} and `chmod {right}` it, or restart the MTA whenever one of its files has changed"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Status;

    #[test]
    fn a_file_is_read_by_whom_its_mode_and_those_of_all_folders_above_it_let() {
        let step = |path: &str, owner, group, mode| Step {
            path: path.into(),
            mode,
            owner,
            group,
            is_folder: !path.contains('.'),
            has_list: false,
        };
        let reader = |uid, groups: &[u32]| Reader {
            name: "smtpmta".to_owned(),
            uid,
            groups: groups.to_vec(),
        };
        let open = || step("/etc", 0, 0, 0o755);
        for (groups, way, expected) in [
            (&[8][..], vec![open(), step("/etc/a.pem", 0, 0, 0o644)], None),
            (
                &[8],
                vec![open(), step("/etc/a.pem", 0, 0, 0o600)],
                Some("/etc/a.pem"),
            ),
            (&[8], vec![open(), step("/etc/a.pem", 0, 8, 0o640)], None),
            (&[8, 9], vec![open(), step("/etc/a.pem", 0, 9, 0o640)], None),
            (
                &[8],
                vec![open(), step("/etc/a.pem", 0, 9, 0o640)],
                Some("/etc/a.pem"),
            ),
            (&[8], vec![open(), step("/etc/a.pem", 7, 9, 0o600)], None),
            // Whose it is has the owner's rights, and no others.
            (
                &[8],
                vec![open(), step("/etc/a.pem", 7, 8, 0o077)],
                Some("/etc/a.pem"),
            ),
            (
                &[8],
                vec![
                    open(),
                    step("/etc/live", 0, 0, 0o700),
                    step("/etc/live/a.pem", 0, 0, 0o644),
                ],
                Some("/etc/live"),
            ),
        ] {
            let found = reader(7, groups).barrier(&way);
            assert_eq!(found.map(|step| step.path.to_str().unwrap()), expected, "{way:?}");
            assert_eq!(reader(0, &[]).barrier(&way), None, "root reads all");
        }
        let (reader, key) = (reader(7, &[]), step("/etc/a.pem", 0, 0, 0o600));
        let told = unreadable("tls-key", "/etc/a.pem", &reader, &key);
        assert_eq!(told.status, Status::Warning);
        assert!(
            told.what.contains("smtpmta may not read it (mode 0600)"),
            "{told:?}"
        );
        let listed = Step {
            has_list: true,
            ..key
        };
        assert_eq!(
            unreadable("tls-key", "/etc/a.pem", &reader, &listed).status,
            Status::Unknown
        );
    }
}
