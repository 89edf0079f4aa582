//! Mail that moves from one spool to another, and what keeps it from coming there twice, or not at all.

use std::fs;
use std::path::Path;

use super::*;
use crate::work_queue::parcel::{Head, Packer, Parcel};
use crate::work_queue::states::State;

const DAY: Duration = Duration::from_secs(24 * 3600);

const EXPORT: ExportId = ExportId(0xab);

fn everything() -> Choice {
    Choice::default()
}

/// Puts what is chosen aside, and nothing more after that.
fn put_aside(world: &World, export: ExportId, choice: &Choice) -> Done {
    let file = Path::new("/tmp/moved");
    let done = world.queue.put_aside(export, file, choice, "ann").unwrap();
    assert!(world.queue.seal(export, false).unwrap().is_done);
    done
}

/// What the file of this export holds.
fn packed(world: &World, export: ExportId) -> Vec<u8> {
    let head = Head {
        export,
        host: "one.test".to_owned(),
        made: 0,
    };
    pack(world.folder.path(), &head, Vec::new()).unwrap().0
}

/// Exports what is chosen.
fn exported(world: &World, export: ExportId, choice: &Choice) -> Vec<u8> {
    put_aside(world, export, choice);
    let file = packed(world, export);
    assert!(world.queue.end_export(export, "ann").unwrap().is_done);
    file
}

/// Imports this.
fn take_in(world: &World, export: ExportId, file: &[u8]) -> Moved {
    fs::write(staged(world.folder.path(), export), file).unwrap();
    world.queue.take_in(export, 0, "bob").unwrap()
}

/// An export of what `change` makes of the messages of another one, up to the first of which it makes nothing.
fn repacked(file: &[u8], mut change: impl FnMut(parcel::Letter) -> Option<parcel::Letter>) -> Vec<u8> {
    let mut parcel = Parcel::open(file).unwrap();
    let mut packer = Packer::begin(Vec::new(), parcel.head()).unwrap();
    while let Some(letter) = parcel.next_letter().unwrap() {
        let mut content = Vec::new();
        let take = |piece: &[u8]| {
            content.extend_from_slice(piece);
            Ok::<(), parcel::ParcelError>(())
        };
        parcel.content(take).unwrap();
        let Some(letter) = change(letter) else { break };
        packer.add(&letter, &mut &*content).unwrap();
    }
    packer.finish().unwrap().0
}

fn states(world: &World, id: MessageId) -> Vec<State> {
    let trace = world.queue.trace(id).unwrap().unwrap();
    let states = trace.recipients.iter().map(|r| r.state.known().unwrap());
    states.collect()
}

fn to(pattern: &str) -> Choice {
    Choice {
        recipient: Pattern::of(pattern),
        ..Choice::default()
    }
}

/// Mail in every state in which it may move; the first message has been sent to one of its recipients.
fn busy_world() -> (World, MessageId, MessageId) {
    let world = World::new();
    let first = world.put_asking(
        "a@example.org",
        &[
            ("sent@lotus.com", None),
            ("late@lotus.com", Some("SUCCESS,DELAY")),
        ],
    );
    let dead = world.put("", &["dead@ibm.com", "held@ibm.com"]);
    world.convert();
    let lists = world.claim(&[0, 1], 0);
    let of = |name: &str| {
        let mut lists = lists.iter();
        lists.find(|list| list.next_hop.to_string() == name).unwrap()
    };
    world.settle(of("lotus.com"), first, vec![(0, delivered()), (1, later())]);
    world.settle(of("ibm.com"), dead, vec![(0, never()), (1, later())]);
    lists
        .iter()
        .for_each(|list| world.queue.end_list(list.id).unwrap());
    world
        .queue
        .do_by_hand(ByHand::Hold, &to("held@*"), "ann")
        .unwrap();
    (world, first, dead)
}

#[test]
fn what_was_pending_held_or_dead_is_that_in_the_other_spool_with_its_envelope_and_history() {
    let (one, first, dead) = busy_world();
    let two = World::new();
    two.clock.advance(MINUTE / 2);
    let gone = two.put("a@example.org", &["gone@sun.com"]);
    two.convert();
    two.clock.advance(DAY);
    // The walk has come further than what is about to come.
    assert_eq!(two.expire(DAY / 2), 1);
    let by_id = Choice::of_messages(vec![gone]);
    two.queue.do_by_hand(ByHand::Delete, &by_id, "ann").unwrap();
    let file = exported(&one, EXPORT, &everything());
    assert_eq!(one.states(), "WQ_TRANSMITTED:1 WQ_REMOVED:3");
    assert_eq!(one.sql("SELECT count(*) FROM put_aside"), "0");
    let moved = take_in(&two, EXPORT, &file);
    assert_eq!((moved.messages, moved.recipients, moved.known), (2, 3, 0));
    assert!(moved.is_done);
    assert_eq!(states(&two, first), [State::PendingConversion]);
    assert_eq!(states(&two, dead), [State::Dead, State::Held]);
    let row = "SELECT path || notify || in_box || attempts || last_status FROM recipient WHERE state = 1";
    assert_eq!(two.sql(row), "late@lotus.com5114.4.1");
    let told = two.queue.trace(first).unwrap().unwrap().events;
    let told: Vec<String> = told
        .iter()
        .map(|event| format!("{} {}", event.what, event.text))
        .collect();
    let has = |text: &str| told.iter().any(|event| event.contains(text));
    assert!(
        has("accepted at one.test: from=<a@example.org> to=2 "),
        "{told:#?}"
    );
    assert!(has("transmitted at one.test: <sent@lotus.com>: "), "{told:#?}");
    assert!(
        has("imported export 000000000000000000000000000000ab of one.test"),
        "{told:#?}"
    );
    assert!(!has("for export"), "{told:#?}");
    let mut content = String::new();
    two.queue
        .content(first)
        .unwrap()
        .read_to_string(&mut content)
        .unwrap();
    assert_eq!(content, "Subject: x\r\n\r\nbody\r\n");
    // A second time there is nothing to be done.
    let again = take_in(&two, EXPORT, &file);
    assert_eq!((again.messages, again.known, again.is_done), (0, 2, true));
    assert_eq!(two.sql("SELECT count(*) FROM brought_in"), "0");
    // It goes on there, and expires when its time is over, however far the walk had come.
    two.convert();
    assert_eq!(two.states(), "WQ_PENDING_XMIT:1 WQ_HELD:1 WQ_DEAD:1 WQ_REMOVED:1");
    assert_eq!(two.expire(DAY / 2), 2);
}

#[test]
fn what_came_of_an_alias_brings_the_alias_and_is_not_expanded_again() {
    let (one, two) = (World::new(), World::new());
    let id = one.put("a@example.org", &["team@example.org"]);
    let deed = Delivery::Expand(["x@lotus.com", "y@ibm.com"].map(mailbox).to_vec());
    let expanded = Converted {
        id,
        null_sender: false,
        structure: None,
        deliveries: vec![(0, deed)],
    };
    one.queue.converted(vec![expanded]).unwrap();
    let file = exported(&one, EXPORT, &to("y@*"));
    take_in(&two, EXPORT, &file);
    assert_eq!(states(&one, id)[1..], [State::PendingConversion, State::Removed]);
    assert_eq!(states(&two, id), [State::Expanded, State::PendingConversion]);
    assert_eq!(two.sql("SELECT parent FROM recipient WHERE n = 1"), "0");
    let waiting = two.queue.waiting_inbound(two.queue.now(), 10).unwrap().remove(0);
    let again = Delivery::Expand(vec![mailbox("z@dec.com")]);
    let expanded = Converted {
        id,
        null_sender: false,
        structure: None,
        deliveries: vec![(waiting.recipients[0].n, again)],
    };
    two.queue.converted(vec![expanded]).unwrap();
    assert_eq!(two.sql("SELECT count(*) FROM recipient"), "2");
}

#[test]
fn what_is_put_aside_nobody_touches_until_that_is_over() {
    let (world, first, dead) = busy_world();
    assert_eq!(put_aside(&world, EXPORT, &everything()).recipients, 3);
    let before = world.states();
    for deed in [ByHand::Hold, ByHand::Bounce, ByHand::Release, ByHand::Delete] {
        let done = world
            .queue
            .do_by_hand(deed.clone(), &everything(), "ann")
            .unwrap();
        assert_eq!(done, Done::default(), "{deed:?}");
    }
    // Another export finds nothing, and whoever comes late for this one.
    let other = world
        .queue
        .put_aside(ExportId(9), Path::new("/x"), &everything(), "ann");
    assert_eq!(other.unwrap(), Done::default());
    let late = world.put("a@example.org", &["new@dec.com"]);
    let again = world
        .queue
        .put_aside(EXPORT, Path::new("/tmp/moved"), &everything(), "ann");
    assert_eq!(again.unwrap(), Done::default());
    assert_eq!(states(&world, late), [State::PendingConversion]);
    world
        .queue
        .do_by_hand(ByHand::Delete, &to("new@*"), "ann")
        .unwrap();
    world.clock.advance(3 * DAY);
    assert_eq!(world.expire(DAY), 0);
    assert_eq!(world.states(), format!("{before} WQ_REMOVED:1"));
    // What is given up goes on, or expires.
    let moved = world.queue.cancel_export(EXPORT, "ann").unwrap();
    assert_eq!((moved.messages, moved.recipients, moved.is_done), (2, 3, true));
    assert_eq!(states(&world, first)[1], State::PendingConversion);
    assert_eq!(states(&world, dead), [State::Dead, State::Held]);
    assert_eq!(world.expire(DAY), 2);
    let none = world.queue.cancel_export(EXPORT, "ann").unwrap();
    assert!(!none.is_done);
}

#[test]
fn an_export_that_ends_is_not_given_up_and_what_ended_can_be_brought_back() {
    let (world, first, _) = busy_world();
    exported(&world, EXPORT, &everything());
    assert!(!world.queue.cancel_export(EXPORT, "ann").unwrap().is_done);
    assert!(is_finished_export(world.folder.path(), EXPORT).unwrap());
    assert!(!is_finished_export(world.folder.path(), ExportId(9)).unwrap());
    let back = world
        .queue
        .do_by_hand(ByHand::Undelete, &to("late@*"), "ann")
        .unwrap();
    assert_eq!(back.recipients, 1);
    assert_eq!(states(&world, first)[1], State::Held);
}

#[test]
fn what_a_handler_has_in_hand_is_waited_for_and_stays_with_it_if_that_is_said() {
    let world = World::new();
    let first = world.put("a@example.org", &["b@ibm.com"]);
    world.convert();
    let list = world.claim(&[0], 0).remove(0);
    let put_aside = || {
        let put = world
            .queue
            .put_aside(EXPORT, Path::new("/tmp/moved"), &everything(), "ann");
        put.unwrap()
    };
    assert_eq!((put_aside().recipients, put_aside().in_hand), (0, 1));
    let sealed = world.queue.seal(EXPORT, false).unwrap();
    assert_eq!((sealed.is_done, sealed.in_hand), (false, 1));
    world.queue.carry_out_recall(list.id, first).unwrap().unwrap();
    assert_eq!(states(&world, first), [State::Held]);
    assert!(world.queue.seal(EXPORT, false).unwrap().is_done);
    world.queue.end_list(list.id).unwrap();
    world.queue.cancel_export(EXPORT, "ann").unwrap();
    world.convert();
    // Another time it is not waited for.
    let list = world.claim(&[0], 0).remove(0);
    assert_eq!(put_aside().in_hand, 1);
    assert!(world.queue.seal(EXPORT, true).unwrap().is_done);
    assert!(!world.queue.any_recalled());
    world.queue.end_list(list.id).unwrap();
    assert_eq!(states(&world, first), [State::PendingXmit]);
    world.queue.cancel_export(EXPORT, "ann").unwrap();
}

#[test]
fn a_message_whose_rows_are_damaged_stays() {
    let world = World::new();
    let id = world.put("a@example.org", &["b@ibm.com"]);
    let sound = world.put("a@example.org", &["c@ibm.com"]);
    world.sql_run(&format!(
        "UPDATE recipient SET notify = 99 WHERE message = {}",
        id.0
    ));
    assert_eq!(put_aside(&world, EXPORT, &everything()).recipients, 1);
    assert_eq!(states(&world, id), [State::PendingConversion]);
    assert_eq!(states(&world, sound), [State::Held]);
    world.sql_run(&format!(
        "UPDATE recipient SET notify = NULL WHERE message = {}",
        id.0
    ));
    world.queue.cancel_export(EXPORT, "ann").unwrap();
}

/// An ID says how old a message is: it stays, or becomes one near it; one of the future becomes a new one.
#[test]
fn an_id_that_is_taken_or_has_yet_to_come_is_another_one_there() {
    let (one, two) = (World::new(), World::new());
    let id = two.put("a@example.org", &["b@ibm.com"]);
    one.put("a@example.org", &["c@ibm.com"]);
    let ahead = one.put("a@example.org", &["d@ibm.com"]);
    let file = exported(&one, EXPORT, &everything());
    // The same, as if its IDs were these.
    let far = MessageId(i64::MAX - 7);
    let mut ids = [id, far].into_iter();
    let other = repacked(&file, |letter| {
        ids.next().map(|id| parcel::Letter { id, ..letter })
    });
    let moved = take_in(&two, EXPORT, &other);
    assert_eq!((moved.messages, moved.is_done), (2, true));
    let of = |path: &str| -> i64 {
        let sql = format!("SELECT message FROM recipient WHERE path = '{path}'");
        two.sql(&sql).parse().unwrap()
    };
    assert_eq!((of("b@ibm.com"), of("c@ibm.com")), (id.0, id.0 + 1));
    assert!(of("d@ibm.com") > ahead.0 && of("d@ibm.com") < two.queue.message_id().0);
    let told = format!("SELECT count(*) FROM event WHERE what = 'imported' AND text LIKE '%{far} there%'");
    assert_eq!(two.sql(&told), "1");
}

/// It begins anew behind what is there, whatever was done of it before.
#[test]
fn an_import_that_ended_early_brings_in_the_rest_and_large_content_has_its_file() {
    let (one, two) = (World::new(), World::new());
    for _ in 0..60 {
        one.put("a@example.org", &["b@ibm.com"]);
    }
    let id = one.queue.message_id();
    let mut content = one.queue.content_writer(id);
    content.write(&vec![b'x'; THRESHOLD + 1]).unwrap();
    let from = ReversePath(Some(mailbox("a@example.org")));
    let content = content.finish().unwrap();
    let large = Arrival::new(id, Origin::Session, from, [mailbox("d@dec.com")], content);
    one.queue.put(large).unwrap();
    let file = exported(&one, EXPORT, &everything());
    // As if it had been killed behind the first transaction.
    let mut left = 0..50;
    let first = repacked(&file, |letter| left.next().map(|_| letter));
    assert_eq!(take_in(&two, EXPORT, &first).messages, 50);
    two.sql_run(
        "UPDATE import SET ended_at = NULL; \
         INSERT INTO brought_in SELECT '000000000000000000000000000000ab', id, id FROM message;",
    );
    let again = take_in(&two, EXPORT, &file);
    assert_eq!((again.messages, again.known, again.is_done), (11, 50, true));
    assert_eq!(two.sql("SELECT count(*) FROM message"), "61");
    let mut content = two.queue.content(id).unwrap();
    assert_eq!(
        std::io::copy(&mut content, &mut std::io::sink()).unwrap(),
        THRESHOLD as u64 + 1
    );
    assert_eq!(
        fs::read_dir(two.folder.path().join("content")).unwrap().count(),
        1
    );
}

#[test]
fn another_file_in_its_place_is_refused_and_nothing_comes_of_it() {
    let (one, two) = (World::new(), World::new());
    one.put("a@example.org", &["b@ibm.com"]);
    let file = exported(&one, EXPORT, &everything());
    for file in [&file[..file.len() - 1], b"smtpmta-export-1 {}"] {
        fs::write(staged(two.folder.path(), EXPORT), file).unwrap();
        two.queue.take_in(EXPORT, 0, "bob").unwrap_err();
        assert_eq!(two.sql("SELECT count(*) FROM message"), "0");
    }
    fs::write(staged(two.folder.path(), ExportId(8)), &file).unwrap();
    let error = two.queue.take_in(ExportId(8), 0, "bob").unwrap_err();
    assert!(error.to_string().contains("this is another export"), "{error}");
}
