//! Each mode of the proxy, seen by a client of a server that sends back what it gets.

use super::*;
use crate::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

const SOON: Duration = Duration::from_secs(20);

/// Long enough for an answer over loopback that is not held back.
const A_MOMENT: Duration = Duration::from_millis(100);

/// A proxy before an echo server, whose task is in the set.
async fn echo_proxy() -> (TcpProxy, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = to.shutdown().await;
            });
        }
    });
    (TcpProxy::start(upstream).await.unwrap(), tasks)
}

async fn connected(proxy: &TcpProxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.unwrap()
}

async fn echo(stream: &mut TcpStream, text: &str) -> io::Result<String> {
    stream.write_all(text.as_bytes()).await?;
    receive(stream, text.len()).await
}

async fn receive(stream: &mut TcpStream, n_bytes: usize) -> io::Result<String> {
    let mut received = vec![0; n_bytes];
    timeout(SOON, stream.read_exact(&mut received)).await??;
    Ok(String::from_utf8(received).unwrap())
}

async fn says_nothing(stream: &mut TcpStream) -> bool {
    timeout(A_MOMENT, stream.read_u8()).await.is_err()
}

#[tokio::test]
async fn passes_on_both_ways_until_the_end() {
    let (proxy, _tasks) = echo_proxy().await;
    let mut stream = connected(&proxy).await;
    assert_eq!(echo(&mut stream, "hello").await.unwrap(), "hello");
    assert_eq!((proxy.n_connections(), proxy.n_connections_ever()), (1, 1));

    // More than all buffers on the way hold, and the end after it.
    let (mut from, mut to) = stream.into_split();
    let sending = tokio::spawn(async move { to.write_all(&vec![b'x'; 20_000_000]).await });
    let mut received = Vec::new();
    timeout(SOON, from.read_to_end(&mut received)).await.unwrap().unwrap();
    sending.await.unwrap().unwrap();
    assert_eq!(received.len(), 20_000_000);
    eventually(SOON, async || proxy.n_connections() == 0).await.unwrap();
}

#[tokio::test]
async fn what_is_held_arrives_later() {
    let (proxy, _tasks) = echo_proxy().await;
    let mut before = connected(&proxy).await;
    assert_eq!(echo(&mut before, "a").await.unwrap(), "a");

    proxy.switch_to(ProxyMode::Hold).await;
    let mut during = connected(&proxy).await;
    before.write_all(b"b").await.unwrap();
    during.write_all(b"c").await.unwrap();
    assert!(says_nothing(&mut before).await && says_nothing(&mut during).await);

    proxy.switch_to(ProxyMode::Pass).await;
    assert_eq!(receive(&mut before, 1).await.unwrap(), "b");
    assert_eq!(receive(&mut during, 1).await.unwrap(), "c");
}

#[tokio::test]
async fn a_forgotten_connection_stays_so_and_new_ones_work() {
    let (proxy, _tasks) = echo_proxy().await;
    let mut used = connected(&proxy).await;
    let mut idle = connected(&proxy).await;
    assert_eq!(echo(&mut used, "a").await.unwrap(), "a");
    assert_eq!(echo(&mut idle, "a").await.unwrap(), "a");

    proxy.switch_to(ProxyMode::Blackhole).await;
    used.write_all(b"b").await.unwrap();
    let mut during = connected(&proxy).await;
    during.write_all(b"c").await.unwrap();
    assert!(says_nothing(&mut used).await && says_nothing(&mut during).await);

    proxy.switch_to(ProxyMode::Pass).await;
    used.write_all(b"d").await.unwrap();
    during.write_all(b"e").await.unwrap();
    assert!(says_nothing(&mut used).await && says_nothing(&mut during).await);
    assert_eq!(echo(&mut idle, "f").await.unwrap(), "f");
    assert_eq!(echo(&mut connected(&proxy).await, "g").await.unwrap(), "g");
}

#[tokio::test]
async fn refuses_and_listens_again_on_its_port() {
    let (proxy, _tasks) = echo_proxy().await;
    let mut before = connected(&proxy).await;
    assert_eq!(echo(&mut before, "a").await.unwrap(), "a");
    for _ in 0..20 {
        proxy.switch_to(ProxyMode::Refuse).await;
        let refused = TcpStream::connect(proxy.address()).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(echo(&mut before, "b").await.unwrap(), "b");

        proxy.switch_to(ProxyMode::Pass).await;
        assert_eq!(echo(&mut connected(&proxy).await, "c").await.unwrap(), "c");
    }
}

#[tokio::test]
async fn resets_all_connections_and_takes_new_ones() {
    let (proxy, _tasks) = echo_proxy().await;
    let mut streams = [connected(&proxy).await, connected(&proxy).await];
    for stream in &mut streams {
        assert_eq!(echo(stream, "a").await.unwrap(), "a");
    }
    proxy.reset_connections();
    for stream in &mut streams {
        let error = receive(stream, 1).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
    eventually(SOON, async || proxy.n_connections() == 0).await.unwrap();
    assert_eq!(echo(&mut connected(&proxy).await, "b").await.unwrap(), "b");
}

#[tokio::test]
async fn a_server_that_is_away_resets() {
    let upstream = SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()));
    let proxy = TcpProxy::start(upstream).await.unwrap();
    let error = receive(&mut connected(&proxy).await, 1).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_delay_is_one_of_each_direction_and_takes_no_throughput() {
    const DELAY: Duration = Duration::from_millis(100);
    let (proxy, _tasks) = echo_proxy().await;
    let mut stream = connected(&proxy).await;
    assert_eq!(echo(&mut stream, "a").await.unwrap(), "a");
    proxy.switch_to(ProxyMode::Delay(DELAY)).await;

    let start = Instant::now();
    // 40 pieces: one after the other they would take 4 s each way.
    let (mut from, mut to) = stream.split();
    let text = vec![b'x'; 640 * 1024];
    let mut received = vec![0; text.len()];
    let (sent, got) = tokio::join!(to.write_all(&text), timeout(SOON, from.read_exact(&mut received)));
    sent.unwrap();
    got.unwrap().unwrap();
    let took = start.elapsed();
    assert!(took >= DELAY * 2 && took < DELAY * 20, "{took:?}");
}

#[tokio::test]
async fn the_bandwidth_is_limited_and_the_limit_can_be_lifted() {
    let (proxy, _tasks) = echo_proxy().await;
    let mut stream = connected(&proxy).await;
    proxy
        .switch_to(ProxyMode::Limit {
            bytes_per_second: 10_000,
        })
        .await;
    let start = Instant::now();
    echo(&mut stream, &"x".repeat(3000)).await.unwrap();
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(300), "{took:?}");

    stream.write_all(&vec![b'x'; 200_000]).await.unwrap();
    receive(&mut stream, 100).await.unwrap();
    proxy.switch_to(ProxyMode::Pass).await;
    let start = Instant::now();
    receive(&mut stream, 199_900).await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[tokio::test]
async fn cuts_after_exactly_so_many_bytes_of_one_direction() {
    let (proxy, _tasks) = echo_proxy().await;
    let mut old = connected(&proxy).await;
    assert_eq!(echo(&mut old, "hello").await.unwrap(), "hello");
    let direction = Direction::ToClient;
    proxy.switch_to(ProxyMode::CutAfter { n_bytes: 7, direction }).await;
    for mut stream in [old, connected(&proxy).await] {
        assert_eq!(echo(&mut stream, "four").await.unwrap(), "four");
        stream.write_all(b"four").await.unwrap();
        assert_eq!(receive(&mut stream, 3).await.unwrap(), "fou");
        assert_eq!(
            receive(&mut stream, 1).await.unwrap_err().kind(),
            io::ErrorKind::ConnectionReset
        );
    }
    // Each switch counts anew.
    proxy.switch_to(ProxyMode::CutAfter { n_bytes: 7, direction }).await;
    let mut stream = connected(&proxy).await;
    assert_eq!(echo(&mut stream, "sixsix").await.unwrap(), "sixsix");
    proxy.switch_to(ProxyMode::CutAfter { n_bytes: 7, direction }).await;
    assert_eq!(echo(&mut stream, "sixsix").await.unwrap(), "sixsix");
}
