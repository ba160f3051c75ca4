//! When the directory of plugins may hold something else.
//!
//! Called by [`super::reload`]. The directory is watched and not its files: those are replaced, and a watch on them sees
//! nothing after the first time. Notices may be missing (network file systems, sandboxes, no watches left, a directory
//! that was mounted anew), so that it is looked at regularly as well. It does not know what is in the files.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::directory::{self, State};

/// A directory without `..data` is written file by file: it is left alone until nothing has happened for this long.
const QUIET: Duration = Duration::from_millis(250);
/// But no longer than this.
const MAX_WAIT: Duration = Duration::from_secs(2);
/// What may change the content. Not access: reading would be noticed, and followed by reading.
const FLAGS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);
/// Notices that are read at once, in bytes.
const BUFFER_BYTES: usize = 4096;

/// Watches one directory.
#[derive(Debug)]
pub(super) struct Watch {
    directory: PathBuf,
    /// None while the kernel tells nothing.
    notices: Option<Notices>,
    is_silence_said: bool,
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
            notices: None,
            is_silence_said: false,
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
        self.notices.is_some()
    }

    /// Waits for the next change. May be dropped at any time.
    pub(super) async fn changed(&mut self) {
        loop {
            let settled = self.changing.map(|(first, last)| (last + QUIET).min(first + MAX_WAIT));
            let is_poll = tokio::select! {
                notice = next(self.notices.as_ref()) => {
                    self.noticed(&notice);
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

    fn noticed(&mut self, notice: &io::Result<Notice>) {
        let now = Instant::now();
        let (first, _) = self.changing.unwrap_or((now, now));
        self.changing = Some((first, now));
        if !matches!(notice, Ok(Notice::Changed)) {
            // Gone, or moved; what is in its place is found by looking.
            self.notices = None;
        }
    }

    /// Asks the kernel for notices, unless it gives them already.
    fn listen(&mut self) {
        if self.notices.is_some() {
            return;
        }
        match Notices::of(&self.directory) {
            Ok(notices) => {
                self.notices = Some(notices);
                self.is_silence_said = false;
            }
            Err(error) if !self.is_silence_said => {
                self.is_silence_said = true;
                let interval = humantime::format_duration(self.poll.period());
                tracing::warn!(
                    directory = %self.directory.display(), %error,
                    "changes of PLUGINS_DIR are not notified; it is looked at every {interval} (PLUGINS_POLL_INTERVAL)"
                );
            }
            Err(_) => {}
        }
    }
}

/// What the kernel says.
#[derive(Debug, PartialEq, Eq)]
enum Notice {
    Changed,
    /// There will be no more.
    Ended,
}

/// Notices of one directory.
#[derive(Debug)]
struct Notices(AsyncFd<OwnedFd>);

impl Notices {
    #[expect(
        deprecated,
        reason = "it takes whatever calls itself a descriptor, which is why its successor is unsafe; an `OwnedFd` is one"
    )]
    fn of(directory: &Path) -> io::Result<Self> {
        let notices = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        inotify::add_watch(&notices, directory, FLAGS)?;
        AsyncFd::new(notices).map(Self)
    }

    /// Reads all there are.
    async fn next(&self) -> io::Result<Notice> {
        loop {
            let mut ready = self.0.readable().await?;
            let read = ready.try_io(|notices| {
                let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
                let mut reader = Reader::new(notices.get_ref(), &mut buffer);
                let mut all = None;
                loop {
                    match reader.next() {
                        Ok(event) => {
                            let ended = ReadFlags::IGNORED | ReadFlags::UNMOUNT | ReadFlags::MOVE_SELF;
                            let is_ended = all == Some(Notice::Ended) || event.events().intersects(ended);
                            all = Some(if is_ended { Notice::Ended } else { Notice::Changed });
                        }
                        Err(Errno::WOULDBLOCK) => return all.ok_or_else(|| io::ErrorKind::WouldBlock.into()),
                        Err(error) => return Err(error.into()),
                    }
                }
            });
            if let Ok(notice) = read {
                return notice;
            }
        }
    }
}

async fn next(notices: Option<&Notices>) -> io::Result<Notice> {
    match notices {
        Some(notices) => notices.next().await,
        None => std::future::pending().await,
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
        watch.notices = None;
        watch.seen = State::Missing;
        std::fs::create_dir(&watch.directory).unwrap();
        check_seen(&mut watch).await;
        watch.notices = None;
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
