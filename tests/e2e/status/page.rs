//! The status page in Chromium: what an operator at three in the morning sees and does.

use test_support::{ConfigMapVolume, Reply};

use super::browser::{Browser, DESKTOP, Look, PHONE};
use super::{INTEGRATION, Site};
use crate::harness::*;

/// What the page promises for changes: twice its interval.
const AT_ONCE: std::time::Duration = std::time::Duration::from_secs(2);

impl Site {
    fn page(&self) -> String {
        format!("http://{}/", self.control)
    }
}

#[tokio::test]
async fn a_stuck_event_is_found_understood_redriven_and_seen_to_be_delivered() {
    let site = Site::start(&[]).await;
    let mut browser = Browser::start().await;
    browser.open(&site.page(), Look::DESKTOP).await;
    browser.see("", "Ready: no event has come yet").await;
    browser.assert_accessible().await;

    let complaint = serde_json::json!("the ticket system refuses: no such project");
    site.peers
        .recipient
        .respond_with(move |_, _| Reply::json(422, &complaint));
    site.peers.publish(&event("stuck-one")).await;
    site.peers.publish(&event("stuck-two")).await;
    browser
        .see("", "2 events could not be delivered and are kept as dead letters")
        .await;
    browser.see("Dead letters", "permanent_status").await;
    browser
        .see("Dead letters", "the ticket system refuses: no such project")
        .await;
    browser.see("Recent events", "stuck-one").await;
    browser.screenshot("dead-letters-desktop").await;
    browser.assert_accessible().await;

    site.peers.recipient.respond_with(|_, _| Reply::status(200));
    let n_before = site.peers.recipient.n_received();
    browser.press("Dead letters", "Redrive event stuck-one").await;
    browser.confirm("Redrive").await;
    browser.see("Dead letters", "Redrive ended .* 1 delivered of 1").await;
    browser.see("Dead letters", "Redrive all 1").await;
    let delivered = site.peers.delivered(n_before + 1).await;
    assert_eq!(event_id(&delivered[n_before]), "stuck-one");

    browser.check("Choose event stuck-two").await;
    browser.press("Dead letters", "Purge chosen").await;
    browser.confirm("Cancel").await;
    assert_eq!(site.get("/dead-letters").await["total"], 1);
    browser.press("Dead letters", "Purge chosen").await;
    browser.confirm("Purge").await;
    browser.see("Dead letters", "There are none").await;
    browser.assert_silent().await;
    assert_eq!(site.peers.recipient.n_received(), n_before + 1);
}

#[tokio::test]
async fn a_swap_and_a_refusal_are_seen_at_once_and_rolled_back() {
    let mut volume = ConfigMapVolume::new().unwrap();
    volume.write(&tagging("one")).unwrap();
    let site = Site::start(&[("PLUGINS_DIR", volume.path().to_str().unwrap())]).await;
    let mut browser = Browser::start().await;
    browser.open(&site.page(), Look::DESKTOP).await;
    browser.see("Plugins", "generation 1").await;

    volume.write(&tagging("two")).unwrap();
    site.wait_for("/plugins", |plugins| plugins["generation"] == 2).await;
    let took = browser.see("Plugins", "generation 2").await;
    assert!(took < AT_ONCE, "{took:?}");

    volume
        .write(&[("plugins.toml", "[[plugin]]\nname = \"<b>bad</b>\"\n")])
        .unwrap();
    site.wait_for("/plugins", |plugins| plugins["degraded"] == true).await;
    browser
        .see(
            "",
            "The plugins in PLUGINS_DIR were refused, and generation 2 stays in force",
        )
        .await;
    browser.see("Plugins", "Refused").await;
    browser.screenshot("refused-desktop").await;
    browser.assert_accessible().await;

    browser.press("Plugins", "Roll back to generation 1").await;
    browser.confirm("Roll back").await;
    browser.see("Plugins", "generation 3").await;
    browser.see("Plugins", "rolled back to generation 1").await;
    browser.assert_silent().await;
}

#[tokio::test]
async fn an_outage_is_seen_on_every_screen_and_over_when_it_is() {
    let mut site = Site::start(&[]).await;
    site.peers.publish_all(events("e", 20)).await;
    site.peers.delivered(20).await;
    let mut browser = Browser::start().await;
    let looks = [
        ("desktop", DESKTOP, false),
        ("desktop-dark", DESKTOP, true),
        ("phone", PHONE, false),
        ("phone-dark", PHONE, true),
    ];
    for (name, size, is_dark) in looks {
        let look = Look {
            size,
            is_dark,
            has_scripts: true,
        };
        browser.open(&site.page(), look).await;
        browser.see("", "Ready|Delivering").await;
        browser.see("Connections", "NATS").await;
        browser.assert_accessible().await;
        browser.screenshot(&format!("well-{name}")).await;
    }
    site.peers.nats.stop().await.unwrap();
    browser.see("", "No events come: there is no connection to NATS").await;
    browser.see("Connections", "Down").await;
    browser.assert_accessible().await;
    browser.screenshot("nats-away-phone").await;
    site.peers.nats.restart().await.unwrap();
    browser.see_gone("Connections", "^Down$").await;
    browser.see("", "Ready|Delivering").await;
    browser.assert_silent().await;
}

#[tokio::test]
async fn what_is_retried_is_seen_with_its_next_attempt() {
    let site = Site::start(&[("DELIVERY_BACKOFF_DELAY", "1h"), ("DELIVERY_BACKOFF_MAX", "1h")]).await;
    site.peers
        .recipient
        .respond_with(|_, _| Reply::json(500, &serde_json::json!("out of memory")));
    site.peers.publish(&event("again")).await;
    site.peers.publish(&event("behind")).await;
    let mut browser = Browser::start().await;
    browser.open(&site.page(), Look::DESKTOP).await;
    browser.see("Retrying now", "again").await;
    browser.see("Retrying now", "out of memory").await;
    browser.see("Retrying now", "1 behind it in order").await;
    browser.see("Retrying now", "in .*s at [0-9-]* ?[0-9:]+ UTC").await;
    browser.screenshot("retrying-desktop").await;
    browser.assert_accessible().await;
    browser.assert_silent().await;
}

#[tokio::test]
async fn the_numbers_can_be_read_without_scripts() {
    let site = Site::start(&[]).await;
    site.peers.publish_all(events("e", 3)).await;
    site.wait_for("/status", |status| status["flow"]["delivered"]["total"] == 3)
        .await;
    let mut browser = Browser::start().await;
    let look = Look {
        has_scripts: false,
        ..Look::DESKTOP
    };
    browser.open(&site.page(), look).await;
    let flow = browser.text("Flow").await;
    assert!(flow.contains("Delivered\n\n3"), "{flow}");
    assert!(!browser.text("Plugins").await.contains("Roll back"));
}

#[tokio::test]
async fn the_token_is_asked_for_and_nothing_is_shown_without_it() {
    let site = Site::start(&[("CONTROL_TOKEN", "hunter2")]).await;
    let mut browser = Browser::start().await;
    browser.open(&site.page(), Look::DESKTOP).await;
    browser.see("", "This page needs the token").await;
    assert!(!browser.text("").await.contains(INTEGRATION));
    browser.assert_accessible().await;
    assert_eq!(browser.focused().await, "");
    browser.fill("Token", "hunter2").await;
    browser.key("Enter").await;
    browser.see("Connections", "NATS").await;
    browser.assert_silent().await;
}

#[tokio::test]
async fn it_is_used_with_the_keyboard_alone() {
    let site = Site::start(&[]).await;
    site.make_dead_letters(&["stuck"]).await;
    let mut browser = Browser::start().await;
    browser.open(&site.page(), Look::DESKTOP).await;
    browser.see("Dead letters", "stuck").await;
    let mut names = Vec::new();
    while names.last().is_none_or(|name| name != "Redrive event stuck") {
        browser.key("Tab").await;
        names.push(browser.focused().await);
        assert!(names.len() < 30, "{names:?}");
    }
    assert_eq!(names[0], "Skip to the content");
    browser.key("Enter").await;
    browser.see("", "Redrive event stuck\\?").await;
    assert_eq!(browser.focused().await, "Cancel", "what does nothing is nearest");
    browser.key("Tab").await;
    browser.key("Enter").await;
    browser.see("Dead letters", "There are none").await;
    browser.assert_silent().await;
}

#[tokio::test]
async fn what_events_and_plugins_say_is_never_markup() {
    let site = Site::start(&[]).await;
    let hostile = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>\"'&";
    let complaint = hostile.to_owned();
    site.peers
        .recipient
        .respond_with(move |_, _| Reply::Body(400, "text/html".to_owned(), complaint.clone().into()));
    let event = test_support::KeptnEvent {
        keptn_context: hostile.to_owned(),
        ..event(&format!("id {hostile}"))
    };
    site.peers.publish(&event).await;
    let mut browser = Browser::start().await;
    browser.open(&site.page(), Look::DESKTOP).await;
    browser.see("Dead letters", "onerror").await;
    browser.see("Recent events", "onerror").await;
    let found = "[document.title, document.querySelectorAll('main img, main script, [onerror]').length]";
    let found = browser.evaluate(found).await;
    assert!(found[0].as_str().unwrap().starts_with("Attention: "), "{found}");
    assert_eq!(found[1], 0);
    browser.press("Dead letters", "Redrive all 1").await;
    browser.confirm("Cancel").await;
    browser.assert_accessible().await;
    browser.assert_silent().await;
}

fn tagging(tag: &str) -> Vec<(&'static str, Vec<u8>)> {
    let manifest =
        format!("[[plugin]]\nname = \"tagging\"\ncomponent = \"tagging.wasm\"\n[plugin.config]\ntag = \"{tag}\"\n");
    vec![
        ("plugins.toml", manifest.into_bytes()),
        ("tagging.wasm", guest("guest_tagging.wasm")),
    ]
}
