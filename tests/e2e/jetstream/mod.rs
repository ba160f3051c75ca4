//! Events that a stream stores: none is lost, whatever happens to this process, to the service or to NATS.

mod broken_answers;
mod cluster;
mod consumer;
mod dead_letters;
mod deployed_permissions;
mod filter;
mod handover;
mod limits;
mod nats_outages;
mod order;
mod payloads;
mod permissions;
mod plugin_answers;
mod plugin_failures;
mod plugin_shadows;
mod process_faults;
mod raw_service;
mod receiving;
mod rig;
mod service;
mod service_answers;
mod soak;
mod streams;
mod subscriptions;
