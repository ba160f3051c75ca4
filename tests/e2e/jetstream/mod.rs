//! Events that a stream stores: none is lost, whatever happens to this process, to the service or to NATS.

mod cluster;
mod consumer;
mod filter;
mod handover;
mod nats_outages;
mod order;
mod permissions;
mod process_faults;
mod receiving;
mod rig;
mod service;
mod soak;
mod streams;
