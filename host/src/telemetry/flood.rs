//! Bounds the log: of each place in the code that complains no more than some lines in each second, and the number of
//! those that were left out. What goes well is written for each event: whoever does not want that sets `LOG_LEVEL=warn`.
//!
//! A service that refuses everything, or a plugin that fails on each event, is told by the first lines; a hundred thousand
//! more each second would fill the node's disk and cost more than the events. Stands before the formatter, asked for each
//! line that the level lets through. It does not know what a line is about. Counters count everything nevertheless.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::PLUGIN_TARGET;

/// Lines a second of one place.
pub const MAX_LINES_PER_SECOND: u32 = 100;
/// Lines are left out for so long before their number is told.
const TOLD_AFTER: Duration = Duration::from_secs(1);
/// Places in the code that are told apart: more than there are. What is beyond shares with others.
const N_PLACES: usize = 256;
/// What is told here is bounded by what it tells of.
const OWN_TARGET: &str = module_path!();

/// How much each place has written.
pub struct Flood {
    start: Instant,
    places: Box<[Place]>,
    some_left_out: Notify,
}

/// One place in the code.
#[derive(Default)]
struct Place {
    /// Which one it is; 0: none yet.
    key: AtomicUsize,
    /// The second, and in the lower half the lines that were written in it.
    window: AtomicU64,
    n_left_out: AtomicU64,
    /// The message of the first line that was left out.
    message: OnceLock<String>,
}

impl Default for Flood {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            places: (0..N_PLACES).map(|_| Place::default()).collect(),
            some_left_out: Notify::new(),
        }
    }
}

impl fmt::Debug for Flood {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Flood").finish_non_exhaustive()
    }
}

impl Flood {
    /// Tells from time to time how many lines were left out. While none is, nothing runs.
    pub async fn tell(&self) {
        loop {
            self.some_left_out.notified().await;
            tokio::time::sleep(TOLD_AFTER).await;
            self.tell_now();
        }
    }

    /// Tells how many lines were left out since this was told last.
    pub fn tell_now(&self) {
        for place in &self.places {
            let left_out = place.n_left_out.swap(0, Ordering::Relaxed);
            if left_out > 0 {
                let like = place.message.get().map(String::as_str).unwrap_or_default();
                tracing::warn!(
                    left_out,
                    like,
                    "lines of one kind were left out: there are too many of them"
                );
            }
        }
    }

    /// Whether a line may be written. Takes no lock, and allocates only with the first line of its kind that may not.
    fn admits(&self, event: &Event<'_>) -> bool {
        if !is_bounded(event.metadata()) {
            return true;
        }
        let place = self.place(event.metadata());
        if place.admits(self.second()) {
            return true;
        }
        place.message.get_or_init(|| message_of(event));
        if place.n_left_out.fetch_add(1, Ordering::Relaxed) == 0 {
            self.some_left_out.notify_one();
        }
        false
    }

    /// Seconds since the start, from 1.
    fn second(&self) -> u32 {
        u32::try_from(self.start.elapsed().as_secs() + 1).unwrap_or(u32::MAX)
    }

    /// An open addressed table that only grows: what describes a place in the code is a static, so its address is its key.
    fn place(&self, metadata: &Metadata<'_>) -> &Place {
        let key = std::ptr::from_ref(metadata).addr();
        let first = key / align_of::<Metadata<'_>>();
        for offset in 0..N_PLACES {
            let place = &self.places[(first + offset) % N_PLACES];
            let found = place
                .key
                .compare_exchange(0, key, Ordering::Relaxed, Ordering::Relaxed)
                .unwrap_or_else(|taken_by| taken_by);
            if found == 0 || found == key {
                return place;
            }
        }
        &self.places[first % N_PLACES]
    }
}

impl Place {
    fn admits(&self, second: u32) -> bool {
        let counted = self
            .window
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |window| {
                let fresh = u64::from(second) << 32;
                if window & !u64::from(u32::MAX) != fresh {
                    return Some(fresh + 1);
                }
                (window - fresh < u64::from(MAX_LINES_PER_SECOND)).then_some(window + 1)
            });
        counted.is_ok()
    }
}

/// What plugins write has bounds of its own.
fn is_bounded(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= Level::WARN && ![PLUGIN_TARGET, OWN_TARGET].contains(&metadata.target())
}

fn message_of(event: &Event<'_>) -> String {
    struct Message(String);
    impl Visit for Message {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            if field.name() == "message" {
                self.0 = format!("{value:?}");
            }
        }
    }
    let mut message = Message(String::new());
    event.record(&mut message);
    message.0
}

/// Asked before all who write. Not a filter of one layer: such a filter must not change its mind about a place in the code.
#[derive(Debug, Clone)]
pub(super) struct Bounded(pub(super) Option<Arc<Flood>>);

impl<S: Subscriber> Layer<S> for Bounded {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        self.0.as_ref().is_none_or(|flood| flood.admits(event))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::Mutex;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// Where the lines of a test go.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Written {
        fn lines(&self) -> Vec<String> {
            let bytes = std::mem::take(&mut *self.0.lock().unwrap());
            String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
        }
    }

    fn logging() -> (Arc<Flood>, Written, tracing::subscriber::DefaultGuard) {
        let (flood, written) = (Arc::new(Flood::default()), Written::default());
        let writer = written.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .without_time()
            .with_writer(move || writer.clone());
        let bounded = Bounded(Some(Arc::clone(&flood)));
        let guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer).with(bounded));
        (flood, written, guard)
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_errors_is_cut_and_counted_and_others_are_still_heard() {
        let (flood, written, _guard) = logging();
        for number in 0..100_000 {
            tracing::error!(number, "the plugin failed");
        }
        tracing::error!("something else");
        let lines = written.lines();
        assert_eq!(lines.len(), 101, "{:?}", lines.last());
        assert!(lines[100].ends_with("something else"), "{}", lines[100]);

        let telling = tokio::spawn(async move { flood.tell().await });
        tokio::time::sleep(TOLD_AFTER * 2).await;
        let lines = written.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(
            lines[0].contains("left_out=99900") && lines[0].contains("like=\"the plugin failed\""),
            "{}",
            lines[0]
        );
        tracing::error!("the plugin failed");
        assert_eq!(written.lines().len(), 1, "later ones are written");
        tokio::time::sleep(TOLD_AFTER * 10).await;
        assert_eq!(written.lines(), [""; 0], "nothing is told where nothing was left out");
        telling.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn each_second_has_lines_of_its_own() {
        let (_flood, written, _guard) = logging();
        for _ in 0..3 {
            for _ in 0..5000 {
                tracing::warn!("not delivered");
            }
            assert_eq!(written.lines().len(), MAX_LINES_PER_SECOND as usize);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    }

    #[tokio::test]
    async fn what_goes_well_is_written_and_plugins_have_bounds_of_their_own() {
        let (_flood, written, _guard) = logging();
        for _ in 0..3000 {
            tracing::info!("delivered");
            tracing::warn!(target: PLUGIN_TARGET, "plugin says");
        }
        assert_eq!(written.lines().len(), 6000);
    }

    #[tokio::test]
    async fn threads_share_what_one_place_may_write() {
        let flood = Arc::new(Flood::default());
        let place = || flood.places[7].admits(1);
        let n_admitted: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..1000).filter(|_| place()).count()))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(n_admitted, MAX_LINES_PER_SECOND as usize);
    }
}
