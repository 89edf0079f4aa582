//! How the MTA lives on a Unix system: in the foreground or as a daemon, with the rights of one user and no others, and
//! with what the service manager has to know and gives.
//!
//! Owns the order of all that: what needs the rights of root is done first, and once; then they are given up for good, and
//! what a broken MTA could do is narrowed. All of it before there is a second thread, since what a thread may do it hands
//! on to those that it starts. Never touches mail.

pub mod confinement;
pub mod daemon;
pub mod manager;
pub mod owner;
pub mod pid_file;
pub mod ports;
pub mod way;

use std::fmt;
use std::fs::{DirBuilder, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown, fchown};
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Uid, setgroups};
use signal_hook::consts::{SIGHUP, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::config::exit::Exit;
use crate::config::{Config, Invocation};
use crate::log_book;
use crate::mailbox::maildir::make_folder;
use crate::mailbox::place::common_folder;
use confinement::{Confinement, Place};
use owner::Owner;
use pid_file::PidFile;
use ports::Ports;

/// What nobody but the owner, and whom a mode names, may do with what is made.
const UMASK: Mode = Mode::from_bits_truncate(0o027);

/// Below this a port is root's.
const FIRST_FREE_PORT: u16 = 1024;

/// Why it could not be made ready.
#[derive(Debug)]
pub enum ServiceError {
    /// Started as root, to stay it, where that is asking for trouble.
    StaysRoot(&'static str),
    /// A user or group that is not there, or that this process may not become.
    Owner(String),
    /// A socket that was passed and that no option speaks of.
    Passed(String),
    /// A listening socket.
    Listen(SocketAddr, io::Error),
    /// A file or folder.
    File(PathBuf, io::Error),
    /// The process ID stands in this file, and that process runs.
    Running(PathBuf),
    /// This is no file for the process ID: what was expected there.
    PidFile(PathBuf, &'static str),
    /// The system refused this.
    System(&'static str, io::Error),
}

impl ServiceError {
    /// How a run ends that has come to this.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            ServiceError::StaysRoot(_)
            | ServiceError::Owner(_)
            | ServiceError::Passed(_)
            | ServiceError::PidFile(..) => Exit::Configuration,
            _ => Exit::TryLater,
        }
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServiceError::StaysRoot(why) => write!(
                f,
                "started as root {why}: expected --user NAME, whose rights it keeps; --user root if that is meant"
            ),
            ServiceError::Owner(what) | ServiceError::Passed(what) => f.write_str(what),
            ServiceError::Listen(address, error) => write!(f, "can not listen on {address}: {error}"),
            ServiceError::File(path, error) => write!(f, "{}: {error}", path.display()),
            ServiceError::Running(path) => {
                write!(f, "pid-file: {}: the process that it names runs", path.display())
            }
            ServiceError::PidFile(path, what) => {
                write!(f, "pid-file: {}: expected {what}", path.display())
            }
            ServiceError::System(what, error) => write!(f, "{what}: {error}"),
        }
    }
}

impl std::error::Error for ServiceError {}

/// What was made ready.
#[derive(Debug)]
pub struct Service {
    /// The sockets that it was given, or has opened while it might.
    pub ports: Ports,
    /// `--pid-file`, which tells nothing yet.
    pub pid_file: Option<PidFile>,
    /// SIGHUP and SIGUSR1 end nobody any more, and wait here to be heeded.
    pub signals: Signals,
    /// What it can not do any more.
    pub confinement: Confinement,
    /// The places that it has left itself; none where that is all that its user has.
    pub places: Vec<Place>,
}

impl Service {
    /// Makes the process what `invocation` says. Files that only root can read must have been read before, and threads be
    /// started afterwards.
    ///
    /// # Errors
    /// What is not to be had, and why; the process may have changed already.
    pub fn begin(invocation: &Invocation) -> Result<Service, ServiceError> {
        let config = &invocation.config;
        let is_root = Uid::effective().is_root();
        if let Some(why) = reason_not_to_stay_root(config, is_root) {
            return Err(ServiceError::StaysRoot(why));
        }
        let owner = Owner::find(config.user.as_deref(), config.group.as_deref())?;
        let becomes = owner.as_ref().filter(|owner| owner.is_another());
        umask(UMASK);
        // What was in memory is mail, and passwords.
        let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
        let signals = Signals::new([SIGHUP, SIGUSR1]);
        let signals = signals.map_err(|error| ServiceError::System("signals", error))?;
        let mut ports = Ports::passed(config)?;
        // Root writes nowhere where somebody else may say what is written to.
        let (of_root, of_owner) = match config.pid_file.as_deref() {
            Some(file) if becomes.is_some() && !way::is_to_roots_folder(folder_of(file)) => {
                (None, Some(file))
            }
            file => (file, None),
        };
        if let Some(owner) = becomes {
            ports.open(config)?;
            hand_over(config, owner)?;
        }
        let of_root = of_root.map(PidFile::claim).transpose()?;
        if let Some(owner) = becomes {
            owner.become_for_good()?;
            // What is told of below may be there.
            make_spool(&config.spool)?;
        }
        let pid_file = of_root.map(Ok).or_else(|| of_owner.map(PidFile::claim));
        let pid_file = pid_file.transpose()?;
        if Uid::effective().is_root() {
            // What the groups of whoever started it may do is not what those may whose mail it delivers. Where it can not
            // leave them, that is found out then: see `mailbox::owner`.
            let _ = setgroups(&[]);
        }
        let (confinement, places) = if config.sandbox.is_on(config) {
            make_spool(&config.spool)?;
            make_mail_folder(config)?;
            let places = confinement::places(invocation);
            (Confinement::enter(&places), places)
        } else {
            (Confinement::none(), Vec::new())
        };
        let places = confinement
            .files
            .as_ref()
            .map_or_else(|_| Vec::new(), |()| places);
        Ok(Service {
            ports,
            pid_file,
            signals,
            confinement,
            places,
        })
    }
}

/// Why root should not run this without another user, if it should not: as a daemon, or where only root may listen. A trial
/// in the foreground on a free port is nobody's business.
fn reason_not_to_stay_root(config: &Config, is_root: bool) -> Option<&'static str> {
    let listeners = [
        &config.listen,
        &config.listen_submission,
        &config.listen_submissions,
    ];
    let is_roots = |address: &&SocketAddr| (1..FIRST_FREE_PORT).contains(&address.port());
    match config.user {
        None if !is_root => None,
        Some(_) => None,
        None if config.daemon => Some("with --daemon"),
        None if listeners.into_iter().flatten().any(|a| is_roots(&a)) => Some("at a port below 1024"),
        None => None,
    }
}

/// What the MTA will write to has to be the user's: the spool, where it is not there yet, and the log. Root makes them where
/// nobody else has a say in what is made; elsewhere it is left to the user, who has the say.
fn hand_over(config: &Config, owner: &Owner) -> Result<(), ServiceError> {
    let wrong = |path: &Path| {
        let path = path.to_owned();
        move |error| ServiceError::File(path, error)
    };
    let made = make_place(folder_of(&config.spool)).map_err(wrong(&config.spool))?;
    if made && make_spool(&config.spool)? {
        chown(&config.spool, Some(owner.uid()), Some(owner.gid())).map_err(wrong(&config.spool))?;
    }
    if let Some(log) = config
        .log_file
        .as_deref()
        .filter(|log| way::is_to_roots_folder(folder_of(log)))
    {
        match log_book::create(log) {
            // Whatever it is, the user opens it.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => {
                fchown(made.map_err(wrong(log))?, Some(owner.uid()), Some(owner.gid())).map_err(wrong(log))?
            }
        }
    }
    Ok(())
}

/// Makes what is missing of a folder, where nobody but root has a say in it; whether it is a place where root may make
/// something. Everybody gets through what was made: the user has to.
fn make_place(folder: &Path) -> io::Result<bool> {
    if !folder.exists() {
        if !make_place(folder_of(folder))? {
            return Ok(false);
        }
        match DirBuilder::new().create(folder) {
            Ok(()) => std::fs::set_permissions(folder, Permissions::from_mode(0o755))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(way::is_to_roots_place(folder))
}

/// The folder in which a file is; before a relative name that is where we are.
fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(nothing) if nothing.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => file,
    }
}

/// Makes the spool where there is none; whether it did. Only its owner gets in.
fn make_spool(spool: &Path) -> Result<bool, ServiceError> {
    match DirBuilder::new().mode(0o700).create(spool) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        // The work queue makes folders above it as well, or tells what is wrong.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = spool.parent().map_or(Ok(()), std::fs::create_dir_all);
            made.and_then(|()| DirBuilder::new().mode(0o700).create(spool))
                .map(|()| true)
                .map_err(|error| ServiceError::File(spool.to_owned(), error))
        }
        Err(error) => Err(ServiceError::File(spool.to_owned(), error)),
    }
}

/// Makes the folder of all Maildirs, where it is not in the spool: it has to be there to be left to the MTA.
fn make_mail_folder(config: &Config) -> Result<(), ServiceError> {
    if config.lmtp.is_some() || common_folder(&config.mail_dir).starts_with(&config.spool) {
        return Ok(());
    }
    make_folder(&config.mail_dir).map_err(|wrong| {
        ServiceError::System("mail-dir", io::Error::new(wrong.error.kind(), wrong.to_string()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_needs_a_user_for_a_daemon_and_for_roots_ports_and_for_nothing_else() {
        let mut config = Config::embedded("mail.example.org");
        assert_eq!(reason_not_to_stay_root(&config, true), None);
        config.listen = vec!["127.0.0.1:0".parse().unwrap()];
        assert_eq!(reason_not_to_stay_root(&config, true), None);
        config.daemon = true;
        assert_eq!(reason_not_to_stay_root(&config, true), Some("with --daemon"));
        assert_eq!(reason_not_to_stay_root(&config, false), None);
        config.daemon = false;
        config.listen_submissions = vec!["[::]:465".parse().unwrap()];
        assert_eq!(
            reason_not_to_stay_root(&config, true),
            Some("at a port below 1024")
        );
        config.user = Some("root".to_owned());
        assert_eq!(reason_not_to_stay_root(&config, true), None);
    }
}
