//! An act: a filter is replaced while events flow, a broken one is refused, and the one before is brought back.
//!
//! Called by `main`. The files change as in a mounted `ConfigMap`. As everywhere, each step is shown when it has been seen:
//! which filter an event met shows in what became of it.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::Value;
use test_support::{eventually, http_request};
use tokio::time::{Instant, interval};

use crate::events;
use crate::log::Entry;
use crate::path::{LIMIT, Path};
use crate::processes::Processes;
use crate::show::Colour;

/// Events that are looked at before and after a change.
const N_EVENTS: usize = 5;
const BETWEEN_EVENTS: Duration = Duration::from_millis(40);
/// One of Keptn's stages; the events of this act are of another.
const STAGE: &str = "production";
const PLUGIN: &str = "only-production";

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Delivered,
    Filtered,
}

impl Path {
    /// Shows it from end to end.
    ///
    /// # Errors
    /// When a change does not take effect, a broken one does, or an event meets another filter than it should.
    pub(crate) async fn swap(&mut self, processes: &mut Processes) -> anyhow::Result<()> {
        self.show.headline("A filter is replaced while events flow")?;
        self.show.text(&format!(
            "A ConfigMap is mounted at PLUGINS_DIR. The events are of stage dev, {PLUGIN} wants others.\n"
        ))?;
        let generation = self.generation(processes).await?;
        self.flow(Fate::Delivered, Fate::Delivered, generation).await?;

        let manifest = manifest("builtin:keptn-filter");
        let changed = processes.plugins.write(&[("plugins.toml", &manifest)])?;
        self.say(Colour::Blue, "changed", "the ConfigMap has a plugins.toml now", None)?;
        let first = self.flow(Fate::Delivered, Fate::Filtered, generation + 1).await?;
        self.in_force(processes, generation + 1, Some((changed, first))).await?;

        let broken = manifest.replace("builtin:keptn-filter", "filter.wasm");
        processes
            .plugins
            .write(&[("plugins.toml", broken.as_str()), ("filter.wasm", "no WebAssembly")])?;
        self.say(
            Colour::Blue,
            "changed",
            "the ConfigMap has a component that is none",
            None,
        )?;
        let problem = self.refusal(processes).await?;
        self.say(
            Colour::Red,
            "refused",
            "the distributor says why, and changes nothing:",
            None,
        )?;
        self.show.sentences(&problem)?;
        self.flow(Fate::Filtered, Fate::Filtered, generation + 1).await?;
        self.in_force(processes, generation + 1, None).await?;

        self.show
            .command("curl -X POST -H 'Distributor-Control: 1' http://localhost:8092/plugins/rollback")?;
        let asked = Instant::now();
        let headers = [("distributor-control", "1")];
        let answer = http_request(processes.control, "POST", "/plugins/rollback", &headers, "").await?;
        let answer: Value = serde_json::from_slice(&answer.body)?;
        self.show.sentences(answer["note"].as_str().unwrap_or_default())?;
        let first = self.flow(Fate::Filtered, Fate::Delivered, generation + 2).await?;
        self.in_force(processes, generation + 2, Some((asked, first))).await?;

        processes.plugins.write(&[("plugins.toml", "")])?;
        self.say(
            Colour::Blue,
            "changed",
            "the ConfigMap asks for no further plugins, which is what is in force",
            None,
        )?;
        let is_repaired = async || status(processes).await.is_ok_and(|status| status["degraded"] == false);
        let repaired = eventually(LIMIT, is_repaired).await;
        repaired.context("the ConfigMap is still said to be broken")?;
        self.in_force(processes, generation + 2, None).await
    }

    /// Events keep coming, until some have met the filter that is to be in force. Those before may have met the one that
    /// was. Returns when the first of the new kind arrived.
    async fn flow(&mut self, old: Fate, new: Fate, generation: u64) -> anyhow::Result<Instant> {
        let (mut n_old, mut n_new) = (0, 0);
        let mut first = Instant::now();
        let begun = Instant::now();
        let mut ticks = interval(BETWEEN_EVENTS);
        for publication in events::endless()? {
            ticks.tick().await;
            self.publish(publication?).await?;
            let fate = self.fate().await?;
            if fate == new {
                n_new += 1;
                if n_new == 1 {
                    first = Instant::now();
                }
            } else {
                ensure!(
                    fate == old && n_new == 0,
                    "an event met the old filter after another had met the new one"
                );
                n_old += 1;
            }
            if n_new == N_EVENTS {
                break;
            }
            ensure!(begun.elapsed() < LIMIT, "the change has not taken effect");
        }
        let text = if old == new {
            format!("{n_new} events, all {}", word(new))
        } else {
            let (old, new) = (word(old), word(new));
            format!("{n_old} events {old}, then {n_new} {new} by generation {generation}")
        };
        self.say(colour(new), word(new), &text, None)?;
        Ok(first)
    }

    /// Follows an event that was just published to its end.
    async fn fate(&mut self) -> anyhow::Result<Fate> {
        let mut message = self.next(LIMIT).await?;
        self.came_in(&mut message);
        self.tally.number += 1;
        loop {
            match self.next_entry(&message).await? {
                Entry::Dropped { plugin, reason } => {
                    ensure!(plugin == PLUGIN, "dropped by {plugin}: {reason}");
                    *self.tally.dropped.entry(reason).or_default() += 1;
                    return Ok(Fate::Filtered);
                }
                Entry::Delivered { attempt, status } => {
                    self.request(&message, attempt, status)?;
                    self.tally.delivered += 1;
                    self.answers(&message).await?;
                    return Ok(Fate::Delivered);
                }
                Entry::Retried { .. } => {
                    let id = message.id().context("the event has an id")?;
                    self.service.take_attempt(id);
                    self.tally.retried += 1;
                }
                other => bail!("an event of stage dev: {other:?}"),
            }
        }
    }

    async fn generation(&self, processes: &Processes) -> anyhow::Result<u64> {
        let status = status(processes).await?;
        status["generation"].as_u64().context("the status has no generation")
    }

    /// Shows what `GET /plugins` says.
    async fn in_force(
        &mut self,
        processes: &Processes,
        expected: u64,
        since: Option<(Instant, Instant)>,
    ) -> anyhow::Result<()> {
        let status = status(processes).await?;
        let generation = status["generation"].as_u64().unwrap_or_default();
        ensure!(
            generation == expected,
            "generation {generation} is in force, not {expected}"
        );
        let plugins = status["plugins"].as_array().into_iter().flatten();
        let names: Vec<_> = plugins.filter_map(|plugin| plugin["name"].as_str()).collect();
        let text = format!("generation {generation}: {}", names.join(", "));
        self.say(Colour::Green, "in force", &text, since)?;
        Ok(self.show.gap()?)
    }

    /// What is wrong with the candidate that was refused.
    async fn refusal(&self, processes: &Processes) -> anyhow::Result<String> {
        let mut refused = Value::Null;
        let found = eventually(LIMIT, async || {
            refused = status(processes).await.unwrap_or_default()["refused"].take();
            !refused.is_null()
        });
        found.await.context("the broken component is not refused")?;
        let problem = refused["problems"][0].as_str().unwrap_or_default();
        ensure!(problem.contains(PLUGIN), "another problem: {problem}");
        // The folder is a random name here.
        Ok(problem.replace(&format!("{}/", processes.plugins.text()), ""))
    }
}

/// What `GET /plugins` answers.
async fn status(processes: &Processes) -> anyhow::Result<Value> {
    let answer = http_request(processes.control, "GET", "/plugins", &[], "").await?;
    Ok(serde_json::from_slice(&answer.body)?)
}

fn manifest(component: &str) -> String {
    format!("[[plugin]]\nname = \"{PLUGIN}\"\ncomponent = \"{component}\"\n[plugin.config]\nstages = [\"{STAGE}\"]\n")
}

fn word(fate: Fate) -> &'static str {
    match fate {
        Fate::Delivered => "delivered",
        Fate::Filtered => "filtered",
    }
}

fn colour(fate: Fate) -> Colour {
    match fate {
        Fate::Delivered => Colour::Green,
        Fate::Filtered => Colour::Yellow,
    }
}
