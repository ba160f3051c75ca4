use std::collections::BTreeSet;

use super::{TABLE, markdown_table};

#[test]
fn the_documentation_has_this_very_table() {
    let documentation = include_str!("../../../deploy/operating.md");
    let table = markdown_table();
    assert!(
        documentation.contains(&table),
        "deploy/operating.md has to contain this table:\n{table}"
    );
}

#[test]
fn names_are_as_prometheus_wants_them() {
    let mut names = BTreeSet::new();
    for row in TABLE {
        let name = row.name;
        assert!(names.insert(name), "{name} is there twice");
        assert!(
            name.starts_with("distributor_") || name.starts_with("process_"),
            "{name}"
        );
        assert!(
            name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
            "{name}"
        );
        assert!(
            !name.ends_with("_total") && !name.ends_with("_info"),
            "{name} gets its suffix by itself"
        );
        assert!(
            row.unit.is_empty() || name.ends_with(row.unit),
            "{name} does not say {}",
            row.unit
        );
        assert!(["", "seconds", "bytes"].contains(&row.unit), "{name} has no base unit");
        assert!(
            row.help.ends_with('.') && !row.help.contains(['\n', '|']),
            "{name}: {}",
            row.help
        );
    }
}
