//! Shows what was measured: a table for people, JSON for programs.
//!
//! Called by `main`. It must not measure or judge.

use std::io::Write;

use serde_json::{Value, json};

use crate::Effort;
use crate::figures::{Figure, Round};
use crate::goals::Measure;
use crate::judged::{Judged, PACE_OF_GOALS, summary};
use crate::row::MeasuredRow;

/// One line of the table.
struct Compared {
    figure: Figure,
    relay: Option<f64>,
    core: Option<f64>,
    jetstream: Option<f64>,
}

impl Compared {
    /// That nothing was lost is always told; the other failures only where there were any.
    fn is_worth_a_line(&self) -> bool {
        let happened = [self.relay, self.core, self.jetstream]
            .into_iter()
            .flatten()
            .any(|value| value > 0.0);
        !self.figure.is_failure() || self.figure == Figure::Lost || happened
    }

    fn ratio(&self, of: Option<f64>, to: Option<f64>) -> Option<f64> {
        let (of, to) = (of?, to?);
        (!self.figure.is_failure() && to > 0.0).then_some(of / to)
    }

    fn core_to_relay(&self) -> Option<f64> {
        self.ratio(self.core, self.relay)
    }

    fn jetstream_to_relay(&self) -> Option<f64> {
        self.ratio(self.jetstream, self.relay)
    }

    fn jetstream_to_core(&self) -> Option<f64> {
        self.ratio(self.jetstream, self.core)
    }
}

/// Prints the table to standard output.
pub(crate) fn print(rows: &[MeasuredRow]) -> std::io::Result<()> {
    const TITLES: [&str; 6] = ["relay", "core", "JetStream", "core/relay", "JS/relay", "JS/core"];
    let mut out = std::io::stdout().lock();
    let line = |row: &str, figure: &str, [relay, core, jetstream, ratios @ ..]: [&str; 6]| {
        let [first, second, third] = ratios;
        format!("{row:<29}{figure:<33}{relay:>9}{core:>10}{jetstream:>11}{first:>12}{second:>10}{third:>9}")
    };
    writeln!(out, "{}", line("", "", TITLES))?;
    for row in rows {
        let mut name = row.name.as_str();
        for compared in compare(row).iter().filter(|compared| compared.is_worth_a_line()) {
            let decimals = compared.figure.decimals();
            let cells = [
                shown(compared.relay, decimals),
                shown(compared.core, decimals),
                shown(compared.jetstream, decimals),
                shown(compared.core_to_relay(), 2),
                shown(compared.jetstream_to_relay(), 2),
                shown(compared.jetstream_to_core(), 2),
            ];
            let cells = cells.each_ref().map(String::as_str);
            writeln!(out, "{}", line(name, compared.figure.label(), cells))?;
            name = "";
        }
    }
    Ok(())
}

/// Prints each goal that something was measured for, and what is to be said of all.
pub(crate) fn print_goals(judged: &[Judged]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let line = |[what, measure, original, reference, measured, limit, met]: [&str; 7]| {
        format!("{what:<44}{measure:<60}{original:>16}{reference:>11}{measured:>11}{limit:>12}  {met}")
    };
    let titles = ["goal", "figure", "original", "reference", "measured", "limit", "met"];
    writeln!(out, "\n{}", line(titles))?;
    let mut last = "";
    for goal in judged.iter().filter(|goal| goal.measured.is_some()) {
        let is_first = last != goal.target.what;
        last = goal.target.what;
        let (cell, limit) = (goal.check.measure.cell(), goal.check.limit);
        let decimals = match goal.check.measure {
            Measure::Of(_) => cell.figure.decimals(),
            Measure::Ratio(..) | Measure::More { .. } => 2,
        };
        let met = match goal.missed_by() {
            Some(factor) if factor > 1.0 => format!("NO, × {factor:.2}"),
            _ => "yes".to_owned(),
        };
        writeln!(
            out,
            "{}",
            line([
                if is_first { last } else { "" },
                &goal.check.measure.label(),
                if is_first { goal.target.original } else { "" },
                &shown(goal.reference, cell.figure.decimals()),
                &shown(goal.measured, decimals),
                &format!("{} {}", limit.sign(), shown_limit(limit.value())),
                &met,
            ])
        )?;
    }
    if let Some(seconds) = judged.iter().find_map(Judged::pace) {
        writeln!(
            out,
            "\nthe relay takes {seconds:.2} CPU s per 100,000 events of 1 KB here, and took {PACE_OF_GOALS} where the goals were set"
        )?;
    }
    writeln!(out, "\n{}", summary(judged))
}

fn shown_limit(limit: f64) -> String {
    let text = shown(Some(limit), 2);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// All figures, combined and of each round, and the goals.
pub(crate) fn to_json(rows: &[MeasuredRow], judged: &[Judged], effort: &Effort) -> Value {
    let cores = n_cores();
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| {
            let figures: Vec<Value> = compare(row)
                .iter()
                .map(|compared| {
                    json!({
                        "figure": compared.figure.label(),
                        "relay": compared.relay,
                        "core": compared.core,
                        "jetstream": compared.jetstream,
                        "core_to_relay": compared.core_to_relay(),
                        "jetstream_to_relay": compared.jetstream_to_relay(),
                        "jetstream_to_core": compared.jetstream_to_core(),
                    })
                })
                .collect();
            let rounds = |rounds: &[Round]| rounds.iter().map(round_to_json).collect::<Vec<_>>();
            json!({
                "row": row.name,
                "figures": figures,
                "relay_rounds": rounds(&row.relay),
                "core_rounds": rounds(&row.core),
                "jetstream_rounds": rounds(&row.jetstream),
            })
        })
        .collect();
    let goals: Vec<_> = judged.iter().map(Judged::to_json).collect();
    json!({ "cores": cores, "rounds": effort.rounds, "events": effort.events, "rows": rows, "goals": goals })
}

pub(crate) fn n_cores() -> usize {
    std::thread::available_parallelism().map_or(0, usize::from)
}

fn round_to_json(round: &Round) -> Value {
    round
        .iter()
        .map(|(figure, value)| (figure.label().to_owned(), json!(value)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// The figures of a row, in the order in which its rounds give them.
fn compare(row: &MeasuredRow) -> Vec<Compared> {
    let longest = [&row.relay, &row.core, &row.jetstream]
        .into_iter()
        .filter_map(|rounds| rounds.first())
        .max_by_key(|round| round.len());
    let figures = longest.into_iter().flatten().map(|(figure, _)| *figure);
    figures
        .map(|figure| Compared {
            figure,
            relay: figure.combine(&row.relay),
            core: figure.combine(&row.core),
            jetstream: figure.combine(&row.jetstream),
        })
        .collect()
}

/// A number with its thousands set apart, or a dash.
pub(crate) fn shown(value: Option<f64>, decimals: usize) -> String {
    let Some(value) = value else { return "–".to_owned() };
    let text = format!("{value:.decimals$}");
    let (whole, fraction) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let cases = [
            (0.0, 0, "0"),
            (999.0, 0, "999"),
            (1_000.0, 0, "1,000"),
            (1_234_567.25, 1, "1,234,567.2"),
        ];
        for (value, decimals, text) in cases {
            assert_eq!(shown(Some(value), decimals), text);
        }
        assert_eq!(shown(None, 0), "–");
    }
}
