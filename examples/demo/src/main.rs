//! Shows events on their way: from NATS, or from a control plane elsewhere, through the distributor to a service, and back.
//!
//! Called by `make demo`. The distributor is the program that users run, as a process of its own; this program only
//! plays its neighbours, and tells what it sees. It must not link the distributor.

mod events;
mod log;
mod outage;
mod path;
mod poison;
mod processes;
mod remote;
mod service;
mod show;
mod swap;
mod tally;
mod watch;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Parser;
use test_support::DistributorProcess;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior};

use crate::log::Log;
use crate::path::{FOREVER, LIMIT, Path};
use crate::processes::{PROJECT, Processes, TOPIC};
use crate::service::Service;
use crate::show::Show;
use crate::tally::{Counters, Leftovers};
use crate::watch::Watch;

/// Between two events of the live part: long enough to read what became of one.
const LIVE_PAUSE: Duration = Duration::from_secs(4);
/// Ended by Ctrl-C before the demo was over, as shells count it.
const EXIT_INTERRUPTED: u8 = 130;

/// Shows events on their way through the distributor.
///
/// Starts a nats-server, a small service and the distributor, publishes a run of Keptn events, and shows of each what
/// came in, whether it was filtered and why, how it was delivered, and what the service sent back. A filter is replaced
/// while events flow, a broken one is refused, and the one before comes back. Then the service is down for a while, and
/// then it cannot take some events, which end in the dead letters until it is fixed. With --remote there is no NATS: a
/// control plane runs a sequence of tasks, which the distributor asks for over HTTP. Nothing is made up: every line was
/// seen on NATS, in the journal of a peer or in the distributor's log, and in the end the numbers of all of them have to
/// agree.
#[derive(Debug, Parser)]
#[command(after_long_help = HELP)]
struct Arguments {
    /// Ends after the summary, instead of going on with an event every few seconds until Ctrl-C
    #[arg(long)]
    once: bool,

    /// Shows the distributor outside of the cluster instead: it asks a control plane for tasks over HTTP
    #[arg(long)]
    remote: bool,

    /// The distributor to show; without it, the one beside this program
    #[arg(long, value_name = "PATH")]
    distributor: Option<PathBuf>,
}

const HELP: &str = "\
How to read it:
  came in    the bold line: NATS subject, project / stage / service, start of the shkeptncontext
  filtered   a plugin dropped the event; what follows is the plugin's own reason
  refused    the message is not a CloudEvent; it is kept as a dead letter
  not heard  PUBSUB_TOPIC does not match its type, so NATS did not give it to the distributor
  not taken  the service did not answer with 2xx; the distributor tries again after a pause
  given up   no attempt is left, or none can help; the event is kept as a dead letter
  delivered  the service has it; the time counts from when the event was published
  came back  an event of the service: sent to POST /event of the distributor, then seen on NATS

Exit code: 0 when everything adds up, 1 when not (with an explanation), 130 after Ctrl-C before
the summary. NO_COLOR=1 switches colours off. NATS_SERVER names another nats-server.";

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(code) => code,
        // Whoever read the output has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let distributor = match arguments.distributor {
        Some(path) => path,
        None => std::env::current_exe()?.with_file_name("distributor"),
    };
    if arguments.remote {
        return remote::run(&distributor, arguments.once, &mut signals).await;
    }
    let started = tokio::select! {
        started = start(&distributor) => started?,
        _ = signals.next() => return Ok(ExitCode::from(EXIT_INTERRUPTED)),
    };
    let (mut processes, mut path) = started;
    let output = processes.distributor.output().clone();

    // Signals first: a terminal's Ctrl-C ends the distributor too.
    let told = tokio::select! {
        biased;
        by_terminal = signals.next() => {
            path.show.gap()?; // behind the `^C` of the terminal
            end(&mut processes, by_terminal).await?;
            return Ok(ExitCode::from(EXIT_INTERRUPTED));
        }
        ended = processes::ended(&output) => Err(ended),
        told = tell(&mut processes, &mut path) => told,
    };
    told.map_err(|error| with_log(error, &processes.distributor))?;

    if arguments.once {
        let counters = end(&mut processes, false).await?;
        return summarize(&mut path, Some(&counters));
    }
    let code = summarize(&mut path, None)?;
    if code != ExitCode::SUCCESS {
        return Ok(code);
    }
    invite(&processes, &mut path.show)?;
    let by_terminal = tokio::select! {
        biased;
        by_terminal = signals.next() => by_terminal,
        ended = processes::ended(&output) => return Err(with_log(ended, &processes.distributor)),
        failed = go_on(&mut path) => return failed.map_err(|error| with_log(error, &processes.distributor)),
    };
    path.show.text("\nending the distributor and nats-server")?;
    let counters = end(&mut processes, by_terminal).await?;
    let count = |name| counters.get(name).unwrap_or_default();
    path.show.text(&format!(
        "the distributor stopped; it had received {} events, dropped {}, delivered {}, sent {} of the service",
        count("received"),
        count("dropped"),
        count("delivered"),
        count("forwarded")
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Starts everything that takes part.
async fn start(distributor: &std::path::Path) -> anyhow::Result<(Processes, Path)> {
    let mut service = Service::start().await?;
    let processes = Processes::start(distributor, service.port()).await?;
    service.work_for(processes.distributor.proxy_address());
    let client = processes.nats.client().await?;
    let watch = Watch::start(&client).await?;
    let log = Log::new(processes.distributor.output().clone());
    let path = Path::new(client, watch, service, log, Show::new());
    Ok((processes, path))
}

/// The story: who takes part, and one event after the other.
async fn tell(processes: &mut Processes, path: &mut Path) -> anyhow::Result<()> {
    let distributor = processes.distributor.proxy_address();
    let nats_pid = processes.nats_pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string());
    path.show.text(&format!(
        "\
Events go from NATS through a filter, a WebAssembly component in the distributor, to a service, and
its answers go back. All lines below were seen on NATS, by the service, or in the distributor's log.

  nats-server  pid {nats_pid:<8} {}, with JetStream; watched on {}
                            stream keptn stores {}, for durable consumer
                            {}
  distributor  pid {:<8} http://{distributor}/event, PUBSUB_TOPIC={TOPIC}
                            PROJECT_FILTER={PROJECT}, plugin {}
  service      pid {:<8} http://127.0.0.1:{}/, in this process; sometimes busy (503)
",
        processes.nats.url(),
        watch::SUBJECTS,
        watch::SUBJECTS,
        processes.durable,
        processes.distributor_pid,
        processes.plugin().await?,
        std::process::id(),
        path.service.port(),
    ))?;

    let id = path.service.report_problem(distributor).await?;
    let report = path
        .watch
        .take(LIMIT, "the service's report", |message| message.id() == Some(&id))
        .await?;
    path.tally.reports += 1;
    path.show.text(&format!(
        "The service sends a report that nobody asked for; on NATS it is seen as {}.\n",
        report.subject
    ))?;

    for publication in events::run()? {
        path.publish(publication).await?;
        let message = path.next(LIMIT).await?;
        path.follow(message).await?;
    }
    path.swap(processes).await.context("the filter that was replaced")?;
    path.outage(processes).await.context("the service that was down")?;
    path.poison(processes)
        .await
        .context("the events that the service could not take")
}

/// Says what became of it all.
fn summarize(path: &mut Path, counters: Option<&Counters>) -> anyhow::Result<ExitCode> {
    let n_sent = path.service.n_sent();
    let left = Leftovers {
        messages: path.watch.n_left(),
        log_lines: path.log.n_left(),
        requests: path.service.n_attempts_left(),
    };
    let mut problems = path.tally.problems(n_sent, &left, counters);
    problems.extend(path.service.not_sent());
    path.show.summary(&path.tally, n_sent, counters)?;
    if problems.is_empty() {
        path.show.adds_up(&path.tally)?;
        Ok(ExitCode::SUCCESS)
    } else {
        path.show.does_not_add_up(&problems)?;
        Ok(ExitCode::FAILURE)
    }
}

/// How to take part.
fn invite(processes: &Processes, show: &mut Show) -> io::Result<()> {
    let distributor = processes.distributor.proxy_address();
    show.gap()?;
    show.headline("Live: an event every few seconds, until Ctrl-C")?;
    show.text(&format!(
        r#"Your own are shown too. This one takes the way of the service's events to NATS, and comes in again:

curl http://{distributor}/event -H 'content-type: application/cloudevents+json' -d '{{
  "specversion":"1.0", "id":"mine-'$(date +%s%N)'", "source":"me", "shkeptncontext":"mine",
  "type":"sh.keptn.event.test.triggered",
  "data":{{ "project":"{PROJECT}", "stage":"dev", "service":"carts" }}}}'

Any NATS client does as well: {} on sh.keptn.event.<task>.triggered"#,
        processes.nats.url()
    ))?;
    show.gap()
}

/// Publishes further runs, an event at a time, and follows whatever comes in. Only an error ends it.
async fn go_on(path: &mut Path) -> anyhow::Result<ExitCode> {
    let mut publications = Vec::new().into_iter();
    let mut ticks = tokio::time::interval_at(Instant::now() + LIVE_PAUSE, LIVE_PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                if publications.len() == 0 {
                    publications = events::run()?.into_iter();
                }
                if let Some(publication) = publications.next() {
                    path.publish(publication).await?;
                }
            }
            message = path.next(FOREVER) => {
                let followed = path.follow(message?).await;
                match followed {
                    // Anybody can publish anything here: what cannot be followed does not end the show.
                    Err(error) if !is_broken_pipe(&error) => path.show.unclear(&format!("{error:#}"))?,
                    followed => followed?,
                }
            }
        }
    }
}

async fn end(processes: &mut Processes, by_terminal: bool) -> anyhow::Result<Counters> {
    let ended = processes.end(by_terminal).await;
    ended.map_err(|error| with_log(error, &processes.distributor))
}

fn with_log(error: anyhow::Error, distributor: &DistributorProcess) -> anyhow::Error {
    if is_broken_pipe(&error) {
        return error;
    }
    let tail = distributor.process().output_tail();
    anyhow!("{error:#}\nthe distributor's last lines:{tail}")
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

/// Ctrl-C and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for one; true for SIGINT, which a terminal gives to all processes in the foreground.
    async fn next(&mut self) -> bool {
        tokio::select! {
            _ = self.interrupt.recv() => true,
            _ = self.terminate.recv() => false,
        }
    }
}
