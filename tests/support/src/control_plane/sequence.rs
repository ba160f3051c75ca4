//! Sequences of tasks, as the shipyard controller runs them: one task after the other, one stage after the other.
//!
//! Called by `store`. It must not know how events travel: it is given events, and says which ones follow.

use serde_json::{Map, Value, json};

use super::ids::{new_id, now, now_millis, sha1};

/// What a sequence is called that was started by a test.
const NAME: &str = "delivery";

/// What follows from an event.
#[derive(Debug, Default)]
pub(super) struct Next {
    /// The event that is not open any more.
    pub(super) closed: Option<String>,
    /// To be published, in this order.
    pub(super) events: Vec<Value>,
    /// The last one of `events` is a task.
    pub(super) opens: bool,
}

/// One run, over all its stages.
#[derive(Debug)]
pub(super) struct Sequence {
    project: String,
    service: String,
    context: String,
    stages: Vec<String>,
    tasks: Vec<String>,
    triggered_at: String,
    stage_states: Vec<StageState>,
    /// Stage and task that run now.
    position: (usize, usize),
    current: Option<Task>,
    /// Id of the event that started the stage.
    stage_id: String,
    /// What tasks are given: what the ones before have left in `data`.
    data: Map<String, Value>,
    is_finished: bool,
}

#[derive(Debug)]
struct StageState {
    name: String,
    state: String,
    latest_event: Value,
}

#[derive(Debug, Default)]
struct Task {
    triggered_id: String,
    n_started: usize,
    n_finished: usize,
    has_failed: bool,
}

impl Sequence {
    /// A new run, and its first events: that of the stage and that of the task.
    pub(super) fn start(project: &str, stages: &[&str], tasks: &[&str], service: &str) -> (Self, Next) {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let mut sequence = Self {
            project: project.to_owned(),
            service: service.to_owned(),
            context: new_id(),
            stages: owned(stages),
            tasks: owned(tasks),
            triggered_at: now_millis(),
            stage_states: Vec::new(),
            position: (0, 0),
            current: None,
            stage_id: String::new(),
            data: Map::new(),
            is_finished: false,
        };
        let mut next = Next::default();
        sequence.start_stage(&mut next);
        (sequence, next)
    }

    pub(super) fn context(&self) -> &str {
        &self.context
    }

    /// The state as the control plane shows it.
    pub(super) fn state(&self) -> Value {
        let stages = self
            .stage_states
            .iter()
            .map(|stage| json!({ "name": stage.name, "state": stage.state, "latestEvent": stage.latest_event }));
        json!({
            "name": NAME,
            "service": self.service,
            "project": self.project,
            "time": self.triggered_at,
            "shkeptncontext": self.context,
            "state": if self.is_finished { "finished" } else { "started" },
            "stages": stages.collect::<Vec<_>>(),
        })
    }

    /// A service has started or finished a task. A task is over when as many services have finished as have started.
    pub(super) fn progress(&mut self, event: &Value) -> Next {
        let mut next = Next::default();
        let Some(current) = &mut self.current else { return next };
        if event["shkeptncontext"] != *self.context || event["triggeredid"] != *current.triggered_id {
            return next;
        }
        match event["type"].as_str().and_then(|ty| ty.rsplit('.').next()) {
            Some("started") => current.n_started += 1,
            Some("finished") => {
                current.n_finished += 1;
                let data = &event["data"];
                current.has_failed |= data["status"] == "errored" || data["result"] == "fail";
                for (name, value) in data.as_object().into_iter().flatten() {
                    self.data.insert(name.clone(), value.clone());
                }
            }
            _ => return next,
        }
        self.latest_event(event);
        let Some(task) = self
            .current
            .take_if(|task| task.n_finished > 0 && task.n_finished == task.n_started)
        else {
            return next;
        };
        next.closed = Some(task.triggered_id);
        self.position.1 += 1;
        if !task.has_failed && self.position.1 < self.tasks.len() {
            self.start_task(&mut next);
        } else {
            self.finish_stage(task.has_failed, &mut next);
        }
        next
    }

    fn start_stage(&mut self, next: &mut Next) {
        let Some(stage) = self.stages.get(self.position.0) else {
            self.is_finished = true;
            return;
        };
        let stage = stage.clone();
        for (name, value) in [
            ("project", &self.project),
            ("stage", &stage),
            ("service", &self.service),
        ] {
            self.data.insert(name.to_owned(), value.as_str().into());
        }
        let event = self.event(&format!("sh.keptn.event.{stage}.{NAME}.triggered"), "");
        event["id"].as_str().unwrap_or_default().clone_into(&mut self.stage_id);
        self.stage_states.push(StageState {
            name: stage,
            state: "triggered".to_owned(),
            latest_event: Value::Null,
        });
        self.latest_event(&event);
        next.events.push(event);
        if self.tasks.is_empty() {
            self.finish_stage(false, next);
        } else {
            self.start_task(next);
        }
    }

    fn start_task(&mut self, next: &mut Next) {
        let ty = format!("sh.keptn.event.{}.triggered", self.tasks[self.position.1]);
        let event = self.event(&ty, "");
        self.current = Some(Task {
            triggered_id: event["id"].as_str().unwrap_or_default().to_owned(),
            ..Task::default()
        });
        self.latest_event(&event);
        next.events.push(event);
        next.opens = true;
    }

    fn finish_stage(&mut self, has_failed: bool, next: &mut Next) {
        let state = if has_failed { "errored" } else { "succeeded" };
        let ty = format!("sh.keptn.event.{}.{NAME}.finished", self.stages[self.position.0]);
        let event = self.event(&ty, &self.stage_id);
        self.latest_event(&event);
        if let Some(stage) = self.stage_states.last_mut() {
            state.clone_into(&mut stage.state);
        }
        next.events.push(event);
        self.position = (self.position.0 + 1, 0);
        if has_failed {
            self.is_finished = true;
        } else {
            self.start_stage(next);
        }
    }

    fn event(&self, ty: &str, triggered_id: &str) -> Value {
        let mut event = json!({
            "specversion": "1.0",
            "id": new_id(),
            "source": "shipyard-controller",
            "type": ty,
            "datacontenttype": "application/json",
            "time": now(),
            "data": self.data,
            "shkeptncontext": self.context,
            "shkeptnspecversion": "0.2.4",
        });
        if triggered_id.is_empty() {
            event["gitcommitid"] = sha1(&self.data["stage"].to_string()).into();
        } else {
            event["triggeredid"] = triggered_id.into();
        }
        event
    }

    fn latest_event(&mut self, event: &Value) {
        if let Some(stage) = self.stage_states.last_mut() {
            stage.latest_event = json!({ "type": event["type"], "id": event["id"], "time": now_millis() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(triggered: &Value, kind: &str, data: &Value) -> Value {
        let ty = triggered["type"].as_str().unwrap().replace("triggered", kind);
        json!({
            "type": ty,
            "id": "1",
            "shkeptncontext": triggered["shkeptncontext"],
            "triggeredid": triggered["id"],
            "data": data,
        })
    }

    fn types(next: &Next) -> Vec<&str> {
        next.events
            .iter()
            .map(|event| event["type"].as_str().unwrap())
            .collect()
    }

    #[test]
    fn runs_every_task_of_every_stage_and_carries_data_on() {
        let (mut sequence, mut next) = Sequence::start("p", &["dev", "prod"], &["build", "verify"], "s");
        let mut seen = Vec::new();
        while let Some(task) = next.events.last().filter(|_| next.opens).cloned() {
            seen.push(task.clone());
            assert_eq!(sequence.progress(&answer(&task, "started", &json!({}))).events.len(), 0);
            assert_eq!(sequence.state()["state"], "started");
            next = sequence.progress(&answer(
                &task,
                "finished",
                &json!({ "n": seen.len(), "status": "succeeded" }),
            ));
            assert_eq!(next.closed.as_deref(), task["id"].as_str());
        }
        let tasks: Vec<_> = seen
            .iter()
            .map(|task| (task["data"]["stage"].as_str().unwrap(), task["data"]["n"].as_u64()))
            .collect();
        assert_eq!(
            tasks,
            [("dev", None), ("dev", Some(1)), ("prod", Some(2)), ("prod", Some(3))]
        );
        assert_eq!(types(&next), ["sh.keptn.event.prod.delivery.finished"]);
        let state = sequence.state();
        assert_eq!(state["state"], "finished");
        assert_eq!(state["stages"][1]["state"], "succeeded");
    }

    #[test]
    fn waits_for_all_that_have_started_and_ends_with_the_stage_that_failed() {
        let (mut sequence, first) = Sequence::start("p", &["dev", "prod"], &["build"], "s");
        let task = first.events.last().unwrap();
        let finished = |status: &str| answer(task, "finished", &json!({ "status": status }));
        for _ in 0..2 {
            sequence.progress(&answer(task, "started", &json!({})));
        }
        assert_eq!(
            sequence.progress(&finished("errored")).closed,
            None,
            "another one is at work"
        );
        let mut stranger = finished("succeeded");
        stranger["triggeredid"] = "other".into();
        assert_eq!(sequence.progress(&stranger).closed, None);
        let next = sequence.progress(&finished("succeeded"));
        assert_eq!(types(&next), ["sh.keptn.event.dev.delivery.finished"]);
        let state = sequence.state();
        assert_eq!(
            (&state["state"], &state["stages"][0]["state"]),
            (&json!("finished"), &json!("errored"))
        );
    }
}
