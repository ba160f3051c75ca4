//! The thread for plugins that take long: guests that compute do not take a thread from those that receive, deliver and
//! answer probes.
//!
//! Used by whoever runs the chain, for what is not through at once. There is none before it is needed.

use std::panic::resume_unwind;
use std::sync::OnceLock;
use std::task::Poll;
use std::thread;

use futures_util::poll;
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// Guests have stacks of their own.
const STACK_BYTES: usize = 512 << 10;

/// One thread, on which guests take turns: each lets the others have it once in a tick of the clock.
#[derive(Debug, Default)]
pub struct GuestThread {
    /// None where no thread could be started: then the runtime of the caller has to do.
    runtime: OnceLock<Option<Handle>>,
    stop: CancellationToken,
}

impl GuestThread {
    /// No thread: the runtime of the caller has to do.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self {
            runtime: OnceLock::from(None),
            stop: CancellationToken::new(),
        }
    }

    /// Runs this here as long as it does not have to wait, and then on the thread.
    pub async fn run_if_long<T: Send + 'static>(&self, run: impl Future<Output = T> + Send + 'static) -> T {
        let mut run = Box::pin(run);
        match poll!(run.as_mut()) {
            Poll::Ready(ended) => ended,
            Poll::Pending => self.run(run).await,
        }
    }

    /// Runs this on the thread, from where it stands. Dropped before its end, the run is ended as well.
    pub async fn run<T: Send + 'static>(&self, run: impl Future<Output = T> + Send + 'static) -> T {
        let runtime = self.runtime.get_or_init(|| {
            let started = start(self.stop.clone());
            started
                .inspect_err(
                    |error| tracing::warn!(%error, "cannot start the thread for plugins; they run among the others"),
                )
                .ok()
        });
        let task = match runtime {
            Some(runtime) => runtime.spawn(run),
            None => tokio::spawn(run),
        };
        match AbortOnDropHandle::new(task).await {
            Ok(ended) => ended,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                // The process ends.
                Err(_) => std::future::pending().await,
            },
        }
    }
}

impl Drop for GuestThread {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn start(stop: CancellationToken) -> std::io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_time().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new()
        .name("plugins".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || runtime.block_on(stop.cancelled()))?;
    Ok(handle)
}
