//! `redrive`: what it delivers, what it deletes, and what it leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use test_support::{DistributorProcess, OutputTo, Reply, Stream, eventually};

use super::*;

/// Many of several contexts, so that they are delivered side by side.
fn many(n: usize) -> impl Iterator<Item = DeadLetter> {
    (0..n).map(|number| letter_in(&format!("ctx-{}", number % 7), &format!("many-{number}")))
}

fn summary(stdout: &str) -> Value {
    json(stdout.as_bytes())
}

impl Site {
    /// `distributor dead-letter …`, started and not waited for.
    fn started(&self, arguments: &[&str]) -> DistributorProcess {
        let own = self.variables();
        let environment: Vec<_> = own
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let arguments: Vec<_> = ["dead-letter"].iter().chain(arguments).copied().collect();
        DistributorProcess::start_with(Path::new(BINARY), &arguments, &environment, OutputTo::Memory).unwrap()
    }

    /// How often each event was taken by the service.
    fn accepted(&self) -> BTreeMap<String, usize> {
        let mut accepted = BTreeMap::new();
        for delivery in self
            .recipient
            .deliveries()
            .iter()
            .filter(|delivery| delivery.is_accepted())
        {
            *accepted.entry(delivery.id.to_string()).or_default() += 1;
        }
        accepted
    }
}

#[tokio::test]
async fn originals_pass_the_plugins_of_today_and_children_go_as_they_are() {
    let site = Site::start().await;
    let with_subscription = DeadLetter {
        subscription_id: Some("sub-1".to_owned()),
        ..letter_in("a", "for-subscription")
    };
    let nameless = DeadLetter {
        subscription_id: Some(String::new()),
        ..letter_in("e", "for-nameless")
    };
    let child = DeadLetter {
        is_child: true,
        ..letter_in("b", "child")
    };
    let without_id = DeadLetter {
        payload: r#"{"specversion":"1.0","source":"s","type":"com.example.order"}"#.into(),
        event_id: "given".to_owned(),
        is_child: true,
        ..letter_in("c", "given")
    };
    site.store([
        with_subscription,
        nameless,
        child,
        letter_in("d", "of-topic"),
        without_id,
    ])
    .await;

    // The lists of the environment are for events that no subscription matched.
    let filter = [("PROJECT_FILTER", "another")];
    let (exit_code, stdout, stderr) = site.run_with(&["redrive", "--all", "--json"], &filter).await;
    assert_eq!(exit_code, 0, "{stderr}");
    let summary = summary(&stdout);
    let counts = ["selected", "delivered", "dropped", "gone", "left"].map(|name| summary[name].as_u64().unwrap());
    assert_eq!(counts, [5, 4, 1, 0, 0], "{summary}");
    assert_eq!(site.n_stored().await, 0, "a drop is final");

    let journal = site.recipient.wait_for(4, SOON).await.unwrap();
    let mut delivered = ids_and_subscriptions(&journal);
    delivered.sort();
    let expected = [
        ("child", ""),
        ("for-nameless", ""),
        ("for-subscription", "sub-1"),
        ("given", ""),
    ];
    assert_eq!(
        delivered,
        expected.map(|(id, subscription)| (id.to_owned(), subscription.to_owned()))
    );
    let child = journal.iter().find(|request| event_id(request) == "child").unwrap();
    assert_eq!(child.body, event_in("b", "child").to_bytes());
    assert_eq!(child.header("distributor-attempt"), Some("12"), "it goes on counting");
}

#[tokio::test]
async fn what_the_service_does_not_take_is_left_and_told() {
    let site = Site::start().await;
    let malformed = DeadLetter {
        payload: "no event".into(),
        ..letter_in("m", "malformed")
    };
    let letters = ["good", "bad", "busy", "soon"].map(|id| letter_in(id, id));
    site.store(letters.into_iter().chain([malformed])).await;
    let is_late = AtomicBool::new(false);
    site.recipient
        .respond_with(move |request, _| match event_id(request).as_str() {
            "bad" => Reply::status(400),
            "busy" => Reply::status(500),
            "soon" if !is_late.swap(true, Ordering::Relaxed) => Reply::status(500),
            _ => Reply::status(200),
        });

    let (exit_code, stdout, stderr) = site.run(&["redrive", "--all"]).await;
    assert_eq!(exit_code, 1);
    assert!(
        stdout.contains("of 5 dead letters 2 were delivered") && stdout.contains("3 are left"),
        "{stdout}"
    );
    for expected in [
        "event bad: answered 400",
        "event busy: answered 500",
        "event malformed: not JSON",
    ] {
        assert!(stderr.contains(expected), "{expected:?} in {stderr}");
    }
    assert_eq!(site.listed_ids(&[]).await, ["bad", "busy", "malformed"]);
    let attempts = |id: &str| {
        site.recipient
            .deliveries()
            .iter()
            .filter(|delivery| &*delivery.id == id)
            .count()
    };
    assert_eq!(["good", "bad", "busy", "soon"].map(attempts), [1, 1, 3, 2]);
}

#[tokio::test]
async fn a_plugin_that_fails_leaves_the_dead_letter() {
    let site = Site::start().await;
    site.store([letter_in("a", "bad-1"), letter_in("b", "good")]).await;
    let folder = PluginFolder::behaving("trap");
    let (exit_code, _, stderr) = site
        .run_with(&["redrive", "--all"], &[("PLUGINS_DIR", folder.path())])
        .await;
    assert_eq!(exit_code, 1);
    assert!(stderr.contains("event bad-1: plugin suspect"), "{stderr}");
    assert_eq!(site.listed_ids(&[]).await, ["bad-1"]);
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_done_and_changes_nothing() {
    let site = Site::start().await;
    site.store(many(3)).await;
    let (exit_code, stdout, stderr) = site.run(&["redrive", "--event-id", "many-1", "--dry-run"]).await;
    assert_eq!(exit_code, 0);
    assert!(stdout.contains("many-1") && !stdout.contains("many-2"), "{stdout}");
    let recipient = format!("http://127.0.0.1:{}/", site.recipient.port());
    assert!(
        stderr.contains("1 dead letter") && stderr.contains(&recipient),
        "{stderr}"
    );
    assert_eq!((site.n_stored().await, site.recipient.n_received()), (3, 0));
}

#[tokio::test]
async fn only_what_is_chosen_is_redriven_the_oldest_first() {
    let site = Site::start().await;
    site.store((0..5).map(|number| letter(&format!("same-{number}")))).await;
    site.done(&["redrive", "--type", TASK_TRIGGERED, "--limit", "2"]).await;
    site.done(&["redrive", "--sequence", "5"]).await;
    assert_eq!(site.listed_ids(&[]).await, ["same-2", "same-3"]);
    let delivered: Vec<_> = site
        .recipient
        .deliveries()
        .iter()
        .map(|delivery| delivery.id.to_string())
        .collect();
    assert_eq!(delivered, ["same-0", "same-1", "same-4"]);
}

#[tokio::test]
async fn those_of_one_context_come_one_after_the_other() {
    let site = Site::start().await;
    site.store(many(40)).await;
    let busy = Arc::new(std::sync::Mutex::new(BTreeSet::new()));
    let overlaps = Arc::new(AtomicBool::new(false));
    let (in_script, seen) = (Arc::clone(&busy), Arc::clone(&overlaps));
    site.recipient.respond_with(move |request, _| {
        let context = text(&json(&request.body)["shkeptncontext"]);
        // Those of the same context that are not answered yet.
        if !in_script.lock().unwrap().insert(context.clone()) {
            seen.store(true, Ordering::Relaxed);
        }
        let busy = Arc::clone(&in_script);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(15)).await;
            busy.lock().unwrap().remove(&context);
        });
        Reply::status(200).after(Duration::from_millis(20))
    });
    site.done(&["redrive", "--all"]).await;
    assert!(!overlaps.load(Ordering::Relaxed), "two of one context at the same time");
    let mut orders: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for delivery in site.recipient.deliveries() {
        let number = delivery.id.rsplit_once('-').unwrap().1.parse().unwrap();
        orders.entry(delivery.key.to_string()).or_default().push(number);
    }
    assert_eq!(orders.len(), 7);
    assert!(orders.values().all(|order| order.is_sorted()), "{orders:?}");
}

#[tokio::test]
async fn many_are_redriven_through_an_outage_by_two_at_once() {
    let mut site = Site::start().await;
    site.store(many(1000)).await;
    site.recipient.stop().await;
    let mut processes = [["--all", "--json"], ["--since=1h", "--json"]]
        .map(|arguments| site.started(&[&["redrive", "--retries", "30"][..], &arguments].concat()));
    for process in &processes {
        process
            .wait_for_log("the service is not ready; the redrive waits", SOON)
            .await
            .unwrap();
    }
    assert_eq!(site.n_stored().await, 1000, "none is deleted before the service has it");

    // It comes back, fails some, and goes again.
    let failing = Arc::new(AtomicBool::new(true));
    let in_script = Arc::clone(&failing);
    site.recipient.respond_with(move |_, nth| {
        let fails = in_script.load(Ordering::Relaxed) && nth % 3 == 0;
        Reply::status(if fails { 500 } else { 200 })
    });
    site.recipient.start_again().await.unwrap();
    site.recipient.wait_until_accepted(60, SOON).await.unwrap();
    site.recipient.stop().await;
    let taken = site.accepted();
    let stored: BTreeSet<_> = site.listed_ids(&[]).await.into_iter().collect();
    for number in 0..1000 {
        let id = format!("many-{number}");
        assert!(
            stored.contains(&id) || taken.contains_key(&id),
            "{id} is deleted, and nobody took it"
        );
    }
    failing.store(false, Ordering::Relaxed);
    site.recipient.start_again().await.unwrap();

    for process in &mut processes {
        let exit_code = exit_code(process).await;
        let [stdout, stderr] = [Stream::Stdout, Stream::Stderr].map(|stream| process.output().text(stream));
        assert_eq!(exit_code, 0, "{stdout}{stderr}");
        assert_eq!(summary(&stdout)["left"], 0, "{stdout}");
    }
    assert_eq!(site.n_stored().await, 0);
    let accepted = site.accepted();
    assert_eq!(accepted.len(), 1000, "every one was delivered");
}

#[tokio::test]
async fn while_the_plugins_are_broken_the_last_that_worked_are_used() {
    let site = Site::start().await;
    let folder = PluginFolder::behaving("drop");
    let cache = tempfile::tempdir().unwrap();
    let cached = ("PLUGINS_CACHE_DIR", cache.path().to_str().unwrap());
    let peers = Peers::start().await;
    let mut sidecar = peers.process(&[ALL_TOPICS, folder.variable(), cached]).await;
    sidecar.terminate().unwrap();
    exit_code(&mut sidecar).await;
    let folder = folder.file("plugins.toml", "no TOML");
    site.store([letter_in("a", "bad"), letter_in("b", "good")]).await;

    let variables = [folder.variable(), cached];
    let (exit_code, stdout, stderr) = site.run_with(&["redrive", "--all"], &variables).await;

    assert_eq!(exit_code, 0, "{stdout}{stderr}");
    assert!(stderr.contains("through the last plugins that worked"), "{stderr}");
    let accepted: Vec<_> = site.accepted().into_keys().collect();
    assert_eq!(accepted, ["good"]);
}

#[tokio::test]
async fn one_that_is_killed_loses_nothing_and_the_next_one_ends_the_work() {
    let site = Site::start().await;
    site.store(many(100)).await;
    site.recipient
        .respond_with(|_, _| Reply::status(200).after(Duration::from_millis(5)));
    let mut process = site.started(&["redrive", "--all", "--concurrency", "4"]);
    site.recipient.wait_until_accepted(30, SOON).await.unwrap();
    process.kill().await.unwrap();

    let taken = site.accepted();
    let stored: BTreeSet<_> = site.listed_ids(&[]).await.into_iter().collect();
    assert!(!stored.is_empty(), "it was killed too late to show anything");
    for number in 0..100 {
        let id = format!("many-{number}");
        assert!(stored.contains(&id) || taken.contains_key(&id), "{id} is lost");
    }
    site.done(&["redrive", "--all"]).await;
    assert_eq!((site.n_stored().await, site.accepted().len()), (0, 100));
}

#[tokio::test]
async fn sigterm_ends_it_after_the_attempts_under_way() {
    let site = Site::start().await;
    site.store(many(50)).await;
    site.recipient
        .respond_with(|_, _| Reply::status(200).after(Duration::from_millis(300)));
    let mut process = site.started(&["redrive", "--all", "--concurrency", "2", "--json"]);
    site.recipient.wait_until_received(2, SOON).await.unwrap();
    process.terminate().unwrap();
    assert_eq!(exit_code(&mut process).await, 1);
    let summary = summary(&process.output().text(Stream::Stdout));
    let n_accepted = site.recipient.n_accepted() as u64;
    assert!((2..10).contains(&n_accepted), "{n_accepted}");
    assert_eq!(
        (&summary["delivered"], &summary["left"]),
        (&n_accepted.into(), &(50 - n_accepted).into())
    );
    assert_eq!(site.n_stored().await, 50 - n_accepted, "what was delivered is deleted");
}

#[tokio::test]
async fn a_service_that_does_not_come_is_given_up() {
    let mut site = Site::start().await;
    site.store(many(5)).await;
    site.recipient.stop().await;
    let (exit_code, stdout, stderr) = site.run(&["redrive", "--all", "--timeout", "300ms", "--json"]).await;
    assert_eq!(exit_code, 1);
    assert_eq!(summary(&stdout)["left"], 5, "{stdout}");
    assert_eq!(
        stderr.matches("the service is not ready; the redrive waits").count(),
        1,
        "{stderr}"
    );
    assert!(stdout.contains("the service was not ready for"), "{stdout}");
    assert_eq!(site.n_stored().await, 5);
}

#[tokio::test]
async fn an_answer_that_is_about_one_event_does_not_hold_up_the_others() {
    let site = Site::start().await;
    site.store([letter_in("a", "missing"), letter_in("b", "good")]).await;
    // Before the service has taken anything, 404 may mean that it is not there yet.
    site.recipient
        .respond_with(|request, _| match event_id(request).as_str() {
            "missing" => Reply::status(404),
            _ => Reply::status(200),
        });
    let (exit_code, _, stderr) = site.run(&["redrive", "--all", "--concurrency", "1"]).await;
    assert_eq!(exit_code, 1);
    assert!(stderr.contains("event missing: answered 404"), "{stderr}");
    assert_eq!(site.listed_ids(&[]).await, ["missing"]);
}

#[tokio::test]
async fn the_rate_holds_and_progress_is_told() {
    let site = Site::start().await;
    site.store(many(8)).await;
    let start = tokio::time::Instant::now();
    let (exit_code, _, stderr) = site.run(&["redrive", "--all", "--rate", "5/s"]).await;
    assert_eq!(exit_code, 0);
    // The first one goes at once.
    assert!(start.elapsed() >= Duration::from_millis(1400), "{:?}", start.elapsed());
    let arrivals: Vec<_> = site
        .recipient
        .deliveries()
        .iter()
        .map(|delivery| delivery.arrived)
        .collect();
    assert!(
        *arrivals.last().unwrap() - arrivals[0] >= Duration::from_millis(1300),
        "{arrivals:?}"
    );
    assert!(stderr.contains(" of 8 done, 0 failed"), "{stderr}");
}

#[tokio::test]
async fn what_comes_during_a_redrive_is_for_the_next_one() {
    let site = Site::start().await;
    site.store(many(10)).await;
    site.recipient
        .respond_with(|_, _| Reply::status(200).after(Duration::from_millis(50)));
    let mut process = site.started(&["redrive", "--all", "--concurrency", "1"]);
    site.recipient.wait_until_received(1, SOON).await.unwrap();
    site.store([letter("late")]).await;
    assert_eq!(exit_code(&mut process).await, 0);
    assert_eq!(site.listed_ids(&[]).await, ["late"]);
    let is_empty = async || site.n_stored().await == 1;
    eventually(SOON, is_empty).await.unwrap();
}
