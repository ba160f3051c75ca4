//! Where events come from. Every source hands them to [`crate::dispatch`] in the order it got them.

pub mod nats;
