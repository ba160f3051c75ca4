//! The test plays the server.

use futures_util::FutureExt;
use tokio::sync::mpsc;

use super::super::consumer::Position;
use super::*;
use crate::delivery::Key;

const TAIL_PAUSE: Duration = Duration::from_secs(30);

fn ledger() -> (Ledger, mpsc::UnboundedReceiver<Command>) {
    let (commands, receiver) = mpsc::unbounded_channel();
    let ledger = Ledger::new(
        "keptn".to_owned(),
        "d".to_owned(),
        TAIL_PAUSE,
        commands,
        Arc::default(),
        CancellationToken::new(),
    );
    (ledger, receiver)
}

fn reply(text: &str) -> Subject {
    Subject::from(text.to_owned())
}

fn sent(receiver: &mut mpsc::UnboundedReceiver<Command>) -> Vec<Command> {
    std::iter::from_fn(|| receiver.try_recv().ok()).collect()
}

/// Receives events 1 to `n` of one key and admits them.
fn admitted(ledger: &Ledger, n: u64, key: Key) {
    for sequence in 1..=n {
        assert_eq!(ledger.receive(sequence, reply(&format!("r{sequence}"))), Arrival::New);
        assert_eq!(ledger.admit(sequence, key), Some(Vec::new()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_settled_event_is_acknowledged_and_never_processed_again() {
    let (ledger, mut commands) = ledger();
    admitted(&ledger, 1, Key::of(1));
    assert_eq!(
        ledger.receive(1, reply("second")),
        Arrival::Held,
        "it is being worked on"
    );
    ledger.settle(1);
    assert_eq!(ledger.receive(1, reply("third")), Arrival::Settled);
    assert_eq!(
        sent(&mut commands),
        [
            Command::Progress(reply("second")),
            Command::Acknowledge(reply("second")),
            Command::Acknowledge(reply("third")),
        ]
    );
    assert_eq!(ledger.lowest_unsettled(), 2);
}

#[tokio::test(start_paused = true)]
async fn later_events_of_a_key_follow_the_first_one_that_went_back() {
    let (ledger, mut commands) = ledger();
    let key = Key::of(1);
    admitted(&ledger, 2, key);
    ledger.give_back(2, TAIL_PAUSE, Vec::new());
    ledger.receive(3, reply("r3"));
    assert_eq!(ledger.admit(3, key), None, "2 has not come again");
    ledger.receive(4, reply("r4"));
    assert_eq!(ledger.admit(4, Key::of(2)), Some(Vec::new()), "another key");
    assert_eq!(ledger.lowest_unsettled(), 1);
    sent(&mut commands);
    ledger.settle(1);
    assert_eq!(
        sent(&mut commands),
        [
            Command::Acknowledge(reply("r1")),
            Command::GiveBack(reply("r2"), Duration::ZERO),
            Command::GiveBack(reply("r3"), Duration::ZERO),
        ],
        "the key goes on: what waits is asked for"
    );
    ledger.receive(3, reply("r3b"));
    assert_eq!(ledger.admit(3, key), None, "came before 2");
    ledger.receive(2, reply("r2b"));
    assert_eq!(ledger.admit(2, key), Some(Vec::new()));
    ledger.receive(3, reply("r3c"));
    assert_eq!(ledger.admit(3, key), Some(Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn at_the_end_everything_goes_back_in_its_order_and_not_before() {
    let (ledger, mut commands) = ledger();
    admitted(&ledger, 5, Key::of(1));
    ledger.give_back(2, Duration::from_secs(5), Vec::new());
    ledger.give_back(5, Duration::ZERO, Vec::new());
    sent(&mut commands);
    ledger.shutdown.cancel();
    for sequence in [4, 1] {
        ledger.give_back(sequence, Duration::ZERO, Vec::new());
    }
    assert_eq!(sent(&mut commands), [], "it would come again here");
    ledger.end();
    let again = |sequence: u64| Command::GiveBack(reply(&format!("r{sequence}")), Duration::ZERO);
    assert_eq!(
        sent(&mut commands),
        [again(1), again(2)],
        "the third is being tried, and somebody else may have the fifth by now"
    );
    ledger.give_back(3, Duration::ZERO, Vec::new());
    assert_eq!(sent(&mut commands), [again(3), again(4)]);
}

#[tokio::test(start_paused = true)]
async fn what_another_replica_took_holds_nothing_up() {
    let (ledger, _commands) = ledger();
    let key = Key::of(1);
    admitted(&ledger, 1, key);
    ledger.give_back(1, Duration::from_secs(10), Vec::new());
    ledger.receive(2, reply("r2"));
    assert_eq!(ledger.admit(2, key), None);
    tokio::time::advance(Duration::from_secs(13)).await;
    ledger.catch_up();
    ledger.receive(2, reply("r2b"));
    assert_eq!(
        ledger.admit(2, key),
        Some(Vec::new()),
        "1 was due 3 s ago and has not come"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_due_is_waited_for_while_nothing_is_asked_for() {
    let (ledger, _commands) = ledger();
    let key = Key::of(1);
    admitted(&ledger, 2, key);
    ledger.give_back(1, Duration::from_secs(10), Vec::new());
    ledger.give_back(2, TAIL_PAUSE, Vec::new());
    tokio::time::advance(Duration::from_mins(10)).await;
    ledger.report_progress(Duration::from_secs(10));
    ledger.receive(2, reply("r2"));
    assert_eq!(ledger.admit(2, key), None, "1 was due long ago, and stands behind it");
    ledger.receive(1, reply("r1"));
    assert_eq!(ledger.admit(1, key), Some(Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn an_event_goes_on_where_it_was_given_back() {
    let (ledger, mut commands) = ledger();
    let key = Key::of(1);
    admitted(&ledger, 2, key);
    let progress = vec![PartProgress {
        part: 7,
        is_unprepared: false,
        is_settled: false,
        attempts: 3,
        first_attempt: None,
        due: None,
        given_up: None,
    }];
    ledger.give_back(2, TAIL_PAUSE, Vec::new());
    ledger.give_back(1, Duration::from_secs(8), progress.clone());
    assert_eq!(ledger.unsettled(), (0, 2));
    assert_eq!(
        sent(&mut commands),
        [
            Command::GiveBack(reply("r2"), TAIL_PAUSE),
            Command::GiveBack(reply("r1"), Duration::from_secs(8)),
        ]
    );
    ledger.receive(1, reply("r1b"));
    assert_eq!(ledger.admit(1, key), Some(progress));
}

#[tokio::test(start_paused = true)]
async fn the_server_hears_of_everything_in_memory_in_time() {
    let (ledger, mut commands) = ledger();
    let interval = Duration::from_secs(10);
    admitted(&ledger, 1, Key::of(1));
    tokio::time::advance(Duration::from_secs(6)).await;
    ledger.receive(2, reply("r2"));
    tokio::time::advance(Duration::from_secs(5)).await;
    ledger.report_progress(interval);
    assert_eq!(sent(&mut commands), [Command::Progress(reply("r1"))]);
    ledger.report_progress(interval);
    assert_eq!(sent(&mut commands), []);
    tokio::time::advance(Duration::from_secs(5)).await;
    ledger.report_progress(interval);
    assert_eq!(sent(&mut commands), [Command::Progress(reply("r2"))]);
}

#[tokio::test(start_paused = true)]
async fn after_a_break_everything_is_said_again_and_what_is_missing_asked_for() {
    let (ledger, mut commands) = ledger();
    admitted(&ledger, 6, Key::of(1));
    for sequence in [3, 1, 2] {
        ledger.settle(sequence);
    }
    ledger.give_back(6, Duration::from_secs(9), Vec::new());
    ledger.give_back(5, Duration::from_secs(2), Vec::new());
    tokio::time::advance(Duration::from_secs(4)).await;
    sent(&mut commands);
    let at = |consumer_seq, stream_seq| Position {
        consumer_seq,
        stream_seq,
    };
    let progress = Progress {
        delivered: at(12, 9),
        ack_floor: at(1, 1),
    };
    let places = Places::new("keptn", "d");
    let subject = |sequence, delivery| Subject::from(places.subject(sequence, delivery));

    let told = [
        Command::Acknowledge(subject(3, 0)),
        Command::Acknowledge(subject(2, 0)),
        Command::Progress(reply("r4")),
        Command::GiveBack(subject(6, 12), Duration::from_secs(5)),
    ];
    assert_eq!(ledger.say_again(&places, progress, None), 0);
    assert_eq!(
        sent(&mut commands),
        told,
        "4 is in memory, and another replica may have 5"
    );

    assert_eq!(ledger.say_again(&places, progress, Some(8..=9)), 3);
    let asked = [5, 8, 9].map(|sequence| Command::GiveBack(subject(sequence, 12), Duration::ZERO));
    assert_eq!(sent(&mut commands), [told.as_slice(), &asked].concat());
    ledger.receive(10, reply("r10"));
    assert_eq!(ledger.admit(10, Key::of(1)), None, "5 comes any moment");
}

#[tokio::test(start_paused = true)]
async fn what_was_said_is_waited_for() {
    let (ledger, _commands) = ledger();
    admitted(&ledger, 2, Key::of(1));
    ledger.until_passed_on().await;
    ledger.settle(1);
    ledger.settle(2);
    ledger.passed_on(1);
    assert!(ledger.until_passed_on().now_or_never().is_none());
    ledger.passed_on(1);
    ledger.until_passed_on().await;
}

#[test]
fn the_acknowledgements_that_are_remembered_are_bounded() {
    let (ledger, mut commands) = ledger();
    for sequence in 1..=2 * MAX_LAST_SETTLED as u64 {
        ledger.receive(sequence, reply("r"));
        ledger.settle(sequence);
    }
    sent(&mut commands);
    let at = |stream_seq| Position {
        consumer_seq: 0,
        stream_seq,
    };
    let progress = Progress {
        delivered: at(10_000),
        ack_floor: at(0),
    };
    ledger.say_again(&Places::new("keptn", "d"), progress, None);
    assert_eq!(sent(&mut commands).len(), MAX_LAST_SETTLED);
}
