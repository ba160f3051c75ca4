//! What `deploy/` makes of the distributor: the image, as a container engine would run it, and what Prometheus and Grafana
//! make of its metrics.

mod alerts;
mod dashboard;
mod image;
mod memory_group;
mod prometheus;
mod sbom;

use std::path::{Path, PathBuf};

/// Where make puts what it makes.
fn target() -> PathBuf {
    #[expect(
        clippy::disallowed_methods,
        reason = "where things are made is the test command's business, not configuration"
    )]
    let target = std::env::var_os("CARGO_TARGET_DIR");
    target.map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
        PathBuf::from,
    )
}
