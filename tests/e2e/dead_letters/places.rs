//! Where dead letters are stored, and when they are not.

use async_nats::HeaderMap;
use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType};
use distributor::dead_letter::StoreError;
use test_support::NatsVersion;

use super::*;

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", async_nats::HeaderValue::as_str)
}

#[tokio::test]
async fn a_record_has_the_original_bytes_and_what_is_known_in_headers() {
    for version in NatsVersion::ALL {
        let nats = NatsServer::builder()
            .version(version)
            .jetstream(true)
            .start()
            .await
            .unwrap();
        let site = Site::with(nats).await;
        let stored = letter("one");
        site.store([stored.clone()]).await;

        let stream = site.stream().await;
        let config = &stream.cached_info().config;
        assert_eq!(config.subjects, ["distributor.dlq.>"]);
        assert_eq!(
            (config.discard, config.storage),
            (DiscardPolicy::New, StorageType::File)
        );
        assert_eq!(
            (config.max_bytes, config.max_age),
            (64 << 20, Duration::from_hours(14 * 24))
        );
        let message = stream.get_raw_message(1).await.unwrap();
        assert_eq!(message.payload, stored.payload);
        assert_eq!(
            message.subject.as_str(),
            "distributor.dlq.my-service.sh.keptn.event.task.triggered"
        );
        let headers = [
            ("Nats-Msg-Id", "my-service:one::0"),
            ("Distributor-Reason", "retries_exhausted"),
            ("Distributor-Status", "503"),
            ("Distributor-Error", "answered 503 Service Unavailable"),
            ("Distributor-Attempts", "11"),
            ("Distributor-First-Attempt", "2026-09-21T14:13:20.123Z"),
            ("Distributor-Last-Attempt", "2026-09-21T14:14:20.123Z"),
            ("Distributor-Stream", "keptn"),
            ("Distributor-Sequence", "4711"),
            ("Distributor-Subject", TASK_TRIGGERED),
            ("Distributor-Generation", "1"),
            ("Distributor-Emission", "0"),
            ("Distributor-Event-Id", "one"),
            ("Distributor-Event-Type", TASK_TRIGGERED),
            ("Distributor-Keptn-Context", "ctx"),
        ];
        for (name, value) in headers {
            assert_eq!(header(&message.headers, name), value, "{name}");
        }
        // The commands get along with the server too.
        assert_eq!(site.listed_ids(&[]).await, ["one"]);
        site.done(&["redrive", "--all"]).await;
        assert_eq!((site.n_stored().await, site.recipient.n_accepted()), (0, 1));
    }
}

#[tokio::test]
async fn the_same_dead_letter_is_stored_once() {
    let site = Site::start().await;
    site.store([letter("one"), letter("one"), letter("two")]).await;
    assert_eq!(site.listed_ids(&[]).await, ["one", "two"]);
    let without_message_id = DeadLetter {
        message_id: None,
        ..letter("three")
    };
    site.store([without_message_id.clone(), without_message_id]).await;
    assert_eq!(site.n_stored().await, 4);
}

#[tokio::test]
async fn no_text_of_an_event_can_add_a_header_or_choose_the_subject() {
    let site = Site::start().await;
    let evil = "x\r\nDistributor-Reason: plugin\r\n\r\n\u{0}\u{85}\u{2028}ü % \t".to_owned();
    let stored = DeadLetter {
        event_id: evil.clone(),
        event_type: format!("> .*..{evil}"),
        keptn_context: evil.clone(),
        error: format!("{evil}{}", "ö".repeat(2000)),
        stream: Some(evil.clone()),
        subject: evil.clone(),
        subscription_id: Some(evil.clone()),
        plugin: Some(evil.clone()),
        message_id: Some(evil.clone()),
        ..letter("evil")
    };
    site.store([stored.clone()]).await;

    let message = site.stream().await.get_raw_message(1).await.unwrap();
    assert!(
        message.subject.starts_with("distributor.dlq.my-service.__._._.x_"),
        "{}",
        message.subject
    );
    assert_eq!(header(&message.headers, "Distributor-Reason"), "retries_exhausted");
    assert_eq!(message.headers.get_all("Distributor-Reason").count(), 1);
    let error = header(&message.headers, "Distributor-Error");
    assert!(
        error.len() <= 512 && error.starts_with("x  Distributor-Reason: plugin"),
        "{error:?}"
    );
    assert!(!error.contains(|c: char| c.is_control()), "{error:?}");
    // What it was is still known, and still chosen by.
    let [entry] = site.listed(&["--type", "*.*.*.*"]).await.try_into().unwrap();
    for name in [
        "event_id",
        "keptn_context",
        "stream",
        "subject",
        "subscription_id",
        "plugin",
        "message_id",
    ] {
        assert_eq!(text(&entry[name]), evil, "{name}");
    }
    let table = site.done(&["list"]).await;
    assert_eq!(table.lines().count(), 2, "{table:?}");
    assert!(!table.contains(|c: char| c.is_control() && c != '\n'), "{table:?}");
}

#[tokio::test]
async fn a_full_stream_refuses_and_takes_again_when_there_is_room() {
    for version in NatsVersion::ALL {
        let nats = NatsServer::builder()
            .version(version)
            .jetstream(true)
            .start()
            .await
            .unwrap();
        let site = Site::with(nats).await;
        let letters = site.letters_of(INTEGRATION, &[("DEAD_LETTER_MAX_BYTES", "8KiB")]).await;
        let mut n_stored = 0;
        let error = loop {
            match letters.store(&letter(&format!("fill-{n_stored}"))).await {
                Ok(_) => n_stored += 1,
                Err(error) => break error,
            }
            assert!(n_stored < 20, "the stream takes more than it may");
        };
        assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
        assert!(error.to_string().contains("purge"), "{error}");
        assert_eq!(site.n_stored().await, n_stored);

        site.done(&["purge", "--event-id", "fill-0", "--yes"]).await;
        letters.store(&letter("late")).await.unwrap();
    }
}

#[tokio::test]
async fn a_store_of_the_server_that_is_full_is_an_error_too() {
    let builder = NatsServer::builder().jetstream(true).jetstream_max_file(8 << 10);
    let site = Site::with(builder.start().await.unwrap()).await;
    let error = site.letters().await.store(&letter("one")).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused(_)), "{error:?}");
    assert!(error.to_string().contains("cannot be created"), "{error}");
}

#[tokio::test]
async fn a_stream_that_exists_is_used_as_it_is() {
    let site = Site::start().await;
    let jetstream = site.nats.jetstream().await.unwrap();
    let not_ours = [("DEAD_LETTER_CREATE_STREAM", "false")];
    let letters = site.letters_of(INTEGRATION, &not_ours).await;
    let error = letters.store(&letter("one")).await.unwrap_err();
    assert!(matches!(error, StoreError::NoStream), "{error:?}");

    let config = |subject: &str| Config {
        name: STREAM.to_owned(),
        subjects: vec![subject.to_owned()],
        storage: StorageType::Memory,
        ..Config::default()
    };
    jetstream.create_stream(config("elsewhere.>")).await.unwrap();
    let error = site.letters().await.store(&letter("one")).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("does not store distributor.dlq.> but elsewhere.>"),
        "{error}"
    );

    jetstream.update_stream(config("distributor.>")).await.unwrap();
    for letters in [letters, site.letters().await] {
        letters.store(&letter("one")).await.unwrap();
        letters.store(&letter("two")).await.unwrap();
    }
    let stream = site.stream().await;
    assert_eq!(stream.cached_info().config.storage, StorageType::Memory);
    assert_eq!(stream.cached_info().state.messages, 2);
}

#[tokio::test]
async fn another_stream_that_takes_every_subject_is_no_place_for_dead_letters() {
    let site = Site::start().await;
    let everything = Config {
        name: "EVERYTHING".to_owned(),
        subjects: vec!["distributor.>".to_owned()],
        ..Config::default()
    };
    site.nats
        .jetstream()
        .await
        .unwrap()
        .create_stream(everything)
        .await
        .unwrap();
    let error = site.letters().await.store(&letter("one")).await.unwrap_err();
    assert!(error.to_string().contains("overlap"), "{error}");
}

#[tokio::test]
async fn a_stream_that_is_deleted_is_created_again() {
    let site = Site::start().await;
    let letters = site.letters().await;
    letters.store(&letter("one")).await.unwrap();
    site.nats
        .jetstream()
        .await
        .unwrap()
        .delete_stream(STREAM)
        .await
        .unwrap();
    letters.store(&letter("two")).await.unwrap();
    assert_eq!(site.listed_ids(&[]).await, ["two"]);
}

#[tokio::test]
async fn an_event_of_the_largest_size_is_stored_with_shorter_headers_or_refused() {
    let nats = NatsServer::builder().jetstream(true).max_payload(200_000);
    let site = Site::with(nats.start().await.unwrap()).await;
    let of_size = |id: &str, bytes: usize| {
        let event = test_support::KeptnEvent {
            size_bytes: bytes,
            ..event(id)
        };
        DeadLetter {
            payload: event.to_bytes(),
            error: "e".repeat(1000),
            subscription_id: Some("sub-1".to_owned()),
            is_child: true,
            ..letter(id)
        }
    };
    let letters = site.letters().await;
    for (id, bytes) in [("full", 198_000), ("short", 199_500), ("least", 199_800)] {
        let stored = of_size(id, bytes);
        assert!(stored.payload.len() >= bytes);
        letters.store(&stored).await.unwrap();
    }
    let error = letters.store(&of_size("none", 200_000)).await.unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { .. }), "{error:?}");

    let entries = site.listed(&[]).await;
    let types: Vec<_> = entries.iter().map(|entry| text(&entry["event_type"])).collect();
    assert_eq!(types, [TASK_TRIGGERED; 3], "it is in the subject too");
    let ids: Vec<_> = entries.iter().map(|entry| text(&entry["event_id"])).collect();
    assert_eq!(ids, ["full", "short", ""]);
    site.done(&["redrive", "--all"]).await;
    let journal = site.recipient.wait_for(3, SOON).await.unwrap();
    let delivered: Vec<_> = journal
        .iter()
        .map(|request| (event_id(request), subscription_id(request)))
        .collect();
    for id in ["full", "short", "least"] {
        assert!(delivered.contains(&(id.to_owned(), "sub-1".into())), "{delivered:?}");
    }
}

#[tokio::test]
async fn auto_means_the_log_only_where_jetstream_does_not_exist() {
    let nats = NatsServer::start().await.unwrap();
    let mut site = Site::with(nats).await;
    let letters = site.letters().await;
    let of_core = DeadLetter {
        stream: None,
        sequence: None,
        ..letter("core")
    };
    assert_eq!(letters.store(&of_core).await.unwrap(), Stored::Log);
    // It came from a stream, so there is JetStream somewhere.
    let error = letters.store(&letter("one")).await.unwrap_err();
    assert!(matches!(error, StoreError::NoJetStream(_)), "{error:?}");
    let required = site.letters_of(INTEGRATION, &[("DEAD_LETTER", "nats")]).await;
    let error = required.store(&of_core).await.unwrap_err();
    assert!(error.to_string().contains("DEAD_LETTER=file:"), "{error}");

    site.nats.stop().await.unwrap();
    let is_away = async || matches!(letters.store(&of_core).await, Err(StoreError::NotConnected));
    test_support::eventually(SOON, is_away).await.unwrap();
}

#[tokio::test]
async fn an_account_without_jetstream_has_none() {
    let accounts = "accounts { A { users: [{user: a, password: a}] }, B { jetstream: enabled } }";
    let builder = NatsServer::builder().jetstream(true).config_lines(accounts);
    let nats = builder.start().await.unwrap();
    let client = nats.client_as("a", "a").await.unwrap();
    let letters = DeadLetters::new(client, &dead_letter_config(&[]), INTEGRATION);
    let of_core = DeadLetter {
        stream: None,
        ..letter("core")
    };
    assert_eq!(letters.store(&of_core).await.unwrap(), Stored::Log);
}

#[tokio::test]
async fn the_log_gets_a_line_and_not_the_event() {
    let site = Site::start().await;
    let letters = site.letters_of(INTEGRATION, &[("DEAD_LETTER", "log")]).await;
    assert_eq!(letters.store(&letter("one")).await.unwrap(), Stored::Log);
}
