//! Draws what was measured: one group of bars for each row, or for each point of a curve, as SVG.
//!
//! Called by `main`. It reads the file that a run wrote (`--json`), and must not measure.

use std::borrow::Cow;
use std::fmt::Write;

use anyhow::Context;
use serde_json::Value;

use crate::report::shown;

/// What is drawn of a run: title, figure, and words of which a row has one in its name. Rows of one chart are of one order
/// of magnitude.
const CHARTS: [(&str, &str, &[&str]); 8] = [
    (
        "CPU seconds per 100,000 events (less is better)",
        "CPU s per 100,000 events",
        &["no filter", "1 KB, filter passes", "stored", "one key"],
    ),
    (
        "events per second (more is better)",
        "events/s",
        &["no filter", "1 KB, filter passes", "stored", "one key"],
    ),
    (
        "CPU seconds per 100,000 events, with plugins (less is better)",
        "CPU s per 100,000 events",
        &["chain of", "filter in"],
    ),
    (
        "one call of a component, µs (less is better)",
        "per call, µs",
        &["call: "],
    ),
    ("latency, median, µs (less is better)", "latency p50, µs", &["/s"]),
    (
        "peak memory, MiB (less is better)",
        "peak memory (VmHWM), MiB",
        &["burst", "backlog", "1 KB, filter passes", "polling"],
    ),
    (
        "API proxy: requests per second (more is better)",
        "requests/s",
        &["API proxy"],
    ),
    (
        "events of the service per second (more is better)",
        "events/s",
        &["POST /event"],
    ),
];
/// Told in the table alone: they would make the bars of all others short.
const NOT_DRAWN: [&str; 2] = ["1000 KB", "chain of 100"];
const PROGRAMS: [(&str, &str); 3] = [
    ("relay", "bare floor"),
    ("core", "core NATS"),
    ("jetstream", "JetStream"),
];

const WIDTH: f64 = 760.0;
const LABEL_WIDTH: f64 = 210.0;
const VALUE_WIDTH: f64 = 70.0;
const BAR_HEIGHT: f64 = 15.0;
const GROUP_GAP: f64 = 12.0;
const TITLE_HEIGHT: f64 = 34.0;

/// Colours that can be told apart on white and on black, also by those who see no red or green.
const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#1f2328}.title{font-weight:600;font-size:14px}\
    .relay{fill:#8c959f}.core{fill:#0969da}.jetstream{fill:#bf8700}\
    @media(prefers-color-scheme:dark){text{fill:#e6edf3}.core{fill:#4493f8}.jetstream{fill:#d29922}}";

/// The chart of a run.
///
/// # Errors
/// When the text is not what a run wrote.
pub(crate) fn draw(json: &str) -> anyhow::Result<String> {
    let run: Value = serde_json::from_str(json).context("this is no JSON")?;
    let charts = charts_of(&run).context("neither `rows` nor `curves`: this is no result of a run")?;
    let mut body = String::new();
    legend(&mut body)?;
    let mut top = 20.0;
    for (title, groups) in charts {
        let largest = groups.iter().flat_map(Group::values).fold(0.0, f64::max);
        if largest <= 0.0 {
            continue;
        }
        writeln!(
            body,
            r#"<text class="title" x="0" y="{:.0}">{title}</text>"#,
            top + 20.0
        )?;
        top += TITLE_HEIGHT;
        for group in &groups {
            top = group.draw(&mut body, top, largest)?;
        }
    }
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{top:.0}\" viewBox=\"0 0 {WIDTH} {top:.0}\" \
         role=\"img\">\n<title>What was measured</title>\n<style>{STYLE}</style>\n{body}</svg>\n"
    ))
}

/// Title and groups of each chart.
fn charts_of(run: &Value) -> Option<Vec<(String, Vec<Group<'_>>)>> {
    if let Some(curves) = run["curves"].as_array() {
        let chart = |curve: &Value| Some((curve["title"].as_str()?.to_owned(), Group::of_curve(curve)?));
        return Some(curves.iter().filter_map(chart).collect());
    }
    let rows = run["rows"].as_array()?;
    let has_one_of = |row: &Value, words: &[&str]| {
        let name = row["row"].as_str().unwrap_or_default();
        words.iter().any(|word| name.contains(word))
    };
    let chart = |(title, figure, words): (&str, &str, &[&str])| {
        let drawn = rows
            .iter()
            .filter(|row| has_one_of(row, words) && !has_one_of(row, &NOT_DRAWN));
        let groups = drawn.filter_map(|row| Group::of(row, figure)).collect();
        (title.to_owned(), groups)
    };
    Some(CHARTS.into_iter().map(chart).collect())
}

fn legend(body: &mut String) -> std::fmt::Result {
    let mut left = LABEL_WIDTH;
    for (class, label) in PROGRAMS {
        writeln!(
            body,
            r#"<rect class="{class}" x="{left}" y="4" width="12" height="12"/>"#
        )?;
        writeln!(body, r#"<text x="{}" y="14">{label}</text>"#, left + 18.0)?;
        left += 120.0;
    }
    Ok(())
}

/// One row of the table, for one figure.
struct Group<'a> {
    name: Cow<'a, str>,
    bars: Vec<(&'static str, f64)>,
}

impl<'a> Group<'a> {
    fn of(row: &'a Value, figure: &str) -> Option<Self> {
        let figures = row["figures"].as_array()?;
        let measured = figures.iter().find(|measured| measured["figure"] == figure)?;
        let bar = |(program, _): (&'static str, &str)| Some((program, measured[program].as_f64()?));
        Some(Self {
            name: row["row"].as_str()?.into(),
            bars: PROGRAMS.into_iter().filter_map(bar).collect(),
        })
    }

    /// Each point of a curve.
    fn of_curve(curve: &Value) -> Option<Vec<Self>> {
        let (program, _) = PROGRAMS.into_iter().find(|(program, _)| curve["column"] == *program)?;
        let group = |point: &Value| {
            Some(Self {
                name: shown(point[0].as_f64(), 0).into(),
                bars: vec![(program, point[1].as_f64()?)],
            })
        };
        Some(curve["points"].as_array()?.iter().filter_map(group).collect())
    }

    fn values(&self) -> impl Iterator<Item = f64> {
        self.bars.iter().map(|(_, value)| *value)
    }

    /// Returns where the next one begins.
    fn draw(&self, body: &mut String, top: f64, largest: f64) -> Result<f64, std::fmt::Error> {
        writeln!(
            body,
            r#"<text x="0" y="{:.1}">{}</text>"#,
            top + BAR_HEIGHT - 4.0,
            self.name
        )?;
        let mut y = top;
        for (program, value) in &self.bars {
            let width = value / largest * (WIDTH - LABEL_WIDTH - VALUE_WIDTH);
            let baseline = y + BAR_HEIGHT - 4.0;
            writeln!(
                body,
                r#"<rect class="{program}" x="{LABEL_WIDTH}" y="{y:.1}" width="{width:.1}" height="{:.1}"/>"#,
                BAR_HEIGHT - 1.0
            )?;
            let text = shown(Some(*value), if *value < 100.0 { 2 } else { 0 });
            writeln!(
                body,
                r#"<text x="{:.1}" y="{baseline:.1}">{text}</text>"#,
                LABEL_WIDTH + width + 6.0
            )?;
            y += BAR_HEIGHT;
        }
        Ok(y + GROUP_GAP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_what_was_measured() {
        let json = r#"{"rows": [{"row": "1 KB, no filter", "figures": [
            {"figure": "events/s", "relay": 200000.0, "core": 100000.0, "jetstream": null}]}]}"#;
        let chart = draw(json).unwrap();
        let width = |program: &str| {
            let start = format!(r#"<rect class="{program}" x="210" y="54"#);
            let line = chart.lines().find(|line| line.starts_with(&start))?;
            line.split("width=\"").nth(1)?.split('"').next()?.parse::<f64>().ok()
        };
        assert_eq!(width("relay"), Some(480.0));
        assert!(chart.contains(r#"width="240.0""#), "{chart}");
        assert!(!chart.contains("NaN") && chart.contains(">1 KB, no filter<"));
    }

    #[test]
    fn a_curve_has_a_bar_for_each_point() {
        let json = r#"{"curves": [{"title": "plugins", "column": "core", "points": [[1, 1.5], [1000, 3.0]]}]}"#;
        let chart = draw(json).unwrap();
        assert!(chart.contains(">plugins<") && chart.contains(">1,000<"), "{chart}");
        assert!(
            chart.contains(r#"width="240.0""#) && chart.contains(r#"width="480.0""#),
            "{chart}"
        );
    }

    #[test]
    fn what_is_no_result_is_refused() {
        assert!(draw("{}").unwrap_err().to_string().contains("no result of a run"));
        assert!(draw("x").is_err());
    }
}
