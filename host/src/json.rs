//! A JSON scanner that checks a document completely and hands out byte offsets instead of values.
//!
//! Used by [`crate::event`], which forwards events with their original bytes: it needs to know *where* things are, and
//! that whatever it skips is well-formed (RFC 8259). It knows nothing of `CloudEvents`.
//!
//! A serde pass would give values without offsets, and `RawValue` makes a second pass over the payload necessary,
//! which costs more than everything else the distributor does with a large event.

#![expect(
    clippy::inline_always,
    reason = "a token takes 15 cycles, of which calls were a quarter; left to itself the compiler makes them"
)]

/// A byte range of the scanned document. `Span::ABSENT` stands for "no such thing": no value can start at offset 0 and
/// end there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Offset behind the last byte.
    pub end: u32,
}

impl Span {
    /// The span of something that is not there.
    pub const ABSENT: Self = Self { start: 0, end: 0 };

    /// False for [`Span::ABSENT`].
    pub fn is_present(self) -> bool {
        self.end != 0
    }

    /// True for no bytes, and for [`Span::ABSENT`].
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// The bytes of `document` in this range.
    pub fn of(self, document: &[u8]) -> &[u8] {
        &document[self.start as usize..self.end as usize]
    }
}

/// What kind of value was scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `{…}`
    Object,
    /// `[…]`
    Array,
    /// `"…"`
    String,
    /// A number of any size.
    Number,
    /// `true` or `false`
    Boolean,
    /// `null`
    Null,
}

/// A scanned value.
#[derive(Debug, Clone, Copy)]
pub struct Value {
    /// From the first to the last byte, quotes included.
    pub span: Span,
    /// What it is.
    pub kind: Kind,
}

impl Value {
    /// What stands between the quotes, still escaped, if it is a string.
    pub fn text(self) -> Option<Span> {
        (self.kind == Kind::String).then_some(Span {
            start: self.span.start + 1,
            end: self.span.end - 1,
        })
    }
}

/// What is wrong with a document, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{expected} at byte {offset}")]
pub struct SyntaxError {
    /// What the scanner missed, e.g. `expected a value`.
    pub expected: &'static str,
    /// Where.
    pub offset: usize,
}

type Result<T> = std::result::Result<T, SyntaxError>;

/// Walks over a document from front to back.
#[derive(Debug)]
pub struct Scanner<'a> {
    document: &'a [u8],
    position: usize,
}

impl<'a> Scanner<'a> {
    /// A scanner at the start of `document`. The caller has checked that it is UTF-8 and shorter than 4 GiB.
    pub fn new(document: &'a [u8]) -> Self {
        Self { document, position: 0 }
    }

    /// Offset of the next byte.
    pub fn position(&self) -> u32 {
        // The documents come out of buffers far below 4 GiB; see `new`.
        u32::try_from(self.position).unwrap_or(u32::MAX)
    }

    /// Walks over an object. `member` is called with each key and must scan that member's value.
    ///
    /// # Errors
    /// When the document is not well-formed here, or `member` fails.
    pub fn object<E: From<SyntaxError>>(
        &mut self,
        mut member: impl FnMut(&mut Self, Span) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        self.expect(b'{', "expected an object")?;
        if self.take_after_space(b'}') {
            return Ok(());
        }
        loop {
            let key = self.key()?;
            member(self, key)?;
            self.skip_space();
            match self.peek() {
                Some(b',') => self.position += 1,
                Some(b'}') => {
                    self.position += 1;
                    return Ok(());
                }
                _ => return Err(self.error("expected `,` or `}`").into()),
            }
        }
    }

    /// Walks over an array. `element` must scan one value.
    ///
    /// # Errors
    /// When the document is not well-formed here, or `element` fails.
    pub fn array<E: From<SyntaxError>>(
        &mut self,
        mut element: impl FnMut(&mut Self) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        self.expect(b'[', "expected an array")?;
        if self.take_after_space(b']') {
            return Ok(());
        }
        loop {
            element(self)?;
            self.skip_space();
            match self.peek() {
                Some(b',') => self.position += 1,
                Some(b']') => {
                    self.position += 1;
                    return Ok(());
                }
                _ => return Err(self.error("expected `,` or `]`").into()),
            }
        }
    }

    /// Whether the value that comes next is an object, judged by its first byte; white space before it is skipped.
    pub fn peek_is_object(&mut self) -> bool {
        self.skip_space();
        self.peek() == Some(b'{')
    }

    /// The same for an array.
    pub fn peek_is_array(&mut self) -> bool {
        self.skip_space();
        self.peek() == Some(b'[')
    }

    /// Scans one value of any kind and checks all of it.
    ///
    /// # Errors
    /// When the document is not well-formed here.
    pub fn value(&mut self) -> Result<Value> {
        self.skip_space();
        let start = self.position();
        let kind = match self.peek() {
            Some(b'"') => {
                self.string()?;
                Kind::String
            }
            Some(b'{') => {
                self.skip_container()?;
                Kind::Object
            }
            Some(b'[') => {
                self.skip_container()?;
                Kind::Array
            }
            _ => self.scalar()?,
        };
        Ok(Value {
            span: Span {
                start,
                end: self.position(),
            },
            kind,
        })
    }

    /// Fails unless only white space is left.
    ///
    /// # Errors
    /// When something else follows.
    pub fn end(&mut self) -> Result<()> {
        self.skip_space();
        if self.position == self.document.len() {
            Ok(())
        } else {
            Err(self.error("expected the end of the document"))
        }
    }

    /// Containers are skipped with an explicit stack of one bit a level: a document nested 100,000 deep must not
    /// overflow ours.
    fn skip_container(&mut self) -> Result<()> {
        let mut nesting = Nesting::default();
        loop {
            // Here a value is due.
            self.skip_space();
            match self.peek() {
                Some(b'{') => {
                    self.position += 1;
                    if !self.take_after_space(b'}') {
                        nesting.push(true);
                        self.key()?;
                        continue;
                    }
                }
                Some(b'[') => {
                    self.position += 1;
                    if !self.take_after_space(b']') {
                        nesting.push(false);
                        continue;
                    }
                }
                Some(b'"') => {
                    self.string()?;
                }
                _ => {
                    self.scalar()?;
                }
            }
            // A value is done: close what ends here, and go on to the next one.
            loop {
                let Some(in_object) = nesting.top() else { return Ok(()) };
                self.skip_space();
                match (self.peek(), in_object) {
                    (Some(b','), _) => {
                        self.position += 1;
                        if in_object {
                            self.key()?;
                        }
                        break;
                    }
                    (Some(b'}'), true) | (Some(b']'), false) => {
                        self.position += 1;
                        nesting.pop();
                    }
                    _ => return Err(self.error("expected `,` or the end of the object or array")),
                }
            }
        }
    }

    #[inline(always)]
    fn key(&mut self) -> Result<Span> {
        self.skip_space();
        if self.peek() != Some(b'"') {
            return Err(self.error("expected a member name"));
        }
        let key = self.string()?;
        // Nearly always there is no space between them.
        if !self.take(b':') {
            self.expect(b':', "expected `:`")?;
        }
        Ok(key)
    }

    /// What stands between the quotes.
    #[inline(always)]
    fn string(&mut self) -> Result<Span> {
        self.position += 1;
        let start = self.position();
        loop {
            self.skip_plain_text();
            match self.peek() {
                Some(b'"') => {
                    let end = self.position();
                    self.position += 1;
                    return Ok(Span { start, end });
                }
                Some(b'\\') => self.escape()?,
                Some(_) => return Err(self.error("control character in a string")),
                None => return Err(self.error("string without an end")),
            }
        }
    }

    /// Goes on to the next quote, backslash or control character, eight bytes at a time: most of a payload is text.
    #[inline(always)]
    fn skip_plain_text(&mut self) {
        const ONES: u64 = 0x0101_0101_0101_0101;
        const HIGHS: u64 = 0x8080_8080_8080_8080;
        // A byte that is less than what is taken from it gets its high bit set by the borrow. So may bytes above it, which
        // is why only the lowest counts; and bytes that have it set before are no ASCII and do not count.
        while let Some(&chunk) = self.document[self.position..].first_chunk::<8>() {
            let word = u64::from_le_bytes(chunk);
            let quotes = (word ^ (ONES * u64::from(b'"'))).wrapping_sub(ONES);
            let backslashes = (word ^ (ONES * u64::from(b'\\'))).wrapping_sub(ONES);
            let controls = word.wrapping_sub(ONES * 0x20);
            let stops = (quotes | backslashes | controls) & !word & HIGHS;
            if stops != 0 {
                self.position += stops.trailing_zeros() as usize / 8;
                return;
            }
            self.position += 8;
        }
        while let Some(byte) = self.peek() {
            if byte == b'"' || byte == b'\\' || byte < 0x20 {
                return;
            }
            self.position += 1;
        }
    }

    fn escape(&mut self) -> Result<()> {
        self.position += 1;
        let Some(byte) = self.peek() else {
            return Err(self.error("string without an end"));
        };
        match byte {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.position += 1,
            b'u' => {
                let digits = self.document.get(self.position + 1..self.position + 5);
                if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                    return Err(self.error("expected four hexadecimal digits"));
                }
                self.position += 5;
            }
            _ => return Err(self.error("unknown escape")),
        }
        Ok(())
    }

    #[inline(always)]
    fn scalar(&mut self) -> Result<Kind> {
        match self.peek() {
            Some(b't') => self.word(b"true", Kind::Boolean),
            Some(b'f') => self.word(b"false", Kind::Boolean),
            Some(b'n') => self.word(b"null", Kind::Null),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(self.error("expected a value")),
        }
    }

    #[inline(always)]
    fn word(&mut self, word: &[u8], kind: Kind) -> Result<Kind> {
        if self.document[self.position..].starts_with(word) {
            self.position += word.len();
            Ok(kind)
        } else {
            Err(self.error("expected a value"))
        }
    }

    #[inline(always)]
    fn number(&mut self) -> Result<Kind> {
        self.take(b'-');
        // A leading zero stands alone.
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            if !self.take(b'+') {
                self.take(b'-');
            }
            self.digits()?;
        }
        Ok(Kind::Number)
    }

    #[inline(always)]
    fn digits(&mut self) -> Result<()> {
        let start = self.position;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.position += 1;
        }
        if self.position == start {
            return Err(self.error("expected a digit"));
        }
        Ok(())
    }

    #[inline(always)]
    fn expect(&mut self, byte: u8, expected: &'static str) -> Result<()> {
        if self.take_after_space(byte) {
            Ok(())
        } else {
            Err(self.error(expected))
        }
    }

    #[inline(always)]
    fn take_after_space(&mut self, byte: u8) -> bool {
        self.skip_space();
        self.take(byte)
    }

    #[inline(always)]
    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.position += usize::from(found);
        found
    }

    #[inline(always)]
    fn skip_space(&mut self) {
        while let Some(byte) = self.peek() {
            // Most documents on the wire have no white space at all.
            if byte > b' ' || !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return;
            }
            self.position += 1;
        }
    }

    #[inline(always)]
    fn peek(&self) -> Option<u8> {
        self.document.get(self.position).copied()
    }

    fn error(&self, expected: &'static str) -> SyntaxError {
        SyntaxError {
            expected,
            offset: self.position,
        }
    }
}

/// Whether each open container is an object (1) or an array (0): a stack of bits, 64 levels without an allocation.
#[derive(Default)]
struct Nesting {
    depth: usize,
    word: u64,
    full_words: Vec<u64>,
}

impl Nesting {
    fn push(&mut self, is_object: bool) {
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.full_words.push(self.word);
        }
        self.word = self.word << 1 | u64::from(is_object);
        self.depth += 1;
    }

    fn pop(&mut self) {
        self.depth -= 1;
        self.word >>= 1;
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.word = self.full_words.pop().unwrap_or_default();
        }
    }

    fn top(&self) -> Option<bool> {
        (self.depth > 0).then_some(self.word & 1 == 1)
    }
}

/// Whether `document` is exactly one well-formed JSON value.
///
/// # Errors
/// Where and how it is not.
pub fn check(document: &str) -> Result<Value> {
    let mut scanner = Scanner::new(document.as_bytes());
    let value = scanner.value()?;
    scanner.end()?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    use super::*;

    fn serde_accepts(document: &str) -> bool {
        let mut deserializer = serde_json::Deserializer::from_str(document);
        serde::Deserialize::deserialize(&mut deserializer)
            .and_then(|_: IgnoredAny| deserializer.end())
            .is_ok()
    }

    #[test]
    fn accepts_and_rejects_what_the_grammar_says() {
        let accepted = [
            "{}",
            " [ ] ",
            r#"{"a":[1,-0.5e+10,true,false,null,"x\u00e9\n"],"b":{"c":{}}}"#,
            "12345678901234567890123",
            "0",
            "-0",
            "\"\"",
            r#""\ud800""#, // a lone surrogate is well-formed text, even if it stands for no character
        ];
        let rejected = [
            "",
            " ",
            "{",
            "}",
            "[1,]",
            "{\"a\":1,}",
            "{a:1}",
            "01",
            "1.",
            ".5",
            "+1",
            "1e",
            "tru",
            "nul",
            "\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\u{1}\"",
            "[1 2]",
            "{\"a\" 1}",
            "1 2",
            "[}",
            "{]",
            "[[]",
            "{\"a\":}",
            "-",
        ];
        for document in accepted {
            assert!(check(document).is_ok(), "{document} should be accepted");
        }
        for document in rejected {
            assert!(check(document).is_err(), "{document} should be rejected");
        }
    }

    #[test]
    fn nesting_of_any_depth_is_scanned_without_recursion() {
        let depth = 100_000;
        let arrays = "[".repeat(depth) + &"]".repeat(depth);
        assert!(check(&arrays).is_ok());
        let objects = "{\"a\":".repeat(depth) + "1" + &"}".repeat(depth);
        assert!(check(&objects).is_ok());
        let mixed = "[{\"a\":".repeat(depth) + "1" + &"}]".repeat(depth);
        assert!(check(&mixed).is_ok());
        let crossed = "[{\"a\":".repeat(depth) + "1" + &"]}".repeat(depth);
        assert!(check(&crossed).is_err());
    }

    #[test]
    fn an_error_says_where() {
        let error = check(r#"{"a":1,"b" 2}"#).unwrap_err();
        assert_eq!(error.to_string(), "expected `:` at byte 11");
    }

    fn json_text() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            Just("true".to_owned()),
            any::<i64>().prop_map(|number| number.to_string()),
            any::<f64>().prop_map(|number| serde_json::to_string(&number).unwrap()),
            ".*".prop_map(|text| serde_json::to_string(&text).unwrap()),
        ];
        leaf.prop_recursive(5, 64, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(|items| format!("[{}]", items.join(" , "))),
                prop::collection::vec(("\\PC{0,8}", inner), 0..6).prop_map(|members| {
                    let members: Vec<_> = members
                        .into_iter()
                        .map(|(key, value)| format!("{}: {value}", serde_json::to_string(&key).unwrap()))
                        .collect();
                    format!("{{{}}}", members.join(","))
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json_on_well_formed_text(document in json_text()) {
            prop_assert!(check(&document).is_ok());
        }

        #[test]
        fn agrees_with_serde_json_on_damaged_text(
            document in json_text(), position in any::<prop::sample::Index>(), byte in "[\\[\\]{}\",:\\\\0-9eE.tfn \u{1}-]"
        ) {
            let mut characters: Vec<char> = document.chars().collect();
            let position = position.index(characters.len());
            characters[position] = byte.chars().next().unwrap();
            let damaged: String = characters.into_iter().collect();
            prop_assert_eq!(check(&damaged).is_ok(), serde_accepts(&damaged), "{}", damaged);
        }
    }
}
