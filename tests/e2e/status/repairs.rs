//! Dead letters over the control listener: looked at, delivered again, deleted, and never lost.

use serde_json::{Value, json};
use test_support::Reply;

use super::{Site, all};
use crate::harness::*;

fn ids(listing: &Value) -> Vec<String> {
    let letters = listing["letters"].as_array().unwrap().iter();
    letters
        .map(|letter| letter["event_id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn dead_letters_are_listed_and_delivered_again() {
    let site = Site::start(&[]).await;
    site.make_dead_letters(&["a", "b", "c"]).await;
    let listing = site.get("/dead-letters").await;
    assert_eq!(ids(&listing), ["c", "b", "a"], "the newest first");
    let letter = &listing["letters"][2];
    assert_eq!(
        (&letter["reason"], &letter["status"]),
        (&"permanent_status".into(), &400.into())
    );
    assert_eq!(letter["event_type"], TASK_TRIGGERED);
    assert!(letter.get("payload").is_none());

    let n_before = site.peers.recipient.n_received();
    let begun = site
        .post("/dead-letters/redrive", &json!({"ids": [letter["id"]]}))
        .await;
    assert_eq!(begun.status, 202);
    let job = site.job().await;
    assert_eq!(
        (&job["kind"], &job["delivered"], &job["failed"]),
        (&"redrive".into(), &1.into(), &0.into()),
        "{job:#}"
    );
    let delivered = site.peers.delivered(n_before + 1).await;
    assert_eq!(event_id(&delivered[n_before]), "a");
    let listing = site.wait_for("/dead-letters", |listing| listing["total"] == 2).await;
    assert_eq!(ids(&listing), ["c", "b"]);
}

#[tokio::test]
async fn what_the_service_does_not_take_stays() {
    let site = Site::start(&[]).await;
    site.make_dead_letters(&["good", "bad"]).await;
    site.peers
        .recipient
        .respond_with(|request, _| match event_id(request).as_str() {
            "bad" => Reply::status(400),
            _ => Reply::status(200),
        });
    assert_eq!(site.post("/dead-letters/redrive", &all()).await.status, 202);
    let job = site.job().await;
    assert_eq!((&job["delivered"], &job["failed"]), (&1.into(), &1.into()), "{job:#}");
    assert_eq!(job["failures"][0]["event_id"], "bad");
    let listing = site.wait_for("/dead-letters", |listing| listing["total"] == 1).await;
    assert_eq!(ids(&listing), ["bad"]);
}

#[tokio::test]
async fn a_purge_deletes_what_was_seen_and_nothing_else() {
    let site = Site::start(&[]).await;
    site.make_dead_letters(&["a", "b"]).await;
    let seen = site.get("/dead-letters").await;
    site.peers.recipient.respond_with(|_, _| Reply::status(400));
    site.peers.publish(&event("unseen")).await;
    site.wait_for("/dead-letters", |listing| listing["total"] == 3).await;

    let choice = json!({"all": true, "through": seen["letters"][0]["id"]});
    assert_eq!(site.post("/dead-letters/purge", &choice).await.status, 202);
    assert_eq!(site.job().await["deleted"], 2);
    let listing = site.wait_for("/dead-letters", |listing| listing["total"] == 1).await;
    assert_eq!(ids(&listing), ["unseen"]);
}

#[tokio::test]
async fn files_keep_their_names_whatever_is_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let sink = format!("file:{}", folder.path().display());
    let site = Site::start(&[("DEAD_LETTER", &sink)]).await;
    site.make_dead_letters(&["a", "b", "c"]).await;
    let listing = site.get("/dead-letters").await;
    let id = |number: usize| listing["letters"][number]["id"].clone();
    for number in [2, 1] {
        assert_eq!(
            site.post("/dead-letters/purge", &json!({"ids": [id(number)]}))
                .await
                .status,
            202
        );
        assert_eq!(site.job().await["deleted"], 1);
    }
    let listing = site.wait_for("/dead-letters", |listing| listing["total"] == 1).await;
    assert_eq!(ids(&listing), ["c"]);
    let gone = site.post("/dead-letters/purge", &json!({"ids": [id(2)]})).await;
    assert_eq!(gone.status, 404);
}

#[tokio::test]
async fn nothing_is_done_without_a_clear_choice() {
    let site = Site::start(&[]).await;
    site.make_dead_letters(&["a"]).await;
    for unclear in [
        json!({}),
        json!({"ids": []}),
        json!({"ids": ["1"], "all": true}),
        json!({"alle": true}),
        json!(1),
    ] {
        let refused = site.post("/dead-letters/purge", &unclear).await;
        assert_eq!(refused.status, 400, "{unclear}");
    }
    assert_eq!(
        site.post("/dead-letters/purge", &json!({"ids": ["4711"]})).await.status,
        404
    );
    assert_eq!(site.get("/dead-letters").await["total"], 1);
}
