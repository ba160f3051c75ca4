//! After a connection broke: tells the server what it may not have heard, and asks for what may have been lost on its way.
//!
//! Called by [`super::reader`] before it asks for new events, so that what was lost comes before them: an event that the
//! server takes for delivered would otherwise come when its acknowledgement time-out is over, behind later ones of its key.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use async_nats::{Client, Request};

use super::acks::IN_PROGRESS;
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

/// Does so. `progress` is the server's, of now. Returns the sequences among which are those that were lost.
pub(super) async fn recover(
    client: &Client,
    ledger: &Ledger,
    continuity: &mut Continuity,
    places: &Places,
    progress: Progress,
) -> Result<Option<RangeInclusive<u64>>, ApiError> {
    let handed_out = progress.delivered;
    // Another replica may have started what is missing here.
    let is_alone = continuity.is_alone();
    let missing = is_alone.then(|| {
        let after = continuity.missing_after(handed_out).unwrap_or(handed_out.stream_seq);
        after.max(handed_out.stream_seq.saturating_sub(MAX_ASKED)) + 1..=handed_out.stream_seq
    });
    let n_asked = ledger.say_again(places, progress, missing.clone());
    let noted = tokio::time::timeout(ANSWER_TIMEOUT, noted(client, ledger, places, handed_out.stream_seq));
    noted.await.map_err(|_| failed("no answer in time"))??;
    if !is_alone {
        continuity.restart(handed_out);
        return Ok(None);
    }
    continuity.ask_again(handed_out);
    if n_asked > 0 {
        let (stream, durable) = (ledger.stream(), ledger.durable());
        tracing::info!(
            stream,
            durable,
            n_asked,
            ?missing,
            "asked again for what may have been on its way"
        );
    }
    Ok(missing)
}

/// Waits until the server has taken note of everything. It takes what is said of messages in its order, but is asked for
/// new ones on another way. A message that it has not handed out yet does not change by being in progress.
async fn noted(client: &Client, ledger: &Ledger, places: &Places, handed_out: u64) -> Result<(), ApiError> {
    ledger.until_passed_on().await;
    let request = Request::new().payload(IN_PROGRESS);
    let answer = client.send_request(places.subject(handed_out + 1, 0), request);
    answer.await.map(|_| ()).map_err(failed)
}

fn failed(error: impl Display) -> ApiError {
    ApiError::Failed(format!("cannot say again what may be lost: {error}"))
}
