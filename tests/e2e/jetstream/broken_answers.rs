//! A service, or something in front of it, that speaks HTTP badly: what it said is taken at its word, and what it did not
//! say is asked again.

use super::raw_service::{Answer, RawService};
use super::rig::{IN_TIME, Rig, header_of};
use crate::harness::{event_in, lines_with};

const OK_WITHOUT_BODY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// What has to become of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Delivered with the first attempt.
    Taken,
    /// Delivered with the second.
    TriedAgain,
    /// A dead letter after one attempt, because of this status.
    GivenUp(u16),
}

/// Sends one event for each name, answers the first attempt like this and the next with 200, and compares.
async fn check(variables: &[(&str, &str)], cases: Vec<(&'static str, Answer, Fate)>) {
    let rig = Rig::start().await;
    let answers: Vec<_> = cases.iter().map(|(name, answer, _)| (*name, answer.clone())).collect();
    let service = RawService::start(move |request, nth| {
        let found = answers.iter().find(|(name, _)| *name == request.id && nth == 0);
        found.map_or_else(|| Answer::status(200, ""), |(_, answer)| answer.clone())
    });
    let service = service.await;
    let port = service.port().to_string();
    let own = [
        ("PUBSUB_RECIPIENT_PORT", port.as_str()),
        ("DELIVERY_BACKOFF_DELAY", "20ms"),
    ];
    let variables: Vec<_> = own.iter().chain(variables).copied().collect();
    let process = rig.process(&variables).await;
    // Before the first success a 503 is no attempt.
    rig.published("ready", 1, 1).await;
    rig.acknowledged().await;
    for (name, ..) in &cases {
        let event = event_in(name, name);
        rig.publish_bytes(&event.ty, event.to_bytes()).await;
    }
    rig.acknowledged().await;
    let dead_letters = rig.dead_letters().await;
    let status_of = |name: &str| {
        let is_own =
            |letter: &&async_nats::Message| header_of(letter, "Distributor-Event-Id").replace("%20", " ") == name;
        let letter = dead_letters.iter().find(is_own)?;
        header_of(letter, "Distributor-Status").parse().ok()
    };
    let n_given_up = cases.iter().filter(|(.., fate)| matches!(fate, Fate::GivenUp(_)));
    assert_eq!(
        dead_letters.len(),
        n_given_up.count(),
        "{:#?}",
        lines_with(&process, "ERROR")
    );
    for (name, _, expected) in cases {
        let attempts: Vec<_> = service
            .requests_for(name)
            .iter()
            .map(|request| request.attempt)
            .collect();
        let fate = match (attempts.as_slice(), status_of(name)) {
            ([Some(1)], None) => Fate::Taken,
            ([Some(1), Some(2)], None) => Fate::TriedAgain,
            ([Some(1)], Some(status)) => Fate::GivenUp(status),
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(fate, expected, "{name}");
    }
}

#[tokio::test]
async fn an_answer_without_a_whole_head_is_none_and_one_with_it_counts() {
    use Fate::{GivenUp, Taken, TriedAgain};
    let bytes = |text: &str| Answer::Bytes(text.to_owned());
    let last = |text: &str| Answer::Last(text.to_owned());
    let reset = |text: &str| Answer::Reset(text.to_owned());
    let body_of = |status: u16, rest: &str| format!("HTTP/1.1 {status} X\r\n{rest}");
    let filler = "x".repeat(16 << 10);
    let endless_of = |status: u16| {
        let head = body_of(status, "Content-Type: text/plain\r\nContent-Length: 1000000000\r\n\r\n");
        Answer::Endless(head, filler.clone())
    };
    let half = "Content-Length: 100\r\n\r\nhalf";
    let no_chunk = "Transfer-Encoding: chunked\r\n\r\nzz\r\ngarbage";
    let cases = vec![
        ("nothing", last(""), TriedAgain),
        ("reset", reset(""), TriedAgain),
        ("half a head", last("HTTP/1.1 200 OK\r\nContent-Le"), TriedAgain),
        ("reset in the head", reset("HTTP/1.1 200 OK\r\nContent-Le"), TriedAgain),
        ("not HTTP", last("SSH-2.0-OpenSSH_9.6\r\n"), TriedAgain),
        ("binary", last("\u{1}\u{2}\u{0}\r\n\r\n"), TriedAgain),
        ("no status", last("HTTP/1.1 abc\r\n\r\n"), TriedAgain),
        (
            "two lengths",
            last("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx"),
            TriedAgain,
        ),
        (
            "endless head",
            Answer::Endless("HTTP/1.1 200 OK\r\n".to_owned(), format!("X-Filler: {filler}\r\n")),
            TriedAgain,
        ),
        ("half a body of 200", last(&body_of(200, half)), Taken),
        ("half a body of 500", last(&body_of(500, half)), TriedAgain),
        ("half a body of 400", last(&body_of(400, half)), GivenUp(400)),
        ("bad chunks of 202", last(&body_of(202, no_chunk)), Taken),
        ("bad chunks of 503", last(&body_of(503, no_chunk)), TriedAgain),
        ("endless body of 200", endless_of(200), Taken),
        ("endless body of 500", endless_of(500), TriedAgain),
        ("endless body of 422", endless_of(422), GivenUp(422)),
        (
            "up to the end of the connection",
            last("HTTP/1.0 200 OK\r\n\r\nfine"),
            Taken,
        ),
        (
            "early hints",
            bytes(&format!(
                "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n{OK_WITHOUT_BODY}"
            )),
            Taken,
        ),
        (
            "continue",
            bytes(&format!("HTTP/1.1 100 Continue\r\n\r\n{OK_WITHOUT_BODY}")),
            Taken,
        ),
        (
            "another protocol",
            last("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
            GivenUp(101),
        ),
        (
            "more than the answer",
            last(&format!("{OK_WITHOUT_BODY}HTTP/1.1 500 X\r\n\r\n")),
            Taken,
        ),
        ("a redirect that leads nowhere", Answer::status(307, ""), GivenUp(307)),
        (
            "a redirect of another kind",
            Answer::status(303, "Location: /\r\n"),
            GivenUp(303),
        ),
        (
            "a redirect to another server",
            Answer::status(307, "Location: http://127.0.0.1:1/\r\n"),
            GivenUp(307),
        ),
        (
            "a redirect to another scheme",
            Answer::status(308, "Location: https://127.0.0.1/\r\n"),
            GivenUp(308),
        ),
    ];
    check(&[], cases).await;
}

#[tokio::test]
async fn an_answer_that_stops_counts_if_its_head_was_there() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n";
    let text = str::to_owned;
    let cases = vec![
        ("silence", Answer::Silence(text("")), Fate::TriedAgain),
        (
            "silence in the head",
            Answer::Silence(text("HTTP/1.1 200 OK\r\nContent-Le")),
            Fate::TriedAgain,
        ),
        (
            "slow head",
            Answer::Trickle(text("HTTP/1.1 200 OK\r\nX: "), text("x")),
            Fate::TriedAgain,
        ),
        ("silence in the body", Answer::Silence(text(HEAD)), Fate::Taken),
        ("slow body", Answer::Trickle(text(HEAD), text("x")), Fate::Taken),
        (
            "slow body of 500",
            Answer::Trickle(HEAD.replace("200", "500"), text("x")),
            Fate::TriedAgain,
        ),
        (
            "slow body of 400",
            Answer::Trickle(HEAD.replace("200", "400"), text("x")),
            Fate::GivenUp(400),
        ),
    ];
    // Shorter than the time that a body may take.
    check(&[("DELIVERY_TIMEOUT", "500ms")], cases).await;
}

#[tokio::test]
async fn a_redirect_on_the_same_server_is_followed_once() {
    let rig = Rig::start().await;
    let service = RawService::start(|request, _| match (request.id.as_str(), request.path.as_str()) {
        ("moved", "/") => Answer::status(307, "Location: /elsewhere?x=1\r\n"),
        ("moved for good", "/") => Answer::status(308, "Location: elsewhere\r\n"),
        ("loop", path) => Answer::status(307, &format!("Location: {path}\r\n")),
        _ => Answer::status(200, ""),
    })
    .await;
    let port = service.port().to_string();
    let _process = rig.process(&[("PUBSUB_RECIPIENT_PORT", &port)]).await;
    for id in ["moved", "moved for good", "loop"] {
        let event = event_in(id, id);
        rig.publish_bytes(&event.ty, event.to_bytes()).await;
    }
    rig.acknowledged().await;
    let paths = |id: &str| -> Vec<_> {
        let requests = service.requests_for(id);
        assert!(
            requests.iter().all(|request| request.attempt == Some(1)),
            "{requests:?}"
        );
        assert!(requests.iter().all(|request| request.body == requests[0].body), "{id}");
        requests.into_iter().map(|request| request.path).collect()
    };
    assert_eq!(paths("moved"), ["/", "/elsewhere?x=1"]);
    assert_eq!(paths("moved for good"), ["/", "/elsewhere"]);
    assert_eq!(paths("loop"), ["/", "/"]);
    let letters = rig.dead_letters().await;
    assert_eq!(letters.len(), 1);
    assert_eq!(header_of(&letters[0], "Distributor-Event-Id"), "loop");
    assert_eq!(header_of(&letters[0], "Distributor-Status"), "307");
}

#[tokio::test]
async fn a_connection_that_the_service_closes_between_requests_is_replaced() {
    const N: usize = 300;
    let rig = Rig::start().await;
    // Nothing in the answer says that the connection ends with it.
    let service = RawService::start(|_, _| Answer::Last(OK_WITHOUT_BODY.to_owned())).await;
    let port = service.port().to_string();
    let variables = [
        ("PUBSUB_RECIPIENT_PORT", port.as_str()),
        ("DELIVERY_BACKOFF_DELAY", "20ms"),
    ];
    let _process = rig.process(&variables).await;
    let published = rig.published("e", 10, N).await;
    service.wait_until_received(N, IN_TIME).await;
    rig.acknowledged().await;
    let requests = service.requests();
    let connections = requests.iter().map(|request| request.connection);
    assert_eq!(connections.max(), Some(requests.len() - 1), "one for each request");
    for event in &published {
        assert_eq!(service.requests_for(&event.id).len(), 1, "{}", event.id);
    }
    assert_eq!(rig.dead_letters().await.len(), 0);
}
