//! `distributor plugin wit`.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{CommandError, print, print_json};
use crate::plugins::CONTRACT_VERSION;

/// The contract that this binary was built with.
pub(super) const CONTRACT: &str = include_str!("../../../../wit/world.wit");
pub(super) const FILE_NAME: &str = "world.wit";

/// Options of `wit`.
#[derive(Debug, Args)]
pub struct WitArguments {
    /// Write it into this folder, as world.wit. Without it, it is printed.
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Print a JSON object with the version and the text.
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

pub(super) fn run(arguments: &WitArguments) -> Result<bool, CommandError> {
    if arguments.json {
        print_json(&json!({"version": CONTRACT_VERSION, "files": {FILE_NAME: CONTRACT}}))?;
    } else if let Some(folder) = &arguments.output {
        let path = folder.join(FILE_NAME);
        let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, CONTRACT));
        written.map_err(|error| CommandError::Failed(format!("cannot write {}: {error}", path.display())))?;
        eprintln!("{} has contract {CONTRACT_VERSION}", path.display());
    } else {
        print(CONTRACT)?;
    }
    Ok(true)
}
