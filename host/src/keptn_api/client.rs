//! The HTTP client for calls to the Keptn API and to the identity provider.
//!
//! Made by [`super`] and `oauth`. It follows no redirects: a token is for one host only.

use std::error::Error;
use std::net::IpAddr;

use reqwest::{Client, redirect};
use url::{Host, Url};

use crate::tls::{self, Trust};

/// A client for one host. `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` are honoured, but never for this machine, as in the
/// original.
pub(super) fn new(target: Option<&Url>, trust: Trust) -> Result<Client, reqwest::Error> {
    let client = Client::builder()
        .redirect(redirect::Policy::none())
        .tls_backend_preconfigured(tls::client_config(trust));
    if target.is_some_and(is_this_machine) {
        client.no_proxy().build()
    } else {
        client.build()
    }
}

fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        None => false,
    }
}

/// Why there was no answer. The innermost reason: the others only say that a request failed, and to which URL.
pub(crate) fn reason(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let error = error.without_url();
    let mut reason: &dyn Error = &error;
    while let Some(source) = reason.source() {
        reason = source;
    }
    reason.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_and_addresses_of_this_machine_are_this_machine() {
        let check = |url: &str, expected: bool| assert_eq!(is_this_machine(&url.parse().unwrap()), expected, "{url}");
        check("http://localhost:8080/a", true);
        check("https://LOCALHOST", true);
        check("http://127.0.0.1", true);
        check("http://127.8.9.10:1", true);
        check("http://[::1]:1", true);
        check("http://localhost.example", false);
        check("http://10.0.0.1", false);
        check("http://shipyard-controller:8080", false);
    }
}
