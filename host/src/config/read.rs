//! Reads single variables, and remembers everything that is wrong with them.
//!
//! The notations are those of the original (Go's `envconfig`), except that an empty number, boolean or duration counts
//! as unset.

use std::str::FromStr;
use std::time::Duration;

use super::Problem;
use super::variables::Variable;

/// Looks a variable up. A closure stands in for the process environment, so that tests never change it.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

pub(super) struct Reader<'a> {
    lookup: Lookup<'a>,
    pub(super) problems: Vec<Problem>,
    /// Oddities that the original accepted, so that they stop nothing.
    pub(super) warnings: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(lookup: Lookup<'a>) -> Self {
        Self {
            lookup,
            problems: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// The text as it is; the default only when the variable is not set at all.
    pub(super) fn text(&self, variable: &Variable) -> String {
        (self.lookup)(variable.name).unwrap_or_else(|| variable.default.to_owned())
    }

    pub(super) fn integer(&mut self, variable: &Variable) -> i64 {
        self.parsed(variable, |text| {
            go_integer(text).ok_or_else(|| "is not an integer".to_owned())
        })
    }

    /// An integer that must be at least `minimum`.
    pub(super) fn count(&mut self, variable: &Variable, minimum: u32) -> u32 {
        self.parsed(variable, |text| {
            go_integer(text)
                .and_then(|number| u32::try_from(number).ok())
                .filter(|&number| number >= minimum)
                .ok_or_else(|| format!("is not an integer from {minimum} to {}", u32::MAX))
        })
    }

    pub(super) fn boolean(&mut self, variable: &Variable) -> bool {
        self.parsed(variable, |text| match text {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
            _ => Err("is not a boolean (`true` or `false`)".to_owned()),
        })
    }

    pub(super) fn duration(&mut self, variable: &Variable) -> Duration {
        self.parsed(variable, |text| {
            // Go allows `.5s`, humantime wants a digit first.
            let text = if text.starts_with('.') {
                format!("0{text}")
            } else {
                text.to_owned()
            };
            humantime::parse_duration(&text)
                .map_err(|_| "is not a duration with a unit, e.g. `10s` or `1m30s`".to_owned())
        })
    }

    /// A duration that must not be 0; `why` says what 0 would mean.
    pub(super) fn positive_duration(&mut self, variable: &Variable, why: &str) -> Duration {
        let duration = self.duration(variable);
        if duration.is_zero() {
            self.problem(variable, format!("0 {why}"));
        }
        duration
    }

    /// A number of bytes, at least 1.
    pub(super) fn bytes(&mut self, variable: &Variable) -> usize {
        self.parsed(variable, |text| {
            byte_size(text).ok_or_else(|| "is not a size, e.g. `65536`, `512KiB` or `16MiB`".to_owned())
        })
    }

    /// One of several words; the first is the default. An empty value counts as unset.
    pub(super) fn choice<T: Copy>(&mut self, variable: &Variable, choices: &[(&str, T)]) -> T {
        let text = self.text(variable);
        let found = choices.iter().find(|(word, _)| *word == text);
        if found.is_none() && !text.is_empty() {
            let words: Vec<_> = choices.iter().map(|(word, _)| format!("`{word}`")).collect();
            self.problem(variable, format!("{text:?} is none of {}", words.join(", ")));
        }
        found.unwrap_or(&choices[0]).1
    }

    /// A number of seconds. The original takes a bad value for the default without a word; this one says so.
    pub(super) fn seconds(&mut self, variable: &Variable) -> i64 {
        let text = self.text(variable);
        let default = i64::from_str(variable.default).expect("defaults are correct");
        if text.is_empty() {
            return default;
        }
        text.parse().unwrap_or_else(|_| {
            self.warnings.push(format!(
                "{}={text:?} is not a number of seconds; {default} is used",
                variable.name
            ));
            default
        })
    }

    /// The items between commas, trimmed. No items for a blank value; otherwise empty items are kept.
    pub(super) fn list(&self, variable: &Variable) -> Vec<String> {
        let text = self.text(variable);
        if text.trim().is_empty() {
            return Vec::new();
        }
        text.split(',').map(|item| item.trim().to_owned()).collect()
    }

    pub(super) fn problem(&mut self, variable: &Variable, problem: impl Into<String>) {
        self.problems.push(Problem {
            variable: variable.name,
            problem: problem.into(),
        });
    }

    fn parsed<T>(&mut self, variable: &Variable, parse: impl Fn(&str) -> Result<T, String>) -> T {
        let text = self.text(variable);
        if !text.is_empty() {
            match parse(&text) {
                Ok(value) => return value,
                Err(problem) => self.problem(variable, format!("{text:?} {problem}")),
            }
        }
        parse(variable.default).expect("defaults are correct")
    }
}

/// A number of bytes of at least 1, alone or with a binary unit.
pub fn byte_size(text: &str) -> Option<usize> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("", 0)];
    let (number, shift) = units
        .into_iter()
        .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift)))?;
    let number: usize = number.trim().parse().ok()?;
    number.checked_mul(1 << shift).filter(|&bytes| bytes > 0)
}

/// An integer as Go's `strconv.ParseInt` reads it with base 0.
fn go_integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        _ if lower.len() > 1 && lower.starts_with('0') => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    let digits = digits.replace('_', "");
    // `from_str_radix` would take a second sign.
    if !digits.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return None;
    }
    let sign = if negative { "-" } else { "" };
    i64::from_str_radix(&format!("{sign}{digits}"), radix).ok()
}

#[cfg(test)]
mod tests {
    use super::{byte_size, go_integer};

    #[test]
    fn sizes_are_bytes_or_have_a_binary_unit() {
        let check = |text: &str, expected: Option<usize>| assert_eq!(byte_size(text), expected, "{text:?}");
        check("1", Some(1));
        check("65536", Some(65_536));
        check("16MiB", Some(16 << 20));
        check("512 KiB", Some(512 << 10));
        check("0", None);
        check("16MB", None);
        check("-1", None);
        check("", None);
        check("99999999999GiB", None);
    }

    #[test]
    fn integers_are_read_in_go_notation() {
        let check = |text: &str, expected: Option<i64>| assert_eq!(go_integer(text), expected, "{text:?}");
        check("0", Some(0));
        check("8081", Some(8081));
        check("-1", Some(-1));
        check("+7", Some(7));
        check("0x1F", Some(31));
        check("0o17", Some(15));
        check("017", Some(15));
        check("0b101", Some(5));
        check("1_000", Some(1000));
        check("", None);
        check("--1", None);
        check("1.5", None);
        check("08", None);
        check("ten", None);
    }
}
