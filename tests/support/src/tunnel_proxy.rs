//! An HTTP proxy that makes tunnels (RFC 9110, section 9.3.6), as companies have one before the rest of the world.
//!
//! Called by tests. Names that exist nowhere lead where a test says; it must not know what goes through its tunnels.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A listening proxy. Dropping it closes it and its tunnels.
#[derive(Debug)]
pub struct TunnelProxy {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<TunnelRequest>>>,
    _accepting: JoinSet<()>,
}

/// What it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelRequest {
    /// Host and port to make a tunnel to; of any other request its first line.
    pub target: String,
    /// The value of `Proxy-Authorization`.
    pub authorization: Option<String>,
}

impl TunnelProxy {
    /// Listens on a free port of 127.0.0.1 and makes tunnels to these names, each a host with a port.
    ///
    /// # Errors
    ///
    /// When there is no free port.
    pub async fn start(names: &[(&str, SocketAddr)]) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("the proxy")?;
        let address = listener.local_addr()?;
        let names: HashMap<String, SocketAddr> = names.iter().map(|(name, to)| ((*name).to_owned(), *to)).collect();
        let (names, asked) = (Arc::new(names), Arc::<Mutex<Vec<TunnelRequest>>>::default());
        let mut accepting = JoinSet::new();
        let journal = Arc::clone(&asked);
        accepting.spawn(async move {
            let mut tunnels = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (names, journal) = (Arc::clone(&names), Arc::clone(&journal));
                // How a tunnel ends is the business of those who talk.
                tunnels.spawn(async move { serve(stream, &names, &journal).await.unwrap_or_default() });
                while tunnels.try_join_next().is_some() {}
            }
        });
        Ok(Self {
            address,
            asked,
            _accepting: accepting,
        })
    }

    /// The value of `HTTPS_PROXY`, with these credentials.
    #[must_use]
    pub fn url_as(&self, user: &str, password: &str) -> String {
        format!("http://{user}:{password}@{}", self.address)
    }

    /// What it was asked so far.
    #[must_use]
    pub fn requests(&self) -> Vec<TunnelRequest> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(
    stream: TcpStream,
    names: &HashMap<String, SocketAddr>,
    asked: &Mutex<Vec<TunnelRequest>>,
) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let first = read_line(&mut stream).await?;
    let tunnel = first.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next());
    let target = tunnel.unwrap_or(&first).to_owned();
    let mut authorization = None;
    loop {
        let line = read_line(&mut stream).await?;
        match line.split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("proxy-authorization") => {
                authorization = Some(value.to_owned());
            }
            None if line.is_empty() => break,
            _ => {}
        }
    }
    let to = names.get(&target).copied();
    let request = TunnelRequest { target, authorization };
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    let Some(to) = to else {
        return stream
            .write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            .await;
    };
    let mut server = TcpStream::connect(to).await?;
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    copy_bidirectional(&mut stream, &mut server).await.map(drop)
}

async fn read_line(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}
