//! What is said between an integration and the control plane, in JSON as the original says it.
//!
//! Used by [`super`]. Lists that are `null`, members that are missing or not known, and empty ids are taken: control
//! planes of all ages send them.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

use crate::config::{FilterLists, RegistrationConfig, Workload};
use crate::subject::{Subject, SubjectError};
use crate::subscription::Subscription;

/// The host name of an integration that does not know its node. The control plane takes none that is empty.
pub(super) const UNKNOWN_NODE: &str = "keptn-node";
/// The zero time of Go: the control plane puts its own in its place.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// The integration, as it is registered.
#[derive(Debug, Serialize)]
pub(super) struct Integration<'a> {
    id: &'a str,
    name: &'a str,
    metadata: Metadata<'a>,
    /// None is written as `null`.
    subscriptions: Option<&'a [Record]>,
}

#[derive(Debug, Serialize)]
struct Metadata<'a> {
    hostname: &'a str,
    integrationversion: &'a str,
    distributorversion: &'a str,
    location: &'a str,
    kubernetesmetadata: KubernetesMetadata<'a>,
    lastseen: &'a str,
}

#[derive(Debug, Serialize)]
struct KubernetesMetadata<'a> {
    namespace: &'a str,
    podname: &'a str,
    deploymentname: &'a str,
}

/// A subscription, as it is sent and received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    #[serde(default, deserialize_with = "or_default")]
    id: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) event: String,
    #[serde(default, deserialize_with = "or_default")]
    filter: RecordFilter,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct RecordFilter {
    #[serde(default, deserialize_with = "or_default")]
    projects: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    stages: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    services: Vec<String>,
}

/// The answer to a registration.
#[derive(Debug, Deserialize)]
struct Registered {
    #[serde(default, deserialize_with = "or_default")]
    id: String,
}

/// What the control plane says is subscribed to.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub(super) subscriptions: Vec<Arc<Subscription>>,
    /// What no event can match, and why.
    pub(super) left_out: Vec<(Record, SubjectError)>,
}

impl<'a> Integration<'a> {
    /// The integration of the configuration.
    pub(super) fn new(workload: &'a Workload, config: &'a RegistrationConfig, subscriptions: &'a [Record]) -> Self {
        let node = &workload.node;
        Self {
            id: "",
            name: &workload.deployment,
            metadata: Metadata {
                hostname: if node.is_empty() { UNKNOWN_NODE } else { node },
                integrationversion: &config.version,
                distributorversion: &config.distributor_version,
                location: &config.location,
                kubernetesmetadata: KubernetesMetadata {
                    namespace: &workload.namespace,
                    podname: &workload.pod,
                    deploymentname: &workload.deployment,
                },
                lastseen: NEVER,
            },
            subscriptions: (!subscriptions.is_empty()).then_some(subscriptions),
        }
    }

    /// As it is sent.
    pub(super) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and lists can be written as JSON")
    }
}

impl Record {
    /// A subscription to ask for.
    pub(super) fn wanted(topic: &Subject, filter: &FilterLists) -> Self {
        Self {
            id: String::new(),
            event: topic.to_string(),
            filter: RecordFilter {
                projects: filter.projects.clone(),
                stages: filter.stages.clone(),
                services: filter.services.clone(),
            },
        }
    }

    /// The same, to be asked for again: the control plane gives it an id of its own.
    pub(super) fn without_id(self) -> Self {
        Self {
            id: String::new(),
            ..self
        }
    }

    /// A subscription that there was, to be asked for again.
    pub(super) fn again(subscription: &Subscription) -> Self {
        Self {
            id: String::new(),
            event: subscription.event.to_string(),
            filter: RecordFilter {
                projects: subscription.projects.clone(),
                stages: subscription.stages.clone(),
                services: subscription.services.clone(),
            },
        }
    }

    /// Whether this subscription was made of such a record.
    fn is(&self, subscription: &Subscription) -> bool {
        let RecordFilter {
            projects,
            stages,
            services,
        } = &self.filter;
        self.id == subscription.id
            && self.event == subscription.event.as_str()
            && *projects == subscription.projects
            && *stages == subscription.stages
            && *services == subscription.services
    }

    /// What to match events of this type against.
    fn into_subscription(self, event: Subject) -> Subscription {
        let RecordFilter {
            mut projects,
            mut stages,
            mut services,
        } = self.filter;
        // They stay for as long as the subscription.
        for list in [&mut projects, &mut stages, &mut services] {
            list.shrink_to_fit();
        }
        Subscription {
            id: self.id,
            event,
            projects,
            stages,
            services,
        }
    }
}

impl Listed {
    /// Adds the next record. There may be ten thousand, which are the same with each heartbeat: a subscription that was there
    /// `before` is not made anew.
    pub(super) fn add(&mut self, record: Record, before: Option<&[Arc<Subscription>]>) {
        let before = before.and_then(|before| before.get(self.subscriptions.len()));
        if let Some(same) = before.filter(|before| record.is(before)) {
            self.subscriptions.push(Arc::clone(same));
            return;
        }
        match Subject::pattern(&record.event) {
            Ok(event) => self.subscriptions.push(Arc::new(record.into_subscription(event))),
            Err(error) => self.left_out.push((record, error)),
        }
    }
}

/// The id in the answer to a registration.
///
/// # Errors
/// Why there is none.
pub(super) fn registered_id(answer: &[u8]) -> Result<String, String> {
    let registered: Registered = serde_json::from_slice(answer).map_err(|error| error.to_string())?;
    if registered.id.is_empty() {
        return Err("it has no id for the integration".to_owned());
    }
    Ok(registered.id)
}

/// `null` is the same as nothing.
fn or_default<'de, T: Deserialize<'de> + Default, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
