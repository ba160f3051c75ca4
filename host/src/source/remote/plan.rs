//! What to ask the control plane for: the fewest requests that bring every event that is wanted.
//!
//! Made by [`super`] from the interest, whenever that changes.

use std::collections::BTreeSet;
use std::sync::Arc;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use url::form_urlencoded;

use super::open::SubscriptionKey;
use crate::config::FilterLists;
use crate::subject::Subject;
use crate::subscription::{Interest, Match};

/// What cannot stand in one segment of a path as it is.
const PATH_SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// What is asked for in every cycle.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    /// Each answered by one list of events.
    pub(super) queries: Vec<Query>,
    /// Patterns that are wanted and cannot be asked for: the control plane knows exact types only.
    pub(super) patterns: BTreeSet<String>,
}

/// The open events of one type, all of them or those of one project, stage or service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) topic: Arc<str>,
    /// Who gets them, in list order.
    pub(super) wanted_by: Arc<[SubscriptionKey]>,
    narrowing: Narrowing,
}

/// A filter with a single value, which the server can apply. Everything else the filter plugin does.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Narrowing {
    project: Option<String>,
    stage: Option<String>,
    service: Option<String>,
}

impl Plan {
    /// `filter` counts for events that no subscription asked for.
    pub(super) fn new(interest: &Interest, filter: &FilterLists) -> Self {
        let mut plan = Self::default();
        let mut matches = Vec::new();
        for topic in interest.patterns() {
            if topic.has_wildcard() {
                plan.patterns.insert(topic.to_string());
                continue;
            }
            interest.matches(topic.as_str(), &mut matches);
            let asking = matches.iter().filter(|found| asks_for(found, &topic));
            let narrowings: Vec<_> = asking.map(|found| Narrowing::of(found, filter)).collect();
            let topic: Arc<str> = topic.as_str().into();
            let wanted_by: Arc<[_]> = matches.iter().map(SubscriptionKey::of).collect();
            for narrowing in fewest(narrowings) {
                plan.queries.push(Query {
                    topic: Arc::clone(&topic),
                    wanted_by: Arc::clone(&wanted_by),
                    narrowing,
                });
            }
        }
        plan
    }
}

impl Query {
    /// Path and query of the request for one page, below the control plane's base URL.
    pub(super) fn path(&self, page_size: usize, page_key: Option<&str>) -> String {
        let Narrowing {
            project,
            stage,
            service,
        } = &self.narrowing;
        let mut query = form_urlencoded::Serializer::new(String::new());
        let mut put = |name: &str, value: Option<&str>| {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        };
        // In the order in which the original sends them.
        put("nextPageKey", page_key);
        put("pageSize", Some(&page_size.to_string()));
        put("project", project.as_deref());
        put("service", service.as_deref());
        put("stage", stage.as_deref());
        let topic = utf8_percent_encode(&self.topic, PATH_SEGMENT);
        format!("v1/event/triggered/{topic}?{}", query.finish())
    }
}

impl Narrowing {
    fn of(found: &Match, filter: &FilterLists) -> Self {
        let (projects, stages, services) = match found {
            Some(subscription) => (&subscription.projects, &subscription.stages, &subscription.services),
            None => (&filter.projects, &filter.stages, &filter.services),
        };
        Self {
            project: only_value(projects),
            stage: only_value(stages),
            service: only_value(services),
        }
    }

    /// Whether everything that `other` asks for comes with this.
    fn covers(&self, other: &Self) -> bool {
        let covers = |own: &Option<String>, other: &Option<String>| own.is_none() || own == other;
        covers(&self.project, &other.project)
            && covers(&self.stage, &other.stage)
            && covers(&self.service, &other.service)
    }
}

/// The value of a filter that has exactly one. In the lists of subscriptions an element may hold several, and a single
/// empty one accepts everything.
fn only_value(list: &[String]) -> Option<String> {
    match list {
        [value] if !value.is_empty() && !value.contains(',') => Some(value.clone()),
        _ => None,
    }
}

/// Without those that another one covers.
fn fewest(mut narrowings: Vec<Narrowing>) -> Vec<Narrowing> {
    let mut fewest: Vec<Narrowing> = Vec::new();
    for narrowing in narrowings.drain(..) {
        if fewest.iter().any(|other| other.covers(&narrowing)) {
            continue;
        }
        fewest.retain(|other| !narrowing.covers(other));
        fewest.push(narrowing);
    }
    fewest
}

/// Whether this is what the topic is asked for: a pattern takes what comes, but asks for nothing.
fn asks_for(found: &Match, topic: &Subject) -> bool {
    found.as_ref().is_none_or(|subscription| subscription.event == *topic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscription::Subscription;

    type Filter<'a> = (&'a [&'a str], &'a [&'a str], &'a [&'a str]);

    fn subscription(event: &str, (projects, stages, services): Filter<'_>) -> Subscription {
        let list = |items: &[&str]| items.iter().map(|&item| item.to_owned()).collect();
        Subscription {
            id: format!("{event}{projects:?}"),
            event: Subject::pattern(event).unwrap(),
            projects: list(projects),
            stages: list(stages),
            services: list(services),
        }
    }

    fn paths(plan: &Plan) -> Vec<String> {
        plan.queries.iter().map(|query| query.path(50, None)).collect()
    }

    fn check(subscriptions: &[(&str, Filter<'_>)], expected: &[&str]) {
        let subscriptions = subscriptions.iter().map(|(event, filter)| subscription(event, *filter));
        let plan = Plan::new(&Interest::subscriptions(subscriptions), &FilterLists::default());
        let expected: Vec<_> = expected
            .iter()
            .map(|query| format!("v1/event/triggered/{query}"))
            .collect();
        assert_eq!(paths(&plan), expected);
    }

    #[test]
    fn a_filter_with_exactly_one_value_narrows_the_request() {
        check(&[("a", (&[], &[], &[]))], &["a?pageSize=50"]);
        check(&[("a", (&["p1", "p2"], &[], &[]))], &["a?pageSize=50"]);
        check(&[("a", (&["p1"], &[], &[]))], &["a?pageSize=50&project=p1"]);
        check(
            &[("a", (&["p1"], &["s1"], &[]))],
            &["a?pageSize=50&project=p1&stage=s1"],
        );
        check(
            &[("a", (&["p1"], &["s1"], &["c"]))],
            &["a?pageSize=50&project=p1&service=c&stage=s1"],
        );
        // As the filter plugin reads them: everything, and either of two.
        check(&[("a", (&[""], &["s1,s2"], &[]))], &["a?pageSize=50"]);
    }

    #[test]
    fn several_subscriptions_on_one_type_share_a_request_where_one_covers_the_other() {
        let all: Filter<'_> = (&[], &[], &[]);
        check(&[("a", (&["p1"], &[], &[])), ("a", all)], &["a?pageSize=50"]);
        check(
            &[("a", (&["p1"], &["s"], &[])), ("a", (&["p1"], &[], &[]))],
            &["a?pageSize=50&project=p1"],
        );
        check(
            &[("a", (&["p1"], &[], &[])), ("a", (&["p2"], &[], &[])), ("b", all)],
            &["a?pageSize=50&project=p1", "a?pageSize=50&project=p2", "b?pageSize=50"],
        );
    }

    #[test]
    fn values_are_escaped_as_the_original_escapes_them() {
        check(&[("a", (&["p 1&x"], &[], &[]))], &["a?pageSize=50&project=p+1%26x"]);
        check(&[("a/?#%", (&[], &[], &[]))], &["a%2F%3F%23%25?pageSize=50"]);
        let plan = Plan::new(
            &Interest::topics(vec![Subject::pattern("a").unwrap()]),
            &FilterLists::default(),
        );
        assert_eq!(
            plan.queries[0].path(1000, Some("20")),
            "v1/event/triggered/a?nextPageKey=20&pageSize=1000"
        );
    }

    #[test]
    fn patterns_take_what_comes_and_are_not_asked_for() {
        let plan = Plan::new(
            &Interest::subscriptions(vec![
                subscription("sh.keptn.>", (&[], &[], &[])),
                subscription("sh.keptn.event.task.triggered", (&["p1"], &[], &[])),
            ]),
            &FilterLists::default(),
        );
        assert_eq!(
            paths(&plan),
            ["v1/event/triggered/sh.keptn.event.task.triggered?pageSize=50&project=p1"]
        );
        assert_eq!(plan.queries[0].wanted_by.len(), 2);
        assert_eq!(Vec::from_iter(plan.patterns), ["sh.keptn.>"]);
    }

    #[test]
    fn without_subscriptions_the_lists_of_the_environment_narrow() {
        let topics = vec![Subject::pattern("a").unwrap()];
        let filter = FilterLists {
            projects: vec!["p".to_owned()],
            ..FilterLists::default()
        };
        let plan = Plan::new(&Interest::topics(topics), &filter);
        assert_eq!(paths(&plan), ["v1/event/triggered/a?pageSize=50&project=p"]);
    }
}
