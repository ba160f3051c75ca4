//! A chain of what the directory holds, before it is known whether it is put in force.
//!
//! Called by [`super::reload`]. A candidate counts only if the directory is still the same when it is ready.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::chain::Chain;
use super::directory::{self, Look, State};
use super::plugin::Plugin;
use super::snapshot::{Prepared, Snapshots};
use super::status::{Origin, time};
use super::{ChainError, Host, build_chain};
use crate::config::Config;

/// Between two looks at whether what is being built is still wanted: compiling may take minutes.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// Builds candidates.
#[derive(Debug)]
pub(super) struct Candidates {
    pub(super) host: Arc<Host>,
    pub(super) config: Config,
    /// Where copies are kept.
    snapshots: Option<Arc<Snapshots>>,
}

/// A copy of what a chain was made of; none when it is not to be kept.
pub(super) type Copied = Option<io::Result<Prepared>>;

impl Candidates {
    pub(super) fn new(host: Arc<Host>, config: Config) -> Self {
        let snapshots = match (&config.plugins_dir, &config.plugins_cache_dir) {
            (Some(directory), Some(cache_dir)) => Some(Arc::new(Snapshots::of(directory, cache_dir.clone()))),
            _ => None,
        };
        Self {
            host,
            config,
            snapshots,
        }
    }

    /// A chain of the files that were looked at, and a copy of them; none when the directory holds others by now.
    pub(super) async fn build(
        &self,
        mount: &Path,
        look: &Arc<Look>,
        generation: u64,
        current: Option<&Chain>,
    ) -> Option<(Result<Chain, ChainError>, Copied)> {
        let built = async { tokio::join!(self.build_from(&look.directory, generation, current), self.copy(look)) };
        let built = tokio::select! {
            built = built => built,
            () = becomes_other(mount, look) => return None,
        };
        (state(mount).await == look.state).then_some(built)
    }

    /// Copies the files while they are certainly there.
    async fn copy(&self, look: &Arc<Look>) -> Copied {
        let snapshots = self.snapshots.clone().filter(|_| !look.files.is_empty())?;
        let look = Arc::clone(look);
        let copied = tokio::task::spawn_blocking(move || snapshots.prepare(&look));
        copied.await.ok()?.transpose()
    }

    /// A chain without looking whether the directory stays as it is.
    pub(super) async fn build_from(
        &self,
        directory: &Path,
        generation: u64,
        current: Option<&Chain>,
    ) -> Result<Chain, ChainError> {
        build_chain(&self.host, &self.config, Some(directory), generation, current).await
    }

    /// A chain of the last snapshot, if there is one that works.
    pub(super) async fn restore(&self) -> Option<(Chain, Origin)> {
        let snapshot = match self.snapshots.as_ref()?.last() {
            Ok(snapshot) => snapshot?,
            Err(error) => {
                tracing::warn!(%error, "the copy of the last plugins that worked is not to be trusted");
                return None;
            }
        };
        match self.build_from(&snapshot.directory, 1, None).await {
            Ok(chain) => {
                let taken = time(snapshot.taken);
                Some((chain, Origin::Snapshot { taken }))
            }
            Err(error) => {
                tracing::warn!(%error, "the copy of the last plugins that worked does not work any more");
                None
            }
        }
    }

    /// What is wrong, one line each. Files are named as the operator knows them, not with the kubelet's directory.
    pub(super) fn problems(&self, error: &ChainError, look: Option<&Look>) -> Vec<String> {
        let lines = error.problems.iter().map(ToString::to_string);
        match (look, &self.config.plugins_dir) {
            (Some(look), Some(directory)) => {
                let (read, known) = (look.directory.display().to_string(), directory.display().to_string());
                lines.map(|line| line.replace(&read, &known)).collect()
            }
            _ => lines.collect(),
        }
    }

    /// What to say of a directory without files, where there were some before.
    pub(super) fn emptied(mount: &Path) -> String {
        format!(
            "PLUGINS_DIR: {} is empty, as if it had been deleted; to run without plugins, put a `plugins.toml` without \
             entries into it",
            mount.display()
        )
    }
}

/// The last chain that worked with this configuration, of the copy that the sidecar keeps.
pub async fn last_good_chain(host: &Arc<Host>, config: &Config) -> Option<Chain> {
    let candidates = Candidates::new(Arc::clone(host), config.clone());
    candidates.restore().await.map(|(chain, _)| chain)
}

/// Whether two chains do the same.
pub(super) fn is_same(current: &Chain, other: &Chain) -> bool {
    let is_same = |(a, b): (&Arc<Plugin>, &Arc<Plugin>)| {
        Arc::ptr_eq(a, b) || (a.digest() == b.digest() && a.settings() == b.settings())
    };
    current.plugins.len() == other.plugins.len() && current.plugins.iter().zip(&other.plugins).all(is_same)
}

/// Reads the directory. File systems may be slow.
pub(super) async fn look(mount: &Path) -> io::Result<Arc<Look>> {
    let mount = mount.to_owned();
    let looked = tokio::task::spawn_blocking(move || directory::look(&mount));
    looked.await.map_err(io::Error::other)?.map(Arc::new)
}

async fn state(mount: &Path) -> State {
    let mount = mount.to_owned();
    let state = tokio::task::spawn_blocking(move || directory::state(&mount));
    state.await.unwrap_or(State::Missing)
}

async fn becomes_other(mount: &Path, look: &Look) {
    loop {
        tokio::time::sleep(BETWEEN_LOOKS).await;
        if state(mount).await != look.state {
            return;
        }
    }
}

/// Keeps the copy of a chain that is in force.
pub(super) async fn keep(copied: Copied) {
    let kept = match copied {
        None => return,
        Some(Ok(prepared)) => tokio::task::spawn_blocking(move || prepared.keep())
            .await
            .map_err(io::Error::other),
        Some(Err(error)) => Ok(Err(error)),
    };
    if let Err(error) = kept.and_then(|kept| kept) {
        tracing::warn!(
            %error,
            "no copy of the plugins is kept, so that a restart would fail while PLUGINS_DIR is broken; \
             PLUGINS_CACHE_DIR should name a directory that only the distributor writes to"
        );
    }
}
