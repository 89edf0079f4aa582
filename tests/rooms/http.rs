//! Those who look on: metrics, health and the status page of the live MTA.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::signal::SIGHUP;
use smtpmta::http::exposition::METRICS;

use crate::support::browser::{Browser, Look};
use crate::support::client::{Client, letter};
use crate::support::http::{address, connect, get, hear, metrics, say, value};
use crate::support::shim::{Fault, THREAD};
use crate::support::sink::{Sink, Stage};
use crate::support::world::{World, eventually};

const HTTP: [&str; 2] = ["--http", "127.0.0.1:0"];

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

#[test]
fn metrics_are_well_formed_and_count_what_has_happened() {
    let sink = Sink::start();
    sink.on(Stage::Rcpt, "451 4.3.0 \"later\" \\ {x}");
    let relayed = Sink::start();
    let routes = [("a.test", &sink), ("b.test", &relayed)]
        .map(|(domain, sink)| format!("{domain}={}", sink.address()));
    let flags = [&HTTP[..], &["--route", &routes[0], "--route", &routes[1]]].concat();
    let world = World::load(&flags);
    let (http, hop) = (address(&world), sink.address().to_string());
    let mut client = Client::of(&world);
    client.mail("x@univac.com", &["here@mta.test"], &letter("here"));
    client.mail("x@univac.com", &["one@b.test", "two@b.test"], &letter("there"));
    client.mail("x@univac.com", &["later@a.test"], &letter("later"));
    world.wait_for_letters("here@mta.test", 1);
    world.wait_for_sql("SELECT sum(attempts) FROM outbound_work_queue", "1");
    eventually("all of it to be counted", || {
        let page = get(http, "/metrics");
        assert_eq!(
            page.field("Content-Type"),
            "text/plain; version=0.0.4; charset=utf-8"
        );
        let told = metrics(&page.content);
        let names: Vec<&str> = told.keys().map(String::as_str).collect();
        let mut known: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
        known.sort_unstable();
        assert_eq!(names, known);
        let of = |name: &str, labels: &[(&str, &str)]| value(&told, name, labels).unwrap_or(-1.0);
        let counted = [
            of("smtpmta_messages_accepted_total", &[]),
            of("smtpmta_recipients_accepted_total", &[]),
            of("smtpmta_messages_transmitted_total", &[]),
            of("smtpmta_recipients_total", &[("outcome", "transmitted")]),
            of("smtpmta_recipients_total", &[("outcome", "delivered")]),
            of("smtpmta_recipients_deferred_total", &[]),
            of("smtpmta_queue_recipients", &[("state", "WQ_PENDING_XMIT")]),
            of("smtpmta_queue_age_seconds_count", &[]),
            of("smtpmta_next_hop_recipients", &[("next_hop", hop.as_str())]),
            of("smtpmta_next_hop_recipients", &[("next_hop", "other")]),
            of("smtpmta_next_hops", &[("state", "all")]),
            of("smtpmta_acceptance_seconds_count", &[]),
            of("smtpmta_transmission_seconds_count", &[]),
            of("smtpmta_local_delivery_seconds_count", &[]),
            of("smtpmta_task_up", &[("task", "isesctl")]),
            of("smtpmta_healthy", &[]),
        ];
        let expected = [3., 4., 1., 2., 1., 1., 1., 1., 1., 0., 1., 3., 1., 1., 1., 1.];
        if counted != expected {
            return Err(counted.to_vec());
        }
        assert!(of("smtpmta_commit_group_size_sum", &[]) >= 5.0);
        assert!(of("smtpmta_transmission_seconds_sum", &[]) > 0.0);
        assert!(of("smtpmta_handlers", &[("direction", "inbound"), ("state", "busy")]) >= 1.0);
        Ok(())
    });
    world.tell("smtpmta stop drtask");
    eventually("a task that is down", || {
        let told = metrics(&get(http, "/metrics").content);
        let up = value(&told, "smtpmta_task_up", &[("task", "drt")]);
        if up == Some(0.0) { Ok(()) } else { Err(up) }
    });
    // What an operator wants so is no trouble.
    assert_eq!(get(http, "/healthz").content, "ok\n");
}

#[test]
fn the_manual_names_every_metric_in_its_order_and_the_dashboard_asks_for_no_other() {
    let page = read("man/smtpmta.8");
    let (_, section) = page.split_once(".Sh STATUS PAGE AND METRICS\n").unwrap();
    let section = section.split("\n.Sh ").next().unwrap();
    let told: Vec<&str> = section
        .lines()
        .filter_map(|line| line.strip_prefix(".It Va smtpmta_"))
        .collect();
    let known: Vec<&str> = METRICS
        .iter()
        .map(|metric| &metric.name["smtpmta_".len()..])
        .collect();
    assert_eq!(told, known);

    let dashboard = read("etc/grafana-smtpmta.json");
    serde_json::from_str::<serde_json::Value>(&dashboard).unwrap();
    let is_sign = |sign: char| sign.is_ascii_alphanumeric() || sign == '_';
    let mut asked = 0;
    for (place, _) in dashboard.match_indices("smtpmta_") {
        let rest = &dashboard[place..];
        let name = rest.split(|sign| !is_sign(sign)).next().unwrap();
        let known = METRICS.iter().any(|metric| match metric.kind {
            "histogram" => {
                let mut suffixes = ["_bucket", "_sum", "_count"].iter();
                suffixes.any(|suffix| name.strip_suffix(suffix) == Some(metric.name))
            }
            _ => metric.name == name,
        });
        assert!(known, "{name}");
        asked += 1;
    }
    assert!(asked > 15, "{asked}");
}

#[test]
fn only_what_is_there_can_be_had_and_nothing_can_be_changed() {
    let world = World::load(&HTTP);
    let http = address(&world);
    let ask = |request: &str| say(http, request.replace('\n', "\r\n").as_bytes());
    for (request, status) in [
        (
            "POST /metrics HTTP/1.1\nHost: localhost\nContent-Length: 3\n\nx=y",
            405,
        ),
        ("DELETE / HTTP/1.1\nHost: localhost\n\n", 405),
        ("GET /../queue.db HTTP/1.1\nHost: localhost\n\n", 404),
        ("GET /metrics/ HTTP/1.1\nHost: localhost\n\n", 404),
        ("GET /metrics HTTP/1.1\n\n", 400),
        ("GET /metrics HTTP/3\nHost: localhost\n\n", 505),
        ("EHLO client.test\n\n", 400),
        ("GET / HTTP/1.1\nHost: rebound.example\n\n", 421),
        ("GET / HTTP/1.1\nHost: mta.test\n\n", 200),
        (
            "GET http://localhost/healthz HTTP/1.1\nHost: rebound.example\n\n",
            200,
        ),
        ("GET /healthz HTTP/1.0\n\n", 200),
        // It came to its end in the middle.
        ("GET / HTTP/1.1\nHost: local", 0),
    ] {
        if status == 0 {
            let mut stream = connect(http);
            stream
                .write_all(request.replace('\n', "\r\n").as_bytes())
                .unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(std::io::read_to_string(&mut stream).unwrap(), "");
            continue;
        }
        let page = ask(request);
        assert_eq!(page.status, status, "{request}: {page:?}");
        assert_eq!(page.field("X-Content-Type-Options"), "nosniff");
        assert_eq!(page.field("Referrer-Policy"), "no-referrer");
        assert!(
            page.field("Content-Security-Policy")
                .starts_with("default-src 'none'; ")
        );
        let cors = "access-control-";
        assert!(
            !page
                .head
                .iter()
                .any(|line| line.to_ascii_lowercase().starts_with(cors))
        );
        if status == 405 {
            assert_eq!(page.field("Allow"), "GET, HEAD");
        }
    }
    let long = format!("GET / HTTP/1.1\nHost: localhost\nX: {}\n\n", "x".repeat(9000));
    assert_eq!(ask(&long).status, 431);
    for path in [
        "/",
        "/metrics",
        "/healthz",
        "/style.css",
        "/script.js",
        "/icon.svg",
    ] {
        let page = get(http, path);
        assert_eq!(page.status, 200, "{path}");
        let head = ask(&format!("HEAD {path} HTTP/1.1\nHost: localhost\n\n"));
        assert_eq!((head.status, head.content.as_str()), (200, ""), "{path}");
        assert_eq!(head.field("Content-Type"), page.field("Content-Type"), "{path}");
    }
    assert!(world.show("tasks").contains("SMTPMTA isesctl Listening"));
}

#[test]
fn who_says_nothing_keeps_a_place_for_seconds_and_who_finds_none_is_told_to_come_later() {
    let world = World::load(&HTTP);
    let http = address(&world);
    let mut silent: Vec<_> = (0..16).map(|_| connect(http)).collect();
    for stream in &mut silent {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: lo").unwrap();
    }
    let page = eventually("all places to be taken", || {
        let page = hear(&mut connect(http));
        if page.status == 503 { Ok(page) } else { Err(page) }
    });
    assert_eq!(page.field("Retry-After"), "5");
    // Mail does not wait for any of it.
    Client::of(&world).mail("x@univac.com", &["jdoe@mta.test"], &letter("meanwhile"));
    for stream in &mut silent {
        assert_eq!(hear(stream).status, 408);
    }
    drop(silent);
    eventually("a place", || match get(http, "/healthz").status {
        200 => Ok(()),
        status => Err(status),
    });
}

#[test]
fn a_refresh_opens_moves_and_closes_the_listener_and_leaves_one_alone_that_stays() {
    let world = World::load(&[]);
    let lines = |world: &World| world.show("tasks").matches("SMTPMTA http ").count();
    let refresh = |lines: &str| {
        world.configure(lines);
        world.ask("tell smtpmta refresh")
    };
    assert_eq!(lines(&world), 0);
    assert_eq!(refresh("http 127.0.0.1:0\n").status, 0);
    let first = address(&world);
    world
        .daemon()
        .wait_for_line(&format!("SMTPMTA http Listening on HTTP port {first}"));
    assert_eq!(refresh("http 127.0.0.1:0\nmax-recipients 500\n").status, 0);
    assert_eq!(address(&world), first);
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap();
    let refused = refresh(&format!("http {taken}\n"));
    assert_eq!(refused.status, 75, "{refused:?}");
    assert!(refused.complaint.contains("can not listen on") && refused.complaint.contains("stays as it was"));
    assert_eq!(get(first, "/healthz").status, 200);
    drop(other);
    // Who has begun to ask is answered.
    let mut begun = connect(first);
    begun.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
    assert_eq!(refresh(&format!("http {taken}\n")).status, 0);
    assert_eq!(address(&world), taken);
    assert_eq!(get(taken, "/healthz").status, 200);
    begun.write_all(b"Host: localhost\r\n\r\n").unwrap();
    assert_eq!(hear(&mut begun).status, 200);
    assert!(std::net::TcpStream::connect(first).is_err());
    assert_eq!(refresh("").status, 0);
    assert_eq!(lines(&world), 0);
    assert!(std::net::TcpStream::connect(taken).is_err());
}

#[test]
fn a_listener_for_which_a_refresh_finds_no_thread_is_there_as_soon_as_there_is_one() {
    let mut world = World::without_mta(&[]);
    let faults = world.faults();
    world.start();
    world.daemon().wait_for_word(" started, spool ");
    faults.order(&[Fault::of(THREAD, Errno::EAGAIN)]);
    world.configure("http 127.0.0.1:0\n");
    world.daemon().signal(SIGHUP);
    let said = world
        .daemon()
        .wait_for_word("http could not be started: can not listen on 127.0.0.1:0: ");
    assert!(said.contains("ERROR"), "{said}");
    world.wait_for_task("http", "Not started, and tried again: ");
    faults.behave();
    let http = address(&world);
    eventually("good health", || match get(http, "/healthz") {
        page if page.status == 200 => Ok(()),
        page => Err(page),
    });
}

#[test]
fn a_port_that_somebody_else_has_is_an_error_at_the_start_before_any_mail_is_accepted() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap().to_string();
    let world = World::without_mta(&["--http", &taken]);
    let (status, said) = world.another().last_words();
    assert_eq!(status, Some(75), "{said}");
    assert!(said.contains(&format!("can not listen on {taken}")), "{said}");
    assert!(!said.contains("Listening on SMTP"), "{said}");
}

#[test]
fn health_is_bad_while_nothing_can_be_put_into_the_queue() {
    let world = World::load(&HTTP);
    let http = address(&world);
    assert_eq!(
        (
            get(http, "/healthz").status,
            get(http, "/healthz").content.as_str()
        ),
        (200, "ok\n")
    );
    let (queue, away) = (world.spool().join("queue.db"), world.spool().join("away"));
    fs::rename(&queue, &away).unwrap();
    let refused = Client::of(&world).try_mail("x@univac.com", &["jdoe@mta.test"], &letter("lost"));
    assert!(refused.unwrap().starts_with("451 "));
    let page = eventually("bad health", || match get(http, "/healthz") {
        page if page.status == 503 => Ok(page),
        page => Err(page),
    });
    assert!(
        page.content.contains("queue.db was deleted, moved or replaced"),
        "{page:?}"
    );
    assert!(
        get(http, "/")
            .content
            .contains("<li>queue.db was deleted, moved or replaced")
    );
    fs::rename(&away, &queue).unwrap();
    eventually("good health", || match get(http, "/healthz").status {
        200 => Ok(()),
        status => Err(status),
    });
}

/// What a stranger would write who wants to take over the page of whoever looks on.
const SCRIPT: &str = "<script>document.title='owned'</script>";

/// An MTA at which somebody has left such mail: one message waits, one is in a mailbox. Gives the ID of the first.
fn attacked(sink: &Sink) -> (World, String) {
    sink.on(
        Stage::Rcpt,
        &format!("451 4.3.0 \"><img src=x onerror=\"document.title='owned'\">{SCRIPT}"),
    );
    let host = sink.address().to_string();
    let world = World::load(&[&HTTP[..], &["--relay-host", &host]].concat());
    let content = format!(
        "Subject: </td></tr></table>{SCRIPT}<img src=x onerror=\"document.title='owned'\">\r\n\
         Message-ID: <{SCRIPT}@evil.test>\r\n\r\nHello\r\n"
    );
    let mut client = Client::of(&world);
    let (from, to) = (format!("\"{SCRIPT}\"@evil.test"), format!("\"{SCRIPT}\"@a.test"));
    let id = client.mail(&from, &[&to, "friend@b.test"], content.as_bytes());
    client.mail("x@univac.com", &["jdoe@mta.test"], &letter("here"));
    world.wait_for_letters("jdoe@mta.test", 1);
    world.wait_for_sql("SELECT sum(attempts) FROM outbound_work_queue", "2");
    (world, id)
}

#[test]
fn the_page_tells_of_tasks_queue_failures_and_a_message_and_nothing_in_it_is_markup_of_strangers() {
    let sink = Sink::start();
    let (world, id) = attacked(&sink);
    let http = address(&world);
    let page = eventually("all of it on the page", || {
        let page = get(http, &format!("/?id={id}")).content;
        let there = [
            ">isesctl</td>",
            "Listening on SMTP port",
            "WQ_PENDING_XMIT, for ",
            ">under 5 min<",
            ">deferred</td>",
            "451 4.3.0 &quot;&gt;&lt;img src=x onerror=&quot;document.title=&#39;owned&#39;&quot;&gt;&lt;script&gt;",
            "&lt;/td&gt;&lt;/tr&gt;&lt;/table&gt;&lt;script&gt;document.title=&#39;owned&#39;&lt;/script&gt;",
            "&quot;&lt;script&gt;document.title=&#39;owned&#39;&lt;/script&gt;&quot;@a.test",
            "All is well",
        ];
        let missing = there.into_iter().find(|text| !page.contains(text));
        missing.map_or(Ok(page.clone()), |text| Err(format!("{text} is missing: {page}")))
    });
    assert_eq!(
        (page.matches("<script").count(), page.matches("<img").count()),
        (1, 0),
        "{page}"
    );
    for (id, said) in [
        ("0000000000000001", "Nothing is known of such a message."),
        ("%3Cscript%3E", "Expected the ID of a message"),
        ("<script>", "Expected the ID of a message"),
    ] {
        let page = get(http, &format!("/?id={id}")).content;
        assert!(
            page.contains(said) && page.matches("script>").count() == 3,
            "{id}: {page}"
        );
    }
}

#[test]
fn in_a_browser_the_page_is_whole_refreshes_itself_fits_a_phone_and_runs_nothing_of_strangers() {
    let Some(mut browser) = Browser::start() else {
        return;
    };
    let sink = Sink::start();
    let (world, id) = attacked(&sink);
    let http = address(&world);
    // Until that has been counted, the page says so.
    eventually("the ages", || match get(http, "/").content {
        page if page.contains("under 5 min") => Ok(()),
        page => Err(page),
    });
    let url = format!("http://{http}/?id={id}");
    let desktop = Look {
        width: 1280,
        height: 900,
        mobile: false,
        dark: false,
    };
    let phone = Look {
        width: 400,
        height: 800,
        mobile: true,
        dark: false,
    };
    let grounds = [
        ("desktop", desktop, "rgb(244, 245, 248)"),
        (
            "dark",
            Look {
                dark: true,
                ..desktop
            },
            "rgb(18, 21, 28)",
        ),
        ("phone", phone, "rgb(244, 245, 248)"),
        ("phone-dark", Look { dark: true, ..phone }, "rgb(18, 21, 28)"),
    ];
    for (name, look, ground) in grounds {
        browser.look(look);
        browser.open(&url);
        browser.picture(name);
        assert_eq!(browser.ask("document.title"), "smtpmta on mta.test", "{name}");
        let ours =
            browser.ask("[document.scripts.length, document.images.length, document.styleSheets.length]");
        assert_eq!(ours, serde_json::json!([1, 0, 1]), "{name}");
        let text = browser.ask("document.querySelector('main').innerText");
        let text = text.as_str().unwrap();
        for said in [
            "isesctl",
            "Listening on SMTP port",
            &id,
            &format!("</table>{SCRIPT}<img src=x"),
        ] {
            assert!(text.contains(said), "{name}: {said}: {text}");
        }
        let width = browser.ask("document.documentElement.scrollWidth");
        assert!(width.as_u64().unwrap() <= look.width, "{name}: {width}");
        assert_eq!(
            browser.ask("getComputedStyle(document.body).backgroundColor"),
            ground,
            "{name}"
        );
        let bars = browser.ask("document.querySelectorAll('.chart rect.accepted').length > 0");
        assert_eq!(bars, true, "{name}");
        assert!(
            browser.complaints().is_empty(),
            "{name}: {:#?}",
            browser.complaints()
        );
    }
    // It looks again by itself; here at once, for who comes back to it.
    browser.ask("window.before = document.querySelector('main').firstElementChild, 0");
    let again = "new Promise(seen => {\
        new MutationObserver(() => seen(window.before.isConnected))\
            .observe(document.querySelector('main'), {childList: true});\
        document.dispatchEvent(new Event('visibilitychange'));\
    })";
    assert_eq!(browser.ask(again), false);
    assert_eq!(browser.ask("document.title"), "smtpmta on mta.test");
    assert_eq!(browser.ask("document.getElementById('note').textContent"), "");
    assert!(browser.complaints().is_empty(), "{:#?}", browser.complaints());
    // And says so when there is nobody any more.
    drop(world);
    let gone = "new Promise(seen => {\
        new MutationObserver(() => seen(document.getElementById('note').textContent))\
            .observe(document.getElementById('note'), {childList: true});\
        document.dispatchEvent(new Event('visibilitychange'));\
    })";
    let note = browser.ask(gone);
    assert!(
        note.as_str().unwrap().starts_with("This is no longer up to date"),
        "{note}"
    );
    browser.picture("gone");
}
