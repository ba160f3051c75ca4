//! Damaged events: what is taken for one is JSON to others as well, and stays the same on its way.

use bytes::Bytes;
use serde_json::Value;

use super::*;
use crate::delivery::Outgoing;

const SEEDS: [&[u8]; 3] = [
    br#"{"specversion":"1.0","id":"1","source":"s","type":"sh.keptn.event.a.triggered","shkeptncontext":"c","triggeredid":"t","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","tracestate":"a=b","data":{"project":"p","stage":"s","service":"v","labels":{"a":"b","n":1},"temporaryData":{"distributor":{"subscriptionID":"x"}}}}"#,
    br#"{"data":null,"type":"t","source":"\u00fc\ud83d\ude00","id":"\"","specversion":"0.3"}"#,
    br#"{"id":"1","source":"s","type":"sh.keptn.x","specversion":"1.0","data_base64":"AAE=","x":[1.5e3,{"y":[]}]}"#,
];

#[test]
fn an_event_is_json_and_so_is_what_the_service_gets() {
    crate::fuzz::run(&SEEDS, |bytes| {
        let Ok(event) = Event::parse(Bytes::copy_from_slice(bytes)) else {
            return false;
        };
        assert_eq!(event.bytes(), bytes);
        let _ = (
            event.labels(),
            event.members(),
            event.project(),
            event.stage(),
            event.service(),
        );
        let _ = crate::trace::TraceContext::of_event(&event);
        // Numbers that no type can hold, and lone surrogates, are JSON, but not to this reader.
        let Ok(Value::Object(original)) = serde_json::from_slice(bytes) else {
            return true;
        };
        assert_eq!(event.id(), original["id"].as_str().unwrap_or_default());
        assert_eq!(event.ty(), original["type"].as_str().unwrap_or_default());
        let outgoing = Outgoing::new(&event);
        let body = outgoing.body(Some("sub\"1")).concatenated();
        let delivered: Value = serde_json::from_slice(&body).unwrap();
        if outgoing.can_be_marked() {
            let marked = &delivered["data"]["temporaryData"]["distributor"]["subscriptionID"];
            assert_eq!(marked, "sub\"1", "{}", String::from_utf8_lossy(&body));
        }
        for (name, value) in &original {
            assert!(name == "data" || delivered[name] == *value, "{name}");
        }
        true
    });
}

#[test]
fn a_batch_is_split_into_its_elements() {
    let batch = [&b"["[..], SEEDS[0], b" , ", SEEDS[1], b",[],1]"].concat();
    crate::fuzz::run(&[&batch, b"[]"], |bytes| {
        let Ok(elements) = split_batch(&Bytes::copy_from_slice(bytes)) else {
            return false;
        };
        if let Ok(Value::Array(expected)) = serde_json::from_slice(bytes) {
            assert_eq!(elements.len(), expected.len());
        }
        true
    });
}

#[test]
fn an_event_of_the_api_is_one_for_the_service() {
    let seed = br#"{"contenttype":"application/json","data":{"project":"p"},"id":"1","shkeptncontext":"c","shkeptnspecversion":"0.2.4","source":"s","specversion":"1.0","time":"2026-11-22T14:47:44.255Z","triggeredid":"t","type":"sh.keptn.event.a.triggered","gitcommitid":"g"}"#;
    crate::fuzz::run(&[seed], |bytes| {
        from_api_form(&Bytes::copy_from_slice(bytes)).is_ok_and(|event| Event::parse(event).is_ok())
    });
}
