//! Logs and the start banner. It knows no business rules: others say what happened.

pub mod flood;
mod json;

use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

use self::flood::{Bounded, Flood};
use self::json::Json;
use crate::config::{self, ApiEndpoint, Config, LogFormat, report};

/// Under this everything is logged that plugins say.
pub const PLUGIN_TARGET: &str = "distributor::plugin";

/// Starts logging to standard error, in so far as `flood` lets it. The level was checked with the configuration.
pub fn init(log_level: &str, format: LogFormat, flood: Option<&Arc<Flood>>) -> LogLevel {
    let (targets, handle) = reload::Layer::new(targets(log_level));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false);
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.event_format(Json).boxed(),
    };
    let bounded = Bounded(flood.map(Arc::clone));
    // A second call, in tests that run several distributors in one process, keeps the first one's settings.
    let _ = tracing_subscriber::registry()
        .with(targets)
        .with(lines)
        .with(bounded)
        .try_init();
    LogLevel {
        handle: Some(handle),
        text: Arc::new(Mutex::new(log_level.to_owned())),
    }
}

fn targets(log_level: &str) -> Targets {
    let targets: Targets = log_level.parse().unwrap_or_default();
    if log_level.contains("async_nats") {
        return targets;
    }
    // It logs every attempt to connect; `nats` says what an operator needs, once.
    targets.with_target("async_nats", tracing::level_filters::LevelFilter::OFF)
}

/// What is logged, while the process runs. Clones change the same.
#[derive(Debug, Clone, Default)]
pub struct LogLevel {
    /// None: logging was not started here, in tests.
    handle: Option<reload::Handle<Targets, Registry>>,
    text: Arc<Mutex<String>>,
}

impl LogLevel {
    /// As in `LOG_LEVEL`.
    pub fn current(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Logs something else from now on.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn set(&self, text: &str) -> Result<(), String> {
        config::check_log_level(text)?;
        if let Some(handle) = &self.handle {
            let changed = handle.reload(targets(text));
            changed.map_err(|error| format!("the level cannot be changed: {error}"))?;
        }
        text.clone_into(&mut self.text.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }
}

/// What the original prints at its start, line by line: label, dots up to column 40, value.
pub fn banner(config: &Config, start_time: &str) -> String {
    let servers: Vec<_> = config
        .nats
        .servers
        .iter()
        .map(|server| report::without_password(server.clone().into_inner().as_str()))
        .collect();
    let endpoint = match &config.api.endpoint {
        ApiEndpoint::InCluster => String::new(),
        ApiEndpoint::Remote(url) => report::without_password(url.as_str()),
    };
    let workload = &config.workload;
    let lines = [
        (
            "Git commit",
            option_env!("DISTRIBUTOR_GIT_COMMIT").unwrap_or_default().to_owned(),
        ),
        (
            "Build time",
            option_env!("DISTRIBUTOR_BUILD_TIME").unwrap_or_default().to_owned(),
        ),
        ("Start time", start_time.to_owned()),
        (
            "Remote execution plane",
            matches!(config.api.endpoint, ApiEndpoint::Remote(_)).to_string(),
        ),
        ("Oauth enabled", config.api.oauth.is_some().to_string()),
        ("Keptn API endpoint", endpoint),
        ("Api proxy path", config.server.proxy_path.clone()),
        ("Api proxy port", config.server.port.to_string()),
        ("PubSub URL", servers.join(",")),
        ("PubSub group", config.nats.group.clone().unwrap_or_default()),
        ("K8S node name", workload.node.clone()),
        ("K8S namespace", workload.namespace.clone()),
        ("K8S deployment name", workload.deployment.clone()),
        ("K8S pod name", workload.pod.clone()),
    ];
    let mut banner = String::new();
    for (label, value) in lines {
        let value = if value.is_empty() { "unknown" } else { &value };
        writeln!(banner, "{label:.<40}{value}").expect("writing to a String cannot fail");
    }
    banner
}
