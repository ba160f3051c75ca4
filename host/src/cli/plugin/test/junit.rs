//! Results in the form of `JUnit`, which CI systems show.

use std::fmt::Write;

use super::super::shown::Paint;
use super::CaseResult;

/// The report.
pub(super) fn report(results: &[CaseResult]) -> String {
    let failures = results.iter().filter(|result| !result.mismatches.is_empty()).count();
    let seconds: f64 = results.iter().map(|result| result.elapsed.as_secs_f64()).sum();
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let n_tests = results.len();
    let counts = format!("tests=\"{n_tests}\" failures=\"{failures}\" time=\"{seconds:.6}\"");
    write!(
        text,
        "<testsuites {counts}>\n<testsuite name=\"distributor plugin test\" {counts}>\n"
    )
    .expect(CANNOT_FAIL);
    for result in results {
        let (name, file) = (escaped(&result.name), escaped(&result.file));
        let seconds = result.elapsed.as_secs_f64();
        write!(
            text,
            "<testcase name=\"{name}\" classname=\"{file}\" time=\"{seconds:.6}\""
        )
        .expect(CANNOT_FAIL);
        if result.mismatches.is_empty() {
            text.push_str("/>\n");
            continue;
        }
        let lines: String = result
            .mismatches
            .iter()
            .map(|mismatch| mismatch.shown(Paint::new(false)))
            .collect();
        let lines = escaped(&lines);
        writeln!(
            text,
            "><failure message=\"not as expected\">{lines}</failure></testcase>"
        )
        .expect(CANNOT_FAIL);
    }
    text.push_str("</testsuite>\n</testsuites>\n");
    text
}

const CANNOT_FAIL: &str = "writing to a String cannot fail";

/// As XML wants it; control characters, which it does not have at all, become blanks.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(c),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::expectation::Mismatch;
    use super::*;

    #[test]
    fn names_and_messages_are_escaped() {
        let result = |name: &str, mismatches| CaseResult {
            file: "tests/a.yaml".to_owned(),
            name: name.to_owned(),
            elapsed: Duration::from_millis(1),
            mismatches,
        };
        let report = report(&[
            result("a < b & \"c\"\u{7}", Vec::new()),
            result("d", vec![Mismatch::text("reason", "<e>", "f")]),
        ]);
        assert!(
            report.contains("<testsuite name=\"distributor plugin test\" tests=\"2\" failures=\"1\""),
            "{report}"
        );
        assert!(
            report.contains(
                "<testcase name=\"a &lt; b &amp; &quot;c&quot; \" classname=\"tests/a.yaml\" time=\"0.001000\"/>"
            ),
            "{report}"
        );
        assert!(report.contains("- (all): &quot;&lt;e&gt;&quot;"), "{report}");
    }
}
