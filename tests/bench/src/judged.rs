//! Compares what was measured with the goals.
//!
//! Called by `main`; `report` prints it. It must not measure.

use serde_json::{Value, json};

use crate::figures::Figure;
use crate::goals::{Check, Column, Limit, Measure, Target};
use crate::row::MeasuredRow;

/// A check, and what came of it.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) target: &'static Target,
    pub(crate) check: Check,
    /// `None`: not measured in this run.
    pub(crate) measured: Option<f64>,
    /// In the relay's place, for the same row and figure.
    pub(crate) reference: Option<f64>,
}

/// What is to be said of all together: at most so many may be missed, by so much.
const MAX_MISSED: usize = 2;
const MAX_MISSED_BY: f64 = 1.3;

/// What the relay took on the machine where the goals were set, as [`Judged::pace`].
pub(crate) const PACE_OF_GOALS: f64 = 1.4;

impl Judged {
    /// By what factor the limit is missed; 1 or less: it is met.
    pub(crate) fn missed_by(&self) -> Option<f64> {
        let measured = self.measured?;
        Some(match self.check.limit {
            Limit::AtMost(limit) if measured <= limit => 1.0,
            Limit::AtMost(limit) => measured / limit,
            Limit::AtLeast(limit) => limit / measured,
        })
    }

    /// How fast the machine is at this moment: what the relay takes of it for 100,000 events of 1 KB.
    pub(crate) fn pace(&self) -> Option<f64> {
        match self.check.measure {
            Measure::Ratio(cell, relay)
                if relay.column == Column::Relay && cell.figure == Figure::CpuSecondsPer100000 =>
            {
                self.reference
            }
            _ => None,
        }
    }

    pub(crate) fn is_met(&self) -> Option<bool> {
        Some(self.missed_by()? <= 1.0)
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "target": self.target.what,
            "row": self.check.measure.cell().row,
            "measure": self.check.measure.label(),
            "original": self.target.original,
            "reference": self.reference,
            "measured": self.measured,
            "limit": self.check.limit.value(),
            "is_maximum": matches!(self.check.limit, Limit::AtMost(_)),
            "met": self.is_met(),
            "missed_by": self.missed_by().filter(|factor| *factor > 1.0),
        })
    }
}

/// All checks of the list, in its order.
pub(crate) fn judge(targets: &'static [Target], rows: &[MeasuredRow]) -> Vec<Judged> {
    let all = targets
        .iter()
        .flat_map(|target| target.checks.iter().map(move |check| (target, *check)));
    let judged = all.map(|(target, check)| Judged {
        target,
        check,
        measured: check.measure.value(rows),
        reference: check.measure.cell().of(Column::Relay).value(rows),
    });
    judged.collect()
}

/// The list as a whole, in one sentence.
pub(crate) fn summary(judged: &[Judged]) -> String {
    const MAX_NAMED: usize = 8;
    let (mut n_met, mut missed, mut open) = (0, Vec::new(), Vec::new());
    for of_target in judged.chunk_by(|one, next| std::ptr::eq(one.target, next.target)) {
        let what = of_target[0].target.what;
        let worst = of_target.iter().filter_map(Judged::missed_by).fold(1.0, f64::max);
        if worst > 1.0 {
            missed.push((what, worst));
        } else if of_target.iter().all(|judged| judged.measured.is_some()) {
            n_met += 1;
        } else {
            open.push(what);
        }
    }
    let is_allowed = open.is_empty() && missed.len() <= MAX_MISSED && missed.iter().all(|(_, by)| *by <= MAX_MISSED_BY);
    let missed: Vec<_> = missed.iter().map(|(what, by)| format!("{what} (× {by:.2})")).collect();
    let list = |title: &str, list: &[String]| match list.len() {
        0 => String::new(),
        1..=MAX_NAMED => format!("\n{title}: {}", list.join("; ")),
        n => format!("\n{title}: {n}"),
    };
    let open: Vec<_> = open.into_iter().map(str::to_owned).collect();
    format!(
        "{n_met} of {} goals met{}{}\n{} what may be missed: {MAX_MISSED} goals, each by × {MAX_MISSED_BY} at most",
        n_met + missed.len() + open.len(),
        list("missed", &missed),
        list("not measured", &open),
        if is_allowed { "within" } else { "NOT within" },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goals::Cell;
    use crate::rows::ROWS;
    use crate::targets::TARGETS;
    use std::collections::HashSet;

    #[test]
    fn each_goal_is_about_rows_that_there_are() {
        let names: HashSet<_> = ROWS.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), ROWS.len(), "no two rows have the same name");
        for check in TARGETS.iter().flat_map(|target| target.checks) {
            let cells = match check.measure {
                Measure::Of(cell) => [cell, cell],
                Measure::Ratio(one, other)
                | Measure::More {
                    than: one, is: other, ..
                } => [one, other],
            };
            for cell in cells {
                assert!(names.contains(cell.row), "there is no row {}", cell.row);
            }
        }
    }

    #[test]
    fn a_goal_is_met_when_all_its_checks_are() {
        const FIGURE: Figure = Figure::EventsPerSecond;
        static LIST: &[Target] = &[Target {
            what: "fast",
            original: "1",
            checks: &[
                Cell::core("a", FIGURE).at_least(100.0),
                Cell::core("a", FIGURE).at_most_relay(0.5),
            ],
        }];
        let rows = |core: f64| {
            [MeasuredRow {
                name: "a".to_owned(),
                relay: vec![vec![(FIGURE, 250.0)]],
                core: vec![vec![(FIGURE, core)]],
                jetstream: Vec::new(),
            }]
        };
        let cases = [
            (120.0, "1 of 1 goals met\nwithin"),
            (80.0, "0 of 1 goals met\nmissed: fast (× 1.25)\nwithin"),
            (50.0, "0 of 1 goals met\nmissed: fast (× 2.00)\nNOT within"),
            (150.0, "0 of 1 goals met\nmissed: fast (× 1.20)\nwithin"),
        ];
        for (core, text) in cases {
            let summary = summary(&judge(LIST, &rows(core)));
            assert!(summary.starts_with(text), "{core}: {summary}");
        }
        let nothing = summary(&judge(LIST, &[]));
        assert!(nothing.contains("not measured: fast\nNOT within"), "{nothing}");
    }
}
