//! What these tests are written with: the real binary with its admin listener, and what it answers.

use std::net::SocketAddr;

use test_support::{DistributorProcess, HttpResponse, eventually, http_request};

use crate::harness::*;

/// Listeners that tools of operators use, on free ports.
pub(super) const LISTENERS: [(&str, &str); 2] = [("ADMIN_BIND", "127.0.0.1:0"), ("CONTROL_BIND", "127.0.0.1:0")];

pub(super) async fn get(address: SocketAddr, path: &str) -> HttpResponse {
    let response = http_request(address, "GET", path, &[], "").await;
    response.unwrap_or_else(|error| panic!("GET {path}: {error:#}"))
}

pub(super) fn text(response: &HttpResponse) -> String {
    String::from_utf8(response.body.to_vec()).unwrap()
}

/// Where the admin listener of a process is.
pub(super) async fn admin_of(process: &DistributorProcess) -> SocketAddr {
    process.admin_address(SOON).await.unwrap()
}

/// Waits until a probe is answered like this, and returns all checks.
pub(super) async fn wait_for_probe(admin: SocketAddr, path: &str, status: u16, part: &str) -> String {
    let path = format!("{path}?verbose");
    let mut last = String::new();
    let result = eventually(SOON, async || {
        let response = get(admin, &path).await;
        last = format!("{} {}", response.status, text(&response));
        response.status == status && last.contains(part)
    });
    result
        .await
        .unwrap_or_else(|_| panic!("{path} was to answer {status} with {part:?}: {last}"));
    last
}
