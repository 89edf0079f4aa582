//! Exercise #3: Working with Domain List Processing; and the article's example of ten messages and six.

use crate::support::client::{Client, big_letter, letter};
use crate::support::sink::{Rule, Sink, Stage};
use crate::support::world::{PATIENCE, World};

/// "Greater than or equal to 1 MB"; so large that the network alone can not swallow it.
const LARGE_ATTACHMENT: usize = 16 << 20;

fn world_with(sink: &Sink) -> World {
    World::load(&["--route", &format!("ibm.com={}", sink.address())])
}

fn send(world: &World, to: &str, content: &[u8]) -> String {
    Client::of(world).mail("bsmith@univac.com", &[to], content)
}

#[test]
fn two_messages_sent_apart_use_two_sessions_and_the_small_one_arrives_first() {
    let sink = Sink::start();
    sink.obey(Rule::hang(Stage::Content).times(1));
    let world = world_with(&sink);

    // "Send the first message and watch the server console on the MTA machine. Once the Outbound Session
    // Controller spawns a new handler and a connection is made with the destination host, send the second
    // message."
    let attachment = big_letter("with a large attachment", LARGE_ATTACHMENT);
    send(&world, "jdoe@ibm.com", &attachment);
    world.daemon().wait_for_line("SMTPMTA oseshlr0 Started");
    sink.wait_for(|seen| seen.hangs_at(Stage::Content), PATIENCE);
    send(&world, "jdoe@ibm.com", &letter("Hello"));

    // "During this time the Outbound Session Controller will spawn another handler to connect with the same
    // destination host and send the second message. Since the second message is nothing more than a simple
    // Hello, this message will be completely transferred before the first message is completely sent."
    world.daemon().wait_for_line("SMTPMTA oseshlr1 Started");
    sink.wait_for(|seen| seen.accepted().count() == 1, PATIENCE);
    world.wait_for_task("oseshlr1", "Idle");
    world.wait_for_sql(
        "SELECT n, state FROM outbound_work_queue",
        "0|WQ_MSG_LOCKED_FOR_XMIT",
    );

    sink.release();
    sink.wait_for(|seen| seen.accepted().count() == 2, PATIENCE);
    sink.look(|seen| {
        let order: Vec<_> = seen.accepted().map(|message| message.session).collect();
        assert_eq!(order, [1, 0]);
        assert!(seen.messages[1].content.ends_with(&attachment));
    });
    world.wait_for_sql("SELECT count(*) FROM outbound_work_queue", "0");
}

#[test]
fn two_messages_sent_at_the_same_time_share_a_session() {
    let sink = Sink::start();
    let world = world_with(&sink);
    // "However, if we had sent these messages at roughly the same time, they'd appear at roughly the same
    // time in the Outbound Work Queue and probably be delivered by the same Outbound Session Handler."
    world.tell("smtpmta stop outbound transport");
    send(
        &world,
        "jdoe@ibm.com",
        &big_letter("with a large attachment", 1 << 20),
    );
    send(&world, "jdoe@ibm.com", &letter("Hello"));
    let pending = "SELECT state, count(*) FROM outbound_work_queue GROUP BY state";
    world.wait_for_sql(pending, "WQ_PENDING_XMIT|2");
    world.tell("smtpmta start outbound transport");

    sink.wait_for(|seen| seen.accepted().count() == 2, PATIENCE);
    world.wait_for_task("oseshlr0", "Idle");
    assert_eq!(world.handlers("oseshlr"), ["oseshlr0"]);
    assert_eq!(sink.look(|seen| seen.sessions.len()), 1);
    let lists = "SELECT DISTINCT text FROM history WHERE event = 'listed'";
    assert_eq!(world.sql(lists).lines().count(), 1);
}

#[test]
fn ten_messages_make_two_lists_and_six_that_arrive_meanwhile_make_two_more() {
    let (ibm, lotus, iris) = (Sink::start(), Sink::start(), Sink::start());
    let sinks = [("ibm.com", &ibm), ("lotus.com", &lotus), ("iris.com", &iris)];
    sinks.iter().for_each(|(_, sink)| sink.hang_at(Stage::Dot));
    let routes = sinks.map(|(domain, sink)| format!("{domain}={}", sink.address()));
    let mut flags = vec!["--max-outbound-handlers", "2"];
    routes.iter().for_each(|route| flags.extend(["--route", route]));
    let world = World::load(&flags);

    // "10 converted messages are placed in the Outbound Work Queue, with five of these messages destined for
    // users at ibm.com, and the other five destined for users at lotus.com."
    world.tell("smtpmta stop outbound transport");
    let ten: Vec<String> = (0..5)
        .flat_map(|_| ["jdoe@ibm.com", "jdoe@lotus.com"])
        .map(|to| send(&world, to, &letter("one of ten")))
        .collect();
    let states = "SELECT state, count(*) FROM outbound_work_queue GROUP BY state ORDER BY state";
    world.wait_for_sql(states, "WQ_PENDING_XMIT|10");

    // "Because of Domain List Processing, when the controller polls the work queue, the controller sees two
    // lists of messages."
    world.tell("smtpmta start outbound transport");
    for sink in [&ibm, &lotus] {
        sink.wait_for(|seen| seen.hangs_at(Stage::Dot), PATIENCE);
    }
    let host = |sink: &Sink| sink.address().to_string();
    let lists = "SELECT next_hop, messages, state FROM domain_lists ORDER BY list";
    let mut first = [
        format!("{}|5|assigned", host(&ibm)),
        format!("{}|5|assigned", host(&lotus)),
    ];
    let mut listed: Vec<String> = world.sql(lists).lines().map(str::to_owned).collect();
    first.sort();
    listed.sort();
    assert_eq!(listed, first);

    // "In the meantime, six new messages arrive in the work queue. … three messages destined for lotus.com,
    // and the other three destined for iris.com." They arrive together: omsgcnv works once all are in
    // SMTP.BOX.
    world.tell("smtpmta stop outbound conversion");
    for to in ["jdoe@lotus.com", "jdoe@iris.com"].repeat(3) {
        send(&world, to, &letter("one of six"));
    }
    world.wait_for_sql("SELECT count(*) FROM smtp_box", "6");
    world.tell("smtpmta start outbound conversion");

    // "When the controller polls the work queue, 10 messages are in a state of Locked for Transmission
    // (WQ_MSG_LOCKED_FOR_XMIT), and the six new messages are in a state of Pending (WQ_PENDING_XMIT). These
    // six new messages are sorted into two groups."
    let waiting = "SELECT next_hop, messages FROM domain_lists WHERE state = 'waiting' ORDER BY next_hop";
    let mut further = [format!("{}|3", host(&lotus)), format!("{}|3", host(&iris))];
    further.sort();
    world.wait_for_sql(waiting, &further.join("\n"));
    assert_eq!(world.sql(states), "WQ_MSG_LOCKED_FOR_XMIT|10\nWQ_PENDING_XMIT|6");
    let locked = "SELECT id FROM outbound_work_queue WHERE state = 'WQ_MSG_LOCKED_FOR_XMIT' ORDER BY id";
    assert_eq!(world.sql(locked), ten.join("\n"));
    assert_eq!(world.handlers("oseshlr"), ["oseshlr0", "oseshlr1"]);
    assert_eq!(iris.look(|seen| seen.sessions.len()), 0);

    // "Next, the controller looks for an available session handler in its internal table. If a handler is
    // available, the reference ID is sent to the handler. If not, the controller frequently checks the
    // internal list until a handler becomes available and then passes a reference ID to the handler."
    ibm.release();
    world.wait_for_sql(states, "WQ_MSG_LOCKED_FOR_XMIT|8\nWQ_PENDING_XMIT|3");
    ibm.look(|seen| assert_eq!((seen.accepted().count(), seen.sessions.len()), (5, 1)));
    // "This process is repeated for the other list of new messages."
    lotus.release();
    iris.release();
    world.wait_for_sql("SELECT count(*) FROM outbound_work_queue", "0");
    lotus.look(|seen| assert_eq!(seen.accepted().count(), 8));
    iris.look(|seen| assert_eq!((seen.accepted().count(), seen.sessions.len()), (3, 1)));
    assert_eq!(world.handlers("oseshlr"), ["oseshlr0", "oseshlr1"]);
    world.wait_for_sql("SELECT count(*) FROM domain_lists", "0");
}
