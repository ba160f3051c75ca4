//! The two sides of the API proxy: a control plane that answers bytes, and a service that sends them.
//!
//! Called by the tests of the proxy. The control plane is reached by way of `HTTP_PROXY`, because its services have fixed
//! names in the cluster: requests come with whole URLs, as any HTTP proxy gets them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use test_support::{DistributorProcess, free_port};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::message::{Message, read_body, read_head};
use crate::harness::{BINARY, SOON};

/// Pieces of large bodies.
const PIECE: usize = 64 << 10;

/// What the control plane does with a request.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// These bytes, and the next request is waited for.
    Bytes(Vec<u8>),
    /// These bytes, and the end of the connection.
    Last(Vec<u8>),
    /// These bytes, and no more on an open connection.
    Silence(Vec<u8>),
    /// As many bytes of a body.
    Large(usize),
    /// What comes of the request's body, at once and as it comes.
    Echo,
}

impl Answer {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Bytes(text.into().into_bytes())
    }

    /// 200 with this body.
    pub(super) fn ok(body: &str) -> Self {
        Self::text(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }
}

/// What happened at the control plane.
#[derive(Clone, Debug, Default)]
pub(super) struct Journal {
    /// Whole requests.
    pub(super) requests: Vec<Message>,
    /// Requests that broke off, as far as they came.
    pub(super) broken: Vec<Message>,
    pub(super) n_connections: usize,
    /// Connections that the distributor has closed.
    pub(super) n_closed: usize,
}

type Script = dyn Fn(&Message) -> Answer + Send + Sync;

/// A listening control plane. Dropping it ends everything.
pub(super) struct Upstream {
    address: SocketAddr,
    journal: Arc<watch::Sender<Journal>>,
    _accepting: JoinSet<()>,
}

impl Upstream {
    pub(super) async fn start(script: impl Fn(&Message) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let journal = Arc::<watch::Sender<Journal>>::default();
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::new(script), Arc::clone(&journal)));
        Self {
            address,
            journal,
            _accepting: accepting,
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn journal(&self) -> Journal {
        self.journal.borrow().clone()
    }

    /// Waits until the journal is like that.
    pub(super) async fn wait_until(&self, what: &str, is_so: impl FnMut(&Journal) -> bool) -> Journal {
        let mut journal = self.journal.subscribe();
        let waited = timeout(SOON, journal.wait_for(is_so)).await;
        waited
            .unwrap_or_else(|_| panic!("{what}: {:?}", self.journal.borrow()))
            .expect("the sender is here")
            .clone()
    }
}

async fn accept(listener: TcpListener, script: Arc<Script>, journal: Arc<watch::Sender<Journal>>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        journal.send_modify(|journal| journal.n_connections += 1);
        let (script, journal) = (Arc::clone(&script), Arc::clone(&journal));
        connections.spawn(async move {
            serve(BufReader::new(stream), script, &journal).await;
            journal.send_modify(|journal| journal.n_closed += 1);
        });
    }
}

async fn serve(mut stream: BufReader<TcpStream>, script: Arc<Script>, journal: &watch::Sender<Journal>) {
    let _ = stream.get_ref().set_nodelay(true);
    while let Some(mut request) = read_head(&mut stream).await {
        let answer = script(&request);
        if let Answer::Echo = answer {
            let _ = echo(&mut stream).await;
            return;
        }
        if read_body(&mut stream, &mut request).await.is_err() {
            journal.send_modify(|journal| journal.broken.push(request));
            return;
        }
        journal.send_modify(|journal| journal.requests.push(request));
        // How the distributor takes it shows in what it does next.
        let may_go_on = send(&mut stream, answer).await.unwrap_or(false);
        if !may_go_on {
            return;
        }
    }
}

/// Whether the connection stays open for another request.
async fn send(stream: &mut BufReader<TcpStream>, answer: Answer) -> std::io::Result<bool> {
    match answer {
        Answer::Bytes(bytes) => stream.write_all(&bytes).await?,
        Answer::Last(bytes) => {
            stream.write_all(&bytes).await?;
            stream.shutdown().await?;
            return Ok(false);
        }
        Answer::Silence(bytes) => {
            stream.write_all(&bytes).await?;
            stream.read_u8().await?;
        }
        Answer::Large(n_bytes) => {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {n_bytes}\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
            let piece = vec![b'x'; PIECE];
            for _ in 0..n_bytes / PIECE {
                stream.write_all(&piece).await?;
            }
        }
        Answer::Echo => {}
    }
    Ok(true)
}

/// Sends the framing of the request back as well: chunks are chunks.
async fn echo(stream: &mut BufReader<TcpStream>) -> std::io::Result<()> {
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await?;
    let mut piece = vec![0; PIECE];
    loop {
        let n_bytes = stream.read(&mut piece).await?;
        if n_bytes == 0 {
            return Ok(());
        }
        stream.write_all(&piece[..n_bytes]).await?;
    }
}

/// A distributor with a control plane behind its API proxy.
pub(super) struct Rig {
    pub(super) upstream: Upstream,
    pub(super) distributor: DistributorProcess,
}

impl Rig {
    /// With the token `t`.
    pub(super) async fn start(script: impl Fn(&Message) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_with(&[], script).await
    }

    /// With more variables.
    pub(super) async fn start_with(
        variables: &[(&str, &str)],
        script: impl Fn(&Message) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let upstream = Upstream::start(script).await;
        let mut environment = vec![("HTTP_PROXY", upstream.url()), ("KEPTN_API_TOKEN", "t".to_owned())];
        environment.extend(variables.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let distributor = start_distributor(&environment).await;
        Self { upstream, distributor }
    }

    /// Sends a request of the service and reads the answer.
    pub(super) async fn ask(&self, request: &str) -> Message {
        Client::connect(&self.distributor).await.ask(request).await
    }

    /// `GET` with no headers of its own.
    pub(super) async fn get(&self, path: &str) -> Message {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
            .await
    }
}

/// A distributor that listens. It gets no connection to NATS: the proxy needs none.
pub(super) async fn start_distributor(variables: &[(&str, String)]) -> DistributorProcess {
    let nats = format!("nats://127.0.0.1:{}", free_port().expect("there is a free port"));
    let mut environment = vec![("PUBSUB_URL", nats.as_str())];
    environment.extend(variables.iter().map(|(name, value)| (*name, value.as_str())));
    let distributor = DistributorProcess::start(Path::new(BINARY), &environment);
    let mut distributor = distributor.expect("the binary can be started");
    distributor.wait_until_ready(SOON).await.expect("it gets ready");
    distributor
}

/// A connection of the service.
pub(super) struct Client(BufReader<TcpStream>);

impl Client {
    pub(super) async fn connect(distributor: &DistributorProcess) -> Self {
        Self::connect_to(distributor.proxy_address()).await
    }

    pub(super) async fn connect_to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await;
        let stream = stream.expect("the distributor listens");
        stream.set_nodelay(true).expect("the socket is fine");
        Self(BufReader::new(stream))
    }

    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let sent = timeout(SOON, self.0.write_all(bytes.as_ref())).await;
        sent.expect("it is taken soon").expect("it is taken");
    }

    /// Reads an answer without its body.
    pub(super) async fn head(&mut self) -> Message {
        self.head_if_any().await.expect("an answer comes")
    }

    /// The same; none where the connection ends.
    pub(super) async fn head_if_any(&mut self) -> Option<Message> {
        let head = timeout(SOON, read_head(&mut self.0)).await;
        head.expect("an answer or the end comes soon")
    }

    /// Reads the body of an answer, and says whether it was complete.
    pub(super) async fn body(&mut self, head: &mut Message) -> std::io::Result<()> {
        let body = timeout(SOON, read_body(&mut self.0, head)).await;
        body.expect("the body comes soon")
    }

    /// Reads a whole answer.
    pub(super) async fn answer(&mut self) -> Message {
        let mut answer = self.head().await;
        self.body(&mut answer).await.expect("the answer is complete");
        answer
    }

    pub(super) async fn ask(&mut self, request: &str) -> Message {
        self.send(request).await;
        self.answer().await
    }

    /// Reads so many bytes.
    pub(super) async fn read(&mut self, n_bytes: usize) -> Vec<u8> {
        let mut bytes = vec![0; n_bytes];
        let read = timeout(SOON, self.0.read_exact(&mut bytes)).await;
        read.expect("they come soon").expect("they come");
        bytes
    }
}
