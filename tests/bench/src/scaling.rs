//! How cost grows: the same row for more and more of something, and whether it grows faster than that.
//!
//! Called by `main` for `--scaling`. A curve is data: a new one is a line in [`CURVES`].

use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use crate::Effort;
use crate::events::Load;
use crate::figures::Figure;
use crate::goals::Column;
use crate::measured::{Filter, Mode};
use crate::report::{self, shown};
use crate::row::{Kind, MeasuredRow, Row};
use crate::rows::{PLAIN, SMALL, STORED, subscriptions};
use crate::stage::{Bench, number};

#[derive(Clone, Copy, Debug)]
struct Curve {
    /// What there is more and more of.
    of: &'static str,
    counts: &'static [usize],
    row: fn(usize) -> Row,
    costs: &'static [(Column, Figure)],
}

const CPU: (Column, Figure) = (Column::Core, Figure::CpuSecondsPer100000);
const RATE: (Column, Figure) = (Column::Core, Figure::EventsPerSecond);
const STORED_CPU: (Column, Figure) = (Column::JetStream, Figure::CpuSecondsPer100000);
const STORED_RATE: (Column, Figure) = (Column::JetStream, Figure::EventsPerSecond);

const CURVES: &[Curve] = &[
    Curve {
        of: "worker threads",
        counts: &[1, 2, 4],
        row: |n| Row {
            worker_threads: Some(n),
            relay_concurrency: None,
            ..PLAIN
        },
        costs: &[CPU, RATE, STORED_CPU, STORED_RATE],
    },
    Curve {
        of: "replicas on one durable",
        counts: &[1, 2, 4],
        row: |n| Row {
            kind: Kind::Stored { n_replicas: n },
            modes: &[Mode::JetStream],
            ..STORED
        },
        costs: &[STORED_CPU, STORED_RATE],
    },
    Curve {
        of: "subscriptions",
        counts: &[1, 10, 100, 1_000, 10_000],
        row: |n| subscriptions("subscriptions", n, n),
        costs: &[CPU, RATE, (Column::Core, Figure::MemoryMebibytes)],
    },
    Curve {
        of: "plugins",
        counts: &[1, 3, 10, 30, 100],
        row: |n| Row {
            filter: Filter::Chain(n),
            relay_concurrency: None,
            modes: &[Mode::Core],
            ..PLAIN
        },
        costs: &[CPU, RATE, (Column::Core, Figure::PeakMemoryMebibytes)],
    },
    Curve {
        of: "bytes of an event",
        counts: &[200, 1_000, 10_000, 100_000, 1_000_000],
        row: |n| Row {
            load: Load {
                size_bytes: n,
                // All of them are rendered beforehand.
                n_keys: if n > 50_000 { 50 } else { SMALL.n_keys },
                ..SMALL
            },
            relay_concurrency: None,
            ..PLAIN
        },
        // How fast a stream takes large events is for the server and its disk.
        costs: &[CPU, RATE, STORED_CPU],
    },
];

/// What a step may cost more than its share before it counts: runs differ by that much.
const TOLERANCE: f64 = 1.15;

/// One cost along a curve.
#[derive(Debug)]
pub(crate) struct Line {
    of: &'static str,
    column: Column,
    figure: Figure,
    /// Count and figure.
    points: Vec<(usize, f64)>,
}

/// Measures all curves whose name contains `only`.
pub(crate) async fn measure(
    bench: &Bench,
    distributor: Option<&Path>,
    only: &str,
    effort: &Effort,
) -> anyhow::Result<Vec<Line>> {
    let mut lines = Vec::new();
    for curve in CURVES.iter().filter(|curve| curve.of.contains(only)) {
        let mut points = Vec::new();
        for &count in curve.counts {
            let name = format!("{}: {}", curve.of, shown(Some(number(count)), 0));
            if let Some(row) = (curve.row)(count)
                .try_measure(&name, bench, distributor, effort)
                .await?
            {
                points.push((count, row));
            }
        }
        lines.extend(
            curve
                .costs
                .iter()
                .map(|&(column, figure)| Line::new(curve.of, column, figure, &points)),
        );
    }
    Ok(lines)
}

impl Line {
    fn new(of: &'static str, column: Column, figure: Figure, points: &[(usize, MeasuredRow)]) -> Self {
        let value = |(count, row): &(usize, MeasuredRow)| Some((*count, figure.combine(row.rounds(column))?));
        Self {
            of,
            column,
            figure,
            points: points.iter().filter_map(value).collect(),
        }
    }

    /// Of each step: by what factor there is more, and by what factor that costs more.
    fn steps(&self) -> impl Iterator<Item = (f64, f64)> {
        self.points.windows(2).map(|pair| {
            let [(count, cost), (next, next_cost)] = [pair[0], pair[1]];
            let factor = if self.figure.is_rate() {
                cost / next_cost
            } else {
                next_cost / cost
            };
            (number(next) / number(count), factor)
        })
    }

    fn is_at_most_linear(&self) -> bool {
        self.steps().all(|(more, costs)| costs <= more * TOLERANCE)
    }

    fn title(&self) -> String {
        format!("{}, {}: {}", self.of, self.column.title(), self.figure.label())
    }

    fn to_json(&self) -> Value {
        let steps: Vec<_> = self
            .steps()
            .map(|(more, costs)| json!({ "more": more, "costs": costs }))
            .collect();
        json!({
            "title": self.title(),
            "of": self.of,
            "column": self.column.key(),
            "figure": self.figure.label(),
            "points": self.points,
            "steps": steps,
            "at_most_linear": self.is_at_most_linear(),
        })
    }
}

/// All costs, for programs.
pub(crate) fn to_json(lines: &[Line], effort: &Effort) -> Value {
    let curves: Vec<_> = lines.iter().map(Line::to_json).collect();
    json!({ "cores": report::n_cores(), "rounds": effort.rounds, "events": effort.events, "curves": curves })
}

/// Prints each point with the factors of its step, and in the end what is to be said of all.
pub(crate) fn print(lines: &[Line]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for line in lines {
        writeln!(out, "{}", line.title())?;
        let steps = std::iter::once(None).chain(line.steps().map(Some));
        for ((count, value), step) in line.points.iter().zip(steps) {
            let (count, value) = (number(*count), shown(Some(*value), line.figure.decimals()));
            let step = step.map(|(more, costs)| format!("  × {more:.1} costs × {costs:.2}"));
            writeln!(
                out,
                "{:>12}{value:>14}{}",
                shown(Some(count), 0),
                step.unwrap_or_default()
            )?;
        }
    }
    writeln!(out, "{}", summary(lines))
}

fn summary(lines: &[Line]) -> String {
    let worse: Vec<_> = lines
        .iter()
        .filter(|line| !line.is_at_most_linear())
        .map(Line::title)
        .collect();
    if worse.is_empty() {
        format!("none of {} is worse than linear", lines.len())
    } else {
        format!("WORSE than linear: {}", worse.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worse_than_linear_is_found_for_costs_and_for_rates() {
        let summary = |figure, values: [f64; 2]| {
            let points = [1, 10].into_iter().zip(values).collect();
            let (of, column) = ("plugins", Column::Core);
            summary(&[Line {
                of,
                column,
                figure,
                points,
            }])
        };
        let good = "none of 1 is worse than linear";
        assert_eq!(summary(Figure::CpuSecondsPer100000, [1.0, 11.0]), good);
        assert_eq!(summary(Figure::EventsPerSecond, [1000.0, 91.0]), good);
        assert!(summary(Figure::CpuSecondsPer100000, [1.0, 12.0]).starts_with("WORSE"));
        assert!(summary(Figure::EventsPerSecond, [1000.0, 80.0]).starts_with("WORSE than linear: plugins, core"));
    }
}
