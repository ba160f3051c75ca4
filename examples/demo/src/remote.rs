//! The distributor outside of the cluster: it asks a control plane for tasks, over HTTP alone, and a sequence runs to its end.
//!
//! Called by `main`. The control plane is played by this program, by the rules of a real one. As everywhere, each step is
//! shown when it has been seen: in the control plane's journal, or in that of the service.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use serde_json::Value;
use test_support::{ControlPlane, DistributorProcess, Route, eventually};
use tokio::time::{Instant, sleep};

use crate::path::LIMIT;
use crate::processes::{end, ended, is_there};
use crate::service::{Attempt, Service};
use crate::show::{Colour, Show};
use crate::tally::Counters;
use crate::{EXIT_INTERRUPTED, LIVE_PAUSE, Signals, with_log};

const NAME: &str = "demo-service";
const TOKEN: &str = "demo-token";
const PROJECT: &str = "sockshop";
const SERVICE: &str = "carts";
const STAGES: [&str; 2] = ["dev", "production"];
const TASKS: [&str; 2] = ["deployment", "test"];
const TOPICS: &str = "sh.keptn.event.deployment.triggered,sh.keptn.event.test.triggered";
/// Seconds between two looks for tasks; the default of ten is long to watch.
const POLLING_INTERVAL: &str = "1";

/// Who takes part. The distributor is ended when this is dropped.
struct Remote {
    control_plane: ControlPlane,
    service: Service,
    distributor: DistributorProcess,
    show: Show,
    n_tasks: u64,
}

/// Shows it from end to end.
///
/// # Errors
/// When something does not happen that should.
pub(crate) async fn run(binary: &Path, once: bool, signals: &mut Signals) -> anyhow::Result<ExitCode> {
    let started = tokio::select! {
        started = Remote::start(binary) => started,
        _ = signals.next() => return Ok(ExitCode::from(EXIT_INTERRUPTED)),
    };
    let mut remote = started?;
    // Signals first: a terminal's Ctrl-C ends the distributor too.
    let by_terminal = tokio::select! {
        biased;
        by_terminal = signals.next() => by_terminal,
        told = remote.tell(once) => {
            told.map_err(|error| with_log(error, &remote.distributor))?;
            false
        }
    };
    let ended = end(&mut remote.distributor, by_terminal).await;
    let counters = ended.map_err(|error| with_log(error, &remote.distributor))?;
    if !once {
        remote.show.gap()?;
    }
    remote.summarize(&counters, once)
}

impl Remote {
    async fn start(binary: &Path) -> anyhow::Result<Self> {
        is_there(binary)?;
        let control_plane = ControlPlane::start().await?;
        control_plane.require_token(TOKEN);
        let mut service = Service::start().await?;
        let (endpoint, port) = (control_plane.endpoint(), service.port().to_string());
        let variables = [
            ("KEPTN_API_ENDPOINT", endpoint.as_str()),
            ("KEPTN_API_TOKEN", TOKEN),
            ("HTTP_POLLING_INTERVAL", POLLING_INTERVAL),
            ("PUBSUB_TOPIC", TOPICS),
            ("PUBSUB_RECIPIENT_PORT", port.as_str()),
            ("K8S_NAMESPACE", "keptn"),
            ("K8S_DEPLOYMENT_NAME", NAME),
            ("K8S_NODE_NAME", "demo-node"),
        ];
        let mut distributor = DistributorProcess::start(binary, &variables)?;
        distributor.wait_until_ready(LIMIT).await?;
        service.work_for(distributor.proxy_address());
        Ok(Self {
            control_plane,
            service,
            distributor,
            show: Show::new(),
            n_tasks: 0,
        })
    }

    async fn tell(&mut self, once: bool) -> anyhow::Result<()> {
        self.introduce()?;
        self.registered().await?;
        self.sequence().await?;
        if once {
            return Ok(());
        }
        self.show
            .headline("Live: another sequence every few seconds, until Ctrl-C")?;
        self.show.gap()?;
        loop {
            tokio::select! {
                () = sleep(LIVE_PAUSE) => self.sequence().await?,
                error = ended(self.distributor.output()) => return Err(error),
            }
        }
    }

    fn introduce(&mut self) -> anyhow::Result<()> {
        self.show.text(&format!(
            "\
A control plane triggers tasks and keeps them open until somebody has finished them. The distributor
is not in its cluster: it asks for open tasks, gives them to the service next to it, and sends what
the service says back. There is no NATS here, and nothing connects to the distributor from outside.

  control plane  in this process  KEPTN_API_ENDPOINT={}, with a token
  distributor    pid {:<12} http://{}/event, HTTP_POLLING_INTERVAL={POLLING_INTERVAL}
  service        in this process  http://127.0.0.1:{}/
",
            self.control_plane.endpoint(),
            self.distributor.process().id()?,
            self.distributor.proxy_address(),
            self.service.port(),
        ))?;
        Ok(())
    }

    async fn registered(&mut self) -> anyhow::Result<()> {
        self.show.headline("The distributor registers its service")?;
        let integration = self.control_plane.wait_for_integration(NAME, LIMIT).await?;
        let id: String = integration.id.chars().take(8).collect();
        let text = format!("{NAME} as {id}..., location {}", integration.metadata.location);
        self.step(Colour::Green, "registered", &text, None)?;
        for subscription in integration.subscriptions.as_array().into_iter().flatten() {
            let event = subscription["event"].as_str().unwrap_or_default();
            self.step(Colour::Blue, "subscribed", event, None)?;
        }
        let pings = self.control_plane.wait_for_answers(Route::Ping, 200, 1, LIMIT).await?;
        let text = format!("{} is answered with the subscriptions", pings[0].received.method);
        self.step(Colour::Green, "heartbeat", &text, None)?;
        self.show.gap()?;
        Ok(())
    }

    /// One sequence, task by task.
    async fn sequence(&mut self) -> anyhow::Result<()> {
        self.show.headline(&format!(
            "A sequence of {} tasks in {} stages",
            TASKS.len(),
            STAGES.len()
        ))?;
        let mut since = Instant::now();
        let triggered = self.control_plane.trigger_sequence(PROJECT, &STAGES, &TASKS, SERVICE);
        let context = triggered.await;
        for stage in STAGES {
            for task in TASKS {
                since = self.task(&context, stage, task, since).await?;
            }
        }
        let state = self.control_plane.wait_for_state(&context, "finished", LIMIT).await?;
        let stages = state["stages"].as_array().into_iter().flatten().map(|stage| {
            let text = |name: &str| stage[name].as_str().unwrap_or_default();
            format!("{} {}", text("name"), text("state"))
        });
        let stages = stages.collect::<Vec<_>>().join(", ");
        let short: String = context.chars().take(8).collect();
        let text = format!("{}: {stages}", state["state"].as_str().unwrap_or_default());
        self.step(Colour::Green, "sequence", &format!("{short} is {text}"), None)?;
        self.show.gap()?;
        ensure!(!stages.contains("errored"), "a stage has failed: {stages}");
        Ok(())
    }

    /// One task, from its trigger to its end. Returns when it was finished.
    async fn task(&mut self, context: &str, stage: &str, task: &str, since: Instant) -> anyhow::Result<Instant> {
        let ty = format!("sh.keptn.event.{task}.triggered");
        let is_this = |event: &Value| {
            event["type"] == *ty && event["shkeptncontext"] == *context && event["data"]["stage"] == *stage
        };
        let open = self.control_plane.wait_for_open_event(LIMIT, is_this).await?;
        let id = open["id"].as_str().unwrap_or_default();
        self.n_tasks += 1;
        self.show
            .text(&format!("{:>3} {ty}  {PROJECT} / {stage} / {SERVICE}", self.n_tasks))?;

        let attempt = self.attempt(id).await?;
        let text = format!("asked for, and answered {} by the service", attempt.status);
        self.step(Colour::Green, "delivered", &text, Some((since, attempt.arrived)))?;
        let mut at = attempt.arrived;
        for kind in ["started", "finished"] {
            let ty = format!("sh.keptn.event.{task}.{kind}");
            let sent = self.control_plane.wait_for_request(LIMIT, |request| {
                let event = request.received.json().unwrap_or_default();
                request.route == Route::SendEvent && event["type"] == *ty && event["triggeredid"] == *id
            });
            let sent = sent.await.with_context(|| format!("{ty} of the service"))?;
            at = sent.received.arrived;
            let text = format!("{ty} with POST {}", sent.received.path);
            self.step(Colour::Green, "came back", &text, Some((since, at)))?;
        }
        Ok(at)
    }

    /// The service's view of a delivery.
    async fn attempt(&self, id: &str) -> anyhow::Result<Attempt> {
        let mut attempt = None;
        let is_there = eventually(LIMIT, async || {
            attempt = self.service.take_attempt(id);
            attempt.is_some()
        });
        let waited = is_there.await;
        attempt.with_context(|| format!("task {id} did not come to the service: {waited:?}"))
    }

    /// The numbers of all who took part, which have to agree.
    fn summarize(&mut self, counters: &Counters, is_complete: bool) -> anyhow::Result<ExitCode> {
        let n = |route| u64::try_from(self.control_plane.requests_to(route).len()).unwrap_or(u64::MAX);
        let (polls, sent) = (n(Route::OpenEvents), n(Route::SendEvent));
        let refused = self.control_plane.requests();
        let refused = refused
            .iter()
            .filter(|request| request.status.is_some_and(|status| status >= 400));
        let n_refused = refused.count();
        let count = |name| counters.get(name).unwrap_or_default();
        self.show.headline("Summary")?;
        self.show.text(&format!(
            "  {} tasks triggered, {} delivered to the service; {sent} events of the service sent to the API;\n  \
             requests for open tasks: {polls}, heartbeats: {}, requests refused: {n_refused}",
            self.n_tasks,
            count("delivered"),
            n(Route::Ping),
        ))?;
        // Ended by Ctrl-C, anything may be under way.
        if !is_complete {
            return Ok(ExitCode::SUCCESS);
        }
        let mut problems = self.service.not_sent();
        for (what, left, right) in [
            ("triggered and delivered", self.n_tasks, count("delivered")),
            ("twice as many events sent as tasks", 2 * self.n_tasks, sent),
            ("sent and counted", sent, count("forwarded")),
            ("dead letters", count("dead_lettered"), 0),
            ("deliveries too many", u64::try_from(self.service.n_attempts_left())?, 0),
            ("open tasks left", u64::try_from(self.control_plane.n_open_events())?, 0),
            ("registrations", n(Route::Register), 1),
            ("requests refused", u64::try_from(n_refused)?, 0),
        ] {
            if left != right {
                problems.push(format!("{what}: {left} is not {right}"));
            }
        }
        if problems.is_empty() {
            self.step(Colour::Green, "It adds up", "each task was delivered once", None)?;
            return Ok(ExitCode::SUCCESS);
        }
        self.show.does_not_add_up(&problems)?;
        Ok(ExitCode::FAILURE)
    }

    fn step(
        &mut self,
        colour: Colour,
        label: &str,
        text: &str,
        since: Option<(Instant, Instant)>,
    ) -> anyhow::Result<()> {
        Ok(self.show.step(colour, label, text, since)?)
    }
}
