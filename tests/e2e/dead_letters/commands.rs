//! `list`, `show` and `purge`, and what they say when something is wrong.

use distributor::dead_letter::{DeadLetter, Reason};
use serde_json::json as value;
use test_support::NatsVersion;

use super::*;

/// Four that differ in all that can be chosen by.
fn assorted() -> [DeadLetter; 4] {
    [
        letter_in("ctx-a", "one"),
        DeadLetter {
            reason: Reason::PermanentStatus,
            status: Some(400),
            ..letter_in("ctx-a", "two")
        },
        DeadLetter {
            reason: Reason::Malformed,
            payload: "not \u{1b}[2Jjson\r\n".into(),
            event_id: String::new(),
            event_type: String::new(),
            keptn_context: String::new(),
            status: None,
            attempts: 0,
            first_attempt: None,
            last_attempt: None,
            error: "not JSON: at byte 0".to_owned(),
            message_id: None,
            ..letter("three")
        },
        DeadLetter {
            event_type: "sh.keptn.event.deployment.triggered".to_owned(),
            ..letter_in("ctx-b", "four")
        },
    ]
}

#[tokio::test]
async fn dead_letters_are_listed_the_newest_last_and_summed_up() {
    let site = Site::start().await;
    site.store(assorted()).await;

    let (exit_code, stdout, stderr) = site.run(&["list"]).await;
    assert_eq!(exit_code, 0, "{stderr}");
    let lines: Vec<_> = stdout.lines().collect();
    assert_eq!(lines.len(), 5, "{stdout}");
    assert!(lines[0].starts_with("SEQUENCE  TIME"), "{stdout}");
    let columns: Vec<_> = lines[1].split_whitespace().collect();
    assert_eq!(columns[0], "1");
    assert_eq!(
        columns[2..8],
        ["retries_exhausted", "503", "11", TASK_TRIGGERED, "one", "ctx-a"]
    );
    assert!(lines[1].ends_with("  answered 503 Service Unavailable"), "{stdout}");
    assert!(lines[3].contains("malformed") && lines[4].contains("four"), "{stdout}");
    assert!(
        stderr.contains("4 dead letters: 2 retries_exhausted, 1 permanent_status, 1 malformed"),
        "{stderr}"
    );
}

#[tokio::test]
async fn every_condition_chooses_and_several_have_to_be_met_together() {
    let site = Site::start().await;
    site.store(assorted()).await;
    let other = site.letters_of("other-service", &[]).await;
    other.store(&letter("elsewhere")).await.unwrap();

    let check = async |arguments: &[&str], expected: &[&str]| {
        assert_eq!(site.listed_ids(arguments).await, expected, "{arguments:?}");
    };
    check(&[], &["one", "two", "", "four"]).await;
    check(&["--reason", "malformed"], &[""]).await;
    check(&["--reason", "malformed", "--reason", "permanent_status"], &["two", ""]).await;
    check(&["--type", TASK_TRIGGERED], &["one", "two"]).await;
    check(&["--type", "sh.keptn.event.*.triggered"], &["one", "two", "four"]).await;
    check(&["--type", "sh.>", "--context", "ctx-a"], &["one", "two"]).await;
    check(&["--event-id", "four"], &["four"]).await;
    check(
        &["--sequence", "4", "--sequence", "2", "--sequence", "99"],
        &["two", "four"],
    )
    .await;
    check(&["--sequence", "5"], &[]).await;
    check(&["--context", "ctx-a", "--reason", "malformed"], &[]).await;
    check(&["--since", "1h"], &["one", "two", "", "four"]).await;
    check(&["--until", "1h"], &[]).await;
    check(
        &["--since", "2026-01-01T00:00:00Z", "--until", "2026-01-02T00:00:00Z"],
        &[],
    )
    .await;
    check(&["--limit", "2"], &["", "four"]).await;
    check(&["--integration", "other-service"], &["elsewhere"]).await;
    check(&["--integration", "all"], &["one", "two", "", "four", "elsewhere"]).await;
}

#[tokio::test]
async fn there_may_be_more_than_fit_on_a_page() {
    for version in NatsVersion::ALL {
        let nats = NatsServer::builder()
            .version(version)
            .jetstream(true)
            .start()
            .await
            .unwrap();
        let site = Site::with(nats).await;
        let ids: Vec<_> = (0..600).map(|number| format!("n-{number}")).collect();
        site.store(ids.iter().map(|id| letter(id))).await;
        site.done(&["purge", "--sequence", "300", "--yes"]).await;
        let left: Vec<_> = ids.iter().filter(|id| *id != "n-299").cloned().collect();
        assert_same(&site.listed_ids(&[]).await, &left);
        site.done(&["purge", "--all", "--yes"]).await;
        assert_eq!(site.n_stored().await, 0);
    }
}

#[tokio::test]
async fn as_json_everything_is_there_but_the_event() {
    let site = Site::start().await;
    let stored = DeadLetter {
        subscription_id: Some("sub 1".to_owned()),
        plugin: Some("reshape".to_owned()),
        is_child: true,
        emission: 2,
        generation: 7,
        ..letter("one")
    };
    let bytes = stored.payload.len();
    site.store([stored]).await;

    let [mut entry] = site.listed(&[]).await.try_into().unwrap();
    assert!(entry["stored"].take().as_str().unwrap().ends_with('Z'));
    let expected = value!({
        "sequence": 1, "stored": null, "integration": INTEGRATION, "reason": "retries_exhausted", "status": 503,
        "error": "answered 503 Service Unavailable", "attempts": 11, "first_attempt": "2026-09-21T14:13:20.123Z",
        "last_attempt": "2026-09-21T14:14:20.123Z", "event_id": "one", "event_type": TASK_TRIGGERED,
        "keptn_context": "ctx", "subject": TASK_TRIGGERED, "subscription_id": "sub 1", "stream": "keptn",
        "stream_sequence": 4711, "plugin": "reshape", "generation": 7, "emission": 2, "child": true,
        "message_id": "my-service:one::0", "bytes": bytes,
    });
    assert_eq!(entry, expected);
}

#[tokio::test]
async fn one_is_shown_for_people_for_programs_and_byte_by_byte() {
    let site = Site::start().await;
    let binary = DeadLetter {
        payload: b"\xff\x00\x01".as_slice().into(),
        ..letter("binary")
    };
    site.store(assorted().into_iter().chain([binary])).await;
    let event = event_in("ctx-a", "one").to_bytes();

    let shown = site.done(&["show", "1"]).await;
    for expected in [
        "reason           retries_exhausted",
        "stream sequence  4711",
        "\n  \"id\": \"one\",\n",
    ] {
        assert!(shown.contains(expected), "{expected:?} in {shown}");
    }
    let payload = site.done(&["show", "1", "--payload"]).await;
    assert_eq!(payload.trim_end().as_bytes(), event);
    let shown = json(site.done(&["show", "1", "--json"]).await.as_bytes());
    assert_eq!(shown["payload"].as_str().unwrap().as_bytes(), event);
    let shown = json(site.done(&["show", "5", "--json"]).await.as_bytes());
    assert_eq!(
        (&shown["payload"], &shown["payload_base64"]),
        (&value!(null), &value!("/wAB"))
    );

    let shown = site.done(&["show", "3"]).await;
    assert!(shown.contains("not  [2Jjson") && !shown.contains('\u{1b}'), "{shown:?}");

    let (exit_code, _, stderr) = site.run(&["show", "99"]).await;
    assert_eq!((exit_code, stderr.as_str()), (1, "error: there is no dead letter 99\n"));
}

#[tokio::test]
async fn purge_deletes_what_is_chosen_and_nothing_without_being_sure() {
    let site = Site::start().await;
    site.store(assorted()).await;

    let (exit_code, _, stderr) = site.run(&["purge", "--yes"]).await;
    assert_eq!(exit_code, 64, "{stderr}");
    assert!(stderr.contains("--all"), "{stderr}");
    let (exit_code, _, stderr) = site.run(&["purge", "--all"]).await;
    assert_eq!(exit_code, 64, "nobody can answer: {stderr}");
    assert!(stderr.contains("--yes"), "{stderr}");
    let (_, stdout, stderr) = site.run(&["purge", "--all", "--dry-run"]).await;
    assert_eq!((stdout.lines().count(), site.n_stored().await), (5, 4), "{stdout}");
    assert!(stderr.contains("nothing was changed"), "{stderr}");

    site.done(&["purge", "--context", "ctx-a", "--limit", "1", "--yes"])
        .await;
    assert_eq!(site.listed_ids(&[]).await, ["two", "", "four"]);
    site.done(&["purge", "--reason", "malformed", "--yes"]).await;
    assert_eq!(site.listed_ids(&[]).await, ["two", "four"]);
    let other = site.letters_of("other-service", &[]).await;
    other.store(&letter("elsewhere")).await.unwrap();
    let (exit_code, _, stderr) = site.run(&["purge", "--all", "--yes"]).await;
    assert_eq!(exit_code, 0);
    assert!(stderr.contains("deleted 2 of 2 dead letters"), "{stderr}");
    assert_eq!(site.listed_ids(&["--integration", "all"]).await, ["elsewhere"]);
}

#[tokio::test]
async fn where_there_is_nothing_the_commands_say_so_and_say_why() {
    let site = Site::start().await;
    for arguments in [&["list"][..], &["redrive", "--all"], &["purge", "--all", "--yes"]] {
        let (exit_code, stdout, stderr) = site.run(arguments).await;
        let expected = "there are no dead letters: the stream DISTRIBUTOR_DLQ does not exist\n";
        assert_eq!(
            (exit_code, stdout.as_str(), stderr.as_str()),
            (0, "", expected),
            "{arguments:?}"
        );
    }
    assert_eq!(site.run(&["show", "1"]).await.0, 1);

    let other = site.letters_of("other-service", &[]).await;
    other.store(&letter("elsewhere")).await.unwrap();
    let (exit_code, stdout, stderr) = site.run(&["list"]).await;
    assert_eq!((exit_code, stdout.as_str()), (0, ""));
    assert!(
        stderr.contains("of integration my-service")
            && stderr.contains("1 in all")
            && stderr.contains("--integration all"),
        "{stderr}"
    );

    let (exit_code, _, stderr) = site.run_with(&["list"], &[("DEAD_LETTER", "log")]).await;
    assert_eq!(exit_code, 1);
    assert!(stderr.contains("DEAD_LETTER=log"), "{stderr}");

    let without_jetstream = Site::with(NatsServer::start().await.unwrap()).await;
    let (exit_code, _, stderr) = without_jetstream.run(&["list"]).await;
    assert_eq!(exit_code, 1);
    assert!(stderr.contains("JetStream is not available"), "{stderr}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let nowhere = [("PUBSUB_URL", "nats://user:hunter2@127.0.0.1:1,127.0.0.1:2")];
    let (exit_code, stdout, stderr) = run_to_end(&["dead-letter", "list"], &nowhere).await;
    assert_eq!((exit_code, stdout.as_str()), (1, ""));
    assert!(
        stderr.contains("cannot connect to NATS within 5s (PUBSUB_URL: 127.0.0.1:1, 127.0.0.1:2)"),
        "{stderr}"
    );
    assert!(!stderr.contains("hunter2"), "{stderr}");
}

#[tokio::test]
async fn mistakes_end_with_64_and_help_has_an_example() {
    let check = async |arguments: &[&str], variables: &[(&str, &str)], expected: &str| {
        let (exit_code, _, stderr) = run_to_end(arguments, variables).await;
        assert_eq!(exit_code, 64, "{arguments:?}: {stderr}");
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    };
    check(&["dead-letter", "redrive"], &[], "--all").await;
    check(&["dead-letter", "list", "--reason", "bored"], &[], "retries_exhausted").await;
    check(
        &["dead-letter", "list", "--since", "yesterday"],
        &[],
        "2026-11-22T18:00:00Z",
    )
    .await;
    check(&["dead-letter", "list", "--type", "a..b"], &[], "empty part").await;
    check(&["dead-letter", "redrive", "--all", "--rate", "fast"], &[], "10/s").await;
    check(&["dead-letter", "show"], &[], "SEQUENCE").await;
    check(&["dead-letter", "list"], &[("DEAD_LETTER", "somewhere")], "DEAD_LETTER").await;
    check(&["dead-letters"], &[], "dead-letter").await;

    for command in ["list", "show", "redrive", "purge"] {
        let (exit_code, help, _) = run_to_end(&["dead-letter", command, "--help"], &[]).await;
        assert_eq!(exit_code, 0);
        // Lines are broken to fit the terminal.
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        let example = format!("Example: `distributor dead-letter {command}");
        for expected in [&example, "64: wrong arguments or configuration"] {
            assert!(help.contains(expected), "{expected:?} in {help}");
        }
    }
}
