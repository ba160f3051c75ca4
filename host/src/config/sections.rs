//! Reads the variables that belong together into the parts of [`super::Config`].
//!
//! Called by [`super::from_env`]; what is wrong stays with the reader.

mod api;
mod delivery;
mod nats;
mod operating;
mod traces;

use std::net::{IpAddr, Ipv4Addr};

pub(super) use self::api::{api, endpoint};
pub(super) use self::delivery::{dead_letter, delivery};
pub(super) use self::nats::{jetstream, nats};
pub use self::operating::cache_dir;
pub(super) use self::operating::{admin, control, log_format, plugins_cache_dir, worker_threads};
pub(super) use self::traces::traces;
use super::read::Reader;
use super::variables as var;
use super::{ApiEndpoint, RegistrationConfig, ServerConfig, Workload};
use crate::plugins::TrustedKeys;
use crate::secret::Secret;

/// Services that ship with Keptn and never registered as integrations.
pub(super) const CORE_SERVICES: [&str; 6] = [
    "statistics-service",
    "api-service",
    "mongodb-datastore",
    "resource-service",
    "secret-service",
    "shipyard-controller",
];

pub(super) fn trusted_keys(reader: &mut Reader<'_>) -> Option<TrustedKeys> {
    let (keys, file) = (
        reader.list(&var::PLUGINS_TRUSTED_KEYS),
        reader.text(&var::PLUGINS_TRUSTED_KEYS_FILE),
    );
    match (keys.is_empty(), file.is_empty()) {
        (true, true) => None,
        (true, false) => Some(TrustedKeys::File(file.into())),
        (false, true) => match TrustedKeys::parse(keys.iter().map(String::as_str)) {
            Ok(keys) => Some(TrustedKeys::Keys(keys)),
            Err(problem) => {
                reader.problem(&var::PLUGINS_TRUSTED_KEYS, problem);
                None
            }
        },
        (false, false) => {
            let problem = format!(
                "{} is set as well; only one of them can count",
                var::PLUGINS_TRUSTED_KEYS.name
            );
            reader.problem(&var::PLUGINS_TRUSTED_KEYS_FILE, problem);
            None
        }
    }
}

pub(super) fn server(reader: &mut Reader<'_>) -> ServerConfig {
    let port = u16::try_from(reader.integer(&var::API_PROXY_PORT)).unwrap_or_else(|_| {
        reader.problem(&var::API_PROXY_PORT, "is not a port from 0 to 65535");
        0
    });
    let event_path = reader.text(&var::EVENT_FORWARDING_PATH);
    let proxy_path = Some(reader.text(&var::API_PROXY_PATH))
        .filter(|path| !path.is_empty())
        .unwrap_or_else(|| "/".to_owned());
    for (variable, path) in [
        (&var::EVENT_FORWARDING_PATH, &event_path),
        (&var::API_PROXY_PATH, &proxy_path),
    ] {
        if !path.starts_with('/') {
            reader.problem(variable, format!("{path:?} does not start with `/`"));
        } else if path == "/health" {
            reader.problem(variable, "`/health` is taken by the health check");
        }
    }
    if event_path == proxy_path {
        reader.problem(
            &var::EVENT_FORWARDING_PATH,
            format!("{event_path:?} is also {}", var::API_PROXY_PATH.name),
        );
    }
    let max_kilobytes = reader.integer(&var::API_PROXY_MAX_PAYLOAD_BYTES_KB);
    ServerConfig {
        address: bind_address(reader),
        port,
        event_path,
        proxy_path,
        max_body_bytes: usize::try_from(max_kilobytes)
            .ok()
            .filter(|&kilobytes| kilobytes > 0)
            .map(|kilobytes| kilobytes.saturating_mul(1024)),
    }
}

fn bind_address(reader: &mut Reader<'_>) -> IpAddr {
    let text = reader.text(&var::PROXY_BIND);
    let text = Some(text.as_str()).filter(|text| !text.is_empty() && *text != "localhost");
    text.unwrap_or(var::PROXY_BIND.default).parse().unwrap_or_else(|_| {
        reader.problem(
            &var::PROXY_BIND,
            format!("{:?} is not an IP address", text.unwrap_or_default()),
        );
        Ipv4Addr::LOCALHOST.into()
    })
}

pub(super) fn workload(reader: &Reader<'_>) -> Workload {
    Workload {
        deployment: reader.text(&var::K8S_DEPLOYMENT_NAME),
        namespace: reader.text(&var::K8S_NAMESPACE),
        pod: reader.text(&var::K8S_POD_NAME),
        node: reader.text(&var::K8S_NODE_NAME),
    }
}

/// The integration to register; none when registration is off, for any of the reasons that the original has.
pub(super) fn registration(
    reader: &mut Reader<'_>,
    endpoint: &ApiEndpoint,
    workload: &Workload,
) -> Option<RegistrationConfig> {
    // Everything is read, so that every problem is reported, before it is known whether anything is needed.
    let disabled = reader.boolean(&var::DISABLE_REGISTRATION);
    let text = |variable: &var::Variable, default: &str| {
        let text = reader.text(variable);
        if text.is_empty() { default.to_owned() } else { text }
    };
    let default_location = match endpoint {
        ApiEndpoint::InCluster => "control-plane",
        ApiEndpoint::Remote(_) => "remote-execution-plane",
    };
    let registration = RegistrationConfig {
        location: text(&var::LOCATION, default_location),
        distributor_version: text(&var::DISTRIBUTOR_VERSION, env!("CARGO_PKG_VERSION")),
        version: text(&var::VERSION, ""),
        interval: reader.duration(&var::REGISTRATION_INTERVAL),
        max_attempts: reader.integer(&var::MAX_REGISTRATION_RETRIES),
        heartbeat_interval: reader.duration(&var::HEARTBEAT_INTERVAL),
        max_failed_heartbeats: reader.integer(&var::MAX_HEARTBEAT_RETRIES),
    };
    let wanted = !disabled
        && !workload.deployment.is_empty()
        && !workload.namespace.is_empty()
        && !CORE_SERVICES.contains(&workload.deployment.as_str());
    wanted.then_some(registration)
}

pub(super) fn log_level(reader: &mut Reader<'_>) -> String {
    let text = reader.text(&var::LOG_LEVEL);
    let text = if text.is_empty() {
        var::LOG_LEVEL.default.to_owned()
    } else {
        text
    };
    if let Err(problem) = check_log_level(&text) {
        reader.problem(&var::LOG_LEVEL, problem);
    }
    text
}

/// Whether the text says what is to be logged.
///
/// # Errors
/// What is wrong with it.
pub fn check_log_level(text: &str) -> Result<(), String> {
    for directive in text.split(',') {
        // A single word that is no level would be taken for a module, and everything else would fall silent.
        let level = directive.rsplit('=').next().unwrap_or_default().trim();
        if level.parse::<tracing::Level>().is_err() {
            return Err(format!(
                "{directive:?} is neither a level (error, warn, info, debug, trace) nor `module=level`"
            ));
        }
    }
    Ok(())
}

/// A secret as a value or in a file.
fn secret(reader: &mut Reader<'_>, value: &var::Variable, file: &var::Variable) -> Option<Secret> {
    let (text, path) = (reader.text(value), reader.text(file));
    match (text.is_empty(), path.is_empty()) {
        (true, true) => None,
        (true, false) => Some(Secret::in_file(file.name, path.into())),
        (false, true) => Some(Secret::fixed(text)),
        (false, false) => {
            reader.problem(
                file,
                format!("{} is set as well; only one of them can count", value.name),
            );
            None
        }
    }
}
