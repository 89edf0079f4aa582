//! What the MTA can not do any more once it runs, whatever a client has made of it: no other program is started, no new
//! rights are to be had, and only its own files are there (Landlock), by those calls of the system that it needs (seccomp).
//!
//! As much of it as the system can: what is in force is told, and a system that knows nothing of it stops nothing.

#[cfg(target_os = "linux")]
mod calls;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::config::Invocation;
use crate::mailbox::place::common_folder;

/// What the MTA may do with what lies below a folder, or with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Read it, and run it: libraries that the C library loads are mapped so.
    Read,
    /// Make, change and remove it, too.
    Write,
}

/// A file or folder, and what may be done there.
pub type Place = (PathBuf, Access);

/// What is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confinement {
    /// No new rights, whatever is started.
    pub no_new_privileges: Result<(), String>,
    /// Its own files alone.
    pub files: Result<(), String>,
    /// The calls that it needs alone.
    pub calls: Result<(), String>,
}

/// How a reason begins that is the operator's.
pub(crate) const BY_CONFIGURATION: &str = "by the configuration";

/// The word for what is in force.
const ON: &str = "on";

/// Of the system's own files: names of users, hosts and time zones, certificates, libraries that look names up, what it is
/// told of itself.
const SYSTEM: [&str; 10] = [
    "/etc", "/usr", "/lib", "/lib64", "/bin", "/nix", "/proc", "/sys", "/run", "/var/run",
];
/// Those that are written to.
const DEVICES: [&str; 5] = [
    "/dev/null",
    "/dev/zero",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
];

/// The files of the MTA that `invocation` speaks of, and those of the system that it needs.
#[must_use]
pub fn places(invocation: &Invocation) -> Vec<Place> {
    let config = &invocation.config;
    let folder = |file: &Path| super::folder_of(file).to_owned();
    let system = SYSTEM.iter().map(|place| (PathBuf::from(place), Access::Read));
    let devices = DEVICES.iter().map(|place| (PathBuf::from(place), Access::Write));
    // A new file takes the place of the old one, so that its folder has to be there.
    let read = [
        &invocation.file,
        &config.accounts,
        &config.aliases,
        &config.tls_cert,
        &config.tls_key,
        &config.tls_ca,
        &config.relay_auth,
    ];
    // Where it is a link, as those to certificates are that are renewed, what it leads to has to be there, too.
    let behind = |file: &Path| file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let read = read
        .into_iter()
        .flatten()
        .flat_map(|file| [folder(file), folder(&behind(file))])
        .map(|folder| (folder, Access::Read));
    let written = [&config.log_file, &config.pid_file];
    let written = written
        .into_iter()
        .flatten()
        .map(|file| (folder(file), Access::Write));
    let mail = common_folder(&config.mail_dir);
    let own = [config.spool.clone(), mail].map(|place| (place, Access::Write));
    let mut all: Vec<_> = system
        .chain(devices)
        .chain(read)
        .chain(written)
        .chain(own)
        .collect();
    all.sort();
    all.dedup();
    all
}

/// The folder of the mail of a configuration, where an MTA that has left itself only these places can not write into it.
#[must_use]
pub fn mail_beyond(places: &[Place], mail_dir: &str) -> Option<PathBuf> {
    let absolute = |place: &Path| std::path::absolute(place).unwrap_or_else(|_| place.to_owned());
    let mail = absolute(&common_folder(mail_dir));
    let holds = |(place, access): &Place| *access == Access::Write && mail.starts_with(absolute(place));
    let is_reached = places.is_empty() || places.iter().any(holds);
    (!is_reached).then(|| mail.components().collect())
}

impl Confinement {
    /// Nothing is in force.
    #[must_use]
    pub fn none() -> Confinement {
        let off = || Err("off".to_owned());
        Confinement {
            no_new_privileges: off(),
            files: off(),
            calls: off(),
        }
    }

    /// Enters it, as far as the system can: this thread, and those that it starts from now on.
    #[must_use]
    #[cfg(target_os = "linux")]
    pub fn enter(places: &[Place]) -> Confinement {
        let no_new_privileges = nix::sys::prctl::set_no_new_privs().map_err(|error| error.to_string());
        Confinement {
            no_new_privileges,
            files: files_alone(places),
            calls: calls::alone(),
        }
    }

    /// There is nothing that it could enter.
    #[must_use]
    #[cfg(not(target_os = "linux"))]
    pub fn enter(_: &[Place]) -> Confinement {
        let unknown = || Err("not on this system".to_owned());
        Confinement {
            no_new_privileges: unknown(),
            files: unknown(),
            calls: unknown(),
        }
    }

    /// Its parts: the word of each for programs and for people, and how it stands.
    fn parts(&self) -> [(&'static str, &'static str, &Result<(), String>); 3] {
        [
            ("no_new_privs", "no new privileges", &self.no_new_privileges),
            ("landlock", "own files alone (Landlock)", &self.files),
            ("seccomp", "needed system calls alone (seccomp)", &self.calls),
        ]
    }

    /// What is in force, and what is not and why, in a line.
    #[must_use]
    pub fn text(&self) -> String {
        if *self == Confinement::none() {
            return "nothing: --sandbox is off, or not for a run like this".to_owned();
        }
        let part = |(_, name, state): (_, &str, &Result<(), String>)| match state {
            Ok(()) => name.to_owned(),
            Err(why) => format!("not {name}: {why}"),
        };
        self.parts().map(part).join("; ")
    }

    /// The same for programs: of each part that it is on, or why it is not.
    #[must_use]
    pub fn facts(&self) -> Value {
        let part = |(word, _, state): (&str, _, &Result<(), String>)| {
            let told = state.as_ref().map_or_else(String::as_str, |()| ON);
            (word.to_owned(), json!(told))
        };
        Value::Object(Map::from_iter(self.parts().map(part)))
    }

    /// What such facts say; `None` where they do not tell of every part.
    #[must_use]
    pub fn of_facts(facts: &Value) -> Option<Confinement> {
        let part = |word: &str| match facts.get(word)?.as_str()? {
            ON => Some(Ok(())),
            why => Some(Err(why.to_owned())),
        };
        Some(Confinement {
            no_new_privileges: part("no_new_privs")?,
            files: part("landlock")?,
            calls: part("seccomp")?,
        })
    }
}

#[cfg(target_os = "linux")]
fn files_alone(places: &[Place]) -> Result<(), String> {
    use landlock::{
        ABI, Access as _, AccessFs, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
        RulesetStatus,
    };

    // Those after it have no more rights over files that would matter here, and the kernel gives what it has.
    let abi = ABI::V5;
    let made = (|| {
        let mut rules = Ruleset::default()
            .handle_access(AccessFs::from_all(abi))?
            .create()?;
        for (place, access) in places {
            // What is not there can not be needed.
            let Ok(opened) = PathFd::new(place) else { continue };
            let mut rights = match access {
                Access::Read => AccessFs::from_read(abi),
                Access::Write => AccessFs::from_all(abi),
            };
            if !place.is_dir() {
                rights &= AccessFs::from_file(abi);
            }
            rules = rules.add_rule(PathBeneath::new(opened, rights))?;
        }
        rules.restrict_self()
    })();
    let is_all = |(place, access): &Place| {
        *access == Access::Write && place.canonicalize().is_ok_and(|place| place == Path::new("/"))
    };
    match made {
        Ok(status) if status.ruleset == RulesetStatus::NotEnforced => {
            Err("this kernel has none of it, or who has started this does not let it".to_owned())
        }
        Ok(_) if places.iter().any(is_all) => Err(format!("{BY_CONFIGURATION} all below / is its own")),
        Ok(_) => Ok(()),
        Err::<_, landlock::RulesetError>(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn what_the_configuration_names_can_be_reached_and_nothing_beside_it() {
        let args = [
            "--spool",
            "/var/spool/smtpmta",
            "--accounts",
            "/srv/mail/accounts",
            "--log-file",
            "/srv/log/mail",
            "--mail-dir",
            "/tmp/%u",
            "--aliases",
            "aliases",
        ];
        let args: Vec<String> = args.map(str::to_owned).to_vec();
        let invocation = config::read(&args, || "mail.example.org".to_owned()).unwrap();
        let places = places(&invocation);
        let access = |place: &str| {
            let found = places.iter().find(|(path, _)| path == Path::new(place));
            found.map(|(_, access)| *access)
        };
        assert_eq!(access("/var/spool/smtpmta"), Some(Access::Write));
        assert_eq!(access("/srv/mail"), Some(Access::Read));
        assert_eq!(access("/srv/log"), Some(Access::Write));
        assert_eq!(access("/tmp"), Some(Access::Write));
        assert_eq!(access("."), Some(Access::Read));
        assert_eq!(access("/etc"), Some(Access::Read));
        for beside in ["/", "/home", "/root", "/var", "/srv", "/boot"] {
            assert_eq!(access(beside), None, "{beside}");
        }
    }

    #[test]
    fn what_is_in_force_is_told_in_a_line_and_in_facts_that_are_read_back() {
        let some = Confinement {
            no_new_privileges: Ok(()),
            files: Err("this kernel has none of it".to_owned()),
            calls: Ok(()),
        };
        assert_eq!(
            some.text(),
            "no new privileges; not own files alone (Landlock): this kernel has none of it; needed system calls \
             alone (seccomp)"
        );
        assert_eq!(some.facts()["landlock"], "this kernel has none of it");
        assert_eq!(some.facts()["seccomp"], "on");
        for known in [some, Confinement::none()] {
            assert_eq!(Confinement::of_facts(&known.facts()), Some(known));
        }
        assert_eq!(Confinement::of_facts(&json!({ "landlock": "on" })), None);
        assert_eq!(Confinement::of_facts(&Value::Null), None);
    }

    #[test]
    fn what_a_link_leads_to_can_be_reached_too() {
        let folder = tempfile::tempdir().unwrap();
        let (live, archive) = (folder.path().join("live"), folder.path().join("archive"));
        for place in [&live, &archive] {
            std::fs::create_dir(place).unwrap();
        }
        std::fs::write(archive.join("cert1.pem"), "").unwrap();
        std::os::unix::fs::symlink("../archive/cert1.pem", live.join("cert.pem")).unwrap();
        let cert = live.join("cert.pem").display().to_string();
        let args = ["--tls-cert", &cert, "--tls-key", &cert].map(str::to_owned);
        let invocation = config::read(&args, || "mail.example.org".to_owned()).unwrap();
        let places = places(&invocation);
        for place in [live, archive.canonicalize().unwrap()] {
            assert!(places.contains(&(place, Access::Read)), "{places:?}");
        }
    }

    #[test]
    fn mail_that_goes_elsewhere_after_the_start_is_beyond_what_can_be_reached() {
        let places = [("/srv/mail".into(), Access::Write), ("/tmp".into(), Access::Read)];
        // Of which only those that are there count.
        assert_eq!(mail_beyond(&places, "/tmp/%u"), Some("/tmp".into()));
        let places = [("/".into(), Access::Read), ("/tmp".into(), Access::Write)];
        assert_eq!(mail_beyond(&places, "/tmp/mail/%d/%u"), None);
        assert_eq!(mail_beyond(&places, "/usr/%u"), Some("/usr".into()));
        let here = [(".".into(), Access::Write)];
        assert_eq!(mail_beyond(&here, "spool/mail/%u"), None);
        assert_eq!(mail_beyond(&[], "/usr/%u"), None);
    }

    #[test]
    fn of_what_is_missing_the_folder_above_it_is_not_given() {
        let args = ["--mail-dir", "/tmp/no-such-folder/mail/%d/%u"].map(str::to_owned);
        let invocation = config::read(&args, || "mail.example.org".to_owned()).unwrap();
        let written = places(&invocation)
            .into_iter()
            .filter(|(_, access)| *access == Access::Write);
        let written: Vec<PathBuf> = written.map(|(place, _)| place).collect();
        assert!(
            written.contains(&"/tmp/no-such-folder/mail".into()),
            "{written:?}"
        );
        for above in ["/tmp/no-such-folder", "/tmp", "/"] {
            assert!(!written.contains(&above.into()), "{above}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn where_all_is_its_own_it_does_not_say_that_it_has_its_own_alone() {
        let confined = |place: &'static str| {
            // For that thread alone.
            std::thread::spawn(move || files_alone(&[(place.into(), Access::Write)]))
                .join()
                .unwrap()
        };
        let all = confined("/").unwrap_err();
        if confined("/dev").is_ok() {
            assert_eq!(all, "by the configuration all below / is its own");
        }
    }
}
