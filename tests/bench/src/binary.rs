//! How large the program is.
//!
//! Called by `row`. It must not run anything.

use std::path::Path;

use crate::figures::{Figure, Round};
use crate::languages::built;
use crate::measured::Program;

/// Of the binary that is measured, and of the static one without names if `make image` has made it.
pub(crate) fn sizes(program: Program<'_>) -> anyhow::Result<Round> {
    let Program::Distributor(distributor) = program else {
        return Ok(Vec::new());
    };
    let mut round = vec![(Figure::BinaryMegabytes, megabytes(distributor.binary)?)];
    let of_image = built("image/distributor")?;
    if of_image.is_file() {
        round.push((Figure::StaticBinaryMegabytes, megabytes(&of_image)?));
    } else {
        eprintln!(
            "there is no {}: `make image` makes the static binary",
            of_image.display()
        );
    }
    Ok(round)
}

#[expect(clippy::cast_precision_loss, reason = "a binary is far below 2^53 bytes")]
fn megabytes(path: &Path) -> anyhow::Result<f64> {
    Ok(std::fs::metadata(path)?.len() as f64 / 1e6)
}
