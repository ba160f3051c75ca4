//! What an account of NATS must be allowed, and what happens when it is not.

use test_support::{NatsServer, NatsVersion, eventually};

use super::rig::{IN_TIME, Rig};
use crate::harness::lines_with;

/// Users for the server's configuration: one for the tests, and `plain` for the distributor.
fn users(permissions: &str) -> String {
    format!(
        "authorization {{ users: [\n\
         {{ user: admin, password: admin }}\n\
         {{ user: plain, password: plain, permissions: {{ {permissions} }} }}\n\
         ] }}\n\
         no_auth_user: admin"
    )
}

/// All that receiving from the stream `keptn` with the durable consumer `my-service` takes.
const LEAST: &str = r#"
    publish: { allow: [
        "$JS.API.STREAM.NAMES"
        "$JS.API.STREAM.INFO.keptn"
        "$JS.API.CONSUMER.INFO.keptn.my-service"
        "$JS.API.CONSUMER.CREATE.keptn.my-service"
        "$JS.API.CONSUMER.CREATE.keptn.my-service.>"
        "$JS.API.CONSUMER.MSG.NEXT.keptn.my-service"
        "$JS.ACK.keptn.my-service.>"
        "_INBOX.>"
    ] }
    subscribe: { allow: ["_INBOX.>"] }
"#;

#[tokio::test]
async fn these_permissions_are_enough_for_a_stream() {
    for version in NatsVersion::ALL {
        let builder = NatsServer::builder().version(version).config_lines(&users(LEAST));
        let mut rig = Rig::start_with(builder).await;
        let url = rig.nats.url_as("plain", "plain");
        for topics in [
            "sh.keptn.>",
            "sh.keptn.event.task.triggered,sh.keptn.event.other.triggered",
        ] {
            let variables = [
                ("PUBSUB_URL", url.as_str()),
                ("PUBSUB_TOPIC", topics),
                ("JETSTREAM_DURABLE", "my-service"),
                ("DEAD_LETTER", "log"),
            ];
            let mut process = rig.process(&variables).await;
            let mut published = rig.published(topics, 5, 50).await;
            let n_before = rig.recipient.n_accepted();
            rig.nats.restart().await.unwrap();
            published.extend(rig.published(&format!("{topics}-after"), 5, 50).await);
            assert!(n_before <= 150);
            let is_complete = async || rig.verdict(&published).lost.is_empty();
            eventually(IN_TIME, is_complete).await.unwrap();
            rig.acknowledged().await;
            process.terminate().unwrap();
            process.wait_exit(IN_TIME).await.unwrap();
            assert!(
                lines_with(&process, "refused").is_empty() && lines_with(&process, "violation").is_empty(),
                "{version:?}: {:?}",
                process.output().lines()
            );
        }
        let each_once = rig.recipient.deliveries().len();
        assert_eq!(each_once, 200);
    }
}

#[tokio::test]
async fn an_account_without_jetstream_gets_its_events_over_core_nats_and_is_told_why() {
    for version in NatsVersion::ALL {
        let lines = users("publish: { deny: [\"$JS.API.>\"] }");
        let builder = NatsServer::builder().version(version).config_lines(&lines);
        let rig = Rig::start_with(builder).await;
        let url = rig.nats.url_as("plain", "plain");
        let process = rig.starting_process(&[("PUBSUB_URL", &url)]);
        let line = process.wait_for_log("received over core NATS", IN_TIME).await.unwrap();
        assert!(line.contains("this account may not publish to $JS.API"), "{line}");
        let listens = async || {
            let clients = rig.nats.clients().await.unwrap_or_default();
            let distributor = clients.iter().find(|client| client.name == "distributor");
            distributor.is_some_and(|client| client.subscriptions.iter().any(|(subject, _)| subject == "sh.keptn.>"))
        };
        eventually(IN_TIME, listens).await.unwrap();
        let published = rig.published("e", 5, 50).await;
        rig.recipient.wait_until_accepted(50, IN_TIME).await.unwrap();
        assert!(rig.verdict(&published).is_perfect(), "{version:?}");
        assert_eq!(rig.consumers().await.len(), 0);
        assert_eq!(
            lines_with(&process, "may not publish").len(),
            1,
            "{version:?}: said once"
        );
    }
}

#[tokio::test]
async fn permissions_that_come_later_move_the_topic_to_the_stream() {
    let denied = users("publish: { deny: [\"$JS.API.>\"] }");
    let mut rig = Rig::start_with(NatsServer::builder().config_lines(&denied)).await;
    let url = rig.nats.url_as("plain", "plain");
    let process = rig.starting_process(&[("PUBSUB_URL", &url)]);
    process.wait_for_log("received over core NATS", IN_TIME).await.unwrap();
    let granted = users("publish: { allow: [\">\"] }");
    rig.nats
        .reload_with(|settings| settings.config_lines(&granted))
        .await
        .unwrap();
    process
        .wait_for_log("created the durable consumer", IN_TIME)
        .await
        .unwrap();
    let published = rig.published("e", 5, 50).await;
    let verdict = rig.everything_settled(&published).await;
    assert!(verdict.is_perfect(), "{verdict}");
}
