//! After a connection broke: tells the server what it may not have heard, and asks for what may have been lost on its way.
//!
//! Called by [`super::reader`] before it asks for new events, so that what was lost comes before them: an event that the
//! server takes for delivered would otherwise come when its acknowledgement time-out is over, behind later ones of its key.

use std::fmt::Display;
use std::time::Duration;

use async_nats::{Client, Request};

use super::acks::{ACKNOWLEDGED, IN_PROGRESS, come_again};
use super::consumer::Progress;
use super::continuity::Continuity;
use super::ledger::Ledger;
use super::place::Places;
use crate::jetstream_api::ApiError;

/// Sequences that are asked for at most. The server has handed out fewer events than fit into memory; between them stand
/// those that others want.
const MAX_ASKED: u64 = 1 << 16;
/// Time that the server gets to take note.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Does so. `progress` is the server's, of now.
pub(super) async fn recover(
    client: &Client,
    ledger: &Ledger,
    continuity: &mut Continuity,
    places: &Places,
    progress: Progress,
) -> Result<(), ApiError> {
    let handed_out = progress.delivered;
    let untold = ledger.untold(progress.ack_floor.stream_seq);
    let mut asked = Vec::new();
    // Another replica may have started what is missing here.
    if continuity.is_alone() {
        asked = untold.due;
        if let Some(after) = continuity.missing_after(handed_out) {
            let first = handed_out.stream_seq.saturating_sub(MAX_ASKED).max(after) + 1;
            asked.extend(first..=handed_out.stream_seq);
        }
    }
    let settled = untold.settled.into_iter();
    let settled = settled.filter(|&sequence| sequence <= handed_out.stream_seq);
    let settled = settled.map(|sequence| (sequence, 0, ACKNOWLEDGED));
    let given_back = untold.given_back.into_iter();
    let given_back = given_back.map(|(sequence, pause)| (sequence, handed_out.consumer_seq, come_again(pause)));
    let again = asked
        .iter()
        .map(|&sequence| (sequence, handed_out.consumer_seq, come_again(Duration::ZERO)));
    let mut is_anything_told = false;
    for (sequence, delivery, payload) in settled.chain(given_back).chain(again) {
        is_anything_told = true;
        let subject = places.subject(sequence, delivery);
        client.publish(subject, payload).await.map_err(failed)?;
    }
    if is_anything_told {
        confirm(client, places.subject(handed_out.stream_seq + 1, 0)).await?;
    }
    if continuity.is_alone() {
        if !asked.is_empty() {
            let (stream, durable) = (ledger.stream(), ledger.durable());
            let (first, last) = (asked.first(), asked.last());
            tracing::info!(
                stream,
                durable,
                first,
                last,
                "asked again for what may have been on its way"
            );
        }
        ledger.asked_again(&asked);
        continuity.ask_again(handed_out);
    } else {
        continuity.restart(handed_out);
    }
    Ok(())
}

/// Waits until the server has taken note of everything before. It takes what is said of messages in its order, but is asked
/// for new ones on another way. A message that it has not handed out yet does not change by being in progress.
async fn confirm(client: &Client, subject: String) -> Result<(), ApiError> {
    let request = Request::new().payload(IN_PROGRESS).timeout(Some(ANSWER_TIMEOUT));
    client.send_request(subject, request).await.map(|_| ()).map_err(failed)
}

fn failed(error: impl Display) -> ApiError {
    ApiError::Failed(format!("cannot tell the server what was settled meanwhile: {error}"))
}
