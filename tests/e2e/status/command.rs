//! `distributor status`.

use std::path::Path;

use test_support::{DistributorProcess, OutputTo, Reply};

use super::Site;
use crate::harness::*;

#[tokio::test]
async fn the_terminal_shows_what_is_stuck_and_why() {
    let mut site = Site::start(&[]).await;
    let address = site.control.to_string();
    let environment = [("CONTROL_BIND", address.as_str())];
    let (exit_code, stdout, stderr) = run_to_end(&["status"], &environment).await;
    assert_eq!((exit_code, stderr.as_str()), (0, ""));
    assert!(
        stdout.starts_with("OK         Ready: no event has come yet"),
        "{stdout}"
    );
    assert!(
        stdout.contains("keptn-filter") && stdout.contains("sh.keptn.> from the stream keptn"),
        "{stdout}"
    );

    let (exit_code, stdout, _) = run_to_end(&["status", "--json"], &environment).await;
    assert_eq!(exit_code, 0);
    assert_eq!(json(stdout.as_bytes())["integration"], super::INTEGRATION);

    site.peers.recipient.stop().await;
    site.peers.publish(&event("e")).await;
    site.wait_for("/status", |status| !status["held_back"].is_null()).await;
    let (exit_code, stdout, _) = run_to_end(&["status"], &environment).await;
    assert_eq!(exit_code, 2);
    assert!(
        stdout.starts_with("STUCK      Held back: the service at http://127.0.0.1:"),
        "{stdout}"
    );
    site.peers.recipient.start_again().await.unwrap();
    site.peers.recipient.respond_with(|_, _| Reply::status(200));
}

#[tokio::test]
async fn without_an_answer_it_says_what_to_look_at() {
    let check = async |environment: &[(&str, &str)], expected: &str| {
        let (exit_code, _, stderr) = run_to_end(&["status"], environment).await;
        assert_eq!(exit_code, 1);
        assert!(stderr.contains(expected), "{stderr}");
    };
    check(&[("CONTROL_BIND", "off")], "CONTROL_BIND is off").await;
    check(&[("CONTROL_BIND", "127.0.0.1:0")], "which port").await;
    check(
        &[("CONTROL_BIND", "127.0.0.1:1")],
        "no distributor answers at 127.0.0.1:1",
    )
    .await;
    let site = Site::start(&[("CONTROL_TOKEN", "hunter2")]).await;
    let address = site.control.to_string();
    let (exit_code, _, stderr) =
        run_to_end(&["status"], &[("CONTROL_BIND", &address), ("CONTROL_TOKEN", "wrong")]).await;
    assert_eq!(exit_code, 1);
    assert!(stderr.contains("401") && !stderr.contains("hunter2"), "{stderr}");
    let right = [("CONTROL_BIND", address.as_str()), ("CONTROL_TOKEN", "hunter2")];
    assert_eq!(run_to_end(&["status"], &right).await.0, 0);
}

#[tokio::test]
async fn it_looks_again_until_it_is_interrupted() {
    let site = Site::start(&[]).await;
    let address = site.control.to_string();
    let arguments = ["status", "--watch", "--json"];
    let watching = DistributorProcess::start_with(
        Path::new(BINARY),
        &arguments,
        &[("CONTROL_BIND", &address)],
        OutputTo::Memory,
    );
    let mut watching = watching.unwrap();
    watching.wait_for_log("no event has come yet", SOON).await.unwrap();
    site.peers.publish(&event("e")).await;
    watching.wait_for_log("Delivering to", SOON).await.unwrap();
    assert!(
        watching
            .output()
            .lines()
            .iter()
            .all(|line| json(line.text.as_bytes())["findings"].is_array())
    );
    watching.kill().await.unwrap();
}
