//! Takes what lies in the maildrop into SMTP.BOX, whoever has left it there: the thread `maildrop`.
//!
//! A file is moved to where nobody else has access, under the ID that its message gets; from there it goes into the queue,
//! and then away. A crash between the two leaves a file whose ID is in the queue: the next start removes it. So no message
//! is lost, and none comes twice. Never trusts a file, and never lets one be in the way of others.

use std::cell::{Cell, RefCell};
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, DirEntry, File, Metadata, TryLockError};
use std::io::{self, ErrorKind, Read};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::folder::{self, FOLDER, KEPT, REFUSED, TAKEN, WHOLE};
use super::slip::{self, Excess, Found, Limits, Unread};
use super::telling::Telling;
use super::turns::{beyond, in_turns};
use super::undeliverable::Undeliverable;
use super::users::{Names, Who};
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

/// One look brings in no more after this long: then it is looked anew who has left mail.
const LONGEST_LOOK: Duration = Duration::from_millis(250);

/// Of what lies there no more is looked at in one look.
const MOST_FOUND: usize = 100_000;

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

/// How long the start waits for somebody who copies what lies there: that takes moments.
const PATIENCE_WITH_COPIES: Duration = Duration::from_secs(2);

/// How long it is waited at the end for a message that is being taken in: the system may be asked for a name, and be slow.
const LAST_PATIENCE: Duration = Duration::from_millis(4500);

/// Octets of a message that can not be let in, of which its sender is told.
const LONGEST_HEADER: usize = 64 * 1024;

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
    /// Closed when it ends.
    ended: Receiver<()>,
}

impl Collector {
    /// Opens the maildrop of this queue's spool, and starts to take in what lies there. `omsgcnv` rings for it.
    ///
    /// # Errors
    /// When the system refuses the thread.
    pub fn start(queue: WorkQueue, settings: Latest<Settings>, omsgcnv: Bell) -> io::Result<Collector> {
        let (wake, woken) = UnixStream::pair()?;
        let mut work = Collecting::new(queue, settings, omsgcnv, woken);
        // Whoever is told that the MTA accepts mail finds the maildrop open.
        work.open();
        // Before housekeeping can forget a message whose file is still there.
        if work.taken.exists()
            && let (_alone, Err(error)) = (work.alone(PATIENCE_WITH_COPIES), work.settle_taken())
        {
            log::warn!("what was taken from the maildrop before is not looked at yet: {error}");
        }
        let stop = Stop::default();
        let heard = stop.clone();
        let (ending, ended) = bounded(0);
        let thread = std::thread::Builder::new()
            .name("maildrop".to_owned())
            .spawn(move || {
                let _ending: Sender<()> = ending;
                work.run(&heard);
            })?;
        Ok(Collector {
            stop,
            wake,
            thread,
            ended,
        })
    }

    /// Tells it to stop, and waits for nothing.
    pub fn order_stop(&self) {
        self.stop.give();
        let _ = self.wake.shutdown(Shutdown::Both);
    }

    /// Stops it when it is through with the message in hand, or that takes too long: then the next start takes it in.
    pub fn halt(self) {
        self.order_stop();
        if self.ended.recv_timeout(LAST_PATIENCE) == Err(RecvTimeoutError::Timeout) {
            log::warn!(
                "the maildrop is left while a message is being taken in: the next start goes on with it"
            );
            return;
        }
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
    /// What the log was told of files that are no good.
    telling: RefCell<Telling>,
    /// The names of those who have left messages.
    names: RefCell<Names>,
    /// What could not be brought in is not tried again before.
    retry_at: Cell<Option<Instant>>,
    /// In this look there was no room for a content of so many octets.
    no_room_for: Cell<u64>,
}

/// What a look has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Looked {
    /// There is more to be taken.
    more: bool,
    /// All that was taken is in the queue, or was no message.
    all_well: bool,
}

/// Why a message is not in the queue.
enum Trouble {
    /// It is none.
    Refused(String),
    /// It is one that can not be let in, and there is nobody who would be told.
    Unwanted(&'static str),
    /// That can not be done now.
    Later(String),
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
            // He could do so for ever.
            Some(Errno::EAGAIN) => Trouble::Refused("its owner holds a lease on it".to_owned()),
            _ => Trouble::later(error),
        }
    }

    fn later(error: impl fmt::Display) -> Trouble {
        Trouble::Later(error.to_string())
    }
}

impl From<Unread> for Trouble {
    fn from(unread: Unread) -> Trouble {
        match unread {
            Unread::Bad(bad) => Trouble::Refused(bad.0.to_owned()),
            Unread::File(error) => Trouble::later(error),
        }
    }
}

/// What comes of a file.
struct Coming {
    arrival: Arrival,
    /// It is a report in the place of the message, which had too much of this.
    instead: Option<Excess>,
}

impl Collecting {
    /// At the maildrop of the queue's spool, which is not open yet.
    fn new(queue: WorkQueue, settings: Latest<Settings>, omsgcnv: Bell, woken: UnixStream) -> Collecting {
        let (maildrop, taken) = (queue.spool().join(FOLDER), queue.spool().join(TAKEN));
        Collecting {
            queue,
            settings,
            omsgcnv,
            maildrop,
            taken,
            woken,
            bell: None,
            is_told: false,
            telling: RefCell::default(),
            names: RefCell::default(),
            retry_at: Cell::new(None),
            no_room_for: Cell::new(u64::MAX),
        }
    }

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
            let poll = self.settings.take().poll_interval;
            match looked {
                Some(Ok(Looked { more: true, .. })) => {}
                Some(Ok(Looked { all_well: true, .. })) => self.wait(poll),
                // Those who come meanwhile need not wait for what has failed.
                Some(Ok(_)) => self.wait(poll.min(AFTER_TROUBLE)),
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
                let folder = self.maildrop.display();
                log::warn!(
                    "folder=\"{folder}\" other users can leave no mail here, and the MTA does not hear them: {error}"
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

    /// Keeps others from copying what lies here while it is moved, until what this gives is dropped; `None` if somebody
    /// copies it all that time.
    fn alone(&self, patience: Duration) -> io::Result<Option<File>> {
        let began = Instant::now();
        let folder = File::open(&self.taken)?;
        while let Err(TryLockError::WouldBlock) = folder.try_lock() {
            if began.elapsed() >= patience {
                return Ok(None);
            }
            std::thread::park_timeout(LEAST_REST);
        }
        // A file system that has no such locks has no such copies.
        Ok(Some(folder))
    }

    /// Takes in what there is, as long as one look may take.
    fn look(&self, stop: &Stop) -> Result<Looked, QueueError> {
        let began = Instant::now();
        let alone = self.alone(Duration::ZERO).map_err(|error| self.broken(error))?;
        let Some(_alone) = alone else {
            return Ok(Looked {
                more: true,
                all_well: false,
            });
        };
        self.no_room_for.set(u64::MAX);
        let mut all_well = self.retry_at.get().is_none();
        if self.retry_at.get().is_none_or(|at| at <= began) {
            // What was left of the last look, or of another run.
            let again = self.settle_taken()?;
            all_well = self.bring_all(&again, stop)?;
            self.retry_at.set(None);
        }
        let found = self.found().map_err(|error| self.no_maildrop(error))?;
        let mut batches = found.chunks(BATCH);
        for names in batches.by_ref() {
            let (taken, moved_all) = self.take(names).map_err(|error| self.no_maildrop(error))?;
            all_well &= moved_all & self.bring_all(&taken, stop)?;
            if stop.is_given() || began.elapsed() >= LONGEST_LOOK {
                break;
            }
        }
        if !all_well && self.retry_at.get().is_none() {
            self.retry_at.set(Some(Instant::now() + AFTER_TROUBLE));
        }
        if let Some(rest) = self.telling.borrow_mut().rest(Instant::now()) {
            log::warn!("{rest}");
        }
        Ok(Looked {
            more: batches.len() > 0 || found.len() >= MOST_FOUND,
            all_well,
        })
    }

    /// Brings these into the queue; whether all is done that can be.
    fn bring_all(&self, taken: &[MessageId], stop: &Stop) -> Result<bool, QueueError> {
        if taken.is_empty() {
            return Ok(true);
        }
        // A message that has left the queue, and is forgotten there, must not be found again by its file.
        self.queue.while_nothing_is_forgotten(|| {
            let mut all_well = true;
            let mut trouble = None;
            for id in taken.iter().take_while(|_| !stop.is_given()) {
                match guarded(Task::Addin, || self.bring(*id)) {
                    Some(Ok(is_done)) => all_well &= is_done,
                    Some(Err(error)) => {
                        trouble = Some(error);
                        break;
                    }
                    None => {
                        log::error!(
                            "id={id} its file meets an error in the program, and is kept in {}",
                            self.taken.display()
                        );
                        all_well &= self.put_aside(*id, KEPT);
                    }
                }
            }
            let synced = folder::sync(&self.taken).map_err(|error| self.broken(error));
            trouble.map_or(synced, Err).map(|()| all_well)
        })
    }

    fn broken(&self, error: io::Error) -> QueueError {
        QueueError::File {
            path: self.taken.clone(),
            error,
        }
    }

    fn no_maildrop(&self, error: io::Error) -> QueueError {
        QueueError::File {
            path: self.maildrop.clone(),
            error,
        }
    }

    /// Tells the log of a file of this user that is no good, unless there are very many of them.
    fn tell(&self, uid: u32, what: fmt::Arguments<'_>) {
        if self.telling.borrow_mut().may_tell(uid, Instant::now()) {
            log::warn!("{what}");
        }
    }

    /// The names of what looks like a message, in the order in which they are taken. What does not is tidied.
    fn found(&self) -> io::Result<Vec<OsString>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.maildrop)? {
            let entry = entry?;
            // Its owner has taken it back.
            let Ok(about) = entry.metadata() else { continue };
            let name = entry.file_name();
            if !name.to_string_lossy().starts_with(WHOLE) || !about.is_file() {
                self.tidy(&entry, &about);
                continue;
            }
            found.push((about.uid(), name));
            if found.len() >= MOST_FOUND {
                break;
            }
        }
        Ok(in_turns(found))
    }

    /// Moves messages to where nobody else has access, each under an ID of its own; and whether all could be moved that are
    /// there.
    fn take(&self, names: &[OsString]) -> io::Result<(Vec<MessageId>, bool)> {
        let mut taken = Vec::new();
        let mut all_well = true;
        for name in names {
            let (id, path) = (self.queue.message_id(), self.maildrop.join(name));
            match fs::rename(&path, self.place(id)) {
                Ok(()) => taken.push(id),
                // Its owner has taken it back.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => {
                    let found = fs::symlink_metadata(&path);
                    // A folder that somebody has just put in its place is no message, and there may be one behind it.
                    all_well &= found.as_ref().is_ok_and(Metadata::is_dir);
                    let uid = found.map_or(0, |found| found.uid());
                    self.tell(
                        uid,
                        format_args!("uid={uid} file={name:?} can not be taken from the maildrop: {error}"),
                    );
                }
            }
        }
        if !taken.is_empty() {
            // Before a commit tells of these IDs.
            folder::sync(&self.taken)?;
            folder::sync(&self.maildrop)?;
            reach(CrashPoint::DropTaken);
        }
        Ok((taken, all_well))
    }

    /// Removes what somebody has begun long ago, or what was never a message.
    fn tidy(&self, entry: &DirEntry, found: &Metadata) {
        let now = self.queue.moment().certain.0 / 1_000_000;
        // Nobody can choose this one.
        if now.saturating_sub(found.ctime()) < LITTER {
            return;
        }
        let path = entry.path();
        let removed = match found.is_dir() {
            true => fs::remove_dir(&path),
            false => fs::remove_file(&path),
        };
        let (uid, name) = (found.uid(), entry.file_name());
        let told = format_args!("uid={uid} file={name:?} has not become a message in a day");
        match removed {
            Ok(()) => self.tell(uid, format_args!("{told}, and is removed")),
            Err(error) => log::debug!("{told}, and can not be removed: {error}"),
        }
    }

    /// Removes what is in the queue already. What is not gets another ID, for that of before may have left traces: these
    /// are given, a batch at most.
    fn settle_taken(&self) -> Result<Vec<MessageId>, QueueError> {
        let entries = fs::read_dir(&self.taken).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut again = Vec::new();
        let (mut refused, mut changed) = (Vec::new(), false);
        for entry in entries.map_err(|error| self.broken(error))? {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.ends_with(REFUSED) {
                refused.push(entry.path());
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
        if refused.len() > MOST_REFUSED {
            let of = |path: PathBuf| (owner(&path), path);
            let gone = beyond(MOST_REFUSED, refused.into_iter().map(of));
            gone.iter().for_each(|path| remove(path));
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
    ///
    /// # Errors
    /// When the queue takes no message at all.
    fn bring(&self, id: MessageId) -> Result<bool, QueueError> {
        let path = self.place(id);
        let uid = owner(&path);
        let read = folder::open(&path)
            .map_err(Trouble::of_opening)
            .and_then(|file| self.coming(id, file));
        let trouble = match read {
            Ok(Coming { arrival, instead }) => {
                let told = format!(
                    "id={id} from=<{}> recipients={} size={} client={} uid={uid}",
                    arrival.reverse_path,
                    arrival.recipients.len(),
                    arrival.content.size(),
                    arrival.client,
                );
                let stored = self.queue.put_and_kick(arrival, vec![self.omsgcnv.clone()]);
                match (stored, instead) {
                    (Ok(()), None) => {
                        reach(CrashPoint::DropCommitted);
                        log::info!("{told} stored");
                        remove(&path);
                        return Ok(true);
                    }
                    (Ok(()), Some(excess)) => {
                        reach(CrashPoint::DropCommitted);
                        let why = excess.words();
                        self.tell(
                            uid,
                            format_args!("{told} a report to its sender is stored in its place: {why}"),
                        );
                        remove(&path);
                        return Ok(true);
                    }
                    (Err(error), _) if error.is_about_all() => return Err(error),
                    (Err(error), _) => Trouble::later(error),
                }
            }
            Err(trouble) => trouble,
        };
        Ok(match trouble {
            Trouble::Refused(why) => {
                self.tell(
                    uid,
                    format_args!("id={id} uid={uid} is no message from the maildrop, and put aside: {why}"),
                );
                self.put_aside(id, REFUSED)
            }
            Trouble::Unwanted(why) => {
                let folder = self.taken.display();
                self.tell(
                    uid,
                    format_args!("id={id} uid={uid} is kept in {folder}, for nobody is to be told: {why}"),
                );
                self.put_aside(id, KEPT)
            }
            Trouble::Later(why) => {
                self.tell(
                    uid,
                    format_args!("id={id} uid={uid} is tried again, from its file: {why}"),
                );
                false
            }
        })
    }

    /// Gives a file a name under which it is not taken in; whether that could be done.
    fn put_aside(&self, id: MessageId, ending: &str) -> bool {
        let path = self.place(id);
        // An empty folder is of no use to anybody.
        if fs::remove_dir(&path).is_ok() {
            return true;
        }
        let aside = fs::rename(&path, self.taken.join(format!("{id}{ending}")));
        if let Err(error) = &aside {
            log::warn!("id={id} can not be put aside: {error}");
        }
        aside.is_ok()
    }

    /// What lies in a file, as it comes into the queue.
    fn coming(&self, id: MessageId, mut file: File) -> Result<Coming, Trouble> {
        let refused = |why: &str| Trouble::Refused(why.to_owned());
        let found = file.metadata().map_err(Trouble::later)?;
        let folder = fs::metadata(&self.maildrop).map_err(Trouble::later)?;
        if let Some(fault) = folder::fault(&found, &folder) {
            return Err(refused(fault));
        }
        let settings = self.settings.take();
        let limits = Limits {
            size: settings.max_message_size,
            recipients: settings.max_recipients,
        };
        let Found { slip, size, excess } = slip::of(&file, limits)?;
        let who = self.names.borrow_mut().of(found.uid());
        if let Some(excess) = excess {
            let mut begin = vec![
                0;
                size.min(LONGEST_HEADER as u64)
                    .try_into()
                    .unwrap_or(LONGEST_HEADER)
            ];
            file.read_exact_at(&mut begin, 0)
                .map_err(|error| Trouble::from(Unread::from(error)))?;
            let undeliverable = Undeliverable {
                id,
                slip: &slip,
                excess,
                begin: &begin,
                hostname: &settings.hostname,
                date: &self.queue.arrival(id).to_rfc5322(),
            };
            let report = undeliverable.report().ok_or(Trouble::Unwanted(excess.words()))?;
            return Ok(Coming {
                arrival: Arrival {
                    client: who.name,
                    helo: format!("uid {}", who.uid),
                    ..report
                },
                instead: Some(excess),
            });
        }
        if size >= self.no_room_for.get() {
            return Err(Trouble::Later("there is no room for it".to_owned()));
        }
        let mut writer = self.queue.content_writer(id);
        let head = self.head(id, &who, &settings, slip.wants_message_id);
        self.wrote(size, writer.write(head.as_bytes()))?;
        let mut left = size;
        let mut is_first = true;
        let mut buffer = vec![0; 64 * 1024];
        while left > 0 {
            let most = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            let octets = match file.read(&mut buffer[..most]) {
                Ok(0) => return Err(refused("it has become shorter")),
                Ok(octets) => octets,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Trouble::later(error)),
            };
            left -= octets as u64;
            // RFC 5322 3.5: a message has no NUL. Whoever takes one away later could make an end of what is none.
            let parts = buffer[..octets].split(|octet| *octet == 0);
            for part in parts.filter(|part| !part.is_empty()) {
                if is_first && matches!(part[0], b' ' | b'\t') {
                    // It would be more of our Received line: there is no header, and here the body begins.
                    self.wrote(size, writer.write(b"\r\n"))?;
                }
                is_first = false;
                self.wrote(size, writer.write(part))?;
            }
        }
        let content = self.wrote(size, writer.finish())?;
        let mut addresses = slip.to.iter().map(|to| &to.path).chain(&slip.from.0);
        let utf8 = addresses.any(Mailbox::needs_utf8);
        let arrival = Arrival {
            client: who.name,
            helo: format!("uid {}", who.uid),
            envelope_id: slip.envelope_id,
            ret: slip.ret,
            body: slip.body,
            utf8,
            ..Arrival::new(id, Origin::Local, slip.from, slip.to, content)
        };
        Ok(Coming {
            arrival,
            instead: None,
        })
    }

    /// What came of writing a content of this size. Others may be smaller, and find room.
    fn wrote<T>(&self, size: u64, written: Result<T, QueueError>) -> Result<T, Trouble> {
        written.map_err(|error| {
            if error.is_out_of_space() {
                self.no_room_for.set(size);
            }
            Trouble::later(error)
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
    let Err(error) = fs::remove_file(path) else { return };
    if error.kind() == ErrorKind::NotFound || fs::remove_dir(path).is_ok() {
        return;
    }
    let file = path.file_name().unwrap_or_default();
    match path.is_dir() {
        // Somebody else's, who may go on filling it.
        true => log::debug!("file={file:?} can not be removed: {error}"),
        false => log::warn!("file={file:?} can not be removed: {error}"),
    }
}

/// Whose a file is that is where nobody else has access.
fn owner(path: &Path) -> u32 {
    fs::symlink_metadata(path).map_or(0, |found| found.uid())
}

#[cfg(test)]
mod tests;
