use http::Request;
use http_body_util::BodyExt;
use tower_service::Service;

use super::*;
use crate::config::ControlConfig;
use crate::secret::Secret;

/// The rules alone: a route that answers 200 to everything.
fn guarded(token: Option<&str>) -> Router {
    let config = ControlConfig {
        address: None,
        is_default: false,
        token: token.map(|token| Secret::fixed(token.to_owned())),
    };
    Router::new()
        .route("/", axum::routing::any(async || StatusCode::OK))
        .layer(from_fn_with_state(Access::new(&config), access::check))
}

async fn status(router: &mut Router, method: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let mut request = Request::builder().method(method).uri("/");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = router.call(request.body(Body::empty()).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn on_loopback_only_loopback_names_get_in() {
    let mut router = guarded(None);
    let hosts = [
        ("localhost:8092", 200),
        ("LOCALHOST", 200),
        ("127.0.0.1:8092", 200),
        ("127.1.2.3", 200),
        ("[::1]:8092", 200),
        ("evil.example:8092", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("10.0.0.1", 403),
        ("", 403),
    ];
    for (host, expected) in hosts {
        assert_eq!(
            status(&mut router, "GET", &[("host", host)]).await.0,
            expected,
            "{host:?}"
        );
    }
    assert_eq!(status(&mut router, "GET", &[]).await.0, 403);
}

#[tokio::test]
async fn pages_of_other_origins_are_kept_out() {
    let mut router = guarded(None);
    for (origin, expected) in [
        ("http://localhost:8092", 200),
        ("http://localhost:3000", 403),
        ("https://evil.example", 403),
        ("null", 403),
        ("", 403),
    ] {
        let headers = [("host", "localhost:8092"), ("origin", origin)];
        assert_eq!(status(&mut router, "GET", &headers).await.0, expected, "{origin:?}");
    }
}

#[tokio::test]
async fn a_change_needs_a_header_that_no_form_can_send() {
    let mut router = guarded(None);
    let host = ("host", "localhost");
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let (refused, detail) = status(&mut router, method, &[host]).await;
        assert_eq!(refused, 403);
        assert!(detail.contains("Distributor-Control: 1"), "{detail}");
        assert_eq!(
            status(&mut router, method, &[host, ("distributor-control", "1")])
                .await
                .0,
            200
        );
    }
}

#[tokio::test]
async fn with_a_token_nobody_gets_in_without_it() {
    let mut router = guarded(Some("hunter2"));
    let host = ("host", "pod.example:8092");
    for (authorization, expected) in [
        ("Bearer hunter2", 200),
        ("Bearer hunter", 401),
        ("Bearer ", 401),
        ("hunter2", 401),
        ("Basic hunter2", 401),
    ] {
        let headers = [host, ("authorization", authorization)];
        let (answer, detail) = status(&mut router, "GET", &headers).await;
        assert_eq!(answer, expected, "{authorization}");
        assert!(!detail.contains("hunter"), "{detail}");
    }
    assert_eq!(status(&mut router, "GET", &[("host", "localhost")]).await.0, 401);
}
