//! What `deploy/` makes of the distributor: the image, as a container engine would run it, and what Prometheus and Grafana
//! make of its metrics.

mod alerts;
mod dashboard;
mod image;
mod memory_group;
mod prometheus;
