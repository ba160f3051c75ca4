//! The parts of the distributor, in the order in which an event meets them.
//!
//! An event is followed in four files: [`source`] → [`dispatch`] → [`plugins`] → [`delivery`]; an event of the
//! service goes [`ingress`] → [`plugins`] → [`sink`]. `ARCHITECTURE.md` has the map.

pub mod admin;
pub mod answers;
pub mod app;
pub mod budget;
pub mod cli;
pub mod config;
mod connect;
pub mod connection;
pub mod control;
pub mod dead_letter;
pub mod dedupe;
pub mod delivery;
pub mod dispatch;
pub mod error_log;
pub mod event;
#[cfg(test)]
mod fuzz;
pub mod ingress;
pub mod jetstream_api;
pub mod json;
pub mod keptn_api;
pub mod metrics;
pub mod nats;
pub mod observe;
pub mod plugins;
pub mod proxy;
pub mod receipt;
pub mod recent_events;
pub mod registration;
pub mod secret;
pub mod server;
pub mod sink;
pub mod source;
pub mod start_up;
pub mod status;
pub mod streams;
pub mod subject;
pub mod subscription;
pub mod telemetry;
pub mod tls;
pub mod trace;
