//! What a goal is: a figure of the table, and what it may be.
//!
//! The list is in `targets`; `judged` compares it with a run. It must not measure.

use crate::figures::Figure;
use crate::row::MeasuredRow;

/// One line of the list: met if all its checks are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) what: &'static str,
    /// What the original takes, as it was measured once; this is not done again.
    pub(crate) original: &'static str,
    pub(crate) checks: &'static [Check],
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Check {
    pub(crate) measure: Measure,
    pub(crate) limit: Limit,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

/// What is compared with the limit.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Measure {
    Of(Cell),
    /// The first as a multiple of the second.
    Ratio(Cell, Cell),
    /// How much more the second is, times a factor; and what that is.
    More {
        than: Cell,
        is: Cell,
        times: f64,
        what: &'static str,
    },
}

/// One figure of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    pub(crate) row: &'static str,
    pub(crate) column: Column,
    pub(crate) figure: Figure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    Relay,
    Core,
    JetStream,
}

impl Cell {
    pub(crate) const fn core(row: &'static str, figure: Figure) -> Self {
        let column = Column::Core;
        Self { row, column, figure }
    }

    pub(crate) const fn jetstream(row: &'static str, figure: Figure) -> Self {
        let column = Column::JetStream;
        Self { row, column, figure }
    }

    /// The same figure of another column.
    pub(crate) const fn of(self, column: Column) -> Self {
        Self { column, ..self }
    }

    pub(crate) const fn at_most(self, limit: f64) -> Check {
        Measure::Of(self).at_most(limit)
    }

    pub(crate) const fn at_least(self, limit: f64) -> Check {
        Check {
            measure: Measure::Of(self),
            limit: Limit::AtLeast(limit),
        }
    }

    /// At most so many times what the relay takes.
    pub(crate) const fn at_most_relay(self, times: f64) -> Check {
        Measure::Ratio(self, self.of(Column::Relay)).at_most(times)
    }

    pub(crate) fn value(self, rows: &[MeasuredRow]) -> Option<f64> {
        let row = rows.iter().find(|row| row.name == self.row)?;
        self.figure.combine(row.rounds(self.column))
    }
}

impl Column {
    /// What it is called in JSON.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Core => "core",
            Self::JetStream => "jetstream",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Core => "core",
            Self::JetStream => "JetStream",
        }
    }
}

impl Measure {
    pub(crate) const fn at_most(self, limit: f64) -> Check {
        Check {
            measure: self,
            limit: Limit::AtMost(limit),
        }
    }

    pub(crate) fn value(self, rows: &[MeasuredRow]) -> Option<f64> {
        match self {
            Self::Of(cell) => cell.value(rows),
            Self::Ratio(one, other) => Some(one.value(rows)? / other.value(rows)?),
            Self::More { than, is, times, .. } => Some((is.value(rows)? - than.value(rows)?) * times),
        }
    }

    /// The figure that it is about.
    pub(crate) fn cell(self) -> Cell {
        match self {
            Self::Of(cell) | Self::Ratio(cell, _) | Self::More { is: cell, .. } => cell,
        }
    }

    /// What is measured, in words.
    pub(crate) fn label(self) -> String {
        let column = |cell: Cell| cell.column.title();
        match self {
            Self::Of(cell) => format!("{}: {}", column(cell), cell.figure.label()),
            Self::Ratio(one, other) => format!("{}/{}: {}", column(one), column(other), one.figure.label()),
            Self::More { is, what, .. } => format!("{}: {what}", column(is)),
        }
    }
}

impl Limit {
    pub(crate) fn value(self) -> f64 {
        match self {
            Self::AtMost(limit) | Self::AtLeast(limit) => limit,
        }
    }

    pub(crate) fn sign(self) -> char {
        match self {
            Self::AtMost(_) => '≤',
            Self::AtLeast(_) => '≥',
        }
    }
}
