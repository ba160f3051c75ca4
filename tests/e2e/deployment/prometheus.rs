//! A real Prometheus that scrapes one distributor every quarter of a second, with the alert rules of `deploy/`.
//!
//! Used by the tests of alerts and of the dashboard. Its labels are those that a `PodMonitor` gives.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;
use test_support::{ChildProcess, OutputTo, eventually, free_port, http_request};
use tokio::process::Command;

use crate::harness::{SOON, json};

const RULES: &str = include_str!("../../../deploy/monitoring/prometheus-rule.yaml");
/// The one condition that takes long by itself.
const OLD_EVENT: &str = "distributor_oldest_event_age_seconds > 900";

/// The server. It ends when dropped.
pub(super) struct Prometheus {
    address: SocketAddr,
    process: ChildProcess,
    _folder: TempDir,
}

impl Prometheus {
    /// Returns when it has scraped the distributor at this address.
    pub(super) async fn start(admin: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port().unwrap();
        std::fs::write(folder.path().join("rules.yaml"), impatient_rules()).unwrap();
        let config = format!(
            "global: {{scrape_interval: 250ms, scrape_timeout: 250ms, evaluation_interval: 250ms}}\n\
             rule_files: [rules.yaml]\n\
             scrape_configs:\n\
             - job_name: shop/distributor\n\
             \x20 static_configs:\n\
             \x20 - targets: ['{admin}']\n\
             \x20   labels: {{namespace: shop, pod: my-service-0, container: distributor}}\n"
        );
        let config_file = folder.path().join("prometheus.yaml");
        std::fs::write(&config_file, config).unwrap();
        let mut command = Command::new(installed("prometheus"));
        command
            .arg(format!("--config.file={}", config_file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let prometheus = Self {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            process: ChildProcess::start(command, OutputTo::Memory).expect("Prometheus starts"),
            _folder: folder,
        };
        let scraped = async || !prometheus.values("up == 1").await.is_empty();
        let result = eventually(SOON, scraped).await;
        result.unwrap_or_else(|_| panic!("the distributor is scraped: {}", prometheus.process.output_tail()));
        prometheus
    }

    /// What an expression gives now: labels and value of each series. Nothing while the server starts.
    pub(super) async fn values(&self, expression: &str) -> Vec<(Value, f64)> {
        let Some(answer) = self.get(&format!("/api/v1/query?query={}", encoded(expression))).await else {
            return Vec::new();
        };
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        let result = answer["data"]["result"].as_array().expect("a vector").iter();
        let number = |sample: &Value| sample["value"][1].as_str().unwrap_or_default().parse().unwrap();
        result
            .map(|sample| (sample["metric"].clone(), number(sample)))
            .collect()
    }

    /// The alerts that fire.
    pub(super) async fn firing(&self) -> Vec<String> {
        let series = self.values("ALERTS{alertstate=\"firing\"}").await;
        let names = series
            .iter()
            .map(|(labels, _)| labels["alertname"].as_str().unwrap().to_owned());
        names.collect()
    }

    /// Waits until this alert fires.
    pub(super) async fn wait_for_alert(&self, name: &str) {
        let fires = async || self.firing().await.iter().any(|firing| firing == name);
        let fired = eventually(SOON, fires).await;
        assert!(
            fired.is_ok(),
            "{name} does not fire; these do: {:?}",
            self.firing().await
        );
    }

    async fn get(&self, path: &str) -> Option<Value> {
        let answer = http_request(self.address, "GET", path, &[], "").await.ok()?;
        // Not ready yet is no JSON.
        (answer.status != 503).then(|| json(&answer.body))
    }
}

/// The names of all alerts that there are rules for.
pub(super) fn all_alerts() -> Vec<String> {
    let alerts = RULES.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    alerts.map(str::to_owned).collect()
}

/// The rules without the time that a condition has to last, and with events that are old after a second.
fn impatient_rules() -> String {
    let (_, spec) = RULES
        .split_once("\nspec:\n")
        .expect("the rules are in a PrometheusRule");
    let mut rules = String::new();
    for line in spec.lines() {
        let line = line.strip_prefix("  ").unwrap_or(line);
        let patient = line.trim_start().starts_with("for: ");
        rules.push_str(if patient { "" } else { line });
        rules.push('\n');
    }
    assert_eq!(rules.matches(OLD_EVENT).count(), 1, "{OLD_EVENT}");
    rules.replace(OLD_EVENT, "distributor_oldest_event_age_seconds > 1")
}

fn encoded(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

/// What `make deploy-check` has put into `target/tools`.
fn installed(tool: &str) -> PathBuf {
    #[expect(
        clippy::disallowed_methods,
        reason = "where tools are is the test command's business, not configuration"
    )]
    let target = std::env::var_os("CARGO_TARGET_DIR");
    let target = target.map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
        PathBuf::from,
    );
    let path = target.join("tools").join(tool);
    assert!(path.exists(), "`make deploy-check` gets {}", path.display());
    path
}
