//! The plugins in force, how they came about, and the way back.

use serde_json::Value;

use super::html::Html;
use crate::status::{Status, moment, number};

/// Characters of a digest that tell it from others.
const SHORT_DIGEST: usize = 12;

/// All of it.
pub(super) fn plugins(html: &mut Html, status: &Status) {
    let plugins = &status.plugins;
    html.raw("<section id=\"plugins\" data-key=\"plugins\" class=\"card\" aria-labelledby=\"plugins-title\">\n<h2 id=\"plugins-title\">Plugins, generation <span id=\"generation\">")
        .text(&plugins["generation"].to_string())
        .raw("</span></h2>\n<p class=\"muted\">In force since ")
        .text(&moment(text(&plugins["since"]), &status.time));
    match text(&plugins["origin"]["kind"]) {
        "built-in" => html.raw(", as built in; PLUGINS_DIR is not set"),
        "snapshot" => html.raw(", from the copy of the last plugins that worked"),
        "rollback" => html
            .raw(", rolled back to generation ")
            .text(&plugins["origin"]["to"].to_string()),
        _ => html.raw(", from ").text(text(&plugins["directory"])),
    };
    html.raw(".</p>\n<div class=\"actions js\">\n");
    if let Some(previous) = plugins["previous"]["generation"].as_u64() {
        html.raw("<button data-action=\"rollback\" data-generation=\"")
            .text(&previous.to_string())
            .raw("\">Roll back to generation ");
        html.text(&previous.to_string()).raw("</button>\n");
    }
    if !plugins["directory"].is_null() {
        html.raw("<button data-action=\"reload\">Read PLUGINS_DIR again</button>\n");
    }
    html.raw("</div>\n");
    for obstacle in list(&plugins["obstacles"]) {
        html.raw("<p class=\"error\">Changes will not arrive: ")
            .text(text(obstacle))
            .raw("</p>\n");
    }
    let chain = list(&plugins["plugins"]);
    if chain.is_empty() {
        html.raw("<p class=\"muted\">No plugin is in force: every event that is wanted is delivered.</p>\n");
    } else {
        html.raw("<table class=\"stacked\">\n<thead><tr><th scope=\"col\">Plugin</th><th scope=\"col\">Mode</th><th scope=\"col\">Health</th><th scope=\"col\">Latency</th><th scope=\"col\">SHA-256</th></tr></thead>\n<tbody>\n");
        for plugin in chain {
            row(html, plugin);
        }
        html.raw("</tbody>\n</table>\n");
    }
    history(html, status);
    html.raw("</section>\n");
}

fn row(html: &mut Html, plugin: &Value) {
    html.raw("<tr>")
        .cell("Plugin")
        .raw("<b>")
        .text(text(&plugin["name"]))
        .raw("</b> ")
        .text(text(&plugin["version"]));
    html.raw("<br><span class=\"muted\">")
        .text(&joined(&plugin["hooks"], " + "))
        .raw(" on ");
    html.text(&joined(&plugin["directions"], " + "))
        .raw("</span></td>")
        .cell("Mode")
        .text(text(&plugin["mode"]));
    if let Some(percent) = plugin["percent"].as_f64() {
        html.raw(" ").text(&percent.to_string()).raw(" %");
    }
    let health = &plugin["health"];
    html.raw("</td>").cell("Health");
    match text(&health["breaker"]) {
        "open" => html.raw("<span class=\"badge stuck\">Resting</span> "),
        "half-open" => html.raw("<span class=\"badge attention\">On probation</span> "),
        _ => html.raw("<span class=\"badge ok\">Works</span> "),
    };
    let failures = health["failures"].as_u64().unwrap_or_default();
    html.text(&number(failures))
        .raw(if failures == 1 { " failure" } else { " failures" });
    for (name, what) in [
        ("passed_over", " passed over"),
        ("dropped_on_failure", " dropped on failure"),
    ] {
        let n = health[name].as_u64().unwrap_or_default();
        if n > 0 {
            html.raw(", ").text(&number(n)).raw(what);
        }
    }
    html.raw("</td>").cell("Latency");
    latency(html, &plugin["latency"]);
    let digest = text(&plugin["digest"]);
    html.raw("</td>")
        .cell("SHA-256")
        .raw("<code title=\"")
        .text(digest)
        .raw("\">");
    html.text(digest.get(..SHORT_DIGEST).unwrap_or(digest))
        .raw("…</code></td></tr>\n");
}

/// How long its calls take.
fn latency(html: &mut Html, latency: &Value) {
    let Some(mean) = latency["mean_micros"].as_f64() else {
        html.raw("<span class=\"muted\">not called yet</span>");
        return;
    };
    html.text(&duration(mean)).raw(" mean");
    if let Some(p99) = latency["p99_below_micros"].as_f64() {
        html.raw(", 99 % under ").text(&duration(p99));
    }
    let calls = latency["calls"].as_u64().unwrap_or_default();
    html.raw(" <span class=\"muted\">")
        .text(&number(calls))
        .raw(if calls == 1 { " call" } else { " calls" });
    html.raw("</span>");
}

fn duration(micros: f64) -> String {
    if micros < 1000.0 {
        format!("{micros:.1} µs")
    } else {
        format!("{:.1} ms", micros / 1000.0)
    }
}

fn history(html: &mut Html, status: &Status) {
    html.raw("<h3>Reloads</h3>\n<table class=\"stacked\">\n<thead><tr><th scope=\"col\">When</th><th scope=\"col\">Because of</th><th scope=\"col\">Result</th><th scope=\"col\">Generation after</th><th scope=\"col\">Took</th></tr></thead>\n<tbody>\n");
    for reload in list(&status.plugins["history"]) {
        html.raw("<tr>")
            .cell("When")
            .text(&moment(text(&reload["at"]), &status.time))
            .raw("</td>");
        html.cell("Because of")
            .text(text(&reload["trigger"]))
            .raw("</td>")
            .cell("Result");
        match text(&reload["result"]) {
            "refused" => html.raw("<span class=\"badge attention\">Refused</span>"),
            "replaced" => html.raw("<span class=\"badge ok\">Replaced</span>"),
            _ => html.raw("<span class=\"badge note\">Unchanged</span>"),
        };
        let problems = list(&reload["problems"]);
        if !problems.is_empty() {
            html.raw("<ul>");
            for problem in problems {
                html.raw("<li class=\"error break\">").text(text(problem)).raw("</li>");
            }
            html.raw("</ul>");
        }
        html.raw("</td>")
            .cell("Generation after")
            .text(&reload["generation"].to_string())
            .raw("</td>");
        html.cell("Took")
            .text(&reload["elapsed_ms"].to_string())
            .raw(" ms</td></tr>\n");
    }
    html.raw("</tbody>\n</table>\n");
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn joined(value: &Value, separator: &str) -> String {
    let texts: Vec<_> = list(value).iter().map(text).collect();
    texts.join(separator)
}
