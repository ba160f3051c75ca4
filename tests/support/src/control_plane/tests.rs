use std::time::Duration;

use serde_json::json;

use super::*;
use crate::{HttpResponse, KeptnEvent, eventually, http_request};

const SOON: Duration = Duration::from_secs(20);
const REGISTRATION: &str = "/api/controlPlane/v1/uniform/registration";

async fn call(control_plane: &ControlPlane, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let answer = http_request(control_plane.address(), method, path, &[], body).await;
    let HttpResponse { status, body, .. } = answer.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

fn integration(name: &str, topics: &[&str]) -> Value {
    let subscriptions = topics
        .iter()
        .map(|topic| json!({ "id": "", "event": topic, "filter": {} }));
    json!({
        "name": name,
        "metadata": { "hostname": "node", "kubernetesmetadata": { "namespace": "keptn" } },
        "subscriptions": subscriptions.collect::<Vec<_>>(),
    })
}

async fn register(control_plane: &ControlPlane, name: &str, topics: &[&str]) -> String {
    let (_, answer) = call(control_plane, "POST", REGISTRATION, &integration(name, topics)).await;
    answer["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_integration_that_is_known_keeps_its_subscriptions() {
    let control_plane = ControlPlane::start().await.unwrap();
    let id = register(&control_plane, "svc", &["a"]).await;
    assert_eq!(register(&control_plane, "svc", &["b", "c"]).await, id);
    let known = control_plane.wait_for_integration("svc", SOON).await.unwrap();
    assert_eq!(known.subscriptions[0]["event"], "a");
    assert!(ids::is_id(known.subscriptions[0]["id"].as_str().unwrap()));

    // Without any, those of the new registration are taken, and get no ids.
    control_plane.set_subscriptions(&id, json!([])).unwrap();
    register(&control_plane, "svc", &["b"]).await;
    let (status, pinged) = call(
        &control_plane,
        "PUT",
        &format!("{REGISTRATION}/{id}/ping"),
        &Value::Null,
    )
    .await;
    assert_eq!((status, &pinged["subscriptions"][0]["id"]), (200, &json!("")));

    control_plane.forget(&id);
    let (status, _) = call(
        &control_plane,
        "PUT",
        &format!("{REGISTRATION}/{id}/ping"),
        &Value::Null,
    )
    .await;
    assert_eq!(status, 404);
    let (status, _) = call(&control_plane, "POST", REGISTRATION, &integration("", &[])).await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn subscriptions_are_added_changed_and_removed() {
    let control_plane = ControlPlane::start().await.unwrap();
    let id = register(&control_plane, "svc", &[]).await;
    let list = format!("{REGISTRATION}/{id}/subscription");
    let wanted = |event: &str| json!({ "event": event, "filter": { "projects": ["p"] } });

    let (status, created) = call(&control_plane, "POST", &list, &wanted("a")).await;
    assert_eq!(status, 201);
    let one = format!("{list}/{}", created["id"].as_str().unwrap());
    assert_eq!(
        call(&control_plane, "PUT", &one, &wanted("b")).await,
        (201, created.clone())
    );
    let stored = json!({
        "id": created["id"],
        "event": "b",
        "filter": { "projects": ["p"], "stages": null, "services": null },
    });
    assert_eq!(
        call(&control_plane, "GET", &one, &Value::Null).await,
        (200, stored.clone())
    );
    assert_eq!(
        call(&control_plane, "GET", &list, &Value::Null).await,
        (200, json!([stored]))
    );
    assert_eq!(
        call(&control_plane, "DELETE", &one, &Value::Null).await,
        (200, json!({}))
    );
    assert_eq!(call(&control_plane, "GET", &one, &Value::Null).await.0, 404);
    let project = format!("{REGISTRATION}?project=p");
    assert_eq!(
        call(&control_plane, "GET", &project, &Value::Null).await,
        (200, json!([]))
    );
    assert_eq!(
        call(&control_plane, "DELETE", &format!("{REGISTRATION}/{id}"), &Value::Null).await,
        (200, json!({}))
    );
    assert!(control_plane.integrations().is_empty());
}

#[tokio::test]
async fn only_the_gateway_asks_for_credentials() {
    let control_plane = ControlPlane::start().await.unwrap();
    control_plane.require_token("tok");
    control_plane.require_bearer(&["one", "two"]);
    let ask = async |host: &str, headers: &[(&str, &str)]| {
        let path = if host.is_empty() {
            "/api/controlPlane/v1/log"
        } else {
            "/v1/log"
        };
        let mut headers = headers.to_vec();
        if !host.is_empty() {
            headers.push(("host", host));
        }
        let answer = http_request(control_plane.address(), "GET", path, &headers, "").await;
        answer.unwrap().status
    };
    assert_eq!(ask("shipyard-controller:8080", &[]).await, 200);
    assert_eq!(ask("", &[]).await, 401);
    assert_eq!(ask("", &[("x-token", "tok")]).await, 401);
    assert_eq!(
        ask("", &[("x-token", "tok"), ("authorization", "Bearer two")]).await,
        200
    );
    assert_eq!(
        ask("", &[("x-token", "other"), ("authorization", "Bearer two")]).await,
        401
    );
}

#[tokio::test]
async fn tokens_are_for_clients_that_show_their_credentials_and_count_for_a_while() {
    let control_plane = ControlPlane::start().await.unwrap();
    let ask = async |header: &str, body: &str| {
        let headers = [("authorization", header)];
        let headers = if header.is_empty() { &[][..] } else { &headers };
        let answer = http_request(control_plane.address(), "POST", "/token", headers, body.to_owned()).await;
        let answer = answer.unwrap();
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        (answer.status, body)
    };
    let enters = async |token: &Value| {
        let bearer = format!("Bearer {}", token["access_token"].as_str().unwrap());
        let headers = [("authorization", bearer.as_str())];
        let answer = http_request(control_plane.address(), "GET", "/api/controlPlane/v1/log", &headers, "").await;
        answer.unwrap().status == 200
    };
    let grant = "grant_type=client_credentials";
    assert_eq!(ask("", grant).await.0, 401);
    control_plane.require_oauth("id:1", "s", Duration::from_secs(1));
    assert_eq!(
        ask("", &format!("{grant}&client_id=id%3A1&client_secret=t")).await.0,
        401
    );
    assert_eq!(ask("Basic aWQlM0ExOnM=", "grant_type=password").await.0, 400);

    let (_, in_body) = ask("", &format!("{grant}&client_id=id%3A1&client_secret=s")).await;
    assert!(enters(&in_body).await);
    control_plane.revoke_tokens();
    assert!(!enters(&in_body).await);
    let (_, in_header) = ask("Basic aWQlM0ExOnM=", &format!("{grant}&scope=a+b")).await;
    assert_eq!(
        (&in_header["expires_in"], &in_header["scope"]),
        (&json!(1), &json!("a b"))
    );
    assert!(enters(&in_header).await);
    let expired = eventually(SOON, async || !enters(&in_header).await).await;
    expired.unwrap();

    let discovery = "/.well-known/openid-configuration";
    let (status, document) = call(&control_plane, "GET", discovery, &Value::Null).await;
    assert_eq!(
        (status, &document["token_endpoint"]),
        (200, &json!(control_plane.token_url()))
    );
}

#[tokio::test]
async fn what_goes_wrong_is_scripted_for_each_kind_of_call() {
    let control_plane = ControlPlane::start().await.unwrap();
    let log = "/api/controlPlane/v1/log";
    let entry = json!({ "logs": [{ "message": "m", "time": "0001-01-01T00:00:00Z" }] });
    control_plane.fail_times(Route::Log, 1, Fault::Html(502));
    assert_eq!(call(&control_plane, "POST", log, &entry).await, (502, Value::Null));
    assert_eq!(call(&control_plane, "POST", log, &entry).await, (200, json!({})));
    let logs = control_plane.wait_for_logs(1, SOON).await.unwrap();
    assert!(logs[0]["time"].as_str().unwrap().starts_with("20"), "{logs:?}");

    for fault in [Fault::Close, Fault::LoseAnswer] {
        control_plane.fail(Route::Log, fault);
        let answer = http_request(control_plane.address(), "POST", log, &[], entry.to_string()).await;
        assert!(answer.is_err());
    }
    assert_eq!(control_plane.logs().len(), 2, "only the answer was lost");
    control_plane.fail(Route::Log, Fault::Hang);
    let hanging = call(&control_plane, "POST", log, &entry);
    let arrived = control_plane.wait_for_requests(Route::Log, 5, SOON);
    tokio::select! {
        _ = hanging => panic!("it was to hang"),
        arrived = arrived => assert_eq!(arrived.unwrap()[4].status, None),
    }
    control_plane.heal(Route::Log);
    assert_eq!(call(&control_plane, "POST", log, &entry).await.0, 200);
    let (status, _) = call(&control_plane, "GET", "/api/nowhere", &Value::Null).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn open_events_are_listed_newest_first_and_only_the_first_page_can_be_had() {
    let control_plane = ControlPlane::start().await.unwrap();
    let event = |number: usize| KeptnEvent {
        id: number.to_string(),
        stage: if number.is_multiple_of(2) { "even" } else { "odd" }.into(),
        ..KeptnEvent::triggered("build")
    };
    control_plane.open_events((0..45).map(event));
    let page = async |query: &str| {
        let path = format!("/api/controlPlane/v1/event/triggered/sh.keptn.event.build.triggered{query}");
        let (status, page) = call(&control_plane, "GET", &path, &Value::Null).await;
        assert_eq!(status, 200);
        let ids = page["events"].as_array().unwrap().iter();
        let ids: Vec<usize> = ids
            .map(|event| event["id"].as_str().unwrap().parse().unwrap())
            .collect();
        (
            ids,
            page["nextPageKey"].as_str().unwrap().to_owned(),
            page["totalCount"].as_u64(),
        )
    };
    let first: Vec<_> = (25..45).rev().collect();
    assert_eq!(page("").await, (first.clone(), "20".into(), Some(45)));
    assert_eq!(page("?nextPageKey=20").await, (first.clone(), "40".into(), Some(45)));
    assert_eq!(
        page("?nextPageKey=40").await,
        (first[..5].to_vec(), "0".into(), Some(45))
    );
    assert_eq!(page("?pageSize=1000").await.0.len(), 45);
    assert_eq!(page("?project=sockshop&stage=odd&service=carts").await.2, Some(22));
    assert_eq!(page("?eventID=7&pageSize=20").await.0, [7]);
    control_plane.close_event("7");
    assert_eq!(page("?eventID=7").await, (vec![], "0".into(), None));
    assert_eq!(control_plane.n_open_events(), 44);
}

#[tokio::test]
async fn files_are_found_whatever_layers_of_escapes_are_around_their_names() {
    let control_plane = ControlPlane::start().await.unwrap();
    let owner = "/api/resource-service/v1/project/p/resource";
    let content = json!({ "resources": [{ "resourceURI": "helm/my chart.tgz", "resourceContent": "aGVsbG8=" }] });
    assert_eq!(call(&control_plane, "PUT", owner, &content).await.0, 200);
    for escaped in [
        "helm%252Fmy+chart.tgz",
        "helm%2Fmy+chart.tgz",
        "helm%252Fmy%2520chart.tgz",
    ] {
        let (status, answer) = call(&control_plane, "GET", &format!("{owner}/{escaped}"), &Value::Null).await;
        assert_eq!(
            (status, &answer["resourceContent"]),
            (200, &json!("aGVsbG8=")),
            "{escaped}"
        );
    }
    assert_eq!(
        call(&control_plane, "GET", &format!("{owner}/other"), &Value::Null)
            .await
            .0,
        404
    );
}

#[tokio::test]
async fn a_sequence_runs_through_the_api_alone() {
    let control_plane = ControlPlane::start().await.unwrap();
    let context = control_plane
        .trigger_sequence("p", &["dev", "prod"], &["build", "verify"], "svc")
        .await;
    for task in ["build", "verify", "build", "verify"] {
        let path = format!("/api/controlPlane/v1/event/triggered/sh.keptn.event.{task}.triggered?project=p");
        let (_, page) = call(&control_plane, "GET", &path, &Value::Null).await;
        let open = &page["events"][0];
        for kind in ["started", "finished"] {
            let mut answer = open.clone();
            answer["type"] = format!("sh.keptn.event.{task}.{kind}").into();
            answer["source"] = "svc".into();
            answer["triggeredid"] = open["id"].clone();
            answer["data"]["status"] = "succeeded".into();
            let answered = call(&control_plane, "POST", "/api/v1/event", &answer).await;
            assert_eq!(answered, (200, json!({ "keptnContext": context })));
        }
    }
    let state = control_plane.wait_for_state(&context, "finished", SOON).await.unwrap();
    assert_eq!(state["stages"][1]["state"], "succeeded");
    assert_eq!(
        (control_plane.n_open_events(), control_plane.sent_events().len()),
        (0, 8)
    );
    let (_, stored) = call(
        &control_plane,
        "GET",
        "/api/mongodb-datastore/event?project=p&pageSize=3",
        &Value::Null,
    )
    .await;
    assert_eq!(
        (&stored["totalCount"], &stored["nextPageKey"]),
        (&json!(16), &json!("3"))
    );
}
