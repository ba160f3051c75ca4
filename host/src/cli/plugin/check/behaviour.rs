//! What the plugin answers: whether it survives odd events, and whether it says the same twice.

use super::super::CommandError;
use super::super::events::Circumstances;
use super::super::shown::{self, time};
use super::odd_events::{self, OddEvent};
use super::{Report, Subject};
use crate::event::Event;
use crate::plugins::workbench::Observation;
use crate::plugins::{Answer, Cause, LimitReached, LoadError, Plugin, PluginError};

pub(super) const TIME: &str = "time";
pub(super) const REPEATS: &str = "determinism";
const EVENTS: &str = "odd events";
/// Calls of each event that are compared, on the same instance and on new ones.
const REPETITIONS: usize = 3;

/// An event that the plugin answered, and how.
pub(super) struct Answered {
    pub(super) event: Event,
    name: &'static str,
    said: String,
}

impl Subject<'_> {
    /// A type of event that the plugin gets.
    pub(super) fn event_type(&self) -> String {
        let globs = self.description.event_types.iter().chain(&self.settings.event_types);
        globs.last().map_or_else(
            || "sh.keptn.event.task.triggered".to_owned(),
            |glob| glob.replace('*', "task"),
        )
    }

    /// A plugin that shares nothing with others.
    pub(super) async fn plugin(&self) -> Result<Plugin, CommandError> {
        let plugin = self.piece.plugin(&self.settings).await;
        plugin.map_err(|error: LoadError| CommandError::Failed(format!("{} {error}", self.target.shown)))
    }

    pub(super) async fn observe(&self, plugin: &Plugin, event: &Event) -> Observation {
        let circumstances = Circumstances::of(event, self.settings.directions[0]);
        plugin.observe(event, &circumstances.context()).await
    }
}

/// Shows it everything that is odd. Returns what it answered.
pub(super) async fn odd_events(subject: &Subject<'_>, report: &mut Report) -> Result<Vec<Answered>, CommandError> {
    let ty = subject.event_type();
    let mut events = vec![OddEvent {
        name: "an ordinary event",
        event: odd_events::ordinary(&ty),
        fix: "look at the line that it printed, and at the functions that it was in",
    }];
    events.extend(odd_events::all(&ty));
    let mut answered = Vec::new();
    let (n_events, mut n_failed) = (events.len(), 0);
    for OddEvent { name, event, fix } in events {
        subject.desk.progress.show(&format!("odd events: {name}"));
        let plugin = subject.plugin().await?;
        let observation = subject.observe(&plugin, &event).await;
        match &observation.answer {
            Ok(Answer::NotCalled) => {
                report.skip(EVENTS, format!("it gets no events of type {ty}: nothing can be tried"));
                return Ok(answered);
            }
            Err(error) if matches!(error.cause, Cause::Limit(LimitReached::Time(_))) => {
                report.fail(
                    TIME,
                    format!("it did not finish within {} with {name}", time(subject.settings.limits.call_time)),
                    "do less for each event: build tables in `configure`, wait for nothing, end every loop; or raise `timeout` \
                     in its entry (here: --timeout)",
                );
                return Ok(answered);
            }
            Err(error) if is_fault(error) => {
                n_failed += 1;
                let fix = fix_of(&error.cause).unwrap_or(fix);
                report.fail(EVENTS, format!("{name}: {}", shown::failure(error)), fix);
            }
            answer => answered.push(Answered {
                said: said(answer),
                event,
                name,
            }),
        }
    }
    if n_failed == 0 {
        report.good(EVENTS, format!("it answers all of {n_events}"));
    }
    Ok(answered)
}

/// Whether a failure is the plugin's fault, and no answer.
fn is_fault(error: &PluginError) -> bool {
    !matches!(error.cause, Cause::Transient(_) | Cause::Permanent(_))
}

/// What helps, where that does not depend on the event.
fn fix_of(cause: &Cause) -> Option<&'static str> {
    Some(match cause {
        Cause::NotGranted("publish") => {
            "give it the grant: `grants = [\"publish\"]` in its entry (here: --grant publish)"
        }
        Cause::NotGranted(_) => "give it the grant in its entry (here: --grant)",
        Cause::InvalidEvent(_) => {
            "return events with `id`, `source`, `type` and `specversion`, and data that is what it says"
        }
        Cause::Start(_) => "a second instance has to start as the first one did",
        Cause::Limit(LimitReached::HostCalls(_)) => "call the host less often in one call",
        Cause::Limit(LimitReached::OutputEvents { .. }) => "return fewer events",
        _ => return None,
    })
}

/// Everything that an answer consists of.
fn said(answer: &Result<Answer, Box<PluginError>>) -> String {
    shown::answer_json(answer).to_string()
}

/// Asks again: the same instance, and new ones.
pub(super) async fn repeats(
    subject: &Subject<'_>,
    answered: &[Answered],
    report: &mut Report,
) -> Result<(), CommandError> {
    const TAKE_FROM_EVENT: &str = "let the answer depend on the event, the context and the configuration alone: no clock, no random \
                                   numbers, no order of a hash map; make ids of the event's id, times of its time";
    if answered.is_empty() {
        report.skip(REPEATS, "there is no answer that could be repeated");
        return Ok(());
    }
    for Answered {
        event,
        name,
        said: first,
    } in answered
    {
        subject.desk.progress.show(&format!("determinism: {name}"));
        for _ in 0..REPETITIONS {
            let plugin = subject.plugin().await?;
            let again = said(&subject.observe(&plugin, event).await.answer);
            if again != *first {
                report.fail(
                    REPEATS,
                    differ("a new instance answers", name, first, &again),
                    TAKE_FROM_EVENT,
                );
                return Ok(());
            }
        }
    }
    if subject.settings.grants.state {
        report.good(
            REPEATS,
            "new instances say the same; with state, later answers may differ",
        );
        return Ok(());
    }
    let plugin = subject.plugin().await?;
    for _ in 0..REPETITIONS {
        for Answered {
            event,
            name,
            said: first,
        } in answered
        {
            let again = said(&subject.observe(&plugin, event).await.answer);
            if again != *first {
                report.fail(
                    REPEATS,
                    differ("after other events the same instance answers", name, first, &again),
                    "keep nothing between calls, as instances are replaced and there are several: what has to be remembered \
                     belongs into `state`",
                );
                return Ok(());
            }
        }
    }
    report.good(REPEATS, "it says the same again, in the same instance and in new ones");
    Ok(())
}

fn differ(who: &str, name: &str, first: &str, again: &str) -> String {
    let short = |text: &str| shown::short(&serde_json::from_str(text).unwrap_or_default());
    format!("{who} differently to {name}: {}, then {}", short(first), short(again))
}
