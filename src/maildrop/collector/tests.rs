//! Files in a maildrop, and what comes of them in the queue, without the thread.

use std::os::unix::fs::symlink;
use std::sync::Arc;

use super::*;
use crate::clock::Clock;
use crate::maildrop::{Draft, Slip};

/// A queue, and what brings mail into it, without its thread.
fn collecting(folder: &Path) -> Collecting {
    collecting_by(folder, Clock::System)
}

fn collecting_by(folder: &Path, clock: Clock) -> Collecting {
    let queue = WorkQueue::open(folder, clock).unwrap();
    let (_, woken) = UnixStream::pair().unwrap();
    let settings = Settings {
        hostname: "mta.test".to_owned(),
        max_message_size: 100_000,
        max_recipients: 2,
        poll_interval: Duration::from_secs(30),
    };
    let mut work = Collecting::new(queue, Latest::new(Arc::new(settings)), Bell::default(), woken);
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
    work.look(&Stop::default()).unwrap().more
}

/// Moves all that lies there, and brings none of it.
fn take(work: &Collecting) -> Vec<MessageId> {
    let (taken, all_well) = work.take(&work.found().unwrap()).unwrap();
    assert!(all_well);
    taken
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
    let taken = take(&work);
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
    take(&work);
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
    let is_report = |content: &&String| content.contains("Subject: DELIVERY FAILURE");
    let (reports, good): (Vec<&String>, Vec<_>) = contents.iter().partition(is_report);
    assert!(good.len() == 1 && good[0].ends_with("\r\ngood\n"), "{contents:?}");
    // These were acknowledged when they were left: their sender is told.
    for why in [
        "larger than --max-message-size",
        "more recipients than --max-recipients",
    ] {
        let of = |report: &&&String| report.contains("To: bob@mta.test") && report.contains(why);
        assert_eq!(reports.iter().filter(of).count(), 1, "{why}: {contents:?}");
    }
    let aside = names(&work.taken);
    assert!(aside.iter().all(|name| name.ends_with(REFUSED)), "{aside:?}");
    assert_eq!(aside.len(), 3, "{aside:?}");
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
fn what_nobody_is_told_of_is_kept_whatever_others_leave() {
    let spool = tempfile::tempdir().unwrap();
    let work = collecting(spool.path());
    let text = "smtpmta maildrop 1\nfrom <>\nto <amy@mta.test>\n";
    let mut draft = Draft::begin(spool.path()).unwrap();
    draft.write(&[b'x'; 100_001]).unwrap();
    draft.leave(&Slip::parse(text).unwrap()).unwrap();
    for number in 0..MOST_REFUSED + 20 {
        fs::write(work.maildrop.join(format!("{WHOLE}{number}")), "garbage").unwrap();
    }
    while look(&work) {}
    look(&work);
    let kept: Vec<String> = names(&work.taken);
    let is_kept = |name: &&String| name.ends_with(KEPT);
    assert_eq!(kept.iter().filter(is_kept).count(), 1, "{kept:?}");
    assert!(contents(&work).is_empty());
}

#[test]
fn what_can_not_be_taken_keeps_nobody_waiting() {
    let spool = tempfile::tempdir().unwrap();
    let work = collecting(spool.path());
    leave(spool.path(), "good\n", "to <amy@mta.test>\n");
    let mut found = work.found().unwrap();
    fs::create_dir_all(work.maildrop.join("mail-0/within")).unwrap();
    fs::create_dir(work.maildrop.join("mail-1")).unwrap();
    fs::write(work.maildrop.join("mail-2"), "").unwrap();
    // A folder that the system does not let go, two that were put in the place of files, and a name that leads nowhere.
    let hostile = ["mail-0/.", "mail-0", "mail-1", "mail-2/x", "mail-3"];
    found.splice(0..0, hostile.map(OsString::from));
    let (taken, all_well) = work.take(&found).unwrap();
    assert_eq!((taken.len(), all_well), (3, false));
    assert!(work.bring_all(&taken, &Stop::default()).unwrap());
    assert_eq!(contents(&work).len(), 1);
    // Nor does the folder that has something in it.
    assert!(work.look(&Stop::default()).unwrap().all_well);
    let aside = names(&work.taken);
    assert!(
        aside.len() == 2 && aside.iter().all(|name| name.ends_with(REFUSED)),
        "{aside:?}"
    );
    let why = |code: Errno| Trouble::of_opening(io::Error::from_raw_os_error(code as i32));
    assert!(matches!(why(Errno::EAGAIN), Trouble::Refused(_)), "a lease");
    assert!(matches!(why(Errno::EIO), Trouble::Later(_)));
}

#[test]
fn what_can_not_be_stored_now_keeps_nobody_waiting_and_is_tried_again() {
    let spool = tempfile::tempdir().unwrap();
    let work = collecting(spool.path());
    for number in 0..3 {
        leave(spool.path(), &"x".repeat(90_000 + number), "to <amy@mta.test>\n");
        leave(spool.path(), "small\n", "to <amy@mta.test>\n");
    }
    // Large contents have no place.
    let content = spool.path().join("content");
    let elsewhere = spool.path().join("elsewhere");
    fs::rename(&content, &elsewhere).unwrap();
    fs::write(&content, "").unwrap();
    let looked = work.look(&Stop::default()).unwrap();
    assert_eq!((contents(&work).len(), looked.all_well), (3, false));
    fs::remove_file(&content).unwrap();
    fs::rename(&elsewhere, &content).unwrap();
    // Whoever rings does not have it tried all the time.
    look(&work);
    assert_eq!(contents(&work).len(), 3);
    work.retry_at.set(Some(Instant::now()));
    assert!(work.look(&Stop::default()).unwrap().all_well);
    assert_eq!(contents(&work).len(), 6);
    assert!(names(&work.taken).is_empty());
}

#[test]
fn while_somebody_copies_the_spool_nothing_is_moved_and_while_something_is_moved_nothing_is_forgotten() {
    let spool = tempfile::tempdir().unwrap();
    let work = collecting(spool.path());
    leave(spool.path(), "one\n", "to <amy@mta.test>\n");
    let copying = File::open(&work.taken).unwrap();
    copying.lock_shared().unwrap();
    assert!(look(&work), "it is there still");
    assert!(names(&work.taken).is_empty() && contents(&work).is_empty());
    drop(copying);
    look(&work);
    assert_eq!(contents(&work).len(), 1);
    let (queue, (told, forgotten)) = (work.queue.clone(), bounded(1));
    let forgets = work.queue.while_nothing_is_forgotten(|| {
        let forget = move || told.send(queue.forget(Duration::ZERO).unwrap());
        let forgets = std::thread::spawn(forget);
        assert!(forgotten.recv_timeout(Duration::from_millis(50)).is_err());
        forgets
    });
    forgotten.recv().unwrap();
    forgets.join().unwrap().unwrap();
}

#[test]
fn what_was_made_elsewhere_is_not_taken_for_its_owners() {
    let spool = tempfile::tempdir().unwrap();
    let work = collecting(spool.path());
    leave(spool.path(), "moved\n", "to <amy@mta.test>\n");
    let path = work.maildrop.join(&work.found().unwrap()[0]);
    if std::os::unix::fs::chown(&path, None, Some(65534)).is_err() {
        // Only root can make one of another group.
        return;
    }
    look(&work);
    assert!(contents(&work).is_empty());
    assert!(names(&work.taken)[0].ends_with(REFUSED));
}

#[test]
fn where_the_database_is_gone_no_message_is_taken_to_be_in_it() {
    let spool = tempfile::tempdir().unwrap();
    let work = collecting(spool.path());
    leave(spool.path(), "one\n", "to <amy@mta.test>\n");
    // A reader has it open.
    contents(&work);
    fs::remove_file(spool.path().join("queue.db")).unwrap();
    for _ in 0..2 {
        let error = work.look(&Stop::default()).unwrap_err();
        assert!(matches!(error, QueueError::Lost(_)), "{error}");
        work.retry_at.set(None);
        assert_eq!(names(&work.taken).len(), 1);
    }
}

#[test]
fn what_does_not_become_a_message_is_removed_after_a_day_whatever_it_says_of_its_age() {
    let spool = tempfile::tempdir().unwrap();
    let clock = Clock::manual(Clock::System.now());
    let work = collecting_by(spool.path(), clock.clone());
    let draft = Draft::begin(spool.path()).unwrap();
    let folders = ["old", "filled"].map(|name| work.maildrop.join(name));
    folders.iter().for_each(|folder| fs::create_dir(folder).unwrap());
    fs::write(folders[1].join("file"), "").unwrap();
    for (name, at) in [("past", 1), ("future", 4_000_000_000)] {
        let file = File::create(work.maildrop.join(name)).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(at))
            .unwrap();
    }
    clock.advance(Duration::from_secs(23 * 3600));
    look(&work);
    assert_eq!(names(&work.maildrop).len(), 5);
    clock.advance(Duration::from_secs(2 * 3600));
    look(&work);
    assert_eq!(names(&work.maildrop), ["filled"]);
    drop(draft);
}
