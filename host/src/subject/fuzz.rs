//! Damaged subjects and patterns: matching agrees with the rule as the documentation of NATS has it.

use super::Subject;

/// Token by token: `*` stands for one, `>` for all that are left, at least one.
fn matches(pattern: &[&str], subject: &[&str]) -> bool {
    match (pattern, subject) {
        ([">"], [_, ..]) | ([], []) => true,
        (["*", pattern @ ..], [_, subject @ ..]) => matches(pattern, subject),
        ([token, pattern @ ..], [other, subject @ ..]) => token == other && matches(pattern, subject),
        _ => false,
    }
}

#[test]
fn a_pattern_matches_what_nats_says_it_does() {
    let seeds: [&[u8]; 5] = [
        b"sh.keptn.> sh.keptn.event.a.triggered",
        b"sh.*.event.*.triggered sh.keptn.event.b.triggered",
        b"> a",
        b"a.b a.b.c",
        b"*.* a.b",
    ];
    crate::fuzz::run(&seeds, |bytes| {
        let Some((pattern, subject)) = std::str::from_utf8(bytes).ok().and_then(|text| text.split_once(' ')) else {
            return false;
        };
        let (Ok(pattern), Ok(subject)) = (Subject::pattern(pattern), Subject::literal(subject)) else {
            return false;
        };
        let of_pattern: Vec<_> = pattern.as_str().split('.').collect();
        let of_subject: Vec<_> = subject.as_str().split('.').collect();
        let expected = matches(&of_pattern, &of_subject);
        assert_eq!(pattern.overlaps(&subject), expected);
        assert_eq!(pattern.covers(&subject), expected);
        assert!(of_pattern.iter().chain(&of_subject).all(|token| !token.is_empty()));
        true
    });
}
