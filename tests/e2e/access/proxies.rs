//! Proxies of the environment, on the way to the service, to the API and to the identity provider.

use std::time::Duration;

use tempfile::TempDir;
use test_support::{Authority, ControlPlane, Recipient, Reply, TlsFront, TunnelProxy, TunnelRequest};

use crate::harness::*;

/// Base64 of `user:pass`.
const AUTHORIZATION: &str = "Basic dXNlcjpwYXNz";

/// A server with TLS for names that exist nowhere but behind a proxy.
struct Elsewhere {
    proxy: TunnelProxy,
    _front: TlsFront,
    folder: TempDir,
}

impl Elsewhere {
    /// Each name is a host with a port.
    async fn named(names: &[&str], server: std::net::SocketAddr) -> Self {
        let authority = Authority::new().unwrap();
        let hosts: Vec<_> = names.iter().map(|name| name.split(':').next().unwrap()).collect();
        let certificate = authority.issue_for(&hosts).unwrap();
        let front = TlsFront::start(&certificate, server).await.unwrap();
        let names: Vec<_> = names.iter().map(|name| (*name, front.address())).collect();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), &authority.certificate).unwrap();
        Self {
            proxy: TunnelProxy::start(&names).await.unwrap(),
            _front: front,
            folder,
        }
    }

    fn ca_file(&self) -> String {
        self.folder.path().join("ca.pem").display().to_string()
    }

    fn proxy_url(&self) -> String {
        self.proxy.url_as("user", "pass")
    }
}

fn tunnel_to(target: &str) -> TunnelRequest {
    TunnelRequest {
        target: target.to_owned(),
        authorization: Some(AUTHORIZATION.to_owned()),
    }
}

#[tokio::test]
async fn events_for_a_service_elsewhere_take_the_proxy() {
    let peers = Peers::start().await;
    let proxy = format!("http://user:pass@{}", peers.recipient.address());
    let service = [
        ("PUBSUB_RECIPIENT", "service.test"),
        ("PUBSUB_RECIPIENT_PORT", "8080"),
        ("PUBSUB_RECIPIENT_PATH", "/events"),
        ("HTTP_PROXY", proxy.as_str()),
    ];
    let _process = peers.process(&[&[ALL_TOPICS], &service[..]].concat()).await;
    peers.publish(&event("proxied")).await;
    assert_eq!(peers.delivered_ids(1).await, ["proxied"]);
    let request = &peers.recipient.journal()[0];
    assert_eq!(request.path, "http://service.test:8080/events");
    assert_eq!(request.header("proxy-authorization"), Some(AUTHORIZATION));

    let others = Peers::start().await;
    let excepted = [&[ALL_TOPICS, ("NO_PROXY", ".test")], &service[..]].concat();
    let process = others.process(&excepted).await;
    others.publish(&event("not-proxied")).await;
    process.wait_for_log("the service is not ready", SOON).await.unwrap();
    assert_eq!(peers.recipient.n_received(), 1);
}

#[tokio::test]
async fn events_wait_while_the_proxy_lets_nobody_through() {
    let peers = Peers::start().await;
    peers.recipient.respond_with(|_, _| Reply::status(407));
    let proxy = format!("http://{}", peers.recipient.address());
    let variables = [ALL_TOPICS, ("PUBSUB_RECIPIENT", "service.test"), ("HTTP_PROXY", &proxy)];
    let process = peers.process(&variables).await;
    peers.publish(&event("held-back")).await;
    let line = process.wait_for_log("the service is not ready", SOON).await.unwrap();
    assert!(line.contains("HTTP_PROXY") && line.contains("407"), "{line}");
    peers.recipient.respond_with(|_, _| Reply::status(200));
    peers.recipient.wait_until_accepted(1, SOON).await.unwrap();
    assert_eq!(lines_with(&process, "dead letter"), [""; 0]);
}

#[tokio::test]
async fn events_for_a_service_on_this_machine_take_none() {
    let proxy = Recipient::start().await.unwrap();
    let proxy_url = format!("http://{}", proxy.address());
    for host in ["localhost", "127.0.0.1"] {
        let peers = Peers::start().await;
        let variables = [ALL_TOPICS, ("PUBSUB_RECIPIENT", host), ("HTTP_PROXY", &proxy_url)];
        let _process = peers.process(&variables).await;
        peers.publish(&event(host)).await;
        assert_eq!(peers.delivered_ids(1).await, [host]);
    }
    assert_eq!(proxy.n_received(), 0);
}

#[tokio::test]
async fn events_for_a_service_with_tls_take_a_tunnel() {
    let peers = Peers::start().await;
    let elsewhere = Elsewhere::named(&["service.test:8443"], peers.recipient.address()).await;
    let (proxy, ca) = (elsewhere.proxy_url(), elsewhere.ca_file());
    let _process = peers
        .process(&[
            ALL_TOPICS,
            ("PUBSUB_RECIPIENT", "https://service.test"),
            ("PUBSUB_RECIPIENT_PORT", "8443"),
            ("HTTPS_PROXY", &proxy),
            ("SSL_CERT_FILE", &ca),
        ])
        .await;
    peers.publish(&event("tunnelled")).await;
    assert_eq!(peers.delivered_ids(1).await, ["tunnelled"]);
    assert_eq!(elsewhere.proxy.requests(), [tunnel_to("service.test:8443")]);
    let request = &peers.recipient.journal()[0];
    assert_eq!(request.header("proxy-authorization"), None, "it is for the proxy only");
}

#[tokio::test]
async fn tokens_and_calls_take_a_tunnel_each_unless_they_are_excepted() {
    let control_plane = ControlPlane::start().await.unwrap();
    control_plane.require_oauth("id", "secret", Duration::from_mins(10));
    control_plane.open_event(&event("polled"));
    let recipient = Recipient::start().await.unwrap();
    let names = ["keptn.test:443", "identity.test:443"];
    let elsewhere = Elsewhere::named(&names, control_plane.address()).await;
    let (proxy, ca, port) = (elsewhere.proxy_url(), elsewhere.ca_file(), recipient.port().to_string());
    let variables = [
        ("KEPTN_API_ENDPOINT", "https://keptn.test/api"),
        ("OAUTH_CLIENT_ID", "id"),
        ("OAUTH_CLIENT_SECRET", "secret"),
        ("OAUTH_SCOPES", "a"),
        ("OAUTH_TOKEN_URL", "https://identity.test/token"),
        ("PUBSUB_TOPIC", TASK_TRIGGERED),
        ("PUBSUB_RECIPIENT_PORT", &port),
        ("HTTPS_PROXY", &proxy),
        ("SSL_CERT_FILE", &ca),
    ];
    let excepted = [&variables[..], &[("NO_PROXY", "identity.test")]].concat();
    let process = start_process(&excepted);
    let failed = process.wait_for_log("cannot poll the control plane", SOON).await;
    assert!(failed.unwrap().contains("identity.test"));
    assert_eq!(elsewhere.proxy.requests(), [], "no token, no call");
    drop(process);

    let _process = start_process(&variables);
    let delivered = recipient.wait_for(1, SOON).await.unwrap();
    assert_eq!(event_id(&delivered[0]), "polled");
    let tunnels = elsewhere.proxy.requests();
    assert_eq!(
        tunnels[..2],
        [tunnel_to("identity.test:443"), tunnel_to("keptn.test:443")]
    );
}
