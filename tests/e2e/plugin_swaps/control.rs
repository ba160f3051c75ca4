//! The control listener of the real binary.

use test_support::http_request;

use super::rig::{post_to, status};
use crate::harness::*;

#[tokio::test]
async fn it_answers_whoever_is_allowed_and_nobody_else() {
    let peers = Peers::start().await;
    let process = peers.process(&[("CONTROL_BIND", "127.0.0.1:0")]).await;
    let control = process.control_address(SOON).await.unwrap();

    assert_eq!(status(control).await["origin"]["kind"], "built-in");
    let (refused, detail) = problem(&post_to(control, "/plugins/reload").await);
    assert_eq!(refused, 409);
    assert!(detail.contains("PLUGINS_DIR is not set"), "{detail}");

    let status_of = async |method: &str, path: &str, headers: &[(&str, &str)]| {
        let answer = http_request(control, method, path, headers, "").await.unwrap();
        problem(&answer).0
    };
    assert_eq!(status_of("POST", "/plugins/reload", &[]).await, 403);
    assert_eq!(status_of("GET", "/plugins", &[("host", "evil.example")]).await, 403);
    assert_eq!(
        status_of("GET", "/plugins", &[("origin", "https://evil.example")]).await,
        403
    );
    assert_eq!(status_of("GET", "/elsewhere", &[]).await, 404);
    assert_eq!(status_of("GET", "/plugins/reload", &[]).await, 405);
}

#[tokio::test]
async fn others_need_the_token() {
    let peers = Peers::start().await;
    let unprotected = [("CONTROL_BIND", "0.0.0.0:0")];
    let (exit_code, _, stderr) = run_to_end(&["run"], &unprotected).await;
    assert_eq!(exit_code, 64);
    assert!(
        stderr.contains("CONTROL_BIND") && stderr.contains("CONTROL_TOKEN"),
        "{stderr}"
    );

    let file = PluginFolder::new().file("token", "hunter2\n");
    let path = format!("{}/token", file.path());
    let variables = [("CONTROL_BIND", "127.0.0.1:0"), ("CONTROL_TOKEN_FILE", path.as_str())];
    let process = peers.process(&variables).await;
    let control = process.control_address(SOON).await.unwrap();
    let status = async |token: &str| {
        let headers = [("authorization", token)];
        http_request(control, "GET", "/plugins", &headers, "")
            .await
            .unwrap()
            .status
    };
    assert_eq!(status("Bearer hunter2").await, 200);
    assert_eq!(status("Bearer hunter3").await, 401);
    assert!(lines_with(&process, "hunter").is_empty());
}

#[tokio::test]
async fn a_port_that_is_taken_ends_the_start_only_where_somebody_asked_for_it() {
    let peers = Peers::start().await;
    // If this fails, another program has it.
    let _taken = std::net::TcpListener::bind("127.0.0.1:8092");
    let process = peers.process(&[("CONTROL_BIND", "127.0.0.1:8092")]).await;
    process
        .wait_for_log("there is no control listener", SOON)
        .await
        .unwrap();

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (exit_code, _, stderr) = run_to_end(&["run"], &[("CONTROL_BIND", &address)]).await;
    assert_eq!(exit_code, 1);
    assert!(stderr.contains(&address) && stderr.contains("CONTROL_BIND"), "{stderr}");
}
