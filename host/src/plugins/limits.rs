//! What a plugin may use: time, memory, output, host calls.
//!
//! Set on every instance by [`super::instance`], and checked by [`super::load`] where a component declares what it
//! needs; nothing here knows what a plugin does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use wasmtime::component::Component;
use wasmtime::{Engine, ResourceLimiter};

/// How often running guests are interrupted. A looping guest then lets others have the thread, and is stopped when its
/// time is over.
pub(super) const EPOCH_TICK: Duration = Duration::from_millis(10);

/// Elements of all tables of an instance: generous for an interpreter's function tables.
const MAX_TABLE_ELEMENTS: usize = 100_000;
/// Things of the host that an instance may hold at a time, such as streams and timers.
pub(super) const MAX_HANDLES: usize = 1000;
/// Random bytes that a guest may ask for at once; they are made in the host's memory.
pub(super) const MAX_RANDOM_BYTES: u64 = 64 << 10;
/// Events that a chain may make of one, and bytes of them: each plugin may return several for each that it gets.
const MAX_MADE_EVENTS: usize = 256;
const MAX_MADE_BYTES: usize = 8 << 20;
const WASM_PAGE_BYTES: usize = 64 << 10;

/// Limits of one plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Time for one call of a hook.
    pub call_time: Duration,
    /// Time for `configure`, which may build tables.
    pub configure_time: Duration,
    /// Linear memory of one instance, all its memories together.
    pub memory_bytes: usize,
    /// Bytes that one call may hand to the host: twice the largest event that NATS carries by default.
    pub output_bytes: usize,
    /// Events that one call of a transform may return.
    pub output_events: usize,
    /// Calls of host functions during one call.
    pub host_calls: u32,
    /// Lines that one call may log and print.
    pub log_lines: u32,
    /// Bytes that one call may log and print.
    pub log_bytes: usize,
    /// Bytes that the plugin may keep as state, see `wit/README.md` for how they are counted.
    pub state_bytes: usize,
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
            log_bytes: 64 << 10,
            state_bytes: 1 << 20,
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
    /// Tables.
    #[error("asked for {wanted} table elements, its limit is {MAX_TABLE_ELEMENTS}")]
    Table {
        /// Elements it would have had.
        wanted: usize,
    },
    /// Handles.
    #[error("held more than {MAX_HANDLES} streams, timers or other resources at a time")]
    Handles,
    /// Random bytes.
    #[error("asked for more than {MAX_RANDOM_BYTES} random bytes at once")]
    RandomBytes,
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
    /// Events made of one by the chain.
    #[error("made more than {MAX_MADE_EVENTS} events of one, with the plugins before it")]
    MadeEvents,
    /// Bytes made of one event by the chain.
    #[error("made more than {MAX_MADE_BYTES} bytes of one event, with the plugins before it")]
    MadeBytes,
}

/// What plugins have made of one event so far.
#[derive(Debug, Default)]
pub(super) struct Made {
    events: usize,
    bytes: usize,
}

impl Made {
    /// Counts one more event.
    ///
    /// # Errors
    /// When it is too much.
    pub(super) fn add(&mut self, event_bytes: usize) -> Result<(), LimitReached> {
        self.events += 1;
        self.bytes += event_bytes;
        if self.events > MAX_MADE_EVENTS {
            return Err(LimitReached::MadeEvents);
        }
        if self.bytes > MAX_MADE_BYTES {
            return Err(LimitReached::MadeBytes);
        }
        Ok(())
    }
}

/// What a component declares as the least memory that it starts with, in bytes.
pub(super) fn least_memory(component: &Component) -> usize {
    let pages = component
        .resources_required()
        .and_then(|needs| needs.max_initial_memory_size);
    usize::try_from(pages.unwrap_or(0)).map_or(usize::MAX, |pages| pages.saturating_mul(WASM_PAGE_BYTES))
}

/// Refuses a component that could not start for lack of memory, before anything of it runs.
///
/// # Errors
/// With the memory that it declares as its least.
pub(super) fn check_declared(component: &Component, limits: &Limits) -> Result<(), LimitReached> {
    let wanted = least_memory(component);
    let limit = limits.memory_bytes;
    if wanted > limit {
        return Err(LimitReached::Memory { wanted, limit });
    }
    Ok(())
}

/// Caps memory and tables, and says in words which cap was hit.
#[derive(Debug)]
pub(super) struct MemoryCap {
    limit: usize,
    used: usize,
    /// What it had when it was configured.
    used_at_start: usize,
    last_growth: usize,
    table_elements: usize,
    last_table_growth: usize,
}

impl MemoryCap {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            used: 0,
            used_at_start: 0,
            last_growth: 0,
            table_elements: 0,
            last_table_growth: 0,
        }
    }

    /// Bytes of memory.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// Takes what is used now for what the plugin needs.
    pub(super) fn mark_start(&mut self) {
        self.used_at_start = self.used;
    }

    /// Whether most of the memory that it had beyond its needs is gone. Counted from its needs, because an interpreter
    /// may need nearly all of it from the start, and must not be replaced after every call.
    pub(super) fn is_low(&self) -> bool {
        let beyond_needs = self.limit.saturating_sub(self.used_at_start);
        self.used > self.used_at_start + beyond_needs / 4 * 3
    }
}

impl ResourceLimiter for MemoryCap {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let growth = desired.saturating_sub(current);
        let wanted = self.used.saturating_add(growth);
        if wanted > self.limit {
            let limit = self.limit;
            return Err(wasmtime::Error::new(LimitReached::Memory { wanted, limit }));
        }
        self.used = wanted;
        self.last_growth = growth;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.used -= std::mem::take(&mut self.last_growth);
        Ok(())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let growth = desired.saturating_sub(current);
        let wanted = self.table_elements.saturating_add(growth);
        if wanted > MAX_TABLE_ELEMENTS {
            return Err(wasmtime::Error::new(LimitReached::Table { wanted }));
        }
        self.table_elements = wanted;
        self.last_table_growth = growth;
        Ok(true)
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.table_elements -= std::mem::take(&mut self.last_table_growth);
        Ok(())
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

#[cfg(test)]
mod tests;
