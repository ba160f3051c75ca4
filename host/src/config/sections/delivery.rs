//! Where events go to: the service, or the dead letters.
//!
//! Called by [`super::super::from_env`].

use http::Uri;

use super::super::read::Reader;
use super::super::report::without_password;
use super::super::variables as var;
use super::super::{ApiEndpoint, DeadLetterConfig, DeadLetterSink, DeliveryConfig, OnTimeout, Ordering, RetryOn};

pub(in crate::config) fn delivery(reader: &mut Reader<'_>, verify_certificates: bool) -> DeliveryConfig {
    let recipient = recipient(reader).unwrap_or_else(|(variable, problem)| {
        reader.problem(variable, problem);
        Uri::default()
    });
    let timeout = reader.positive_duration(&var::DELIVERY_TIMEOUT, "gives the service no time at all");
    DeliveryConfig {
        recipient,
        verify_certificates,
        concurrency: reader.count(&var::DELIVERY_CONCURRENCY, 1) as usize,
        ordering: reader.choice(
            &var::DELIVERY_ORDERING,
            &[
                ("key", Ordering::Key),
                ("none", Ordering::None),
                ("strict", Ordering::Strict),
            ],
        ),
        timeout,
        on_timeout: reader.choice(
            &var::DELIVERY_ON_TIMEOUT,
            &[
                ("auto", OnTimeout::Auto),
                ("retry", OnTimeout::Retry),
                ("accept", OnTimeout::Accept),
            ],
        ),
        retries: reader.count(&var::DELIVERY_RETRY, 0),
        retry_on: retry_on(reader),
        first_pause: reader.positive_duration(&var::DELIVERY_BACKOFF_DELAY, "would try again without a pause"),
        longest_pause: reader.positive_duration(&var::DELIVERY_BACKOFF_MAX, "would try again without a pause"),
        max_age: reader.positive_duration(
            &var::DELIVERY_MAX_AGE,
            "would never try again; DELIVERY_RETRY=0 does that",
        ),
    }
}

fn retry_on(reader: &mut Reader<'_>) -> RetryOn {
    let items = reader.list(&var::DELIVERY_RETRY_ON);
    RetryOn::parse(items.iter().map(String::as_str)).unwrap_or_else(|problem| {
        reader.problem(&var::DELIVERY_RETRY_ON, problem);
        RetryOn::parse([]).expect("nothing is wrong with nothing")
    })
}

/// `PUBSUB_RECIPIENT`, `_PORT` and `_PATH` put together as the original does.
fn recipient(reader: &Reader<'_>) -> Result<Uri, (&'static var::Variable, String)> {
    let host = reader.text(&var::PUBSUB_RECIPIENT);
    let host = host.trim_end_matches('/');
    if host.is_empty() {
        return Err((
            &var::PUBSUB_RECIPIENT,
            "is empty, but events need a recipient".to_owned(),
        ));
    }
    let shown = without_password(host);
    let base = if host.starts_with("http://") || host.starts_with("https://") {
        host.to_owned()
    } else {
        format!("http://{host}")
    };
    let parsed: Uri = base
        .parse()
        .map_err(|error| (&var::PUBSUB_RECIPIENT, format!("{shown:?} is no host or URL: {error}")))?;
    if parsed.port().is_some() {
        let problem = format!(
            "{shown:?} has a port already; it belongs into {}",
            var::PUBSUB_RECIPIENT_PORT.name
        );
        return Err((&var::PUBSUB_RECIPIENT, problem));
    }
    if parsed.path() != "/" || parsed.query().is_some() {
        let problem = format!(
            "{shown:?} has a path; it belongs into {}",
            var::PUBSUB_RECIPIENT_PATH.name
        );
        return Err((&var::PUBSUB_RECIPIENT, problem));
    }
    let port = reader.text(&var::PUBSUB_RECIPIENT_PORT);
    let port: u16 = match port.as_str() {
        "" => 8080,
        port => port.parse().map_err(|_| {
            (
                &var::PUBSUB_RECIPIENT_PORT,
                format!("{port:?} is not a port from 1 to 65535"),
            )
        })?,
    };
    let path = reader.text(&var::PUBSUB_RECIPIENT_PATH);
    let slash = if path.starts_with('/') { "" } else { "/" };
    format!("{base}:{port}{slash}{path}")
        .parse()
        .map_err(|error| (&var::PUBSUB_RECIPIENT_PATH, format!("{path:?} is no path: {error}")))
}

pub(in crate::config) fn dead_letter(reader: &mut Reader<'_>, endpoint: &ApiEndpoint) -> DeadLetterConfig {
    let text = reader.text(&var::DEAD_LETTER);
    let has_nats = *endpoint == ApiEndpoint::InCluster;
    let sink = match (text.as_str(), text.strip_prefix("file:")) {
        ("" | "auto", _) if has_nats => DeadLetterSink::Auto,
        ("" | "auto", _) => {
            let warning = "DEAD_LETTER is not set, and there is no NATS in a remote execution plane: events that cannot be \
                           delivered are only logged; `file:<directory>` keeps them";
            reader.warnings.push(warning.to_owned());
            DeadLetterSink::Log
        }
        ("nats", _) if has_nats => DeadLetterSink::Nats,
        ("nats", _) => {
            let problem = "needs NATS, which a remote execution plane (KEPTN_API_ENDPOINT) does not have; use \
                           `file:<directory>` or `log`";
            reader.problem(&var::DEAD_LETTER, problem);
            DeadLetterSink::Log
        }
        ("log", _) => DeadLetterSink::Log,
        (_, Some(directory)) if !directory.is_empty() => DeadLetterSink::Directory(directory.into()),
        _ => {
            let problem = format!("{text:?} is none of `auto`, `nats`, `log`, `file:<directory>`");
            reader.problem(&var::DEAD_LETTER, problem);
            DeadLetterSink::Auto
        }
    };
    DeadLetterConfig {
        sink,
        creates_stream: reader.boolean(&var::DEAD_LETTER_CREATE_STREAM),
        max_age: reader.positive_duration(&var::DEAD_LETTER_MAX_AGE, "would keep nothing"),
        max_bytes: reader.bytes(&var::DEAD_LETTER_MAX_BYTES),
    }
}
