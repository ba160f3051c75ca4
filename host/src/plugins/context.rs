//! What is known about an event besides itself.

use crate::subscription::Subscription;
use crate::trace::Span;

/// Which way an event travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Control plane → service.
    Incoming,
    /// Service → control plane.
    Outgoing,
}

/// The circumstances of one passage through the chain.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Which way it travels.
    pub direction: Direction,
    /// The subscription that matched.
    pub subscription: Option<&'a Subscription>,
    /// The subject it was received on; empty for outgoing events.
    pub received_on: &'a str,
    /// 1, or more after a redelivery.
    pub receipt: u32,
    /// The step that calls of plugins are parts of.
    pub span: Option<&'a Span>,
}
