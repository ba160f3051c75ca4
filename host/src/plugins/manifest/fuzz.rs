//! Damaged chain files: whatever stands in one, it is read to its end, and what is wrong has a place in it.

use std::path::Path;

use super::*;

const SEED: &str = r#"
default_filter = false
[[plugin]]
name = "keptn-filter"
component = "builtin:keptn-filter"
[[plugin]]
name = "a"
component = "a.wasm.gz"
sha256 = "abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789"
on_failure = "pass"
memory = "32MiB"
timeout = "250ms"
directions = ["incoming"]
types = ["sh.keptn.>"]
grants = ["state"]
mode = "shadow"
[plugin.config]
list = [1, 2.5, { a = 1979-05-27T07:32:00Z }]
[[plugin.test]]
event = '{"specversion":"1.0"}'
expect = "pass"
"#;

#[test]
fn whatever_a_file_says_is_read_to_its_end() {
    let seeds = [
        "default_filter = true\n",
        "[[plugin]]\nname = \"a\"\ncomponent = \"a.wasm\"\n",
        SEED,
    ];
    // Mistakes are as good an answer as none; what is to be tried is text that is right TOML.
    crate::fuzz::run(&seeds.map(str::as_bytes), |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return false;
        };
        let manifest = parse(Path::new("dir"), Path::new("dir/plugins.toml"), text);
        for problem in &manifest.problems {
            assert!(!problem.to_string().is_empty());
        }
        DeTable::parse(text).is_ok()
    });
}
