//! Replaces the chain while events flow: all of it, or nothing.
//!
//! One task, which `app` starts. It builds a candidate from what the directory holds, and only when all of it works, the
//! chain is replaced behind one pointer; whatever is wrong leaves the last good chain in force. Events that are under way
//! finish on the chain they began with. It does not know what is done with events.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::candidate::{Candidates, Copied, is_same, keep, look};
use super::chain::Chain;
use super::demands::{Answer, Demand, NotReplaced, PluginControl, Replaced};
use super::directory::{Digest, Look};
use super::status::{Origin, Outcome, Status, Trigger};
use super::watch::Watch;
use super::{ChainError, Host, Plugins, build_chain, mounts};
use crate::config::Config;
use crate::error_log::ErrorLog;

/// A directory that never stands still gets no further candidates before its next change.
const MAX_CANDIDATES: u32 = 10;
/// The pause before the second candidate; each further one waits for as much longer.
const PAUSE: Duration = Duration::from_millis(10);
/// Demands that wait.
const MAX_DEMANDS: usize = 8;

/// The one who replaces the chain.
#[derive(Debug)]
pub struct Reloader {
    candidates: Candidates,
    plugins: Arc<Plugins>,
    status: Arc<Mutex<Status>>,
    demands: mpsc::Receiver<Demand>,
    error_log: Option<Arc<ErrorLog>>,
    /// What the directory held when it was considered last. It is not considered again before it holds something else.
    seen: Option<Digest>,
    /// Whether the plugins in force came from files.
    has_files: bool,
}

/// What the directory holds.
enum Found {
    /// What it held before.
    Seen,
    /// A chain that works.
    Works(Box<Chain>, Arc<Look>, Copied),
}

impl Reloader {
    /// Builds the first chain: of the directory, and where that is broken, of the last snapshot.
    ///
    /// # Errors
    /// Why there is no chain.
    pub async fn start(host: Arc<Host>, config: Config) -> Result<(Self, PluginControl), ChainError> {
        let begun = Instant::now();
        let candidates = Candidates::new(host, config);
        let first = first(&candidates).await?;
        for plugin in &first.chain.plugins {
            let (version, digest) = (plugin.version(), plugin.digest());
            tracing::info!(plugin = %plugin.name(), version, digest, generation = first.chain.generation, "plugin loaded");
        }
        let (outcome, problems) = match &first.problems[..] {
            [] => (Outcome::Replaced, &[][..]),
            problems => (Outcome::Refused, problems),
        };
        for problem in problems {
            tracing::error!(
                problem,
                "PLUGINS_DIR cannot be used; started with the last plugins that worked"
            );
        }
        let mut status = Status::new(first.origin, candidates.config.plugins_dir.as_deref());
        status.record(
            Trigger::Start,
            outcome,
            first.chain.generation,
            begun.elapsed(),
            problems,
        );

        let (sender, demands) = mpsc::channel(MAX_DEMANDS);
        let control = PluginControl {
            plugins: Arc::new(Plugins::new(first.chain)),
            host: Arc::clone(&candidates.host),
            status: Arc::new(Mutex::new(status)),
            demands: sender,
        };
        let reloader = Self {
            candidates,
            plugins: Arc::clone(&control.plugins),
            status: Arc::clone(&control.status),
            demands,
            error_log: None,
            seen: first.look.as_ref().map(|look| look.digest),
            has_files: outcome == Outcome::Refused || first.look.as_ref().is_some_and(|look| !look.files.is_empty()),
        };
        if outcome == Outcome::Replaced {
            keep(first.copied).await;
        }
        Ok((reloader, control))
    }

    /// The chain that is replaced.
    pub fn plugins(&self) -> Arc<Plugins> {
        Arc::clone(&self.plugins)
    }

    /// Copies what is refused to the log of the control plane.
    #[must_use]
    pub fn reported_to(mut self, error_log: Option<Arc<ErrorLog>>) -> Self {
        self.error_log = error_log;
        let problems = self.status().problems().to_vec();
        if let (Some(error_log), [_, ..]) = (&self.error_log, &problems[..]) {
            error_log.plugins_refused(&problems);
        }
        self
    }

    /// Replaces the chain whenever the directory changes, somebody demands it, or `hangups` does, until `shutdown`.
    pub async fn run(mut self, hangups: Arc<Notify>, shutdown: CancellationToken) {
        let mut watch = self.watch();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = changed(watch.as_mut()) => drop(self.reload(Trigger::Directory).await),
                () = hangups.notified() => drop(self.reload(Trigger::Signal).await),
                Some(demand) = self.demands.recv() => match demand {
                    // Whoever asked may have gone.
                    Demand::Reload(answer) => drop(answer.send(self.reload(Trigger::Request).await)),
                    Demand::Rollback(answer) => drop(answer.send(self.roll_back())),
                },
            }
            if let Some(watch) = &watch {
                self.status().is_notified = watch.has_notices();
            }
        }
    }

    fn watch(&self) -> Option<Watch> {
        let directory = self.mount()?;
        let mount_info = std::fs::read_to_string(mounts::MOUNT_INFO).unwrap_or_default();
        let path = std::fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
        let obstacles = mounts::obstacles(&mount_info, &path);
        for obstacle in &obstacles {
            tracing::warn!("changes of plugins will not arrive: {obstacle}");
        }
        let watch = Watch::start(directory, self.candidates.config.plugins_poll_interval);
        let mut status = self.status();
        status.obstacles = obstacles;
        status.is_notified = watch.has_notices();
        Some(watch)
    }

    /// Considers what the directory holds now.
    async fn reload(&mut self, trigger: Trigger) -> Answer {
        let begun = Instant::now();
        let Some(mount) = self.mount().map(Path::to_owned) else {
            tracing::info!("{}", NotReplaced::NoDirectory);
            return Err(NotReplaced::NoDirectory);
        };
        match self.find(&mount, trigger).await {
            Ok(Found::Seen) => {
                tracing::debug!(generation = self.generation(), "PLUGINS_DIR holds what it held before");
                Ok(self.unchanged())
            }
            Ok(Found::Works(chain, look, copied)) => {
                self.has_files = !look.files.is_empty();
                let answer = self.take(*chain, trigger, begun);
                keep(copied).await;
                Ok(answer)
            }
            Err(problems) => Err(self.refuse(problems, trigger, begun)),
        }
    }

    /// A chain of what the directory holds, or what is wrong with it.
    async fn find(&mut self, mount: &Path, trigger: Trigger) -> Result<Found, Vec<String>> {
        for attempt in 0..MAX_CANDIDATES {
            if attempt > 0 {
                // Whoever writes many files must come to an end first.
                tokio::time::sleep(PAUSE * attempt).await;
            }
            let look = look(mount).await.map_err(|error| {
                self.seen = None;
                vec![format!("PLUGINS_DIR: cannot read {}: {error}", mount.display())]
            })?;
            // On demand also what was refused: it may have been for the moment only.
            if trigger == Trigger::Directory && self.seen == Some(look.digest) {
                return Ok(Found::Seen);
            }
            if look.files.is_empty() && self.has_files {
                self.seen = Some(look.digest);
                return Err(vec![Candidates::emptied(mount)]);
            }
            let current = self.plugins.current_chain();
            let generation = current.generation + 1;
            let built = self.candidates.build(mount, &look, generation, Some(&current)).await;
            if let Some((built, copied)) = built {
                self.seen = Some(look.digest);
                return match built {
                    Ok(chain) => Ok(Found::Works(Box::new(chain), look, copied)),
                    Err(error) => Err(self.candidates.problems(&error, Some(&look))),
                };
            }
        }
        let problem = format!(
            "PLUGINS_DIR: {} changes faster than it can be read; write elsewhere, and rename",
            mount.display()
        );
        Err(vec![problem])
    }

    fn refuse(&self, problems: Vec<String>, trigger: Trigger, begun: Instant) -> NotReplaced {
        let generation = self.generation();
        for problem in &problems {
            tracing::error!(
                problem,
                generation,
                "plugins not replaced; the last good ones stay in force"
            );
        }
        if let Some(error_log) = &self.error_log {
            error_log.plugins_refused(&problems);
        }
        self.status()
            .record(trigger, Outcome::Refused, generation, begun.elapsed(), &problems);
        NotReplaced::Refused { generation, problems }
    }

    /// Puts a chain in force, unless it does the same as the one that is.
    fn take(&self, chain: Chain, trigger: Trigger, begun: Instant) -> Replaced {
        let current = self.plugins.current_chain();
        if is_same(&current, &chain) {
            let generation = current.generation;
            let mut status = self.status();
            status.origin = Origin::Directory;
            status.record(trigger, Outcome::Unchanged, generation, begun.elapsed(), &[]);
            drop(status);
            tracing::info!(
                generation,
                "PLUGINS_DIR holds the plugins that are in force; nothing is replaced"
            );
            return self.unchanged();
        }
        for plugin in &chain.plugins {
            if !current.plugins.iter().any(|other| Arc::ptr_eq(plugin, other)) {
                let (version, digest) = (plugin.version(), plugin.digest());
                tracing::info!(plugin = %plugin.name(), version, digest, generation = chain.generation, "plugin loaded");
            }
        }
        let generation = self.put_in_force(chain, Origin::Directory, trigger, begun);
        Replaced {
            generation,
            is_new: true,
            note: "events that are received from now on pass the new plugins".to_owned(),
        }
    }

    fn roll_back(&self) -> Answer {
        let begun = Instant::now();
        let Some(previous) = self.status().previous.clone() else {
            return Err(NotReplaced::NoPrevious);
        };
        let to = previous.generation;
        let chain = Chain::new(self.generation() + 1, previous.plugins.clone());
        let chain = chain.captured_by(Arc::clone(self.candidates.host.capture()));
        let generation = self.put_in_force(chain, Origin::Rollback { to }, Trigger::Rollback, begun);
        let note = format!(
            "generation {generation} has the plugins of generation {to}; PLUGINS_DIR still holds others, and its next \
             change, a reload or a restart puts those in force"
        );
        Ok(Replaced {
            generation,
            is_new: true,
            note,
        })
    }

    fn put_in_force(&self, chain: Chain, origin: Origin, trigger: Trigger, begun: Instant) -> u64 {
        let generation = chain.generation;
        let names: Vec<_> = chain.plugins.iter().map(|plugin| plugin.name().to_string()).collect();
        let replaced = self.plugins.replace(chain);
        replaced.close_trials();
        // It is kept for a rollback, and may wait for that for ever.
        let current = self.plugins.current_chain();
        for plugin in &replaced.plugins {
            if !current.plugins.iter().any(|other| Arc::ptr_eq(plugin, other)) {
                plugin.rest();
            }
        }
        let elapsed = begun.elapsed();
        tracing::info!(
            generation,
            previous = replaced.generation,
            plugins = names.join(","),
            trigger = trigger.name(),
            elapsed_ms = elapsed.as_millis(),
            "plugins replaced"
        );
        let mut status = self.status();
        status.origin = origin;
        status.previous = Some(replaced);
        status.record(trigger, Outcome::Replaced, generation, elapsed, &[]);
        generation
    }

    fn unchanged(&self) -> Replaced {
        Replaced {
            generation: self.generation(),
            is_new: false,
            note: "nothing has changed. A change of a ConfigMap takes up to two minutes to arrive, less when an annotation \
                   of the pod is changed as well; a ConfigMap with `immutable: true` and a mount with `subPath` never change"
                .to_owned(),
        }
    }

    fn mount(&self) -> Option<&Path> {
        self.candidates.config.plugins_dir.as_deref()
    }

    fn generation(&self) -> u64 {
        self.plugins.current().generation
    }

    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The chain of the start.
struct First {
    chain: Chain,
    origin: Origin,
    /// Of the directory, if there is one that can be read.
    look: Option<Arc<Look>>,
    copied: Copied,
    /// Why it is not a chain of the directory.
    problems: Vec<String>,
}

async fn first(candidates: &Candidates) -> Result<First, ChainError> {
    let Some(mount) = candidates.config.plugins_dir.as_deref() else {
        return Ok(First {
            chain: build_chain(&candidates.host, &candidates.config, None, 1, None).await?,
            origin: Origin::BuiltIn,
            look: None,
            copied: None,
            problems: Vec::new(),
        });
    };
    let mut n_candidates = 0;
    let (built, copied, looked) = loop {
        n_candidates += 1;
        let looked = look(mount).await.ok();
        let Some(look) = looked.as_ref().filter(|_| n_candidates < MAX_CANDIDATES) else {
            break (candidates.build_from(mount, 1, None).await, None, looked);
        };
        // Deleted, unless there never was anything.
        if look.files.is_empty()
            && let Some((chain, origin)) = candidates.restore().await
        {
            let problems = vec![Candidates::emptied(mount)];
            return Ok(First {
                chain,
                origin,
                look: looked,
                copied: None,
                problems,
            });
        }
        if let Some((built, copied)) = candidates.build(mount, look, 1, None).await {
            break (built, copied, looked);
        }
    };
    match built {
        Ok(chain) => Ok(First {
            chain,
            origin: Origin::Directory,
            look: looked,
            copied,
            problems: Vec::new(),
        }),
        Err(error) => match candidates.restore().await {
            Some((chain, origin)) => Ok(First {
                chain,
                origin,
                problems: candidates.problems(&error, looked.as_deref()),
                look: looked,
                copied: None,
            }),
            None => Err(error),
        },
    }
}

async fn changed(watch: Option<&mut Watch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}
