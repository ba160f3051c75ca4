//! A TCP proxy on loopback that stands for the network between two programs, and for what goes wrong in it.
//!
//! Called by tests, between the distributor and NATS, or between it and its recipient. It must not know the protocol:
//! bytes are held, lost, slowed down or cut wherever they happen to be.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::free_port;
use crate::proxy_pump::{Direction, Pump};

/// What happens to bytes and connections. It holds for connections that are open as for new ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ProxyMode {
    /// All is passed on at once.
    Pass,
    /// The network is gone for a while: nothing is passed on, the ends of connections neither, and it is once the mode is
    /// another, as TCP would send it again. New connections are accepted and get to the server then.
    Hold,
    /// As a firewall that has forgotten a connection: what comes is lost without a word to either side. A connection that
    /// has lost something, or was opened in this mode, stays so in every later mode.
    Blackhole,
    /// New connections are refused, as when nothing listens; open ones go on. With
    /// [`reset_connections`](TcpProxy::reset_connections) this is a server that was killed.
    Refuse,
    /// All arrives this much later, in each direction. It takes no throughput away.
    Delay(Duration),
    /// No more than this in each direction of each connection.
    Limit {
        /// How many bytes a second.
        bytes_per_second: u32,
    },
    /// A connection is reset after so many bytes in one direction, counted from the switch to this mode or from the
    /// connection's start.
    CutAfter {
        /// How many bytes arrive.
        n_bytes: u64,
        /// Which way they go.
        direction: Direction,
    },
}

/// A listening proxy. Dropping it closes all its connections.
pub struct TcpProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// The one task that accepts; in a set, because a set ends its tasks when it is dropped.
    _accepting: JoinSet<()>,
}

pub(crate) struct Shared {
    upstream: SocketAddr,
    /// With the number of the switch, so that a switch to the same mode is one.
    pub(crate) mode: watch::Sender<(u64, ProxyMode)>,
    resets: watch::Sender<u64>,
    /// Whether the listener is open, as the accepting task last made it.
    listening: watch::Sender<bool>,
    n_open: AtomicUsize,
    n_accepted: AtomicUsize,
}

impl TcpProxy {
    /// Listens on a free port of 127.0.0.1 and passes connections on to `upstream`. That nothing listens there is no
    /// error: a connection is reset then.
    ///
    /// # Errors
    ///
    /// When there is no free port.
    pub async fn start(upstream: SocketAddr) -> anyhow::Result<Self> {
        // Not one of the kernel's choice: the port has to be free again after a time of refusing.
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let listener = TcpListener::bind(address).await;
        let listener = listener.with_context(|| format!("the proxy cannot listen on {address}"))?;
        let shared = Arc::new(Shared {
            upstream,
            mode: watch::Sender::new((0, ProxyMode::Pass)),
            resets: watch::Sender::default(),
            listening: watch::Sender::new(true),
            n_open: AtomicUsize::new(0),
            n_accepted: AtomicUsize::new(0),
        });
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, address, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            _accepting: accepting,
        })
    }

    /// Where it listens; it stays the same in every mode.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the mode. When this returns, it holds for every byte that is sent and every connection that is opened
    /// after.
    pub async fn switch_to(&self, mode: ProxyMode) {
        self.shared.mode.send_modify(|(number, current)| {
            *number += 1;
            *current = mode;
        });
        let mut listening = self.shared.listening.subscribe();
        let expected = mode != ProxyMode::Refuse;
        // The accepting task lives as long as this.
        let _ = listening.wait_for(|&listening| listening == expected).await;
    }

    /// Resets all open connections (RST), to both sides.
    pub fn reset_connections(&self) {
        self.shared.resets.send_modify(|number| *number += 1);
    }

    /// How many connections are open at this moment.
    #[must_use]
    pub fn n_connections(&self) -> usize {
        self.shared.n_open.load(Ordering::Acquire)
    }

    /// How many connections it has accepted so far.
    #[must_use]
    pub fn n_connections_ever(&self) -> usize {
        self.shared.n_accepted.load(Ordering::Acquire)
    }
}

impl fmt::Debug for TcpProxy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TcpProxy")
            .field("address", &self.address)
            .field("upstream", &self.shared.upstream)
            .field("mode", &self.shared.mode.borrow().1)
            .finish_non_exhaustive()
    }
}

async fn accept(listener: TcpListener, address: SocketAddr, shared: Arc<Shared>) {
    let mut mode = shared.mode.subscribe();
    let mut connections = JoinSet::new();
    let mut listener = Some(listener);
    loop {
        let refusing = mode.borrow_and_update().1 == ProxyMode::Refuse;
        match (&listener, refusing) {
            (Some(_), true) => listener = None,
            (None, false) => {
                let again = TcpListener::bind(address).await;
                listener = Some(again.expect("nothing else takes a port below those that the kernel gives away"));
            }
            _ => {}
        }
        shared.listening.send_replace(listener.is_some());
        tokio::select! {
            changed = mode.changed() => if changed.is_err() { return },
            accepted = accept_on(listener.as_ref()) => {
                let Ok((client, _)) = accepted else { continue };
                shared.n_accepted.fetch_add(1, Ordering::Release);
                shared.n_open.fetch_add(1, Ordering::Release);
                let open = Open(Arc::clone(&shared));
                // Subscribed here: a reset that is asked for from now on is for this connection too.
                connections.spawn(carry(client, open, shared.resets.subscribe()));
                while connections.try_join_next().is_some() {}
            }
        }
    }
}

async fn accept_on(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

/// Counts a connection as open until it is dropped.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.n_open.fetch_sub(1, Ordering::Release);
    }
}

/// One connection, from its start to its end.
async fn carry(mut client: TcpStream, open: Open, mut resets: watch::Receiver<u64>) {
    let shared = &open.0;
    let mut server = None;
    let carried = async {
        let Some(connected) = connect(shared).await? else {
            return lose_all(&mut client).await;
        };
        let server = server.insert(connected);
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let forgotten = AtomicBool::new(false);
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let pump = |direction| Pump::new(shared, &forgotten, direction);
        tokio::try_join!(
            pump(Direction::ToServer).run(from_client, to_server),
            pump(Direction::ToClient).run(from_server, to_client)
        )?;
        Ok(())
    };
    let ended_well = tokio::select! {
        carried = carried => carried.is_ok(),
        _ = resets.changed() => false,
    };
    if !ended_well {
        // Closing with zero linger is what makes the kernel send RST rather than FIN.
        let _ = client.set_zero_linger();
        let _ = server.as_ref().map(TcpStream::set_zero_linger);
    }
}

/// The connection to the server, or none if this one is opened while all is lost.
async fn connect(shared: &Shared) -> io::Result<Option<TcpStream>> {
    let mut mode = shared.mode.subscribe();
    let waited = mode.wait_for(|(_, mode)| *mode != ProxyMode::Hold).await;
    if waited.is_ok_and(|mode| mode.1 == ProxyMode::Blackhole) {
        return Ok(None);
    }
    TcpStream::connect(shared.upstream).await.map(Some)
}

async fn lose_all(client: &mut TcpStream) -> io::Result<()> {
    tokio::io::copy(client, &mut tokio::io::sink()).await.map(|_| ())
}

#[cfg(test)]
mod tests;
