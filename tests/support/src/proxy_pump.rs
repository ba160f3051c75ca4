//! One direction of one connection of the proxy: what is read, when and whether it is written.
//!
//! Called by `tcp_proxy`. It must not know of other connections. Reading and writing are two stages with a bounded queue
//! between them, so that a delay takes no throughput away.

use std::io;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::tcp_proxy::{ProxyMode, Shared};

/// How much is read at once, and how many of such pieces wait at most: 1 MiB, about what the kernel buffers by itself.
const PIECE_BYTES: usize = 16 * 1024;
const N_PIECES: usize = 64;

/// Which way bytes go through a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the one who connected to the one who listens.
    ToServer,
    /// Back.
    ToClient,
}

pub(crate) struct Pump<'a> {
    mode: watch::Receiver<(u64, ProxyMode)>,
    /// Whether this connection has lost something; then all that follows is lost as well, in both directions.
    forgotten: &'a AtomicBool,
    direction: Direction,
}

/// Something read, and the time at which it was.
type Piece = (Instant, Bytes);

impl<'a> Pump<'a> {
    pub(crate) fn new(shared: &Shared, forgotten: &'a AtomicBool, direction: Direction) -> Self {
        Self {
            mode: shared.mode.subscribe(),
            forgotten,
            direction,
        }
    }

    /// Ends well when the side that is read from has no more to say and the other side knows it, or never will. An error
    /// is one for both sides of the connection.
    pub(crate) async fn run(mut self, from: ReadHalf<'_>, to: WriteHalf<'_>) -> io::Result<()> {
        let (queue, queued) = mpsc::channel(N_PIECES);
        let ended = tokio::try_join!(read(from, queue), self.write(queued, to));
        let Err(error) = ended else {
            return Ok(());
        };
        // An end is passed on as a byte is: later, or not at all.
        let (_, mode) = self.mode_for(Instant::now()).await;
        if self.is_lost(mode) { Ok(()) } else { Err(error) }
    }

    async fn write(&mut self, mut queued: mpsc::Receiver<Piece>, mut to: WriteHalf<'_>) -> io::Result<()> {
        let mut cut = Cut::default();
        while let Some((read_at, mut bytes)) = queued.recv().await {
            while !bytes.is_empty() {
                let (switch, mode) = self.mode_for(read_at).await;
                if self.is_lost(mode) {
                    break;
                }
                match mode {
                    ProxyMode::Limit { bytes_per_second } => {
                        write_slowly(&mut bytes, bytes_per_second.max(1), &mut to).await?;
                    }
                    ProxyMode::CutAfter { n_bytes, direction } if direction == self.direction => {
                        cut.write(&mut bytes, switch, n_bytes, &mut to).await?;
                    }
                    _ => to.write_all(&mem::take(&mut bytes)).await?,
                }
            }
        }
        let (_, mode) = self.mode_for(Instant::now()).await;
        if self.is_lost(mode) {
            Ok(())
        } else {
            to.shutdown().await
        }
    }

    /// Whether what comes now is lost.
    fn is_lost(&self, mode: ProxyMode) -> bool {
        if mode == ProxyMode::Blackhole {
            self.forgotten.store(true, Ordering::Relaxed);
        }
        self.forgotten.load(Ordering::Relaxed)
    }

    /// The mode once it lets what was read at this time go on; and the number of the switch to it.
    async fn mode_for(&mut self, read_at: Instant) -> (u64, ProxyMode) {
        loop {
            let (number, mode) = *self.mode.borrow_and_update();
            let until = match mode {
                ProxyMode::Hold => None,
                ProxyMode::Delay(delay) => Some(read_at + delay),
                _ => return (number, mode),
            };
            let waited = async {
                match until {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = waited => return (number, mode),
                // It ends with the proxy, and so does this.
                _ = self.mode.changed() => {}
            }
        }
    }
}

async fn read(mut from: ReadHalf<'_>, queue: mpsc::Sender<Piece>) -> io::Result<()> {
    loop {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        if from.read_buf(&mut piece).await? == 0 || queue.send((Instant::now(), piece.into())).await.is_err() {
            return Ok(());
        }
    }
}

/// Writes a hundredth of a second's worth and takes the time for it: the flow is even, and a switch of the mode is soon
/// noticed.
async fn write_slowly(bytes: &mut Bytes, bytes_per_second: u32, to: &mut WriteHalf<'_>) -> io::Result<()> {
    const PARTS_PER_SECOND: u32 = 100;
    let n_bytes = (bytes_per_second / PARTS_PER_SECOND).clamp(1, u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    to.write_all(&bytes.split_to(n_bytes as usize)).await?;
    sleep(Duration::from_secs(1) * n_bytes / bytes_per_second).await;
    Ok(())
}

/// What has been written since the mode was switched.
#[derive(Default)]
struct Cut {
    switch: u64,
    n_written: u64,
}

impl Cut {
    async fn write(&mut self, bytes: &mut Bytes, switch: u64, n_bytes: u64, to: &mut WriteHalf<'_>) -> io::Result<()> {
        if self.switch != switch {
            *self = Self { switch, n_written: 0 };
        }
        let left = usize::try_from(n_bytes - self.n_written).unwrap_or(usize::MAX);
        let passed = bytes.split_to(left.min(bytes.len()));
        to.write_all(&passed).await?;
        self.n_written += passed.len() as u64;
        if self.n_written == n_bytes {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }
}
