//! A list in an answer of the control plane, read while it arrives: item by item, and how to ask for the next page.
//!
//! Read by whoever asks for lists: open events, subscriptions. All of it is checked to be JSON; nothing is taken apart that
//! is not needed to recognise an item, because most of a list is known already. What was read is forgotten, so that a list
//! of any length takes no more memory than its largest item.

use std::ops::Range;

use bytes::Bytes;
use serde::Deserialize;

use crate::json::{Scanner, Span, SyntaxError};

/// A larger item is not read.
const MAX_ITEM_BYTES: usize = 64 << 20;
/// What is looked at at a time: pieces may be much larger than items.
const SLICE_BYTES: usize = 16 << 10;
/// How far before the end of what has arrived an error may be that more bytes would heal: a word or an escape that is cut
/// in two is an error at its start.
const LONGEST_CUT: usize = 6;

/// Reads a list out of pieces.
#[derive(Debug)]
pub(crate) struct ListReader {
    /// The member that holds it.
    list: &'static str,
    /// What has arrived, and is not in the buffer.
    arrived: Bytes,
    /// What is being read; what was read of it ends at `position`.
    buffer: Vec<u8>,
    position: usize,
    /// Bytes that stood before the buffer.
    n_forgotten: usize,
    expected: Expected,
    member: Member,
    /// A value that was not complete is tried again when this much of it is there. Twice as much each time, so that a
    /// large one is not scanned over and over.
    enough: usize,
    has_ended: bool,
    has_list: bool,
    next: Option<String>,
}

/// What comes next.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Expected {
    #[default]
    Object,
    NameOrEnd,
    Name,
    Colon,
    Value,
    AfterValue,
    ItemOrEnd,
    Item,
    AfterItem,
    Nothing,
}

/// Whose value comes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Member {
    List,
    NextPageKey,
    #[default]
    Other,
}

/// What stands in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Item<'a> {
    /// What its member `id` has between the quotes. What has no id is at least recognised when it comes again as it is: then
    /// it is all of it.
    pub(crate) id: &'a [u8],
    /// As they were sent.
    pub(crate) bytes: &'a [u8],
}

/// Why an answer has no such list.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ListError {
    #[error("it is not text")]
    NotText,
    #[error("it is not JSON: {0}")]
    NotJson(#[from] SyntaxError),
    #[error("it is no JSON object with a list `{0}`")]
    NoList(&'static str),
    #[error("an item of its list has more than {MAX_ITEM_BYTES} bytes")]
    TooLarge,
}

impl ListReader {
    /// Reads the list in this member of the answer.
    pub(crate) fn of(list: &'static str) -> Self {
        Self {
            list,
            arrived: Bytes::new(),
            buffer: Vec::new(),
            position: 0,
            n_forgotten: 0,
            expected: Expected::default(),
            member: Member::default(),
            enough: 0,
            has_ended: false,
            has_list: false,
            next: None,
        }
    }

    /// Takes the next piece of the answer. To be called when [`Self::item`] has nothing more.
    pub(crate) fn add(&mut self, piece: Bytes) {
        self.arrived = piece;
    }

    /// Notes that there are no more pieces.
    pub(crate) fn end(&mut self) {
        self.has_ended = true;
    }

    /// The next item; none while it has not arrived, and at the end.
    pub(crate) fn item(&mut self) -> Result<Option<Item<'_>>, ListError> {
        loop {
            if let Some((id, item)) = self.read()? {
                return Ok(Some(Item {
                    id: &self.buffer[id],
                    bytes: &self.buffer[item],
                }));
            }
            if self.arrived.is_empty() {
                return if self.has_ended && self.expected != Expected::Nothing {
                    Err(self.error("the end is missing"))
                } else {
                    Ok(None)
                };
            }
            self.buffer.drain(..self.position);
            self.n_forgotten += self.position;
            self.position = 0;
            let slice = self.arrived.split_to(SLICE_BYTES.min(self.arrived.len()));
            self.buffer.extend_from_slice(&slice);
        }
    }

    /// The places in the buffer of the next item's id, and of the item.
    #[expect(clippy::type_complexity, reason = "two places, or none")]
    fn read(&mut self) -> Result<Option<(Range<usize>, Range<usize>)>, ListError> {
        use Expected as E;
        while let Some(byte) = self.peek() {
            self.expected = match (self.expected, byte) {
                (E::Object, b'{') => self.pass(E::NameOrEnd),
                (E::NameOrEnd | E::AfterValue, b'}') => self.pass(E::Nothing),
                (E::AfterValue, b',') => self.pass(E::Name),
                (E::Colon, b':') => self.pass(E::Value),
                (E::ItemOrEnd | E::AfterItem, b']') => self.pass(E::AfterValue),
                (E::AfterItem, b',') => self.pass(E::Item),
                (E::NameOrEnd | E::Name, b'"') => match self.name()? {
                    Some(member) => {
                        self.member = member;
                        E::Colon
                    }
                    None => return Ok(None),
                },
                (E::Value, b'[') if self.member == Member::List => {
                    self.has_list = true;
                    self.pass(E::ItemOrEnd)
                }
                (E::Value, _) if self.value()? => E::AfterValue,
                (E::Value, _) => return Ok(None),
                (E::ItemOrEnd | E::Item, _) => {
                    let Some((id, item)) = self.scan(item_id)? else {
                        return Ok(None);
                    };
                    self.expected = E::AfterItem;
                    let id = if id.is_empty() { item.clone() } else { id };
                    return Ok(Some((id, item)));
                }
                (_, byte) => return Err(self.unexpected(byte)),
            };
        }
        Ok(None)
    }

    /// What to ask for next, when all of the page was read; none at the end of the list.
    pub(crate) fn finish(self) -> Result<Option<String>, ListError> {
        if self.has_list {
            Ok(self.next)
        } else {
            Err(ListError::NoList(self.list))
        }
    }

    /// Reads the name of a member; none while it is not complete.
    fn name(&mut self) -> Result<Option<Member>, ListError> {
        let name = self.scan(|scanner, _| Ok(scanner.value()?.text().unwrap_or_default()))?;
        Ok(name.map(|(name, _)| match &self.buffer[name] {
            name if name == self.list.as_bytes() => Member::List,
            b"nextPageKey" => Member::NextPageKey,
            _ => Member::Other,
        }))
    }

    /// Reads the value of a member; false while it is not complete.
    fn value(&mut self) -> Result<bool, ListError> {
        let Some((value, _)) = self.scan(|scanner, _| Ok(scanner.value()?.span))? else {
            return Ok(false);
        };
        let value = &self.buffer[value];
        match self.member {
            Member::List => self.has_list = value == b"null",
            Member::NextPageKey => self.next = page_key(value),
            Member::Other => {}
        }
        Ok(true)
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        let rest = &self.buffer[self.position..];
        let n_spaces = rest
            .iter()
            .take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
            .count();
        self.position += n_spaces;
        self.buffer.get(self.position).copied()
    }

    /// Goes behind one byte.
    fn pass(&mut self, expected: Expected) -> Expected {
        self.position += 1;
        expected
    }

    /// Scans one value, and goes behind it. The places in the buffer of what `scan` found, and of the whole value; none
    /// while the value is not complete.
    #[expect(clippy::type_complexity, reason = "two places, or none")]
    fn scan(
        &mut self,
        scan: impl FnOnce(&mut Scanner<'_>, &[u8]) -> Result<Span, SyntaxError>,
    ) -> Result<Option<(Range<usize>, Range<usize>)>, ListError> {
        let start = self.position;
        let rest = &self.buffer[start..];
        let is_all = self.has_ended && self.arrived.is_empty();
        if rest.len() < self.enough && !is_all {
            return Ok(None);
        }
        let mut scanner = Scanner::new(rest);
        let result = scan(&mut scanner, rest);
        let end = scanner.position() as usize;
        match result {
            // A number at the very end may go on.
            Ok(found) if is_all || end < rest.len() || matches!(rest[end - 1], b'}' | b']' | b'"') => {
                if std::str::from_utf8(&rest[..end]).is_err() {
                    return Err(ListError::NotText);
                }
                self.position += end;
                self.enough = 0;
                let found = start + found.start as usize..start + found.end as usize;
                Ok(Some((found, start..start + end)))
            }
            Err(error) if is_all || error.offset + LONGEST_CUT < rest.len() => Err(ListError::NotJson(SyntaxError {
                offset: self.n_forgotten + start + error.offset,
                ..error
            })),
            _ if rest.len() > MAX_ITEM_BYTES => Err(ListError::TooLarge),
            _ => {
                self.enough = rest.len() * 2;
                Ok(None)
            }
        }
    }

    fn unexpected(&self, byte: u8) -> ListError {
        self.error(match self.expected {
            Expected::Object if matches!(byte, b'[' | b'"' | b'0'..=b'9' | b'-' | b't' | b'f' | b'n') => {
                return ListError::NoList(self.list);
            }
            Expected::Object | Expected::Value | Expected::ItemOrEnd | Expected::Item => "expected a value",
            Expected::NameOrEnd | Expected::Name => "expected a member name",
            Expected::Colon => "expected `:`",
            Expected::AfterValue => "expected `,` or `}`",
            Expected::AfterItem => "expected `,` or `]`",
            Expected::Nothing => "expected the end of the document",
        })
    }

    fn error(&self, expected: &'static str) -> ListError {
        ListError::NotJson(SyntaxError {
            expected,
            offset: self.n_forgotten + self.position,
        })
    }
}

/// Scans an item and finds its id, which may be missing.
fn item_id(scanner: &mut Scanner<'_>, document: &[u8]) -> Result<Span, SyntaxError> {
    if !scanner.peek_is_object() {
        scanner.value()?;
        return Ok(Span::ABSENT);
    }
    let mut id = Span::ABSENT;
    scanner.object(|scanner, name| {
        let value = scanner.value()?;
        if name.of(document) == b"id" {
            id = value.text().unwrap_or(Span::ABSENT);
        }
        Ok::<(), SyntaxError>(())
    })?;
    Ok(id)
}

/// Text that holds an offset; nothing, empty text and 0 stand for the end.
fn page_key(json: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Key {
        Text(String),
        Number(u64),
    }
    let key = match serde_json::from_slice(json).ok()? {
        Key::Text(text) => text,
        Key::Number(number) => number.to_string(),
    };
    (!key.is_empty() && key != "0").then_some(key)
}

#[cfg(test)]
mod tests;
