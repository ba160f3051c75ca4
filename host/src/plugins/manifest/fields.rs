//! Reads the keys of a table one by one, and reports what is wrong with them and which of them nobody knows.

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::Problems;

/// A value with the byte at which it starts.
pub(super) type Value<'a> = &'a Spanned<DeValue<'a>>;

/// The keys of a table.
pub(super) struct Fields<'a> {
    /// For messages.
    what: &'static str,
    table: &'a DeTable<'a>,
    /// Byte at which the table starts.
    pub(super) offset: usize,
    /// What was asked for: what may be there.
    known: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(what: &'static str, table: &'a DeTable<'a>, offset: usize) -> Self {
        Self {
            what,
            table,
            offset,
            known: Vec::new(),
        }
    }

    /// The value of a key.
    pub(super) fn value(&mut self, key: &'static str) -> Option<Value<'a>> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.table.get(key)
    }

    /// A text that has to be there.
    pub(super) fn required_text(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Option<(&'a str, usize)> {
        if !self.table.contains_key(key) {
            problems.add(self.offset, format!("{} needs `{key}`", self.what));
        }
        self.text(key, problems)
    }

    /// A text, and the byte at which it starts.
    pub(super) fn text(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Option<(&'a str, usize)> {
        let value = self.value(key)?;
        let text = value.get_ref().as_str();
        if text.is_none() {
            wrong_type(key, "a text in quotation marks", value, problems);
        }
        Some((text?, value.span().start))
    }

    /// A switch, and the byte at which it stands.
    pub(super) fn boolean(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Option<(bool, usize)> {
        let value = self.value(key)?;
        let boolean = value.get_ref().as_bool();
        if boolean.is_none() {
            wrong_type(key, "`true` or `false`", value, problems);
        }
        Some((boolean?, value.span().start))
    }

    /// A whole number from 0 to `maximum`.
    pub(super) fn number(
        &mut self,
        key: &'static str,
        maximum: u32,
        problems: &mut Problems<'_>,
    ) -> Option<(u32, usize)> {
        let value = self.value(key)?;
        let number = value.get_ref().as_integer();
        let number = number.and_then(|number| u32::from_str_radix(number.as_str(), number.radix()).ok());
        let number = number.filter(|&number| number <= maximum);
        if number.is_none() {
            wrong_type(key, &format!("a whole number from 0 to {maximum}"), value, problems);
        }
        Some((number?, value.span().start))
    }

    /// One of several words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&str, T)],
        problems: &mut Problems<'_>,
    ) -> Option<T> {
        let (word, offset) = self.text(key, problems)?;
        chosen(key, word, offset, choices, problems)
    }

    /// Some of several words; none when the key is not there.
    pub(super) fn choices<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&str, T)],
        problems: &mut Problems<'_>,
    ) -> Option<Vec<T>> {
        let words = self.texts(key, problems)?;
        let words = words.into_iter();
        Some(
            words
                .filter_map(|(word, offset)| chosen(key, word, offset, choices, problems))
                .collect(),
        )
    }

    /// A list of texts; none when the key is not there.
    pub(super) fn texts(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Option<Vec<(&'a str, usize)>> {
        let items = self.list(key, "a list of texts", problems)?;
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            match item.get_ref().as_str() {
                Some(text) => texts.push((text, item.span().start)),
                None => wrong_type(key, "a list of texts", item, problems),
            }
        }
        Some(texts)
    }

    /// The byte at which a list with nothing in it starts.
    pub(super) fn empty_list(&self, key: &str) -> Option<usize> {
        let value = self.table.get(key)?;
        let list = value.get_ref().as_array()?;
        list.is_empty().then_some(value.span().start)
    }

    /// What stands under `[[key]]`, each with the byte at which it starts.
    pub(super) fn tables(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Vec<(&'a DeTable<'a>, usize)> {
        let wanted = format!("written as `[[…{key}]]`");
        let mut tables = Vec::new();
        for item in self.list(key, &wanted, problems).into_iter().flatten() {
            match item.get_ref().as_table() {
                Some(table) => tables.push((table, item.span().start)),
                None => wrong_type(key, &wanted, item, problems),
            }
        }
        tables
    }

    /// A table, and the byte at which it starts.
    pub(super) fn table(&mut self, key: &'static str, problems: &mut Problems<'_>) -> Option<(&'a DeTable<'a>, usize)> {
        let value = self.value(key)?;
        let table = value.get_ref().as_table();
        if table.is_none() {
            wrong_type(key, "a table", value, problems);
        }
        Some((table?, value.span().start))
    }

    /// Reports every key that nobody asked for.
    pub(super) fn refuse_others(self, problems: &mut Problems<'_>) {
        for (key, _) in self.table {
            let name: &str = key.get_ref();
            if !self.known.contains(&name) {
                let remedy = match nearest(name, self.known.iter().copied()) {
                    Some(other) => format!("did you mean `{other}`?"),
                    None => format!("{} knows {}", self.what, in_words(&self.known)),
                };
                problems.add(
                    key.span().start,
                    format!("unknown key `{}`; {remedy}", name.escape_debug()),
                );
            }
        }
    }

    fn list(&mut self, key: &'static str, wanted: &str, problems: &mut Problems<'_>) -> Option<&'a DeArray<'a>> {
        let value = self.value(key)?;
        let list = value.get_ref().as_array();
        if list.is_none() {
            wrong_type(key, wanted, value, problems);
        }
        list
    }
}

fn wrong_type(key: &str, wanted: &str, value: Value<'_>, problems: &mut Problems<'_>) {
    let actual = match value.get_ref() {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(boolean) => boolean.to_string(),
        DeValue::Datetime(_) => "a date or time".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    };
    problems.add(
        value.span().start,
        format!("`{key}` has to be {wanted}, and is {actual}"),
    );
}

/// What a word stands for.
pub(super) fn chosen<T: Copy>(
    key: &str,
    word: &str,
    offset: usize,
    choices: &[(&str, T)],
    problems: &mut Problems<'_>,
) -> Option<T> {
    let found = choices.iter().find(|(choice, _)| *choice == word);
    if found.is_none() {
        let words: Vec<_> = choices.iter().map(|&(choice, _)| choice).collect();
        problems.add(offset, format!("`{key}`: {word:?} is none of {}", in_words(&words)));
    }
    found.map(|&(_, value)| value)
}

fn in_words(words: &[&str]) -> String {
    let words: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
    words.join(", ")
}

/// The word that was most likely meant, if there is one.
pub(super) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let ranked = candidates.map(|candidate| (distance(word, candidate), candidate));
    let (distance, candidate) = ranked.min()?;
    // A third of the letters: `tmeout` is `timeout`, and `colour` is nothing.
    (distance * 3 <= candidate.len().max(3)).then_some(candidate)
}

/// Letters to add, to leave out, or to change, to make one word of the other.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (number, from) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = number + 1;
        for (column, to) in to.chars().enumerate() {
            let changed = diagonal + usize::from(from != to);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[row.len() - 1]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_misspelt_word_finds_the_one_that_was_meant() {
        let check = |word: &str, expected: Option<&str>| {
            let candidates = ["name", "component", "timeout", "on", "on_failure"];
            assert_eq!(nearest(word, candidates.into_iter()), expected, "{word}");
        };
        check("componnent", Some("component"));
        check("time_out", Some("timeout"));
        check("onfailure", Some("on_failure"));
        check("On", Some("on"));
        check("colour", None);
        check("", None);
    }
}
