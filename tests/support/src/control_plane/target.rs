//! Where a request goes: which of the control plane's services, which of its calls, and whether through the API gateway.
//!
//! Called by `mod` for every request. It must not know what a call does.

use hyper::Uri;
use hyper::header::{HOST, HeaderMap};

/// A service of the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    Shipyard,
    Datastore,
    Resources,
    Api,
}

/// Name in the cluster, first segment behind the gateway.
const SERVICES: [(Service, &str, &str); 3] = [
    (Service::Shipyard, "shipyard-controller", "controlPlane"),
    (Service::Datastore, "mongodb-datastore", "mongodb-datastore"),
    (Service::Resources, "resource-service", "resource-service"),
];

/// A call of the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    /// `POST …/v1/uniform/registration`
    Register,
    /// `PUT …/v1/uniform/registration/{id}/ping`
    Ping,
    /// `DELETE …/v1/uniform/registration/{id}`
    Unregister,
    /// `GET …/v1/uniform/registration`
    Registrations,
    /// `…/v1/uniform/registration/{id}/subscription[/{id}]`
    Subscriptions,
    /// `GET …/v1/event/triggered/{type}`
    OpenEvents,
    /// `GET` and `POST …/v1/log`
    Log,
    /// `POST …/v1/event`
    SendEvent,
    /// Everything of `mongodb-datastore`.
    Datastore,
    /// Everything of `resource-service`.
    Resources,
    /// `POST /token` of the identity provider.
    Token,
    /// Its discovery document.
    Discovery,
    /// What the control plane does not have.
    Unknown,
}

/// A request's target, taken apart.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) route: Route,
    /// Through the API gateway, from outside of the cluster.
    pub(super) is_remote: bool,
    /// The path as the service sees it, still escaped.
    pub(super) path: String,
    /// The query as it was sent.
    pub(super) query: Option<String>,
}

impl Target {
    pub(super) fn of(method: &str, uri: &Uri, headers: &HeaderMap) -> Self {
        let host = match uri.host() {
            Some(host) => host,
            None => headers
                .get(HOST)
                .and_then(|host| host.to_str().ok())
                .unwrap_or_default(),
        };
        let name = host.split(':').next().unwrap_or_default();
        let in_cluster = SERVICES.iter().find(|(_, in_cluster, _)| *in_cluster == name);
        let (service, path) = match in_cluster {
            Some((service, _, _)) => (Some(*service), uri.path()),
            None => behind_gateway(uri.path()),
        };
        Self {
            route: match (service, method, path) {
                (Some(service), _, _) => route(service, method, path),
                (None, "POST", "/token") => Route::Token,
                (None, "GET", "/.well-known/openid-configuration") => Route::Discovery,
                _ => Route::Unknown,
            },
            is_remote: in_cluster.is_none(),
            path: path.to_owned(),
            query: uri.query().map(str::to_owned),
        }
    }

    /// Whether the gateway answers.
    pub(super) fn is_behind_gateway(&self) -> bool {
        self.is_remote && !matches!(self.route, Route::Token | Route::Discovery)
    }

    /// A parameter of the query, decoded.
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        self.query.as_ref()?.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(key, true) == name).then(|| decoded(value, true))
        })
    }

    /// The path's segments, decoded.
    pub(super) fn segments(&self) -> Vec<String> {
        segments(&self.path).map(|segment| decoded(segment, false)).collect()
    }
}

/// The service, and the path as it sees it. What stands before the service's name is the endpoint's own path.
fn behind_gateway(path: &str) -> (Option<Service>, &str) {
    for (start, _) in path.match_indices('/') {
        let rest = &path[start + 1..];
        let segment = rest.split('/').next().unwrap_or_default();
        if let Some((service, _, _)) = SERVICES.iter().find(|(_, _, name)| *name == segment) {
            return (Some(*service), &rest[segment.len()..]);
        }
    }
    match path.find("/v1/") {
        Some(start) => (Some(Service::Api), &path[start..]),
        None => (None, path),
    }
}

fn route(service: Service, method: &str, path: &str) -> Route {
    let segments: Vec<_> = segments(path).collect();
    match (service, method, segments.as_slice()) {
        (Service::Shipyard, "POST", ["v1", "uniform", "registration"]) => Route::Register,
        (Service::Shipyard, "GET", ["v1", "uniform", "registration"]) => Route::Registrations,
        (Service::Shipyard, "PUT", ["v1", "uniform", "registration", _, "ping"]) => Route::Ping,
        (Service::Shipyard, "DELETE", ["v1", "uniform", "registration", _]) => Route::Unregister,
        (Service::Shipyard, _, ["v1", "uniform", "registration", _, "subscription", rest @ ..]) if rest.len() < 2 => {
            Route::Subscriptions
        }
        (Service::Shipyard, "GET", ["v1", "event", "triggered", _]) => Route::OpenEvents,
        (Service::Shipyard, "GET" | "POST", ["v1", "log"]) => Route::Log,
        (Service::Api, "POST", ["v1", "event"]) => Route::SendEvent,
        (Service::Datastore, _, _) => Route::Datastore,
        (Service::Resources, _, _) => Route::Resources,
        _ => Route::Unknown,
    }
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

/// Resolves `%2F` and the like; in a query also `+`.
pub(super) fn decoded(text: &str, plus_is_space: bool) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let hex = behind.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match (first, hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            (b'+', _) if plus_is_space => {
                bytes.push(b' ');
                rest = behind;
            }
            _ => {
                bytes.push(first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &str, uri: &str, host: &str, expected: (Route, bool, &str)) {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        let target = Target::of(method, &uri.parse().unwrap(), &headers);
        assert_eq!(
            (target.route, target.is_remote, target.path.as_str()),
            expected,
            "{uri}"
        );
    }

    #[test]
    fn both_forms_of_a_request_are_understood_behind_any_prefix() {
        let own = "127.0.0.1:1234";
        let registration = "/v1/uniform/registration";
        for uri in ["/api/controlPlane", "/controlPlane", "/my/path/prefix/api/controlPlane"] {
            let uri = format!("{uri}{registration}");
            check("POST", &uri, own, (Route::Register, true, registration));
        }
        let cluster = "http://shipyard-controller:8080/v1/uniform/registration";
        check("POST", cluster, "other", (Route::Register, false, registration));
        check(
            "POST",
            registration,
            "shipyard-controller:8080",
            (Route::Register, false, registration),
        );
        for uri in ["/api/v1/event", "/v1/event", "/api//v1/event"] {
            check("POST", uri, own, (Route::SendEvent, true, "/v1/event"));
        }
        check("GET", "/api/resource-service/", own, (Route::Resources, true, "/"));
        check("GET", "/api/secrets", own, (Route::Unknown, true, "/api/secrets"));
        check("GET", "http://elsewhere/v2", own, (Route::Unknown, true, "/v2"));
        check(
            "POST",
            "http://identity:8080/token",
            own,
            (Route::Token, true, "/token"),
        );
        check("POST", "/api/token", own, (Route::Unknown, true, "/api/token"));
    }

    #[test]
    fn escapes_are_resolved_once() {
        assert_eq!(decoded("helm%252Fa+b%zz", false), "helm%2Fa+b%zz");
        assert_eq!(decoded("a+b%26", true), "a b&");
    }
}
