//! Asks the system as whom the MTA runs, or would run, and for the modes on the way to a file.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, User, getgrouplist};
use rustix::fs::getxattr;

use crate::config::Config;
use crate::doctor::machine::numbers;
use crate::doctor::reader::{Reader, Step};
use crate::doctor::spool::Mta;
use crate::service::owner::Owner;

/// As whom an MTA reads files once it runs: that which does, else one of this configuration. `None` where that is whoever
/// starts it, who reads them then, too.
pub(in crate::doctor) fn reader(mta: &Mta, config: &Config) -> Option<Reader> {
    match mta {
        Mta::Runs(Some(pid)) => {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let uid = *numbers(&status, "Uid").first()?;
            let mut groups = numbers(&status, "Groups");
            groups.extend(numbers(&status, "Gid").first());
            Some(Reader {
                name: user_name(uid),
                uid,
                groups,
            })
        }
        _ => {
            // That there is no such user is said by the start.
            let owner = Owner::find(config.user.as_deref(), config.group.as_deref()).ok()??;
            let (name, gid) = (user_name(owner.uid()), owner.gid());
            let all = CString::new(name.as_str()).ok();
            let all = all.filter(|_| config.group.is_none());
            let all = all.and_then(|name| getgrouplist(&name, Gid::from_raw(gid)).ok());
            Some(Reader {
                name,
                uid: owner.uid(),
                groups: all.map_or(vec![gid], |all| all.into_iter().map(Gid::as_raw).collect()),
            })
        }
    }
}

/// The name of a user, or that he has none here.
pub(super) fn user_name(uid: u32) -> String {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    user.map_or_else(|| format!("the user of number {uid}"), |user| user.name)
}

/// The way to a file: the folders above it, of what it leads to where it is a link, too, and itself. As far as it can be
/// seen by who asks.
pub(super) fn way(file: &Path) -> Vec<Step> {
    let named = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let real = fs::canonicalize(file).unwrap_or_else(|_| named.clone());
    let above = |file: &Path| {
        file.ancestors()
            .skip(1)
            .map(Path::to_owned)
            .collect::<Vec<PathBuf>>()
    };
    let mut folders = [above(&named), above(&real)].concat();
    folders.sort();
    folders.dedup();
    folders.into_iter().chain([real]).filter_map(step).collect()
}

fn step(path: PathBuf) -> Option<Step> {
    let found = fs::metadata(&path).ok()?;
    let mut list = [0; 256];
    // Too long for that is one, too.
    let has_list = match getxattr(&path, "system.posix_acl_access", &mut list) {
        Ok(length) => length > 0,
        Err(error) => error == rustix::io::Errno::RANGE,
    };
    Some(Step {
        mode: found.mode(),
        owner: found.uid(),
        group: found.gid(),
        is_folder: found.is_dir(),
        has_list,
        path,
    })
}
