//! The status page: one screen that says how the MTA is. Pure: facts in, HTML out.
//!
//! It is whole without its script, which only fetches it again now and then. Bounded, whatever there is.

use super::exposition::NAMED_HOPS;
use super::facts::{Asked, Facts, QueueFacts, Standing};
use super::hour::{MINUTES, Traffic};
use super::markup::Markup;
use crate::clock::Stamp;
use crate::console::{screen, trace};
use crate::work_queue::states::State;
use crate::work_queue::{AGES, Trace};

/// The looks of the page.
pub const STYLE: &str = include_str!("style.css");
/// Its script.
pub const SCRIPT: &str = include_str!("script.js");
/// Its icon.
pub const ICON: &str = include_str!("icon.svg");

/// Handlers at work that are shown.
const HANDLERS: usize = 20;

/// Recipients, and events, of a message that are shown.
pub const TRACED: usize = 200;

/// The page, and what somebody has asked of a message.
#[must_use]
pub fn page(facts: &Facts, asked: &Asked) -> String {
    let mut page = Markup::default();
    page.raw("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n")
        .raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n")
        .raw("<meta name=\"color-scheme\" content=\"light dark\">\n")
        .raw("<noscript><meta http-equiv=\"refresh\" content=\"10\"></noscript>\n<title>smtpmta on ")
        .text(&facts.hostname)
        .raw("</title>\n<link rel=\"icon\" href=\"/icon.svg\">\n<link rel=\"stylesheet\" href=\"/style.css\">\n")
        .raw("<script src=\"/script.js\" defer></script>\n</head>\n<body>\n<header>\n")
        .raw("<h1><a href=\"/\">smtpmta</a> <span>")
        .text(&facts.hostname)
        .raw("</span></h1>\n<form action=\"/\" role=\"search\"><label for=\"id\">Message</label>")
        .raw("<input id=\"id\" name=\"id\" size=\"18\" maxlength=\"24\" placeholder=\"000660F78485FBD7\" ")
        .raw("autocomplete=\"off\" spellcheck=\"false\"><button>Trace</button></form>\n</header>\n")
        .raw("<p id=\"note\" role=\"status\"></p>\n<main>\n");
    health(&mut page, facts);
    asked_for(&mut page, asked, facts.at);
    if let Ok(queue) = &facts.queue {
        tiles(&mut page, facts, queue);
    }
    page.raw("<div class=\"halves\">\n");
    chart(&mut page, &facts.minutes);
    ages(&mut page, facts);
    page.raw("</div>\n");
    if let Ok(queue) = &facts.queue {
        hops(&mut page, facts, queue);
    }
    page.raw("<div class=\"halves\">\n");
    tasks(&mut page, facts);
    handlers(&mut page, facts);
    page.raw("</div>\n");
    if let Ok(queue) = &facts.queue {
        failures(&mut page, facts, queue);
    }
    page.raw("</main>\n<footer>As of <time>")
        .text(&facts.at.to_console())
        .raw("</time> · version ")
        .text(env!("CARGO_PKG_VERSION"))
        .raw(" · up for ")
        .text(&screen::age(facts.at, facts.started))
        .raw(" · <a href=\"/metrics\">metrics</a></footer>\n</body>\n</html>\n");
    page.into_string()
}

fn health(page: &mut Markup, facts: &Facts) {
    let troubles = facts.troubles();
    if troubles.is_empty() {
        page.raw("<p class=\"health well\">All is well</p>\n");
        return;
    }
    page.raw("<ul class=\"health ill\">\n");
    for trouble in &troubles {
        page.raw("<li>").text(trouble).raw("</li>\n");
    }
    page.raw("</ul>\n");
}

fn section(page: &mut Markup, title: &'static str) {
    page.raw("<section>\n<h2>").raw(title).raw("</h2>\n");
}

fn note(page: &mut Markup, text: &'static str) {
    page.raw("<p class=\"nothing\">").raw(text).raw("</p>\n");
}

/// The heads of a table. One with few columns stays one on a phone; of others each row becomes a card there.
fn table(page: &mut Markup, heads: &[&'static str]) {
    page.raw(match heads.len() {
        0..=3 => "<table class=\"narrow\">\n<thead><tr>",
        _ => "<table>\n<thead><tr>",
    });
    for head in heads {
        page.raw("<th scope=\"col\">").raw(head).raw("</th>");
    }
    page.raw("</tr></thead>\n<tbody>\n");
}

/// The beginning of a cell; on a phone its name stands before it.
fn cell<'p>(page: &'p mut Markup, name: &'static str) -> &'p mut Markup {
    page.raw("<td data-name=\"").raw(name).raw("\">")
}

fn tile(page: &mut Markup, name: &'static str, number: u64) {
    page.raw("<div><dt>").raw(name).raw("</dt><dd>");
    page.number(number).raw("</dd></div>\n");
}

fn tiles(page: &mut Markup, facts: &Facts, queue: &QueueFacts) {
    let last = facts.minutes.len().saturating_sub(2);
    let minute = facts.minutes.get(last).copied().unwrap_or_default();
    page.raw("<dl class=\"tiles\">\n");
    for (state, name) in [
        (State::PendingXmit, "Waiting for a next hop"),
        (State::LockedForXmit, "On their way"),
        (State::PendingConversion, "In conversion"),
        (State::Held, "Held"),
        (State::Dead, "Dead"),
    ] {
        let mut states = queue.gauges.states.iter();
        let recipients = states.find(|(known, _)| *known == state);
        tile(page, name, recipients.map_or(0, |(_, recipients)| *recipients));
    }
    tile(page, "Accepted a minute", minute.accepted);
    tile(page, "Delivered a minute", minute.delivered);
    page.raw("</dl>\n");
}

/// The next larger number that is easily read off an axis.
fn scale(most: u64) -> u64 {
    let mut ten: u64 = 1;
    loop {
        for step in [1, 2, 5] {
            if most <= ten.saturating_mul(step) {
                return ten.saturating_mul(step);
            }
        }
        ten = ten.saturating_mul(10);
    }
}

/// A rectangle that stands on the ground of the chart; its height is `value` of `scale`.
fn bar(page: &mut Markup, class: &'static str, x: usize, width: usize, value: u64, scale: u64) {
    // In thousandths of the height.
    let height = u128::from(value) * 1000 / u128::from(scale.max(1));
    page.raw("<rect class=\"")
        .raw(class)
        .raw("\" x=\"")
        .text(&x.to_string());
    page.raw("\" y=\"")
        .text(&1000_u128.saturating_sub(height).to_string());
    page.raw("\" width=\"").text(&width.to_string());
    page.raw("\" height=\"").text(&height.to_string()).raw("\"/>");
}

fn chart(page: &mut Markup, minutes: &[Traffic]) {
    let most = minutes
        .iter()
        .map(|minute| minute.accepted.max(minute.delivered))
        .max();
    let scale = scale(most.unwrap_or(0).max(5));
    let sum = |of: fn(&Traffic) -> u64| minutes.iter().map(of).sum::<u64>();
    section(page, "The last hour");
    page.raw("<p class=\"legend\"><span class=\"accepted\">Accepted <b>")
        .number(sum(|minute| minute.accepted))
        .raw("</b></span><span class=\"delivered\">Delivered <b>")
        .number(sum(|minute| minute.delivered))
        .raw("</b></span></p>\n<div class=\"chart\"><span class=\"top\">")
        .number(scale)
        .raw(" a minute</span>\n")
        .raw("<svg viewBox=\"0 0 600 1000\" preserveAspectRatio=\"none\" role=\"img\" ")
        .raw("aria-label=\"Messages a minute in the last hour\">")
        .raw("<path class=\"grid\" d=\"M0 0H600M0 500H600M0 1000H600\"/>\n");
    let missing = MINUTES.saturating_sub(minutes.len());
    for (place, minute) in minutes.iter().enumerate() {
        let x = (missing + place) * 10;
        let ago = (minutes.len() - 1 - place) as u64;
        page.raw("<g><title>");
        match ago {
            0 => page.raw("This minute"),
            1 => page.raw("1 minute ago"),
            _ => page.number(ago).raw(" minutes ago"),
        };
        page.raw(": ").number(minute.accepted).raw(" accepted, ");
        page.number(minute.delivered).raw(" delivered</title>");
        bar(page, "accepted", x + 1, 8, minute.accepted, scale);
        bar(page, "delivered", x + 3, 4, minute.delivered, scale);
        page.raw("</g>\n");
    }
    page.raw("</svg>\n<p class=\"axis\"><span>60 min ago</span><span>30</span><span>now</span></p>")
        .raw("</div>\n</section>\n");
}

fn ages(page: &mut Markup, facts: &Facts) {
    section(page, "The queue by age");
    match &facts.ages {
        None => note(page, "It is being counted."),
        Some(ages) if ages.all.total() == 0 => note(page, "Nothing waits for a next hop."),
        Some(ages) => {
            let most = ages.all.counts.iter().copied().max().unwrap_or(0);
            page.raw("<ol class=\"ages\">\n");
            for (place, count) in ages.all.counts.iter().enumerate() {
                page.raw("<li><span>");
                match AGES.get(place) {
                    Some(minutes) => page.raw("under ").number(*minutes).raw(" min"),
                    None => page.raw("older"),
                };
                page.raw(
                    "</span><svg viewBox=\"0 0 1000 1\" preserveAspectRatio=\"none\" aria-hidden=\"true\">",
                );
                let width = u128::from(*count) * 1000 / u128::from(most.max(1));
                page.raw("<rect class=\"age\" width=\"").text(&width.to_string());
                page.raw("\" height=\"1\"/></svg><b>")
                    .number(*count)
                    .raw("</b></li>\n");
            }
            page.raw(
                "</ol>\n<p class=\"nothing\">Recipients; each row is older than the one above. Counted ",
            )
            .text(&screen::age(facts.at, ages.at))
            .raw(" ago.</p>\n");
        }
    }
    page.raw("</section>\n");
}

fn hops(page: &mut Markup, facts: &Facts, queue: &QueueFacts) {
    section(page, "The queue by next hop");
    let gauges = &queue.gauges;
    if gauges.hops.is_empty() {
        note(page, "The outbound work queue is empty.");
        page.raw("</section>\n");
        return;
    }
    let heads = [
        "Next hop",
        "Recipients",
        "On their way",
        "Oldest",
        "State",
        "Next try",
        "Last error",
    ];
    table(page, &heads);
    let shown = gauges.hops.iter().take(NAMED_HOPS);
    for row in shown.clone() {
        let mut aged = facts.ages.iter().flat_map(|ages| &ages.hops);
        let known = aged.find(|aged| aged.next_hop == row.next_hop);
        let oldest = known.and_then(|aged| aged.oldest);
        let oldest = oldest.map_or("–".to_owned(), |id| screen::age(facts.at, id.arrived()));
        page.raw("<tr>");
        cell(page, heads[0]).text(&row.next_hop).raw("</td>");
        cell(page, heads[1]).number(row.recipients).raw("</td>");
        cell(page, heads[2]).number(row.locked).raw("</td>");
        cell(page, heads[3]).text(&oldest).raw("</td>");
        cell(page, heads[4])
            .text(screen::state(row, facts.at))
            .raw("</td>");
        cell(page, heads[5])
            .text(&screen::until(facts.at, row.next_attempt))
            .raw("</td>");
        let error = row.last_error.as_deref().unwrap_or("–");
        cell(page, heads[6]).text(error).raw("</td></tr>\n");
    }
    page.raw("</tbody>\n</table>\n");
    let recipients: u64 = shown.clone().map(|row| row.recipients).sum();
    let others = gauges.all_hops.saturating_sub(shown.count() as u64);
    if others > 0 {
        page.raw("<p class=\"nothing\">and ")
            .number(others)
            .raw(" more with ");
        page.number(gauges.outbound.saturating_sub(recipients));
        page.raw(" recipients</p>\n");
    }
    page.raw("</section>\n");
}

fn tasks(page: &mut Markup, facts: &Facts) {
    section(page, "Tasks");
    table(page, &["Task", "What it is doing"]);
    for task in &facts.staff.tasks {
        page.raw(match task.standing {
            Standing::Runs => "<tr class=\"runs\">",
            Standing::Stopped => "<tr class=\"stopped\">",
            Standing::Missing => "<tr class=\"missing\">",
        });
        cell(page, "Task").text(&task.task.to_string()).raw("</td>");
        cell(page, "What it is doing")
            .text(&task.doing)
            .raw("</td></tr>\n");
    }
    page.raw("</tbody>\n</table>\n</section>\n");
}

fn handlers(page: &mut Markup, facts: &Facts) {
    section(page, "Handlers at work");
    let staff = &facts.staff;
    let busy = || staff.handlers.iter().filter(|row| row.busy);
    page.raw("<p class=\"legend\"><span><b>")
        .number(busy().count() as u64);
    page.raw("</b> of ").number(staff.handlers.len() as u64);
    page.raw(" that have been started</span><span>at most ");
    page.number(staff.places[0] as u64).raw(" inbound, ");
    page.number(staff.places[1] as u64).raw(" outbound</span></p>\n");
    if busy().count() == 0 {
        note(page, "All are idle.");
        page.raw("</section>\n");
        return;
    }
    table(page, &["Handler", "What it is doing", "For"]);
    for row in busy().take(HANDLERS) {
        page.raw("<tr>");
        cell(page, "Handler").text(&row.task.to_string()).raw("</td>");
        cell(page, "What it is doing")
            .text(screen::handler_does(row))
            .raw("</td>");
        cell(page, "For")
            .text(&screen::span(row.since.as_secs()))
            .raw("</td></tr>\n");
    }
    page.raw("</tbody>\n</table>\n");
    if busy().count() > HANDLERS {
        page.raw("<p class=\"nothing\">and ")
            .number((busy().count() - HANDLERS) as u64);
        page.raw(" more</p>\n");
    }
    page.raw("</section>\n");
}

fn failures(page: &mut Markup, facts: &Facts, queue: &QueueFacts) {
    section(page, "The last failures");
    if queue.failures.is_empty() {
        note(page, "None since the start.");
        page.raw("</section>\n");
        return;
    }
    let heads = ["Ago", "Message", "What", "Recipient", "Why"];
    table(page, &heads);
    for (failure, recipient) in &queue.failures {
        let id = failure.id.to_string();
        page.raw("<tr>");
        cell(page, heads[0])
            .text(&screen::age(facts.at, failure.at))
            .raw("</td>");
        cell(page, heads[1])
            .raw("<a href=\"/?id=")
            .text(&id)
            .raw("\">")
            .text(&id)
            .raw("</a></td>");
        cell(page, heads[2]).text(failure.what).raw("</td>");
        cell(page, heads[3])
            .text(recipient.as_deref().unwrap_or("–"))
            .raw("</td>");
        cell(page, heads[4]).text(&failure.text).raw("</td></tr>\n");
    }
    page.raw("</tbody>\n</table>\n</section>\n");
}

fn asked_for(page: &mut Markup, asked: &Asked, now: Stamp) {
    if *asked == Asked::Nothing {
        return;
    }
    section(page, "The message");
    match asked {
        Asked::Nothing => {}
        Asked::NoId => note(page, "Expected the ID of a message: sixteen hexadecimal digits."),
        Asked::Unknown => note(page, "Nothing is known of such a message."),
        Asked::Unreadable(error) => {
            page.raw("<p class=\"nothing\">The work queue can not be read: ");
            page.text(error).raw("</p>\n");
        }
        Asked::Message(trace, most) => traced(page, trace, *most, now),
    }
    page.raw("</section>\n");
}

fn traced(page: &mut Markup, trace: &Trace, most: usize, now: Stamp) {
    let size = trace.size.to_string() + " octets";
    page.raw("<dl class=\"trace\">\n");
    for (name, value) in [
        ("ID", trace.id.to_string().as_str()),
        ("Arrived", trace.id.arrived().to_console().as_str()),
        ("Size", size.as_str()),
        ("From", format!("<{}>", trace.sender).as_str()),
        ("Brought by", trace::brought(trace).as_str()),
        ("Subject", trace.subject.as_deref().unwrap_or_default()),
        ("Message-ID", trace.message_id.as_deref().unwrap_or_default()),
    ] {
        if !value.is_empty() {
            page.raw("<div><dt>")
                .raw(name)
                .raw("</dt><dd>")
                .text(value)
                .raw("</dd></div>\n");
        }
    }
    for recipient in &trace.recipients {
        page.raw("<div><dt>To</dt><dd>")
            .text(&format!("<{}>", recipient.path))
            .raw(" ");
        page.raw("<i>")
            .text(&trace::stands(recipient, now))
            .raw("</i></dd></div>\n");
    }
    page.raw("</dl>\n");
    table(page, &["When", "What happened"]);
    for event in &trace.events {
        page.raw("<tr>");
        cell(page, "When").text(&event.at.to_console()).raw("</td>");
        cell(page, "What happened")
            .text(&trace::happened(trace, event))
            .raw("</td></tr>\n");
    }
    page.raw("</tbody>\n</table>\n");
    if trace.recipients.len() >= most || trace.events.len() >= most {
        note(page, "There may be more of it: smtpmta trace ID tells all.");
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::tests::{SECOND, facts};
    use super::*;
    use crate::work_queue::Event;
    use crate::work_queue::id::MessageId;

    const ATTACK: &str = "\"><script>document.title='owned'</script><img src=x onerror=alert(1)>";

    fn attacked() -> Asked {
        let event = Event {
            at: Stamp(20 * SECOND),
            what: "deferred".to_owned(),
            n: None,
            text: ATTACK.to_owned(),
        };
        let trace = Trace {
            id: MessageId(10 * SECOND),
            sender: ATTACK.to_owned(),
            client: ATTACK.to_owned(),
            helo: ATTACK.to_owned(),
            protocol: "ESMTP".to_owned(),
            size: 812,
            subject: Some(ATTACK.to_owned()),
            message_id: Some(ATTACK.to_owned()),
            events: vec![event],
            ..Trace::default()
        };
        Asked::Message(Box::new(trace), TRACED)
    }

    #[test]
    fn nothing_that_strangers_wrote_becomes_markup() {
        let page = page(&facts(ATTACK), &attacked());
        assert!(
            !page.contains("<script>document") && !page.contains("<img"),
            "{page}"
        );
        assert_eq!(page.matches("<script").count(), 1, "{page}");
        let told = page
            .matches("&quot;&gt;&lt;script&gt;document.title=&#39;owned&#39;")
            .count();
        assert!(told >= 10, "{told}: {page}");
    }

    #[test]
    fn the_page_is_the_same_markup_whatever_strangers_wrote() {
        // What is left of it without text and the values of attributes that come from facts.
        let tags = |page: &str| {
            let tags = page
                .split('<')
                .skip(1)
                .map(|rest| rest.split('>').next().unwrap().to_owned());
            tags.filter(|tag| !tag.is_empty()).collect::<Vec<_>>()
        };
        let (quiet, loud) = (
            page(&facts("a"), &Asked::Nothing),
            page(&facts(ATTACK), &Asked::Nothing),
        );
        assert_eq!(tags(&quiet), tags(&loud));
    }

    #[test]
    fn every_tag_that_is_opened_is_closed() {
        for asked in [Asked::Nothing, Asked::NoId, Asked::Unknown, attacked()] {
            let page = page(&facts(ATTACK), &asked);
            for tag in [
                "main", "section", "table", "tbody", "tr", "td", "dl", "div", "ol", "ul", "svg", "g", "p",
                "form",
            ] {
                let opened =
                    page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
                assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
            }
        }
    }

    #[test]
    fn what_is_wrong_is_said_first_and_the_rest_is_shown_as_far_as_it_is_known() {
        let mut facts = facts("a.example");
        facts.queue = Err("disk I/O error".to_owned());
        let page = page(&facts, &Asked::Nothing);
        assert!(
            page.contains("<li>the work queue can not be read: disk I/O error</li>"),
            "{page}"
        );
        assert!(
            page.contains(">smtpmta</td>") && !page.contains("All is well"),
            "{page}"
        );
    }

    #[test]
    fn nothing_is_fetched_from_elsewhere() {
        for text in [page(&facts("a"), &Asked::Nothing).as_str(), STYLE, SCRIPT] {
            assert!(!text.contains("http://") && !text.contains("https://") && !text.contains("//cdn"));
        }
        assert!(!page(&facts("a"), &Asked::Nothing).contains(" style=\""));
    }

    #[test]
    fn the_axis_ends_at_a_round_number() {
        let scales = [0, 1, 3, 5, 6, 11, 480, 501, 16_300].map(scale);
        assert_eq!(scales, [1, 1, 5, 5, 10, 20, 500, 1000, 20_000]);
        assert!(scale(u64::MAX) > 0);
    }
}
