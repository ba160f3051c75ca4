//! What all plugins of the process share: one engine, one linker, one ticker, and what is kept for each name.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;

use wasmtime::Engine;
use wasmtime::component::{Component, Linker};

use super::capture::Capture;
use super::compile::{Compiler, Key, Native};
use super::error::{LoadError, one_line};
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
        let engine = Engine::new(&compiler.engine_config())?;
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
        if is_native(bytes) {
            return Err(LoadError::Precompiled);
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

    /// Native code that the operator allows to run: the very bytes that a pin in the chain file names.
    ///
    /// # Errors
    /// When it was made by another version of the engine, or for another processor.
    #[expect(unsafe_code, reason = "native code is loaded in this file alone")]
    pub(super) fn precompiled(&self, bytes: &[u8]) -> Result<Component, LoadError> {
        // SAFETY: it could do anything to this process. That is why it needs `allow_precompiled` and a SHA-256 of exactly
        // these bytes in the chain file, by which the operator vouches for them as for this executable.
        let component = unsafe { Component::deserialize(&self.engine, bytes) };
        component.map_err(|error| LoadError::OtherEngine(one_line(&format!("{error:#}"))))
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

/// Whether these bytes are no component, but what was compiled from one.
pub(super) fn is_native(bytes: &[u8]) -> bool {
    Engine::detect_precompiled(bytes).is_some()
}

/// The path of an open file, whatever became of its name.
fn open_file(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}
