//! What these tests are written with: the real binary with its admin listener, and what it answers.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use test_support::{DistributorProcess, HttpResponse, eventually, http_request};

use crate::harness::*;

/// Listeners that tools of operators use, on free ports.
pub(super) const LISTENERS: [(&str, &str); 2] = [("ADMIN_BIND", "127.0.0.1:0"), ("CONTROL_BIND", "127.0.0.1:0")];

pub(super) async fn get(address: SocketAddr, path: &str) -> HttpResponse {
    let response = http_request(address, "GET", path, &[], "").await;
    response.unwrap_or_else(|error| panic!("GET {path}: {error:#}"))
}

pub(super) fn text(response: &HttpResponse) -> String {
    String::from_utf8(response.body.to_vec()).unwrap()
}

/// Where the admin listener of a process is.
pub(super) async fn admin_of(process: &DistributorProcess) -> SocketAddr {
    process.admin_address(SOON).await.unwrap()
}

/// Waits until a probe is answered like this, and returns all checks.
pub(super) async fn wait_for_probe(admin: SocketAddr, path: &str, status: u16, part: &str) -> String {
    let path = format!("{path}?verbose");
    let mut last = String::new();
    let result = eventually(SOON, async || {
        let response = get(admin, &path).await;
        last = format!("{} {}", response.status, text(&response));
        response.status == status && last.contains(part)
    });
    result
        .await
        .unwrap_or_else(|_| panic!("{path} was to answer {status} with {part:?}: {last}"));
    last
}

/// What a scrape answered.
pub(super) struct Scrape {
    pub(super) text: String,
    /// Kind of each family.
    pub(super) kinds: BTreeMap<String, String>,
    pub(super) samples: Vec<Sample>,
}

/// One line with a value.
pub(super) struct Sample {
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    value: String,
}

/// `GET /metrics`, taken apart.
pub(super) async fn scrape(admin: SocketAddr) -> Scrape {
    let response = get(admin, "/metrics").await;
    assert_eq!(response.status, 200);
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(response.headers["content-type"], content_type);
    let text = text(&response);
    assert!(text.ends_with("# EOF\n"));
    let mut kinds = BTreeMap::new();
    let mut samples = Vec::new();
    for line in text.lines() {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            let before = kinds.insert(name.to_owned(), kind.to_owned());
            assert_eq!(before, None, "{name} is there twice");
        } else if !line.starts_with('#') {
            samples.push(Sample::of(line));
        }
    }
    Scrape { text, kinds, samples }
}

impl Sample {
    fn of(line: &str) -> Self {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels
            .trim_end_matches('}')
            .split("\",")
            .filter(|label| !label.is_empty());
        let labels = labels.map(|label| {
            let (name, value) = label.split_once("=\"").unwrap();
            (name.to_owned(), value.trim_end_matches('"').to_owned())
        });
        Self {
            name: name.to_owned(),
            labels: labels.collect(),
            value: value.to_owned(),
        }
    }

    pub(super) fn number(&self) -> f64 {
        let number = self.value.parse();
        number.unwrap_or_else(|_| panic!("{} is no number: {}", self.name, self.value))
    }

    fn whole(&self) -> u64 {
        let number = self.value.parse();
        number.unwrap_or_else(|_| panic!("{} is no whole number: {}", self.name, self.value))
    }
}

impl Scrape {
    /// The family of a series.
    pub(super) fn family(&self, name: &str) -> Option<&str> {
        let suffixes = ["", "_total", "_info", "_sum", "_count", "_bucket"];
        let families = suffixes.iter().filter_map(|suffix| name.strip_suffix(suffix));
        let mut families = families.filter_map(|family| self.kinds.get_key_value(family));
        families.next().map(|(family, _)| family.as_str())
    }

    /// Whether there is any value of a metric, as the table names it.
    pub(super) fn has(&self, full_name: &str) -> bool {
        let is_of = |sample: &Sample| sample.name == full_name || sample.name == format!("{full_name}_count");
        self.samples.iter().any(is_of)
    }

    /// The value of the first series that has these labels.
    pub(super) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.first(name, labels).number()
    }

    /// The same of what counts things.
    pub(super) fn whole(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.first(name, labels).whole()
    }

    /// All series of a metric together.
    pub(super) fn sum(&self, name: &str) -> u64 {
        let samples = self.samples.iter().filter(|sample| sample.name == name);
        samples.map(Sample::whole).sum()
    }

    fn first(&self, name: &str, labels: &[(&str, &str)]) -> &Sample {
        let has = |sample: &Sample| {
            let has = |(label, value): &(&str, &str)| sample.labels.get(*label).is_some_and(|found| found == value);
            sample.name == name && labels.iter().all(has)
        };
        let sample = self.samples.iter().find(|sample| has(sample));
        sample.unwrap_or_else(|| panic!("there is no {name}{labels:?} in\n{}", self.text))
    }
}
