//! Which tasks fall into a window, and what is answered. Plain Rust, tested without a component.

use std::time::SystemTime;

use serde::Deserialize;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// What `configure` makes of the configuration.
#[derive(Debug)]
pub struct Settings {
    windows: Vec<Window>,
    result: String,
}

#[derive(Debug)]
struct Window {
    stages: Vec<String>,
    from: OffsetDateTime,
    until: OffsetDateTime,
    message: String,
}

/// What is looked at of an event.
#[derive(Debug, Clone, Copy)]
pub struct Task<'a> {
    /// Its type.
    pub ty: &'a str,
    /// RFC 3339.
    pub time: Option<&'a str>,
    /// `data.project`.
    pub project: &'a str,
    /// `data.stage`.
    pub stage: &'a str,
    /// `data.service`.
    pub service: &'a str,
    /// `data.labels`.
    pub labels: &'a [(String, String)],
}

/// An event that answers a task.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its type.
    pub ty: String,
    /// JSON.
    pub data: String,
}

/// The configuration as it is written; its form was checked against `config-schema.json` by the host.
#[derive(Deserialize)]
struct Config {
    windows: Vec<WindowConfig>,
    #[serde(default = "pass")]
    result: String,
}

#[derive(Deserialize)]
struct WindowConfig {
    #[serde(default)]
    stages: Vec<String>,
    from: String,
    until: String,
    #[serde(default)]
    message: String,
}

fn pass() -> String {
    "pass".to_owned()
}

/// A JSON Pointer into the configuration, and what is wrong there.
pub type Problem = (String, String);

impl Settings {
    /// Reads the configuration.
    ///
    /// # Errors
    /// All problems, so that they are mended in one go.
    pub fn parse(config: &str) -> Result<Self, Vec<Problem>> {
        let config: Config = serde_json::from_str(config).map_err(|error| vec![(String::new(), error.to_string())])?;
        let mut problems = Vec::new();
        let mut windows = Vec::new();
        for (number, window) in config.windows.into_iter().enumerate() {
            let mut moment = |key: &str, text: &str| {
                let parsed = OffsetDateTime::parse(text, &Rfc3339);
                let problem = |error| {
                    (
                        format!("/windows/{number}/{key}"),
                        format!("{text:?} is no RFC 3339 time: {error}"),
                    )
                };
                parsed.map_err(|error| problems.push(problem(error))).ok()
            };
            let (from, until) = (moment("from", &window.from), moment("until", &window.until));
            let (Some(from), Some(until)) = (from, until) else {
                continue;
            };
            if from >= until {
                let pointer = format!("/windows/{number}/until");
                problems.push((pointer, "is not after `from`, so the window is never open".to_owned()));
            }
            windows.push(Window {
                stages: window.stages,
                from,
                until,
                message: window.message,
            });
        }
        if problems.is_empty() {
            Ok(Self {
                windows,
                result: config.result,
            })
        } else {
            Err(problems)
        }
    }

    /// What is answered to a task; nothing when it may go on.
    ///
    /// The time of the event counts: asked again about the same event, the answer is the same. `now` is for events
    /// that do not say their time.
    pub fn answers(&self, task: &Task<'_>, now: SystemTime) -> Option<[Answer; 2]> {
        let name = task.ty.strip_suffix(".triggered")?;
        let said = task.time.and_then(|time| OffsetDateTime::parse(time, &Rfc3339).ok());
        let time = said.unwrap_or_else(|| now.into());
        let window = self.windows.iter().find(|window| window.covers(task.stage, time))?;
        let about = |status: serde_json::Value| {
            let mut data = json!({"project": task.project, "stage": task.stage, "service": task.service});
            if !task.labels.is_empty() {
                let labels = task
                    .labels
                    .iter()
                    .map(|(name, value)| (name.clone(), value.clone().into()));
                data["labels"] = serde_json::Value::Object(labels.collect());
            }
            data["message"] = window.message.clone().into();
            for (key, value) in status.as_object().into_iter().flatten() {
                data[key] = value.clone();
            }
            data.to_string()
        };
        // The control plane takes a `.finished` only of somebody who has sent `.started`.
        Some([
            Answer {
                ty: format!("{name}.started"),
                data: about(json!({})),
            },
            Answer {
                ty: format!("{name}.finished"),
                data: about(json!({"status": "succeeded", "result": self.result})),
            },
        ])
    }
}

impl Window {
    fn covers(&self, stage: &str, time: OffsetDateTime) -> bool {
        let is_for_stage = self.stages.is_empty() || self.stages.iter().any(|wanted| wanted == stage);
        is_for_stage && self.from <= time && time < self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NIGHT: &str = r#"{"windows": [{"stages": ["dev"], "from": "2026-11-22T22:00:00+01:00",
        "until": "2026-11-22T22:00:00Z", "message": "database upgrade"}]}"#;

    fn task(stage: &'static str, time: Option<&'static str>) -> Task<'static> {
        Task {
            ty: "sh.keptn.event.build.triggered",
            time,
            project: "shop",
            stage,
            service: "carts",
            labels: &[],
        }
    }

    fn is_answered(stage: &'static str, time: Option<&'static str>) -> bool {
        let settings = Settings::parse(NIGHT).unwrap();
        settings.answers(&task(stage, time), SystemTime::UNIX_EPOCH).is_some()
    }

    #[test]
    fn only_tasks_of_the_stage_within_the_window_are_answered() {
        assert!(!is_answered("dev", Some("2026-11-22T20:59:59.999Z")));
        assert!(is_answered("dev", Some("2026-11-22T21:00:00Z")));
        assert!(is_answered("dev", Some("2026-11-22T23:59:59+02:00")));
        assert!(!is_answered("dev", Some("2026-11-22T22:00:00Z")));
        assert!(!is_answered("prod", Some("2026-11-22T21:30:00Z")));
    }

    #[test]
    fn an_event_without_a_time_counts_as_sent_now() {
        assert!(!is_answered("dev", None));
        let always = r#"{"windows": [{"from": "1970-01-01T00:00:00Z", "until": "1970-01-02T00:00:00Z"}]}"#;
        let settings = Settings::parse(always).unwrap();
        assert!(
            settings
                .answers(&task("any", Some("soon")), SystemTime::UNIX_EPOCH)
                .is_some()
        );
    }

    #[test]
    fn a_task_is_started_and_finished_with_the_chosen_result() {
        let labels = [("team".to_owned(), "a \"b\"".to_owned())];
        let config = NIGHT.replace("{\"windows\"", "{\"result\": \"warning\", \"windows\"");
        let task = Task {
            labels: &labels,
            ..task("dev", Some("2026-11-22T21:30:00Z"))
        };
        let answers = Settings::parse(&config).unwrap().answers(&task, SystemTime::UNIX_EPOCH);
        let [started, finished] = answers.unwrap();
        assert_eq!(started.ty, "sh.keptn.event.build.started");
        assert_eq!(finished.ty, "sh.keptn.event.build.finished");
        let data: serde_json::Value = serde_json::from_str(&finished.data).unwrap();
        let expected = json!({"project": "shop", "stage": "dev", "service": "carts", "labels": {"team": "a \"b\""},
            "message": "database upgrade", "status": "succeeded", "result": "warning"});
        assert_eq!(data, expected);
    }

    #[test]
    fn what_is_no_task_is_left_alone() {
        let task = Task {
            ty: "sh.keptn.event.build.finished",
            ..task("dev", Some("2026-11-22T21:30:00Z"))
        };
        assert!(
            Settings::parse(NIGHT)
                .unwrap()
                .answers(&task, SystemTime::UNIX_EPOCH)
                .is_none()
        );
    }

    #[test]
    fn every_mistake_has_its_place() {
        let config = r#"{"windows": [{"from": "today", "until": "2026-01-01T00:00:00Z"},
            {"from": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}]}"#;
        let problems = Settings::parse(config).unwrap_err();
        let pointers: Vec<_> = problems.iter().map(|(pointer, _)| pointer.as_str()).collect();
        assert_eq!(pointers, ["/windows/0/from", "/windows/1/until"]);
    }
}
