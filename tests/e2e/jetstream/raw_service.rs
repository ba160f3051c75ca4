//! A service that answers bytes instead of HTTP: what no server library lets a test send.
//!
//! Called by tests of broken answers. Requests are read as the distributor sends them, with a `content-length`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// What is sent for one request.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// These bytes, and the next request is waited for.
    Bytes(String),
    /// These bytes, and the end of the connection.
    Last(String),
    /// These bytes, and a reset of the connection.
    Reset(String),
    /// These bytes, and then the others again and again, as fast as they are taken.
    Endless(String, String),
    /// As [`Answer::Endless`], but slowly.
    Trickle(String, String),
    /// These bytes, and no more on an open connection.
    Silence(String),
}

impl Answer {
    /// A complete answer without a body.
    pub(super) fn status(status: u16, headers: &str) -> Self {
        Self::Bytes(format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: 0\r\n\r\n"))
    }
}

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) path: String,
    /// Attribute `id` of the event.
    pub(super) id: String,
    pub(super) body: Bytes,
    /// Header `distributor-attempt`.
    pub(super) attempt: Option<u32>,
    /// Which connection it came over, counted from 0.
    pub(super) connection: usize,
}

type Script = dyn Fn(&Request, usize) -> Answer + Send + Sync;

/// A listening service. Dropping it ends everything.
pub(super) struct RawService {
    address: SocketAddr,
    requests: Arc<watch::Sender<Vec<Request>>>,
    _accepting: JoinSet<()>,
}

impl RawService {
    /// Answers as `script` says, which is given the request and how many came before with the event's id.
    pub(super) async fn start(script: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let requests = Arc::<watch::Sender<Vec<Request>>>::default();
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::new(script), Arc::clone(&requests)));
        Self {
            address,
            requests,
            _accepting: accepting,
        }
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    /// All requests so far for an event.
    pub(super) fn requests_for(&self, id: &str) -> Vec<Request> {
        let requests = self.requests.borrow();
        requests.iter().filter(|request| request.id == id).cloned().collect()
    }

    /// All requests so far.
    pub(super) fn requests(&self) -> Vec<Request> {
        self.requests.borrow().clone()
    }

    /// Waits until there are this many requests.
    pub(super) async fn wait_until_received(&self, n: usize, within: Duration) {
        let mut requests = self.requests.subscribe();
        let arrived = requests.wait_for(|requests| requests.len() >= n);
        let in_time = timeout(within, arrived).await.is_ok();
        assert!(in_time, "{} of {n} requests arrived", self.requests.borrow().len());
    }
}

async fn accept(listener: TcpListener, script: Arc<Script>, requests: Arc<watch::Sender<Vec<Request>>>) {
    let mut connections = JoinSet::new();
    for connection in 0.. {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        connections.spawn(serve(stream, connection, Arc::clone(&script), Arc::clone(&requests)));
    }
}

async fn serve(stream: TcpStream, connection: usize, script: Arc<Script>, requests: Arc<watch::Sender<Vec<Request>>>) {
    let _ = stream.set_nodelay(true);
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream, connection).await {
        let mut nth = 0;
        requests.send_modify(|requests| {
            nth = requests.iter().filter(|other| other.id == request.id).count();
            requests.push(request.clone());
        });
        // How the distributor takes it shows in what it does next.
        let may_go_on = send(&mut stream, script(&request, nth)).await.unwrap_or(false);
        if !may_go_on {
            return;
        }
    }
}

/// Whether the connection stays open for another request.
async fn send(stream: &mut BufReader<TcpStream>, answer: Answer) -> std::io::Result<bool> {
    const BETWEEN_PIECES: Duration = Duration::from_millis(20);
    let (Answer::Bytes(bytes)
    | Answer::Last(bytes)
    | Answer::Reset(bytes)
    | Answer::Endless(bytes, _)
    | Answer::Trickle(bytes, _)
    | Answer::Silence(bytes)) = &answer;
    stream.write_all(bytes.as_bytes()).await?;
    match answer {
        Answer::Bytes(_) => return Ok(true),
        Answer::Last(_) => stream.shutdown().await?,
        Answer::Reset(_) => stream.get_ref().set_zero_linger()?,
        // They end with an error when the distributor closes the connection.
        Answer::Endless(_, piece) => loop {
            stream.write_all(piece.as_bytes()).await?;
        },
        Answer::Trickle(_, piece) => loop {
            tokio::time::sleep(BETWEEN_PIECES).await;
            stream.write_all(piece.as_bytes()).await?;
        },
        Answer::Silence(_) => {
            stream.read_u8().await?;
        }
    }
    Ok(false)
}

async fn read(stream: &mut BufReader<TcpStream>, connection: usize) -> Option<Request> {
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let header = |name: &str| {
        let lines = head.iter().filter_map(|line| line.split_once(':'));
        let mut found = lines.filter(|(other, _)| other.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.trim())
    };
    let length = header("content-length")?.parse().expect("a length is a number");
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let event: Value = serde_json::from_slice(&body).expect("an event is JSON");
    Some(Request {
        path: head.first()?.split(' ').nth(1)?.to_owned(),
        id: event["id"].as_str()?.to_owned(),
        attempt: header("distributor-attempt").and_then(|text| text.parse().ok()),
        body: body.into(),
        connection,
    })
}
