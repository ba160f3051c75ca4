//! What all plugins of the process share: one engine, one linker, one ticker, and what is kept for each name.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;

use wasmtime::Engine;
use wasmtime::component::{Component, Linker};

use super::capture::Capture;
use super::compile::{Compiler, Key, Native, engine_config};
use super::error::LoadError;
use super::imports::kept::Keeper;
use super::imports::{State, add_to_linker};
use super::limits::Ticker;

const NATIVE_CODE: &str =
    "is native code, which could do anything to this process; mount the component that it was made of";

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

    /// A component that was compiled, or is now.
    pub(super) async fn component(&self, bytes: &[u8]) -> Result<Component, LoadError> {
        if Engine::detect_precompiled(bytes).is_some() {
            return Err(LoadError::Precompiled(NATIVE_CODE));
        }
        let key = Key::of(&self.engine, bytes);
        let native = self.compiler.compile(&key, bytes).await?;
        let is_from_disk = matches!(native, Native::File(_));
        match self.deserialize(&native) {
            Err(error) if is_from_disk => {
                tracing::debug!(%error, "native code of the cache does not fit; the component is compiled anew");
                let native = self.compiler.compile_anew(&key, bytes).await?;
                self.deserialize(&native)
            }
            loaded => loaded,
        }
        .map_err(|error| LoadError::Link(format!("{error:#}")))
    }

    /// Takes native code that [`Compiler`] made.
    #[expect(unsafe_code, reason = "native code is loaded in this file alone")]
    fn deserialize(&self, native: &Native) -> wasmtime::Result<Component> {
        match native {
            // SAFETY: these bytes were made a moment ago by `Compiler` from a component, in this process or by our own
            // executable over a pipe.
            Native::Bytes(bytes) => unsafe { Component::deserialize(&self.engine, bytes) },
            // SAFETY: the file is in a directory that only we can write to (`PrivateDirectory`), where `Compiler` put
            // it, and its content has the digest that it had then. Nobody changes it while it is mapped: entries are
            // written under another name, renamed once, and only ever deleted.
            Native::File(file) => unsafe { Component::deserialize_file(&self.engine, open_file(file)) },
        }
    }
}

/// The path of an open file, whatever became of its name.
fn open_file(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}
