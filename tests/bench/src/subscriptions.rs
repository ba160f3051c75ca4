//! Rounds with what a control plane asks for: many subscriptions, and a distributor that is registered.
//!
//! Called by `row`.

use std::time::Duration;

use serde_json::{Value, json};
use test_support::{ControlPlane, eventually};

use crate::events::{Events, Load, SUBJECT};
use crate::figures::{Figure, Round};
use crate::measured::Program;
use crate::stage::{Bench, mebibytes};

const NAME: &str = "bench";
const SOON: Duration = Duration::from_secs(20);

impl Bench {
    /// As throughput, where the last of `n` subscriptions matches and no other; and what they take of memory.
    pub(crate) async fn subscriptions(
        &self,
        program: Program<'_>,
        load: Load,
        n: usize,
        n_events: usize,
    ) -> anyhow::Result<Round> {
        let control_plane = ControlPlane::start().await?;
        // In the cluster its services have fixed names; this is the way to them here.
        let proxy = control_plane.url();
        let registered = [
            ("DISABLE_REGISTRATION", "false"),
            ("HTTP_PROXY", proxy.as_str()),
            ("HEARTBEAT_INTERVAL", "1s"),
            ("K8S_DEPLOYMENT_NAME", NAME),
            ("K8S_NAMESPACE", "keptn"),
            ("K8S_NODE_NAME", "node"),
        ];
        let events = Events::render(load, self.clock)?;
        let mut stage = self.set_up_with(program, "", &registered, n_events, &events).await?;
        let integration = control_plane.wait_for_integration(NAME, SOON).await?;
        control_plane.set_subscriptions(&integration.id, subscriptions(n))?;
        let mut round = self.throughput_of(&mut stage, &events, n_events).await?;
        let process = stage.measured.process();
        // What the load took is given back soon.
        let mut memory = process.resident_memory()?.now;
        let _ = eventually(Duration::from_secs(3), async || {
            memory = process.resident_memory().map_or(memory, |now| memory.min(now.now));
            false
        })
        .await;
        round.push((Figure::MemoryMebibytes, mebibytes(memory)));
        Ok(round)
    }
}

fn subscriptions(n: usize) -> Value {
    let others = (1..n).map(|nth| format!("sh.keptn.event.task{nth}.triggered"));
    let all = others.chain([SUBJECT.to_owned()]).enumerate().map(|(nth, event)| {
        json!({ "id": format!("id-{nth}"), "event": event, "filter": { "projects": [], "stages": [], "services": [] } })
    });
    all.collect()
}
