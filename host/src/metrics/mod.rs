//! Everything that is counted and measured.
//!
//! `counters` is what the parts of the distributor add to while events flow: relaxed atomics, and nothing else.
//! `table` is the one list of what is shown to Prometheus, and `text` writes it. It reads an
//! [`crate::observe::Snapshot`] and must not know where the numbers in it come from.

mod counters;
mod histogram;
mod label;
mod table;
mod text;

pub use self::counters::{AttemptResult, Counter, Counters, PublishResult, StatusClass, Times};
pub use self::histogram::{Histogram, HistogramReport};
pub(crate) use self::label::label;
pub use self::label::{Family, Label};
pub use self::table::{Kind, Row, TABLE, markdown_table};
pub use self::text::{CONTENT_TYPE, text};

#[cfg(test)]
mod tests;
