//! Decides whether project, stage and service of an event are wanted.
//!
//! Called by the component's `evaluate` hook, and natively by tests and benchmarks. It knows nothing of WIT, of
//! components, or of where the lists come from.
//!
//! The rules are those of the Keptn distributor, oddities included, because running integrations rely on them:
//! it joins a list with commas and splits the text again, and takes an empty text for "no filter".

/// What a longer value is cut to in a reason, and a longer list likewise: reasons go into logs, events may be large.
pub const MAX_QUOTED_BYTES: usize = 200;

/// The accepted values of the three fields. Any values are valid.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lists {
    /// Accepted values of `data.project`; see [`decide`] for what a list means.
    pub projects: Vec<String>,
    /// Accepted values of `data.stage`.
    pub stages: Vec<String>,
    /// Accepted values of `data.service`.
    pub services: Vec<String>,
}

impl Lists {
    /// Lists that accept every event, also one whose data cannot be decoded.
    pub const ACCEPT_ALL: Self = Self {
        projects: Vec::new(),
        stages: Vec::new(),
        services: Vec::new(),
    };
}

/// The fields of an event that are looked at. `None`: it cannot be decoded; empty text: it is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fields<'event> {
    /// `data.project`
    pub project: Option<&'event str>,
    /// `data.stage`
    pub stage: Option<&'event str>,
    /// `data.service`
    pub service: Option<&'event str>,
}

/// What happens to the event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It goes on.
    Pass,
    /// It is not wanted; the text says which field refused it.
    Drop(String),
}

/// Passes an event that all three lists accept.
///
/// A list without items, or with one empty item, accepts everything. Another list accepts a value that is exactly one
/// of its items, where an item with commas stands for several: `["a,b"]` is `["a", "b"]`, and `["a", ""]` accepts a
/// missing field too. Nothing is trimmed here.
///
/// Allocates only to give a reason: passing is the path of every wanted event.
#[must_use]
pub fn decide(lists: &Lists, fields: Fields<'_>) -> Decision {
    let checks = [
        ("project", lists.projects.as_slice(), fields.project),
        ("stage", lists.stages.as_slice(), fields.stage),
        ("service", lists.services.as_slice(), fields.service),
    ];
    for (field, list, value) in checks {
        if accepts_everything(list) {
            continue;
        }
        let Some(value) = value else {
            return Decision::Drop("data cannot be decoded".to_owned());
        };
        if !items(list).any(|item| item == value) {
            return Decision::Drop(refusal(field, value, list));
        }
    }
    Decision::Pass
}

/// Only these two lists join to an empty text: two items already put a comma between them.
fn accepts_everything(list: &[String]) -> bool {
    match list {
        [] => true,
        [item] => item.is_empty(),
        _ => false,
    }
}

/// The items that joining with commas and splitting again would give, without building the joined text.
fn items(list: &[String]) -> impl Iterator<Item = &str> {
    list.iter().flat_map(|item| item.split(','))
}

fn refusal(field: &str, value: &str, list: &[String]) -> String {
    let mut reason = String::with_capacity(128); // most fit; growing would copy
    reason.push_str(field);
    reason.push_str(" \"");
    push_shortened(&mut reason, [value]);
    reason.push_str("\" is not one of ");
    push_shortened(&mut reason, list.iter().flat_map(|item| [",", item]).skip(1));
    reason
}

fn push_shortened<'a>(reason: &mut String, pieces: impl IntoIterator<Item = &'a str>) {
    let mut room_bytes = MAX_QUOTED_BYTES;
    for piece in pieces {
        let cut = piece.floor_char_boundary(room_bytes);
        // Not `[..cut]`: the message for a wrong boundary would make the component a tenth larger.
        reason.push_str(piece.get(..cut).unwrap_or_default());
        if cut < piece.len() {
            reason.push('…');
            return;
        }
        room_bytes -= cut;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: &[&str] = &[];

    fn lists(projects: &[&str], stages: &[&str], services: &[&str]) -> Lists {
        let owned = |items: &[&str]| items.iter().map(|&item| item.to_owned()).collect();
        Lists {
            projects: owned(projects),
            stages: owned(stages),
            services: owned(services),
        }
    }

    /// Checks one list against one value, in the place of each of the three fields; the other two lists accept all.
    #[track_caller]
    fn check(list: &[&str], value: Option<&str>, passes: bool) {
        let undecodable = Fields {
            project: None,
            stage: None,
            service: None,
        };
        let places = [
            (
                lists(list, NONE, NONE),
                Fields {
                    project: value,
                    ..undecodable
                },
            ),
            (
                lists(NONE, list, NONE),
                Fields {
                    stage: value,
                    ..undecodable
                },
            ),
            (
                lists(NONE, NONE, list),
                Fields {
                    service: value,
                    ..undecodable
                },
            ),
        ];
        for (lists, fields) in places {
            let decision = decide(&lists, fields);
            assert_eq!(decision == Decision::Pass, passes, "{lists:?} {fields:?}: {decision:?}");
        }
    }

    /// Checks the lists p1 / dev,prod / carts against the fields of one event.
    #[track_caller]
    fn check_combined(project: &str, stage: &str, service: &str, passes: bool) {
        let decision = decide(
            &lists(&["p1"], &["dev", "prod"], &["carts"]),
            Fields {
                project: Some(project),
                stage: Some(stage),
                service: Some(service),
            },
        );
        assert_eq!(decision == Decision::Pass, passes, "{decision:?}");
    }

    #[track_caller]
    fn check_reason(lists: &Lists, fields: [Option<&str>; 3], expected: &str) {
        let [project, stage, service] = fields;
        let fields = Fields {
            project,
            stage,
            service,
        };
        assert_eq!(decide(lists, fields), Decision::Drop(expected.to_owned()));
    }

    #[test]
    fn list_without_items_accepts_everything() {
        check(&[], Some("p1"), true);
        check(&[], Some(""), true);
    }

    #[test]
    fn single_item_accepts_only_itself() {
        check(&["p1"], Some("p1"), true);
        check(&["p1"], Some("p2"), false);
    }

    #[test]
    fn list_accepts_each_of_its_items() {
        check(&["p1", "p2"], Some("p1"), true);
        check(&["p1", "p2"], Some("p2"), true);
        check(&["p1", "p2"], Some("p3"), false);
        check(&["p1", "p2"], Some("p1,p2"), false);
    }

    #[test]
    fn comparison_is_exact() {
        check(&["p1"], Some("P1"), false);
        check(&["p1"], Some("p1 "), false);
        check(&["p1"], Some("p"), false);
        check(&["p*"], Some("p1"), false);
    }

    #[test]
    fn space_belongs_to_the_item() {
        check(&["p1, p2"], Some("p2"), false);
        check(&["p1, p2"], Some(" p2"), true);
    }

    #[test]
    fn item_with_comma_stands_for_several() {
        check(&["p1,p2", "p3"], Some("p2"), true);
        check(&["p1,p2", "p3"], Some("p3"), true);
        check(&["p1,p2"], Some("p1,p2"), false);
    }

    #[test]
    fn single_empty_item_accepts_everything() {
        check(&[""], Some("p1"), true);
        check(&[""], Some(""), true);
    }

    #[test]
    fn empty_item_beside_another_accepts_a_missing_field() {
        for list in [&["a", ""][..], &["a,"], &["", "a"]] {
            check(list, Some(""), true);
            check(list, Some("a"), true);
            check(list, Some("b"), false);
        }
    }

    #[test]
    fn two_empty_items_accept_only_a_missing_field() {
        for list in [&["", ""][..], &[","]] {
            check(list, Some(""), true);
            check(list, Some("a"), false);
        }
    }

    #[test]
    fn missing_field_is_refused_by_a_list_that_does_not_name_it() {
        check(&["p1", "p2"], Some(""), false);
    }

    #[test]
    fn undecodable_field_passes_only_where_everything_does() {
        check(&[], None, true);
        check(&[""], None, true);
        check(&["p1"], None, false);
        check(&["p1", ""], None, false);
    }

    #[test]
    fn all_three_lists_must_accept() {
        check_combined("p1", "dev", "carts", true);
        check_combined("p1", "prod", "carts", true);
        check_combined("p2", "dev", "carts", false);
        check_combined("p1", "test", "carts", false);
        check_combined("p1", "dev", "orders", false);
    }

    #[test]
    fn accept_all_passes_an_undecodable_event() {
        let fields = Fields {
            project: None,
            stage: None,
            service: None,
        };
        assert_eq!(decide(&Lists::ACCEPT_ALL, fields), Decision::Pass);
    }

    #[test]
    fn reason_names_the_first_field_that_refuses() {
        let lists = lists(&["p1", "p2"], &["dev"], NONE);
        check_reason(
            &lists,
            [Some("p3"), Some("prod"), None],
            "project \"p3\" is not one of p1,p2",
        );
        check_reason(&lists, [Some("p1"), Some(""), None], "stage \"\" is not one of dev");
        check_reason(&lists, [Some("p1"), None, None], "data cannot be decoded");
    }

    #[test]
    fn reason_shortens_long_values_and_lists() {
        let lists = lists(&["a".repeat(150).as_str(), "b".repeat(150).as_str()], NONE, NONE);
        let value = "v".repeat(MAX_QUOTED_BYTES + 1);
        check_reason(
            &lists,
            [Some(value.as_str()), None, None],
            &format!(
                "project \"{}…\" is not one of {},{}…",
                "v".repeat(MAX_QUOTED_BYTES),
                "a".repeat(150),
                "b".repeat(MAX_QUOTED_BYTES - 151),
            ),
        );
    }

    #[test]
    fn reason_is_not_cut_inside_a_character() {
        let value = format!("v{}", "é".repeat(MAX_QUOTED_BYTES));
        check_reason(
            &lists(&["p1"], NONE, NONE),
            [Some(value.as_str()), None, None],
            &format!(
                "project \"v{}…\" is not one of p1",
                "é".repeat(MAX_QUOTED_BYTES / 2 - 1)
            ),
        );
    }

    #[test]
    fn reason_shows_a_list_of_the_greatest_length_whole() {
        let item = "b".repeat(MAX_QUOTED_BYTES);
        check_reason(
            &lists(&[&item], NONE, NONE),
            [Some("a"), None, None],
            &format!("project \"a\" is not one of {item}"),
        );
    }
}
