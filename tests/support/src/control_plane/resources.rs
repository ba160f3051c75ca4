//! Files of projects, as the resource service keeps them.
//!
//! Called by `mod`. It must not know what is in a file.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::answer::Answer;
use super::ids::sha1;
use super::target::{Target, decoded};
use super::uniform::malformed;

/// Contents in base64, by the path of what they belong to and their own, both without any escapes.
#[derive(Debug, Default)]
pub(super) struct Resources(BTreeMap<(String, String), String>);

impl Resources {
    pub(super) fn answer(&mut self, method: &str, target: &Target, body: &[u8]) -> Answer {
        let Some((owner, uri)) = target.path.split_once("/resource") else {
            return Answer::text(404, "text/plain", "404 page not found");
        };
        let project = target.segments().get(2).cloned().unwrap_or_default();
        let uri = uri.trim_start_matches('/');
        // The gateway has resolved one layer of escapes, where there is a gateway.
        let shown = if target.is_remote {
            decoded(uri, false)
        } else {
            uri.to_owned()
        };
        let key = (owner.to_owned(), decoded(&shown, true));
        match method {
            "GET" => match self.0.get(&key) {
                Some(content) => Answer::json(
                    200,
                    &json!({
                        "resourceContent": content,
                        "resourceURI": shown,
                        "metadata": metadata(&project, content),
                    }),
                ),
                None => Answer::error(404, "Resource not found"),
            },
            "PUT" | "POST" => self.store(method, &project, &key, body),
            "DELETE" => {
                self.0.remove(&key);
                Answer::json(200, &commit(&project, &key.1))
            }
            _ => Answer::text(404, "text/plain", "404 page not found"),
        }
    }

    fn store(&mut self, method: &str, project: &str, key: &(String, String), body: &[u8]) -> Answer {
        let sent = match serde_json::from_slice::<Value>(body) {
            Ok(sent) => sent,
            Err(error) => return malformed(body, &error),
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut last = text(&sent["resourceContent"]);
        match sent["resources"].as_array() {
            Some(resources) => {
                for resource in resources {
                    last = text(&resource["resourceContent"]);
                    let key = (key.0.clone(), text(&resource["resourceURI"]));
                    self.0.insert(key, last.clone());
                }
            }
            None => {
                self.0.insert(key.clone(), last.clone());
            }
        }
        let status = if method == "POST" { 201 } else { 200 };
        Answer::json(status, &commit(project, &last))
    }

    /// Puts a file where a test wants one.
    pub(super) fn put(&mut self, owner: &str, uri: &str, content: &str) {
        self.0.insert((owner.to_owned(), uri.to_owned()), content.to_owned());
    }
}

fn commit(project: &str, content: &str) -> Value {
    json!({ "commitID": sha1(content), "metadata": metadata(project, content) })
}

fn metadata(project: &str, content: &str) -> Value {
    json!({ "upstreamURL": format!("http://git-server:3000/{project}.git"), "version": sha1(content) })
}
