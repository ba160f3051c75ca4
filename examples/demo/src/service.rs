//! A small service, as it would run next to a distributor: it takes triggered events and says what became of them.
//!
//! Called by `main`, `path` and the acts. It must not know NATS: the distributor is all it speaks to.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use test_support::{ReceivedRequest, Recipient, Reply, eventually, http_request};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::events::{self, new_id, now};
use crate::path::LIMIT;

/// What a task takes here, between `.started` and `.finished`.
const WORK: Duration = Duration::from_millis(40);
/// Tasks that may wait; beyond that the service is busy, and says so.
const MAX_WAITING: usize = 256;
const SOURCE: &str = "demo-service";

/// One request of the distributor, and how it was answered.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    /// The event's id.
    pub(crate) id: String,
    /// Which request for this event it is, counted from 1.
    pub(crate) number: u64,
    /// The answer.
    pub(crate) status: u16,
    /// When it had arrived.
    pub(crate) arrived: Instant,
}

/// The running service. Its listener and its work end when it is dropped.
#[derive(Debug)]
pub(crate) struct Service {
    recipient: Recipient,
    journal: Arc<Mutex<Journal>>,
    tasks: Option<mpsc::Receiver<Value>>,
    working: JoinSet<()>,
}

/// What happened, as the service saw it.
#[derive(Debug, Default)]
struct Journal {
    /// Not yet taken by [`Service::take_attempt`].
    attempts: Vec<Attempt>,
    n_requests: HashMap<String, u64>,
    n_sent: u64,
    /// Events that the distributor did not take.
    not_sent: Vec<String>,
    /// Whether it can do what the first version could not.
    is_fixed: bool,
}

impl Service {
    /// Listens on a free port.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let recipient = Recipient::start().await?;
        let journal = Arc::<Mutex<Journal>>::default();
        let (sender, tasks) = mpsc::channel(MAX_WAITING);
        let answered = Arc::clone(&journal);
        recipient.respond_with(move |request, _| Reply::status(answer(request, &answered, &sender)));
        Ok(Self {
            recipient,
            journal,
            tasks: Some(tasks),
            working: JoinSet::new(),
        })
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.recipient.port()
    }

    /// Ends listening: connecting is refused from now on. What it has taken is worked on.
    pub(crate) async fn stop(&mut self) {
        self.recipient.stop().await;
    }

    /// Listens again, on the same port.
    ///
    /// # Errors
    /// When another program has taken the port meanwhile.
    pub(crate) async fn start_again(&mut self) -> anyhow::Result<()> {
        self.recipient.start_again().await
    }

    /// From now on it can do what it could not.
    pub(crate) fn fix(&self) {
        lock(&self.journal).is_fixed = true;
    }

    /// From now on it works, and sends its events to this distributor.
    pub(crate) fn work_for(&mut self, distributor: SocketAddr) {
        let Some(mut tasks) = self.tasks.take() else { return };
        let journal = Arc::clone(&self.journal);
        self.working.spawn(async move {
            while let Some(triggered) = tasks.recv().await {
                let sent = work(&triggered, distributor, &journal).await;
                if let Err(error) = sent {
                    lock(&journal).not_sent.push(format!("{error:#}"));
                }
            }
        });
    }

    /// Sends an event that nothing triggered, as a monitoring service does, and returns its id.
    ///
    /// # Errors
    /// When the distributor does not take it.
    pub(crate) async fn report_problem(&self, distributor: SocketAddr) -> anyhow::Result<String> {
        let id = new_id()?;
        let problem = json!({
            "specversion": "1.0",
            "id": id,
            "source": SOURCE,
            "type": "sh.keptn.events.problem",
            "datacontenttype": "application/json",
            "time": now(),
            "data": {
                "project": "sockshop",
                "stage": "production",
                "service": "carts",
                "State": "OPEN",
                "ProblemTitle": "Response time degradation",
            },
            "shkeptncontext": new_id()?,
        });
        // It takes events from the moment that it is connected to NATS, and answers 503 before.
        let mut sent = Ok(());
        let is_sent = eventually(LIMIT, async || {
            sent = send(&problem, distributor, &self.journal).await;
            sent.is_ok()
        });
        is_sent.await.or(sent)?;
        Ok(id)
    }

    /// Takes the first request for this event out of the journal.
    pub(crate) fn take_attempt(&self, id: &str) -> Option<Attempt> {
        let attempts = &mut lock(&self.journal).attempts;
        let index = attempts.iter().position(|attempt| attempt.id == id)?;
        Some(attempts.remove(index))
    }

    /// Requests that were not taken.
    pub(crate) fn n_attempts_left(&self) -> usize {
        lock(&self.journal).attempts.len()
    }

    /// Events that the distributor answered with 200.
    pub(crate) fn n_sent(&self) -> u64 {
        lock(&self.journal).n_sent
    }

    /// Why events could not be sent.
    pub(crate) fn not_sent(&self) -> Vec<String> {
        lock(&self.journal).not_sent.clone()
    }
}

fn lock(journal: &Mutex<Journal>) -> MutexGuard<'_, Journal> {
    journal.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes an event on, or not, and writes it down.
fn answer(request: &ReceivedRequest, journal: &Mutex<Journal>, tasks: &mpsc::Sender<Value>) -> u16 {
    let Ok(event) = request.json() else { return 400 };
    let id = event["id"].as_str().unwrap_or_default().to_owned();
    let mut journal = lock(journal);
    let n_requests = journal.n_requests.entry(id.clone()).or_default();
    *n_requests += 1;
    let number = *n_requests;

    let status = match refusal(&event, number, journal.is_fixed) {
        Some(status) => status,
        None if tasks.try_send(event).is_err() => 503,
        None => 200,
    };
    journal.attempts.push(Attempt {
        id,
        number,
        status,
        arrived: request.arrived,
    });
    status
}

/// Why a service does not take an event: it is busy, it has a bug, or it does not know what to do.
fn refusal(event: &Value, number: u64, is_fixed: bool) -> Option<u16> {
    match event["type"].as_str().unwrap_or_default() {
        // No service is always there: a deployment to staging finds it busy at first.
        "sh.keptn.event.deployment.triggered" if event["data"]["stage"] == "staging" && number == 1 => Some(503),
        events::CRASHES if !is_fixed => Some(500),
        events::UNKNOWN if !is_fixed => Some(422),
        _ => None,
    }
}

/// One task: `.started`, the work, `.finished`.
async fn work(triggered: &Value, distributor: SocketAddr, journal: &Mutex<Journal>) -> anyhow::Result<()> {
    send(&reply_to(triggered, "started", &[])?, distributor, journal).await?;
    tokio::time::sleep(WORK).await;
    let task = task_of(triggered)?;
    let (result, report) = result_of(task, &triggered["data"]);
    let members = [("result", json!(result)), ("message", json!("")), (task, report)];
    send(&reply_to(triggered, "finished", &members)?, distributor, journal).await
}

fn task_of(triggered: &Value) -> anyhow::Result<&str> {
    let ty = triggered["type"].as_str().unwrap_or_default();
    let task = ty
        .strip_prefix("sh.keptn.event.")
        .and_then(|ty| ty.strip_suffix(".triggered"));
    task.with_context(|| format!("the service was given {ty:?}, which is no task"))
}

/// What a task came to, and the member of `data` that is named like it.
fn result_of(task: &str, data: &Value) -> (&'static str, Value) {
    let text = |member: &str| data[member].as_str().unwrap_or_default();
    match task {
        "deployment" => {
            let url = format!("http://{}.{}-{}:80", text("service"), text("project"), text("stage"));
            (
                "pass",
                json!({ "deploymentNames": ["canary"], "deploymentURIsLocal": [url] }),
            )
        }
        "evaluation" if text("stage") == "staging" => ("warning", json!({ "score": 81.5, "result": "warning" })),
        "evaluation" => ("pass", json!({ "score": 100, "result": "pass" })),
        _ => ("pass", json!({})),
    }
}

/// An event that answers another: with its context, and with its id as `triggeredid`.
fn reply_to(triggered: &Value, kind: &str, members: &[(&str, Value)]) -> anyhow::Result<Value> {
    let of = &triggered["data"];
    let mut data = json!({
        "project": of["project"],
        "stage": of["stage"],
        "service": of["service"],
        "labels": of["labels"],
        "status": "succeeded",
    });
    for (name, value) in members {
        data[*name] = value.clone();
    }
    Ok(json!({
        "specversion": "1.0",
        "id": new_id()?,
        "source": SOURCE,
        "type": format!("sh.keptn.event.{}.{kind}", task_of(triggered)?),
        "datacontenttype": "application/json",
        "time": now(),
        "data": data,
        "shkeptncontext": triggered["shkeptncontext"],
        "shkeptnspecversion": "0.2.4",
        "triggeredid": triggered["id"],
        "gitcommitid": triggered["gitcommitid"],
    }))
}

/// Gives an event to the distributor.
async fn send(event: &Value, distributor: SocketAddr, journal: &Mutex<Journal>) -> anyhow::Result<()> {
    let headers = [("content-type", "application/cloudevents+json")];
    let ty = &event["type"];
    let answer = http_request(distributor, "POST", "/event", &headers, event.to_string())
        .await
        .with_context(|| format!("cannot send {ty}"))?;
    let reason = String::from_utf8_lossy(&answer.body);
    ensure!(
        answer.status == 200,
        "{ty} was answered with {} {reason}",
        answer.status
    );
    lock(journal).n_sent += 1;
    Ok(())
}
