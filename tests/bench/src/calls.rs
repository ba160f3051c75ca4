//! What one call of a component costs, beside the same work in native code.
//!
//! Called by `row`. The distributor measures it (`distributor plugin bench`), as it is the one that calls components; it is
//! asked anew in each round.

use std::hint::black_box;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use keptn_filter::rules::{Fields, Lists, decide};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::events::{Events, Load, PASSING_PROJECT, PASSING_SERVICE};
use crate::figures::{Figure, Round};
use crate::languages::{Language, built};
use crate::measured::Program;
use crate::stage::{Bench, number, seconds};

/// Which component is called.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Callee {
    DefaultFilter,
    /// A Rust plugin that parses the data.
    Parsing,
    Language(Language),
}

/// As the guest `parsing` sees the data.
#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    project: std::borrow::Cow<'a, str>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    data: Data<'a>,
}

impl Callee {
    /// The file that has to be there.
    pub(crate) fn component(self) -> anyhow::Result<Option<PathBuf>> {
        Ok(match self {
            Self::DefaultFilter => None,
            Self::Parsing => Some(built("components/wasm32-wasip2/plugin/guest_parsing.wasm")?),
            Self::Language(language) => Some(language.component()?),
        })
    }

    fn config(self) -> Value {
        match self {
            // In the list at the second place, as ordinary as a filter can be.
            Self::DefaultFilter => json!({ "projects": ["another", PASSING_PROJECT] }),
            Self::Parsing => json!({ "project": PASSING_PROJECT }),
            Self::Language(_) => json!({ "services": [PASSING_SERVICE] }),
        }
    }
}

impl Bench {
    /// The median of many calls with an event of this load.
    pub(crate) async fn call(
        &self,
        program: Program<'_>,
        load: Load,
        callee: Callee,
        observed: Duration,
    ) -> anyhow::Result<Round> {
        let event = Events::render(load, self.clock)?.warm_up(0);
        let microseconds = match program {
            Program::Relay { .. } => self.native(callee, &event)?,
            Program::Distributor(distributor) => {
                let file = self.folder().join("event.json");
                std::fs::write(&file, &event)?;
                let component = callee.component()?;
                let component = component.unwrap_or_else(|| "builtin:keptn-filter".into());
                let mut command = Command::new(distributor.binary);
                command
                    .env_clear()
                    .args(["plugin", "bench", "--json", "--memory", "64MiB"]);
                command.arg("--time").arg(format!("{}ms", observed.as_millis() / 5));
                command.arg("--config").arg(callee.config().to_string());
                command.arg("--event").arg(&file).arg(component);
                let output = command.kill_on_drop(true).output().await?;
                let told = String::from_utf8_lossy(&output.stderr);
                ensure!(
                    output.status.success(),
                    "`distributor plugin bench`: {}\n{told}",
                    output.status
                );
                let told: Value = serde_json::from_slice(&output.stdout)?;
                told["components"][0]["median_micros"]
                    .as_f64()
                    .context("`distributor plugin bench` tells no median")?
            }
        };
        Ok(vec![(Figure::CallMicroseconds, microseconds)])
    }

    /// The same work, as a function of this program.
    fn native(&self, callee: Callee, event: &[u8]) -> anyhow::Result<f64> {
        const N_CALLS: usize = 1_000_000;
        let lists = Lists {
            projects: vec!["another".to_owned(), PASSING_PROJECT.to_owned()],
            ..Lists::ACCEPT_ALL
        };
        let begun_ns = self.clock.nanoseconds();
        for _ in 0..N_CALLS {
            if matches!(callee, Callee::Parsing) {
                let event: Event<'_> = serde_json::from_slice(black_box(event))?;
                black_box(event.data.project == PASSING_PROJECT);
            } else {
                let fields = Fields {
                    project: Some(PASSING_PROJECT),
                    stage: Some("dev"),
                    service: Some(PASSING_SERVICE),
                };
                black_box(decide(black_box(&lists), black_box(fields)));
            }
        }
        Ok(seconds(self.clock.nanoseconds() - begun_ns) * 1e6 / number(N_CALLS))
    }
}
