//! Dead letters as lines for people.

use std::io::{self, IsTerminal, Write};

use crate::dead_letter::{Entry, one_line, rfc3339};

/// Of the error at least this is shown, however narrow the terminal is.
const MIN_ERROR_CHARS: usize = 24;
const HEADINGS: [&str; 9] = [
    "SEQUENCE", "TIME", "REASON", "STATUS", "ATTEMPTS", "TYPE", "EVENT ID", "CONTEXT", "ERROR",
];
/// Chosen once and not by what comes, so that lines can be printed as they come; ids are UUIDs.
const WIDTHS: [usize; 8] = [8, 20, 17, 6, 8, 40, 36, 36];

/// Prints lines of equal columns.
#[derive(Debug)]
pub(super) struct Table {
    has_heading: bool,
    /// Characters in a line of the terminal; none where lines may have any length.
    width: Option<usize>,
}

impl Table {
    pub(super) fn new() -> Self {
        let stdout = io::stdout();
        let size = stdout.is_terminal().then(|| rustix::termios::tcgetwinsize(&stdout));
        let columns = size.and_then(Result::ok).map(|size| usize::from(size.ws_col));
        Self {
            has_heading: false,
            width: columns.filter(|&columns| columns > 0),
        }
    }

    /// Prints one, and before the first one the heading.
    pub(super) fn print(&mut self, out: &mut impl Write, entry: &Entry) -> io::Result<()> {
        if !std::mem::replace(&mut self.has_heading, true) {
            writeln!(out, "{}", self.line(&HEADINGS.map(str::to_owned)))?;
        }
        let letter = &entry.letter;
        let text = |text: &str| match one_line(text, 1024).as_str() {
            "" => "-".to_owned(),
            text => text.to_owned(),
        };
        // Milliseconds are in `show`.
        let time = rfc3339(entry.stored);
        let seconds = time.split('.').next().unwrap_or_default();
        let columns = [
            entry.sequence.to_string(),
            format!("{seconds}Z"),
            letter.reason.to_string(),
            letter
                .status
                .map_or_else(|| "-".to_owned(), |status| status.to_string()),
            letter.attempts.to_string(),
            text(&letter.event_type),
            text(&letter.event_id),
            text(&letter.keptn_context),
            text(&letter.error),
        ];
        writeln!(out, "{}", self.line(&columns))
    }

    fn line(&self, columns: &[String; 9]) -> String {
        use std::fmt::Write;

        let mut line = String::new();
        for (column, width) in columns.iter().zip(WIDTHS) {
            write!(line, "{column:<width$}  ").expect("writing to a String cannot fail");
        }
        let error = &columns[8];
        let room = self.width.map_or(usize::MAX, |width| {
            width.saturating_sub(line.chars().count()).max(MIN_ERROR_CHARS)
        });
        if error.chars().count() > room {
            line.extend(error.chars().take(room - 1));
            line.push('…');
        } else {
            line.push_str(error);
        }
        line
    }
}
