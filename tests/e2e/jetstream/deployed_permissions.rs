//! The permissions in `deploy/nats/permissions.conf` are those that a distributor needs: it works with them, and it uses
//! each.
//!
//! The server writes down what every connection does. So it is seen both what was refused and what was never used.

use std::collections::BTreeSet;
use std::path::Path;

use distributor::subject::Subject;
use test_support::{NatsServer, NatsVersion, Reply, eventually, http_request};

use super::rig::{IN_TIME, Rig};
use crate::harness::TASK_TRIGGERED;

const PERMISSIONS: &str = include_str!("../../../deploy/nats/permissions.conf");
/// In front of the users of that file.
const USERS: &str = "users = [";

/// What a distributor has done: verb and subject.
type Uses = BTreeSet<(String, String)>;

#[tokio::test]
async fn a_distributor_uses_each_of_the_permissions_that_it_is_given_and_needs_no_other() {
    for version in NatsVersion::ALL {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("nats.log");
        let rig = Rig::start_with(
            NatsServer::builder()
                .version(version)
                .config_lines(&configuration(&log)),
        )
        .await;
        let url = rig.nats.url_as("my-service", "secret");
        everything_a_distributor_does(&rig, &url).await;

        let log = std::fs::read_to_string(&log).unwrap();
        let refused: Vec<_> = log.lines().filter(|line| line.contains("Violation")).collect();
        assert!(refused.is_empty(), "{version:?}: {refused:#?}");
        let used = uses(&log);
        for (verb, subjects) in [("PUB", allowed("publish")), ("SUB", allowed("subscribe"))] {
            for subject in subjects {
                let allowed = Subject::pattern(&subject).unwrap();
                // A request to make a consumer has the filter in its subject, wildcards and all.
                let covers = |used: &str| Subject::pattern(used).is_ok_and(|used| allowed.covers(&used));
                let is_used = used.iter().any(|(used_verb, used)| used_verb == verb && covers(used));
                assert!(is_used, "{version:?}: {verb} {subject} is not needed: {used:#?}");
            }
        }
    }
}

#[test]
fn the_log_of_the_server_is_read() {
    let log = "[1] [TRC] 127.0.0.1:1 - cid:5 - <<- [CONNECT {\"user\":\"my-service\"}]\n\
               [1] [TRC] 127.0.0.1:1 - cid:5 - \"v1:rust\" - <<- [PUB a.b _INBOX.x 3]\n\
               [1] [TRC] 127.0.0.1:1 - cid:5 - <<- [HPUB c 3 4]\n\
               [1] [TRC] 127.0.0.1:1 - cid:5 - <<- [SUB d.> q 1]\n\
               [1] [TRC] 127.0.0.1:2 - cid:50 - <<- [PUB other 1]\n";
    let expected = [("PUB", "a.b"), ("PUB", "c"), ("SUB", "d.>")];
    assert_eq!(
        uses(log),
        expected
            .map(|(verb, subject)| (verb.to_owned(), subject.to_owned()))
            .into()
    );
}

async fn everything_a_distributor_does(rig: &Rig, url: &str) {
    let mut core = rig.starting_process(&[("PUBSUB_URL", url), ("DELIVERY_MODE", "core")]);
    core.wait_for_log("received over core NATS", IN_TIME).await.unwrap();
    let subscribed = async || {
        let clients = rig.nats.clients().await.unwrap_or_default();
        let subscriptions = clients.into_iter().flat_map(|client| client.subscriptions);
        subscriptions.into_iter().any(|(subject, _)| subject == "sh.keptn.>")
    };
    eventually(IN_TIME, subscribed).await.expect("a subscription");
    core.terminate().unwrap();
    core.wait_exit(IN_TIME).await.unwrap();

    let variables = [
        ("PUBSUB_URL", url),
        ("DELIVERY_RETRY", "0"),
        ("DELIVERY_RETRY_ON", "503"),
    ];
    let mut process = rig.process(&variables).await;
    rig.answer_keys(|key| key == "refused.0", 400);
    let published = rig.published("refused", 1, 1).await;
    let is_dead = async || rig.dead_letters().await.len() == published.len();
    eventually(IN_TIME, is_dead).await.expect("a dead letter");

    let event = format!(r#"{{"specversion":"1.0","id":"1","source":"s","type":"{TASK_TRIGGERED}"}}"#);
    let stored = http_request(process.proxy_address(), "POST", "/event", &[], event).await;
    assert_eq!(stored.unwrap().status, 200);
    let unstored = r#"{"specversion":"1.0","id":"1","source":"s","type":"sh.keptn.event"}"#;
    let confirmed = http_request(process.proxy_address(), "POST", "/event", &[], unstored).await;
    assert_eq!(confirmed.unwrap().status, 200);

    rig.recipient.respond_with(|_, _| Reply::status(200));
    let (exit_code, _, stderr) = rig.dead_letter(&["redrive", "--all"], &[("PUBSUB_URL", url)]).await;
    assert_eq!(exit_code, 0, "{stderr}");
    let left = rig.dead_letters().await;
    assert!(left.is_empty(), "{left:?}");

    process.terminate().unwrap();
    process.wait_exit(IN_TIME).await.unwrap();
}

/// The file as it is, with one more user, for the test, and with a log of everything.
fn configuration(log: &Path) -> String {
    assert_eq!(PERMISSIONS.matches(USERS).count(), 1);
    let permissions = PERMISSIONS.replace(USERS, "users = [ { user = admin, password = admin }\n");
    format!(
        "MY_SERVICE_PASSWORD = secret\n{permissions}\nno_auth_user = admin\ntrace = true\nlog_file = '{}'\n",
        log.display()
    )
}

/// The subjects that the file allows to publish or to subscribe to.
fn allowed(what: &str) -> Vec<String> {
    let section = PERMISSIONS
        .split(&format!("    {what} = {{"))
        .nth(1)
        .unwrap_or_default();
    let list = section.split(']').next().unwrap_or_default();
    let lines = list.lines().map(str::trim);
    let subjects: Vec<_> = lines
        .filter_map(|line| line.strip_prefix('"')?.strip_suffix('"'))
        .map(str::to_owned)
        .collect();
    assert!(subjects.len() > 1, "{what}: {subjects:?}");
    subjects
}

/// What connections of the user have published and subscribed to.
fn uses(log: &str) -> Uses {
    let (mut ours, mut uses) = (BTreeSet::new(), Uses::new());
    for line in log.lines() {
        let Some(connection) = line.split(" - ").find(|part| part.starts_with("cid:")) else {
            continue;
        };
        let Some((_, command)) = line.split_once("<<- [") else {
            continue;
        };
        let mut words = command.trim_end_matches(']').split_whitespace();
        match (words.next().unwrap_or_default(), words.next()) {
            ("CONNECT", _) if command.contains("\"user\":\"my-service\"") => {
                ours.insert(connection);
            }
            (verb @ ("PUB" | "HPUB" | "SUB"), Some(subject)) if ours.contains(connection) => {
                uses.insert((verb.trim_start_matches('H').to_owned(), subject.to_owned()));
            }
            _ => {}
        }
    }
    uses
}
