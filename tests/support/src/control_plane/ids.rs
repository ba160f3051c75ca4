//! Ids and times as the control plane makes them.

use std::time::SystemTime;

/// A new random UUID.
pub(super) fn new_id() -> String {
    let bytes = fastrand::u128(..).to_be_bytes();
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

/// Whether this is a UUID.
pub(super) fn is_id(text: &str) -> bool {
    uuid::Uuid::try_parse(text).is_ok()
}

/// Now, in nanoseconds, as events have it.
pub(super) fn now() -> String {
    humantime::format_rfc3339_nanos(SystemTime::now()).to_string()
}

/// Now, in milliseconds, as the database keeps times.
pub(super) fn now_millis() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

/// Go's zero time, which stands for no time.
pub(super) const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// SHA-1 in hexadecimal digits.
pub(super) fn sha1(text: &str) -> String {
    sha1_smol::Sha1::from(text).digest().to_string()
}
