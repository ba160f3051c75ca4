//! The languages that plugins are written in, and where `make examples` leaves a component of each.
//!
//! Called by `rows` and `measured`. All components are the filter of that language's template, which does the same in
//! each: what differs is the language.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::events::PASSING_SERVICE;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Language {
    /// As `distributor plugin new --lang` has it.
    pub(crate) name: &'static str,
    /// What an instance may take; nothing: as every plugin.
    memory: Option<&'static str>,
}

impl Language {
    pub(crate) const RUST: Self = Self::named("rust");
    pub(crate) const C: Self = Self::named("c");
    pub(crate) const GO: Self = Self::named("go");
    pub(crate) const JAVASCRIPT: Self = Self::named("js");
    pub(crate) const PYTHON: Self = Self {
        memory: Some("64MiB"),
        ..Self::named("python")
    };

    const fn named(name: &'static str) -> Self {
        Self { name, memory: None }
    }

    pub(crate) fn component(self) -> anyhow::Result<PathBuf> {
        built(&format!("examples/{}-filter.wasm", self.name))
    }

    /// Writes a chain of this component alone.
    pub(crate) fn write_chain(self, folder: &Path) -> anyhow::Result<()> {
        let mut manifest =
            "default_filter = false\n[[plugin]]\nname = \"filter\"\ncomponent = \"filter.wasm\"\n".to_owned();
        if let Some(memory) = self.memory {
            writeln!(manifest, "memory = \"{memory}\"")?;
        }
        writeln!(manifest, "[plugin.config]\nservices = [\"{PASSING_SERVICE}\"]")?;
        std::fs::create_dir_all(folder)?;
        std::fs::copy(self.component()?, folder.join("filter.wasm"))?;
        Ok(std::fs::write(folder.join("plugins.toml"), manifest)?)
    }
}

/// What `make` has built, below the folder where this program lies.
pub(crate) fn built(path: &str) -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.parent().and_then(Path::parent).unwrap_or(Path::new("target"));
    Ok(target.join(path))
}
