//! Who has registered, and which events they want: the server's rules.
//!
//! Called by `mod`. It must not know HTTP beyond status and body.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

use super::answer::Answer;
use super::ids::{new_id, now_millis, sha1};

/// What the control plane knows of a registered service.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Integration {
    /// SHA-1 of name, namespace and host.
    pub id: String,
    /// The service's name.
    pub name: String,
    /// Where it runs.
    pub metadata: Metadata,
    /// What it wants, normally a list; kept as it was set, so that a test can serve any.
    pub subscriptions: Value,
}

/// Where a service runs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Metadata {
    /// The node.
    pub hostname: String,
    /// The service's version.
    pub integrationversion: String,
    /// The distributor's version.
    pub distributorversion: String,
    /// `control-plane` or `remote-execution-plane`, by itself.
    pub location: String,
    /// What Kubernetes calls it.
    pub kubernetesmetadata: KubernetesMetadata,
    /// When it was last heard of.
    pub lastseen: String,
}

/// What Kubernetes calls a service.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct KubernetesMetadata {
    /// Namespace.
    pub namespace: String,
    /// Pod.
    pub podname: String,
    /// Deployment.
    pub deploymentname: String,
}

/// A subscription as it is sent: null stands for what is missing.
#[derive(Default, Deserialize)]
#[serde(default)]
struct SentSubscription {
    #[serde(deserialize_with = "null_is_default")]
    event: String,
    #[serde(deserialize_with = "null_is_default")]
    filter: Filter,
}

/// A list that is missing stays missing: it is kept as null.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Filter {
    projects: Option<Vec<String>>,
    stages: Option<Vec<String>>,
    services: Option<Vec<String>>,
}

fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(value: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(value)?.unwrap_or_default())
}

impl SentSubscription {
    fn stored(&self, id: &str) -> Value {
        json!({ "id": id, "event": self.event, "filter": self.filter })
    }
}

/// All registered services, by id.
#[derive(Debug, Default)]
pub(super) struct Uniform(pub(super) BTreeMap<String, Integration>);

impl Uniform {
    /// A service with the same name and namespace is the same one, wherever it runs: its subscriptions are kept, unless
    /// it has none.
    pub(super) fn register(&mut self, body: &[u8]) -> Answer {
        let integration = match serde_json::from_slice::<Integration>(body) {
            Ok(integration) => integration,
            Err(error) => return malformed(body, &error),
        };
        let sent = match serde_json::from_value::<Option<Vec<SentSubscription>>>(integration.subscriptions.clone()) {
            Ok(sent) => sent.unwrap_or_default(),
            Err(error) => return malformed(body, &error),
        };
        let namespace = &integration.metadata.kubernetesmetadata.namespace;
        // Without a name or namespace the server would look for any.
        let is_same = |known: &&mut Integration| {
            (integration.name.is_empty() || known.name == integration.name)
                && (namespace.is_empty() || known.metadata.kubernetesmetadata.namespace == *namespace)
        };
        if let Some(known) = self.0.values_mut().find(is_same) {
            if known.subscriptions.as_array().is_none_or(Vec::is_empty) {
                // The server forgets to give them ids here.
                known.subscriptions = sent.iter().map(|subscription| subscription.stored("")).collect();
            }
            known.metadata.integrationversion = integration.metadata.integrationversion;
            known.metadata.distributorversion = integration.metadata.distributorversion;
            known.metadata.lastseen = now_millis();
            return Answer::json(200, &json!({ "id": known.id }));
        }
        let hostname = &integration.metadata.hostname;
        if integration.name.is_empty() || namespace.is_empty() || hostname.is_empty() {
            let message = "incomplete integration ID. At least 'name','namespace' and 'nodename' must be set";
            return Answer::error(400, message);
        }
        let id = sha1(&format!("{}-{namespace}-{hostname}", integration.name));
        let mut integration = Integration {
            id: id.clone(),
            subscriptions: sent.iter().map(|subscription| subscription.stored(&new_id())).collect(),
            ..integration
        };
        integration.metadata.lastseen = now_millis();
        self.0.insert(id.clone(), integration);
        Answer::json(201, &json!({ "id": id }))
    }

    pub(super) fn ping(&mut self, id: &str) -> Answer {
        let Some(integration) = self.0.get_mut(id) else {
            return Answer::error(404, "uniform integration not found");
        };
        integration.metadata.lastseen = now_millis();
        Answer::json(200, &json!(integration))
    }

    pub(super) fn unregister(&mut self, id: &str) -> Answer {
        self.0.remove(id);
        Answer::json(200, &json!({}))
    }

    /// Those that have all of the values that are asked for.
    pub(super) fn registrations(&self, parameter: impl Fn(&str) -> Option<String>) -> Answer {
        let wanted = |name: &str| parameter(name).filter(|value| !value.is_empty());
        let is = |name: &str, value: &str| wanted(name).is_none_or(|wanted| wanted == value);
        let listed = self.0.values().filter(|integration| {
            is("id", &integration.id)
                && is("name", &integration.name)
                && is("namespace", &integration.metadata.kubernetesmetadata.namespace)
                && is("hostName", &integration.metadata.hostname)
                && ["project", "stage", "service"].into_iter().all(|name| {
                    let Some(value) = wanted(name) else { return true };
                    let mut subscriptions = integration.subscriptions.as_array().into_iter().flatten();
                    let list = format!("/filter/{name}s");
                    subscriptions.any(|subscription| has(subscription.pointer(&list), &value))
                })
        });
        Answer::json(200, &listed.map(|integration| json!(integration)).collect())
    }

    /// Lists, adds, shows, changes or removes subscriptions of an integration.
    pub(super) fn subscriptions(
        &mut self,
        method: &str,
        id: &str,
        subscription_id: Option<&str>,
        body: &[u8],
    ) -> Answer {
        let no_documents = || Answer::error(404, "mongo: no documents in result");
        let Some(integration) = self.0.get_mut(id) else {
            return match method {
                "PUT" | "DELETE" => Answer::error(500, "mongo: no documents in result"),
                _ => no_documents(),
            };
        };
        if !integration.subscriptions.is_array() {
            integration.subscriptions = json!([]);
        }
        let Value::Array(known) = &mut integration.subscriptions else {
            return no_documents();
        };
        let index = known
            .iter()
            .position(|subscription| subscription_id.is_some_and(|id| subscription["id"] == id));
        match (method, subscription_id) {
            ("GET", None) => Answer::json(200, &Value::Array(known.clone())),
            ("GET", Some(_)) => index.map_or_else(no_documents, |index| Answer::json(200, &known[index])),
            ("POST", None) | ("PUT", Some(_)) => {
                let subscription = match serde_json::from_slice::<SentSubscription>(body) {
                    Ok(subscription) => subscription,
                    Err(error) => return malformed(body, &error),
                };
                let id = subscription_id.map_or_else(new_id, str::to_owned);
                let stored = subscription.stored(&id);
                match index {
                    Some(index) => known[index] = stored,
                    None => known.push(stored),
                }
                Answer::json(201, &json!({ "id": id }))
            }
            ("DELETE", Some(_)) => {
                if let Some(index) = index {
                    known.remove(index);
                }
                Answer::json(200, &Value::Object(Map::new()))
            }
            _ => Answer::text(404, "text/plain", "404 page not found"),
        }
    }
}

fn has(list: Option<&Value>, value: &str) -> bool {
    list.and_then(Value::as_array)
        .is_some_and(|list| list.iter().any(|element| element == value))
}

/// What the server says to a body that it cannot read.
pub(super) fn malformed(body: &[u8], error: &serde_json::Error) -> Answer {
    match body {
        [] => Answer::error(400, "EOF"),
        _ if error.is_eof() => Answer::error(400, "unexpected EOF"),
        _ => Answer::error(400, &error.to_string()),
    }
}
