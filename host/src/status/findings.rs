//! What an operator has to know, in plain sentences: what is stuck, why, and what to do about it.
//!
//! A pure function of the [`Status`]. The status page and `distributor status` show what it says first of all.

use serde_json::Value;

use super::model::{Finding, Level, Status};
use super::words::{many, moment, number, reason_in_words};
use crate::dead_letter::JobKind;

/// Longest text of others in a sentence.
const MAX_QUOTED_CHARS: usize = 240;

/// Everything that there is to say, the most serious first. There is always something.
pub(super) fn findings(status: &Status) -> Vec<Finding> {
    let mut found = Found(Vec::new());
    connections(status, &mut found);
    service(status, &mut found);
    plugins(status, &mut found);
    retries(status, &mut found);
    dead_letters(status, &mut found);
    subscriptions(status, &mut found);
    losses(status, &mut found);
    flow(status, &mut found);
    let Found(mut findings) = found;
    // Stable: what was found first of a level comes first.
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    findings
}

struct Found(Vec<Finding>);

impl Found {
    fn add(&mut self, level: Level, title: String, advice: &str) {
        let advice = advice.to_owned();
        self.0.push(Finding { level, title, advice });
    }
}

fn connections(status: &Status, found: &mut Found) {
    for connection in status.connections.iter().filter(|connection| !connection.is_up) {
        let (address, since) = (&connection.address, since(connection.since.as_deref(), &status.time));
        let why = because(&connection.detail);
        match connection.name.as_str() {
            "NATS" => found.add(
                Level::Stuck,
                format!("No events come: there is no connection to NATS at {address}{since}{why}"),
                "Check that the NATS servers run and can be reached from this pod (PUBSUB_URL, network policies), and that \
                 user, password or token are right. The distributor connects again by itself, within a second. Events that \
                 a stream stores wait there; over core NATS they are lost.",
            ),
            "Keptn API" => found.add(
                Level::Stuck,
                format!("No events come: the Keptn API at {address} cannot be polled{since}{why}"),
                "Check that the Keptn API can be reached from here (KEPTN_API_ENDPOINT, proxies) and that its token is right \
                 (KEPTN_API_TOKEN). Polling goes on by itself; open events wait at the control plane.",
            ),
            "Control plane" => found.add(
                Level::Attention,
                format!("The control plane does not answer heartbeats{since}{why}"),
                "Events are delivered to the last known subscriptions. Check that the control plane runs and can be reached \
                 from this pod; registration and heartbeats go on by themselves.",
            ),
            // It has a sentence of its own.
            _ => {}
        }
    }
    if status.is_paused {
        found.add(
            Level::Attention,
            "Paused: an operator wants no events to be received".to_owned(),
            "What was received before is delivered; what a stream stores waits there. `POST /resume` on the control listener \
             goes on.",
        );
    }
    if status.is_ending {
        found.add(
            Level::Attention,
            "Shutting down: what is under way comes to its end".to_owned(),
            "Events that were not started go back to where they came from. SHUTDOWN_DRAIN_TIMEOUT is how long that may take.",
        );
    }
}

fn service(status: &Status, found: &mut Found) {
    let Some(held_back) = &status.held_back else { return };
    let (service, since) = (&status.service, since(Some(&held_back.since), &status.time));
    let error = quoted(&held_back.error);
    let title = format!(
        "Held back: the service at {service} is not ready{since} ({error}){}",
        waiting(status)
    );
    found.add(
        Level::Stuck,
        title,
        "Look at the container next to this one: does it run, and does it listen there (PUBSUB_RECIPIENT, \
         PUBSUB_RECIPIENT_PORT, PUBSUB_RECIPIENT_PATH)? Nothing is lost meanwhile: it is asked again every few seconds, and \
         deliveries go on as soon as it answers.",
    );
}

fn plugins(status: &Status, found: &mut Found) {
    let plugins = &status.plugins;
    for plugin in plugins["plugins"].as_array().into_iter().flatten() {
        let (name, health) = (text(&plugin["name"]), &plugin["health"]);
        if health["breaker"] == "closed" || health["breaker"].is_null() {
            continue;
        }
        let failures = &health["failures_in_row"];
        found.add(
            Level::Stuck,
            format!("The plugin {name} is not called: it failed {failures} times in a row"),
            "What its events do meanwhile its `on_failure` says; by default they wait. Why it fails is under Recent events \
             and in the log. Mend it in PLUGINS_DIR, or roll back to the plugins before.",
        );
    }
    if plugins["degraded"] == true {
        let problems = plugins["refused"]["problems"].as_array();
        let first = problems
            .and_then(|problems| problems.first())
            .map(text)
            .unwrap_or_default();
        let generation = &plugins["generation"];
        found.add(
            Level::Attention,
            format!(
                "The plugins in PLUGINS_DIR were refused, and generation {generation} stays in force: {}",
                quoted(first)
            ),
            "Events flow through the last plugins that worked. Mend what is named; the directory is read again as soon as it \
             changes.",
        );
    }
}

fn retries(status: &Status, found: &mut Found) {
    let Some(first) = status.retrying.first() else { return };
    if let Some(given_up) = status.retrying.iter().find(|retrying| retrying.is_given_up) {
        found.add(
            Level::Stuck,
            format!(
                "Held back: an event that was given up cannot be stored: {}",
                quoted(&given_up.error)
            ),
            "No event is dropped because there is no place for it. Make room (redrive or purge dead letters, or raise \
             DEAD_LETTER_MAX_BYTES), or mend the place that DEAD_LETTER names; it is tried again by itself.",
        );
        return;
    }
    let first_attempt = status
        .retrying
        .iter()
        .filter_map(|retrying| retrying.first_attempt.as_deref())
        .min();
    let since = since(first_attempt, &status.time);
    let n_behind: usize = status.retrying.iter().map(|retrying| retrying.n_behind).sum();
    let n_behind = match n_behind as u64 {
        0 => String::new(),
        n => format!(", and {} behind in order", many(n, "waits", "wait")),
    };
    let n = status.in_flight.retrying.max(status.retrying.len()) as u64;
    let what = format!("{} tried again{since}{n_behind}", many(n, "event is", "events are"));
    let error = quoted(&first.error);
    let delivered: u64 = status.flow.delivered_history.iter().sum();
    let (level, title) = if delivered == 0 {
        (
            Level::Stuck,
            format!("Nothing gets through: {what}; the last error: {error}"),
        )
    } else {
        (Level::Attention, format!("{what}; the last error: {error}"))
    };
    found.add(
        level,
        title,
        "The answer is the service's own (or a plugin's, if it names one): its log says more. What does not get through \
         becomes a dead letter after DELIVERY_RETRY attempts or DELIVERY_MAX_AGE, and can be redriven here.",
    );
}

fn dead_letters(status: &Status, found: &mut Found) {
    let letters = &status.dead_letters;
    if let Some(job) = letters.job.as_ref().filter(|job| job.ended.is_none()) {
        let done = job.delivered + job.dropped + job.deleted + job.gone + job.failed;
        let what = match job.kind {
            JobKind::Redrive => "Redriving dead letters",
            JobKind::Purge => "Purging dead letters",
        };
        let title = format!("{what}: {} of {} done", number(done), number(job.selected));
        found.add(
            Level::Note,
            title,
            "A letter is deleted only after the service has taken its event.",
        );
    }
    let n = letters.total.unwrap_or_default();
    if n > 0 {
        let more = if letters.has_more { "At least " } else { "" };
        let reasons: Vec<_> = letters
            .by_reason
            .iter()
            .map(|(reason, n)| format!("{} {}", number(*n), reason_in_words(reason)))
            .collect();
        found.add(
            Level::Attention,
            format!(
                "{more}{} not be delivered and {} kept as dead letters ({})",
                many(n, "event could", "events could"),
                if n == 1 { "is" } else { "are" },
                reasons.join(", ")
            ),
            "Below is why. Mend the cause, then redrive them: they go to the service alone, and are deleted when it has \
             taken them.",
        );
    }
}

fn subscriptions(status: &Status, found: &mut Found) {
    if status.subscriptions.is_empty() && !status.is_ending {
        found.add(
            Level::Attention,
            "No events come: nothing is subscribed".to_owned(),
            "Without registration PUBSUB_TOPIC says what to receive; with it, add a subscription for this integration in \
             the Keptn Bridge.",
        );
    }
    let unreceived: Vec<_> = status
        .subscriptions
        .iter()
        .filter(|subscription| subscription.received_from == super::NOT_RECEIVED)
        .map(|subscription| subscription.event.as_str())
        .collect();
    let is_connected = status
        .connections
        .iter()
        .all(|connection| connection.is_up || connection.name != "NATS");
    if let (Some(first), true) = (unreceived.first(), is_connected && status.uptime_seconds > 10) {
        found.add(
            Level::Attention,
            format!("{} not received yet, {} among them", many(unreceived.len() as u64, "topic is", "topics are"), quoted(first)),
            "With DELIVERY_MODE=jetstream it waits for a stream that stores the topic, and with registration for the first \
             heartbeat that the control plane answers.",
        );
    }
}

fn losses(status: &Status, found: &mut Found) {
    let lost = status.flow.lost.total;
    if lost > 0 {
        found.add(
            Level::Attention,
            format!("{} lost since the start", many(lost, "event was", "events were")),
            "They were given up with DEAD_LETTER=log, or came over core NATS faster than they could be taken. A JetStream \
             stream for the topics, and for dead letters, loses none.",
        );
    }
    let over_core = status
        .subscriptions
        .iter()
        .filter(|subscription| subscription.received_from == super::CORE_NATS);
    let n = over_core.count() as u64;
    if n > 0 {
        found.add(
            Level::Note,
            format!("{} received over core NATS: at most once", many(n, "topic is", "topics are")),
            "No stream stores them, so an event that comes while this process is away is gone. A JetStream stream for these \
             topics is found and used by itself.",
        );
    }
}

fn flow(status: &Status, found: &mut Found) {
    if found.0.iter().any(|finding| finding.level == Level::Stuck) || status.is_ending {
        return;
    }
    let service = &status.service;
    let title = if status.flow.received.total == 0 {
        format!("Ready: no event has come yet; the service is at {service}")
    } else if status.flow.received_history.iter().sum::<u64>() == 0 && status.in_flight.total == 0 {
        format!("Ready: everything is done, and no event came in the last minute; the service is at {service}")
    } else {
        let rate = status.flow.delivered.per_second;
        format!(
            "Delivering to {service}: {rate:.1} events a second, {} under way",
            number(status.in_flight.total as u64)
        )
    };
    found.add(Level::Ok, title, "There is nothing to do.");
}

/// What waits for the service, here and in streams.
fn waiting(status: &Status) -> String {
    let in_streams: u64 = status.streams.iter().filter_map(|stream| stream.waiting).sum();
    let here = status.in_flight.total as u64;
    match (in_streams, here) {
        (0, 0) => String::new(),
        (0, here) => format!("; {} here", many(here, "event waits", "events wait")),
        (waiting, 0) => format!("; {} in NATS", many(waiting, "event waits", "events wait")),
        (waiting, here) => format!(
            "; {} in NATS and {} here",
            many(waiting, "event waits", "events wait"),
            number(here)
        ),
    }
}

fn because(detail: &str) -> String {
    if detail.is_empty() {
        String::new()
    } else {
        format!(" ({})", quoted(detail))
    }
}

/// ` since 02:14:07 UTC`, with the date if it was another day.
fn since(time: Option<&str>, now: &str) -> String {
    time.map_or_else(String::new, |time| format!(" since {}", moment(time, now)))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn quoted(text: &str) -> String {
    if text.chars().count() <= MAX_QUOTED_CHARS {
        return text.to_owned();
    }
    let start: String = text.chars().take(MAX_QUOTED_CHARS - 1).collect();
    start + "…"
}

#[cfg(test)]
mod tests;
