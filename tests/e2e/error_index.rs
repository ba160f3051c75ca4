//! `wit/errors.md` has every message about plugins that there is in the source.

use std::fs;
use std::path::{Path, PathBuf};

/// Where messages are made. What is in `#[error("…")]` counts everywhere in `plugins`; in these files, every text that
/// is long enough for a message.
const FILES: [&str; 15] = [
    "manifest/mod.rs",
    "manifest/entry.rs",
    "manifest/fields.rs",
    "manifest/config.rs",
    "manifest/known.rs",
    "build.rs",
    "component.rs",
    "descriptor.rs",
    "schema/mod.rs",
    "schema/shape.rs",
    "load.rs",
    "instance.rs",
    "directory.rs",
    "mounts.rs",
    "imports/line_rate.rs",
];
/// Texts in them that nobody reads, and errors that are not about plugins.
const NO_MESSAGES: [&str; 7] = [
    "writing to a String cannot fail",
    "fuel allocated for hostcalls has been exhausted",
    "resource table has no free keys",
    "the distributor is shutting down",
    "`…` is …, it can be 1 to …",
    "the engine is one",
    "the engine was made to count it",
];
const WORDS_OF_A_MESSAGE: usize = 4;

#[test]
fn every_message_about_plugins_is_explained() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let index = fs::read_to_string(root.join("wit/errors.md")).unwrap();
    let index = plain(&index.replace("\\*", "*"));
    let sources = root.join("host/src/plugins");
    let mut messages = Vec::new();
    for path in rust_files(&sources) {
        let source = code(&fs::read_to_string(&path).unwrap());
        let name = path.strip_prefix(&sources).unwrap().to_str().unwrap().to_owned();
        let texts = if FILES.contains(&name.as_str()) {
            texts(&source)
        } else {
            let parts = source.split("#[error(").skip(1);
            parts.filter_map(|part| texts(part).into_iter().next()).collect()
        };
        messages.extend(texts.into_iter().map(|text| (name.clone(), text)));
    }
    assert!(
        messages.len() > 80,
        "there have to be more than {} messages",
        messages.len()
    );
    let missing: Vec<_> = messages
        .iter()
        .filter(|(_, message)| !NO_MESSAGES.contains(&message.as_str()) && !index.contains(&what(message)))
        .collect();
    assert!(missing.is_empty(), "wit/errors.md lacks {missing:#?}");
    assert!(
        !index.contains(&what("a message that nobody makes")),
        "everything is found"
    );
}

/// All files of the folder but tests.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if !path
            .file_name()
            .is_some_and(|name| name.to_str().unwrap_or_default().contains("tests"))
        {
            found.push(path);
        }
    }
    found
}

/// Without tests and comments.
fn code(source: &str) -> String {
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The texts in quotation marks that are long enough, with `…` for what is put in.
fn texts(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = source;
    while let Some(start) = rest.find('"') {
        let mut text = String::new();
        let mut characters = rest[start + 1..].char_indices();
        let mut end = rest.len();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    end = start + 1 + at + 1;
                    break;
                }
                '\\' => match characters.next() {
                    // A line that goes on.
                    Some((_, '\n')) => {
                        let indent = characters.as_str().len() - characters.as_str().trim_start().len();
                        for _ in 0..indent {
                            characters.next();
                        }
                    }
                    Some((_, escaped)) => text.push(escaped),
                    None => {}
                },
                other => text.push(other),
            }
        }
        rest = &rest[end..];
        let text = with_gaps(&text);
        if text.split_whitespace().count() >= WORDS_OF_A_MESSAGE {
            found.push(text);
        }
    }
    found
}

/// `{…}` becomes `…`.
fn with_gaps(text: &str) -> String {
    let mut parts = text.split('{');
    let mut made = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        made.push('…');
        made.push_str(part.split_once('}').map_or("", |(_, behind)| behind));
    }
    made
}

/// What it says went wrong, without what is said beside it and without marks.
fn what(message: &str) -> String {
    let longest = message.split([';', '…']).max_by_key(|part| part.len());
    plain(longest.unwrap_or_default())
        .trim_matches([' ', ':', '(', ','])
        .to_owned()
}

fn plain(text: &str) -> String {
    text.replace(['`', '*'], "")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn texts_are_found_with_gaps() {
    let source = "a(\"short\"); b(\"one {two:?} of \\\n   three \\\"x\\\" {}\", 1)";
    assert_eq!(texts(source), ["one … of three \"x\" …"]);
    assert_eq!(what("`a` has more than … MiB; less is more"), "a has more than");
}
