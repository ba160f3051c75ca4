//! Makes any text fit for a header, a subject, a line.
//!
//! What is in an event comes from outside: it must not be able to add a header, to choose another subject, or to steer
//! a terminal.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// Longest token of a subject, and longest header that is an id or a name; longer ones are cut.
const MAX_NAME_BYTES: usize = 512;
/// Longest event type in a subject. Servers take lines of 4 KiB, with everything else that is in one.
const MAX_SUBJECT_BYTES: usize = 256;
/// What is written as `%XX` in headers. A space at either end would get lost.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'%');
/// The last second that RFC 3339 can write: the end of the year 9999.
const LAST_SECOND: u64 = 253_402_300_799;

/// One line without control characters, of at most so many bytes. Changes of the direction of writing count as control
/// characters: they make a terminal show something else than what is there.
pub fn one_line(text: &str, max_bytes: usize) -> String {
    let steers = |c: char| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let line: String = text.chars().map(|c| if steers(c) { ' ' } else { c }).collect();
    cut(line.trim(), max_bytes).trim_end().to_owned()
}

/// An id or a name as the value of a header, from which [`from_header`] gets it back.
pub(super) fn to_header(text: &str) -> String {
    let mut encoded = String::new();
    for c in text.chars() {
        let end = encoded.len();
        encoded.extend(utf8_percent_encode(c.encode_utf8(&mut [0; 4]), ENCODED));
        if encoded.len() > MAX_NAME_BYTES {
            encoded.truncate(end);
            break;
        }
    }
    encoded
}

/// The reverse of [`to_header`].
pub(super) fn from_header(value: &str) -> String {
    percent_decode_str(value).decode_utf8_lossy().into_owned()
}

/// The tokens of an event type in a subject: for any text there is at least one, and none is a wildcard.
pub(super) fn type_tokens(event_type: &str) -> String {
    let event_type = cut(event_type, MAX_SUBJECT_BYTES);
    if event_type.is_empty() {
        return "unknown".to_owned();
    }
    let tokens: Vec<_> = event_type.split('.').map(token).collect();
    tokens.join(".")
}

/// One token of a subject.
pub(super) fn token(text: &str) -> Cow<'_, str> {
    let is_fine = |c: char| c.is_ascii_graphic() && !matches!(c, '.' | '*' | '>');
    let text = cut(text, MAX_NAME_BYTES);
    if text.is_empty() {
        Cow::Borrowed("_")
    } else if text.chars().all(is_fine) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.chars().map(|c| if is_fine(c) { c } else { '_' }).collect())
    }
}

/// A time as RFC 3339 has it, with milliseconds.
pub fn rfc3339(time: SystemTime) -> String {
    // Times may come from outside; what no clock shows becomes the nearest that can be written.
    let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let since_epoch = since_epoch.min(Duration::from_secs(LAST_SECOND));
    humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + since_epoch).to_string()
}

/// The start of a text, of at most so many bytes.
pub(super) fn cut(text: &str, max_bytes: usize) -> &str {
    &text[..text.floor_char_boundary(max_bytes)]
}
