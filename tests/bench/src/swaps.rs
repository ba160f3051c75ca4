//! Rounds in which a plugin is replaced while events flow.
//!
//! Called by `row`. The plugin is the guest that gives each event a tag: the recipient sees in every event which one it
//! went through. Its tag stands in its configuration, or in its bytes, so that there are as many components as wanted.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use anyhow::Context;
use memchr::memmem;
use test_support::{ConfigMapVolume, Recipient, Reply, padded_component};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::events::{EventId, Events, Load, SUBJECT};
use crate::figures::{Figure, Round};
use crate::languages::built;
use crate::measured::{Measured, Program, Surroundings, TOPIC};
use crate::stage::{Bench, number};
use crate::tally::Tally;

/// What stands in the bytes of the guest.
const BUILT_IN_TAG: &[u8] = b"built-in-tag-0000";
const COMPONENT_BYTES: usize = 100 * 1024;
const EVERY: Duration = Duration::from_millis(1);
const SOON: Duration = Duration::from_secs(20);
/// More than are published in all swaps of a round.
const MAX_EVENTS: usize = 200_000;

pub(crate) fn component() -> anyhow::Result<PathBuf> {
    built("components/wasm32-wasip2/plugin/guest_tagging.wasm")
}

impl Bench {
    /// From the rename of `..data` to the first event that went through the new plugin: one that has to be compiled, and
    /// one that was compiled before.
    pub(crate) async fn swaps(&self, program: Program<'_>, load: Load, n_swaps: usize) -> anyhow::Result<Round> {
        let guest = std::fs::read(component()?)?;
        let mut volume = ConfigMapVolume::new()?;
        volume.write(&tagging(&guest, 0, 0)?)?;
        let events = Events::render(load, self.clock)?;
        let tally = Arc::new(Tally::new(MAX_EVENTS, events.passing_by_key(), self.clock));
        let (recipient, mut newest_tag) = recipient(Arc::clone(&tally)).await?;
        let plugins = volume.text().to_owned();
        let client = self.client(program.mode()).clone();
        self.new_stream(program.mode()).await?;
        // Nothing of an earlier round is in it.
        let cache = tempfile::tempdir()?;
        let surroundings = Surroundings {
            nats_url: &self.nats(program.mode()).url(),
            topic: TOPIC,
            recipient_port: recipient.port(),
            log: &self.log(),
            folder: self.folder(),
            more: &[
                ("PLUGINS_DIR", &plugins),
                ("PLUGINS_CACHE_DIR", &cache.path().to_string_lossy()),
            ],
        };
        let mut measured = Measured::start(program, surroundings)?;
        measured.wait_until_ready().await?;
        if !crate::publisher::warm_up(&client, &events, 1, &tally).await? {
            return Err(measured.fail("no event was delivered"));
        }

        let n_published = Arc::new(AtomicUsize::new(0));
        let mut publishing = JoinSet::new();
        publishing.spawn(publish(client, events, Arc::clone(&n_published)));
        let mut took: [Vec<f64>; 2] = Default::default();
        for swap in 1..=2 * n_swaps {
            // Every second one is the first component again.
            let is_new_code = swap % 2 == 1;
            let code = if is_new_code { swap } else { 0 };
            let mounted: Instant = volume.write(&tagging(&guest, code, swap)?)?;
            let arrived = tokio::time::timeout(SOON, newest_tag.wait_for(|newest| *newest >= swap)).await;
            if arrived.is_err() {
                return Err(measured.fail("the new plugin does not take effect"));
            }
            took[usize::from(is_new_code)].push(mounted.elapsed().as_secs_f64() * 1e3);
        }
        publishing.shutdown().await;
        let n_published = n_published.load(Relaxed);
        tally.wait_until(|tally| tally.delivered() >= n_published).await;

        let [cached, compiled] = took.map(median);
        Ok(vec![
            (Figure::SwapCompiledMilliseconds, compiled),
            (Figure::SwapCachedMilliseconds, cached),
            (Figure::Lost, number(n_published.saturating_sub(tally.delivered()))),
            (Figure::Doubled, number(tally.doubled())),
            (Figure::MisorderedInKey, number(tally.misordered())),
        ])
    }
}

/// The files of a plugin that has other code for each `code`, and gives the tag `swap`.
fn tagging(guest: &[u8], code: usize, swap: usize) -> anyhow::Result<Vec<(&'static str, Vec<u8>)>> {
    let place = memmem::find(guest, BUILT_IN_TAG).context("the guest has no tag in it")?;
    let mut component = guest.to_vec();
    component[place..place + BUILT_IN_TAG.len()].copy_from_slice(format!("built-in-tag-{code:04}").as_bytes());
    let component = padded_component(&component, COMPONENT_BYTES.saturating_sub(guest.len()));
    let manifest = format!(
        "[[plugin]]\nname = \"tagging\"\ncomponent = \"tagging.wasm\"\n[plugin.config]\ntag = \"tag-{swap:04}\"\n"
    );
    Ok(vec![
        ("plugins.toml", manifest.into_bytes()),
        ("tagging.wasm", component),
    ])
}

/// Counts, and tells the newest tag that has arrived.
async fn recipient(tally: Arc<Tally>) -> anyhow::Result<(Recipient, watch::Receiver<usize>)> {
    let recipient = Recipient::start_light_on(0).await?;
    let (sender, receiver) = watch::channel(0);
    let (id, tag) = (EventId::finder(), memmem::Finder::new(b"\"tag-").into_owned());
    recipient.respond_with(move |request, _| {
        if let Some(id) = EventId::find_in(&request.body, &id) {
            tally.record(id);
        }
        let digits = tag
            .find(&request.body)
            .and_then(|place| request.body.get(place + 5..place + 9));
        let swap = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<usize>().ok());
        if let Some(swap) = swap {
            sender.send_if_modified(|newest| {
                let is_newer = swap > *newest;
                *newest = swap.max(*newest);
                is_newer
            });
        }
        Reply::status(200)
    });
    Ok((recipient, receiver))
}

/// Until it is ended.
async fn publish(client: async_nats::Client, events: Events, n_published: Arc<AtomicUsize>) -> anyhow::Result<()> {
    let mut due = tokio::time::interval(EVERY);
    for sequence in 0..MAX_EVENTS {
        due.tick().await;
        client.publish(SUBJECT, events.counted(sequence)).await?;
        n_published.store(sequence + 1, Relaxed);
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
