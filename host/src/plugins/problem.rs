//! What is wrong with a chain: each thing with the plugin, the file and the place in it.
//!
//! Made by [`super::manifest`] and [`super::build`], shown by whoever wanted the chain.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Why there is no chain: everything that was found, not only the first thing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ChainError {
    /// At least one.
    pub problems: Vec<ChainProblem>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainProblem {
    /// Name in the chain, where it is about one plugin.
    pub plugin: Option<Arc<str>>,
    /// The component, or the file that describes the chain; none for what is built in.
    pub file: Option<PathBuf>,
    /// Where in the file.
    pub place: Option<Place>,
    /// What is wrong, and what to do.
    pub reason: String,
}

/// A place in a text, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Character of the line.
    pub column: usize,
}

impl Place {
    /// The place of a byte.
    pub(super) fn of(text: &str, offset: usize) -> Self {
        let before = &text[..text.floor_char_boundary(offset)];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

impl fmt::Display for ChainError {
    /// One line for each problem.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [problem] = self.problems.as_slice() {
            return problem.fmt(formatter);
        }
        write!(formatter, "the plugins have {} problems:", self.problems.len())?;
        for problem in &self.problems {
            write!(formatter, "\n  {problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for ChainProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            plugin,
            file,
            place,
            reason,
        } = self;
        let file = file.as_ref().map(|file| file.display().to_string());
        match (plugin, file, place) {
            (None, None, _) => write!(formatter, "{reason}"),
            (None, Some(file), None) => write!(formatter, "{file}: {reason}"),
            (None, Some(file), Some(Place { line, column })) => {
                write!(formatter, "{file}, line {line}, column {column}: {reason}")
            }
            (Some(plugin), None, _) => write!(formatter, "plugin {plugin:?} (built in) {reason}"),
            (Some(plugin), Some(file), None) => write!(formatter, "plugin {plugin:?} ({file}) {reason}"),
            (Some(plugin), Some(file), Some(Place { line, column })) => {
                write!(
                    formatter,
                    "{file}, line {line}, column {column}: plugin {plugin:?}: {reason}"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_lines_and_characters() {
        let check = |offset: usize, line: usize, column: usize| {
            assert_eq!(Place::of("a\nüb\n\nc", offset), Place { line, column }, "{offset}");
        };
        check(0, 1, 1);
        check(1, 1, 2);
        check(2, 2, 1);
        check(4, 2, 2);
        check(6, 3, 1);
        check(7, 4, 1);
        check(100, 4, 2);
    }

    #[test]
    fn one_problem_is_one_line_and_several_are_a_list() {
        let problem = |plugin: Option<&str>, place: Option<(usize, usize)>| ChainProblem {
            plugin: plugin.map(Into::into),
            file: Some("dir/file".into()),
            place: place.map(|(line, column)| Place { line, column }),
            reason: "is bad".to_owned(),
        };
        let error = |problems: Vec<ChainProblem>| ChainError { problems }.to_string();
        assert_eq!(error(vec![problem(Some("a"), None)]), "plugin \"a\" (dir/file) is bad");
        assert_eq!(
            error(vec![problem(None, Some((3, 4))), problem(Some("a"), Some((5, 6)))]),
            "the plugins have 2 problems:\n  dir/file, line 3, column 4: is bad\n  dir/file, line 5, column 6: plugin \"a\": \
             is bad"
        );
    }
}
