//! Takes what lies in the maildrop into SMTP.BOX, whoever has left it there: the thread `maildrop`.
//!
//! A file is moved to where nobody else has access, under the ID that its message gets; from there it goes into the queue,
//! and then away. A crash between the two leaves a file whose ID is in the queue: the next start removes it. So no message
//! is lost, and none comes twice. Never trusts a file, and never lets one be in the way of others.

use std::fs::{self, DirEntry, File};
use std::io::{self, ErrorKind, Read};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Uid, User};

use super::folder::{self, FOLDER, REFUSED, TAKEN, WHOLE};
use super::slip;
use crate::config::Config;
use crate::crash_point::{CrashPoint, reach};
use crate::latest::Latest;
use crate::smtp::path::Mailbox;
use crate::tasks::bell::{Bell, Stop};
use crate::tasks::{Task, guarded};
use crate::work_queue::id::MessageId;
use crate::work_queue::{Arrival, Origin, QueueError, WorkQueue};

/// Messages that are taken at once.
const BATCH: usize = 100;

/// What was put aside is kept, but no more of it than this: it is no mail, and anybody can make it.
const MOST_REFUSED: usize = 100;

/// Whatever is in the maildrop for so many seconds and is no message never becomes one.
const LITTER: i64 = 24 * 3600;

/// How soon it is looked again after something has failed.
const AFTER_TROUBLE: Duration = Duration::from_secs(5);

/// Between two looks others have the processor for so many times as long as the first one took, and for this long at least:
/// who rings without an end shall not keep us busy.
const REST: u32 = 2;
/// See [`REST`].
const LEAST_REST: Duration = Duration::from_millis(5);

/// Rings that are heard at once.
const RINGS: usize = 64;

/// What it goes by, until a refresh.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `--hostname`.
    pub hostname: String,
    /// `--max-message-size`, octets.
    pub max_message_size: u64,
    /// `--max-recipients`.
    pub max_recipients: usize,
    /// `--poll-interval`: how often it looks without having been rung for.
    pub poll_interval: Duration,
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Settings {
        Settings {
            hostname: config.hostname.clone(),
            max_message_size: config.max_message_size,
            max_recipients: config.max_recipients,
            poll_interval: config.poll_interval,
        }
    }
}

/// The thread, as long as it runs.
#[derive(Debug)]
pub struct Collector {
    stop: Stop,
    /// Shut down to wake it.
    wake: UnixStream,
    thread: JoinHandle<()>,
}

impl Collector {
    /// Opens the maildrop of this queue's spool, and starts to take in what lies there. `omsgcnv` rings for it.
    ///
    /// # Errors
    /// When the system refuses the thread.
    pub fn start(queue: WorkQueue, settings: Latest<Settings>, omsgcnv: Bell) -> io::Result<Collector> {
        let (wake, woken) = UnixStream::pair()?;
        let (maildrop, taken) = (queue.spool().join(FOLDER), queue.spool().join(TAKEN));
        let mut work = Collecting {
            queue,
            settings,
            omsgcnv,
            maildrop,
            taken,
            woken,
            bell: None,
            is_told: false,
        };
        // Whoever is told that the MTA accepts mail finds the maildrop open.
        work.open();
        // Before housekeeping can forget a message whose file is still there.
        if work.taken.exists()
            && let Err(error) = work.settle_taken()
        {
            log::warn!("what was taken from the maildrop before is not looked at yet: {error}");
        }
        let stop = Stop::default();
        let heard = stop.clone();
        let thread = std::thread::Builder::new()
            .name("maildrop".to_owned())
            .spawn(move || work.run(&heard))?;
        Ok(Collector { stop, wake, thread })
    }

    /// Tells it to stop, and waits for nothing.
    pub fn order_stop(&self) {
        self.stop.give();
        let _ = self.wake.shutdown(Shutdown::Both);
    }

    /// Stops it when it is through with the message in hand.
    pub fn halt(self) {
        self.order_stop();
        // A panic has been logged.
        let _ = self.thread.join();
    }
}

/// What the thread works with.
struct Collecting {
    queue: WorkQueue,
    settings: Latest<Settings>,
    omsgcnv: Bell,
    maildrop: PathBuf,
    taken: PathBuf,
    woken: UnixStream,
    bell: Option<UnixDatagram>,
    /// It was said that the maildrop is not open.
    is_told: bool,
}

/// Why a message is not in the queue.
enum Trouble {
    /// It is none.
    Refused(String),
    /// Its file can not be read now.
    File(io::Error),
    /// The queue did not take it.
    Queue(QueueError),
}

impl Trouble {
    /// A file was there when it was taken, and can not be opened.
    fn of_opening(error: io::Error) -> Trouble {
        let code = error.raw_os_error().map(Errno::from_raw);
        match code {
            Some(Errno::ELOOP | Errno::ENXIO) => Trouble::Refused("it is no regular file".to_owned()),
            Some(Errno::EACCES | Errno::EPERM) => {
                Trouble::Refused("its owner lets nobody read it".to_owned())
            }
            _ => Trouble::File(error),
        }
    }
}

impl From<QueueError> for Trouble {
    fn from(error: QueueError) -> Trouble {
        Trouble::Queue(error)
    }
}

/// The user who left a message.
struct Who {
    uid: u32,
    name: String,
}

impl Who {
    /// The owner of a file. One whose name the system does not know, or who has a strange one, is known by number.
    fn of(uid: u32) -> Who {
        let known = User::from_uid(Uid::from_raw(uid)).ok().flatten();
        let name = known.map(|user| user.name).filter(|name| is_name(name));
        Who {
            uid,
            name: name.unwrap_or_else(|| uid.to_string()),
        }
    }
}

/// Whether it can stand in a Received line and in the log.
fn is_name(name: &str) -> bool {
    let fits = |octet: u8| octet.is_ascii_alphanumeric() || b"._-".contains(&octet);
    !name.is_empty() && name.len() <= 64 && name.bytes().all(fits)
}

impl Collecting {
    /// Works until it is told to stop.
    fn run(mut self, stop: &Stop) {
        while !stop.is_given() {
            self.open();
            if !self.taken.exists() {
                self.wait_long(stop);
                continue;
            }
            let began = Instant::now();
            let looked = guarded(Task::Addin, || self.look(stop));
            let took = began.elapsed();
            let _ = stop.heard().recv_timeout((took * REST).max(LEAST_REST));
            match looked {
                Some(Ok(true)) => {}
                Some(Ok(false)) => self.wait(self.settings.take().poll_interval),
                Some(Err(error)) => {
                    log::warn!("what lies in the maildrop is not taken in yet: {error}");
                    self.wait_long(stop);
                }
                None => self.wait_long(stop),
            }
        }
        folder::take_bell_down(self.queue.spool());
    }

    /// Opens the maildrop, unless that is done.
    fn open(&mut self) {
        if self.bell.is_some() {
            return;
        }
        let spool = self.queue.spool();
        match folder::open_to_all(spool).and_then(|()| folder::hang_bell(spool)) {
            Ok(bell) => self.bell = Some(bell),
            Err(error) if !self.is_told => {
                self.is_told = true;
                log::warn!(
                    "{}: other users can leave no mail here, and the MTA does not hear them: {error}",
                    self.maildrop.display()
                );
            }
            Err(_) => {}
        }
    }

    /// Waits until somebody rings, or for the order to stop.
    fn wait(&self, pause: Duration) {
        let bell = self.bell.as_ref().map(AsFd::as_fd);
        let mut fds: Vec<PollFd<'_>> = bell
            .into_iter()
            .chain([self.woken.as_fd()])
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        if poll(&mut fds, PollTimeout::try_from(pause).unwrap_or(PollTimeout::MAX)).is_err() {
            // It will be another time.
            std::thread::park_timeout(LEAST_REST);
        }
        if let Some(bell) = &self.bell {
            // What was rung for by now is found by the look that follows.
            let _ = (0..RINGS).try_for_each(|_| bell.recv(&mut [0; 8]).map(drop));
        }
    }

    /// Waits before what failed is tried again. Whoever rings does not make it succeed.
    fn wait_long(&self, stop: &Stop) {
        let _ = stop.heard().recv_timeout(AFTER_TROUBLE);
    }

    /// Takes in what there is, a batch at most; whether there may be more.
    fn look(&self, stop: &Stop) -> Result<bool, QueueError> {
        // What was left of the last look, or of another run.
        let again = self.settle_taken()?;
        let mut all_well = self.bring_all(&again, stop)?;
        let taken = self.take().map_err(|error| QueueError::File {
            path: self.maildrop.clone(),
            error,
        })?;
        all_well &= self.bring_all(&taken, stop)?;
        Ok(all_well && taken.len() >= BATCH)
    }

    /// Brings these into the queue; whether all is done that can be.
    fn bring_all(&self, taken: &[MessageId], stop: &Stop) -> Result<bool, QueueError> {
        let mut all_well = true;
        for id in taken.iter().take_while(|_| !stop.is_given()) {
            all_well &= self.bring(*id)?;
        }
        if !taken.is_empty() {
            // So that a message which has left the queue, and is forgotten there, is not found again.
            folder::sync(&self.taken).map_err(|error| self.broken(error))?;
        }
        Ok(all_well)
    }

    fn broken(&self, error: io::Error) -> QueueError {
        QueueError::File {
            path: self.taken.clone(),
            error,
        }
    }

    /// Moves messages to where nobody else has access, each under an ID of its own.
    fn take(&self) -> io::Result<Vec<MessageId>> {
        let mut taken = Vec::new();
        for entry in fs::read_dir(&self.maildrop)? {
            let entry = entry?;
            if !entry.file_name().to_string_lossy().starts_with(WHOLE) || !entry.file_type()?.is_file() {
                self.tidy(&entry);
                continue;
            }
            let id = self.queue.message_id();
            match fs::rename(entry.path(), self.place(id)) {
                Ok(()) => taken.push(id),
                // Its owner has taken it back.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            if taken.len() >= BATCH {
                break;
            }
        }
        if !taken.is_empty() {
            // Before a commit tells of these IDs.
            folder::sync(&self.taken)?;
            folder::sync(&self.maildrop)?;
            reach(CrashPoint::DropTaken);
        }
        Ok(taken)
    }

    /// Removes what somebody has begun long ago, or what was never a message.
    fn tidy(&self, entry: &DirEntry) {
        let Ok(found) = entry.metadata() else { return };
        let now = self.queue.moment().certain.0 / 1_000_000;
        if now.saturating_sub(found.mtime()) < LITTER {
            return;
        }
        let path = entry.path();
        let removed = match found.is_dir() {
            true => fs::remove_dir(&path),
            false => fs::remove_file(&path),
        };
        match removed {
            Ok(()) => log::warn!(
                "{:?} by user {} has not become a message in a day, and is removed",
                path.display().to_string(),
                found.uid()
            ),
            Err(error) => log::debug!("{:?}: {error}", path.display().to_string()),
        }
    }

    /// Removes what is in the queue already. What is not gets another ID, for that of before may have left traces: these
    /// are given, a batch at most.
    fn settle_taken(&self) -> Result<Vec<MessageId>, QueueError> {
        let entries = fs::read_dir(&self.taken).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut again = Vec::new();
        let (mut refused, mut changed) = (0, false);
        for entry in entries.map_err(|error| self.broken(error))? {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.ends_with(REFUSED) {
                refused += 1;
                if refused > MOST_REFUSED {
                    remove(&entry.path());
                }
                continue;
            }
            let Ok(id) = name.parse::<MessageId>() else {
                continue;
            };
            if self.queue.holds(id)? {
                remove(&entry.path());
                changed = true;
            } else if again.len() < BATCH {
                let fresh = self.queue.message_id();
                fs::rename(entry.path(), self.place(fresh)).map_err(|error| self.broken(error))?;
                again.push(fresh);
                changed = true;
            }
        }
        if changed {
            folder::sync(&self.taken).map_err(|error| self.broken(error))?;
        }
        Ok(again)
    }

    fn place(&self, id: MessageId) -> PathBuf {
        self.taken.join(id.to_string())
    }

    /// Brings a message into the queue; whether all is done that can be.
    fn bring(&self, id: MessageId) -> Result<bool, QueueError> {
        let path = self.place(id);
        let read = folder::open(&path)
            .map_err(Trouble::of_opening)
            .and_then(|file| self.arrival(id, file));
        match read {
            Ok(arrival) => {
                let told = format!(
                    "id={id} from=<{}> to={} size={} client={} {}",
                    arrival.reverse_path,
                    arrival.recipients.len(),
                    arrival.content.size(),
                    arrival.client,
                    arrival.helo,
                );
                self.queue.put_and_kick(arrival, vec![self.omsgcnv.clone()])?;
                reach(CrashPoint::DropCommitted);
                log::info!("{told} stored");
                remove(&path);
                Ok(true)
            }
            Err(Trouble::Refused(why)) => {
                log::warn!(
                    "{} is no message from the maildrop, and put aside: {why}",
                    path.display()
                );
                let aside = self.taken.join(format!("{id}{REFUSED}"));
                if let Err(error) = fs::rename(&path, &aside) {
                    log::warn!("{}: {error}", path.display());
                    return Ok(false);
                }
                Ok(true)
            }
            Err(Trouble::File(error)) => {
                log::warn!("{}: {error}; it is tried again", path.display());
                Ok(false)
            }
            Err(Trouble::Queue(error)) => Err(error),
        }
    }

    /// What lies in a file, as it comes into the queue.
    fn arrival(&self, id: MessageId, mut file: File) -> Result<Arrival, Trouble> {
        let refused = |why: &str| Trouble::Refused(why.to_owned());
        let found = file.metadata().map_err(Trouble::File)?;
        if !found.is_file() {
            return Err(refused("it is no regular file"));
        }
        if found.nlink() != 1 {
            return Err(refused("it has another name, too"));
        }
        let settings = self.settings.take();
        let longest = slip::longest(settings.max_recipients);
        let (slip, size) =
            slip::of(&file, settings.max_message_size, longest).map_err(|bad| refused(bad.0))?;
        if slip.to.len() > settings.max_recipients {
            return Err(refused("it has more recipients than --max-recipients"));
        }
        let who = Who::of(found.uid());
        let mut writer = self.queue.content_writer(id);
        writer.write(self.head(id, &who, &settings, slip.wants_message_id).as_bytes())?;
        let mut left = size;
        let mut is_first = true;
        let mut buffer = vec![0; 64 * 1024];
        while left > 0 {
            let most = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            let octets = match file.read(&mut buffer[..most]) {
                Ok(0) => return Err(refused("it has become shorter")),
                Ok(octets) => octets,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Trouble::File(error)),
            };
            left -= octets as u64;
            // RFC 5322 3.5: a message has no NUL. Whoever takes one away later could make an end of what is none.
            let parts = buffer[..octets].split(|octet| *octet == 0);
            for part in parts.filter(|part| !part.is_empty()) {
                if is_first && matches!(part[0], b' ' | b'\t') {
                    // It would be more of our Received line: there is no header, and here the body begins.
                    writer.write(b"\r\n")?;
                }
                is_first = false;
                writer.write(part)?;
            }
        }
        let content = writer.finish()?;
        let mut addresses = slip.to.iter().map(|to| &to.path).chain(&slip.from.0);
        let utf8 = addresses.any(Mailbox::needs_utf8);
        Ok(Arrival {
            client: who.name,
            helo: format!("uid {}", who.uid),
            envelope_id: slip.envelope_id,
            ret: slip.ret,
            body: slip.body,
            utf8,
            ..Arrival::new(id, Origin::Local, slip.from, slip.to, content)
        })
    }

    /// What we put on top: who has brought it, and its Message-ID if it has none.
    fn head(&self, id: MessageId, who: &Who, settings: &Settings, wants_message_id: bool) -> String {
        let Settings { hostname, .. } = settings;
        let mut head = format!(
            "Received: from {} (uid {})\r\n\tby {hostname} (smtpmta {}) with local id {id};\r\n\t{}\r\n",
            who.name,
            who.uid,
            env!("CARGO_PKG_VERSION"),
            self.queue.arrival(id).to_rfc5322(),
        );
        if wants_message_id {
            head += &format!("Message-ID: <{id}@{hostname}>\r\n");
        }
        head
    }
}

/// Removes a file. One that stays is found by the next look.
fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != ErrorKind::NotFound
    {
        log::warn!("{}: {error}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::Arc;

    use super::super::{Draft, Slip};
    use super::*;
    use crate::clock::Clock;

    /// A queue, and what brings mail into it, without its thread.
    fn collecting(folder: &Path) -> Collecting {
        let queue = WorkQueue::open(folder, Clock::System).unwrap();
        let (_, woken) = UnixStream::pair().unwrap();
        let settings = Settings {
            hostname: "mta.test".to_owned(),
            max_message_size: 100_000,
            max_recipients: 2,
            poll_interval: Duration::from_secs(30),
        };
        let mut work = Collecting {
            maildrop: folder.join(FOLDER),
            taken: folder.join(TAKEN),
            queue,
            settings: Latest::new(Arc::new(settings)),
            omsgcnv: Bell::default(),
            woken,
            bell: None,
            is_told: false,
        };
        work.open();
        work
    }

    fn slip(text: &str) -> Slip {
        Slip::parse(&format!("smtpmta maildrop 1\nfrom <bob@mta.test>\n{text}")).unwrap()
    }

    fn leave(spool: &Path, content: &str, text: &str) {
        let mut draft = Draft::begin(spool).unwrap();
        draft.write(content.as_bytes()).unwrap();
        draft.leave(&slip(text)).unwrap();
    }

    fn look(work: &Collecting) -> bool {
        work.look(&Stop::default()).unwrap()
    }

    /// The content of all that is in SMTP.BOX.
    fn contents(work: &Collecting) -> Vec<String> {
        let waiting = work.queue.waiting_in_box(work.queue.now(), 100).unwrap();
        let content = |id| {
            let mut text = String::new();
            let mut reader = work.queue.content(id).unwrap();
            reader.read_to_string(&mut text).unwrap();
            text
        };
        waiting.iter().map(|message| content(message.id)).collect()
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn what_lies_there_comes_into_smtp_box_with_who_left_it_on_top() {
        let spool = tempfile::tempdir().unwrap();
        let work = collecting(spool.path());
        leave(
            spool.path(),
            "Subject: a\n\nb\0c\n",
            "message-id\nto <amy@mta.test>\n",
        );
        look(&work);
        let contents = contents(&work);
        let who = Who::of(fs::metadata(spool.path()).unwrap().uid());
        let begin = format!(
            "Received: from {} (uid {})\r\n\tby mta.test (smtpmta ",
            who.name, who.uid
        );
        assert!(contents[0].starts_with(&begin), "{contents:?}");
        assert!(contents[0].contains("\r\nMessage-ID: <0"), "{contents:?}");
        assert!(
            contents[0].ends_with("@mta.test>\r\nSubject: a\n\nbc\n"),
            "{contents:?}"
        );
        assert!(names(&work.maildrop).is_empty() && names(&work.taken).is_empty());
    }

    #[test]
    fn a_content_never_goes_on_with_what_we_put_on_top() {
        let spool = tempfile::tempdir().unwrap();
        let work = collecting(spool.path());
        for content in [" folded\n", "\0\tfolded\n"] {
            leave(spool.path(), content, "to <amy@mta.test>\n");
        }
        look(&work);
        let contents = contents(&work);
        assert_eq!(contents.len(), 2);
        for content in contents {
            assert!(content.ends_with("\r\n\r\n folded\n") || content.ends_with("\r\n\r\n\tfolded\n"));
        }
    }

    #[test]
    fn what_is_in_the_queue_already_is_not_taken_in_again() {
        let spool = tempfile::tempdir().unwrap();
        let work = collecting(spool.path());
        leave(spool.path(), "one\n", "to <amy@mta.test>\n");
        let taken = work.take().unwrap();
        let kept = spool.path().join("kept");
        fs::copy(work.place(taken[0]), &kept).unwrap();
        assert!(work.bring(taken[0]).unwrap());
        // The crash came before it was removed.
        fs::copy(&kept, work.place(taken[0])).unwrap();
        assert!(!look(&work));
        assert_eq!(contents(&work).len(), 1);
        assert!(names(&work.taken).is_empty());
        // It came before the commit.
        leave(spool.path(), "two\n", "to <amy@mta.test>\n");
        work.take().unwrap();
        look(&work);
        assert_eq!(contents(&work).len(), 2);
        assert!(names(&work.taken).is_empty());
    }

    #[test]
    fn what_is_no_message_is_put_aside_and_stops_nobody() {
        let spool = tempfile::tempdir().unwrap();
        let work = collecting(spool.path());
        let place = |name: &str| work.maildrop.join(format!("{WHOLE}{name}"));
        fs::write(place("0"), "garbage").unwrap();
        fs::write(place("1"), "").unwrap();
        symlink("/etc/passwd", place("2")).unwrap();
        fs::create_dir(place("3")).unwrap();
        leave(spool.path(), "linked\n", "to <amy@mta.test>\n");
        let linked = names(&work.maildrop)
            .into_iter()
            .find(|name| name.len() > 10)
            .unwrap();
        fs::hard_link(work.maildrop.join(linked), spool.path().join("other name")).unwrap();
        leave(spool.path(), &"x".repeat(100_001), "to <amy@mta.test>\n");
        leave(spool.path(), "many\n", &"to <amy@mta.test>\n".repeat(3));
        leave(spool.path(), "good\n", "to <amy@mta.test>\n");
        look(&work);
        let contents = contents(&work);
        assert_eq!(contents.len(), 1);
        assert!(contents[0].ends_with("\r\ngood\n"), "{contents:?}");
        let aside = names(&work.taken);
        assert!(aside.iter().all(|name| name.ends_with(REFUSED)), "{aside:?}");
        assert_eq!(aside.len(), 5, "{aside:?}");
        assert_eq!(
            names(&work.maildrop).len(),
            2,
            "a link and a folder are never moved"
        );
    }

    #[test]
    fn only_so_much_is_kept_aside() {
        let spool = tempfile::tempdir().unwrap();
        let work = collecting(spool.path());
        for number in 0..MOST_REFUSED + 20 {
            fs::write(work.maildrop.join(format!("{WHOLE}{number}")), "garbage").unwrap();
        }
        while look(&work) {}
        look(&work);
        assert_eq!(names(&work.taken).len(), MOST_REFUSED);
    }

    #[test]
    fn what_does_not_become_a_message_is_removed_after_a_day() {
        let spool = tempfile::tempdir().unwrap();
        let work = collecting(spool.path());
        let draft = Draft::begin(spool.path()).unwrap();
        let old = work.maildrop.join("new-old");
        fs::create_dir(work.maildrop.join("old")).unwrap();
        let file = File::create(&old).unwrap();
        let long_ago = std::time::UNIX_EPOCH + Duration::from_secs(1);
        file.set_modified(long_ago).unwrap();
        File::open(work.maildrop.join("old"))
            .unwrap()
            .set_modified(long_ago)
            .unwrap();
        look(&work);
        let left = names(&work.maildrop);
        assert!(left.len() == 1 && left[0] != "new-old", "{left:?}");
        drop(draft);
    }
}
