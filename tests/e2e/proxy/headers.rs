//! What goes through in the heads of requests and answers, and what does not.

use super::rig::{Answer, Rig, Upstream, start_distributor};

fn owned(headers: &[(&str, &str)]) -> Vec<(String, String)> {
    let headers = headers.iter();
    headers
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

#[tokio::test]
async fn what_concerns_one_connection_stays_there() {
    let rig = Rig::start(|_| {
        Answer::text(
            "HTTP/1.1 203 Fine\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=9\r\n\
             Proxy-Authenticate: Basic\r\nSet-Cookie: a=1\r\nX-Own: 1\r\nSet-Cookie: b=2\r\n\
             Date: Sun, 22 Nov 2026 14:48:02 GMT\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x01",
        )
    })
    .await;

    let answer = rig
        .ask(
            "GET /controlPlane/v1 HTTP/1.1\r\nHost: localhost:8081\r\nUser-Agent: me\r\nConnection: X-Hop, keep-alive\r\n\
             X-Hop: 1\r\nTE: trailers\r\nUpgrade: websocket\r\nProxy-Connection: keep-alive\r\nCookie: a=1\r\n\
             X-Own: 1\r\nX-Own: 2\r\n\r\n",
        )
        .await;

    assert_eq!(answer.status(), 203);
    assert_eq!(answer.body, b"\x1f\x01", "compressed bodies are passed on as they are");
    let mut headers = answer.headers;
    headers.sort();
    let expected = [
        ("content-encoding", "gzip"),
        ("content-length", "2"),
        ("date", "Sun, 22 Nov 2026 14:48:02 GMT"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("x-own", "1"),
    ];
    assert_eq!(headers, owned(&expected));

    let mut headers = rig.upstream.journal().requests.remove(0).headers;
    headers.sort();
    let expected = [
        ("cookie", "a=1"),
        ("host", "shipyard-controller:8080"),
        ("user-agent", "me"),
        ("x-own", "1"),
        ("x-own", "2"),
        ("x-token", "t"),
    ];
    assert_eq!(headers, owned(&expected));
}

const OWN_ACCESS: &str =
    "GET /resource-service/v1 HTTP/1.1\r\nHost: h\r\nX-Token: own\r\nx-token: other\r\nAuthorization: own\r\n\r\n";

#[tokio::test]
async fn our_token_replaces_the_one_of_the_client() {
    let rig = Rig::start(|_| Answer::ok("")).await;
    assert_eq!(rig.ask(OWN_ACCESS).await.status(), 200);
    let request = rig.upstream.journal().requests.remove(0);
    assert_eq!(request.header("x-token"), ["t"]);
    assert_eq!(request.header("authorization"), ["own"]);
}

#[tokio::test]
async fn without_a_token_the_one_of_the_client_is_kept() {
    let rig = Rig::start_with(&[("KEPTN_API_TOKEN", "")], |_| Answer::ok("")).await;
    assert_eq!(rig.ask(OWN_ACCESS).await.status(), 200);
    let request = rig.upstream.journal().requests.remove(0);
    assert_eq!(request.header("x-token"), ["own", "other"]);
    assert_eq!(request.header("authorization"), ["own"]);
}

#[tokio::test]
async fn a_redirect_is_passed_on_and_the_token_stays_here() {
    let other = Upstream::start(|_| Answer::ok("")).await;
    let location = format!("{}/elsewhere", other.url());
    for status in [301, 302, 303, 307, 308] {
        let answer = format!("HTTP/1.1 {status} X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
        let rig = Rig::start(move |_| Answer::text(answer.clone())).await;
        for method in ["GET", "POST"] {
            let request = format!("{method} /controlPlane/v1 HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{{}}");
            let answer = rig.ask(&request).await;
            assert_eq!(answer.status(), status);
            assert_eq!(answer.header("location"), [location.as_str()]);
        }
        assert_eq!(rig.upstream.journal().requests.len(), 2);
    }
    assert_eq!(other.journal().n_connections, 0);
}

#[tokio::test]
async fn a_proxy_on_the_way_gets_its_password_and_can_be_left_out() {
    let upstream = Upstream::start(|_| Answer::ok("")).await;
    let with_password = upstream.url().replace("http://", "http://user:pass@");
    let variables = [
        ("HTTP_PROXY", with_password),
        ("NO_PROXY", "resource-service".to_owned()),
    ];
    let distributor = start_distributor(&variables).await;
    let rig = Rig { upstream, distributor };

    assert_eq!(rig.get("/controlPlane/v1/project").await.status(), 200);
    let request = rig.upstream.journal().requests.remove(0);
    assert_eq!(request.start, "GET http://shipyard-controller:8080/v1/project HTTP/1.1");
    assert_eq!(request.header("proxy-authorization"), ["Basic dXNlcjpwYXNz"]);

    let answer = rig.get("/resource-service/v1").await;
    assert_eq!(answer.status(), 502);
    assert!(answer.problem().contains("resource-service:8080 cannot be reached"));
    assert_eq!(rig.upstream.journal().requests.len(), 1);
}
