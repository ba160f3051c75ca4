//! The checks of the API where its event validation is switched on.
//!
//! Called by `events`. It must not know what becomes of an event.

use serde_json::Value;

/// Why the API refuses an event, if it does.
pub(super) fn invalid(event: &Value) -> Option<String> {
    let ty = event["type"].as_str().unwrap_or_default();
    let parts: Vec<_> = ty.split('.').collect();
    let message = match parts.as_slice() {
        ["sh", "keptn", "log", "error"]
        | ["sh", "keptn", "events", "problem"]
        | ["sh", "keptn", "event", _, "invalidated"] => return None,
        ["sh", "keptn", "event", _, kind @ ("started" | "finished")] => {
            return invalid_task(event, kind).map(str::to_owned);
        }
        ["sh", "keptn", "event", stage, _, "triggered"] => return invalid_sequence(event, stage).map(str::to_owned),
        ["sh", "keptn", "event", _, action] | ["sh", "keptn", "event", _, _, action] => {
            format!("unknown event type action: {action}")
        }
        _ => "unknown event type".to_owned(),
    };
    Some(message)
}

fn invalid_task(event: &Value, kind: &str) -> Option<&'static str> {
    without_scope(event).or_else(|| match kind {
        "finished" if is_missing(event, "/data/result") => Some("result field is not set"),
        "finished" if is_missing(event, "/data/status") => Some("status field is not set"),
        _ if is_missing(event, "/triggeredid") => Some("mandatory field 'triggeredid' missing"),
        _ => None,
    })
}

fn invalid_sequence(event: &Value, stage: &str) -> Option<&'static str> {
    let is_another = event["data"]["stage"] != *stage;
    without_scope(event).or(is_another.then_some("stage name in event data and in event type does not match"))
}

fn without_scope(event: &Value) -> Option<&'static str> {
    let mut scope = ["/data/project", "/data/stage", "/data/service"].into_iter();
    let has_none = scope.any(|pointer| is_missing(event, pointer));
    has_none.then_some("mandatory field(s) 'project', 'stage' or 'service' missing")
}

fn is_missing(event: &Value, pointer: &str) -> bool {
    let text = event.pointer(pointer).and_then(Value::as_str);
    text.is_none_or(str::is_empty)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_api_refuses_what_its_validation_refuses() {
        let data = json!({ "project": "p", "stage": "dev", "service": "s", "status": "succeeded", "result": "pass" });
        let event = |ty: &str| json!({ "type": ty, "source": "s", "triggeredid": "1", "data": data });
        let check = |event: &Value, expected: Option<&str>| assert_eq!(invalid(event).as_deref(), expected, "{event}");
        for ty in [
            "sh.keptn.event.build.started",
            "sh.keptn.event.build.finished",
            "sh.keptn.event.dev.delivery.triggered",
            "sh.keptn.log.error",
        ] {
            check(&event(ty), None);
        }
        check(&event("other"), Some("unknown event type"));
        check(
            &event("sh.keptn.event.build.triggered"),
            Some("unknown event type action: triggered"),
        );
        check(
            &event("sh.keptn.event.prod.delivery.triggered"),
            Some("stage name in event data and in event type does not match"),
        );
        let mut finished = event("sh.keptn.event.build.finished");
        finished["triggeredid"] = "".into();
        check(&finished, Some("mandatory field 'triggeredid' missing"));
        finished["data"]["result"] = Value::Null;
        check(&finished, Some("result field is not set"));
        finished["data"]["stage"] = "".into();
        check(
            &finished,
            Some("mandatory field(s) 'project', 'stage' or 'service' missing"),
        );
    }
}
