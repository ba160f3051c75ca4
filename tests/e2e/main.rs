//! The distributor from end to end: real NATS, a real service, real sockets, and real components.
//!
//! One module for each kind of behaviour. Most tests run the distributor inside their own process ([`harness::App`]);
//! what is about exit codes, signals, logs and the environment runs the binary. Nothing is shared between tests, and
//! nothing sleeps: to show that an event does not arrive, a test sends another one behind it, in the same Keptn context
//! and so in order, and waits for that one.

#![expect(
    clippy::unwrap_used,
    reason = "all of this is tests; clippy takes only functions marked as such for one"
)]
#![expect(
    clippy::print_stdout,
    reason = "figures that `make soak` shows; the test runner hides them otherwise"
)]
#![expect(
    clippy::similar_names,
    reason = "a publisher publishes, and what it published is compared with what arrived"
)]

mod harness;

mod access;
mod compiling;
mod compiling_costs;
mod configuration;
mod control_plane;
mod dead_letters;
mod delivery;
mod deployment;
mod documentation;
mod error_index;
mod examples;
mod filtering;
mod forwarding;
mod hostile_plugins;
mod jetstream;
mod logs;
mod museum;
mod operating;
mod outages;
mod payloads;
mod plugin_breaker;
mod plugin_candidates;
mod plugin_capture;
mod plugin_chain_file;
mod plugin_cli;
mod plugin_failures;
mod plugin_loading;
mod plugin_policies;
mod plugin_publishing;
mod plugin_recycling;
mod plugin_slow;
mod plugin_state;
mod plugin_swaps;
mod plugins;
mod proxy;
mod quick_start;
mod receiving;
mod registration;
mod remote;
mod shutdown;
mod status;
mod stock_plugins;
mod storing;
mod stream_lookup;
mod subscriptions;
mod traces;
