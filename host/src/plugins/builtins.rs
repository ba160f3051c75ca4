//! The components that come with the distributor, by the name that `component = "builtin:…"` gives them.
//!
//! Built by `build.rs`; used by [`super::manifest`] and [`super::component`].

use std::borrow::Cow;
use std::io::Read as _;

use flate2::read::GzDecoder;

/// A component that comes with the distributor.
#[derive(Debug, PartialEq, Eq)]
pub struct Builtin {
    /// What stands behind `builtin:`.
    pub name: &'static str,
    content: Content,
}

/// How it lies in the binary.
#[derive(Debug, PartialEq, Eq)]
enum Content {
    AsItIs(&'static [u8]),
    /// What is not asked for costs nothing but room in the file: its pages are never read.
    Gzip(&'static [u8]),
}

/// Name of the built-in filter, also in the chain.
pub const DEFAULT_FILTER: &str = "keptn-filter";

/// The built-in filter, a component like any other; built by `build.rs` from `plugins/keptn-filter`.
pub const DEFAULT_FILTER_COMPONENT: &[u8] = include_bytes!(env!("KEPTN_FILTER_COMPONENT"));

/// All of them; the first is the one that stands first in a chain by default.
pub const BUILTINS: &[Builtin] = &[
    Builtin {
        name: DEFAULT_FILTER,
        content: Content::AsItIs(DEFAULT_FILTER_COMPONENT),
    },
    Builtin {
        name: "cel-filter",
        content: Content::Gzip(include_bytes!(env!("CEL_FILTER_COMPONENT"))),
    },
    Builtin {
        name: "jq-transform",
        content: Content::Gzip(include_bytes!(env!("JQ_TRANSFORM_COMPONENT"))),
    },
];

impl Builtin {
    /// Its bytes.
    ///
    /// # Panics
    /// Never: what it inflates was compressed by `build.rs`, and a test inflates each.
    pub fn component(&self) -> Cow<'static, [u8]> {
        match self.content {
            Content::AsItIs(bytes) => Cow::Borrowed(bytes),
            Content::Gzip(bytes) => {
                let mut component = Vec::new();
                GzDecoder::new(bytes)
                    .read_to_end(&mut component)
                    .expect("the build compressed it");
                Cow::Owned(component)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// First bytes of a component: the magic number, and the version that tells it from a module.
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

    #[test]
    fn each_is_a_component_and_has_a_name_of_its_own() {
        for (i, builtin) in BUILTINS.iter().enumerate() {
            assert!(builtin.component().starts_with(COMPONENT), "{}", builtin.name);
            assert!(
                BUILTINS[..i].iter().all(|other| other.name != builtin.name),
                "{}",
                builtin.name
            );
        }
        assert_eq!(BUILTINS[0].name, DEFAULT_FILTER);
    }
}
