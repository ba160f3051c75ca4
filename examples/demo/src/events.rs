//! The events that the demo publishes: a day at a Keptn control plane, with a few things gone wrong.
//!
//! Called by `main` and the acts. It must not know what becomes of an event: that is for the distributor to decide, and for the demo
//! to find out.

use std::time::SystemTime;

use anyhow::Context;
use bytes::Bytes;
use serde_json::{Value, json};

/// A task that the service crashes on until it is fixed.
pub(crate) const CRASHES: &str = "sh.keptn.event.rollback.triggered";
/// A task that the service does not know until it is fixed.
pub(crate) const UNKNOWN: &str = "sh.keptn.event.approval.triggered";

/// What is published to NATS.
#[derive(Clone, Debug)]
pub(crate) struct Publication {
    /// The NATS subject.
    pub(crate) subject: String,
    /// The message.
    pub(crate) payload: Bytes,
}

/// Two sequences side by side, each with a context of its own, and every event with an id that was never used before.
///
/// # Errors
/// When the system gives no new ids.
pub(crate) fn run() -> anyhow::Result<Vec<Publication>> {
    let carts = Sequence::new("sockshop", "carts", "9f5c1f0e8b6a4a27b6d0d0c6b7d7a1f2e3c4b5a6")?;
    let hello = Sequence::new("podtato-head", "hello", "70f22e3dd9f4e5d16d76494ef5003513895b76f9")?;

    let mut undecodable = carts.event("sh.keptn.event.evaluation.triggered", "staging")?;
    undecodable["data"]["project"] = json!(1337);

    Ok(vec![
        carts.triggered("deployment", "dev")?,
        hello.triggered("deployment", "dev")?,
        carts.triggered("test", "dev")?,
        Publication {
            subject: "sh.keptn.event.test.triggered".to_owned(),
            payload: Bytes::from_static(b"please run the tests"),
        },
        carts.triggered("evaluation", "dev")?,
        hello.triggered("test", "dev")?,
        // The start of the sequence's next stage. It is for the control plane, and has one part more.
        publication(&carts.event("sh.keptn.event.staging.delivery.triggered", "staging")?),
        carts.triggered("deployment", "staging")?,
        publication(&undecodable),
        carts.triggered("evaluation", "staging")?,
        hello.triggered("release", "production")?,
        carts.triggered("release", "production")?,
    ])
}

/// Tasks of one context, so that their order counts.
///
/// # Errors
/// When the system gives no new ids.
pub(crate) fn in_order(n: usize) -> anyhow::Result<Vec<Publication>> {
    let carts = Sequence::new("sockshop", "carts", "0c5e6d1f2a3b4c5d6e7f8091a2b3c4d5e6f70819")?;
    (0..n).map(|_| carts.triggered("test", "dev")).collect()
}

/// Tasks of one context without end.
///
/// # Errors
/// When the system gives no new ids.
pub(crate) fn endless() -> anyhow::Result<impl Iterator<Item = anyhow::Result<Publication>>> {
    let carts = Sequence::new("sockshop", "carts", "1f2a3b4c5d6e7f8091a2b3c4d5e6f7080c5e6d1f")?;
    Ok(std::iter::repeat_with(move || carts.triggered("test", "dev")))
}

/// What the service cannot take before it is fixed.
///
/// # Errors
/// When the system gives no new ids.
pub(crate) fn poison() -> anyhow::Result<Vec<Publication>> {
    let carts = Sequence::new("sockshop", "carts", "5b7c8d9eafb0c1d2e3f405162738495a6b7c8d9e")?;
    let types = [CRASHES, UNKNOWN];
    types
        .map(|ty| Ok(publication(&carts.event(ty, "production")?)))
        .into_iter()
        .collect()
}

/// A UUID that nobody has used.
///
/// # Errors
/// When the system gives none.
pub(crate) fn new_id() -> anyhow::Result<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/uuid").context("the kernel gives no UUID")?;
    Ok(id.trim_end().to_owned())
}

/// This moment, as the attribute `time` has it.
pub(crate) fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

/// What a task of Keptn is given to work with, in the member of `data` that is named like it.
fn task_data(task: &str) -> Value {
    match task {
        "deployment" => json!({ "deploymentURIsLocal": [], "deploymentstrategy": "blue_green_service" }),
        "test" => json!({ "teststrategy": "functional" }),
        "evaluation" => json!({ "timeframe": "5m" }),
        _ => json!({}),
    }
}

/// One run of a delivery sequence.
struct Sequence {
    project: &'static str,
    service: &'static str,
    git_commit_id: &'static str,
    keptn_context: String,
}

impl Sequence {
    fn new(project: &'static str, service: &'static str, git_commit_id: &'static str) -> anyhow::Result<Self> {
        Ok(Self {
            project,
            service,
            git_commit_id,
            keptn_context: new_id()?,
        })
    }

    fn triggered(&self, task: &str, stage: &str) -> anyhow::Result<Publication> {
        let mut event = self.event(&format!("sh.keptn.event.{task}.triggered"), stage)?;
        event["data"][task] = task_data(task);
        Ok(publication(&event))
    }

    fn event(&self, ty: &str, stage: &str) -> anyhow::Result<Value> {
        Ok(json!({
            "specversion": "1.0",
            "id": new_id()?,
            "source": "shipyard-controller",
            "type": ty,
            "datacontenttype": "application/json",
            "time": now(),
            "data": {
                "project": self.project,
                "stage": stage,
                "service": self.service,
                "labels": { "buildId": "42" },
                "message": "",
                "status": "succeeded",
                "result": "pass",
            },
            "shkeptncontext": self.keptn_context,
            "shkeptnspecversion": "0.2.4",
            "gitcommitid": self.git_commit_id,
        }))
    }
}

/// In Keptn the subject is the type.
fn publication(event: &Value) -> Publication {
    Publication {
        subject: event["type"].as_str().unwrap_or_default().to_owned(),
        payload: event.to_string().into(),
    }
}
