//! Ways to strain the functions that the host offers.
//!
//! Called by the filter.

use crate::bindings::keptn::distributor::{logging, metrics, state};

const HUGE_LINE_BYTES: usize = 1 << 20;
const N_FIELDS: usize = 10_000;
const N_NAMES: usize = 3000;
const HUGE_VALUE_BYTES: usize = 3 << 19;

pub(crate) fn chatter(n_lines: u32) {
    for number in 0..n_lines {
        let fields = [("number".to_owned(), number.to_string())];
        logging::log(logging::Level::Info, "told to be chatty", &fields);
    }
}

pub(crate) fn log_one_huge_line() {
    let message = "line\nINFO forged\u{1b}[31m".repeat(HUGE_LINE_BYTES / 20);
    let fields = vec![("name".to_owned(), "value".to_owned()); N_FIELDS];
    logging::log(logging::Level::Info, &message, &fields);
}

pub(crate) fn flood_metrics() {
    for number in 0..N_NAMES {
        metrics::add(&format!("name_{number}"), 1);
        metrics::add(&format!("bad\nname {number}"), 1);
    }
    metrics::set("name_0", 1.0);
    metrics::set("not_a_number", f64::NAN);
}

pub(crate) fn answer_of_state() -> &'static str {
    match state::get("key") {
        Err(state::Error::Denied) => "denied",
        Err(state::Error::QuotaExceeded) => "quota exceeded",
        Ok(None) => "absent",
        Ok(Some(_)) => "present",
    }
}

pub(crate) fn flood_state() -> String {
    let stores = |number: &usize| state::set(&format!("key-{number:06}"), b"value", None).is_ok();
    let n_keys = (0..1_000_000).take_while(stores).count();
    format!("room for {n_keys} keys")
}

pub(crate) fn store_huge_value() -> String {
    match state::set("key", &vec![1; HUGE_VALUE_BYTES], None) {
        Ok(()) => "stored".to_owned(),
        Err(error) => format!("refused: {error:?}"),
    }
}

pub(crate) fn count_everywhere() -> String {
    let Ok(count) = state::increment("events", 1, None) else {
        return "not counted".to_owned();
    };
    metrics::add("events_total", 1);
    #[allow(clippy::cast_precision_loss, reason = "tests send few events")]
    metrics::set("events", count as f64);
    format!("event {count}")
}

pub(crate) fn add_to_text() {
    // Without the grant nothing is stored, and then there is nothing to trap on.
    let _ = state::set("text", b"not a number", None);
    let _ = state::increment("text", 1, None);
}
