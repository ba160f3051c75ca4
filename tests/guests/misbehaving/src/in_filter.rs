//! What the guest does wrong, or right, when it is asked to decide.
//!
//! Called by the `evaluate` hook. It knows nothing of the configuration.

use std::hint::black_box;
use std::time::Duration;

use crate::bindings::exports::keptn::distributor::filter::{CloudEvent, Failure, Verdict};
use crate::bindings::keptn::distributor::{logging, state};
use crate::orders::Behaviour;

const HUGE_REASON_BYTES: usize = 16 << 20;
const HOARDED_BYTES: usize = 1 << 20;

/// Behaves as told; passes when the order is for another place.
pub(crate) fn behave(behaviour: Behaviour, count: u32, event: &CloudEvent) -> Result<Verdict, Failure> {
    match behaviour {
        Behaviour::Loop => loop_forever(),
        Behaviour::Hog => hog(),
        Behaviour::Trap => panic!("told to trap at event {}", event.id),
        Behaviour::Recurse => _ = descend(1),
        Behaviour::Exit => std::process::exit(3),
        Behaviour::Sleep => sleep(),
        Behaviour::Chatty => chatter(count),
        Behaviour::HugeReason => return Ok(Verdict::Drop("x".repeat(HUGE_REASON_BYTES))),
        Behaviour::Transient => return Err(Failure::Transient("told to fail for now".to_owned())),
        Behaviour::Permanent => {
            return Err(Failure::Permanent("told to fail for good".to_owned()));
        }
        Behaviour::Drop => return Ok(Verdict::Drop("not wanted".to_owned())),
        Behaviour::State => return Ok(Verdict::Drop(answer_of_state().to_owned())),
        _ => {}
    }
    Ok(Verdict::Pass)
}

/// Calls nothing, so that only the host's clock can end it.
pub(crate) fn loop_forever() -> ! {
    loop {
        black_box(());
    }
}

fn hog() -> ! {
    let mut hoard = Vec::new();
    loop {
        // Written to, because untouched memory costs the host nothing.
        hoard.push(black_box(vec![1_u8; HOARDED_BYTES]));
    }
}

/// The bound is never reached, but the compiler cannot know; the frame is used after the call, so that it stays.
fn descend(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    if depth == black_box(u64::MAX) {
        return 0;
    }
    descend(depth + 1) + black_box(frame)[0]
}

#[allow(
    clippy::disallowed_methods,
    reason = "to hold up the host's thread is what is wanted"
)]
fn sleep() {
    std::thread::sleep(Duration::from_mins(1));
}

fn chatter(n_lines: u32) {
    for number in 0..n_lines {
        let fields = [("number".to_owned(), number.to_string())];
        logging::log(logging::Level::Info, "told to be chatty", &fields);
    }
}

fn answer_of_state() -> &'static str {
    match state::get("key") {
        Err(state::Error::Denied) => "denied",
        Err(state::Error::QuotaExceeded) => "quota exceeded",
        Ok(None) => "absent",
        Ok(Some(_)) => "present",
    }
}
