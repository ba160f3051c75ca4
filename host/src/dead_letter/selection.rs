//! Which dead letters a command is about.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::SystemTime;

use super::archive::Entry;
use super::{Reason, text};
use crate::subject::Subject;

/// Whose dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Integration {
    /// Those of one service.
    Named(String),
    /// Those of all services that use the same place.
    All,
}

/// Conditions that a dead letter has to meet, all of them. Empty ones are met by every dead letter.
#[derive(Debug, Clone)]
pub struct Selection {
    /// Whose.
    pub integration: Integration,
    /// One of these reasons.
    pub reasons: Vec<Reason>,
    /// One of these event types, or patterns over them.
    pub types: Vec<Subject>,
    /// One of these values of `shkeptncontext`.
    pub contexts: Vec<String>,
    /// One of these event ids.
    pub event_ids: Vec<String>,
    /// Stored then or later.
    pub since: Option<SystemTime>,
    /// Stored before.
    pub until: Option<SystemTime>,
    /// One of these sequences.
    pub sequences: BTreeSet<u64>,
    /// Not behind this sequence.
    pub through: Option<u64>,
}

impl Selection {
    /// All dead letters of an integration.
    pub fn all(integration: Integration) -> Self {
        Self {
            integration,
            reasons: Vec::new(),
            types: Vec::new(),
            contexts: Vec::new(),
            event_ids: Vec::new(),
            since: None,
            until: None,
            sequences: BTreeSet::new(),
            through: None,
        }
    }

    /// Whether it has any condition but the integration.
    pub fn is_narrowed(&self) -> bool {
        !(self.reasons.is_empty()
            && self.types.is_empty()
            && self.contexts.is_empty()
            && self.event_ids.is_empty()
            && self.sequences.is_empty())
            || self.since.is_some()
            || self.until.is_some()
            || self.through.is_some()
    }

    /// Whether a dead letter meets all conditions.
    pub fn matches(&self, entry: &Entry) -> bool {
        let letter = &entry.letter;
        let any = |list: &[String], text: &String| list.is_empty() || list.contains(text);
        self.integration.is(&entry.integration)
            && (self.reasons.is_empty() || self.reasons.contains(&letter.reason))
            && (self.types.is_empty() || self.has_type(&letter.event_type))
            && any(&self.contexts, &letter.keptn_context)
            && any(&self.event_ids, &letter.event_id)
            && self.since.is_none_or(|since| entry.stored >= since)
            && self.until.is_none_or(|until| entry.stored < until)
            && self.through.is_none_or(|through| entry.sequence <= through)
            && (self.sequences.is_empty() || self.sequences.contains(&entry.sequence))
    }

    fn has_type(&self, event_type: &str) -> bool {
        // A type that is no subject is compared as it is stored: with `_` for what no subject can have.
        let tokens = Subject::literal(&text::type_tokens(event_type));
        let matches = |pattern: &Subject| {
            pattern.as_str() == event_type || tokens.as_ref().is_ok_and(|tokens| pattern.overlaps(tokens))
        };
        self.types.iter().any(matches)
    }
}

impl Integration {
    /// Whether a dead letter of the integration with this name is meant.
    pub(super) fn is(&self, stored_name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(name) => text::token(name) == text::token(stored_name),
        }
    }
}

impl fmt::Display for Integration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => write!(formatter, "integration {name}"),
            Self::All => formatter.write_str("any integration"),
        }
    }
}

/// How many dead letters there are, by reason.
#[derive(Debug, Default)]
pub struct Tally {
    by_reason: BTreeMap<Reason, u64>,
    /// Of the events.
    pub bytes: u64,
}

impl Tally {
    /// Counts one.
    pub fn add(&mut self, entry: &Entry) {
        *self.by_reason.entry(entry.letter.reason).or_default() += 1;
        self.bytes += entry.bytes as u64;
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.by_reason.values().sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.total();
        write!(formatter, "{total} dead letter{}", if total == 1 { "" } else { "s" })?;
        for (number, (reason, count)) in self.by_reason.iter().enumerate() {
            let separator = if number == 0 { ": " } else { ", " };
            write!(formatter, "{separator}{count} {reason}")?;
        }
        Ok(())
    }
}
