//! The distributor between a control plane and a service, over a whole sequence of tasks; and the control plane of these
//! tests held against a real one.

pub(crate) mod captures;
mod sequence;
mod shape;
