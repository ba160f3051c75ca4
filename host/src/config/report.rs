//! What `distributor check` prints: the effective configuration, secrets masked.

use std::fmt::Write;

use super::variables::{self, Kind, Variable};
use super::{ApiService, Config, Lookup};

/// The effective configuration as text. The chain of plugins is the caller's to add.
pub fn effective(config: &Config, lookup: Lookup<'_>) -> String {
    let mut text = String::new();
    for (title, variables) in variables::GROUPS {
        writeln!(text, "{title}").expect("writing to a String cannot fail");
        for variable in *variables {
            let set = lookup(variable.name);
            let origin = if set.is_some() { "" } else { "  (default)" };
            let value = set.unwrap_or_else(|| variable.default.to_owned());
            writeln!(text, "  {:<32}{}{origin}", variable.name, masked(variable, &value))
                .expect("writing to a String cannot fail");
        }
    }
    let subjects = crate::subject::cover(&config.nats.topics);
    let subjects: Vec<_> = subjects.iter().map(ToString::to_string).collect();
    writeln!(text, "What follows from it").expect("writing to a String cannot fail");
    let mut derived = |name: &str, value: &str| {
        let value = if value.is_empty() { "none" } else { value };
        writeln!(text, "  {name:<32}{value}").expect("writing to a String cannot fail");
    };
    derived("recipient", &without_password(&config.delivery.recipient.to_string()));
    derived("subjects received", &subjects.join(", "));
    derived("durable consumer", &config.jetstream.durable);
    derived("projects", &config.filter.projects.join(" | "));
    derived("stages", &config.filter.stages.join(" | "));
    derived("services", &config.filter.services.join(" | "));
    for service in ApiService::ALL {
        derived(service.segment(), &without_password(&config.api.endpoint.base(service)));
    }
    let oauth = config.api.oauth.as_ref().map_or("off", |_| "on");
    derived("oauth", oauth);
    let integration = config
        .registration
        .as_ref()
        .map_or("not registered", |_| &config.workload.deployment);
    derived("integration", integration);
    text
}

/// The value of a variable with whatever is secret in it replaced.
pub fn masked(variable: &Variable, value: &str) -> String {
    if variable.kind == Kind::Secret && !value.is_empty() {
        return "***".to_owned();
    }
    // Server and API URLs may carry `user:password@`.
    value.split(',').map(without_password).collect::<Vec<_>>().join(",")
}

/// A URL (or host) with the credentials before `@` replaced.
pub fn without_password(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let authority_end = rest.find('/').unwrap_or(rest.len());
    let separator = if scheme.is_empty() { "" } else { "://" };
    match rest[..authority_end].rfind('@') {
        Some(at) => format!("{scheme}{separator}***@{}", &rest[at + 1..]),
        None => url.to_owned(),
    }
}
