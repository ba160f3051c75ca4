//! Single events: those that are tried again, the dead letters, and the last ones with their paths.

use super::html::Html;
use crate::dead_letter::{JobKind, JobReport, Letter, Listing};
use crate::recent_events::{EventNames, RecentEvent, StepKind};
use crate::status::{Retrying, Status, moment, number, reason_in_words, seconds};

const RETRYING_COLUMNS: &str = "<th scope=\"col\">Event</th><th scope=\"col\">Last error</th><th scope=\"col\">Attempts</th><th scope=\"col\">Next attempt</th>";
const LETTER_COLUMNS: &str = "<th scope=\"col\" class=\"js\"><span class=\"hidden\">Choose</span></th><th scope=\"col\">Event</th><th scope=\"col\">Why</th><th scope=\"col\">Given up</th><th scope=\"col\" class=\"js\"><span class=\"hidden\">Actions</span></th>";
const EVENT_COLUMNS: &str = "<th scope=\"col\">Event</th><th scope=\"col\">Path</th>";

/// What is tried again, with its next attempt.
pub(super) fn retrying(html: &mut Html, status: &Status) {
    html.raw("<section id=\"retrying\" data-key=\"retrying\" class=\"card\" aria-labelledby=\"retrying-title\">\n<h2 id=\"retrying-title\">Retrying now</h2>\n");
    if status.retrying.is_empty() {
        html.raw("<p class=\"muted\">No event waits for another attempt.</p>\n</section>\n");
        return;
    }
    html.table("more-retrying", RETRYING_COLUMNS, &status.retrying, |html, retrying| {
        again(html, status, retrying);
    });
    let n_others = status.in_flight.retrying.saturating_sub(status.retrying.len());
    if n_others > 0 {
        html.raw("<p class=\"muted\">and ")
            .text(&number(n_others as u64))
            .raw(" others, later</p>\n");
    }
    html.raw("</section>\n");
}

fn again(html: &mut Html, status: &Status, retrying: &Retrying) {
    html.raw("<tr data-key=\"").text(&retrying.names.id);
    html.text(retrying.names.subscription_id.as_deref().unwrap_or_default())
        .raw("\">");
    html.cell("Event");
    names(html, &retrying.names);
    html.raw("</td>")
        .cell("Last error")
        .raw("<span class=\"error\">")
        .text(&retrying.error)
        .raw("</span>");
    if retrying.n_behind > 0 {
        html.raw(" <span class=\"muted\">")
            .text(&number(retrying.n_behind as u64));
        html.raw(" behind it in order</span>");
    }
    html.raw("</td>").cell("Attempts").text(&retrying.attempts.to_string());
    if let Some(first) = &retrying.first_attempt {
        html.raw(" <span class=\"muted\">since ")
            .text(&moment(first, &status.time))
            .raw("</span>");
    }
    html.raw("</td>").cell("Next attempt");
    html.raw("in ").text(&seconds(retrying.next_attempt_in_seconds));
    html.raw(" <span class=\"muted\">at ")
        .text(&moment(&retrying.next_attempt, &status.time))
        .raw("</span></td></tr>\n");
}

/// What could not be delivered, and what can be done about it.
pub(super) fn dead_letters(html: &mut Html, status: &Status, listing: &Listing) {
    html.raw("<section id=\"dead-letters\" data-key=\"dead-letters\" class=\"card\" aria-labelledby=\"dead-letters-title\">\n<h2 id=\"dead-letters-title\">Dead letters</h2>\n<p class=\"muted\">Kept in ")
        .text(&listing.place);
    if let Some(as_of) = &listing.as_of {
        html.raw(", as of ").text(&moment(as_of, &status.time));
    }
    html.raw(".</p>\n");
    if let Some(error) = &listing.error {
        html.raw("<p class=\"error\">They cannot be looked at: ")
            .text(error)
            .raw("</p>\n");
    }
    let is_busy = status.dead_letters.job.as_ref().is_some_and(|job| job.ended.is_none());
    if let Some(report) = &status.dead_letters.job {
        job(html, status, report);
    }
    let Some(newest) = listing.letters.first() else {
        if listing.error.is_none() {
            html.raw("<p class=\"muted\">There are none.</p>\n");
        }
        html.raw("</section>\n");
        return;
    };
    let disabled = if is_busy { "\" disabled>" } else { "\">" };
    html.raw("<div class=\"actions js\" role=\"group\" aria-label=\"Work on dead letters\">\n<label class=\"check\"><input type=\"checkbox\" id=\"choose-all\"> Choose all listed</label>\n<button class=\"primary\" data-action=\"redrive-chosen")
        .raw(disabled)
        .raw("Redrive chosen</button>\n<button class=\"danger\" data-action=\"purge-chosen")
        .raw(disabled)
        .raw("Purge chosen</button>\n");
    for (action, class, name) in [
        ("redrive-all", "", "Redrive all "),
        ("purge-all", "danger", "Purge all "),
    ] {
        html.raw("<button class=\"")
            .raw(class)
            .raw("\" data-through=\"")
            .text(&newest.id);
        html.raw("\" data-total=\"")
            .text(&listing.total.to_string())
            .raw("\" data-action=\"")
            .raw(action);
        html.raw(disabled)
            .raw(name)
            .text(&number(listing.total))
            .raw("</button>\n");
    }
    html.raw("</div>\n<noscript><p>Without JavaScript: <code>distributor dead-letter redrive --all</code> in the container delivers them again.</p></noscript>\n");
    html.table("more-letters", LETTER_COLUMNS, &listing.letters, |html, letter| {
        row(html, status, letter, disabled);
    });
    let n_others = listing.total.saturating_sub(listing.letters.len() as u64);
    if n_others > 0 || listing.has_more {
        html.raw(
            "<p class=\"muted\">and older ones: <code>distributor dead-letter list</code> shows all of them.</p>\n",
        );
    }
    html.raw("</section>\n");
}

fn row(html: &mut Html, status: &Status, letter: &Letter, disabled: &'static str) {
    html.raw("<tr data-key=\"")
        .text(&letter.id)
        .raw("\"><td class=\"js choose\"><input type=\"checkbox\" data-id=\"");
    html.text(&letter.id)
        .raw("\" aria-label=\"Choose event ")
        .text(&letter.event_id)
        .raw("\"></td>");
    html.cell("Event")
        .raw("<b class=\"break\">")
        .text(&letter.event_type)
        .raw("</b><dl class=\"facts\">");
    html.fact("id", &letter.event_id)
        .fact("context", &letter.keptn_context)
        .fact("subscription", letter.subscription_id.as_deref().unwrap_or_default());
    html.raw("</dl></td>")
        .cell("Why")
        .raw("<b>")
        .text(reason_in_words(&letter.reason))
        .raw("</b> <code>")
        .text(&letter.reason)
        .raw("</code>");
    if let Some(plugin) = &letter.plugin {
        html.raw(" in plugin <b>").text(plugin).raw("</b>");
    }
    html.raw("<br><span class=\"error break\">")
        .text(&letter.error)
        .raw("</span></td>")
        .cell("Given up");
    html.text(&moment(&letter.stored, &status.time))
        .raw("<br><span class=\"muted\">");
    html.text(&match letter.attempts {
        1 => "1 attempt".to_owned(),
        n => format!("{n} attempts"),
    });
    html.raw(", plugins of generation ")
        .text(&letter.generation.to_string());
    html.raw("</span></td><td class=\"js row-actions\">");
    for (action, class, name) in [("redrive-one", "primary", "Redrive"), ("purge-one", "danger", "Purge")] {
        html.raw("<button class=\"")
            .raw(class)
            .raw("\" data-id=\"")
            .text(&letter.id)
            .raw("\" data-event=\"");
        html.text(&letter.event_id)
            .raw("\" aria-label=\"")
            .raw(name)
            .raw(" event ")
            .text(&letter.event_id);
        html.raw("\" data-action=\"")
            .raw(action)
            .raw(disabled)
            .raw(name)
            .raw("</button> ");
    }
    html.raw("</td></tr>\n");
}

fn job(html: &mut Html, status: &Status, job: &JobReport) {
    let (doing, done) = match job.kind {
        JobKind::Redrive => ("Redriving", "Redrive"),
        JobKind::Purge => ("Purging", "Purge"),
    };
    let is_bad = job.failed > 0 || job.error.is_some();
    html.raw(if is_bad {
        "<div class=\"job attention\">"
    } else {
        "<div class=\"job note\">"
    });
    match &job.ended {
        None => html
            .raw("<b>")
            .raw(doing)
            .raw(" ")
            .text(&number(job.selected))
            .raw("</b>: "),
        Some(ended) => html
            .raw("<b>")
            .raw(done)
            .raw("</b> ended at ")
            .text(&moment(ended, &status.time))
            .raw(": "),
    };
    let parts = [
        (job.delivered, " delivered"),
        (job.dropped, " dropped by plugins"),
        (job.deleted, " deleted"),
        (job.gone, " gone before"),
        (job.failed, " failed and kept"),
    ];
    let said: Vec<_> = parts.iter().filter(|(n, _)| *n > 0).collect();
    for (position, (n, what)) in said.iter().enumerate() {
        html.raw(if position > 0 { ", " } else { "" })
            .text(&number(*n))
            .raw(what);
    }
    html.raw(if said.is_empty() { "nothing yet" } else { "" })
        .raw(" of ")
        .text(&number(job.selected))
        .raw(".");
    if let Some(error) = &job.error {
        html.raw(" <span class=\"error\">It ended early: ")
            .text(error)
            .raw("</span>");
    }
    if !job.failures.is_empty() {
        html.raw("<ul>");
        for failure in &job.failures {
            html.raw("<li>event <code>")
                .text(&failure.event_id)
                .raw("</code>: <span class=\"error\">");
            html.text(&failure.error).raw("</span></li>");
        }
        html.raw("</ul>");
    }
    html.raw("</div>\n");
}

/// The last events.
pub(super) fn recent(html: &mut Html, status: &Status, events: &[RecentEvent]) {
    html.raw("<section id=\"recent\" data-key=\"recent\" class=\"card\" aria-labelledby=\"recent-title\">\n<h2 id=\"recent-title\">Recent events</h2>\n<p class=\"muted\">What went wrong is always here. While this page is open, what is dropped or delivered is as well, up to 50 of each a second.</p>\n");
    if events.is_empty() {
        html.raw("<p class=\"muted\">No event was seen yet.</p>\n</section>\n");
        return;
    }
    html.table("more-events", EVENT_COLUMNS, events, |html, event| {
        path(html, status, event);
    });
    html.raw("</section>\n");
}

fn path(html: &mut Html, status: &Status, event: &RecentEvent) {
    html.raw("<tr data-key=\"")
        .text(event.path.first().map_or("", |step| step.at.as_str()));
    html.text(&event.names.id).raw("\">").cell("Event");
    names(html, &event.names);
    html.raw("</td>").cell("Path").raw("<ol class=\"path\">");
    for step in &event.path {
        let (class, word) = words(step.step);
        html.raw("<li><span class=\"badge ")
            .raw(class)
            .raw("\">")
            .raw(word)
            .raw("</span> <time>");
        html.text(&moment(&step.at, &status.time))
            .raw("</time> <span class=\"break\">")
            .text(&step.text);
        html.raw("</span></li>");
    }
    html.raw("</ol></td></tr>\n");
}

fn words(step: StepKind) -> (&'static str, &'static str) {
    match step {
        StepKind::Unmatched => ("note", "Not wanted"),
        StepKind::Duplicate => ("note", "Came before"),
        StepKind::Dropped => ("note", "Filtered"),
        StepKind::PluginFailed => ("attention", "Plugin failed"),
        StepKind::AttemptFailed => ("attention", "Failed"),
        StepKind::Delivered => ("ok", "Delivered"),
        StepKind::Forwarded => ("ok", "Sent on"),
        StepKind::Published => ("ok", "Answered"),
        StepKind::NotPublished => ("attention", "Not answered"),
        StepKind::DeadLettered => ("stuck", "Dead letter"),
        StepKind::NotStored => ("stuck", "Not stored"),
        StepKind::Lost => ("stuck", "Lost"),
    }
}

fn names(html: &mut Html, names: &EventNames) {
    html.raw("<b class=\"break\">")
        .text(&names.ty)
        .raw("</b><dl class=\"facts\">");
    html.fact("id", &names.id)
        .fact("source", &names.source)
        .fact("context", &names.keptn_context)
        .fact("time", &names.time)
        .fact("subscription", names.subscription_id.as_deref().unwrap_or_default());
    html.raw("</dl>");
}
