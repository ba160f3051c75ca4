//! The self-tests of an entry: event files, and what the plugin has to say of them before its chain is used.
//!
//! Called by [`super::build`]. The plugin that is asked is a copy with state and metrics of its own, so that a test
//! leaves no trace in what the running chain keeps.

use std::path::PathBuf;

use super::answer::{Answer, Hooks};
use super::blocking;
use super::context::Context;
use super::error::{PluginError, one_line};
use super::plugin::Plugin;
use super::problem::Place;
use crate::event::Event;

/// Largest event file.
const MAX_EVENT_BYTES: u64 = 4 << 20;

/// One self-test.
#[derive(Debug, Clone)]
pub(super) struct SelfTest {
    /// File with the event, in JSON.
    pub(super) event: PathBuf,
    pub(super) expected: Expected,
    /// Where it stands.
    pub(super) place: Place,
}

/// What a plugin has to say of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// The filter passes it.
    Pass,
    /// The filter drops it.
    Drop,
    /// It gets through the filter, if there is one, and the transform leaves it as it is.
    Keep,
    /// The transform makes others of it: that many that go on, or any number.
    Replace(Option<usize>),
}

/// Why a self-test failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum SelfTestError {
    #[error("`selftest`: cannot read the event {}: {error}", path.display())]
    Read { path: PathBuf, error: std::io::Error },
    #[error("`selftest`: {} has more than {} MiB", .0.display(), MAX_EVENT_BYTES >> 20)]
    TooLarge(PathBuf),
    #[error("`selftest`: {} is no event: {reason}", path.display())]
    NoEvent { path: PathBuf, reason: String },
    #[error(
        "fails its self-test with {}: {expected} was expected, and it {said}; mend the plugin, or `expect` in its \
         `[[plugin.selftest]]`",
        path.display()
    )]
    Other {
        path: PathBuf,
        expected: String,
        said: String,
    },
    #[error("fails its self-test with {}: {reason}", path.display())]
    Failed { path: PathBuf, reason: String },
}

fn read_event(test: &SelfTest) -> Result<Event, SelfTestError> {
    use std::io::Read;

    let path = || test.event.clone();
    let mut content = Vec::new();
    let opened = std::fs::File::open(&test.event);
    let read = opened.and_then(|file| file.take(MAX_EVENT_BYTES + 1).read_to_end(&mut content));
    let length = read.map_err(|error| SelfTestError::Read { path: path(), error })?;
    if length as u64 > MAX_EVENT_BYTES {
        return Err(SelfTestError::TooLarge(path()));
    }
    Event::parse(content.into()).map_err(|malformed| SelfTestError::NoEvent {
        path: path(),
        reason: malformed.to_string(),
    })
}

/// Shows an event to a plugin.
pub(super) async fn run(plugin: &Plugin, test: &SelfTest) -> Result<(), SelfTestError> {
    let reading = test.clone();
    let event = blocking(move || read_event(&reading)).await?;
    let context = Context {
        direction: plugin.directions()[0],
        subscription: None,
        received_on: "",
        receipt: 1,
        span: None,
    };
    // `pass` and `drop` are about the filter alone.
    let hooks = match test.expected {
        Expected::Pass if plugin.has_filter() => Hooks::Filter,
        _ => Hooks::All,
    };
    let said = plugin.answer(&event, &context, hooks).await;
    let said = said.map_err(|error| SelfTestError::Failed {
        path: test.event.clone(),
        reason: in_words(&error),
    })?;
    let is_as_expected = match (test.expected, &said) {
        (Expected::Pass, Answer::Pass) | (Expected::Drop, Answer::Drop(_)) | (Expected::Keep, Answer::Keep) => true,
        (Expected::Replace(wanted), Answer::Replace { forwarded, .. }) => {
            wanted.is_none_or(|wanted| wanted == forwarded.len())
        }
        _ => false,
    };
    if is_as_expected {
        return Ok(());
    }
    Err(SelfTestError::Other {
        path: test.event.clone(),
        expected: test.expected.in_words(),
        said: answer_in_words(&said, plugin),
    })
}

/// Without the plugin and the event, which are known here.
fn in_words(error: &PluginError) -> String {
    let cause = one_line(&error.cause.to_string());
    if error.output.is_empty() {
        return cause;
    }
    format!("{cause}; it printed: {}", error.output.join(" | "))
}

impl Expected {
    fn in_words(self) -> String {
        match self {
            Self::Pass => "`pass`".to_owned(),
            Self::Drop => "`drop`".to_owned(),
            Self::Keep => "`keep`".to_owned(),
            Self::Replace(None) => "`replace`".to_owned(),
            Self::Replace(Some(events)) => format!("`replace` by {events} event(s)"),
        }
    }
}

fn answer_in_words(answer: &Answer, plugin: &Plugin) -> String {
    match answer {
        Answer::Pass if plugin.has_transform() => "passed it".to_owned(),
        Answer::Pass => "passed it (it has no transform hook)".to_owned(),
        Answer::Drop(reason) => format!("dropped it: {reason}"),
        Answer::Keep if plugin.has_filter() => "passed and kept it".to_owned(),
        Answer::Keep => "kept it (it has no filter hook)".to_owned(),
        Answer::Replace { forwarded, published } => {
            let (forwarded, published) = (forwarded.len(), published.len());
            format!("replaced it by {forwarded} event(s), and published {published}")
        }
        Answer::NotCalled => "does not get events of this type (see `events`)".to_owned(),
    }
}
