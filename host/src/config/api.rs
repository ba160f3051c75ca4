//! Where the services of a Keptn control plane are.

use std::fmt;

use url::Url;

use super::report::without_password;

/// The control plane this distributor belongs to.
#[derive(Clone, PartialEq, Eq)]
pub enum ApiEndpoint {
    /// The one in the same cluster, its services reached by name.
    InCluster,
    /// One somewhere else, behind this URL (without a slash at its end).
    Remote(Url),
}

/// A service of the control plane that is reached through the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiService {
    /// Past events.
    Datastore,
    /// Files of projects.
    Resources,
    /// Integrations, triggered events, projects.
    ControlPlane,
}

impl fmt::Debug for ApiEndpoint {
    /// Without the password that the URL may hold.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InCluster => formatter.write_str("InCluster"),
            Self::Remote(url) => write!(formatter, "Remote({})", without_password(url.as_str())),
        }
    }
}

impl ApiService {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Datastore, Self::Resources, Self::ControlPlane];

    /// First segment of its path behind the API gateway, and on the proxy.
    pub fn segment(self) -> &'static str {
        match self {
            Self::Datastore => "mongodb-datastore",
            Self::Resources => "resource-service",
            Self::ControlPlane => "controlPlane",
        }
    }

    fn in_cluster(self) -> &'static str {
        match self {
            Self::Datastore => "http://mongodb-datastore:8080/",
            Self::Resources => "http://resource-service:8080/",
            Self::ControlPlane => "http://shipyard-controller:8080/",
        }
    }
}

impl ApiEndpoint {
    /// Takes the value of `KEPTN_API_ENDPOINT`. It may name the control plane instead of the API, as the original's may.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::InCluster);
        }
        let text = text.trim_end_matches('/');
        let text = text.strip_suffix("/controlPlane").unwrap_or(text);
        let url = Url::parse(text.trim_end_matches('/')).map_err(|error| format!("is no URL: {error}"))?;
        match url.scheme() {
            "http" | "https" => Ok(Self::Remote(url)),
            scheme => Err(format!("has the scheme {scheme:?} instead of http or https")),
        }
    }

    /// Base URL of a service, with a slash at its end.
    pub fn base(&self, service: ApiService) -> String {
        match self {
            Self::InCluster => service.in_cluster().to_owned(),
            Self::Remote(url) => format!("{}/{}/", url.as_str().trim_end_matches('/'), service.segment()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_reached_by_name_in_the_cluster_and_below_the_endpoint_elsewhere() {
        let check = |endpoint: &str, service: ApiService, expected: &str| {
            assert_eq!(ApiEndpoint::parse(endpoint).unwrap().base(service), expected);
        };
        check("", ApiService::Datastore, "http://mongodb-datastore:8080/");
        check("", ApiService::Resources, "http://resource-service:8080/");
        check("", ApiService::ControlPlane, "http://shipyard-controller:8080/");
        check(
            "http://external-api.com/api",
            ApiService::Resources,
            "http://external-api.com/api/resource-service/",
        );
        check(
            "http://external-api.com/my/path/prefix/api/",
            ApiService::Resources,
            "http://external-api.com/my/path/prefix/api/resource-service/",
        );
        check(
            "https://my-keptn.com/api",
            ApiService::ControlPlane,
            "https://my-keptn.com/api/controlPlane/",
        );
        check(
            "https://my-keptn.com",
            ApiService::ControlPlane,
            "https://my-keptn.com/controlPlane/",
        );
        for endpoint in [
            "https://my-keptn.com/api/controlPlane",
            "https://my-keptn.com/api/controlPlane/",
        ] {
            check(
                endpoint,
                ApiService::ControlPlane,
                "https://my-keptn.com/api/controlPlane/",
            );
            check(
                endpoint,
                ApiService::Resources,
                "https://my-keptn.com/api/resource-service/",
            );
        }
        check(
            "https://my-keptn.com/notcontrolPlane",
            ApiService::ControlPlane,
            "https://my-keptn.com/notcontrolPlane/controlPlane/",
        );
    }

    #[test]
    fn an_endpoint_is_an_absolute_http_url() {
        let check = |endpoint: &str, valid: bool| {
            assert_eq!(ApiEndpoint::parse(endpoint).is_ok(), valid, "{endpoint:?}");
        };
        check("", true);
        check("http:1.2.3.4.nip.io/some-path", true);
        check("https://my-keptn.com/api/", true);
        check("d", false);
        check("foo", false);
        check("ssh://x", false);
        check(":///MALFORMED", false);
    }
}
