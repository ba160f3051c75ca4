//! What a directory asks for: `plugins.toml`, or every component in name order.
//!
//! Called by [`super::build`]. It reads and checks the entries; components are not opened. Mistakes do not end the
//! reading: all of them are found, and entries that can be understood are there beside them.

mod config;
mod entry;
mod fields;
mod known;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::de::DeTable;

use self::config::ConfigPlaces;
use self::fields::Fields;
use self::known::Known;
use super::component::Source;
use super::error::ConfigProblem;
use super::problem::{ChainProblem, Place};
use super::selftest::SelfTest;
use super::settings::Settings;

/// File that describes the chain.
pub(super) const FILE_NAME: &str = "plugins.toml";

/// Mistakes in the syntax that are named; after one, others may only follow from it.
const MAX_SYNTAX_ERRORS: usize = 10;
const COMPONENT_SUFFIXES: [&str; 2] = [".wasm", ".wasm.gz"];

/// One plugin of the chain.
#[derive(Debug)]
pub(super) struct Entry {
    /// Where its component is.
    pub(super) source: Source,
    /// SHA-256 that the file has to have.
    pub(super) pin: Option<String>,
    /// Whether that may be native code.
    pub(super) allow_precompiled: bool,
    pub(super) settings: Settings,
    /// Where its configuration stands; none when it has none.
    pub(super) config_places: Option<ConfigPlaces>,
    pub(super) self_tests: Vec<SelfTest>,
    /// The file that the entry is in.
    manifest: Option<PathBuf>,
}

/// What a directory asks for.
#[derive(Debug)]
pub(super) struct Manifest {
    /// Whether the built-in filter stands first.
    pub(super) default_filter: bool,
    /// As far as they can be understood.
    pub(super) entries: Vec<Entry>,
    /// What is wrong.
    pub(super) problems: Vec<ChainProblem>,
}

impl Default for Manifest {
    /// What is asked for without a directory.
    fn default() -> Self {
        Self {
            default_filter: true,
            entries: Vec::new(),
            problems: Vec::new(),
        }
    }
}

impl Entry {
    /// One about which nothing is said but its name.
    pub(super) fn named(name: &str, source: Source) -> Self {
        Self {
            source,
            pin: None,
            allow_precompiled: false,
            settings: Settings::named(name),
            config_places: None,
            self_tests: Vec::new(),
            manifest: None,
        }
    }

    /// The files that it names.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let events = self.self_tests.iter().map(|test| test.event.as_path());
        self.source
            .file()
            .into_iter()
            .chain(events)
            .map(Path::to_owned)
            .collect()
    }

    /// What is wrong with the configuration, with its place if there is one.
    pub(super) fn config_problem(&self, problem: &ConfigProblem) -> ChainProblem {
        let places = self.config_places.as_ref();
        self.problem_at(
            places.map(|places| places.nearest(&problem.pointer)),
            format!("does not accept its configuration: {problem}"),
        )
    }

    /// What is wrong with a part of the entry, or, without a place, with the component.
    pub(super) fn problem_at(&self, place: Option<Place>, reason: String) -> ChainProblem {
        let manifest = self.manifest.as_deref().filter(|_| place.is_some());
        ChainProblem {
            plugin: Some(Arc::clone(&self.settings.name)),
            file: manifest.or(self.source.file()).map(Path::to_owned),
            place,
            reason,
        }
    }
}

/// Reads what a directory asks for.
pub(super) fn read(directory: &Path) -> Manifest {
    let path = directory.join(FILE_NAME);
    match std::fs::read_to_string(&path) {
        Ok(text) => parse(directory, &path, &text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => every_component(directory),
        Err(error) => unreadable(&path, &error),
    }
}

fn parse(directory: &Path, path: &Path, text: &str) -> Manifest {
    let (root, syntax_errors) = DeTable::parse_recoverable(text);
    let mut problems = Problems {
        path,
        text,
        plugin: None,
        found: Vec::new(),
    };
    for error in syntax_errors.iter().take(MAX_SYNTAX_ERRORS) {
        let offset = error.span().map_or(text.len(), |span| span.start);
        problems.add(offset, format!("this is no TOML: {}", error.message()));
    }
    let mut manifest = Manifest::default();
    // What is left of a file after a mistake in its syntax may say the opposite of what was meant.
    if problems.found.is_empty() {
        let mut fields = Fields::new("the file", root.get_ref(), root.span().start);
        let default_filter = fields.boolean("default_filter", &mut problems);
        manifest.default_filter = default_filter.is_none_or(|(is_wanted, _)| is_wanted);
        let mut known = Known::new(manifest.default_filter);
        for (table, offset) in fields.tables("plugin", &mut problems) {
            let fields = Fields::new("an entry", table, offset);
            let entry = entry::read(directory, fields, &mut known, &mut problems);
            manifest.entries.extend(entry);
        }
        fields.refuse_others(&mut problems);
    }
    problems.found.sort_by_key(|problem| problem.place);
    manifest.problems = problems.found;
    manifest
}

/// Collects what is wrong with a file.
struct Problems<'a> {
    path: &'a Path,
    text: &'a str,
    /// Whose entry is being read.
    plugin: Option<Arc<str>>,
    found: Vec<ChainProblem>,
}

impl Problems<'_> {
    fn add(&mut self, offset: usize, reason: impl Into<String>) {
        self.found.push(ChainProblem {
            plugin: self.plugin.clone(),
            file: Some(self.path.to_owned()),
            place: Some(self.place(offset)),
            reason: reason.into(),
        });
    }

    fn place(&self, offset: usize) -> Place {
        Place::of(self.text, offset)
    }
}

fn every_component(directory: &Path) -> Manifest {
    let mut manifest = Manifest::default();
    let listed = std::fs::read_dir(directory).and_then(|files| {
        let paths = files.map(|file| file.map(|file| file.path()));
        paths.collect::<std::io::Result<Vec<_>>>()
    });
    let mut paths = match listed {
        Ok(paths) => paths,
        Err(error) => return unreadable(directory, &error),
    };
    paths.sort();
    let mut known = Known::new(true);
    for path in paths {
        let file_name = path.file_name().unwrap_or_default().to_string_lossy();
        let mut suffixes = COMPONENT_SUFFIXES.iter();
        // Editors and archivers leave hidden copies behind.
        let name = suffixes.find_map(|suffix| file_name.strip_suffix(suffix));
        let Some(name) = name.filter(|_| !file_name.starts_with('.')) else {
            continue;
        };
        let problem = |reason: String| ChainProblem {
            plugin: None,
            file: Some(path.clone()),
            place: None,
            reason: format!("{reason}; rename the file, or give its plugin a name in {FILE_NAME}"),
        };
        match known.add(name) {
            Ok(()) => manifest.entries.push(Entry::named(name, Source::File(path.clone()))),
            Err(reason) => manifest.problems.push(problem(reason)),
        }
    }
    manifest
}

fn unreadable(path: &Path, error: &std::io::Error) -> Manifest {
    Manifest {
        problems: vec![ChainProblem {
            plugin: None,
            file: Some(path.to_owned()),
            place: None,
            reason: format!("cannot be read: {error} (PLUGINS_DIR)"),
        }],
        ..Manifest::default()
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
