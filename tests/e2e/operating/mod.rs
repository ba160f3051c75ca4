//! What operators and their tools see and do: probes, metrics, and the switches of the control listener.

mod metrics;
mod probes;
mod rig;
mod switches;
