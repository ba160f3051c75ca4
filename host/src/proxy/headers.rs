//! Which headers go on to the other side.
//!
//! Called by [`super::Proxy`] for requests and answers. It must not know what they mean to anybody else.

use http::header::{
    CONNECTION, EXPECT, HOST, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue};

/// What concerns one connection only (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Takes out what the target must not see. `is_chunked`: nobody knows how long the body is.
pub(super) fn prepare_request(headers: &mut HeaderMap, is_chunked: bool) {
    remove_hop_by_hop(headers);
    // The client puts in that of the target.
    headers.remove(HOST);
    // Fulfilled here: the server says "continue" as soon as the body is wanted.
    headers.remove(EXPECT);
    if is_chunked {
        // Said, because the client takes a GET for one without a body otherwise.
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// Takes out what concerns the connection that the headers came over.
pub(super) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let values = headers.get_all(CONNECTION).iter();
        let values = values.filter_map(|value| value.to_str().ok());
        let named: Vec<_> = values
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse::<HeaderName>().ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let lines = lines.iter();
        lines
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn what_concerns_one_connection_stays_there() {
        let mut request = headers(&[
            ("host", "localhost:8081"),
            ("connection", "keep-alive, X-Hop"),
            ("connection", "close,, bad name,x-other-hop "),
            ("x-hop", "1"),
            ("x-other-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic YQ=="),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("expect", "100-continue"),
            ("trailer", "x-sum"),
            ("cookie", "a=1"),
            ("x-own", "1"),
            ("x-own", "2"),
        ]);
        prepare_request(&mut request, false);
        let kept = [("trailer", "x-sum"), ("cookie", "a=1"), ("x-own", "1"), ("x-own", "2")];
        assert_eq!(request, headers(&kept));
    }

    #[test]
    fn a_body_of_unknown_length_is_said_to_be_chunked() {
        let mut request = headers(&[("transfer-encoding", "gzip, chunked"), ("x-own", "1")]);
        prepare_request(&mut request, true);
        assert_eq!(request, headers(&[("transfer-encoding", "chunked"), ("x-own", "1")]));
    }
}
