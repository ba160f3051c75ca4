//! Damaged arguments of host functions: whatever a guest hands over, the host does not panic, keeps no more than the quotas
//! say, and answers what it was told before.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::plugins::bindings::keptn::distributor::{config, logging, metrics, state};
use crate::plugins::context::Direction;

const STATE_BYTES: usize = 4 << 10;
const MAX_METRICS: usize = 50;

/// Reads arguments out of bytes: two of a size, the number of one, and then as many.
struct Arguments<'a>(&'a [u8]);

impl Arguments<'_> {
    fn bytes(&mut self) -> Option<Vec<u8>> {
        let (size, rest) = self.0.split_first_chunk::<2>()?;
        let (bytes, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*size)))?;
        self.0 = rest;
        Some(bytes.to_vec())
    }

    /// A guest cannot hand over text that is none.
    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?).ok()
    }

    fn number(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*number))
    }

    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }
}

/// Arguments as [`Arguments`] reads them.
fn written(calls: &[(u8, &str, &[u8], u64)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (function, key, value, number) in calls {
        bytes.push(*function);
        for part in [key.as_bytes(), value] {
            bytes.extend(u16::try_from(part.len()).unwrap().to_be_bytes());
            bytes.extend(part);
        }
        bytes.extend(number.to_be_bytes());
    }
    bytes
}

/// Calls one function. None: there is no such call in the bytes.
fn call(host: &mut State, arguments: &mut Arguments<'_>) -> Option<wasmtime::Result<()>> {
    let function = arguments.byte()?;
    let (key, value, number) = (arguments.text()?, arguments.bytes()?, arguments.number()?);
    let ttl = number.is_multiple_of(2).then_some(number);
    Some(match function % 9 {
        0 => state::Host::set(host, key.clone(), value.clone(), None).and_then(|stored| {
            let found = state::Host::get(host, key)?;
            assert!(
                stored.is_err() || matches!(&found, Ok(Some(found)) if *found == value),
                "what is stored is there"
            );
            Ok(())
        }),
        1 => state::Host::set(host, key, value, ttl).map(drop),
        2 => state::Host::increment(host, key, number.cast_signed(), ttl).map(drop),
        3 => state::Host::set_if_absent(host, key, value, ttl).map(drop),
        4 => state::Host::delete(host, key.clone()).and_then(|_| {
            assert!(
                matches!(state::Host::get(host, key)?, Ok(None)),
                "what is deleted is gone"
            );
            Ok(())
        }),
        5 => metrics::Host::add(host, key, number),
        6 => metrics::Host::set(host, key, f64::from_bits(number)),
        7 => config::Host::get(host, key.clone()).and_then(|_| config::Host::get_list(host, key).map(drop)),
        _ => {
            let value = String::from_utf8_lossy(&value).into_owned();
            logging::Host::log(host, logging::Level::Error, key.clone(), vec![(key, value)])
        }
    })
}

#[test]
fn whatever_is_handed_over_has_an_answer() {
    let seeds = [
        written(&[(0, "key", b"value", 1), (4, "key", b"", 1)]),
        written(&[(1, "n", b"41", 60_000), (2, "n", b"", 1), (3, "n", b"x", u64::MAX - 1)]),
        written(&[(5, "events_total", b"", 7), (6, "ratio", b"", 0.5_f64.to_bits())]),
        written(&[(7, "a.b", b"", 0), (8, "message\n", b"field\0", 0)]),
    ];
    let settings = || {
        let mut settings = Settings::named("fuzzed");
        settings.grants.state = true;
        settings.limits.state_bytes = STATE_BYTES;
        settings.config = json!({ "a": { "b": [1, null, "c"] }, "d": "1,2" });
        settings
    };
    crate::fuzz::run(&seeds.each_ref().map(Vec::as_slice), |bytes| {
        let name: Arc<str> = "fuzzed".into();
        let shared = Arc::new(Shared::new(settings(), "digest", Arc::new(Kept::new(&name))));
        let mut host = State::new(Arc::clone(&shared), false);
        let about = Call {
            event_id: "e",
            keptn_context: "",
            direction: Some(Direction::Incoming),
        };
        host.start_call(Duration::from_secs(1), about);
        let mut arguments = Arguments(bytes);
        let mut are_right = true;
        while let Some(result) = call(&mut host, &mut arguments) {
            are_right &= result.is_ok();
        }
        assert!(shared.kept.store.bytes() <= STATE_BYTES);
        assert!(shared.kept.metrics.values().len() <= MAX_METRICS);
        are_right && arguments.0.is_empty()
    });
}
