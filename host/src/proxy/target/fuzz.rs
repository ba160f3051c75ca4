//! Damaged paths: whatever a service asks for, the request goes to a host of the control plane, and below its path.

use super::*;

#[test]
fn no_path_leads_to_another_host() {
    let seeds: [&[u8]; 4] = [
        b"/controlPlane/v1/event?a=b",
        b"/mongodb-datastore/event",
        b"/resource-service/v1/project/p/resource/helm%2Fchart.tgz?gitCommitID=1",
        b"/controlPlane",
    ];
    for endpoint in ["", "http://keptn.example/api"] {
        let endpoint = ApiEndpoint::parse(endpoint).unwrap();
        let targets = Targets::new(&endpoint, "/", &Proxies::none()).unwrap();
        crate::fuzz::run(&seeds, |bytes| {
            // As it comes out of a request.
            let Ok(asked) = PathAndQuery::try_from(bytes) else {
                return false;
            };
            let Some((target, rest)) = targets.find(asked.path()) else {
                return false;
            };
            let Ok(uri) = target.uri(rest, asked.query()) else {
                return false;
            };
            assert_eq!(uri.authority(), Some(&target.authority));
            assert_eq!(uri.scheme(), Some(&target.scheme));
            assert!(uri.path().starts_with(&target.base_path), "{uri}");
            assert_eq!(uri.query(), asked.query());
            true
        });
    }
}
