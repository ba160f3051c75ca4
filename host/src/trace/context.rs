//! The context of a trace in the form of the W3C: `traceparent` and `tracestate`.
//!
//! What comes from outside is checked here, and only what is valid is passed on: it becomes a header.

use std::fmt;

use http::{HeaderMap, HeaderValue};

use crate::event::Event;

/// Name of the header, and of the extension attribute of `CloudEvents`.
pub const TRACEPARENT: &str = "traceparent";
/// As [`TRACEPARENT`].
pub const TRACESTATE: &str = "tracestate";
/// Of what is longer nothing is passed on, as the specification allows.
const MAX_STATE_BYTES: usize = 512;
/// `00-<32 digits>-<16 digits>-<2 digits>`.
const PARENT_BYTES: usize = 55;

/// Where a trace is at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// Not 0.
    pub(super) trace_id: u128,
    /// Not 0.
    pub(super) span_id: u64,
    pub(super) flags: u8,
    state: Box<str>,
}

impl TraceContext {
    /// The first step of a new trace.
    pub(super) fn new(trace_id: u128, span_id: u64, is_sampled: bool) -> Self {
        Self {
            trace_id,
            span_id,
            flags: u8::from(is_sampled),
            state: Box::default(),
        }
    }

    /// Reads the two values. None: `traceparent` is not valid, which is the same as if it were not there.
    pub fn parse(parent: &str, state: Option<&str>) -> Option<Self> {
        let parent = parent.trim();
        let bytes = parent.as_bytes();
        let (head, rest) = parent.split_at_checked(PARENT_BYTES)?;
        // A later version may have more behind a dash.
        let is_version_known = head.starts_with("00-");
        if !rest.is_empty() && (is_version_known || !rest.starts_with('-')) || head.starts_with("ff") {
            return None;
        }
        if [2, 35, 52].iter().any(|&dash| bytes[dash] != b'-') {
            return None;
        }
        let number = |text: &str| -> Option<u128> {
            let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            text.bytes().all(is_hex).then(|| u128::from_str_radix(text, 16).ok())?
        };
        number(&head[..2])?;
        let trace_id = number(&head[3..35]).filter(|&id| id != 0)?;
        let span_id = number(&head[36..52]).filter(|&id| id != 0)?;
        let flags = number(&head[53..55])?;
        let state = state.map(str::trim).filter(|state| {
            let is_printable = |byte: u8| (b' '..=b'~').contains(&byte);
            state.len() <= MAX_STATE_BYTES && state.bytes().all(is_printable)
        });
        Some(Self {
            trace_id,
            span_id: u64::try_from(span_id).ok()?,
            // Only these are known: sampled, and random.
            flags: u8::try_from(flags).ok()? & 3,
            state: state.unwrap_or_default().into(),
        })
    }

    /// That of an event (distributed tracing extension).
    pub fn of_event(event: &Event) -> Option<Self> {
        let (parent, state) = event.trace()?;
        Self::parse(&parent, state.as_deref())
    }

    /// That of a request over HTTP.
    pub fn of_request(headers: &HeaderMap) -> Option<Self> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        Self::parse(text(TRACEPARENT)?, text(TRACESTATE))
    }

    /// That of a message of NATS.
    pub fn of_message(message: &async_nats::Message) -> Option<Self> {
        let headers = message.headers.as_ref()?;
        let text = |wanted: &str| {
            let mut named = headers.iter();
            let (_, values) = named.find(|(name, _)| AsRef::<str>::as_ref(name).eq_ignore_ascii_case(wanted))?;
            values.first().map(async_nats::HeaderValue::as_str)
        };
        Self::parse(text(TRACEPARENT)?, text(TRACESTATE))
    }

    /// Writes the headers.
    pub(crate) fn put_into(&self, headers: &mut HeaderMap) {
        // Both were checked to be printable.
        if let Ok(parent) = HeaderValue::try_from(self.to_string()) {
            headers.insert(TRACEPARENT, parent);
        }
        if !self.state.is_empty()
            && let Ok(state) = HeaderValue::from_str(&self.state)
        {
            headers.insert(TRACESTATE, state);
        }
    }

    /// The next step of the same trace.
    pub(super) fn next(self, span_id: u64, is_sampled: bool) -> Self {
        Self {
            span_id,
            flags: self.flags & !1 | u8::from(is_sampled),
            ..self
        }
    }

    /// Whether spans of this trace are recorded by whoever began it.
    pub fn is_sampled(&self) -> bool {
        self.flags & 1 == 1
    }

    /// `tracestate`; empty: none.
    pub fn state(&self) -> &str {
        &self.state
    }
}

/// `traceparent`.
impl fmt::Display for TraceContext {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "00-{:032x}-{:016x}-{:02x}",
            self.trace_id, self.span_id, self.flags
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_is_valid_is_passed_on_as_it_is_and_what_is_not_counts_as_missing() {
        let check = |text: &str, expected: Option<&str>| {
            let parsed = TraceContext::parse(text, None).map(|context| context.to_string());
            assert_eq!(parsed.as_deref(), expected, "{text:?}");
        };
        check(PARENT, Some(PARENT));
        check(&format!(" {PARENT} "), Some(PARENT));
        let unsampled = PARENT.replace("-01", "-00");
        check(&unsampled, Some(&unsampled));
        // Of a later version what is known of it, in our version.
        check(&PARENT.replacen("00", "cc", 1), Some(PARENT));
        check(
            &(PARENT.replacen("00", "cc", 1) + "-what-the-future-holds"),
            Some(PARENT),
        );
        check(&(PARENT.replacen("00", "cc", 1) + ".what"), None);
        check(&(PARENT.to_owned() + "-x"), None);
        check(&PARENT.replacen("00", "ff", 1), None);
        check(&PARENT.to_uppercase(), None);
        check(
            &PARENT.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            None,
        );
        check(&PARENT.replace("b7ad6b7169203331", &"0".repeat(16)), None);
        check(&PARENT.replace('-', "_"), None);
        check(&PARENT[..54], None);
        check("", None);
        check(&"ü".repeat(40), None);
        check(&format!("00-{}", "é".repeat(26)), None);
    }

    #[test]
    fn a_state_is_passed_on_unless_it_is_no_header() {
        let check = |state: &str, expected: &str| {
            let context = TraceContext::parse(PARENT, Some(state)).unwrap();
            assert_eq!(context.state(), expected);
        };
        check(
            "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7",
            "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7",
        );
        check("a=b\r\nx-token: forged", "");
        check(&"x".repeat(513), "");
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_taken_is_valid_and_is_taken_again(parent in ".*", state in ".*") {
            for parent in [parent.clone(), format!("{}{parent}", &PARENT[..50]), format!("{PARENT}{parent}")] {
                if let Some(context) = TraceContext::parse(&parent, Some(&state)) {
                    let text = context.to_string();
                    proptest::prop_assert_eq!(TraceContext::parse(&text, Some(context.state())), Some(context));
                    proptest::prop_assert!(http::HeaderValue::try_from(text).is_ok());
                }
            }
        }
    }
}
