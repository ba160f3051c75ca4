//! What all plugins of the process share: one engine, one linker, one ticker, and what is kept for each name.

use std::sync::Arc;

use wasmtime::Engine;
use wasmtime::component::{Component, Linker};

use super::capture::Capture;
use super::compile::{Compiler, engine_config};
use super::imports::kept::Keeper;
use super::imports::{State, add_to_linker};
use super::limits::Ticker;

/// Runs components.
pub struct Host {
    pub(super) engine: Engine,
    pub(super) linker: Linker<State>,
    pub(super) ticker: Ticker,
    pub(super) compiler: Compiler,
    pub(super) keeper: Keeper,
    capture: Arc<Capture>,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Host")
            .field("compiler", &self.compiler)
            .finish_non_exhaustive()
    }
}

impl Host {
    /// Sets the engine up.
    ///
    /// # Errors
    /// When the machine cannot run WebAssembly, e.g. for lack of threads.
    pub fn new(compiler: Compiler) -> wasmtime::Result<Self> {
        let engine = Engine::new(&engine_config())?;
        let mut linker = Linker::new(&engine);
        add_to_linker(&mut linker)?;
        Ok(Self {
            ticker: Ticker::start(engine.clone())?,
            engine,
            linker,
            compiler,
            keeper: Keeper::default(),
            capture: Arc::default(),
        })
    }

    /// What writes the events of its chains down, when somebody asks for it.
    pub fn capture(&self) -> &Arc<Capture> {
        &self.capture
    }

    /// Takes native code that [`Compiler`] has just made.
    #[expect(unsafe_code, reason = "native code is loaded in this one place")]
    pub(super) fn deserialize(&self, native: &[u8]) -> wasmtime::Result<Component> {
        // SAFETY: `native` was made a moment ago by `Compiler` from a component, in this process or by our own
        // executable over a pipe. It never comes from a file or from outside.
        unsafe { Component::deserialize(&self.engine, native) }
    }
}
