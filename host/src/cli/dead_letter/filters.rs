//! The options that choose dead letters, the same for all commands.

use std::time::SystemTime;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::config::Config;
use crate::dead_letter::{Integration, Reason, Selection};
use crate::subject::Subject;

/// Conditions; of several kinds all have to be met, of several values of one kind any.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which ones")]
pub(super) struct Filters {
    /// Why they were given up.
    #[arg(long, value_name = "REASON", value_parser = reasons())]
    reason: Vec<Reason>,
    /// Event type, or a pattern with the wildcards of NATS: `sh.keptn.event.*.triggered`.
    #[arg(long = "type", value_name = "TYPE", value_parser = event_type)]
    types: Vec<Subject>,
    /// Value of `shkeptncontext`.
    #[arg(long, value_name = "CONTEXT")]
    context: Vec<String>,
    /// Event id.
    #[arg(long, value_name = "ID")]
    event_id: Vec<String>,
    /// Given up since then: so long ago (`1h`, `2d`), or a time (`2026-11-22T18:00:00Z`).
    #[arg(long, value_name = "TIME", value_parser = point_in_time)]
    since: Option<SystemTime>,
    /// Given up before then.
    #[arg(long, value_name = "TIME", value_parser = point_in_time)]
    until: Option<SystemTime>,
    /// Sequence as `list` shows it. In a directory it is the number of the file in the order of names, which changes
    /// when files are deleted.
    #[arg(long, value_name = "N")]
    sequence: Vec<u64>,
    /// Whose: the name of another service (its durable consumer, as `distributor check` shows it), or `all`. Without it
    /// those of this service.
    #[arg(long, value_name = "NAME")]
    integration: Option<String>,
}

impl Filters {
    pub(super) fn selection(&self, config: &Config) -> Selection {
        let integration = match self.integration.as_deref() {
            Some("all") => Integration::All,
            Some(name) => Integration::Named(name.to_owned()),
            None => Integration::Named(config.jetstream.durable.clone()),
        };
        Selection {
            reasons: self.reason.clone(),
            types: self.types.clone(),
            contexts: self.context.clone(),
            event_ids: self.event_id.clone(),
            since: self.since,
            until: self.until,
            sequences: self.sequence.iter().copied().collect(),
            ..Selection::all(integration)
        }
    }
}

fn reasons() -> impl TypedValueParser<Value = Reason> {
    PossibleValuesParser::new(Reason::ALL.map(Reason::as_str)).map(|text| Reason::parse(&text))
}

fn event_type(text: &str) -> Result<Subject, String> {
    Subject::pattern(text).map_err(|error| error.to_string())
}

fn point_in_time(text: &str) -> Result<SystemTime, String> {
    if let Ok(time) = humantime::parse_rfc3339_weak(text) {
        return Ok(time);
    }
    let ago = humantime::parse_duration(text).ok();
    ago.and_then(|ago| SystemTime::now().checked_sub(ago))
        .ok_or_else(|| "is neither a duration, e.g. `1h` or `2d`, nor a time, e.g. `2026-11-22T18:00:00Z`".to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_point_in_time_is_written_as_such_or_counted_back_from_now() {
        let known = humantime::parse_rfc3339("2026-11-22T18:00:00Z").unwrap();
        for text in ["2026-11-22T18:00:00Z", "2026-11-22 18:00:00"] {
            assert_eq!(point_in_time(text).unwrap(), known);
        }
        let an_hour_ago = point_in_time("1h").unwrap();
        let age = an_hour_ago.elapsed().unwrap();
        assert!((3600..3660).contains(&age.as_secs()), "{age:?}");
        for wrong in ["", "yesterday", "-1h", "1", "99999999999999y"] {
            assert!(point_in_time(wrong).is_err(), "{wrong}");
        }
        assert!(point_in_time("0s").unwrap() <= SystemTime::now() + Duration::from_secs(1));
    }
}
