//! What operators and their tools see and do: probes, metrics, and the switches of the control listener.

mod probes;
mod rig;
