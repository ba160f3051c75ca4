//! Which service of the control plane a path leads to, and the URL that it has there.
//!
//! Called by [`super::Proxy`]. Paths are cut and put together as they are, never decoded: what a service was called with
//! is what it gets. It must not know requests.

use std::str::FromStr;

use bytes::{BufMut, Bytes, BytesMut};
use http::uri::{Authority, InvalidUri, PathAndQuery, Scheme};
use http::{HeaderValue, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use crate::config::{ApiEndpoint, ApiService};
use crate::connect::Proxies;

/// Before the name of a file.
const RESOURCE: &str = "/resource/";
/// What a name in a query may not hold as it is.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// All services, and what has to stand before them.
#[derive(Debug)]
pub(super) struct Targets {
    /// Without a slash at its end.
    prefix: String,
    targets: Vec<Target>,
}

/// One service.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) service: ApiService,
    scheme: Scheme,
    authority: Authority,
    /// With a slash at its end.
    base_path: String,
    /// Whether a gateway stands before it that decodes paths.
    is_decoded_on_the_way: bool,
    /// What a proxy on the way wants to see.
    pub(super) proxy_authorization: Option<HeaderValue>,
}

impl Targets {
    /// The services of this control plane, below the path that `API_PROXY_PATH` names.
    ///
    /// # Errors
    /// When the endpoint cannot be the start of a URL.
    pub(super) fn new(endpoint: &ApiEndpoint, prefix: &str, proxies: &Proxies) -> Result<Self, InvalidUri> {
        let target = |service| -> Result<Target, InvalidUri> {
            let uri = Uri::from_str(&endpoint.base(service))?;
            Ok(Target {
                service,
                scheme: uri.scheme().cloned().unwrap_or(Scheme::HTTP),
                authority: Authority::from_str(uri.authority().map_or("", Authority::as_str))?,
                base_path: uri.path().to_owned(),
                is_decoded_on_the_way: matches!(endpoint, ApiEndpoint::Remote(_)),
                proxy_authorization: proxies.authorization(&uri),
            })
        };
        Ok(Self {
            prefix: prefix.trim_end_matches('/').to_owned(),
            targets: ApiService::ALL.into_iter().map(target).collect::<Result<_, _>>()?,
        })
    }

    /// The service that a path belongs to, and the rest of the path, without the slash before it.
    pub(super) fn find<'a>(&self, path: &'a str) -> Option<(&Target, &'a str)> {
        let path = path.strip_prefix(self.prefix.as_str())?.strip_prefix('/')?;
        let (segment, rest) = path.split_once('/').unwrap_or((path, ""));
        let target = self.targets.iter().find(|target| target.service.segment() == segment)?;
        Some((target, rest))
    }
}

impl Target {
    /// Its host and port, for messages.
    pub(super) fn host(&self) -> String {
        // Without a password that stands before it.
        let authority = self.authority.as_str();
        authority
            .rsplit_once('@')
            .map_or(authority, |(_, host)| host)
            .to_owned()
    }

    /// The URL of what `rest` names there.
    ///
    /// # Errors
    /// When a URL cannot hold it.
    pub(super) fn uri(&self, rest: &str, query: Option<&str>) -> Result<Uri, http::Error> {
        let mut text =
            BytesMut::with_capacity(self.base_path.len() + rest.len() + query.map_or(0, |query| 1 + query.len()));
        text.put_slice(self.base_path.as_bytes());
        match self.resource_in(rest) {
            Some((start, resource)) => {
                text.put_slice(start.as_bytes());
                for part in percent_encode(resource.as_bytes(), QUERY) {
                    text.put_slice(part.as_bytes());
                }
            }
            None => text.put_slice(rest.as_bytes()),
        }
        if let Some(query) = query {
            text.put_u8(b'?');
            text.put_slice(query.as_bytes());
        }
        Uri::builder()
            .scheme(self.scheme.clone())
            .authority(self.authority.clone())
            .path_and_query(PathAndQuery::from_maybe_shared(Bytes::from(text))?)
            .build()
    }

    /// The name of a file has to be escaped once more where the gateway takes one escaping off: the service reads
    /// `helm%2Fchart.tgz` as one file, and would not find `helm/chart.tgz`.
    fn resource_in<'a>(&self, rest: &'a str) -> Option<(&'a str, &'a str)> {
        if !self.is_decoded_on_the_way || self.service != ApiService::Resources {
            return None;
        }
        // Of several the last one, as in the original.
        Some(rest.split_at(rest.rfind(RESOURCE)? + RESOURCE.len()))
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(endpoint: &str, prefix: &str, path_and_query: &str) -> Option<String> {
        let endpoint = ApiEndpoint::parse(endpoint).unwrap();
        let targets = Targets::new(&endpoint, prefix, &Proxies::none()).unwrap();
        let request: Uri = path_and_query.parse().unwrap();
        let (target, rest) = targets.find(request.path())?;
        Some(target.uri(rest, request.query()).unwrap().to_string())
    }

    #[test]
    fn services_in_the_cluster_are_called_by_name_without_the_first_segment() {
        let check = |path: &str, expected: &str| assert_eq!(mapped("", "/", path).as_deref(), Some(expected), "{path}");
        check(
            "/mongodb-datastore/event/type/sh.keptn.event.evaluation.finished",
            "http://mongodb-datastore:8080/event/type/sh.keptn.event.evaluation.finished",
        );
        check("/resource-service", "http://resource-service:8080/");
        check("/resource-service/", "http://resource-service:8080/");
        check("/controlPlane?", "http://shipyard-controller:8080/?");
        check(
            "/mongodb-datastore/event?project=a&x",
            "http://mongodb-datastore:8080/event?project=a&x",
        );
        check(
            "/resource-service/v1/project/p/resource/helm%2Fchart.tgz",
            "http://resource-service:8080/v1/project/p/resource/helm%2Fchart.tgz",
        );
        check(
            "/resource-service/v1/project/p/resource/helm/chart.tgz",
            "http://resource-service:8080/v1/project/p/resource/helm/chart.tgz",
        );
    }

    #[test]
    fn services_behind_an_endpoint_are_called_below_it() {
        let check = |endpoint: &str, path: &str, expected: &str| {
            assert_eq!(
                mapped(endpoint, "/", path).as_deref(),
                Some(expected),
                "{endpoint} {path}"
            );
        };
        check(
            "http://external-api.com/api",
            "/resource-service",
            "http://external-api.com/api/resource-service/",
        );
        check(
            "http://external-api.com/my/path/prefix/api",
            "/resource-service",
            "http://external-api.com/my/path/prefix/api/resource-service/",
        );
        check(
            "https://keptn.example:8443/api/",
            "/controlPlane",
            "https://keptn.example:8443/api/controlPlane/",
        );
        check(
            "http://keptn.example/api",
            "/controlPlane/v1/project?x=1&y=a%20b",
            "http://keptn.example/api/controlPlane/v1/project?x=1&y=a%20b",
        );
        check(
            "http://keptn.example",
            "/mongodb-datastore/event?x=/resource/a%2Fb",
            "http://keptn.example/mongodb-datastore/event?x=/resource/a%2Fb",
        );
    }

    #[test]
    fn the_name_of_a_file_is_escaped_once_more_for_the_gateway() {
        let check = |path: &str, expected: &str| {
            let mapped = mapped("http://keptn.example/api", "/", &format!("/resource-service{path}"));
            assert_eq!(
                mapped.as_deref(),
                Some(format!("http://keptn.example/api/resource-service{expected}").as_str())
            );
        };
        check(
            "/v1/project/p/stage/s/service/c/resource/helm%2Fchart.tgz?gitCommitID=1",
            "/v1/project/p/stage/s/service/c/resource/helm%252Fchart.tgz?gitCommitID=1",
        );
        check(
            "/v1/project/p/resource/helm/chart.tgz",
            "/v1/project/p/resource/helm%2Fchart.tgz",
        );
        check(
            "/v1/project/p/resource/shipyard.yaml",
            "/v1/project/p/resource/shipyard.yaml",
        );
        check("/v1/project/p/resource/a-b_c~d", "/v1/project/p/resource/a-b_c~d");
        // The gateway gives back what the service here has sent, whatever that was.
        check(
            "/v1/project/p/resource/my%20chart.tgz",
            "/v1/project/p/resource/my%2520chart.tgz",
        );
        check("/v1/project/p/resource/100%25", "/v1/project/p/resource/100%2525");
        check("/v1/project/p/resource/a+b", "/v1/project/p/resource/a%2Bb");
        // A project that is named "resource".
        check(
            "/v1/project/resource/x/resource/y/z",
            "/v1/project/resource/x/resource/y%2Fz",
        );
        check(
            "/v1/project/resource/resource/y/z",
            "/v1/project/resource/resource/y%2Fz",
        );
        check("/v1/project/p/resource", "/v1/project/p/resource");
        check(
            "/v1/project/p/resource/a?x=/resource/b/c",
            "/v1/project/p/resource/a?x=/resource/b/c",
        );
    }

    #[test]
    fn a_path_is_kept_byte_for_byte() {
        for rest in [
            "a%2F..%2Fb",
            "/v1",
            "a//b/",
            "../b",
            "./.",
            "%2e%2E/%zz",
            "a|b\"c{d}^",
            "a;b=c,d@e:f!$&'()*+",
            "ü",
        ] {
            for (endpoint, base) in [
                ("", "http://shipyard-controller:8080/"),
                ("http://keptn.example/api", "http://keptn.example/api/controlPlane/"),
            ] {
                let mapped = mapped(endpoint, "/", &format!("/controlPlane/{rest}?a=b%20c+d&&?/../%zz"));
                assert_eq!(mapped, Some(format!("{base}{rest}?a=b%20c+d&&?/../%zz")));
            }
        }
    }

    #[test]
    fn a_segment_is_a_service_or_nothing() {
        for path in [
            "/",
            "//controlPlane",
            "/controlPlaneXYZ/v1/a",
            "/control",
            "/controlplane/v1",
            "/%63ontrolPlane/v1",
            "/secrets/v1",
            "/configuration-service/v1",
            "/api/controlPlane",
            "*",
        ] {
            assert_eq!(mapped("", "/", path), None, "{path}");
            assert_eq!(mapped("http://keptn.example/api", "/", path), None, "{path}");
        }
    }

    #[test]
    fn the_prefix_is_taken_off() {
        for prefix in ["/keptn", "/keptn/"] {
            let check = |path: &str, expected: Option<&str>| {
                assert_eq!(mapped("", prefix, path).as_deref(), expected, "{prefix} {path}");
            };
            check("/keptn/controlPlane/v1", Some("http://shipyard-controller:8080/v1"));
            check("/keptn/controlPlane", Some("http://shipyard-controller:8080/"));
            check("/controlPlane/v1", None);
            check("/keptncontrolPlane/v1", None);
            check("/keptn", None);
        }
    }
}
