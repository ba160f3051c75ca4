//! What calls cost: memory that is never given back, time against the limit, fuel.

use std::time::Duration;

use tokio::time::Instant;

use super::super::CommandError;
use super::super::shown::{grouped, size, time};
use super::behaviour::TIME;
use super::odd_events::ordinary;
use super::{Report, Subject};
use crate::plugins::{Isolation, Limits, LoadError};

pub(super) const LEAK: &str = "leak";
const FUEL: &str = "fuel";
/// The first calls fill caches and grow heaps; what grows in the last two of these windows keeps growing.
const WINDOWS: usize = 3;
/// Time for all of it.
const MAX_TIME: Duration = Duration::from_secs(20);
/// Less than a page in a window is told apart from nothing only by many more calls.
const LEAK_BYTES: usize = 64;
/// Larger ones take long to be compiled once more.
const MAX_COUNTED_BYTES: usize = 4 << 20;

/// Calls the plugin many times, and looks at its memory and at the clock.
pub(super) async fn leak_and_time(subject: &Subject<'_>, report: &mut Report) -> Result<(), CommandError> {
    let event = ordinary(&subject.event_type());
    let mut settings = subject.settings.clone();
    // An instance that is replaced in good time would hide what it leaks.
    settings.isolation = Isolation::Warm;
    settings.limits = Limits {
        calls_per_instance: u32::MAX,
        ..settings.limits
    };
    let plugin = subject.piece.plugin(&settings).await;
    let plugin = plugin.map_err(|error| CommandError::Failed(format!("{} {error}", subject.target.shown)))?;
    let start = Instant::now();
    let mut times = Vec::with_capacity(subject.calls as usize * WINDOWS);
    let mut growth = [0_usize; WINDOWS];
    let mut replaced = 0_u32;
    'windows: for (number, growth) in growth.iter_mut().enumerate() {
        subject
            .desk
            .progress
            .show(&format!("leak: {} × {}", number + 1, subject.calls));
        for _ in 0..subject.calls {
            let observation = subject.observe(&plugin, &event).await;
            times.push(observation.elapsed);
            match observation.memory_growth {
                Some(bytes) => *growth += bytes,
                None => replaced += 1,
            }
            if start.elapsed() > MAX_TIME {
                break 'windows;
            }
        }
    }
    subject.desk.progress.clear();
    leaks(subject, &growth, replaced, times.len(), report);
    takes_time(&mut times, settings.limits.call_time, report);
    Ok(())
}

fn leaks(subject: &Subject<'_>, growth: &[usize; WINDOWS], replaced: u32, n_calls: usize, report: &mut Report) {
    let calls = subject.calls as usize;
    if n_calls < calls * WINDOWS {
        report.skip(
            LEAK,
            format!("{n_calls} calls took {}: too few to tell", time(MAX_TIME)),
        );
        return;
    }
    let last = &growth[1..];
    let per_call = last.iter().sum::<usize>() / (calls * last.len());
    let keeps_growing = last.iter().all(|&bytes| bytes > 0);
    // The first call on an instance is not counted, as there is none to compare with.
    if replaced > 1 || (keeps_growing && per_call >= LEAK_BYTES) {
        let replaced = if replaced > 1 {
            format!("; its instance had to be replaced {} times", replaced / 2)
        } else {
            String::new()
        };
        report.fail(
            LEAK,
            format!("each call keeps about {per_call} bytes, over {n_calls} calls{replaced}"),
            "free what a call has allocated: in C each argument with its generated `_free`, elsewhere whatever is put into \
             globals, caches and `forget`; the sidecar replaces an instance whose memory is nearly used up, which costs time",
        );
    } else if keeps_growing {
        report.warn(
            LEAK,
            format!("its memory still grows after {n_calls} calls, by {per_call} bytes a call"),
            "run it with more --calls to see whether that ends",
        );
    } else {
        let text = format!(
            "none over {n_calls} calls; memory grew by {} at first",
            size(growth.iter().sum())
        );
        report.good(LEAK, text);
    }
}

fn takes_time(times: &mut [Duration], limit: Duration, report: &mut Report) {
    times.sort_unstable();
    let Some(&slowest) = times.last() else { return };
    let [median, p99] = [50, 99].map(|percent| times[(times.len() - 1) * percent / 100]);
    let text = format!(
        "p50 {}, p99 {}, slowest {} of the {} that a call may take",
        time(median),
        time(p99),
        time(slowest),
        time(limit)
    );
    if p99 > limit / 2 {
        report.fail(
            TIME,
            text,
            "do less for each event, or raise `timeout` in its entry: a busy machine is slower than this",
        );
    } else if p99 > limit / 10 {
        report.warn(TIME, text, "do less for each event: a busy machine is slower than this");
    } else {
        report.good(TIME, text);
    }
}

/// Counts what an ordinary event costs.
pub(super) async fn fuel(subject: &Subject<'_>, report: &mut Report) -> Result<(), CommandError> {
    if subject.component.bytes.len() > MAX_COUNTED_BYTES {
        report.skip(
            FUEL,
            "compiling it once more would take long; `distributor plugin bench` counts it",
        );
        return Ok(());
    }
    let workbench = subject.desk.counting_workbench()?;
    let failed = |error: LoadError| CommandError::Failed(format!("{} {error}", subject.target.shown));
    let piece = subject.desk.take(&workbench, subject.component).await.map_err(failed)?;
    let plugin = piece.plugin(&subject.settings).await.map_err(failed)?;
    let event = ordinary(&subject.event_type());
    let mut counted = Vec::new();
    for _ in 0..3 {
        counted.push(subject.observe(&plugin, &event).await.fuel);
    }
    match counted.as_slice() {
        [.., Some(last)] => report.good(FUEL, format!("{} for an ordinary event", grouped(*last))),
        _ => report.skip(FUEL, "no instance outlives its call, so it cannot be counted"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn time_is_compared_with_what_a_call_may_take() {
        let check = |micros: &[u64], expected: Status| {
            let mut report = Report::default();
            let mut times: Vec<_> = micros.iter().map(|&micros| Duration::from_micros(micros)).collect();
            takes_time(&mut times, Duration::from_millis(1), &mut report);
            assert_eq!(
                report.findings[0].status, expected,
                "{micros:?}: {}",
                report.findings[0].text
            );
        };
        check(&[1, 2, 3], Status::Good);
        check(&[90, 50, 1], Status::Good);
        check(&[200, 150, 170, 1], Status::Warning);
        check(&[900, 900, 900, 1], Status::Failed);
        // One of a hundred may have met something else on the machine.
        check(&[vec![1; 199], vec![900]].concat(), Status::Good);
    }
}
