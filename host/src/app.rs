//! Builds all parts in the order in which data flows, and runs them until the end.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use async_nats::SubscribeError;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Admin};
use crate::answers::Answers;
use crate::config::{Config, TracesConfig};
use crate::connection::{Connection, Received};
use crate::control::{self, Switches};
use crate::dead_letter::Repairs;
use crate::delivery::Deliveries;
use crate::dispatch::Dispatcher;
use crate::error_log::{ErrorLog, Sending};
use crate::ingress::Ingress;
use crate::keptn_api::KeptnApi;
use crate::metrics::Counters;
use crate::observe::{self, Line};
use crate::plugins::{ChainError, Compiler, HealthReport, Host, Plugins, Reloader};
use crate::proxy::Proxy;
use crate::recent_events::RecentEvents;
use crate::registration::{Registration, RegistrationError};
use crate::server::{self, Routes};
use crate::source::Overview;
use crate::status::Observer;
use crate::subscription::Interest;
use crate::telemetry::LogLevel;
use crate::trace::{Exporter, Tracer};

/// Sockets that the caller has bound, so that tests can take free ports.
#[derive(Debug)]
pub struct Listeners {
    /// For the service next to the distributor.
    pub service: TcpListener,
    /// For probes and metrics.
    pub admin: Option<TcpListener>,
    /// For whoever operates the distributor.
    pub control: Option<TcpListener>,
}

/// What reaches the process from outside.
#[derive(Debug, Clone, Default)]
pub struct Signals {
    /// Ends it.
    pub shutdown: CancellationToken,
    /// Makes it read again what may have changed.
    pub hangups: Arc<Notify>,
    /// What is logged.
    pub log_level: LogLevel,
}

/// Why the distributor could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// WebAssembly cannot be run on this machine.
    #[error("cannot set up WebAssembly: {0}")]
    Engine(wasmtime::Error),
    /// The plugins.
    #[error("{0}")]
    Chain(#[from] ChainError),
    /// NATS, or the Keptn API.
    #[error("{0}")]
    Connection(String),
    /// The API proxy.
    #[error("cannot use KEPTN_API_ENDPOINT: {0}")]
    Proxy(http::uri::InvalidUri),
    /// The control plane does not take the integration.
    #[error("{0}")]
    Registration(#[from] RegistrationError),
}

/// Runs the distributor until it is told to end, and then until what it has is delivered or the drain time-out is over.
///
/// `interest` says what to listen for. An integration that is registered changes it, and so may the caller.
///
/// # Errors
/// Why it could not start, or not be registered. Nothing that happens later ends it.
#[expect(clippy::too_many_lines, reason = "a list of parts, in the order of the data")]
pub async fn run(
    config: Config,
    listeners: Listeners,
    interest: watch::Sender<Arc<Interest>>,
    compiler: Compiler,
    signals: Signals,
) -> Result<(), RunError> {
    let Signals {
        shutdown,
        hangups,
        log_level,
    } = signals;
    let started = SystemTime::now();
    let (stop_serving, mut operating) = (CancellationToken::new(), JoinSet::new());
    let admin = Arc::new(Admin::default());
    operating.spawn(admin::serve(listeners.admin, Arc::clone(&admin), stop_serving.clone()));
    let counters = Arc::new(Counters::default());
    let recent = Arc::new(RecentEvents::default());
    let answers = Arc::new(Answers::default());
    let host = Arc::new(Host::new(compiler.cached_in(config.plugins_cache_dir.as_deref())).map_err(RunError::Engine)?);
    let (reloader, plugin_control) = Reloader::start(host, config.clone()).await?;
    let plugins = reloader.plugins();

    let api = keptn_api(&config).await?;
    let connection = Connection::open(&config, &api, &counters)
        .await
        .map_err(RunError::Connection)?;

    let registration = registration(&config, &api, &interest);
    let end_of_errors = CancellationToken::new();
    let (error_log, sending) = error_log(registration.as_ref(), &counters, &api, &config, &end_of_errors).unzip();
    operating.spawn(reloader.reported_to(error_log.clone()).run(hangups, shutdown.clone()));

    let sink = connection.sink();
    let end_of_spans = CancellationToken::new();
    let exporting = config.traces.as_ref().map(|traces| exporting(traces, &end_of_spans));
    let (tracer, exporting) = exporting.transpose()?.unzip();

    // Control plane → service.
    let deliveries = Deliveries::new(
        &config.delivery,
        connection.dead_letters(&config).reported_to(error_log.clone()),
        sink.clone(),
        Arc::clone(&answers),
        Arc::clone(&counters),
        Arc::clone(&recent),
    );
    let deliveries = Arc::new(deliveries);
    let mut delivering = JoinSet::new();
    deliveries.run(&mut delivering);
    let overview = Arc::new(Overview::default());
    let dispatcher = Dispatcher {
        interest: interest.subscribe(),
        plugins: Arc::clone(&plugins),
        deliveries: Arc::clone(&deliveries),
        dedupe: Arc::default(),
        comes_twice: Arc::default(),
        counters: Arc::clone(&counters),
        recent: Arc::clone(&recent),
        overview: Arc::clone(&overview),
        tracer: tracer.clone(),
    };
    let receiving = connection.receive(&config, interest.subscribe(), Arc::new(dispatcher), shutdown.clone());

    // Service → control plane. It stays up until the end: the service may finish its work while we drain.
    let ingress = Arc::new(Ingress {
        plugins: Arc::clone(&plugins),
        sink,
        answers: Arc::clone(&answers),
        error_log: error_log.clone(),
        counters: Arc::clone(&counters),
        recent: Arc::clone(&recent),
        tracer,
    });
    let proxy = Proxy::new(&config.server, &config.api, api.access().clone()).map_err(RunError::Proxy)?;
    let routes = Arc::new(Routes::new(&config.server, ingress, proxy));
    let serving = tokio::spawn(server::serve(listeners.service, routes, stop_serving.clone()));
    let parts = Arc::new(observe::Observer {
        started,
        counters: Arc::clone(&counters),
        deliveries: Arc::clone(&deliveries),
        plugins: plugin_control.clone(),
        line: Line::of(&connection),
        overview,
        interest: interest.subscribe(),
        registration: registration.as_ref().map(Registration::state),
        error_log: error_log.clone(),
        access: api.access().clone(),
        shutdown: shutdown.clone(),
        has_received: AtomicBool::new(false),
    });
    admin.show(Arc::clone(&parts));
    let observer = Arc::new(Observer::new(parts, recent, Arc::clone(&plugins), &config));
    operating.spawn(Arc::clone(&observer).run());
    let switches = Switches {
        deliveries: Arc::clone(&deliveries),
        shutdown: shutdown.clone(),
        log_level,
    };
    let operators = control::router(plugin_control, Arc::clone(&observer), switches, &config.control);
    operating.spawn(control::serve(listeners.control, operators, stop_serving.clone()));

    let mut registered = Ok(());
    if let Some(registration) = registration {
        registered = registration.run(shutdown.clone()).await;
    } else {
        shutdown.cancelled().await;
    }
    // Without an integration that it was to have the distributor is of no use.
    shutdown.cancel();
    let drain_ends = Instant::now() + config.drain_timeout;
    tracing::info!(
        pending = deliveries.pending(),
        "shutting down: ending what is under way"
    );
    deliveries.end();
    let (unfinished, drained) = drain(receiving, &deliveries, observer.repairs(), drain_ends).await;
    stop_serving.cancel();
    let grace_ends = Instant::now() + SERVER_GRACE;
    let _ = tokio::time::timeout_at(grace_ends, serving).await;
    end_of_errors.cancel();
    end_error_log(error_log.as_deref(), sending, drain_ends.max(grace_ends)).await;
    end_of_spans.cancel();
    if let Some(exporting) = exporting {
        // It limits itself.
        let _ = exporting.await;
    }
    operating.shutdown().await;
    plugins.current().end_trials().await;
    summarize(&counters, &plugins, deliveries.pending(), unfinished);
    registered?;
    drained.map_err(|error| RunError::Connection(format!("cannot use NATS: {error}")))
}

/// Waits until everything is delivered or given back, or the time is over. How many events are then not settled that come
/// again, and why receiving failed.
async fn drain(
    receiving: JoinHandle<Result<Received, SubscribeError>>,
    deliveries: &Deliveries,
    repairs: &Repairs,
    ends: Instant,
) -> (usize, Result<(), SubscribeError>) {
    let mut received = None;
    let drained = tokio::time::timeout_at(ends, async {
        let ended = match receiving.await {
            Ok(Err(error)) => Err(error),
            ended => {
                received = ended.ok().and_then(Result::ok);
                Ok(())
            }
        };
        deliveries.drained().await;
        repairs.ended().await;
        ended
    });
    // What is left when the time is over is counted below.
    let drained = drained.await.unwrap_or(Ok(()));
    deliveries.close();
    let unfinished = match received {
        Some(received) => received.finish().await,
        None => 0,
    };
    (unfinished, drained)
}

/// Time that open requests of the service get after the last delivery.
const SERVER_GRACE: std::time::Duration = std::time::Duration::from_secs(1);

/// Waits until the last errors are sent, and says how many are not.
async fn end_error_log(error_log: Option<&ErrorLog>, sending: Option<JoinHandle<()>>, ends: Instant) {
    let (Some(error_log), Some(sending)) = (error_log, sending) else {
        return;
    };
    let _ = tokio::time::timeout_at(ends, sending).await;
    let n_queued = error_log.n_queued();
    if n_queued > 0 {
        tracing::warn!(n_queued, "errors were not copied to the control plane");
    }
}

/// Copies errors to the control plane until `end`, where there is an integration.
fn error_log(
    registration: Option<&Registration>,
    counters: &Arc<Counters>,
    api: &KeptnApi,
    config: &Config,
    end: &CancellationToken,
) -> Option<(Arc<ErrorLog>, JoinHandle<()>)> {
    let error_log = Arc::new(ErrorLog::new(registration?.id(), Arc::clone(counters)));
    let sending = Sending::new(Arc::clone(&error_log), api.clone(), config.api.timeout);
    Some((error_log, tokio::spawn(sending.run(end.clone()))))
}

/// What makes spans, and the task that sends them to the collector until `end`.
fn exporting(config: &TracesConfig, end: &CancellationToken) -> Result<(Arc<Tracer>, JoinHandle<()>), RunError> {
    let (tracer, exporter) = Exporter::new(config)
        .map_err(|error| RunError::Connection(format!("cannot use OTEL_EXPORTER_OTLP_ENDPOINT: {error}")))?;
    Ok((tracer, tokio::spawn(exporter.run(end.clone()))))
}

/// One for all who call the API, so that they share connections and tokens.
async fn keptn_api(config: &Config) -> Result<KeptnApi, RunError> {
    let api = KeptnApi::new(&config.api)
        .map_err(|error| RunError::Connection(format!("cannot use the Keptn API: {error}")))?;
    // As in the original: a mistake in what OAuth needs ends the start.
    let discovered = api.access().discover().await;
    discovered.map_err(|error| RunError::Connection(error.to_string()))?;
    Ok(api)
}

/// None where no integration is to be registered.
fn registration(config: &Config, api: &KeptnApi, interest: &watch::Sender<Arc<Interest>>) -> Option<Registration> {
    let Some(registration) = &config.registration else {
        tracing::info!(
            "no integration is registered: DISABLE_REGISTRATION is set, K8S_NAMESPACE or K8S_DEPLOYMENT_NAME is empty, \
             or the deployment is a service of Keptn itself; PUBSUB_TOPIC and the filters of the environment apply"
        );
        return None;
    };
    let registration = Registration::new(api.clone(), config, registration.clone(), interest.clone());
    Some(registration)
}

fn summarize(counters: &Counters, plugins: &Plugins, pending: usize, kept: usize) {
    let lost = pending.saturating_sub(kept);
    if lost > 0 {
        tracing::error!(
            lost,
            "the drain time-out is over: these events are lost, core NATS keeps no copy"
        );
    }
    if kept > 0 {
        tracing::warn!(
            kept,
            "the drain time-out is over: stream or control plane keep these events for another replica, or for this one when it is back"
        );
    }
    let counted: Vec<_> = counters
        .values()
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    tracing::info!("stopped: {}", counted.join(" "));
    for plugin in &plugins.current().plugins {
        let HealthReport {
            breaker,
            failures,
            failures_in_row: _,
            passed_over,
            dropped_on_failure,
        } = plugin.health_report();
        if failures > 0 {
            tracing::info!(
                plugin = %plugin.name(), failures, passed_over, dropped_on_failure, ?breaker, "plugin failed"
            );
        }
        for (metric, value) in plugin.metrics() {
            tracing::info!(plugin = %plugin.name(), metric, %value, "plugin counted");
        }
    }
}
