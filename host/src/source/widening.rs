//! Fewer subjects for core NATS, where there are too many.
//!
//! Called by [`super`] for the topics that no stream stores. What is received then and nobody asked for is dropped by
//! [`crate::dispatch`], which looks every event up anyway.

use std::collections::BTreeSet;

use crate::subject::{Subject, common, is_wildcard};

/// The client keeps a queue of some 10 KiB for each subject, used or not.
const MAX_SUBJECTS: usize = 256;

/// The same, or where it is too many the narrowest subject that covers all.
///
/// They stay as they are if that subject would bring what comes from streams too (`elsewhere`), which would then come
/// twice, or if they have so little in common that everything on the server would be received.
pub(super) fn few<'a>(
    wanted: BTreeSet<Subject>,
    elsewhere: impl IntoIterator<Item = &'a Subject>,
) -> BTreeSet<Subject> {
    if wanted.len() <= MAX_SUBJECTS {
        return wanted;
    }
    let is_wide = |common: &Subject| common.tokens().next().is_none_or(is_wildcard);
    match common(&wanted) {
        Some(common) if !is_wide(&common) && !elsewhere.into_iter().any(|other| common.overlaps(other)) => {
            BTreeSet::from([common])
        }
        _ => wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_subjects_become_what_they_have_in_common_if_that_brings_nothing_foreign() {
        let numbered = |n: usize, pattern: &str| -> BTreeSet<Subject> {
            let subjects = (0..n).map(|number| pattern.replace('#', &number.to_string()));
            subjects.map(|subject| Subject::pattern(&subject).unwrap()).collect()
        };
        let keptn = "sh.keptn.event.task#.triggered";
        let at_limit = numbered(MAX_SUBJECTS, keptn);
        assert_eq!(few(at_limit.clone(), []), at_limit);

        let above = numbered(MAX_SUBJECTS + 1, keptn);
        let finished = numbered(1, "sh.keptn.event.build#.finished");
        let all = numbered(1, "sh.keptn.event.*.triggered");
        assert_eq!(few(above.clone(), &finished), all);
        let stored = numbered(1, "sh.keptn.event.build#.triggered");
        assert_eq!(
            few(above.clone(), &stored),
            above,
            "what a stream stores would come twice"
        );

        let foreign = numbered(MAX_SUBJECTS + 1, "tenant#.task");
        assert_eq!(few(foreign.clone(), []), foreign, "not the subjects of all tenants");
    }
}
