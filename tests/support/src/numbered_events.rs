//! Events that are numbered within their key, so that what arrives tells what is missing and what is out of order.
//!
//! Called by tests and by `publisher`. It must not know how they are sent.

use std::sync::Arc;

use crate::keptn_event::KeptnEvent;

/// Endlessly many events of `n_keys` keys in turn: the first of each key, the second of each key and so on. The `id` is
/// `<key>-<number>`, the key is `<name>.<number of the key>`, and it is the `shkeptncontext`.
#[derive(Clone, Debug)]
pub struct NumberedEvents {
    keys: Vec<Arc<str>>,
    pattern: KeptnEvent,
}

/// What is known of an event that was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedEvent {
    /// Attribute `id`.
    pub id: Arc<str>,
    /// Extension `shkeptncontext`.
    pub key: Arc<str>,
    /// Its place within its key, counted from 0.
    pub number: u64,
}

impl NumberedEvents {
    /// Events like `pattern`, of its type and its size. The name keeps apart what several publishers of one test send.
    ///
    /// # Panics
    ///
    /// When there are to be no keys.
    #[must_use]
    pub fn new(name: &str, n_keys: usize, pattern: KeptnEvent) -> Self {
        assert!(n_keys > 0, "an event has a key");
        Self {
            keys: (0..n_keys).map(|key| format!("{name}.{key}").into()).collect(),
            pattern,
        }
    }

    /// How many keys there are.
    #[must_use]
    pub fn n_keys(&self) -> usize {
        self.keys.len()
    }

    /// The `index`th event of all, counted from 0, and what is known of it.
    #[must_use]
    pub fn get(&self, index: usize) -> (PublishedEvent, KeptnEvent) {
        let key = &self.keys[index % self.keys.len()];
        let number = (index / self.keys.len()) as u64;
        let id = format!("{key}-{number}");
        let event = KeptnEvent {
            id: id.clone(),
            keptn_context: key.to_string(),
            ..self.pattern.clone()
        };
        let published = PublishedEvent {
            id: id.into(),
            key: Arc::clone(key),
            number,
        };
        (published, event)
    }

    /// The first `n` events.
    pub fn take(&self, n: usize) -> impl Iterator<Item = (PublishedEvent, KeptnEvent)> {
        (0..n).map(|index| self.get(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_numbered_within_their_key_and_have_the_size_asked_for() {
        let pattern = KeptnEvent {
            size_bytes: 2000,
            ..KeptnEvent::triggered("deployment")
        };
        let events: Vec<_> = NumberedEvents::new("run", 2, pattern).take(4).collect();
        let known = events.iter().map(|(known, _)| (&*known.id, &*known.key, known.number));
        let expected = [
            ("run.0-0", "run.0", 0),
            ("run.1-0", "run.1", 0),
            ("run.0-1", "run.0", 1),
            ("run.1-1", "run.1", 1),
        ];
        assert_eq!(known.collect::<Vec<_>>(), expected);
        for (known, event) in events {
            assert_eq!(
                (known.id.as_ref(), known.key.as_ref()),
                (event.id.as_str(), event.keptn_context.as_str())
            );
            assert_eq!(event.to_bytes().len(), 2000);
        }
    }
}
