//! `logging`: what a plugin logs becomes an event of `tracing`, with what it is about as fields.

use super::{LOG_TARGET, State};
use crate::plugins::bindings::keptn::distributor::logging;
use crate::plugins::error::cut_line;

/// Bytes of a message that are kept.
const MAX_MESSAGE_BYTES: usize = 2048;
/// Bytes of all fields of a line that are kept.
const MAX_FIELDS_BYTES: usize = 2048;

impl logging::Host for State {
    fn enabled(&mut self, level: logging::Level) -> wasmtime::Result<bool> {
        self.count_call()?;
        Ok(is_enabled(level))
    }

    fn log(&mut self, level: logging::Level, message: String, fields: Vec<(String, String)>) -> wasmtime::Result<()> {
        self.count_call()?;
        if !is_enabled(level) {
            return Ok(());
        }
        let message = cut_line(&message, MAX_MESSAGE_BYTES);
        let fields = joined(&fields);
        let mut call = self.output.call();
        if !call.admits(message.len() + fields.len()) {
            return Ok(());
        }
        let plugin = &self.shared.settings.name;
        let digest = self.shared.short_digest.as_str();
        let (event_id, keptn_context, direction) = call.about();
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    target: LOG_TARGET,
                    %plugin, digest, event_id, keptn_context, direction, text = message, fields,
                    "plugin says"
                )
            };
        }
        match level {
            logging::Level::Trace => line!(trace),
            logging::Level::Debug => line!(debug),
            logging::Level::Info => line!(info),
            logging::Level::Warn => line!(warn),
            logging::Level::Error => line!(error),
        }
        Ok(())
    }
}

fn is_enabled(level: logging::Level) -> bool {
    match level {
        logging::Level::Trace => tracing::enabled!(target: LOG_TARGET, tracing::Level::TRACE),
        logging::Level::Debug => tracing::enabled!(target: LOG_TARGET, tracing::Level::DEBUG),
        logging::Level::Info => tracing::enabled!(target: LOG_TARGET, tracing::Level::INFO),
        logging::Level::Warn => tracing::enabled!(target: LOG_TARGET, tracing::Level::WARN),
        logging::Level::Error => tracing::enabled!(target: LOG_TARGET, tracing::Level::ERROR),
    }
}

/// `name=value`, as many as there is room for.
fn joined(fields: &[(String, String)]) -> String {
    let mut text = String::new();
    for (name, value) in fields {
        if text.len() >= MAX_FIELDS_BYTES {
            text.push('…');
            break;
        }
        if !text.is_empty() {
            text.push(' ');
        }
        let left = MAX_FIELDS_BYTES - text.len().min(MAX_FIELDS_BYTES);
        text.push_str(&cut_line(name, left));
        text.push('=');
        text.push_str(&cut_line(value, left));
    }
    cut_line(&text, MAX_FIELDS_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_one_line_of_bounded_length() {
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(joined(&[field("a", "1"), field("b", "x y")]), "a=1 b=x y");
        assert_eq!(joined(&[field("a\n", "1\u{1b}[31m")]), "a =1 [31m");
        let long = joined(&[field(&"n".repeat(1 << 20), &"v".repeat(1 << 20))]);
        assert_eq!(long.len(), MAX_FIELDS_BYTES + "…".len());
        let many = joined(&vec![field("n", "v"); 100_000]);
        assert_eq!(many.len(), MAX_FIELDS_BYTES + "…".len());
    }
}
