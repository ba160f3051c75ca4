//! The API proxy: requests of the service to the control plane.

mod bodies;
mod failures;
mod headers;
mod limits;
mod message;
mod paths;
mod remote;
mod rig;
mod tokens;
mod traffic;
