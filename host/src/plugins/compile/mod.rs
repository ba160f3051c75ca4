//! Component bytes → native code.
//!
//! Compiling takes tens of megabytes that an engine never gives back, so it happens in a child process ([`child`]), and
//! the memory leaves with it. What was compiled once is kept ([`cache`]); what cannot fit is not tried ([`admission`]).
//! Where no child can be started (or in tests, where this executable is another program), a throw-away engine does it in
//! the process. Called by [`super::host`], which loads the result.

mod admission;
mod cache;
mod child;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wasmtime::{Config, Engine};

pub use self::admission::{Cgroup, Headroom};
use self::cache::Cache;
pub(super) use self::cache::Key;
pub use self::child::{COMMAND, run as run_child};
use super::private_directory::PrivateDirectoryError;
use crate::metrics::Counter;

/// The end of every message about what compiling costs.
const REMEDY: &str = "or make the component smaller";

/// Compiles components.
#[derive(Debug, Clone)]
pub struct Compiler {
    /// This executable, started with [`COMMAND`]. None: here.
    executable: Option<PathBuf>,
    cache: Option<Arc<Cache>>,
    cgroup: Cgroup,
    counts_fuel: bool,
    /// One at a time: what is free is counted on by one.
    turn: Arc<tokio::sync::Mutex<()>>,
    done: Arc<Done>,
}

/// What was compiled so far.
#[derive(Debug, Default)]
struct Done {
    components: Counter,
    microseconds: Counter,
}

/// Native code.
#[derive(Debug)]
pub(super) enum Native {
    /// On disk, and in memory as far as it is used.
    File(File),
    /// In memory.
    Bytes(Vec<u8>),
}

/// Why compiling failed.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The bytes are at fault.
    #[error("{0}")]
    Component(String),
    /// It did not finish.
    #[error(
        "compiling took longer than {}; give it more processor time, {REMEDY}",
        humantime::format_duration(child::TIME_LIMIT)
    )]
    Time,
    /// It was not tried.
    #[error(
        "compiling needs about {}, and of the container's {} only {} are left; raise its memory limit by {}, {REMEDY}",
        mebibytes(*need), mebibytes(headroom.limit), mebibytes(headroom.free), mebibytes(need.saturating_sub(headroom.free))
    )]
    NoRoom {
        /// Bytes.
        need: u64,
        /// What there is.
        headroom: Headroom,
    },
    /// It took more than it may.
    #[error("compiling needs more than the {} that there are for it; raise the container's memory limit, {REMEDY}", mebibytes(*allowance))]
    OutOfMemory {
        /// Bytes.
        allowance: u64,
    },
    /// The result cannot be passed on.
    #[error("{0}")]
    Write(String),
    /// From outside.
    #[error("the compiler was killed, most likely because the machine is out of memory; give it more, {REMEDY}")]
    Killed,
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

/// The configuration that all engines share: native code fits only the settings it was compiled with.
///
/// Counting fuel makes every call dearer: only tools do so.
fn engine_config(counts_fuel: bool) -> Config {
    let mut config = Config::new();
    config.consume_fuel(counts_fuel);
    config.wasm_component_model(true);
    config.epoch_interruption(true);
    // Guests run one call at a time; the structures for concurrent guests would only cost.
    config.concurrency_support(false);
    config
}

impl Compiler {
    /// One that compiles with this executable, in child processes.
    pub fn child(executable: PathBuf) -> Self {
        Self {
            executable: Some(executable),
            ..Self::in_process()
        }
    }

    /// One that compiles here.
    pub fn in_process() -> Self {
        Self {
            executable: None,
            cache: None,
            cgroup: Cgroup::default(),
            counts_fuel: false,
            turn: Arc::default(),
            done: Arc::default(),
        }
    }

    /// How often it has compiled, and how long that took.
    pub(super) fn compilations(&self) -> (u64, Duration) {
        let Done {
            components,
            microseconds,
        } = &*self.done;
        (components.value(), Duration::from_micros(microseconds.value()))
    }

    /// With a cache below this directory, if there is one and it can be used. Why not is logged: everything works without.
    #[must_use]
    pub fn cached_in(self, directory: Option<&Path>) -> Self {
        let Some(directory) = directory else {
            return self;
        };
        match Cache::open(directory) {
            Ok(cache) => Self {
                cache: Some(Arc::new(cache)),
                ..self
            },
            Err(error) => {
                const CONSEQUENCE: &str =
                    "no cache for native code (PLUGINS_CACHE_DIR); plugins are compiled at every start";
                match &error {
                    // An image without a folder for temporary files is nothing to worry about.
                    PrivateDirectoryError::Unusable { .. } => tracing::info!(%error, "{CONSEQUENCE}"),
                    PrivateDirectoryError::NotPrivate { .. } => tracing::warn!(%error, "{CONSEQUENCE}"),
                }
                self
            }
        }
    }

    /// For an engine that counts what guests compute, in a unit that is the same on every machine.
    #[must_use]
    pub fn counting_fuel(self) -> Self {
        Self {
            counts_fuel: true,
            ..self
        }
    }

    /// Whether it is for such an engine.
    pub(super) fn counts_fuel(&self) -> bool {
        self.counts_fuel
    }

    /// The configuration of the engine that takes its native code.
    pub(super) fn engine_config(&self) -> Config {
        engine_config(self.counts_fuel)
    }

    /// With the limits of another cgroup than that of this process.
    #[must_use]
    pub fn within(self, cgroup: Cgroup) -> Self {
        Self { cgroup, ..self }
    }

    /// Native code of a component.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn compile(&self, key: &Key, component: &[u8]) -> Result<Native, CompileError> {
        let _turn = self.turn.lock().await;
        if let Some(cache) = &self.cache
            && let Ok(Some(file)) = on_disk(cache, key, |cache, key| Ok(cache.find(key))).await
        {
            return Ok(Native::File(file));
        }
        let begun = Instant::now();
        let compiled = self.compile_where_there_is_room(key, component).await;
        self.done.components.increment();
        let microseconds = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.done.microseconds.add(microseconds);
        compiled
    }

    async fn compile_where_there_is_room(&self, key: &Key, component: &[u8]) -> Result<Native, CompileError> {
        let need = admission::need(component.len());
        let headroom = self.cgroup.headroom();
        if let Some(headroom) = headroom
            && headroom.free < need
        {
            return Err(CompileError::NoRoom { need, headroom });
        }
        let Some(executable) = &self.executable else {
            return self.compile_in_process(key, component).await;
        };
        let allowance = admission::allowance(need, headroom);
        match self.compile_in_child(executable, key, component, allowance).await {
            Ok(compiled) => compiled,
            Err(error) => {
                tracing::warn!(%error, "no compiler process can be started; plugins are compiled in this process, which needs more memory");
                self.compile_in_process(key, component).await
            }
        }
    }

    /// The same when what is in the cache turned out not to fit this engine.
    pub(super) async fn compile_anew(&self, key: &Key, component: &[u8]) -> Result<Native, CompileError> {
        if let Some(cache) = &self.cache {
            // What is left of it is overwritten.
            let _ = on_disk(cache, key, |cache, key| {
                cache.forget(key);
                Ok(())
            })
            .await;
        }
        self.compile(key, component).await
    }

    async fn compile_in_child(
        &self,
        executable: &Path,
        key: &Key,
        component: &[u8],
        allowance: u64,
    ) -> std::io::Result<Result<Native, CompileError>> {
        if let Some(cache) = &self.cache {
            match cache.draft() {
                Err(error) => cache.warn_not_kept(&error),
                Ok(draft) => {
                    match child::compile(executable, component, allowance, self.counts_fuel, Some(&draft)).await? {
                        Err(CompileError::Write(problem)) => cache.warn_not_kept(&problem),
                        Err(error) => return Ok(Err(error)),
                        Ok(_) => match on_disk(cache, key, move |cache, key| cache.keep(&draft, key)).await {
                            Ok(file) => return Ok(Ok(Native::File(file))),
                            Err(error) => cache.warn_not_kept(&error),
                        },
                    }
                }
            }
        }
        let compiled = child::compile(executable, component, allowance, self.counts_fuel, None).await?;
        Ok(compiled.map(Native::Bytes))
    }

    async fn compile_in_process(&self, key: &Key, component: &[u8]) -> Result<Native, CompileError> {
        let component = component.to_vec();
        let counts_fuel = self.counts_fuel;
        // Not by a thread that carries events.
        let compiling = tokio::task::spawn_blocking(move || here(&component, counts_fuel));
        let native = compiling
            .await
            .map_err(|error| CompileError::Component(error.to_string()))??;
        let Some(cache) = &self.cache else {
            return Ok(Native::Bytes(native));
        };
        let native = Arc::new(native);
        let to_keep = Arc::clone(&native);
        let kept = on_disk(cache, key, move |cache, key| {
            let mut draft = cache.draft()?;
            draft.file.write_all(&to_keep)?;
            cache.keep(&draft, key)
        });
        Ok(match kept.await {
            Ok(file) => Native::File(file),
            Err(error) => {
                cache.warn_not_kept(&error);
                Native::Bytes(Arc::unwrap_or_clone(native))
            }
        })
    }
}

/// Work on files is not done by threads that carry events.
async fn on_disk<R: Send + 'static>(
    cache: &Arc<Cache>,
    key: &Key,
    work: impl FnOnce(&Cache, &Key) -> std::io::Result<R> + Send + 'static,
) -> std::io::Result<R> {
    let (cache, key) = (Arc::clone(cache), key.clone());
    tokio::task::spawn_blocking(move || work(&cache, &key)).await?
}

/// Native code of a component, made in this process.
pub(super) fn here(component: &[u8], counts_fuel: bool) -> Result<Vec<u8>, CompileError> {
    let compile = || Engine::new(&engine_config(counts_fuel))?.precompile_component(component);
    compile().map_err(|error| CompileError::Component(in_words(&error)))
}

/// A compiler message without its later lines, and with the usual mix-ups explained.
fn in_words(error: &wasmtime::Error) -> String {
    let text = format!("{error:#}");
    let first_line = text.lines().next().unwrap_or_default();
    if text.contains("attempted to parse a wasm module with a component parser") {
        return "it is a core module, not a component; build for wasm32-wasip2, or wrap it with `wasm-tools component new`".to_owned();
    }
    if text.contains("bad magic number") {
        return "it is not WebAssembly at all; put the component there that a build for wasm32-wasip2 makes".to_owned();
    }
    if text.contains("unexpected end-of-file") || text.contains("out of bounds") {
        return format!("it is empty or cut off ({first_line}); copy the whole file once more");
    }
    format!("{first_line}; build it anew with tools for components of WASI 0.2")
}
