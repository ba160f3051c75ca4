//! Where spans are sent, in the variables of OpenTelemetry.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use url::Url;

use crate::config::TracesConfig;
use crate::config::read::Reader;
use crate::config::variables as var;
use crate::trace::Sampler;

/// None: nobody collects them.
pub(in crate::config) fn traces(reader: &mut Reader<'_>) -> Option<TracesConfig> {
    // All are read, so that mistakes show before somebody switches it on.
    let endpoint = endpoint(reader);
    let headers = headers(reader);
    let resource = resource(reader);
    let timeout = reader.count(&var::OTEL_EXPORTER_OTLP_TIMEOUT, 1);
    let (sampler, is_parent_based) = sampler(reader);
    let is_disabled = reader.boolean(&var::OTEL_SDK_DISABLED);
    Some(TracesConfig {
        endpoint: endpoint.filter(|_| !is_disabled)?,
        headers,
        timeout: std::time::Duration::from_millis(timeout.into()),
        resource,
        sampler,
        is_parent_based,
    })
}

fn endpoint(reader: &mut Reader<'_>) -> Option<Url> {
    let text = reader.text(&var::OTEL_EXPORTER_OTLP_ENDPOINT);
    if text.is_empty() {
        return None;
    }
    let url = Url::parse(&(text.trim_end_matches('/').to_owned() + "/v1/traces"));
    let url = url
        .ok()
        .filter(|url| ["http", "https"].contains(&url.scheme()) && url.has_host());
    if url.is_none() {
        let problem = "is not a URL that begins with `http://` or `https://`; spans are sent over HTTP, port 4318";
        reader.problem(&var::OTEL_EXPORTER_OTLP_ENDPOINT, problem);
    }
    url
}

/// Pairs `name=value` between commas, percent-encoded.
fn pairs(reader: &mut Reader<'_>, variable: &'static var::Variable) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for item in reader.list(variable) {
        let pair = item.split_once('=').map(|(name, value)| (name.trim(), value.trim()));
        match pair.filter(|(name, _)| !name.is_empty()) {
            Some((name, value)) => {
                let value = percent_decode_str(value).decode_utf8_lossy().into_owned();
                pairs.push((name.to_owned(), value));
            }
            // What it says may be secret.
            None => reader.problem(variable, "has an item that is not `name=value`"),
        }
    }
    pairs
}

fn headers(reader: &mut Reader<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs(reader, &var::OTEL_EXPORTER_OTLP_HEADERS) {
        match (HeaderName::try_from(&name), HeaderValue::try_from(&value)) {
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
            _ => reader.problem(&var::OTEL_EXPORTER_OTLP_HEADERS, "has an item that is no header"),
        }
    }
    headers
}

/// What is known of this process; what is said in the variables counts more.
fn resource(reader: &mut Reader<'_>) -> Vec<(String, String)> {
    let mut resource = pairs(reader, &var::OTEL_RESOURCE_ATTRIBUTES);
    let service = reader.text(&var::OTEL_SERVICE_NAME);
    if !service.is_empty() {
        resource.retain(|(name, _)| name != "service.name");
        resource.push(("service.name".to_owned(), service));
    }
    let known = [
        ("service.name", "distributor".to_owned()),
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("k8s.pod.name", reader.text(&var::K8S_POD_NAME)),
        ("k8s.namespace.name", reader.text(&var::K8S_NAMESPACE)),
        ("k8s.deployment.name", reader.text(&var::K8S_DEPLOYMENT_NAME)),
        ("k8s.node.name", reader.text(&var::K8S_NODE_NAME)),
    ];
    for (name, value) in known {
        if !value.is_empty() && !resource.iter().any(|(other, _)| other == name) {
            resource.push((name.to_owned(), value));
        }
    }
    resource
}

/// And whether the sampler of the parent decides where there is one.
fn sampler(reader: &mut Reader<'_>) -> (Sampler, bool) {
    let text = reader.text(&var::OTEL_TRACES_SAMPLER_ARG);
    let share = match text.parse::<f64>() {
        _ if text.is_empty() => 1.0,
        Ok(share) if (0.0..=1.0).contains(&share) => share,
        _ => {
            let problem = format!("{text:?} is not a number from 0 to 1");
            reader.problem(&var::OTEL_TRACES_SAMPLER_ARG, problem);
            1.0
        }
    };
    reader.choice(
        &var::OTEL_TRACES_SAMPLER,
        &[
            ("parentbased_always_on", (Sampler::AlwaysOn, true)),
            ("always_on", (Sampler::AlwaysOn, false)),
            ("always_off", (Sampler::AlwaysOff, false)),
            ("traceidratio", (Sampler::Ratio(share), false)),
            ("parentbased_always_off", (Sampler::AlwaysOff, true)),
            ("parentbased_traceidratio", (Sampler::Ratio(share), true)),
        ],
    )
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, from_env};

    fn config(variables: &[(&str, &str)]) -> Result<Config, String> {
        let lookup = |name: &str| {
            let found = variables.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        from_env(&lookup).map_err(|errors| errors.to_string())
    }

    #[test]
    fn nothing_is_sent_unless_there_is_a_collector() {
        assert!(config(&[("OTEL_SERVICE_NAME", "s")]).unwrap().traces.is_none());
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");
        assert!(
            config(&[endpoint, ("OTEL_SDK_DISABLED", "true")])
                .unwrap()
                .traces
                .is_none()
        );
        let traces = config(&[endpoint]).unwrap().traces.unwrap();
        assert_eq!(traces.endpoint.as_str(), "http://collector:4318/v1/traces");
        assert_eq!(traces.resource[0], ("service.name".into(), "distributor".into()));
        assert_eq!(traces.timeout.as_secs(), 10);
    }

    #[test]
    fn names_come_from_the_variables_and_headers_stay_secret() {
        let traces = config(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector"),
            (
                "OTEL_EXPORTER_OTLP_HEADERS",
                "authorization=Bearer%20hunter2, x-scope = a",
            ),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=loses,team=blue%2Cgreen"),
            ("OTEL_SERVICE_NAME", "wins"),
            ("K8S_POD_NAME", "pod-1"),
        ]);
        let traces = traces.unwrap().traces.unwrap();
        assert_eq!(traces.headers["authorization"], "Bearer hunter2");
        assert_eq!(traces.headers["x-scope"], "a");
        assert!(!format!("{traces:?}").contains("hunter2"));
        for (name, value) in [
            ("service.name", "wins"),
            ("team", "blue,green"),
            ("k8s.pod.name", "pod-1"),
        ] {
            assert!(traces.resource.contains(&(name.into(), value.into())), "{name}");
        }
    }

    #[test]
    fn mistakes_are_named_and_secrets_are_not() {
        let check = |name: &str, value: &str, expected: &str| {
            let error = config(&[(name, value)]).unwrap_err();
            assert!(error.contains(name) && error.contains(expected), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        };
        check("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317", "http://");
        check("OTEL_EXPORTER_OTLP_HEADERS", "hunter2", "name=value");
        check("OTEL_EXPORTER_OTLP_HEADERS", "x y=hunter2", "no header");
        check("OTEL_TRACES_SAMPLER", "sometimes", "none of");
        check("OTEL_TRACES_SAMPLER_ARG", "2", "0 to 1");
        check("OTEL_EXPORTER_OTLP_TIMEOUT", "0", "1");
    }
}
