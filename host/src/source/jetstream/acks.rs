//! Tells the server what became of its events.
//!
//! One task for each durable consumer, apart from the one that reads: it lives until the last event is settled, long after
//! reading has ended.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, Request, Subject};
use bytes::Bytes;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::ledger::{Command, Ledger};
use crate::nats;

const ACKNOWLEDGED: Bytes = Bytes::from_static(b"+ACK");
pub(super) const IN_PROGRESS: Bytes = Bytes::from_static(b"+WPI");
const COME_AGAIN: Bytes = Bytes::from_static(b"-NAK");
/// Commands that are handed to the client in one go.
const BATCH: usize = 256;
/// So long one command may wait for others.
const TOGETHER: Duration = Duration::from_millis(1);
/// Time that the server gets in the end to confirm what it was told last.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(2);

/// Passes commands on until `finish`, and then what is left, this time with the server's confirmation.
pub(super) async fn run(
    client: Client,
    mut commands: UnboundedReceiver<Command>,
    ledger: Arc<Ledger>,
    ack_wait: Duration,
    finish: CancellationToken,
) {
    // The server must hear of an event within its time-out even if one message is lost.
    let mut ticks = tokio::time::interval(ack_wait / 6);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        tokio::select! {
            n = commands.recv_many(&mut batch, BATCH) => {
                for command in batch.drain(..) {
                    let (subject, payload) = message(command);
                    // The client keeps it until there is a connection. If it never comes, the events come again.
                    let _ = client.publish(subject, payload).await;
                }
                ledger.passed_on(n);
                // So that those of the next moment go out together. Where there are many, they are waiting already.
                if n < BATCH {
                    tokio::time::sleep(TOGETHER).await;
                }
            }
            _ = ticks.tick() => if nats::is_connected(&client) {
                ledger.report_progress(ack_wait / 3);
            },
            () = finish.cancelled() => break,
        }
    }
    if nats::is_connected(&client) {
        let _ = tokio::time::timeout(CONFIRM_TIMEOUT, confirm(&client, &mut commands)).await;
    }
}

/// Passes the rest on, and waits until the server has taken note of it.
async fn confirm(client: &Client, commands: &mut UnboundedReceiver<Command>) {
    let mut acknowledgements = JoinSet::new();
    while let Ok(command) = commands.try_recv() {
        let is_acknowledgement = matches!(command, Command::Acknowledge(_));
        let (subject, payload) = message(command);
        if is_acknowledgement {
            let client = client.clone();
            acknowledgements.spawn(async move {
                let request = Request::new().payload(payload);
                let _ = client.send_request(subject, request).await;
            });
        } else {
            let _ = client.publish(subject, payload).await;
        }
    }
    while acknowledgements.join_next().await.is_some() {}
    let _ = nats::round_trip(client, CONFIRM_TIMEOUT).await;
}

fn message(command: Command) -> (Subject, Bytes) {
    match command {
        Command::Acknowledge(reply) => (reply, ACKNOWLEDGED),
        Command::Progress(reply) => (reply, IN_PROGRESS),
        Command::GiveBack(reply, pause) if pause.is_zero() => (reply, COME_AGAIN),
        Command::GiveBack(reply, pause) => (reply, Bytes::from(format!("-NAK {{\"delay\":{}}}", pause.as_nanos()))),
    }
}
