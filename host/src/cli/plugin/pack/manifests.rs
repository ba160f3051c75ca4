//! What is given to Kubernetes.

use std::fmt::Write;
use std::path::Path;

use base64::Engine;
use serde_json::{Map, Value, json};

use super::chain_folder::PackedFile;

const CANNOT_FAIL: &str = "writing to a String cannot fail";

/// A `ConfigMap` with these files.
pub(super) fn config_map(name: &str, namespace: Option<&str>, files: &[PackedFile]) -> Value {
    let (mut texts, mut binaries) = (Map::new(), Map::new());
    for PackedFile { name, content } in files {
        if let Ok(text) = std::str::from_utf8(content) {
            texts.insert(name.clone(), text.into());
        } else {
            let text = base64::engine::general_purpose::STANDARD.encode(content);
            binaries.insert(name.clone(), text.into());
        }
    }
    let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    if let Some(namespace) = namespace {
        object["metadata"]["namespace"] = namespace.into();
    }
    for (key, values) in [("data", texts), ("binaryData", binaries)] {
        if !values.is_empty() {
            object[key] = values.into();
        }
    }
    object
}

/// An object as YAML. Texts are quoted as JSON does it, which YAML understands; those with lines are shown as lines.
pub(super) fn yaml(object: &Value) -> String {
    let mut text = String::new();
    write_members(object, 0, &mut text);
    text
}

fn write_members(object: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    for (key, value) in object.as_object().into_iter().flatten() {
        match value {
            Value::Object(_) => {
                writeln!(text, "{indent}{key}:").expect(CANNOT_FAIL);
                write_members(value, depth + 1, text);
            }
            Value::String(lines) if is_block(lines) => {
                writeln!(text, "{indent}{key}: |").expect(CANNOT_FAIL);
                for line in lines.lines() {
                    let indent = if line.is_empty() { "" } else { &indent };
                    let more = if line.is_empty() { "" } else { "  " };
                    writeln!(text, "{indent}{more}{line}").expect(CANNOT_FAIL);
                }
            }
            Value::String(word) if is_plain(word) => writeln!(text, "{indent}{key}: {word}").expect(CANNOT_FAIL),
            other => writeln!(text, "{indent}{key}: {other}").expect(CANNOT_FAIL),
        }
    }
}

/// Whether a text can be shown as lines without a change.
fn is_block(text: &str) -> bool {
    let is_odd =
        |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{feff}');
    text.ends_with('\n') && !text.ends_with("\n\n") && !text.starts_with([' ', '\n']) && !text.contains(is_odd)
}

/// Whether a text needs no quotes: it begins with a letter, and is no word that means something else.
fn is_plain(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '/');
    matches!(text, "v1" | "ConfigMap")
        || (text.contains('-') && text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(is_word))
}

/// Writes the files into a folder, and what kustomize has to know.
pub(super) fn write_kustomization(folder: &Path, name: &str, files: &[PackedFile]) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for file in files {
        std::fs::write(folder.join(&file.name), &file.content)?;
    }
    let list: Vec<_> = files.iter().map(|file| format!("      - {}\n", file.name)).collect();
    let list = list.concat();
    let text = format!(
        "apiVersion: kustomize.config.k8s.io/v1beta1\n\
         kind: Kustomization\n\
         # The same name for each version: pods see the change in the volume and take it over while events flow.\n\
         generatorOptions:\n  disableNameSuffixHash: true\n\
         configMapGenerator:\n  - name: {name}\n    files:\n{list}"
    );
    std::fs::write(folder.join("kustomization.yaml"), text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::plugin::test::yaml as parsed;

    #[test]
    fn the_yaml_says_what_the_object_says() {
        let file = |name: &str, content: &[u8]| PackedFile {
            name: name.to_owned(),
            content: content.to_owned(),
        };
        let files = [
            file("plugins.toml", b"# a: b\n[[plugin]]\nname = \"x\"\n\n  y = 'z'\n"),
            file("odd.json", b" {\"a\": \"\t\"}"),
            file("x.wasm.gz", b"\x1f\x8b\xff\x00"),
        ];
        for namespace in [None, Some("keptn-prod"), Some("null"), Some("1")] {
            let object = config_map("my-plugins", namespace, &files);
            assert_eq!(parsed(&yaml(&object)).unwrap(), object, "{}", yaml(&object));
        }
    }
}
