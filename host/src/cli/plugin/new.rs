//! `distributor plugin new`: a folder with a plugin that builds, tests and runs as it is.
//!
//! The files come from `examples/templates`, which CI builds; `host/build.rs` puts them into the binary.

use std::path::{Component, Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::json;

use super::wit::CONTRACT;
use super::{CommandError, print, print_json};

include!(concat!(env!("OUT_DIR"), "/templates.rs"));

/// Where the contract is in the new folder.
const CONTRACT_PATH: &str = "wit/world.wit";
const MAX_NAME_BYTES: usize = 60;

/// Options of `new`.
#[derive(Debug, Args)]
pub struct NewArguments {
    /// Name of the plugin: lower-case letters, digits and `-`.
    #[arg(value_name = "NAME", value_parser = plugin_name)]
    name: String,
    /// The language to write it in.
    #[arg(long, value_enum)]
    lang: Language,
    /// What it does: decide which events go on, or change them.
    #[arg(long, value_enum)]
    hook: HookName,
    /// The folder to make. Without it, one of the plugin's name.
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Language {
    /// Needs cargo.
    Rust,
    /// Needs Node.js; small, with the `QuickJS` engine.
    Js,
    /// `TypeScript`, as `js`.
    Ts,
    /// Needs Python; large, for image volumes.
    Python,
    /// Needs Python and Node.js for its tools.
    C,
    /// Experimental.
    Go,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum HookName {
    /// Pass an event, or drop it.
    Filter,
    /// Change an event, split it, or answer it.
    Transform,
}

/// A file of the new folder.
struct NewFile {
    path: &'static str,
    content: Vec<u8>,
}

pub(super) fn run(arguments: &NewArguments) -> Result<bool, CommandError> {
    let folder = arguments
        .output
        .clone()
        .unwrap_or_else(|| PathBuf::from(&arguments.name));
    if std::fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(CommandError::Failed(format!(
            "{} is there already and not empty; choose another --output, or delete it",
            folder.display()
        )));
    }
    let value =
        |name: Option<clap::builder::PossibleValue>| name.map(|name| name.get_name().to_owned()).unwrap_or_default();
    let language = value(arguments.lang.to_possible_value());
    let hook = value(arguments.hook.to_possible_value());
    let files = files(&language, &hook, &arguments.name);
    for file in &files {
        let path = folder.join(file.path);
        let parent = path.parent().unwrap_or(&folder);
        let written = std::fs::create_dir_all(parent).and_then(|()| std::fs::write(&path, &file.content));
        written.map_err(|error| CommandError::Failed(format!("cannot write {}: {error}", path.display())))?;
    }
    let shown = folder.display();
    if arguments.json {
        let paths: Vec<_> = files.iter().map(|file| file.path).collect();
        print_json(&json!({"folder": shown.to_string(), "files": paths}))?;
    } else {
        print(&format!(
            "{shown} has a plugin with {} files. Now:\n\n  cd {shown}\n  make\n  make test\n  distributor plugin run {}.wasm --event fixtures/build.triggered.json\n",
            files.len(),
            arguments.name
        ))?;
    }
    Ok(true)
}

/// All files of a plugin; of two with the same name the later one counts.
fn files(language: &str, hook: &str, name: &str) -> Vec<NewFile> {
    let layers = [
        "all/common/",
        &format!("all/{hook}/"),
        &format!("{language}/common/"),
        &format!("{language}/{hook}/"),
    ]
    .map(str::to_owned);
    let mut files: Vec<NewFile> = Vec::new();
    for layer in layers {
        for &(path, content) in TEMPLATES {
            let Some(path) = path.strip_prefix(layer.as_str()) else {
                continue;
            };
            let content = filled_in(content, name, hook);
            match files.iter_mut().find(|file| file.path == path) {
                Some(file) => file.content = content,
                None => files.push(NewFile { path, content }),
            }
        }
    }
    files.push(NewFile {
        path: CONTRACT_PATH,
        content: CONTRACT.as_bytes().to_owned(),
    });
    files.sort_by_key(|file| {
        Path::new(file.path)
            .components()
            .map(Component::as_os_str)
            .collect::<Vec<_>>()
    });
    files
}

/// Text with its placeholders replaced; what is no text stays as it is.
fn filled_in(content: &[u8], name: &str, hook: &str) -> Vec<u8> {
    match std::str::from_utf8(content) {
        Ok(text) => text.replace("{{name}}", name).replace("{{hook}}", hook).into_bytes(),
        Err(_) => content.to_owned(),
    }
}

/// A name that can be that of a package in every language, of a file and of a `ConfigMap`.
fn plugin_name(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_word = |word: &str| !word.is_empty();
    if !text.starts_with(|c: char| c.is_ascii_lowercase())
        || !text.chars().all(is_plain)
        || !text.split('-').all(is_word)
        || text.len() > MAX_NAME_BYTES
    {
        return Err(format!(
            "take lower-case letters, digits and single `-`, a letter first, at most {MAX_NAME_BYTES} of them, e.g. `only-checkout`"
        ));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_language_has_what_an_author_needs() {
        for language in Language::value_variants() {
            for hook in ["filter", "transform"] {
                let language = language.to_possible_value().unwrap();
                let files = files(language.get_name(), hook, "my-plugin");
                for wanted in [
                    "Makefile",
                    "README.md",
                    "plugins.toml",
                    "tests/cases.yaml",
                    CONTRACT_PATH,
                ] {
                    let found = files.iter().filter(|file| file.path == wanted).count();
                    assert_eq!(found, 1, "{wanted} of {} {hook}", language.get_name());
                }
                let left = files
                    .iter()
                    .filter(|file| String::from_utf8_lossy(&file.content).contains("{{name}}"));
                assert_eq!(left.count(), 0, "{} {hook}", language.get_name());
            }
        }
    }

    #[test]
    fn names_are_good_everywhere() {
        assert!(plugin_name("only-checkout2").is_ok());
        for name in ["", "My", "a_b", "-a", "a-", "a--b", "2a", "a/b", "ä"] {
            assert!(plugin_name(name).is_err(), "{name:?}");
        }
    }
}
