//! `distributor dead-letter purge`.

use std::io::{self, BufRead, IsTerminal, Write};

use super::list::Output;
use super::{CommandError, PurgeArguments, needs_selection, open, say_nothing_found};
use crate::config::Config;
use crate::dead_letter::{Archive, Selection, Tally};

pub(super) async fn run(arguments: &PurgeArguments, config: &Config) -> Result<bool, CommandError> {
    needs_selection(&arguments.filters, arguments.all, config)?;
    let can_ask = io::stdin().is_terminal();
    if !(arguments.yes || arguments.dry_run || can_ask) {
        let problem = "nobody can be asked here: --yes confirms, --dry-run shows what would be deleted";
        return Err(CommandError::Usage(problem.to_owned()));
    }
    let Some(archive) = open(config).await? else {
        return Ok(true);
    };
    let selection = arguments.filters.selection(config);
    let tally = count(&archive, &selection, arguments).await?;
    if tally.total() == 0 {
        say_nothing_found(&archive, &arguments.filters, config);
        return Ok(true);
    }
    if arguments.dry_run {
        eprintln!("dry run: {tally} would be deleted; nothing was changed");
        return Ok(true);
    }
    if !arguments.yes && !is_confirmed(&format!("delete {tally}? [y/N] "))? {
        eprintln!("nothing was deleted");
        return Ok(false);
    }
    let mut deleted = 0_u64;
    let mut looked_at = 0_u64;
    let mut scan = archive.scan(&selection);
    while looked_at < tally.total() {
        let Some(entry) = scan.next().await? else { break };
        looked_at += 1;
        deleted += u64::from(archive.delete(entry.sequence).await?);
    }
    eprintln!("deleted {deleted} of {tally}");
    Ok(true)
}

/// What would be deleted, and with `--dry-run` a list of it.
async fn count(archive: &Archive, selection: &Selection, arguments: &PurgeArguments) -> Result<Tally, CommandError> {
    let mut tally = Tally::default();
    let mut scan = archive.scan(selection);
    let mut output = Output::new(false);
    while arguments.limit.is_none_or(|limit| tally.total() < limit) {
        let Some(entry) = scan.next().await? else { break };
        tally.add(&entry);
        if arguments.dry_run {
            output.print(&entry)?;
        }
    }
    output.out.flush()?;
    Ok(tally)
}

fn is_confirmed(question: &str) -> io::Result<bool> {
    let mut stderr = io::stderr();
    write!(stderr, "{question}")?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
