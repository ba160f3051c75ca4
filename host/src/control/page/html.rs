//! Writes HTML. What is not written in this program is escaped, and there is no other way to write it.

use crate::dead_letter::one_line;

/// Longest text of others.
const MAX_TEXT_BYTES: usize = 4096;

/// Rows that are seen without a click.
const ROWS_SHOWN: usize = 15;

/// Some HTML.
#[derive(Debug, Default)]
pub(super) struct Html(String);

impl Html {
    /// What this program says itself.
    pub(super) fn raw(&mut self, html: &'static str) -> &mut Self {
        self.0.push_str(html);
        self
    }

    /// What may come from anywhere, as text or as the value of an attribute in quotes. What steers a terminal or the
    /// direction of writing is left out: it makes people see something else than what is there.
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        for c in one_line(text, MAX_TEXT_BYTES).chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                c => self.0.push(c),
            }
        }
        self
    }

    /// What was written elsewhere.
    pub(super) fn append(&mut self, other: &Self) -> &mut Self {
        self.0.push_str(&other.0);
        self
    }

    /// `<dt>` and `<dd>`, unless there is nothing to say.
    pub(super) fn fact(&mut self, name: &'static str, text: &str) -> &mut Self {
        if text.is_empty() {
            return self;
        }
        self.raw("<div><dt>")
            .raw(name)
            .raw("</dt><dd>")
            .text(text)
            .raw("</dd></div>")
    }

    /// A cell of a table, with the name of its column for narrow screens.
    pub(super) fn cell(&mut self, column: &'static str) -> &mut Self {
        self.raw("<td data-label=\"").raw(column).raw("\">")
    }

    /// A table; of many rows all but the first ones are folded away. `key` names what is folded.
    pub(super) fn table<T>(&mut self, key: &'static str, head: &'static str, items: &[T], row: impl Fn(&mut Self, &T)) {
        let (shown, folded) = items.split_at(items.len().min(ROWS_SHOWN));
        self.rows(head, shown, &row);
        if folded.is_empty() {
            return;
        }
        self.raw("<details data-key=\"")
            .raw(key)
            .raw("\" id=\"")
            .raw(key)
            .raw("\"><summary>");
        self.text(&folded.len().to_string()).raw(" more</summary>\n");
        self.rows(head, folded, &row);
        self.raw("</details>\n");
    }

    fn rows<T>(&mut self, head: &'static str, items: &[T], row: &impl Fn(&mut Self, &T)) {
        self.raw("<table class=\"stacked\">\n<thead><tr>")
            .raw(head)
            .raw("</tr></thead>\n<tbody>\n");
        for item in items {
            row(self, item);
        }
        self.raw("</tbody>\n</table>\n");
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_others_is_markup() {
        let mut html = Html::default();
        html.raw("<p title=\"")
            .text("\" onclick='x' & \u{202e}</p><script>alert(1)</script>\u{1b}[2J\n")
            .raw("\">");
        assert_eq!(
            html.into_string(),
            "<p title=\"&quot; onclick=&#39;x&#39; &amp;  &lt;/p&gt;&lt;script&gt;alert(1)&lt;/script&gt; [2J\">"
        );
    }
}
