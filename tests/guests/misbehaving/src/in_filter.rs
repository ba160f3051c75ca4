//! What the guest does wrong, or right, when it is asked to decide.
//!
//! Called by the `evaluate` hook. It knows nothing of the configuration.

use std::cell::Cell;
use std::hint::black_box;
use std::time::Duration;

use crate::bindings::exports::keptn::distributor::filter::{CloudEvent, Failure, Verdict};
use crate::orders::Behaviour;
use crate::{on_host, on_wasi};

const HUGE_REASON_BYTES: usize = 16 << 20;
const HOARDED_BYTES: usize = 1 << 20;
const LEAKED_BYTES: usize = 1 << 10;

thread_local! {
    /// Calls of this instance that were told to fail, and did.
    static FAILED: Cell<u32> = const { Cell::new(0) };
}

/// Behaves as told; passes when the order is for another place.
pub(crate) fn behave(behaviour: Behaviour, count: u32, event: &CloudEvent) -> Result<Verdict, Failure> {
    match behaviour {
        Behaviour::Loop => loop_forever(),
        Behaviour::Hog => hog(),
        Behaviour::Trap => panic!("told to trap at event {}", event.id),
        Behaviour::Recurse => _ = descend(1),
        Behaviour::Exit => std::process::exit(3),
        Behaviour::Sleep => sleep(Duration::from_mins(1)),
        Behaviour::Nap => sleep(Duration::from_millis(count.into())),
        Behaviour::TrapOnEmpty => assert!(event.data.is_some(), "told to trap without data"),
        Behaviour::RollDice => return Ok(Verdict::Drop(on_wasi::random_number().to_string())),
        Behaviour::Chatty => on_host::chatter(count),
        Behaviour::HugeLog => on_host::log_one_huge_line(),
        Behaviour::MetricFlood => on_host::flood_metrics(),
        Behaviour::SpinOnClock => on_wasi::spin_on_clock(),
        Behaviour::Print => on_wasi::print(count),
        Behaviour::PrintBytes => on_wasi::print_bytes(),
        Behaviour::Handles => on_wasi::hoard_timers(),
        Behaviour::Random => on_wasi::ask_for_random_bytes(),
        Behaviour::Snoop => return Ok(Verdict::Drop(on_wasi::snoop())),
        Behaviour::Leak => {
            std::mem::forget(black_box(vec![1_u8; LEAKED_BYTES]));
            return Ok(Verdict::Drop(on_host::count_everywhere()));
        }
        Behaviour::OddReason => {
            return Ok(Verdict::Drop("first\nINFO forged\u{1b}[31m\u{0}".to_owned()));
        }
        Behaviour::BadUtf8 => return Ok(Verdict::Drop(not_utf8())),
        Behaviour::HugeReason => return Ok(Verdict::Drop("x".repeat(HUGE_REASON_BYTES))),
        Behaviour::Transient => return Err(transient()),
        Behaviour::TransientAtFirst if FAILED.get() < count => {
            FAILED.set(FAILED.get() + 1);
            return Err(transient());
        }
        Behaviour::Permanent => {
            return Err(Failure::Permanent("told to fail for good".to_owned()));
        }
        Behaviour::Drop => return Ok(Verdict::Drop("not wanted".to_owned())),
        Behaviour::State => return Ok(Verdict::Drop(on_host::answer_of_state().to_owned())),
        Behaviour::StateFlood => return Ok(Verdict::Drop(on_host::flood_state())),
        Behaviour::StateHuge => return Ok(Verdict::Drop(on_host::store_huge_value())),
        Behaviour::StateCount => return Ok(Verdict::Drop(on_host::count_everywhere())),
        Behaviour::StateText => on_host::add_to_text(),
        _ => {}
    }
    Ok(Verdict::Pass)
}

fn transient() -> Failure {
    Failure::Transient("told to fail for now".to_owned())
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
fn sleep(duration: Duration) {
    std::thread::sleep(duration);
}

/// What only a broken language runtime makes.
#[allow(unsafe_code, reason = "text that is none is what is wanted")]
fn not_utf8() -> String {
    // SAFETY: nothing looks at it before the host does, and the host checks.
    unsafe { String::from_utf8_unchecked(black_box(vec![b'a', 0xff, 0xfe])) }
}
