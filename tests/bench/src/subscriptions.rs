//! Rounds with what a control plane asks for: many subscriptions, and a distributor that is registered.
//!
//! Called by `row`.

use std::time::Duration;

use serde_json::{Value, json};
use test_support::{ControlPlane, Route, eventually};

use crate::events::{Events, Load, PASSING_PROJECT, SUBJECT};
use crate::figures::{Figure, Round};
use crate::measured::Program;
use crate::stage::{Bench, Stage, mebibytes};

/// What the control plane asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Subscriptions.
    pub(crate) n: usize,
    /// Of so many event types: the others are for other projects.
    pub(crate) n_types: usize,
}

const NAME: &str = "bench";
const SOON: Duration = Duration::from_secs(20);

impl Bench {
    /// What they take of memory at rest; and as throughput, where the last subscription matches and no other.
    pub(crate) async fn subscriptions(
        &self,
        program: Program<'_>,
        load: Load,
        wanted: Wanted,
        n_events: usize,
    ) -> anyhow::Result<Round> {
        let control_plane = ControlPlane::start().await?;
        // In the cluster its services have fixed names; this is the way to them here.
        let proxy = control_plane.url();
        let registered = [
            ("DISABLE_REGISTRATION", "false"),
            ("HTTP_PROXY", proxy.as_str()),
            ("K8S_DEPLOYMENT_NAME", NAME),
            ("K8S_NAMESPACE", "keptn"),
            ("K8S_NODE_NAME", "node"),
        ];
        let events = Events::render(load, self.clock)?;
        let mut stage = self.set_up_with(program, "", &registered, n_events, &events).await?;
        let integration = control_plane.wait_for_integration(NAME, SOON).await?;
        // All rounds learn of them with the second heartbeat: what they take at the start would be counted to it.
        control_plane.wait_for_answers(Route::Ping, 200, 1, SOON).await?;
        control_plane.set_subscriptions(&integration.id, subscriptions(wanted))?;
        stage.warm_up(&events, 1).await?;
        let memory = memory_at_rest(&stage).await?;
        let mut round = self.throughput_of(&mut stage, &events, n_events).await?;
        round.push((Figure::MemoryMebibytes, mebibytes(memory)));
        Ok(round)
    }
}

/// What it took to learn of them is given back soon.
async fn memory_at_rest(stage: &Stage) -> anyhow::Result<u64> {
    let process = stage.measured.process();
    let mut memory = process.resident_memory()?.now;
    let _ = eventually(Duration::from_secs(5), async || {
        memory = process.resident_memory().map_or(memory, |now| memory.min(now.now));
        false
    })
    .await;
    Ok(memory)
}

/// As many of one type as of another, each for its project; the last is the one that matches.
fn subscriptions(Wanted { n, n_types }: Wanted) -> Value {
    let subscription = |left: usize| {
        let event = match left % n_types {
            0 => SUBJECT.to_owned(),
            ty => format!("sh.keptn.event.task{ty}.triggered"),
        };
        let project = match left {
            0 => PASSING_PROJECT.to_owned(),
            project => format!("project-{project}"),
        };
        let filter = json!({ "projects": [project], "stages": [], "services": [] });
        json!({ "id": format!("id-{left}"), "event": event, "filter": filter })
    };
    (0..n).rev().map(subscription).collect()
}
