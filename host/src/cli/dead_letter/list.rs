//! `distributor dead-letter list`.

use std::collections::VecDeque;
use std::io::{self, Write};

use super::table::Table;
use super::{CommandError, ListArguments, open, say_nothing_found};
use crate::config::Config;
use crate::dead_letter::{Entry, Tally};

pub(super) async fn run(arguments: &ListArguments, config: &Config) -> Result<bool, CommandError> {
    let Some(archive) = open(config).await? else {
        return Ok(true);
    };
    let selection = arguments.filters.selection(config);
    let mut scan = archive.scan(&selection);
    let mut output = Output::new(arguments.json);
    let mut tally = Tally::default();
    // The newest ones are only known at the end; without a limit nothing is kept.
    let mut newest = VecDeque::new();
    let mut left_out = 0_u64;
    while let Some(entry) = scan.next().await? {
        tally.add(&entry);
        let Some(limit) = arguments.limit else {
            output.print(&entry)?;
            continue;
        };
        newest.push_back(entry);
        if newest.len() as u64 > limit {
            newest.pop_front();
            left_out += 1;
        }
    }
    for entry in &newest {
        output.print(entry)?;
    }
    output.out.flush()?;
    if tally.total() == 0 {
        say_nothing_found(&archive, &arguments.filters, config);
    } else if left_out > 0 {
        eprintln!("{tally}; the {} newest are listed", newest.len());
    } else {
        eprintln!("{tally}");
    }
    Ok(true)
}

/// Prints entries one by one, for people or for programs.
pub(super) struct Output {
    pub(super) out: io::BufWriter<io::StdoutLock<'static>>,
    table: Option<Table>,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        Self {
            out: io::BufWriter::new(io::stdout().lock()),
            table: (!json).then(Table::new),
        }
    }

    pub(super) fn print(&mut self, entry: &Entry) -> io::Result<()> {
        match &mut self.table {
            Some(table) => table.print(&mut self.out, entry),
            None => writeln!(self.out, "{}", entry.to_json()),
        }
    }
}
