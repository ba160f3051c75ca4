//! Which stream stores a subject, asked of real servers of both ends of what is supported.

use async_nats::jetstream::stream::{Config, RetentionPolicy};
use distributor::streams::{LookupError, Streams};
use distributor::subject::Subject;
use test_support::{NatsServer, NatsVersion, keptn_stream};

fn subject(text: &str) -> Subject {
    Subject::pattern(text).unwrap()
}

/// The names of the streams that store `on`.
async fn storing(streams: &Streams, on: &str) -> Vec<String> {
    let found = streams.storing(&subject(on)).await.unwrap();
    found.into_iter().map(|stream| stream.name).collect()
}

#[tokio::test]
async fn a_stream_stores_what_one_of_its_subjects_covers_entirely() {
    for version in NatsVersion::ALL {
        let server = NatsServer::builder().version(version).jetstream(true).start().await;
        let server = server.unwrap();
        let jetstream = server.jetstream().await.unwrap();
        for stream in [
            keptn_stream("keptn", &["sh.keptn.>"], 1),
            keptn_stream("parts", &["other.a.*", "other.b.>"], 1),
            Config {
                name: "mirror".to_owned(),
                mirror: Some(async_nats::jetstream::stream::Source {
                    name: "keptn".to_owned(),
                    ..Default::default()
                }),
                ..Default::default()
            },
        ] {
            jetstream.create_stream(stream).await.unwrap();
        }
        let streams = Streams::new(server.client().await.unwrap());
        let check = async |on: &str, expected: &[&str]| {
            assert_eq!(storing(&streams, on).await, expected, "{on}, {version:?}");
        };

        check("sh.keptn.event.task.finished", &["keptn"]).await;
        check("sh.keptn.event.*.triggered", &["keptn"]).await;
        check("sh.keptn.>", &["keptn"]).await;
        check("sh.keptn", &[]).await;
        check("sh.>", &[]).await; // overlaps
        check(">", &[]).await; // overlaps all of them
        check("*.keptn.event", &[]).await;
        check("other.a.x", &["parts"]).await;
        check("other.*.x", &[]).await; // in part, by two subjects of one stream
        check("other.b.>", &["parts"]).await;
        check("other.a.>", &[]).await;
        check("third", &[]).await;
    }
}

#[tokio::test]
async fn what_a_stream_is_for_is_told() {
    for version in NatsVersion::ALL {
        let server = NatsServer::builder().version(version).jetstream(true).start().await;
        let server = server.unwrap();
        let jetstream = server.jetstream().await.unwrap();
        for (name, retention, no_ack) in [
            ("limits", RetentionPolicy::Limits, false),
            ("work", RetentionPolicy::WorkQueue, false),
            ("interest", RetentionPolicy::Interest, false),
            ("silent", RetentionPolicy::Limits, true),
        ] {
            let stream = Config {
                retention,
                no_ack,
                ..keptn_stream(name, &[&format!("{name}.>")], 1)
            };
            jetstream.create_stream(stream).await.unwrap();
        }
        let streams = Streams::new(server.client().await.unwrap());
        let check = async |name: &str, has_limits_retention: bool, confirms: bool| {
            let found = streams.storing(&subject(&format!("{name}.event"))).await.unwrap();
            let [stream] = found.try_into().unwrap();
            assert_eq!(
                (stream.name.as_str(), stream.subjects),
                (name, vec![subject(&format!("{name}.>"))])
            );
            assert_eq!(
                (stream.has_limits_retention, stream.confirms),
                (has_limits_retention, confirms),
                "{name}, {version:?}"
            );
        };

        check("limits", true, true).await;
        check("work", false, true).await;
        check("interest", false, true).await;
        check("silent", true, false).await;
    }
}

#[tokio::test]
async fn there_is_no_jetstream_without_it_or_in_an_account_without_it() {
    const ACCOUNTS: &str = "accounts { \
        with { jetstream: enabled, users: [{ user: with, password: p }] }, \
        without { users: [{ user: without, password: p }] } }";
    for version in NatsVersion::ALL {
        let builder = NatsServer::builder().version(version);
        let without = builder.clone().start().await.unwrap();
        let streams = Streams::new(without.client().await.unwrap());
        let answer = streams.storing(&subject("a")).await;
        assert!(
            matches!(answer, Err(LookupError::Unavailable(_))),
            "{answer:?}, {version:?}"
        );
        // Somebody gets the request and does not answer.
        let curious = without.client().await.unwrap();
        let _everything = curious.subscribe(">").await.unwrap();
        curious.flush().await.unwrap();
        let answer = streams.storing(&subject("a")).await;
        assert!(
            matches!(answer, Err(LookupError::Unavailable(_))),
            "{answer:?}, {version:?}"
        );

        let server = builder.jetstream(true).config_lines(ACCOUNTS).start().await.unwrap();
        let streams = Streams::new(server.client_as("with", "p").await.unwrap());
        assert_eq!(streams.storing(&subject("a")).await, Ok(Vec::new()), "{version:?}");
        let streams = Streams::new(server.client_as("without", "p").await.unwrap());
        let answer = streams.storing(&subject("a")).await;
        assert!(
            matches!(answer, Err(LookupError::Unavailable(_))),
            "{answer:?}, {version:?}"
        );
    }
}

#[tokio::test]
async fn two_permissions_are_enough_and_without_them_nothing_is_known() {
    const USERS: &str = "authorization { users: [ \
        { user: all, password: p }, \
        { user: some, password: p, permissions: { \
            publish: ['$JS.API.STREAM.NAMES', '$JS.API.STREAM.INFO.*'], subscribe: ['_INBOX.>'] } }, \
        { user: none, password: p, permissions: { publish: ['sh.keptn.>'], subscribe: ['_INBOX.>'] } } ] }";
    for version in NatsVersion::ALL {
        let builder = NatsServer::builder().version(version).jetstream(true);
        let server = builder.config_lines(USERS).start().await.unwrap();
        let jetstream = async_nats::jetstream::new(server.client_as("all", "p").await.unwrap());
        jetstream
            .create_stream(keptn_stream("keptn", &["sh.keptn.>"], 1))
            .await
            .unwrap();

        let streams = Streams::new(server.client_as("some", "p").await.unwrap());
        assert_eq!(storing(&streams, "sh.keptn.>").await, ["keptn"], "{version:?}");

        let streams = Streams::new(server.client_as("none", "p").await.unwrap());
        let answer = streams.storing(&subject("sh.keptn.>")).await;
        let Err(error @ LookupError::Failed { .. }) = answer else {
            panic!("{answer:?}, {version:?}");
        };
        assert!(error.to_string().contains("$JS.API.STREAM.NAMES"), "{error}");
    }
}
