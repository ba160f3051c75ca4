//! What this instance listens for, and which part of it an event matches.
//!
//! Written by whoever knows (the topics of the configuration, or the control plane), read by the source and by
//! [`crate::dispatch`]. It does not know how events arrive.

use std::collections::BTreeSet;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::subject::Subject;

/// One subscription of a registered integration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// As the control plane gave it; may be empty.
    pub id: String,
    /// Event type, or a pattern over event types.
    pub event: Subject,
    /// Accepted projects; empty accepts all. Judged by the filter plugin, not here.
    pub projects: Vec<String>,
    /// Accepted stages.
    pub stages: Vec<String>,
    /// Accepted services.
    pub services: Vec<String>,
}

/// What is wanted at one moment. Replaced as a whole, never changed.
#[derive(Debug, Default)]
pub struct Interest {
    kind: Kind,
    index: Index,
}

#[derive(Debug)]
enum Kind {
    /// Without registration: an event that matches any topic is delivered once.
    Topics(Vec<Subject>),
    /// With registration: an event is delivered once for each subscription it matches.
    Subscriptions(Box<[Arc<Subscription>]>),
    /// With registration, before the control plane has said anything: these are likely to be wanted.
    Expected(Vec<Subject>),
}

impl Default for Kind {
    fn default() -> Self {
        Self::Topics(Vec::new())
    }
}

/// One reason to deliver an event: the subscription that matched, or none without registration.
pub type Match = Option<Arc<Subscription>>;

impl Interest {
    /// What a distributor without registration listens for.
    pub fn topics(topics: Vec<Subject>) -> Self {
        Self {
            index: Index::new(topics.iter()),
            kind: Kind::Topics(topics),
        }
    }

    /// What a registered integration listens for, in the order of the control plane.
    pub fn subscriptions(subscriptions: impl IntoIterator<Item = impl Into<Arc<Subscription>>>) -> Self {
        let subscriptions: Box<[Arc<Subscription>]> = subscriptions.into_iter().map(Into::into).collect();
        Self {
            index: Index::new(subscriptions.iter().map(|subscription| &subscription.event)),
            kind: Kind::Subscriptions(subscriptions),
        }
    }

    /// The subscriptions of the control plane; none before it has said anything, and without registration.
    pub fn subscribed(&self) -> Option<&[Arc<Subscription>]> {
        match &self.kind {
            Kind::Topics(_) | Kind::Expected(_) => None,
            Kind::Subscriptions(subscriptions) => Some(subscriptions),
        }
    }

    /// What an integration is likely to listen for. Until the control plane has said what it does, streams may keep
    /// events of these topics, but none is received: it could match no subscription, and would be dropped.
    pub fn expected(topics: Vec<Subject>) -> Self {
        Self {
            index: Index::default(),
            kind: Kind::Expected(topics),
        }
    }

    /// Whether it is known what is wanted. Once it is, it stays so.
    pub fn is_known(&self) -> bool {
        !matches!(self.kind, Kind::Expected(_))
    }

    /// The subscriptions of a registered integration; none without registration, or before they are known.
    pub fn listed(&self) -> &[Arc<Subscription>] {
        match &self.kind {
            Kind::Subscriptions(subscriptions) => subscriptions,
            Kind::Topics(_) | Kind::Expected(_) => &[],
        }
    }

    /// The topics to receive, in any number and overlapping.
    pub fn patterns(&self) -> Vec<Subject> {
        match &self.kind {
            Kind::Topics(topics) | Kind::Expected(topics) => topics.clone(),
            Kind::Subscriptions(subscriptions) => {
                let topics: BTreeSet<_> = subscriptions.iter().map(|subscription| &subscription.event).collect();
                topics.into_iter().cloned().collect()
            }
        }
    }

    /// How many topics or subscriptions there are.
    pub fn n_wanted(&self) -> usize {
        match &self.kind {
            Kind::Topics(topics) | Kind::Expected(topics) => topics.len(),
            Kind::Subscriptions(subscriptions) => subscriptions.len(),
        }
    }

    /// How many subscriptions of the control plane there are.
    pub fn n_subscriptions(&self) -> usize {
        match &self.kind {
            Kind::Topics(_) | Kind::Expected(_) => 0,
            Kind::Subscriptions(subscriptions) => subscriptions.len(),
        }
    }

    /// Puts every reason to deliver an event received on `subject` into `matches`, in list order.
    pub fn matches(&self, subject: &str, matches: &mut Vec<Match>) {
        matches.clear();
        match &self.kind {
            Kind::Expected(_) => {}
            Kind::Topics(topics) => {
                if !self.index.find(subject, |number| &topics[number]).is_empty() {
                    matches.push(None);
                }
            }
            Kind::Subscriptions(subscriptions) => {
                let mut found = self.index.find(subject, |number| &subscriptions[number].event);
                found.sort_unstable();
                matches.extend(
                    found
                        .into_iter()
                        .map(|number| Some(Arc::clone(&subscriptions[number as usize]))),
                );
            }
        }
    }
}

/// Finds the patterns that a subject matches without looking at all of them. Nearly all are subjects without a wildcard:
/// their numbers in the order of the subjects, four bytes each. The others are in a tree with a level for each token.
#[derive(Debug, Default)]
struct Index {
    literals: Box<[u32]>,
    wildcards: Node,
}

/// Numbers of patterns that match.
type Found = SmallVec<[u32; 4]>;

#[derive(Debug, Default)]
struct Node {
    /// In their order: most nodes have one, for which a hash costs more than it finds.
    tokens: Vec<(Box<str>, Node)>,
    any_token: Option<Box<Node>>,
    /// Numbers of the patterns that end here.
    ending: Vec<u32>,
    /// Numbers of the patterns that go on with `>`.
    tail: Vec<u32>,
}

impl Index {
    fn new<'a>(patterns: impl Iterator<Item = &'a Subject>) -> Self {
        let mut sorted: Vec<(_, u32)> = patterns.zip(0..).collect();
        sorted.sort_unstable();
        let (with_wildcard, literals): (Vec<_>, Vec<_>) =
            sorted.into_iter().partition(|(pattern, _)| pattern.has_wildcard());
        let mut wildcards = Node::default();
        for (pattern, number) in with_wildcard {
            wildcards.add(pattern, number);
        }
        Self {
            literals: literals.into_iter().map(|(_, number)| number).collect(),
            wildcards,
        }
    }

    /// The numbers of the patterns that `subject` matches; `pattern` has those that this was made of.
    fn find<'a>(&self, subject: &str, pattern: impl Fn(usize) -> &'a Subject) -> Found {
        let text = |number: &u32| pattern(*number as usize).as_str();
        let first = self.literals.partition_point(|number| text(number) < subject);
        let same = self.literals[first..]
            .iter()
            .take_while(|number| text(number) == subject);
        let mut found: Found = same.copied().collect();
        self.wildcards.find(Some(subject), &mut found);
        found
    }
}

impl Node {
    fn add(&mut self, pattern: &Subject, number: u32) {
        let mut node = self;
        let mut has_tail = false;
        for token in pattern.tokens() {
            match token {
                ">" => has_tail = true,
                "*" => node = node.any_token.get_or_insert_default(),
                token => {
                    let place = node.place(token).unwrap_or_else(|place| {
                        node.tokens.insert(place, (token.into(), Self::default()));
                        place
                    });
                    node = &mut node.tokens[place].1;
                }
            }
        }
        if has_tail { &mut node.tail } else { &mut node.ending }.push(number);
    }

    /// Where the token is; the error is where it would be.
    fn place(&self, token: &str) -> Result<usize, usize> {
        self.tokens.binary_search_by(|(other, _)| (**other).cmp(token))
    }

    /// `rest` is what is left of the subject; none at its end.
    fn find(&self, rest: Option<&str>, found: &mut Found) {
        let Some(rest) = rest else {
            found.extend_from_slice(&self.ending);
            return;
        };
        found.extend_from_slice(&self.tail);
        let (token, rest) = match rest.split_once('.') {
            Some((token, rest)) => (token, Some(rest)),
            None => (rest, None),
        };
        if let Ok(place) = self.place(token) {
            self.tokens[place].1.find(rest, found);
        }
        if let Some(node) = &self.any_token {
            node.find(rest, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn subscription(id: &str, event: &str) -> Subscription {
        Subscription {
            id: id.to_owned(),
            event: Subject::pattern(event).unwrap(),
            projects: Vec::new(),
            stages: Vec::new(),
            services: Vec::new(),
        }
    }

    fn matching_ids(interest: &Interest, subject: &str) -> Vec<String> {
        let mut matches = Vec::new();
        interest.matches(subject, &mut matches);
        matches
            .into_iter()
            .map(|found| found.map_or_else(|| "none".to_owned(), |subscription| subscription.id.clone()))
            .collect()
    }

    #[test]
    fn every_matching_subscription_counts_in_list_order() {
        let interest = Interest::subscriptions(vec![
            subscription("tail", "sh.keptn.>"),
            subscription("exact", "sh.keptn.event.task.triggered"),
            subscription("other", "sh.keptn.event.task.finished"),
            subscription("star", "sh.keptn.event.*.triggered"),
            subscription("", "sh.keptn.event.task.triggered"),
        ]);
        assert_eq!(
            matching_ids(&interest, "sh.keptn.event.task.triggered"),
            ["tail", "exact", "star", ""]
        );
        assert_eq!(matching_ids(&interest, "sh.keptn"), [""; 0]);
        let topics: Vec<_> = interest.patterns().iter().map(ToString::to_string).collect();
        assert_eq!(
            topics,
            [
                "sh.keptn.>",
                "sh.keptn.event.*.triggered",
                "sh.keptn.event.task.finished",
                "sh.keptn.event.task.triggered",
            ],
            "each once"
        );
    }

    #[test]
    fn overlapping_topics_without_registration_match_once() {
        let topics = ["sh.keptn.event.*.triggered", "sh.keptn.event.foo.triggered"];
        let interest = Interest::topics(topics.iter().map(|topic| Subject::pattern(topic).unwrap()).collect());
        assert_eq!(matching_ids(&interest, "sh.keptn.event.foo.triggered"), ["none"]);
        assert_eq!(matching_ids(&interest, "sh.keptn.event.foo.finished"), [""; 0]);
    }

    #[test]
    fn an_empty_subscription_list_matches_nothing() {
        let interest = Interest::subscriptions(Vec::<Subscription>::new());
        assert_eq!(matching_ids(&interest, "sh.keptn.event.task.triggered"), [""; 0]);
        assert!(interest.patterns().is_empty());
    }

    #[test]
    fn what_is_only_expected_has_topics_and_matches_nothing() {
        let topic = Subject::pattern("sh.keptn.>").unwrap();
        let interest = Interest::expected(vec![topic.clone()]);
        assert_eq!(matching_ids(&interest, "sh.keptn.event.task.triggered"), [""; 0]);
        assert_eq!(interest.patterns(), vec![topic.clone()]);
        assert!(!interest.is_known());
        assert!(
            Interest::topics(vec![topic]).is_known() && Interest::subscriptions(Vec::<Subscription>::new()).is_known()
        );
    }

    proptest! {
        #[test]
        fn index_agrees_with_comparing_each_pattern(
            patterns in prop::collection::vec("(a|b|\\*)(\\.(a|b|\\*)){0,2}(\\.>)?", 0..12),
            subject in "(a|b)(\\.(a|b)){0,3}",
        ) {
            let patterns: Vec<_> = patterns.iter().map(|text| Subject::pattern(text).unwrap()).collect();
            let event = Subject::literal(&subject).unwrap();
            let mut found = Index::new(patterns.iter()).find(&subject, |number| &patterns[number]);
            found.sort_unstable();
            let numbers = 0..u32::try_from(patterns.len()).unwrap();
            let expected: Vec<_> = numbers.filter(|&number| patterns[number as usize].overlaps(&event)).collect();
            prop_assert_eq!(found.to_vec(), expected);
        }
    }
}
