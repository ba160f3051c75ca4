//! NATS subjects: their grammar, wildcards, and how few of them cover a set.
//!
//! Pure rules, used by configuration, matching and the NATS source (NATS documentation, "Subject-Based Messaging").

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// A subject, or a pattern with the wildcards `*` (one token) and `>` (one or more tokens, at the end). Copies share the
/// text: what ten thousand subscriptions want is in several lists.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject(Arc<str>);

/// Why a text is no subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// No text, or two dots side by side, or a dot at either end.
    #[error("has an empty part between dots")]
    EmptyToken,
    /// White space or a control character.
    #[error("contains white space or a control character")]
    BadCharacter,
    /// `>` somewhere else than at the end.
    #[error("has `>` somewhere else than as the last part")]
    WildcardNotLast,
    /// A wildcard where none may be.
    #[error("has a wildcard, but an event has one exact type")]
    Wildcard,
}

impl Subject {
    /// Takes a subject that may have wildcards.
    ///
    /// # Errors
    /// Why `text` is none.
    pub fn pattern(text: &str) -> Result<Self, SubjectError> {
        let mut tokens = text.split('.').peekable();
        while let Some(token) = tokens.next() {
            if token.is_empty() {
                return Err(SubjectError::EmptyToken);
            }
            if token.chars().any(|c| c.is_whitespace() || c.is_control()) {
                return Err(SubjectError::BadCharacter);
            }
            if token == ">" && tokens.peek().is_some() {
                return Err(SubjectError::WildcardNotLast);
            }
        }
        Ok(Self(text.into()))
    }

    /// Takes a subject that an event can be published on.
    ///
    /// # Errors
    /// Why `text` is none.
    pub fn literal(text: &str) -> Result<Self, SubjectError> {
        let subject = Self::pattern(text)?;
        if subject.has_wildcard() {
            Err(SubjectError::Wildcard)
        } else {
            Ok(subject)
        }
    }

    /// The subject as it goes over the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parts between the dots.
    pub fn tokens(&self) -> std::str::Split<'_, char> {
        self.0.split('.')
    }

    /// Whether it stands for more than one subject.
    pub fn has_wildcard(&self) -> bool {
        self.tokens().any(is_wildcard)
    }

    /// Whether some subject matches both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let mut ours = self.tokens();
        let mut theirs = other.tokens();
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) | (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
                (Some(our), Some(their)) if our == their || our == "*" || their == "*" => {}
                _ => return false,
            }
        }
    }

    /// Whether every subject that matches `other` matches this one, too.
    pub fn covers(&self, other: &Self) -> bool {
        let mut ours = self.tokens();
        let mut theirs = other.tokens();
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) | (Some(">"), Some(_)) => return true,
                (Some(our), Some(their)) if our == their || (our == "*" && their != ">") => {}
                _ => return false,
            }
        }
    }

    /// The narrowest pattern that covers two patterns, whether they overlap or not.
    fn widened_to(&self, other: &Self) -> Self {
        let mut widened = Vec::new();
        let (mut ours, mut theirs) = (self.tokens(), other.tokens());
        loop {
            match (ours.next(), theirs.next()) {
                (None, None) => break,
                (Some(our), Some(their)) if our == their && our != ">" => widened.push(our),
                (Some(our), Some(their)) if our != ">" && their != ">" => widened.push("*"),
                // One goes on where the other ends, or stands for any number of tokens. `>` needs at least one.
                (our, their) => {
                    if our.is_none() || their.is_none() {
                        widened.pop();
                    }
                    widened.push(">");
                    break;
                }
            }
        }
        Self(widened.join(".").into())
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Whether a token of a pattern stands for others.
pub fn is_wildcard(token: &str) -> bool {
    token == "*" || token == ">"
}

/// A set of patterns that covers all of `wanted` and of which no two overlap.
///
/// A queue group on overlapping subjects would get each message on only one of them, and a plain subscription would
/// get it on both (behaviour of nats-server). Where patterns overlap only partly, e.g. `a.*` and `*.b`, the cover is
/// wider than what is wanted (`*.*`); what nobody asked for is dropped after receipt.
pub fn cover<'a>(wanted: impl IntoIterator<Item = &'a Subject>) -> BTreeSet<Subject> {
    let (wildcards, mut literals): (BTreeSet<Subject>, BTreeSet<Subject>) =
        wanted.into_iter().cloned().partition(Subject::has_wildcard);
    let mut disjoint: Vec<Subject> = Vec::new();
    for mut pattern in wildcards {
        // A widened pattern may overlap what did not overlap before: start over until nothing does.
        while let Some(position) = disjoint.iter().position(|other| other.overlaps(&pattern)) {
            pattern = disjoint.swap_remove(position).widened_to(&pattern);
        }
        disjoint.push(pattern);
    }
    literals.retain(|literal| !disjoint.iter().any(|pattern| pattern.overlaps(literal)));
    literals.extend(disjoint);
    literals
}

/// The narrowest pattern that covers all of `subjects`; none of none.
pub fn common(subjects: &BTreeSet<Subject>) -> Option<Subject> {
    let (first, others) = subjects.iter().next().zip(Some(subjects.iter().skip(1)))?;
    Some(others.fold(first.clone(), |common, subject| common.widened_to(subject)))
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn subject(text: &str) -> Subject {
        Subject::pattern(text).unwrap()
    }

    #[test]
    fn a_subject_has_no_empty_part_no_space_and_its_tail_wildcard_last() {
        let check = |text: &str, expected: Result<(), SubjectError>| {
            assert_eq!(Subject::pattern(text).map(|_| ()), expected, "{text:?}");
        };
        check("sh.keptn.event.task.triggered", Ok(()));
        check("sh.keptn.>", Ok(()));
        check("sh.*.event", Ok(()));
        check("a*b", Ok(())); // a star that is not a whole token is an ordinary character
        check("", Err(SubjectError::EmptyToken));
        check("a..b", Err(SubjectError::EmptyToken));
        check("a.", Err(SubjectError::EmptyToken));
        check(" a", Err(SubjectError::BadCharacter));
        check("a.>.b", Err(SubjectError::WildcardNotLast));
    }

    #[test]
    fn an_event_type_must_be_an_exact_subject() {
        assert!(Subject::literal("sh.keptn.event.task.finished").is_ok());
        assert_eq!(Subject::literal("sh.keptn.>"), Err(SubjectError::Wildcard));
        assert_eq!(Subject::literal("sh.*"), Err(SubjectError::Wildcard));
    }

    #[test]
    fn a_pattern_covers_what_has_no_subject_outside_of_it() {
        let check = |pattern: &str, other: &str, expected: bool| {
            assert_eq!(
                subject(pattern).covers(&subject(other)),
                expected,
                "{pattern} and {other}"
            );
        };
        check("a.b", "a.b", true);
        check("a.b", "a.c", false);
        check("a.b", "a", false);
        check("a", "a.b", false);
        check("a.*", "a.b", true);
        check("a.*", "a.*", true);
        check("a.b", "a.*", false);
        check("a.*", "a", false);
        check("a.*", "a.b.c", false);
        check("a.*", "a.>", false);
        check("*.*", "a.>", false);
        check("a.>", "a.b.c", true);
        check("a.>", "a.*", true);
        check("a.>", "a.*.>", true);
        check("a.*.>", "a.>", false);
        check("a.>", "a.>", true);
        check("a.>", "a", false);
        check(">", "a.>", true);
        check("*.>", ">", false);
        check("sh.keptn.>", "sh.keptn.event.*.triggered", true);
        check("sh.keptn.event.>", "sh.keptn.>", false);
        check("*.b", "a.*", false); // they overlap
    }

    #[test]
    fn cover_is_minimal_and_free_of_overlaps() {
        let check = |wanted: &[&str], expected: &[&str]| {
            let wanted: Vec<_> = wanted.iter().map(|text| subject(text)).collect();
            let cover = cover(&wanted);
            let cover: Vec<_> = cover.iter().map(Subject::as_str).collect();
            assert_eq!(cover, expected);
        };
        check(&[], &[]);
        check(&["a.b", "a.b"], &["a.b"]);
        check(&["b.c", "a.b"], &["a.b", "b.c"]);
        check(&["a.b", "a.*"], &["a.*"]);
        check(&["a.*", "a.>"], &["a.>"]);
        check(&["a.*", "*.b", "c"], &["*.*", "c"]);
        check(&["a.*.c", "a.b.*", "a.b.c"], &["a.*.*"]);
        check(
            &["sh.keptn.event.task.triggered", "sh.keptn.event.*.triggered"],
            &["sh.keptn.event.*.triggered"],
        );
        check(&["a.*", "a.b.c"], &["a.*", "a.b.c"]);
        check(&["a.>", "a"], &["a", "a.>"]);
    }

    #[test]
    fn what_subjects_have_in_common_covers_them_and_little_else() {
        let check = |subjects: &[&str], expected: Option<&str>| {
            let subjects = subjects.iter().map(|text| subject(text)).collect();
            assert_eq!(common(&subjects).as_ref().map(Subject::as_str), expected);
        };
        check(&[], None);
        check(&["a.b"], Some("a.b"));
        check(&["a.b.c", "a.d.c"], Some("a.*.c"));
        check(&["a.b", "a.b.c"], Some("a.>"));
        check(&["a.b.c", "a.x.>"], Some("a.*.>"));
        check(&["a.>", "b"], Some(">"));
        check(&["a", "b", "c.d"], Some(">"));
    }

    fn token() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec!["a", "b", "c", "*"])
    }

    fn pattern() -> impl Strategy<Value = Subject> {
        (prop::collection::vec(token(), 1..4), any::<bool>()).prop_map(|(mut tokens, tail)| {
            if tail {
                tokens.push(">");
            }
            subject(&tokens.join("."))
        })
    }

    /// All subjects of up to five tokens out of four: one more of each than a pattern of [`pattern`] has.
    fn all_subjects() -> Vec<Subject> {
        let mut texts = vec![String::new()];
        let mut subjects = Vec::new();
        for _ in 0..5 {
            let longer = texts
                .iter()
                .flat_map(|text| ["a", "b", "c", "d"].map(|token| format!("{text}.{token}")));
            texts = longer.collect();
            subjects.extend(texts.iter().map(|text| subject(&text[1..])));
        }
        subjects
    }

    proptest! {
        #[test]
        fn whatever_is_wanted_is_covered_exactly_once(
            wanted in prop::collection::vec(pattern(), 0..8),
            event in prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..5),
        ) {
            let event = subject(&event.join("."));
            let cover = cover(&wanted);
            let covering = cover.iter().filter(|pattern| pattern.overlaps(&event)).count();
            prop_assert!(covering <= 1, "{event} is received {covering} times over {cover:?}");
            if wanted.iter().any(|pattern| pattern.overlaps(&event)) {
                prop_assert_eq!(covering, 1);
            }
        }

        #[test]
        fn covering_means_that_no_subject_is_left_out(pattern in pattern(), other in pattern()) {
            let all = all_subjects();
            let mut matched_by_other = all.iter().filter(|subject| other.overlaps(subject));
            let none_left_out = matched_by_other.all(|subject| pattern.overlaps(subject));
            prop_assert_eq!(pattern.covers(&other), none_left_out);
        }
    }
}
