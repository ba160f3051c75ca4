//! When the directory of plugins may hold something else.
//!
//! Called by [`super::reload`]. The directory is watched and not its files: those are replaced, and a watch on them sees
//! nothing after the first time. Notices may be missing (network file systems, sandboxes, no watches left, a directory
//! that was mounted anew), so that it is looked at regularly as well. It does not know what is in the files.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::directory::{self, State};

/// A directory without `..data` is written file by file: it is left alone until nothing has happened for this long.
const QUIET: Duration = Duration::from_millis(250);
/// But no longer than this.
const MAX_WAIT: Duration = Duration::from_secs(2);
/// Watches one directory.
#[derive(Debug)]
pub(super) struct Watch {
    directory: PathBuf,
    /// None while the kernel tells nothing.
    watcher: Option<RecommendedWatcher>,
    is_silence_said: bool,
    noticed: Arc<Notify>,
    poll: Interval,
    seen: State,
    /// When files have begun to change, and when they changed last.
    changing: Option<(Instant, Instant)>,
}

impl Watch {
    /// Watches from now on; what is seen now is no change.
    pub(super) fn start(directory: &Path, poll_interval: Duration) -> Self {
        let mut poll = tokio::time::interval_at(Instant::now() + poll_interval, poll_interval);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watch = Self {
            watcher: None,
            is_silence_said: false,
            noticed: Arc::default(),
            poll,
            // Notices first, so that nothing falls between them and this.
            seen: State::Missing,
            changing: None,
            directory: directory.to_owned(),
        };
        watch.listen();
        watch.seen = directory::state(directory);
        watch
    }

    /// Whether the kernel tells of changes.
    pub(super) fn has_notices(&self) -> bool {
        self.watcher.is_some()
    }

    /// Waits for the next change. May be dropped at any time.
    pub(super) async fn changed(&mut self) {
        loop {
            let settled = self.changing.map(|(first, last)| (last + QUIET).min(first + MAX_WAIT));
            let is_poll = tokio::select! {
                () = self.noticed.notified() => {
                    let now = Instant::now();
                    let (first, _) = self.changing.unwrap_or((now, now));
                    self.changing = Some((first, now));
                    false
                }
                () = tokio::time::sleep_until(settled.unwrap_or_else(Instant::now)), if settled.is_some() => true,
                _ = self.poll.tick() => {
                    self.listen();
                    true
                }
            };
            let now = self.state().await;
            // A link is replaced in one step, so there is nothing to wait for.
            if now != self.seen && (is_poll || !matches!(now, State::Listed(_))) {
                self.seen = now;
                self.changing = None;
                return;
            }
            if is_poll {
                self.changing = None;
            }
        }
    }

    async fn state(&self) -> State {
        let directory = self.directory.clone();
        let state = tokio::task::spawn_blocking(move || directory::state(&directory));
        state.await.unwrap_or(State::Missing)
    }

    /// Asks the kernel for notices, again each time: what is there now may not be the directory of before, which it tells
    /// nothing of when that was mounted anew.
    fn listen(&mut self) {
        match self.watch() {
            Ok(watcher) => {
                self.watcher = Some(watcher);
                self.is_silence_said = false;
            }
            Err(error) => {
                if !self.is_silence_said {
                    let interval = humantime::format_duration(self.poll.period());
                    tracing::warn!(
                        directory = %self.directory.display(), %error,
                        "changes of PLUGINS_DIR are not notified; it is looked at every {interval} (PLUGINS_POLL_INTERVAL)"
                    );
                }
                self.is_silence_said = true;
            }
        }
    }

    fn watch(&mut self) -> notify::Result<RecommendedWatcher> {
        let mut watcher = if let Some(mut watcher) = self.watcher.take() {
            // It fails where there is nothing left to unwatch.
            let _ = watcher.unwatch(&self.directory);
            watcher
        } else {
            let noticed = Arc::clone(&self.noticed);
            let handler = move |event: notify::Result<Event>| {
                if event.map_or(true, |event| !is_access(event.kind)) {
                    noticed.notify_one();
                }
            };
            RecommendedWatcher::new(handler, Config::default())?
        };
        watcher.watch(&self.directory, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    }
}

/// Reading changes nothing, and would be noticed, and followed by reading.
fn is_access(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        EventKind::Access(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);
    const NEVER: Duration = Duration::from_hours(1);

    async fn check_seen(watch: &mut Watch) {
        timeout(SOON, watch.changed()).await.expect("the change is seen");
    }

    #[tokio::test]
    async fn files_of_a_plain_directory_are_seen_when_they_are_complete() {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = Watch::start(folder.path(), NEVER);
        assert!(watch.has_notices());
        for name in ["a", "b", "a"] {
            let begun = Instant::now();
            std::fs::write(folder.path().join(name), begun.elapsed().as_nanos().to_string()).unwrap();
            check_seen(&mut watch).await;
            assert!(begun.elapsed() >= QUIET);
        }
    }

    #[tokio::test]
    async fn a_link_that_is_replaced_is_seen_again_and_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mut watch = Watch::start(folder.path(), NEVER);
        for version in ["..1", "..2", "..3"] {
            std::fs::create_dir(path(version)).unwrap();
            std::os::unix::fs::symlink(version, path("..data_tmp")).unwrap();
            std::fs::rename(path("..data_tmp"), path("..data")).unwrap();
            check_seen(&mut watch).await;
            // What follows concerns nobody, and neither does that it was read.
            std::fs::read_dir(path("..data")).unwrap().count();
            std::fs::remove_dir(path(version)).unwrap();
            let more = timeout(2 * QUIET, watch.changed()).await;
            assert!(more.is_err(), "only the link counts");
        }
    }

    #[tokio::test]
    async fn without_notices_it_looks_from_time_to_time() {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = Watch::start(folder.path(), Duration::from_millis(10));
        // As where the kernel has none: asking again fails as well.
        watch.directory = folder.path().join("not-yet");
        watch.watcher = None;
        watch.seen = State::Missing;
        std::fs::create_dir(&watch.directory).unwrap();
        check_seen(&mut watch).await;
        watch.watcher = None;
        std::fs::write(watch.directory.join("a"), "1").unwrap();
        check_seen(&mut watch).await;
    }

    #[tokio::test]
    async fn a_directory_that_goes_and_comes_back_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("plugins");
        std::fs::create_dir(&directory).unwrap();
        let mut watch = Watch::start(&directory, Duration::from_millis(50));
        for _ in 0..2 {
            std::fs::remove_dir(&directory).unwrap();
            check_seen(&mut watch).await;
            std::fs::create_dir(&directory).unwrap();
            check_seen(&mut watch).await;
        }
        assert!(watch.has_notices());
    }
}
