//! One record of the log as a line: JSON for machines, text for people. Knows nothing of where lines go.

use std::fmt::{self, Write as _};

use hub::rules::iso_8601;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use super::OWN_TARGETS;

/// What of a value is written.
const VALUE_MAX_BYTES: usize = 4 * 1024;

/// Fields are left out once a line has this length.
const FIELDS_MAX_BYTES: usize = 16 * 1024;

/// Names that a line has already; a field of one of them gets a `_` behind it.
const TAKEN: [&str; 4] = ["level", "message", "timestamp", "service"];

/// A record, its values already JSON.
pub(super) struct Line {
    level: &'static str,
    message: Value,
    unix_ms: u64,
    fields: Vec<(String, Value)>,
    bytes: usize,
}

impl Line {
    /// Takes a record.
    pub(super) fn of(event: &Event<'_>, unix_ms: u64) -> Self {
        let metadata = event.metadata();
        let level = match *metadata.level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        };
        let mut line = Self { level, message: Value::from(""), unix_ms, fields: Vec::new(), bytes: 0 };
        event.record(&mut line);
        let own = |target: &str| metadata.target().split("::").next() == Some(target);
        if !OWN_TARGETS.iter().any(|target| own(target)) {
            line.add("target", Value::from(metadata.target()));
        }
        line
    }

    /// One JSON object and a line end.
    pub(super) fn json(&self, service: &str) -> String {
        let mut text = format!(
            "{{\"level\":\"{}\",\"message\":{},\"timestamp\":\"{}\",\"service\":{}",
            self.level,
            self.message,
            iso_8601(self.unix_ms),
            Value::from(service)
        );
        for (name, value) in &self.fields {
            write!(text, ",{}:{value}", Value::from(name.as_str())).expect("a String takes all");
        }
        text.push_str("}\n");
        text
    }

    /// Time, level, message and `name=value`, without a control character but the line end: nobody can fake a line.
    pub(super) fn text(&self) -> String {
        let level = self.level.to_ascii_uppercase();
        let mut text = format!("{} {level:5} ", iso_8601(self.unix_ms));
        match &self.message {
            Value::String(message) => plain(&mut text, message),
            other => write!(text, "{other}").expect("a String takes all"),
        }
        for (name, value) in &self.fields {
            // A value that is a word stands without quotes.
            match value {
                Value::String(word)
                    if !word.is_empty()
                        && word.chars().all(|character| character.is_ascii_graphic() && character != '"') =>
                {
                    write!(text, " {name}={word}")
                }
                other => {
                    text.push(' ');
                    text.push_str(name);
                    text.push('=');
                    plain(&mut text, &other.to_string());
                    Ok(())
                }
            }
            .expect("a String takes all");
        }
        text.push('\n');
        text
    }

    fn add(&mut self, name: &str, value: Value) {
        let value = match value {
            Value::String(text) if text.len() > VALUE_MAX_BYTES => {
                let end = (0..=VALUE_MAX_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
                Value::from(format!("{}…", &text[..end]))
            }
            value => value,
        };
        if name == "message" {
            self.message = value;
            return;
        }
        self.bytes += name.len() + value.as_str().map_or(20, str::len);
        if self.bytes <= FIELDS_MAX_BYTES {
            let name = if TAKEN.contains(&name) { format!("{name}_") } else { name.to_owned() };
            self.fields.push((name, value));
        }
    }
}

/// Writes the text with its control characters escaped.
fn plain(to: &mut String, text: &str) {
    for character in text.chars() {
        if character.is_control() {
            to.extend(character.escape_default());
        } else {
            to.push(character);
        }
    }
}

impl Visit for Line {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field.name(), Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field.name(), Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field.name(), Value::from(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field.name(), Value::from(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field.name(), Value::from(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field.name(), Value::from(format!("{value:?}")));
    }
}
