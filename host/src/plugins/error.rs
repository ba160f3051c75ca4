//! What went wrong with a plugin, in words for its author and for the operator.

use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;

use super::compile::CompileError;
use super::limits::LimitReached;
use super::load::CONTRACT_VERSION;
use super::settings::OnFailure;
use crate::event::Malformed;

/// Why a component is not usable.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Not compiled.
    #[error("cannot be compiled: {0}")]
    Compile(#[from] CompileError),
    /// Built for another major version of the contract.
    #[error(
        "was built for contract {0}, and this host speaks {CONTRACT_VERSION}: rebuild it against this host's wit/world.wit, or run the distributor that it was built for"
    )]
    Contract(String),
    /// Native code that is not taken.
    #[error(
        "is native code, which could do anything to this process; mount the component that it was made of, or set \
         `allow_precompiled = true` and `sha256` in its entry"
    )]
    Precompiled,
    /// Native code that is taken, and does not run here.
    #[error(
        "is native code of another version of the distributor or for another processor ({0}); compile it anew, or put the \
         component that it was made of beside it, under the same name with `.wasm` or `.wasm.gz` at the end"
    )]
    OtherEngine(String),
    /// Imports that nobody provides.
    #[error("wants what this host does not have: {}", .0.join("; "))]
    Imports(Vec<String>),
    /// It does not export what a plugin has to.
    #[error("{0}")]
    Exports(String),
    /// The engine refused it.
    #[error("cannot be linked: {0}")]
    Link(String),
    /// It needs more than it may have.
    #[error("cannot be started: it {0}; raise `memory` in its entry")]
    TooBig(LimitReached),
    /// What it says about itself cannot be used.
    #[error("describes itself badly: {0}")]
    Descriptor(String),
    /// A call at load time failed.
    #[error("{0}; mend the plugin, or `[plugin.config]` of its entry")]
    Call(String),
    /// The schema of its configuration is none.
    #[error("has a `config-schema` that cannot be used, for its author to correct: {0}")]
    Schema(String),
    /// Its schema or `configure` found faults.
    #[error("does not accept its configuration: {}; mend `[plugin.config]` of its entry", joined(.0))]
    Config(Vec<ConfigProblem>),
}

/// What is wrong with one part of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// JSON pointer to the part; empty for the whole.
    pub pointer: String,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.pointer.is_empty() {
            write!(formatter, "{}: ", self.pointer)?;
        }
        write!(formatter, "{}", self.message)
    }
}

fn joined(problems: &[ConfigProblem]) -> String {
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    problems.join("; ")
}

/// A hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// `filter.evaluate`
    Filter,
    /// `transform.apply`
    Transform,
}

/// A plugin could not do its work on an event.
#[derive(Debug, thiserror::Error)]
pub struct PluginError {
    /// Its name in the chain.
    pub plugin: Arc<str>,
    /// Its version.
    pub version: String,
    /// SHA-256 of the component, in hexadecimal.
    pub digest: Arc<str>,
    /// What was called.
    pub hook: Hook,
    /// The event.
    pub event_id: String,
    /// Its type.
    pub event_type: String,
    /// Why.
    pub cause: Cause,
    /// The last lines it printed; the text of a panic is there.
    pub output: Vec<String>,
    /// The functions that it was in, the innermost first.
    pub frames: Vec<String>,
    /// What is to become of the event.
    pub on_failure: OnFailure,
}

impl PluginError {
    /// The moment before which the plugin is not called, if that is why the event is not through and it is to wait.
    pub fn rests_until(&self) -> Option<Instant> {
        match self.cause {
            Cause::Resting(until) if self.on_failure == OnFailure::RetryThenDeadLetter => Some(until),
            _ => None,
        }
    }

    /// Whether the event is to be tried again.
    pub fn may_help_to_retry(&self) -> bool {
        self.on_failure == OnFailure::RetryThenDeadLetter && self.cause.is_about_the_plugin()
    }
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// It was stopped.
    #[error("{0}")]
    Limit(LimitReached),
    /// It crashed.
    #[error("{0}")]
    Trap(String),
    /// No instance could be started.
    #[error("{0}")]
    Start(String),
    /// It returned something that is no event.
    #[error("returned an event that is none: {0}")]
    InvalidEvent(Malformed),
    /// It did what it may not do.
    #[error("needs the `{0}` grant, which it does not have")]
    NotGranted(&'static str),
    /// It answered an answer of a plugin, which answered an answer, and so on.
    #[error(
        "publishes an event in answer to one that is itself the end of {0} answers of plugins (`distributorhops`): a loop, \
         which is stopped here; narrow `events` of this plugin, so that it does not see what plugins publish"
    )]
    Loop(u32),
    /// It answered that it may work another time.
    #[error("failed for now: {0}")]
    Transient(String),
    /// It answered that it will never work.
    #[error("failed: {0}")]
    Permanent(String),
    /// It was not called, because it failed again and again.
    #[error("was not called: it failed many times in a row, and is tried again in a while")]
    Resting(Instant),
}

impl Cause {
    /// Whether the plugin did not work, so that it may work another time. Otherwise its answer is about this event.
    pub(super) fn is_about_the_plugin(&self) -> bool {
        match self {
            Self::Limit(LimitReached::OutputEvents { .. } | LimitReached::MadeEvents | LimitReached::MadeBytes)
            | Self::InvalidEvent(_)
            | Self::NotGranted(_)
            | Self::Loop(_)
            | Self::Permanent(_) => false,
            Self::Limit(_) | Self::Trap(_) | Self::Start(_) | Self::Transient(_) | Self::Resting(_) => true,
        }
    }
}

impl fmt::Display for PluginError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            plugin,
            version,
            digest,
            hook,
            event_id,
            event_type,
            cause,
            output,
            frames,
            on_failure: _,
        } = self;
        let digest = digest.get(..SHOWN_DIGEST).unwrap_or(digest);
        let hook = match hook {
            Hook::Filter => "filter",
            Hook::Transform => "transform",
        };
        write!(
            formatter,
            "plugin {plugin:?} {version} {digest} ({hook}) on event {event_id:?} of type {event_type:?}: {}",
            // It may quote what the plugin returned.
            one_line(&cause.to_string())
        )?;
        if !output.is_empty() {
            write!(formatter, "; it printed: {}", output.join(" | "))?;
        }
        if !frames.is_empty() {
            write!(formatter, "; in {}", frames.join(" < "))?;
        }
        Ok(())
    }
}

/// Digits of a digest that tell components apart.
const SHOWN_DIGEST: usize = 12;

/// Bytes of a plugin's text that go to the log.
const MAX_TEXT_BYTES: usize = 512;

/// What a plugin says, fit for a log line: it may be megabytes long, and may quote an event with line breaks in it.
pub(super) fn one_line(text: &str) -> String {
    cut_line(text, MAX_TEXT_BYTES)
}

/// The same with another length.
pub(super) fn cut_line(text: &str, max_bytes: usize) -> String {
    // Nearly all is, and each event that is dropped has a text.
    let is_plain = |byte: &u8| (b' '..=b'~').contains(byte);
    if text.len() <= max_bytes && text.as_bytes().iter().all(is_plain) {
        return text.to_owned();
    }
    let cut = &text[..text.floor_char_boundary(max_bytes)];
    let mut line: String = cut.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if cut.len() < text.len() {
        line.push('…');
    }
    line
}

/// A plugin called the host in a way that makes no sense, and the contract has no answer for it.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Misuse {
    /// With its key.
    #[error("called `state.increment` on {0:?}, which holds something other than a decimal number")]
    NotANumber(String),
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn the_text_of_a_plugin_is_one_line_of_bounded_length() {
        assert_eq!(one_line("all is \"well\""), "all is \"well\"");
        assert_eq!(one_line("a\nINFO forged\u{1b}[31m"), "a INFO forged [31m");
        assert_eq!(one_line(&"ü".repeat(1000)), "ü".repeat(256) + "…");
    }
}
