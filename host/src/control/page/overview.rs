//! What an operator sees first: what is stuck and what to do, the numbers, and who is connected.

use super::html::Html;
use crate::status::{Figure, Level, Status, moment, number};

/// As CSS and the words before a finding name them: a colour alone says nothing to some.
fn level(level: Level) -> (&'static str, &'static str) {
    match level {
        Level::Ok => ("ok", "OK"),
        Level::Note => ("note", "Note"),
        Level::Attention => ("attention", "Attention"),
        Level::Stuck => ("stuck", "Stuck"),
    }
}

/// The plain sentences.
pub(super) fn headline(html: &mut Html, status: &Status) {
    let Some((first, others)) = status.findings.split_first() else {
        return;
    };
    let (class, word) = level(first.level);
    html.raw("<header id=\"headline\" data-key=\"headline\" class=\"banner ")
        .raw(class)
        .raw("\" data-title=\"")
        .raw(word)
        .raw(": ")
        .text(&status.integration)
        .raw("\">\n<p class=\"who\">distributor <b>")
        .text(&status.integration)
        .raw("</b> <span class=\"live js\">live</span></p>\n<h1><span class=\"badge\">")
        .raw(word)
        .raw("</span> <span aria-live=\"polite\">")
        .text(&first.title)
        .raw("</span></h1>\n<p>")
        .text(&first.advice)
        .raw("</p>\n</header>\n");
    if others.is_empty() {
        return;
    }
    html.raw("<section id=\"findings\" data-key=\"findings\" class=\"card\" aria-label=\"What else there is to know\">\n<ul class=\"findings\">\n");
    for finding in others {
        let (class, word) = level(finding.level);
        html.raw("<li class=\"")
            .raw(class)
            .raw("\"><span class=\"badge\">")
            .raw(word)
            .raw("</span> <div><b>")
            .text(&finding.title)
            .raw("</b> <span class=\"muted\">")
            .text(&finding.advice)
            .raw("</span></div></li>\n");
    }
    html.raw("</ul>\n</section>\n");
}

/// The numbers, in the order in which an event meets them.
pub(super) fn flow(html: &mut Html, status: &Status) {
    let flow = &status.flow;
    html.raw("<section id=\"flow\" data-key=\"flow\" aria-labelledby=\"flow-title\">\n<h2 id=\"flow-title\">Flow</h2>\n<div class=\"tiles\">\n");
    figure(html, "received", "Received", flow.received);
    spark(html, &flow.received_history);
    html.raw("</div>\n");
    figure(html, "filtered", "Filtered", flow.filtered);
    html.raw("<p class=\"muted\">dropped by plugins; ")
        .text(&number(flow.unmatched.total))
        .raw(" more matched no subscription</p></div>\n");
    let in_flight = status.in_flight;
    count(html, "in-flight", "In flight", in_flight.total as u64, "now");
    html.raw("<p class=\"muted\">")
        .text(&number(in_flight.delivering as u64))
        .raw(if status.held_back.is_some() {
            " held back, "
        } else {
            " being delivered, "
        })
        .text(&number(in_flight.queued as u64))
        .raw(" in the queue</p></div>\n");
    figure(html, "delivered", "Delivered", flow.delivered);
    spark(html, &flow.delivered_history);
    html.raw("</div>\n");
    count(html, "retrying-now", "Retrying", in_flight.retrying as u64, "now");
    html.raw("<p class=\"muted\">attempts repeated so far: ")
        .text(&number(flow.retried.total))
        .raw("</p></div>\n");
    let letters = &status.dead_letters;
    html.raw("<div class=\"tile\" id=\"tile-dead-letters\"><h3>Dead letters</h3><p class=\"figure\">");
    match letters.total {
        Some(total) => {
            html.raw(if letters.has_more { "≥ " } else { "" }).text(&number(total));
        }
        None => {
            html.raw("?");
        }
    }
    html.raw("</p><p class=\"rate\">stored</p><p class=\"muted\">")
        .text(&number(flow.dead_lettered.total))
        .raw(" since the start");
    if flow.lost.total > 0 {
        html.raw(", ").text(&number(flow.lost.total)).raw(" lost");
    }
    html.raw("</p></div>\n</div>\n</section>\n");
}

/// Opens a tile; the caller closes it.
fn figure(html: &mut Html, id: &'static str, name: &'static str, figure: Figure) {
    tile(html, id, name, figure.total);
    html.text(&rate(figure.per_second)).raw("</p>");
}

fn count(html: &mut Html, id: &'static str, name: &'static str, n: u64, unit: &'static str) {
    tile(html, id, name, n);
    html.raw(unit).raw("</p>");
}

fn tile(html: &mut Html, id: &'static str, name: &'static str, n: u64) {
    html.raw("<div class=\"tile\" id=\"tile-")
        .raw(id)
        .raw("\"><h3>")
        .raw(name)
        .raw("</h3><p class=\"figure\">")
        .text(&number(n))
        .raw("</p><p class=\"rate\">");
}

fn rate(per_second: f64) -> String {
    if per_second >= 100.0 {
        format!("{per_second:.0} / s")
    } else {
        format!("{per_second:.1} / s")
    }
}

/// The last minute as a line. For those who do not see it the rate says as much.
fn spark(html: &mut Html, history: &[u64]) {
    let highest = history.iter().copied().max().unwrap_or_default().max(1);
    html.raw("<svg class=\"spark\" viewBox=\"0 0 60 20\" preserveAspectRatio=\"none\" aria-hidden=\"true\"><path d=\"M0 19H60\"/><polyline points=\"");
    let start = 60_usize.saturating_sub(history.len());
    for (number, value) in history.iter().enumerate() {
        let x = start + number;
        let y = 19 - (u128::from(*value) * 18 / u128::from(highest));
        html.text(&format!("{x},{y} ")).raw(" ");
    }
    html.raw("\"/></svg>");
}

/// Who is connected, and what waits in streams.
pub(super) fn connections(html: &mut Html, status: &Status) {
    html.raw("<section id=\"connections\" data-key=\"connections\" class=\"card\" aria-labelledby=\"connections-title\">\n<h2 id=\"connections-title\">Connections</h2>\n<table class=\"stacked\">\n<thead><tr><th scope=\"col\">To</th><th scope=\"col\">State</th><th scope=\"col\">Address</th><th scope=\"col\">Since</th><th scope=\"col\">Detail</th></tr></thead>\n<tbody>\n");
    for connection in &status.connections {
        html.raw("<tr>")
            .cell("To")
            .raw("<b>")
            .text(&connection.name)
            .raw("</b></td>");
        html.cell("State").raw(if connection.is_up {
            "<span class=\"badge ok\">Up</span>"
        } else {
            "<span class=\"badge stuck\">Down</span>"
        });
        html.raw("</td>")
            .cell("Address")
            .raw("<code>")
            .text(&connection.address)
            .raw("</code></td>");
        let since = connection.since.as_deref().map(|since| moment(since, &status.time));
        html.cell("Since").text(since.as_deref().unwrap_or("–")).raw("</td>");
        html.cell("Detail").text(&connection.detail).raw("</td></tr>\n");
    }
    html.raw("</tbody>\n</table>\n");
    if !status.streams.is_empty() {
        html.raw("<table class=\"stacked\">\n<thead><tr><th scope=\"col\">Stream</th><th scope=\"col\">Consumer</th><th scope=\"col\">Waiting in NATS</th><th scope=\"col\">Handed out, not settled</th></tr></thead>\n<tbody>\n");
        for stream in &status.streams {
            let known = |n: Option<u64>| n.map_or_else(|| "not known".to_owned(), number);
            html.raw("<tr>")
                .cell("Stream")
                .raw("<b>")
                .text(&stream.stream)
                .raw("</b></td>");
            html.cell("Consumer")
                .raw("<code>")
                .text(&stream.consumer)
                .raw("</code></td>");
            html.cell("Waiting in NATS").text(&known(stream.waiting));
            html.raw("</td>")
                .cell("Not settled")
                .text(&known(stream.unsettled))
                .raw("</td></tr>\n");
        }
        html.raw("</tbody>\n</table>\n");
    }
    html.raw("</section>\n");
}

/// What is delivered.
pub(super) fn subscriptions(html: &mut Html, status: &Status) {
    html.raw("<section id=\"subscriptions\" data-key=\"subscriptions\" class=\"card\" aria-labelledby=\"subscriptions-title\">\n<h2 id=\"subscriptions-title\">Subscriptions</h2>\n");
    if status.subscriptions.is_empty() {
        html.raw("<p class=\"muted\">Nothing is subscribed, so nothing is delivered.</p>\n</section>\n");
        return;
    }
    html.raw("<table class=\"stacked\">\n<thead><tr><th scope=\"col\">Events</th><th scope=\"col\">From</th><th scope=\"col\">Only</th><th scope=\"col\">Subscription</th></tr></thead>\n<tbody>\n");
    for subscription in &status.subscriptions {
        html.raw("<tr>")
            .cell("Events")
            .raw("<code>")
            .text(&subscription.event)
            .raw("</code></td>");
        html.cell("From")
            .text(&subscription.received_from)
            .raw("</td>")
            .cell("Only");
        let lists = [
            ("project ", &subscription.projects),
            ("stage ", &subscription.stages),
            ("service ", &subscription.services),
        ];
        let lists: Vec<_> = lists.iter().filter(|(_, list)| !list.is_empty()).collect();
        for (number, (name, list)) in lists.iter().enumerate() {
            html.raw(if number > 0 { "; " } else { "" })
                .raw(name)
                .text(&list.join(" or "));
        }
        html.raw(if lists.is_empty() { "everything" } else { "" });
        html.raw("</td>").cell("Subscription").raw("<code>");
        html.text(subscription.id.as_deref().unwrap_or("PUBSUB_TOPIC"))
            .raw("</code></td></tr>\n");
    }
    html.raw("</tbody>\n</table>\n</section>\n");
}

/// What this is.
pub(super) fn foot(html: &mut Html, status: &Status) {
    let uptime = humantime::format_duration(std::time::Duration::from_secs(status.uptime_seconds));
    html.raw("<footer id=\"foot\" data-key=\"foot\" class=\"muted\"><p>distributor ")
        .text(&status.version)
        .raw(", up for ")
        .text(&uptime.to_string())
        .raw("; ")
        .text(&moment(&status.time, ""))
        .raw(". The same in a terminal: <code>distributor status --watch</code>; for programs: <code>GET /status</code>.</p></footer>\n");
}
