//! Crash points: moments before and after every commit and every reply that matters, at which a test lets the process
//! die as if by `kill -9`; and of each what has happened by then, and what has not.
//!
//! There are none in a release: [`reach`] is empty there, and nothing asks the environment. Never changes what a room
//! does: the process goes on, or is gone.

/// The environment variable that arms one of them: `accept-committed:3` lets the process die when it comes there for
/// the third time, and `accept-committed` when it does for the first.
pub const VARIABLE: &str = "SMTPMTA_CRASH_AT";

/// The points, each with its name and what is told of it, here and to whoever reads the table of crashes.
macro_rules! crash_points {
    ($($(#[doc = $told:literal])+ $point:ident = $name:literal,)+) => {
        /// A moment at which it matters what is on the disk.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum CrashPoint {
            $($(#[doc = $told])+ $point,)+
        }

        impl CrashPoint {
            /// All of them, in the order in which a message meets them.
            pub const ALL: &[CrashPoint] = &[$(CrashPoint::$point,)+];

            /// Its name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(CrashPoint::$point => $name,)+
                }
            }

            /// What has happened by then, and what has not.
            #[must_use]
            pub fn told(self) -> &'static str {
                match self {
                    $(CrashPoint::$point => concat!($($told),+).trim_start(),)+
                }
            }
        }
    };
}

crash_points! {
    /// At a start: all of the schema, or of its upgrade, is written in the open transaction.
    SchemaWritten = "schema-written",
    /// At a start: the commit of the schema has returned; what a crash left is as it was.
    SchemaCommitted = "schema-committed",
    /// At a start: that the database is in use, and the counters anew, is written in the open transaction.
    OpeningWritten = "opening-written",
    /// At a start: the commit of that has returned; what a crash left is as it was, but for the counters.
    OpeningCommitted = "opening-committed",
    /// At a start: every list that was in hand is taken apart in the open transaction.
    RecoveryWritten = "recovery-written",
    /// At a start: the commit of that has returned; no task has been started.
    RecoveryCommitted = "recovery-committed",

    /// All of a large content is in its file; the file is not synced, and no row names it.
    ContentWritten = "content-written",
    /// The file of a large content and its folder are synced; no row names it.
    ContentSynced = "content-synced",
    /// The rows of a message are written in the open transaction; its client has heard nothing.
    AcceptWritten = "accept-written",
    /// The commit of a message has returned; its client has heard nothing.
    AcceptCommitted = "accept-committed",
    /// The 250 of a message has been written to its client.
    AcceptReplied = "accept-replied",
    /// Messages that were left in the maildrop are where nobody else has access; no row names them.
    DropTaken = "drop-taken",
    /// The commit of a message from the maildrop has returned; its file is still there.
    DropCommitted = "drop-committed",

    /// The end of an alias and those that it stands for are written in the open transaction.
    ExpansionWritten = "expansion-written",
    /// A letter is whole in the `tmp` of its Maildir, and not synced.
    LetterWritten = "letter-written",
    /// A letter is in the `new` of its Maildir; the folder is not synced, and the queue knows nothing of it.
    LetterMoved = "letter-moved",
    /// The move of a message on to SMTP.BOX is written in the open transaction.
    PassOnWritten = "pass-on-written",
    /// All that imsgcnv did with some messages is written in the open transaction; their letters are in the Maildirs.
    ConversionWritten = "conversion-written",
    /// The commit of what imsgcnv did has returned; drt has not been rung.
    ConversionCommitted = "conversion-committed",
    /// The next hops of some messages are written in the open transaction.
    RouteWritten = "route-written",
    /// The commit of the next hops has returned.
    RouteCommitted = "route-committed",

    /// A list is written in the open transaction.
    ListWritten = "list-written",
    /// The commit of some lists has returned; no handler has been given one.
    ListCommitted = "list-committed",
    /// A list that waited is locked in the open transaction.
    LockWritten = "lock-written",
    /// The commit that locks a list has returned; its handler does not have it yet.
    LockCommitted = "lock-committed",
    /// A handler has read its list, and has sent nothing of it.
    ListInHand = "list-in-hand",
    /// A peer may have all of a content but its end: the final dot, or the last octets of the chunk.
    ContentEndless = "content-endless",
    /// A peer has been sent all of a content, and its answer has not been read.
    ContentSent = "content-sent",
    /// It is known what became of a message at a peer; nothing of that has been given to the writer.
    OutcomeHeard = "outcome-heard",
    /// What a peer answered for a message is written in the open transaction.
    OutcomeWritten = "outcome-written",
    /// The commit of what a peer answered has returned; drt has not been rung.
    OutcomeCommitted = "outcome-committed",
    /// The end of a list is written in the open transaction.
    ListEndWritten = "list-end-written",
    /// The commit of the end of a list has returned.
    ListEndCommitted = "list-end-committed",
    /// The back-off of a next hop is written in the open transaction.
    BackOffWritten = "back-off-written",
    /// The commit of a back-off has returned; lists that wait for the next hop have not been called off.
    BackOffCommitted = "back-off-committed",

    /// Some reports, and what ends with them, are written in the open transaction.
    ReportWritten = "report-written",
    /// The commit of some bounces, and of the ends that they tell of, has returned; omsgcnv has not been rung.
    BounceCommitted = "bounce-committed",
    /// The commit of some success notices has returned; omsgcnv has not been rung.
    SuccessCommitted = "success-committed",
    /// The commit of some delay notices has returned; omsgcnv has not been rung.
    DelayCommitted = "delay-committed",
    /// A recipient whose time is over is given up in the open transaction.
    ExpiryWritten = "expiry-written",
    /// The commit of what was given up for its time has returned; no sender has been told.
    ExpiryCommitted = "expiry-committed",

    /// A next hop that backs off is let go by an operator in the open transaction.
    HopReleaseWritten = "hop-release-written",
    /// The commit of that has returned; nothing that waits for the next hop has been made due.
    HopReleaseCommitted = "hop-release-committed",
    /// Some of what waits is due by an operator's word, in the open transaction.
    RetryWritten = "retry-written",
    /// The commit of that has returned; the operator has heard nothing, and osesctl has not been rung.
    RetryCommitted = "retry-committed",
    /// An operator has messages held, released, removed or brought back in the open transaction.
    ByHandWritten = "by-hand-written",
    /// The commit of that has returned; the operator has heard nothing, and no task has been rung.
    ByHandCommitted = "by-hand-committed",
    /// What is exported is put aside, and no more is; there is no file.
    ExportSealed = "export-sealed",
    /// In the command: the file of an export is whole and on the disk; it does not have its name.
    ExportWritten = "export-written",
    /// In the command: the file of an export has its name, and that is on the disk; nothing of it has ended.
    ExportNamed = "export-named",
    /// Some of what was exported ends in the open transaction.
    ExportEndWritten = "export-end-written",
    /// The commit of that has returned; the others have not ended.
    ExportEndCommitted = "export-end-committed",
    /// In the command: the spool has a copy of an export, and has read nothing of it.
    ImportStaged = "import-staged",
    /// Some messages of an export are brought in, in the open transaction.
    ImportWritten = "import-written",
    /// The commit of that has returned; no task has been rung.
    ImportCommitted = "import-committed",
    /// That all of an export is here has been committed; nobody has been told.
    ImportEnded = "import-ended",

    /// The clock was set back: some of what waits is made due earlier in the open transaction.
    SetbackWritten = "setback-written",
    /// The commit of that has returned; the rest waits for as long as the clock was set back.
    SetbackCommitted = "setback-committed",
    /// All that waits is due earlier; that the clock is made up for is written in the open transaction.
    MadeUpWritten = "made-up-written",
    /// The commit of that has returned; no task has been rung.
    MadeUpCommitted = "made-up-committed",

    /// A message whose rows are damaged is held in the open transaction.
    HoldWritten = "hold-written",
    /// The commit that holds damaged messages has returned.
    HoldCommitted = "hold-committed",
    /// What a handler has in hand, and can not read, is held in the open transaction.
    ListedHoldWritten = "listed-hold-written",
    /// The commit of that has returned; the list goes on without it.
    ListedHoldCommitted = "listed-hold-committed",
    /// What was wrong with a message, or a next hop, is put right or put aside in the open transaction.
    MendingWritten = "mending-written",
    /// The commit of that has returned; nobody has been told.
    MendingCommitted = "mending-committed",

    /// A message has left the queue, by a commit; its content file is about to be removed.
    FileDiscarded = "file-discarded",
    /// A message that left long ago is half forgotten in the open transaction.
    ForgettingWritten = "forgetting-written",
    /// The commit that forgets some messages has returned.
    ForgettingCommitted = "forgetting-committed",
    /// Some next hops for which nothing waits are forgotten in the open transaction.
    HopForgettingWritten = "hop-forgetting-written",
    /// The commit of that has returned; nothing has been mended or swept up.
    HopForgettingCommitted = "hop-forgetting-committed",
    /// A content file that belongs to nobody has been found, and not removed.
    OrphanFound = "orphan-found",
    /// Some pages are given back in the open transaction.
    CompactionWritten = "compaction-written",
    /// The database has been compacted; the write-ahead log is not copied home.
    LogUncut = "log-uncut",

    /// The writer has done a group of work, of whatever kind, and has not begun to commit it.
    GroupWritten = "group-written",
    /// The commit of a group has returned; nobody has been answered or rung.
    GroupCommitted = "group-committed",
    /// Told to stop: all tasks and sessions have ended; the database is not closed.
    TasksStopped = "tasks-stopped",
    /// Told to stop: that the database is closed, and the last counters, are written in the open transaction.
    ClosingWritten = "closing-written",
    /// Told to stop: the commit of that has returned; the write-ahead log is not copied home.
    ClosingCommitted = "closing-committed",
}

/// The process has come to this point. It goes on, unless this point is armed and it is time.
#[cfg(debug_assertions)]
pub fn reach(point: CrashPoint) {
    armed::reach(point);
}

/// The process has come to this point, and goes on.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn reach(_point: CrashPoint) {}

/// Arms the point that [`VARIABLE`] names, if it names one.
///
/// # Errors
/// When it names none, in the words for whoever set it.
#[cfg(debug_assertions)]
pub fn arm() -> Result<(), String> {
    armed::arm()
}

/// Arms nothing.
///
/// # Errors
/// Never.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn arm() -> Result<(), String> {
    Ok(())
}

#[cfg(debug_assertions)]
mod armed {
    use std::str::FromStr;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    use super::{CrashPoint, VARIABLE};

    static ARMED: OnceLock<Armed> = OnceLock::new();

    /// The one point at which this process dies.
    #[derive(Debug)]
    pub(super) struct Armed {
        pub(super) point: CrashPoint,
        /// When it has come there so many times more.
        pub(super) left: AtomicU32,
    }

    impl FromStr for Armed {
        type Err = String;

        fn from_str(text: &str) -> Result<Armed, String> {
            let (name, times) = text.split_once(':').unwrap_or((text, "1"));
            let point = CrashPoint::ALL.iter().find(|point| point.name() == name);
            let left = times.parse().ok().filter(|left| *left > 0);
            match (point, left) {
                (Some(point), Some(left)) => Ok(Armed {
                    point: *point,
                    left: AtomicU32::new(left),
                }),
                _ => {
                    let names: Vec<_> = CrashPoint::ALL.iter().map(|point| point.name()).collect();
                    Err(format!(
                        "smtpmta: {VARIABLE}: {text:?}: expected NAME or NAME:TIMES, where NAME is one of {}",
                        names.join(", ")
                    ))
                }
            }
        }
    }

    pub(super) fn arm() -> Result<(), String> {
        let Some(text) = std::env::var_os(VARIABLE) else {
            return Ok(());
        };
        let armed = text.to_string_lossy().parse()?;
        // Nobody arms twice.
        let _ = ARMED.set(armed);
        Ok(())
    }

    pub(super) fn reach(point: CrashPoint) {
        let Some(armed) = ARMED.get().filter(|armed| armed.point == point) else {
            return;
        };
        if armed.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            let _ = kill(Pid::this(), Signal::SIGKILL);
            // Not a step further, should the signal take its time.
            loop {
                std::thread::park();
            }
        }
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use std::collections::HashSet;
    use std::sync::atomic::Ordering;

    use super::armed::Armed;
    use super::*;

    #[test]
    fn every_point_has_a_name_of_its_own_and_one_sentence() {
        let names: HashSet<_> = CrashPoint::ALL.iter().map(|point| point.name()).collect();
        assert_eq!(names.len(), CrashPoint::ALL.len());
        for point in CrashPoint::ALL {
            let (name, told) = (point.name(), point.told());
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'),
                "{name}"
            );
            assert!(told.ends_with('.') && !told.contains("  "), "{told}");
        }
    }

    #[test]
    fn a_point_is_armed_for_the_first_time_or_for_another() {
        for (text, times) in [("accept-committed", 1), ("accept-committed:3", 3)] {
            let armed: Armed = text.parse().unwrap();
            assert_eq!(armed.point, CrashPoint::AcceptCommitted);
            assert_eq!(armed.left.load(Ordering::SeqCst), times);
        }
    }

    #[test]
    fn a_wrong_word_is_told_what_was_expected() {
        for text in [
            "",
            "nowhere",
            "accept-committed:",
            "accept-committed:0",
            "accept-committed:x",
        ] {
            let wrong = text.parse::<Armed>().unwrap_err();
            assert!(wrong.contains(&format!("{text:?}: expected NAME")), "{wrong}");
            assert!(
                wrong.contains("schema-written, ") && wrong.ends_with("closing-committed"),
                "{wrong}"
            );
        }
    }
}
