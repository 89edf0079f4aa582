//! Looks at the spool, and through its queue, and asks whether an MTA runs there.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::unistd::geteuid;

use super::Patient;
use crate::console::server;
use crate::doctor::finding::Finding;
use crate::doctor::spool::{self, Look, Mta};
use crate::mailbox::owner::Owner;
use crate::mailbox::place::common_folder;
use crate::work_queue;
use crate::work_queue::ground::{Ground, kind_at};

/// How long the queue is looked through.
const LOOKING: Duration = Duration::from_secs(5);

/// The MTA that runs on this spool: whether it takes a connection at its console. Which process that is says the system,
/// and no file, into which its user may write any number.
fn mta_now(spool: &Path) -> Mta {
    let reached = server::reachable(spool).and_then(|(path, _folder)| UnixStream::connect(path));
    match reached {
        Ok(console) => {
            let peer = getsockopt(&console, PeerCredentials).ok();
            let pid = peer.and_then(|peer| u32::try_from(peer.pid()).ok());
            // Of another container it has none here.
            Mta::Runs(pid.filter(|pid| *pid > 0))
        }
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Mta::None,
        Err(error) => Mta::Unknown(error.to_string()),
    }
}

/// The same, within a time: whoever does not answer is waited for by a thread that ends with the command.
pub(in crate::doctor) fn mta(spool: &Path) -> Mta {
    let (to_us, answer) = bounded(1);
    let spool = spool.to_owned();
    let asking = thread::Builder::new().name("mta".to_owned()).spawn(move || {
        let _ = to_us.send(mta_now(&spool));
    });
    let silent = |_| Mta::Unknown(format!("no answer within {} s", LOOKING.as_secs()));
    match asking {
        Ok(_) => answer.recv_timeout(LOOKING).unwrap_or_else(silent),
        Err(error) => Mta::Unknown(error.to_string()),
    }
}

/// What the queue stands on.
pub(super) fn ground(patient: &Patient) -> Vec<Finding> {
    let path = &patient.config.spool;
    match Ground::of(path) {
        Ok(mut ground) => {
            // Whose it should be is known by who runs there, and not by who asks, if that is root, or may not know.
            if let Some(reader) = &patient.reader {
                ground.user = reader.uid;
            } else if ground.user == 0 || patient.mta != Mta::None {
                ground.user = ground.owner;
            }
            spool::ground(Ok(Some(&ground)), path)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let mut findings = spool::ground(Ok(None), path);
            let there = path.ancestors().filter(|place| place.exists());
            let kind = there
                .map(kind_at)
                .next()
                .unwrap_or_else(|| kind_at(Path::new(".")));
            findings.extend(kind.into_iter().flat_map(spool::future));
            findings
        }
        Err(error) => spool::ground(Err(&error.to_string()), path),
    }
}

/// Whether root, where it delivers, may do that on the way to the mailboxes; of another user the system says it in its time.
pub(super) fn mailboxes(patient: &Patient) -> Vec<Finding> {
    let config = &patient.config;
    let is_root = patient.reader.as_ref().is_none_or(|reader| reader.uid == 0) && geteuid().is_root();
    if config.lmtp.is_some() || !is_root {
        return Vec::new();
    }
    let folder = common_folder(&config.mail_dir);
    vec![match Owner::look(&folder, &config.spool) {
        Ok(_) => Finding::ok("mail-dir", folder.display().to_string()),
        Err(error) => Finding::error("mail-dir", error.to_string(), "till then all local mail waits"),
    }]
}

/// What is in the queue, as far as there is time.
pub(super) fn queue(patient: &Patient) -> Vec<Finding> {
    let look = match work_queue::verify_until(&patient.config.spool, Instant::now() + LOOKING) {
        Ok((verdict, is_whole)) => Look::Seen(verdict, is_whole),
        Err(error) if error.is_missing() => Look::Nothing,
        Err(error) => Look::Unreadable(error.to_string()),
    };
    spool::queue(&look)
}
