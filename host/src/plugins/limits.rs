//! What a plugin may use: time, memory, output, host calls.
//!
//! Set on every instance by [`super::instance`]; nothing here knows what a plugin does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use wasmtime::{Engine, ResourceLimiter};

/// How often running guests are interrupted. A looping guest then lets others have the thread, and is stopped when its
/// time is over.
pub(super) const EPOCH_TICK: Duration = Duration::from_millis(10);

/// Limits of one plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Time for one call of a hook.
    pub call_time: Duration,
    /// Time for `configure`, which may build tables.
    pub configure_time: Duration,
    /// Linear memory of one instance.
    pub memory_bytes: usize,
    /// Bytes that one call may hand to the host: twice the largest event that NATS carries by default.
    pub output_bytes: usize,
    /// Events that one call of a transform may return.
    pub output_events: usize,
    /// Calls of host functions during one call.
    pub host_calls: u32,
    /// Lines that one call may log.
    pub log_lines: u32,
    /// Calls after which an instance is replaced: guests leak.
    pub calls_per_instance: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            call_time: Duration::from_secs(1),
            configure_time: Duration::from_secs(5),
            memory_bytes: 16 << 20,
            output_bytes: 2 << 20,
            output_events: 64,
            host_calls: 10_000,
            log_lines: 100,
            calls_per_instance: 100_000,
        }
    }
}

/// Why a guest was stopped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitReached {
    /// Time.
    #[error("used up its {}", humantime::format_duration(*.0))]
    Time(Duration),
    /// Memory.
    #[error("asked for {wanted} bytes of memory, its limit is {limit}")]
    Memory {
        /// Bytes it would have had.
        wanted: usize,
        /// Bytes it may have.
        limit: usize,
    },
    /// Host calls.
    #[error("called host functions more than {0} times in one call")]
    HostCalls(u32),
    /// Bytes handed to the host.
    #[error("handed more than {0} bytes to the host")]
    Output(usize),
    /// Events handed to the host.
    #[error("returned {returned} events, its limit is {limit}")]
    OutputEvents {
        /// Events returned.
        returned: usize,
        /// Events allowed.
        limit: usize,
    },
}

/// Caps memory and tables, and says in words which cap was hit.
#[derive(Debug)]
pub(super) struct MemoryCap {
    limit: usize,
    /// Largest size so far.
    pub(super) used: usize,
}

impl MemoryCap {
    /// Elements of a table: generous for an interpreter's function tables.
    const MAX_TABLE_ELEMENTS: usize = 20_000;

    pub(super) fn new(limit: usize) -> Self {
        Self { limit, used: 0 }
    }
}

impl ResourceLimiter for MemoryCap {
    fn memory_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired > self.limit {
            let limit = self.limit;
            return Err(wasmtime::Error::new(LimitReached::Memory { wanted: desired, limit }));
        }
        self.used = self.used.max(desired);
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= Self::MAX_TABLE_ELEMENTS)
    }

    fn instances(&self) -> usize {
        64
    }

    fn tables(&self) -> usize {
        64
    }

    fn memories(&self) -> usize {
        4
    }
}

/// Advances the engine's epoch, but only while a guest runs: an idle process stays asleep.
///
/// A thread and not a task, because guests that use all runtime threads would keep a task from running, and nothing
/// would ever interrupt them.
#[derive(Debug)]
pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
}

#[derive(Debug, Default)]
struct Shared {
    calls_started: AtomicU64,
    calls_ended: AtomicU64,
    parked: AtomicBool,
    stopped: AtomicBool,
}

impl Ticker {
    pub(super) fn start(engine: Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let in_thread = Arc::clone(&shared);
        let handle = thread::Builder::new()
            .name("epoch".to_owned())
            .stack_size(64 << 10)
            .spawn(move || in_thread.run(&engine))?;
        Ok(Self {
            shared,
            thread: handle.thread().clone(),
        })
    }

    /// Keeps the epoch moving until the guard is dropped.
    pub(super) fn guard(&self) -> TickGuard<'_> {
        self.shared.calls_started.fetch_add(1, Ordering::SeqCst);
        if self.shared.parked.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
        TickGuard(&self.shared)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

impl Shared {
    fn run(&self, engine: &Engine) {
        let mut last_started = 0;
        while !self.stopped.load(Ordering::SeqCst) {
            let started = self.calls_started.load(Ordering::SeqCst);
            // Under load calls start all the time: it parks only after a whole tick without any, because waking it
            // costs a system call.
            if started == last_started && started == self.calls_ended.load(Ordering::SeqCst) {
                self.parked.store(true, Ordering::SeqCst);
                // A call that started in between saw `parked` unset, or its unpark ends the park at once.
                if self.calls_started.load(Ordering::SeqCst) == started && !self.stopped.load(Ordering::SeqCst) {
                    thread::park();
                }
                self.parked.store(false, Ordering::SeqCst);
            }
            last_started = started;
            thread::park_timeout(EPOCH_TICK);
            engine.increment_epoch();
        }
    }
}

pub(super) struct TickGuard<'a>(&'a Shared);

impl Drop for TickGuard<'_> {
    fn drop(&mut self) {
        self.0.calls_ended.fetch_add(1, Ordering::SeqCst);
    }
}
