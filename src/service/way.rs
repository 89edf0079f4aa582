//! The way to a file that root is to make: whether anybody but root has a say in where it leads.
//!
//! Where somebody has, root would make files, and give them away, wherever that one likes: there the MTA's user has to do
//! it with its own rights.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf, absolute};

use crate::mailbox::owner::{MOST_LINKS, STICKY, may_be_changed};

/// Whether this is a folder of root, and nobody else can put another one in its place. Others may have files in it.
#[must_use]
pub fn is_to_roots_folder(folder: &Path) -> bool {
    leads(folder, &mut { MOST_LINKS })
        && fs::metadata(folder).is_ok_and(|found| found.is_dir() && is_roots(&found))
}

/// Whether it is that, and nobody else can put anything in the place of what root makes in it either.
#[must_use]
pub fn is_to_roots_place(folder: &Path) -> bool {
    is_to_roots_folder(folder) && fs::metadata(folder).is_ok_and(|found| is_kept_by_root(&found))
}

/// Step by step from the top: what is found safe stays so, and nobody can change it behind us.
fn leads(path: &Path, links: &mut u32) -> bool {
    let Ok(path) = absolute(path) else { return false };
    let mut reached = PathBuf::new();
    for part in path.components() {
        if !reached.as_os_str().is_empty()
            && !fs::metadata(&reached).is_ok_and(|found| is_kept_by_root(&found))
        {
            return false;
        }
        let above = reached.clone();
        reached.push(part);
        let Some(found) = fs::symlink_metadata(&reached).ok().filter(is_roots) else {
            return false;
        };
        if found.is_symlink() {
            let Some(left) = links.checked_sub(1) else {
                return false;
            };
            *links = left;
            let target = fs::read_link(&reached).map(|target| above.join(target));
            if !target.is_ok_and(|target| leads(&target, links)) {
                return false;
            }
        }
    }
    true
}

fn is_roots(found: &Metadata) -> bool {
    found.uid() == 0
}

/// What is root's in this folder stays what and where it is.
fn is_kept_by_root(folder: &Metadata) -> bool {
    is_roots(folder) && (!may_be_changed(folder) || folder.mode() & STICKY != 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use nix::unistd::Uid;

    use super::*;

    #[test]
    fn a_way_is_roots_when_nobody_else_can_turn_it_elsewhere() {
        if !Uid::effective().is_root() {
            eprintln!("only root has folders of root");
            return;
        }
        let world = tempfile::tempdir().unwrap();
        let below = |name: &str| world.path().join(name);
        let folder = |name: &str, mode: u32, owner: u32| {
            fs::create_dir_all(below(name)).unwrap();
            fs::set_permissions(below(name), fs::Permissions::from_mode(mode)).unwrap();
            chown(below(name), Some(owner), Some(4545)).unwrap();
        };
        folder("roots", 0o755, 0);
        folder("roots/sticky", 0o1777, 0);
        folder("roots/sticky/deep", 0o755, 0);
        folder("roots/open", 0o775, 0);
        folder("roots/open/deep", 0o755, 0);
        folder("roots/group", 0o775, 0);
        chown(below("roots/group"), None, Some(0)).unwrap();
        folder("users", 0o755, 65534);
        folder("users/roots", 0o755, 0);
        symlink("roots/sticky", below("link")).unwrap();
        symlink("users/away", below("chain")).unwrap();
        symlink(below("roots"), below("users/away")).unwrap();
        symlink("circle", below("circle")).unwrap();
        // The name, whether it is root's folder, and whether what root makes in it stays.
        for (name, is_folder, is_place) in [
            ("roots", true, true),
            ("roots/sticky", true, true),
            ("roots/sticky/deep", true, true),
            ("roots/open", true, false),
            ("roots/open/deep", false, false),
            ("roots/group", true, true),
            ("link", true, true),
            ("link/deep/..", true, true),
            ("users", false, false),
            ("users/roots", false, false),
            ("users/away", false, false),
            ("chain", false, false),
            ("circle", false, false),
            ("missing", false, false),
        ] {
            assert_eq!(is_to_roots_folder(&below(name)), is_folder, "{name}");
            assert_eq!(is_to_roots_place(&below(name)), is_place, "{name}");
        }
    }
}
