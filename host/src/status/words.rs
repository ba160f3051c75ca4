//! Numbers, times and reasons as people read them: on the status page, in a terminal, and in findings.

use std::time::Duration;

use crate::dead_letter::Reason;

/// Why an event was given up, as people say it.
pub(crate) fn reason_in_words(reason: &str) -> &'static str {
    match Reason::parse(reason) {
        Reason::RetriesExhausted => "with no attempt left",
        Reason::PermanentStatus => "refused for good",
        Reason::Expired => "too old",
        Reason::Malformed => "no CloudEvent",
        Reason::Plugin => "failed in a plugin",
        Reason::TooLarge => "too large",
        Reason::Unknown => "for another reason",
    }
}

/// A time as people read it.
pub(crate) fn moment(time: &str, now: &str) -> String {
    let (Some(date), Some(clock)) = (time.get(..10), time.get(11..19)) else {
        return time.to_owned();
    };
    if now.starts_with(date) {
        format!("{clock} UTC")
    } else {
        format!("{date} {clock} UTC")
    }
}

/// A number with its thousands apart.
pub(crate) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.char_indices() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time to wait, in whole seconds.
pub(crate) fn seconds(seconds: f64) -> String {
    let duration = Duration::try_from_secs_f64(seconds.ceil()).unwrap_or_default();
    humantime::format_duration(duration).to_string()
}

/// How many of something there are.
pub(super) fn many(n: u64, one: &str, several: &str) -> String {
    format!("{} {}", number(n), if n == 1 { one } else { several })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_by_people() {
        for (n, expected) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(number(n), expected);
        }
    }

    #[test]
    fn times_are_as_long_as_they_have_to_be() {
        let now = "2026-11-23T02:20:00.000Z";
        assert_eq!(moment("2026-11-23T02:14:07.123Z", now), "02:14:07 UTC");
        assert_eq!(moment("2026-11-22T23:14:07.123Z", now), "2026-11-22 23:14:07 UTC");
        assert_eq!(moment("soon", now), "soon");
        assert_eq!((seconds(0.2), seconds(2174.0)), ("1s".to_owned(), "36m 14s".to_owned()));
    }
}
