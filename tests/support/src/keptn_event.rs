//! Events as a Keptn control plane sends them, as bytes.
//!
//! Called by tests, demo and benchmarks. It must not use the distributor's own event type: what is tested must not
//! write its own input. Members are in the order in which Keptn 1.x was seen to send them.

use bytes::Bytes;

/// A CloudEvent in JSON. Change what matters, then call [`to_bytes`](Self::to_bytes):
///
/// ```
/// use test_support::KeptnEvent;
/// let event = KeptnEvent { project: "sockshop".into(), ..KeptnEvent::triggered("deployment") };
/// assert!(event.to_bytes().starts_with(br#"{"specversion":"1.0","id":""#));
/// ```
#[derive(Clone, Debug)]
pub struct KeptnEvent {
    /// Attribute `id`.
    pub id: String,
    /// Attribute `source`.
    pub source: String,
    /// Attribute `type`; on NATS also the subject.
    pub ty: String,
    /// `data.project`.
    pub project: String,
    /// `data.stage`.
    pub stage: String,
    /// `data.service`.
    pub service: String,
    /// Extension `shkeptncontext`: the run that the event belongs to.
    pub keptn_context: String,
    /// Extension `triggeredid`: the event that this one answers.
    pub triggered_id: String,
    /// The size of the JSON text, where the event is not larger by itself (about 600 bytes). It is filled up as Keptn's
    /// large events are, with results of an evaluation: many small members, not one long string.
    pub size_bytes: usize,
}

impl KeptnEvent {
    /// `sh.keptn.event.<task>.triggered`.
    #[must_use]
    pub fn triggered(task: &str) -> Self {
        Self::of_type(&format!("sh.keptn.event.{task}.triggered"))
    }

    /// An event of any type.
    #[must_use]
    pub fn of_type(ty: &str) -> Self {
        Self {
            id: "b22401a3-9def-4e3f-b228-289300caf6e9".into(),
            source: "shipyard-controller".into(),
            ty: ty.into(),
            project: "sockshop".into(),
            stage: "dev".into(),
            service: "carts".into(),
            keptn_context: "27665275-d285-4a5c-b9ee-a3fb072fbb41".into(),
            triggered_id: String::new(),
            size_bytes: 0,
        }
    }

    /// The event in structured mode.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let before_results = format!(
            concat!(
                r#"{{"specversion":"1.0","id":{},"source":{},"type":{},"datacontenttype":"application/json","#,
                r#""time":"2026-11-22T14:47:44.255020602Z","data":{{"project":{},"stage":{},"service":{},"#,
                r#""labels":{{"buildId":"build-17","owner":"team-a"}},"status":"succeeded","result":"pass","#,
                r#""evaluation":{{"indicatorResults":["#
            ),
            quoted(&self.id),
            quoted(&self.source),
            quoted(&self.ty),
            quoted(&self.project),
            quoted(&self.stage),
            quoted(&self.service),
        );
        let after_comment = format!(
            concat!(
                r#""}}}},"shkeptncontext":{},"shkeptnspecversion":"0.2.4","triggeredid":{},"#,
                r#""gitcommitid":"70f22e3dd9f4e5d16d76494ef5003513895b76f9"}}"#
            ),
            quoted(&self.keptn_context),
            quoted(&self.triggered_id),
        );
        let before_comment = r#"],"comment":""#;

        let base = before_results.len() + before_comment.len() + after_comment.len();
        let to_fill = self.size_bytes.saturating_sub(base);
        // A comma stands between two results, so n of them take n * (length + 1) - 1.
        let n_results = (to_fill + 1) / (RESULT.len() + 1);
        let results = vec![RESULT; n_results].join(",");
        let comment = "x".repeat(to_fill - results.len());

        [
            &before_results,
            results.as_str(),
            before_comment,
            &comment,
            &after_comment,
        ]
        .concat()
        .into()
    }
}

/// One result of an evaluation, as Keptn's lighthouse service reports it.
const RESULT: &str = concat!(
    r#"{"displayName":"Response time P95","keySli":false,"passTargets":"#,
    r#"[{"criteria":"<=+10%","targetValue":629.2,"violated":false}],"score":1,"status":"pass","#,
    r#""value":{"comparedValue":572.1,"metric":"response_time_p95","success":true,"value":580.4}}"#
);

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_valid_json_of_exactly_the_size_asked_for() {
        let odd = KeptnEvent {
            project: "a \"b\"".into(),
            ..KeptnEvent::triggered("deployment")
        };
        let smallest = odd.to_bytes().len();
        for size_bytes in [0, smallest, smallest + 1, 1024, 32 * 1024] {
            let bytes = KeptnEvent {
                size_bytes,
                ..odd.clone()
            }
            .to_bytes();
            assert_eq!(bytes.len(), size_bytes.max(smallest));
            let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(json["data"]["project"], "a \"b\"");
        }
    }
}
