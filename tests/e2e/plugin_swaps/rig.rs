//! What these tests are written with: a mounted `ConfigMap` with a plugin that tags every event, the real binary, and its
//! control listener.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;
use test_support::{ConfigMapVolume, DistributorProcess, HttpResponse, eventually, http_request};

use crate::harness::*;

/// What stands in the bytes of the tagging guest.
const BUILT_IN_TAG: &str = "built-in-tag-0000";

/// A distributor whose plugins come from a `ConfigMap`.
pub(super) struct Rig {
    pub(super) peers: Peers,
    pub(super) volume: ConfigMapVolume,
    pub(super) process: DistributorProcess,
    pub(super) control: SocketAddr,
}

impl Rig {
    /// Starts it with a plugin that gives this tag.
    pub(super) async fn tagging(tag: &str, variables: &[(&str, &str)]) -> Self {
        let mut volume = ConfigMapVolume::new().unwrap();
        volume.write(&tagging(tag)).unwrap();
        Self::with(volume, variables).await
    }

    pub(super) async fn with(volume: ConfigMapVolume, variables: &[(&str, &str)]) -> Self {
        let peers = Peers::start().await;
        let process = process(&peers, volume.path(), variables).await;
        let control = process.control_address(SOON).await.unwrap();
        Self {
            peers,
            volume,
            process,
            control,
        }
    }

    /// After its end, however that came.
    pub(super) async fn start_again(&mut self, variables: &[(&str, &str)]) {
        self.peers.wait_for_listening(ALL_TOPICS.1, 0).await;
        self.process = process(&self.peers, self.volume.path(), variables).await;
        self.control = self.process.control_address(SOON).await.unwrap();
    }

    /// Mounts a plugin that gives this tag, and waits until it is in force.
    pub(super) async fn swap_to(&mut self, tag: &str) {
        let before = self.generation().await;
        self.volume.write(&tagging(tag)).unwrap();
        self.wait_for_generation(before + 1).await;
    }

    /// `GET /plugins`
    pub(super) async fn status(&self) -> Value {
        status(self.control).await
    }

    pub(super) async fn generation(&self) -> u64 {
        self.status().await["generation"].as_u64().unwrap()
    }

    pub(super) async fn wait_for_generation(&self, generation: u64) {
        let result = eventually(SOON, async || self.generation().await == generation).await;
        let status = self.status().await;
        result.unwrap_or_else(|_| panic!("generation {generation} is expected: {status:#}"));
    }

    /// `POST` with the header that changes need.
    pub(super) async fn post(&self, path: &str) -> HttpResponse {
        post_to(self.control, path).await
    }

    /// The tag that an event gets now.
    pub(super) async fn tag(&self) -> String {
        let n_before = self.peers.recipient.n_received();
        self.peers.publish(&event(&format!("e-{n_before}"))).await;
        let delivered = self.peers.delivered(n_before + 1).await;
        let tag = delivered[n_before].json().unwrap()["tag"].take();
        tag.as_str().unwrap_or_default().to_owned()
    }

    /// The problems of the candidate that was refused, which has to be one.
    pub(super) async fn wait_for_refusal(&self) -> Vec<String> {
        let is_refused = async || self.status().await["degraded"] == true;
        eventually(SOON, is_refused).await.expect("the candidate is refused");
        texts(&self.status().await["refused"]["problems"])
    }

    /// Whatever was said about plugins that were refused.
    pub(super) fn refusals(&self) -> Vec<String> {
        lines_with(&self.process, "plugins not replaced")
    }
}

/// A distributor with this directory of plugins, which listens for whoever operates it.
pub(super) async fn process(peers: &Peers, plugins: &Path, variables: &[(&str, &str)]) -> DistributorProcess {
    let own = [
        ALL_TOPICS,
        ("PLUGINS_DIR", plugins.to_str().unwrap()),
        ("CONTROL_BIND", "127.0.0.1:0"),
    ];
    peers.process(&[&own, variables].concat()).await
}

pub(super) async fn status(control: SocketAddr) -> Value {
    let answer = http_request(control, "GET", "/plugins", &[], "").await.unwrap();
    assert_eq!(answer.status, 200);
    json(&answer.body)
}

pub(super) async fn post_to(control: SocketAddr, path: &str) -> HttpResponse {
    let headers = [("distributor-control", "1")];
    http_request(control, "POST", path, &headers, "").await.unwrap()
}

pub(super) fn texts(list: &Value) -> Vec<String> {
    let list = list.as_array().into_iter().flatten();
    list.map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// The files of a plugin that gives the tag of its configuration.
pub(super) fn tagging(tag: &str) -> Vec<(&'static str, Vec<u8>)> {
    let manifest = format!("{ENTRY}[plugin.config]\ntag = \"{tag}\"\n");
    vec![
        ("plugins.toml", manifest.into_bytes()),
        ("tagging.wasm", guest("guest_tagging.wasm")),
    ]
}

/// The files of a plugin that gives the tag of its bytes, which has to be as long as the original one.
pub(super) fn tagging_itself(tag: &str) -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("plugins.toml", ENTRY.as_bytes().to_vec()),
        ("tagging.wasm", component_tagging(tag)),
    ]
}

const ENTRY: &str = "[[plugin]]\nname = \"tagging\"\ncomponent = \"tagging.wasm\"\n";

fn component_tagging(tag: &str) -> Vec<u8> {
    assert_eq!(tag.len(), BUILT_IN_TAG.len());
    let mut component = guest("guest_tagging.wasm");
    let is_there = |bytes: &[u8]| bytes == BUILT_IN_TAG.as_bytes();
    let position = component.windows(tag.len()).position(is_there);
    let position = position.expect("the tag stands in the component");
    component[position..position + tag.len()].copy_from_slice(tag.as_bytes());
    component
}
