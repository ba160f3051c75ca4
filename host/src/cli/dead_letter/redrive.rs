//! `distributor dead-letter redrive`.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::list::Output;
use super::{CommandError, RedriveArguments, needs_selection, open, say_nothing_found};
use crate::config::Config;
use crate::dead_letter::redrive::{Options, Progress, Redrive, Summary};
use crate::dead_letter::{Archive, Selection, Tally};
use crate::plugins::{Chain, Compiler, Host, Plugins, build_chain, last_good_chain};

const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// After this many lines only every tenth is printed: a redrive may take hours.
const FREQUENT_LINES: u32 = 10;
/// Failures that are printed; `--json` has more.
const SHOWN_FAILURES: usize = 20;

pub(super) async fn run(
    arguments: &RedriveArguments,
    config: &Config,
    compiler: Compiler,
) -> Result<bool, CommandError> {
    needs_selection(&arguments.filters, arguments.all, config)?;
    let Some(archive) = open(config).await? else {
        print_summary(&nothing(0), arguments)?;
        return Ok(true);
    };
    let selection = arguments.filters.selection(config);
    let tally = count(&archive, &selection, arguments).await?;
    let recipient = &config.delivery.recipient;
    if tally.total() == 0 {
        say_nothing_found(&archive, &arguments.filters, config);
        print_summary(&nothing(0), arguments)?;
        return Ok(true);
    }
    if arguments.dry_run {
        eprintln!("dry run, nothing was changed; to {recipient} would be delivered {tally}");
        if arguments.json {
            print_summary(&nothing(tally.total()), arguments)?;
        }
        return Ok(true);
    }
    let chain = chain(config, compiler).await?;
    eprintln!("redriving to {recipient}: {tally}");
    let stop = CancellationToken::new();
    let progress = Arc::new(Progress::default());
    let options = Options {
        concurrency: arguments.concurrency.map_or(config.delivery.concurrency, usize::from),
        retries: arguments.retries,
        rate: arguments.rate,
        patience: arguments.timeout,
    };
    let redrive = Redrive::new(
        archive,
        Arc::new(Plugins::new(chain)),
        &config.delivery,
        options,
        Arc::clone(&progress),
        stop.clone(),
    );
    let redriven = Arc::new(redrive).run(&selection, arguments.limit, tally.total());
    let summary = tokio::select! {
        summary = redriven => summary,
        never = report(&progress, tally.total(), stop) => match never {},
    };
    print_summary(&summary, arguments)?;
    Ok(summary.left == 0 && summary.error.is_none())
}

/// What would be redriven, and with `--dry-run` a list of it.
async fn count(archive: &Archive, selection: &Selection, arguments: &RedriveArguments) -> Result<Tally, CommandError> {
    let mut tally = Tally::default();
    let mut scan = archive.scan(selection);
    let mut output = Output::new(false);
    while arguments.limit.is_none_or(|limit| tally.total() < limit) {
        let Some(entry) = scan.next().await? else { break };
        tally.add(&entry);
        if arguments.dry_run && !arguments.json {
            output.print(&entry)?;
        }
    }
    output.out.flush()?;
    Ok(tally)
}

/// The plugins of the configuration: what runs in the sidecar, if that was started with the same. While those in the
/// directory are broken, that are the last ones that worked.
async fn chain(config: &Config, compiler: Compiler) -> Result<Chain, CommandError> {
    let host = Host::new(compiler.cached_in(config.plugins_cache_dir.as_deref()))
        .map_err(|error| CommandError::Plugins(format!("cannot set up WebAssembly: {error:#}")))?;
    let host = Arc::new(host);
    let error = match build_chain(&host, config, config.plugins_dir.as_deref(), 1, None).await {
        Ok(chain) => return Ok(chain),
        Err(error) => error,
    };
    let Some(chain) = last_good_chain(&host, config).await else {
        return Err(CommandError::Plugins(error.to_string()));
    };
    eprintln!("PLUGINS_DIR cannot be used; events go through the last plugins that worked: {error}");
    Ok(chain)
}

/// Says how far it is, and takes signals: the first one ends the redrive after the attempts under way.
async fn report(progress: &Progress, total: u64, stop: CancellationToken) -> std::convert::Infallible {
    let mut ticks = interval(PROGRESS_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut signals = [SignalKind::terminate(), SignalKind::interrupt()].map(|kind| signal(kind).ok());
    let [terminate, interrupt] = &mut signals;
    let mut number = 0_u32;
    loop {
        tokio::select! {
            () = received(terminate) => {}
            () = received(interrupt) => {}
            _ = ticks.tick() => {
                number += 1;
                if number <= FREQUENT_LINES || number.is_multiple_of(FREQUENT_LINES) {
                    let (done, failed) = (progress.done(), progress.failed.value());
                    eprintln!("{done} of {total} done, {failed} failed");
                }
                continue;
            }
        }
        if stop.is_cancelled() {
            std::process::exit(1);
        }
        eprintln!("stopping after the attempts under way");
        stop.cancel();
    }
}

async fn received(signal: &mut Option<tokio::signal::unix::Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

fn nothing(selected: u64) -> Summary {
    Summary {
        selected,
        delivered: 0,
        dropped: 0,
        gone: 0,
        left: selected,
        failures: Vec::new(),
        error: None,
    }
}

fn print_summary(summary: &Summary, arguments: &RedriveArguments) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    if arguments.json {
        let text = serde_json::to_string(summary).expect("a summary can always be written as JSON");
        writeln!(out, "{text}")?;
        return Ok(());
    }
    let Summary {
        selected,
        delivered,
        dropped,
        gone,
        left,
        ..
    } = summary;
    if *selected == 0 {
        return Ok(());
    }
    for failure in summary.failures.iter().take(SHOWN_FAILURES) {
        eprintln!(
            "dead letter {}, event {}: {}",
            failure.sequence, failure.event_id, failure.error
        );
    }
    if let Some(error) = &summary.error {
        eprintln!("error: {error}");
    }
    writeln!(
        out,
        "of {selected} dead letters {delivered} were delivered, {dropped} dropped by plugins and deleted, {gone} gone \
         before their turn, {left} are left"
    )?;
    Ok(())
}
