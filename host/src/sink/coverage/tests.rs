use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio::time::{advance, timeout};

use super::*;

type Found = Result<Vec<Stream>, LookupError>;

fn subject(text: &str) -> Subject {
    Subject::pattern(text).unwrap()
}

#[expect(clippy::unnecessary_wraps, reason = "one of several answers")]
fn stream_of(pattern: &str) -> Found {
    Ok(vec![Stream {
        name: "stream".to_owned(),
        subjects: vec![subject("another"), subject(pattern)],
        has_limits_retention: true,
        confirms: true,
    }])
}

#[expect(clippy::unnecessary_wraps, reason = "one of several answers")]
fn no_stream() -> Found {
    Ok(Vec::new())
}

fn failed() -> Found {
    Err(LookupError::Failed {
        subject: "a".to_owned(),
        reason: "no answer".to_owned(),
    })
}

fn unavailable() -> Found {
    Err(LookupError::Unavailable("nobody answers".to_owned()))
}

/// What is known about `on`, where a look-up would find this.
async fn ask(coverage: &Coverage, on: &str, found: Found) -> Result<Storage, LookupError> {
    coverage.of(&subject(on), |_| async { found }).await
}

/// The same where there must be no look-up.
async fn known(coverage: &Coverage, on: &str) -> Storage {
    let look_up = |subject| async move { panic!("{subject} is looked up") };
    coverage.of(&subject(on), look_up).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_answer_holds_for_half_a_minute() {
    let coverage = Coverage::default();
    assert_eq!(ask(&coverage, "a", no_stream()).await, Ok(Storage::Nowhere));
    assert_eq!(ask(&coverage, "b.c", stream_of("b.*")).await, Ok(Storage::Stream));

    advance(Duration::from_millis(29_999)).await;
    assert_eq!(known(&coverage, "a").await, Storage::Nowhere);
    assert_eq!(known(&coverage, "b.c").await, Storage::Stream);

    // A stream has appeared and another one has gone.
    advance(Duration::from_millis(1)).await;
    assert_eq!(ask(&coverage, "a", stream_of("a")).await, Ok(Storage::Stream));
    assert_eq!(ask(&coverage, "b.c", no_stream()).await, Ok(Storage::Nowhere));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_only_overlaps_or_never_confirms_does_not_count() {
    let coverage = Coverage::default();
    assert_eq!(ask(&coverage, "a.b", stream_of("a.c")).await, Ok(Storage::Nowhere));

    let mut silent = stream_of("b.>").unwrap();
    silent[0].confirms = false;
    assert_eq!(ask(&coverage, "b.c", Ok(silent)).await, Ok(Storage::Nowhere));
}

#[tokio::test(start_paused = true)]
async fn all_who_ask_at_once_wait_for_one_lookup() {
    let coverage = Coverage::default();
    let (n_lookups, answer) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let ask = async |on: &str| {
        let look_up = |_| {
            let (n_lookups, answer) = (Arc::clone(&n_lookups), Arc::clone(&answer));
            async move {
                n_lookups.fetch_add(1, Ordering::Relaxed);
                answer.notified().await;
                stream_of("a.>")
            }
        };
        coverage.of(&subject(on), look_up).await
    };
    let everybody = join_all((0..1000).map(|_| ask("a.b")));
    let other = ask("a.c");
    let answers = async {
        tokio::task::yield_now().await;
        answer.notify_waiters();
    };

    let (everybody, other, ()) = timeout(Duration::from_secs(1), async {
        tokio::join!(everybody, other, answers)
    })
    .await
    .unwrap();

    assert_eq!(everybody, vec![Ok(Storage::Stream); 1000]);
    assert_eq!(other, Ok(Storage::Stream));
    assert_eq!(n_lookups.load(Ordering::Relaxed), 2);
    assert!(coverage.known().lookups.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_lookup_goes_on_for_those_who_still_wait_and_ends_with_the_last() {
    let coverage = Coverage::default();
    let answer = Arc::new(Notify::new());
    let waits = {
        let answer = Arc::clone(&answer);
        async move {
            answer.notified().await;
            no_stream()
        }
    };
    let second_wants = subject("a");
    let mut first = Box::pin(coverage.of(&second_wants, |_| waits));
    let mut second = Box::pin(coverage.of(&second_wants, |_| async { panic!("it is being looked up") }));
    assert!(first.as_mut().now_or_never().is_none());
    assert!(second.as_mut().now_or_never().is_none());
    drop(first);
    answer.notify_one();
    assert_eq!(
        timeout(Duration::from_secs(1), second).await.unwrap(),
        Ok(Storage::Nowhere)
    );

    let left_alone = coverage.of(&subject("b"), |_| pending()).now_or_never();
    assert!(left_alone.is_none());
    assert_eq!(ask(&coverage, "b", stream_of("b")).await, Ok(Storage::Stream));
}

#[tokio::test(start_paused = true)]
async fn without_a_lookup_nothing_is_guessed() {
    let coverage = Coverage::default();
    assert_eq!(ask(&coverage, "a", failed()).await, Err(failed().unwrap_err()));
    assert_eq!(ask(&coverage, "a", no_stream()).await, Ok(Storage::Nowhere));

    // A stream may have been created since.
    advance(LOOKED_UP_AGAIN_AFTER).await;
    assert_eq!(ask(&coverage, "a", failed()).await, Err(failed().unwrap_err()));
}

#[tokio::test(start_paused = true)]
async fn without_jetstream_there_is_no_stream() {
    let coverage = Coverage::default();
    assert_eq!(ask(&coverage, "a", unavailable()).await, Ok(Storage::Nowhere));
    assert_eq!(known(&coverage, "a").await, Storage::Nowhere);
    advance(LOOKED_UP_AGAIN_AFTER).await;
    assert_eq!(ask(&coverage, "a", unavailable()).await, Ok(Storage::Nowhere));
}

#[tokio::test(start_paused = true)]
async fn what_was_covered_stays_covered_while_streams_cannot_be_looked_up() {
    for outage in [failed, unavailable] {
        let coverage = Coverage::default();
        assert_eq!(ask(&coverage, "a.b", stream_of("a.>")).await, Ok(Storage::Stream));
        advance(LOOKED_UP_AGAIN_AFTER).await;

        assert_eq!(ask(&coverage, "a.b", outage()).await, Ok(Storage::Stream));
        // As is what was not asked for before.
        assert_eq!(ask(&coverage, "a.c", outage()).await, Ok(Storage::Stream));
        // An attempt may take seconds, so not every event makes one.
        assert_eq!(known(&coverage, "a.b").await, Storage::Stream);

        advance(TRIED_AGAIN_AFTER).await;
        assert_eq!(ask(&coverage, "a.b", no_stream()).await, Ok(Storage::Nowhere));
    }
}

#[tokio::test(start_paused = true)]
async fn a_doubt_makes_for_a_lookup_and_is_no_new_knowledge() {
    let coverage = Coverage::default();
    coverage.doubt(&subject("a"));
    assert_eq!(ask(&coverage, "a", stream_of("a")).await, Ok(Storage::Stream));

    coverage.doubt(&subject("a"));
    assert_eq!(ask(&coverage, "a", failed()).await, Ok(Storage::Stream));
    coverage.doubt(&subject("a"));
    assert_eq!(ask(&coverage, "a", no_stream()).await, Ok(Storage::Nowhere));
}

#[tokio::test(start_paused = true)]
async fn what_is_known_has_a_bound_and_streams_are_remembered_longest() {
    let coverage = Coverage::default();
    ask(&coverage, "covered", stream_of("covered")).await.unwrap();
    for number in 0..=MAX_SUBJECTS {
        advance(Duration::from_millis(1)).await;
        ask(&coverage, &format!("subject-{number}"), no_stream()).await.unwrap();
    }

    assert_eq!(coverage.known().subjects.len(), MAX_SUBJECTS);
    assert_eq!(known(&coverage, "covered").await, Storage::Stream);
    assert_eq!(
        known(&coverage, &format!("subject-{MAX_SUBJECTS}")).await,
        Storage::Nowhere
    );
    assert_eq!(
        ask(&coverage, "subject-0", stream_of("subject-0")).await,
        Ok(Storage::Stream)
    );
    // Looked up again, it takes no second place.
    coverage.doubt(&subject("covered"));
    ask(&coverage, "covered", stream_of("covered")).await.unwrap();
    assert_eq!(coverage.known().subjects.len(), MAX_SUBJECTS);
}
