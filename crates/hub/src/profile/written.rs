//! The first stage of reading a profile: what was written. Walks the file along the table of the language, fills in variables and defaults, types
//! every value, and keeps where it stood. Does not know what anything means.

use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::language::{Key, Kind, Presence, Table, quoted_list};
use super::problem::{Findings, Span, did_you_mean};
use super::settings::Variable;
use super::variables::{Used, expand};
use crate::names::check_name;

/// A value with its place.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) value: Value,
    pub(crate) span: Span,
}

/// A value, as its key wants it.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Text(String),
    Switch(bool),
    Count(i64),
    Number(f64),
    Time(Duration),
    Size(u64),
    List(Vec<Written>),
    Table(Section),
}

/// A table that was written, in the order of the file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Section {
    pub(crate) span: Span,
    pub(crate) entries: Vec<Entry>,
}

/// A key that was written, or that holds its default.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) name_span: Span,
    pub(crate) written: Written,
}

/// Reads a profile's text. Notes every variable on the way.
pub(crate) fn read(
    text: &str,
    table: &'static Table,
    environment: &dyn Fn(&str) -> Option<String>,
    findings: &mut Findings<'_>,
    variables: &mut Vec<Variable>,
) -> Section {
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        findings.problem(&span, error.message().to_owned());
    }
    let span = root.span();
    let mut reader = Reader { environment, findings, variables };
    reader.table(table, root.get_ref(), span, "")
}

struct Reader<'a, 'f> {
    environment: &'a dyn Fn(&str) -> Option<String>,
    findings: &'a mut Findings<'f>,
    variables: &'a mut Vec<Variable>,
}

impl Reader<'_, '_> {
    fn table(&mut self, table: &'static Table, written: &DeTable<'_>, span: Span, path: &str) -> Section {
        let mut entries = Vec::new();
        for (name, value) in in_order(written) {
            let Some(key) = table.key(name.get_ref()) else {
                let what = if path.is_empty() {
                    format!("there is no table or key `{}`", name.get_ref())
                } else {
                    format!("`{path}` has no key `{}`", name.get_ref())
                };
                let known = table.keys.iter().map(|key| key.name);
                let suggestion = did_you_mean(name.get_ref(), known.clone()).or_else(|| {
                    let known: Vec<&str> = known.collect();
                    Some(format!("there is {}", quoted_list(&known)))
                });
                self.findings.problem_with(&name.span(), what, suggestion);
                continue;
            };
            if let Some(written) = self.value(&key.kind, value, &below(path, key.name), key) {
                entries.push(Entry { name: key.name.to_owned(), name_span: name.span(), written });
            }
        }
        for key in table.keys.iter().filter(|key| !written.contains_key(key.name)) {
            let place = span.start..span.start;
            let path_of_key = below(path, key.name);
            let value = match key.presence {
                Presence::May => None,
                Presence::Needed => {
                    let what = if path.is_empty() {
                        format!("`{}` is missing", key.name)
                    } else {
                        format!("`{path}` needs a `{}`", key.name)
                    };
                    self.findings.problem_with(
                        &place,
                        what,
                        (!key.example.is_empty()).then(|| format!("for example {}", key.example)),
                    );
                    None
                }
                Presence::Default(text) => self.text(&key.kind, text, &place, &path_of_key, key, true),
                Presence::Always => match key.kind {
                    Kind::Table(inner) => {
                        let section = self.table(inner, &DeTable::new(), place.clone(), &path_of_key);
                        Some(Written { value: Value::Table(section), span: place.clone() })
                    }
                    _ => None,
                },
            };
            entries.extend(value.map(|written| Entry { name: key.name.to_owned(), name_span: place, written }));
        }
        Section { span, entries }
    }

    /// Reads one value as its kind wants it; `None` where a problem was noted, or where an empty variable leaves nothing.
    fn value(
        &mut self,
        kind: &'static Kind,
        written: &Spanned<DeValue<'_>>,
        path: &str,
        key: &'static Key,
    ) -> Option<Written> {
        let span = written.span();
        let place = |value| Some(Written { value, span: span.clone() });
        match (kind, written.get_ref()) {
            (Kind::Data | Kind::Arguments, _) => self.data(written, path, key),
            (Kind::List(_) | Kind::OneOrMany(_) | Kind::Words, DeValue::Array(items)) => {
                let item_kind = match kind {
                    Kind::List(inner) | Kind::OneOrMany(inner) => inner,
                    _ => &Kind::Text,
                };
                let items = items.iter().filter_map(|item| self.value(item_kind, item, path, key)).collect();
                place(Value::List(items))
            }
            (Kind::OneOrMany(inner), _) => {
                let one = self.value(inner, written, path, key)?;
                place(Value::List(vec![one]))
            }
            (Kind::TextOr(_, table) | Kind::Table(table), DeValue::Table(inner)) => {
                let section = self.table(table, inner, span.clone(), path);
                place(Value::Table(section))
            }
            (Kind::TextOr(inner, _), _) => self.value(inner, written, path, key),
            (Kind::Tables(table), DeValue::Array(items)) => {
                let mut sections = Vec::new();
                for item in items.iter() {
                    match item.get_ref() {
                        DeValue::Table(inner) => {
                            let section = self.table(table, inner, item.span(), path);
                            sections.push(Written { value: Value::Table(section), span: item.span() });
                        }
                        other => self.mismatch(kind, type_of(other), &item.span(), path),
                    }
                }
                place(Value::List(sections))
            }
            (Kind::Tables(_), DeValue::Table(_)) => {
                self.findings.problem_with(
                    &span,
                    format!("`{path}` may stand several times, and its order counts"),
                    Some(format!("write `[[{path}]]`")),
                );
                None
            }
            (Kind::Named(inner), DeValue::Table(named)) => {
                let mut entries = Vec::new();
                for (name, value) in in_order(named) {
                    let text = name.get_ref().to_string();
                    if let Err(error) = check_name(&text) {
                        self.findings.problem(&name.span(), format!("the name in `{path}` {error}"));
                    }
                    if let Some(written) = self.value(inner, value, &below(path, &text), key) {
                        entries.push(Entry { name: text, name_span: name.span(), written });
                    }
                }
                place(Value::Table(Section { span: span.clone(), entries }))
            }
            (_, DeValue::String(text)) => self.text(kind, text, &span, path, key, false),
            (Kind::Switch, DeValue::Boolean(value)) => place(Value::Switch(*value)),
            (Kind::Condition, DeValue::Boolean(value)) => place(Value::Text(value.to_string())),
            (Kind::Count(..), DeValue::Integer(number)) => {
                let value = i64::from_str_radix(&number.as_str().replace('_', ""), number.radix()).ok();
                self.count(kind, value, number.as_str(), &span, path)
            }
            (Kind::Time, DeValue::Integer(_) | DeValue::Float(_)) => {
                self.findings.problem_with(
                    &span,
                    format!("`{path}` has no unit"),
                    Some(format!("write {}", kind.expected())),
                );
                None
            }
            (Kind::Size, DeValue::Integer(number)) => match number.as_str().replace('_', "").parse() {
                Ok(bytes) => place(Value::Size(bytes)),
                Err(_) => {
                    self.mismatch(kind, "an integer", &span, path);
                    None
                }
            },
            (_, other) => {
                self.mismatch(kind, type_of(other), &span, path);
                None
            }
        }
    }

    /// A text: its variables filled in, then read as its kind wants it.
    fn text(
        &mut self,
        kind: &'static Kind,
        text: &str,
        span: &Span,
        path: &str,
        key: &'static Key,
        default: bool,
    ) -> Option<Written> {
        let (text, used) = self.expand(text, span, path, key)?;
        let place = |value| Some(Written { value, span: span.clone() });
        let from_variable = default || !used.is_empty();
        // Who is to blame for a bad value: the variable that is set, or the key.
        let subject = match used.iter().find_map(|variable| variable.set.as_deref()) {
            Some(name) => format!("the variable {name} (`{path}`)"),
            None => format!("`{path}`"),
        };
        let trimmed = text.trim();
        let scalar = matches!(kind, Kind::Switch | Kind::Count(..) | Kind::Time | Kind::Size | Kind::Choice(_));
        if scalar && trimmed.is_empty() && from_variable {
            return None;
        }
        let expected = kind.expected();
        let mut refuse = |suggestion| {
            self.findings.problem_with(span, format!("{subject} must be {expected}, not `{text}`"), suggestion);
            None
        };
        match kind {
            Kind::Text | Kind::RoomPattern | Kind::Template | Kind::Condition => place(Value::Text(text)),
            Kind::Name => match check_name(&text) {
                Ok(()) => place(Value::Text(text)),
                Err(error) => {
                    self.findings.problem(span, format!("{subject} {error}"));
                    None
                }
            },
            Kind::Choice(words) => match words.iter().find(|word| word.eq_ignore_ascii_case(trimmed)) {
                Some(word) => place(Value::Text((*word).to_owned())),
                None => refuse(did_you_mean(trimmed, words.iter().copied())),
            },
            Kind::Switch if from_variable => match trimmed.to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "on" => place(Value::Switch(true)),
                "false" | "0" | "no" | "off" => place(Value::Switch(false)),
                _ => refuse(None),
            },
            Kind::Count(min, max) if from_variable => match trimmed.parse::<i64>() {
                Ok(value) if (*min..=*max).contains(&value) => place(Value::Count(value)),
                Ok(_) | Err(_) => refuse(None),
            },
            Kind::Time => match time(trimmed, from_variable) {
                Some(value) => place(Value::Time(value)),
                None => refuse(None),
            },
            Kind::Size => match size(trimmed) {
                Some(value) => place(Value::Size(value)),
                None => refuse(None),
            },
            Kind::Words => {
                let words = trimmed.split(',').map(str::trim).filter(|word| !word.is_empty());
                place(Value::List(
                    words.map(|word| Written { value: Value::Text(word.to_owned()), span: span.clone() }).collect(),
                ))
            }
            // Lists have their defaults as one text with commas.
            Kind::List(_) if default => {
                let words = trimmed.split(',').filter(|word| !word.is_empty());
                place(Value::List(
                    words.map(|word| Written { value: Value::Text(word.to_owned()), span: span.clone() }).collect(),
                ))
            }
            Kind::Switch
            | Kind::Count(..)
            | Kind::List(_)
            | Kind::OneOrMany(_)
            | Kind::TextOr(..)
            | Kind::Table(_)
            | Kind::Tables(_)
            | Kind::Named(_)
            | Kind::Data
            | Kind::Arguments => {
                let suggestion =
                    matches!(kind, Kind::Switch | Kind::Count(..)).then(|| "leave out the quotes".to_owned());
                refuse(suggestion)
            }
        }
    }

    /// Any value, with the variables in its texts filled in. A text that is one variable and nothing else may become a number or a boolean.
    fn data(&mut self, written: &Spanned<DeValue<'_>>, path: &str, key: &'static Key) -> Option<Written> {
        let span = written.span();
        let value = match written.get_ref() {
            DeValue::String(text) => {
                let (expanded, used) = self.expand(text, &span, path, key)?;
                let lone = used.len() == 1 && text.starts_with("${") && text.find('}') == Some(text.len() - 1);
                match expanded.as_str() {
                    "true" if lone => Value::Switch(true),
                    "false" if lone => Value::Switch(false),
                    number => match number.parse::<i64>() {
                        Ok(value) if lone && value.to_string() == number => Value::Count(value),
                        Ok(_) | Err(_) => Value::Text(expanded),
                    },
                }
            }
            DeValue::Boolean(value) => Value::Switch(*value),
            DeValue::Integer(number) => match i64::from_str_radix(&number.as_str().replace('_', ""), number.radix()) {
                Ok(value) => Value::Count(value),
                Err(_) => {
                    self.findings.problem(&span, format!("`{}` in `{path}` is no integer of 64 bits", number.as_str()));
                    return None;
                }
            },
            DeValue::Float(number) => match number.as_str().replace('_', "").parse::<f64>() {
                Ok(value) if value.is_finite() => Value::Number(value),
                Ok(_) | Err(_) => {
                    self.findings.problem(&span, format!("`{}` in `{path}` is no number of JSON", number.as_str()));
                    return None;
                }
            },
            DeValue::Array(items) => Value::List(items.iter().filter_map(|item| self.data(item, path, key)).collect()),
            DeValue::Table(table) => {
                let mut entries = Vec::new();
                for (name, value) in in_order(table) {
                    if let Some(written) = self.data(value, path, key) {
                        entries.push(Entry { name: name.get_ref().to_string(), name_span: name.span(), written });
                    }
                }
                Value::Table(Section { span: span.clone(), entries })
            }
            DeValue::Datetime(_) => {
                self.findings.problem_with(
                    &span,
                    format!("`{path}` holds a date, which JSON has not"),
                    Some("put it in quotes".to_owned()),
                );
                return None;
            }
        };
        Some(Written { value, span })
    }

    /// Fills in variables, notes each, and tells of those that must be set and are not.
    fn expand(&mut self, text: &str, span: &Span, path: &str, key: &'static Key) -> Option<(String, Vec<Used>)> {
        let expanded = match expand(text, self.environment) {
            Ok(expanded) => expanded,
            Err(what) => {
                self.findings.problem(span, what);
                return None;
            }
        };
        let mut complete = true;
        for used in &expanded.used {
            let known = self.variables.iter().any(|variable| variable.names == used.names);
            if !known {
                self.variables.push(Variable {
                    names: used.names.clone(),
                    default: used.default.clone(),
                    about: key.about.to_owned(),
                    key: path.to_owned(),
                });
            }
            if used.set.is_none() && used.default.is_none() {
                complete = false;
                let what = match used.names.as_slice() {
                    [name] => format!("the variable {name} is not set, and `{path}` needs it"),
                    names => format!("none of the variables {} is set, and `{path}` needs one", names.join(", ")),
                };
                self.findings.missing_variable(span, what);
            }
        }
        complete.then_some((expanded.text, expanded.used))
    }

    fn count(&mut self, kind: &Kind, value: Option<i64>, text: &str, span: &Span, path: &str) -> Option<Written> {
        match (kind, value) {
            (Kind::Count(min, max), Some(value)) if (*min..=*max).contains(&value) => {
                Some(Written { value: Value::Count(value), span: span.clone() })
            }
            _ => {
                self.findings.problem(span, format!("`{path}` must be {}, not {text}", kind.expected()));
                None
            }
        }
    }

    fn mismatch(&mut self, kind: &Kind, found: &str, span: &Span, path: &str) {
        self.findings.problem(span, format!("`{path}` must be {}, not {found}", kind.expected()));
    }
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The entries of a table in the order of the file: the parser sorts them by name.
fn in_order<'t, 'i>(table: &'t DeTable<'i>) -> Vec<(&'t Spanned<std::borrow::Cow<'i, str>>, &'t Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries
}

fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// A time: a number with its unit. A bare number is seconds where a variable gives it.
fn time(text: &str, bare: bool) -> Option<Duration> {
    let digits = text.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit.trim() {
        "ms" => 1.0,
        "s" => 1_000.0,
        "m" | "min" => 60_000.0,
        "h" => 3_600_000.0,
        "d" => 86_400_000.0,
        "" if bare => 1_000.0,
        _ => return None,
    };
    let ms = number.parse::<f64>().ok()? * unit_ms;
    // Ten years: what is longer is a slip of the pen, and would overflow sums with the clock further on.
    (ms <= 315_360_000_000.0).then(|| Duration::from_secs_f64(ms / 1_000.0))
}

/// A size in bytes: a number, with a unit or bare.
fn size(text: &str) -> Option<u64> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit_bytes = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "kib" => 1_024,
        "mib" => 1_048_576,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit_bytes)
}

impl Section {
    /// The value of a key, if it is there.
    pub(crate) fn find(&self, name: &str) -> Option<&Written> {
        self.entries.iter().find(|entry| entry.name == name).map(|entry| &entry.written)
    }

    /// The place of a key's value, else of the table.
    pub(crate) fn place(&self, name: &str) -> Span {
        self.find(name).map_or_else(|| self.span.clone(), |written| written.span.clone())
    }

    /// A text that is there and not empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        match &self.find(name)?.value {
            Value::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    /// A text, or an empty one where a problem was noted.
    pub(crate) fn text_or_empty(&self, name: &str) -> String {
        self.text(name).unwrap_or_default().to_owned()
    }

    /// A switch; off where a problem was noted.
    pub(crate) fn switch(&self, name: &str) -> bool {
        matches!(self.find(name), Some(Written { value: Value::Switch(true), .. }))
    }

    /// A whole number.
    pub(crate) fn count<T: TryFrom<i64>>(&self, name: &str) -> Option<T> {
        match self.find(name)?.value {
            Value::Count(value) => T::try_from(value).ok(),
            _ => None,
        }
    }

    /// A time; nothing where a problem was noted.
    pub(crate) fn time(&self, name: &str) -> Duration {
        match self.find(name) {
            Some(Written { value: Value::Time(time), .. }) => *time,
            _ => Duration::ZERO,
        }
    }

    /// A size in bytes; 0 where a problem was noted.
    pub(crate) fn size(&self, name: &str) -> u64 {
        match self.find(name) {
            Some(Written { value: Value::Size(bytes), .. }) => *bytes,
            _ => 0,
        }
    }

    /// The items of a list; none where it is not there.
    pub(crate) fn list(&self, name: &str) -> &[Written] {
        match self.find(name) {
            Some(Written { value: Value::List(items), .. }) => items,
            _ => &[],
        }
    }

    /// The texts of a list.
    pub(crate) fn texts(&self, name: &str) -> Vec<String> {
        self.list(name).iter().filter_map(Written::text).map(str::to_owned).collect()
    }

    /// A table in this one.
    pub(crate) fn section(&self, name: &str) -> Option<&Section> {
        self.find(name).and_then(Written::section)
    }

    /// The tables of a list.
    pub(crate) fn sections(&self, name: &str) -> impl Iterator<Item = &Section> {
        self.list(name).iter().filter_map(Written::section)
    }

    /// The named entries of a table in this one.
    pub(crate) fn named(&self, name: &str) -> &[Entry] {
        self.section(name).map_or(&[], |section| &section.entries)
    }
}

impl Written {
    /// The text, if it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The table, if it is one.
    pub(crate) fn section(&self) -> Option<&Section> {
        match &self.value {
            Value::Table(section) => Some(section),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_have_units() {
        for (text, bare, expected_ms) in [
            ("500ms", false, Some(500)),
            ("3s", false, Some(3_000)),
            ("1.5h", false, Some(5_400_000)),
            ("7d", false, Some(604_800_000)),
            ("5", true, Some(5_000)),
            ("5", false, None),
            ("", true, None),
            ("-1s", true, None),
            ("5 weeks", true, None),
            ("99999999d", true, None),
        ] {
            assert_eq!(time(text, bare), expected_ms.map(Duration::from_millis), "{text}");
        }
        for (text, expected) in [
            ("1MB", Some(1_000_000)),
            ("1MiB", Some(1_048_576)),
            ("64 kib", Some(65_536)),
            ("1000", Some(1_000)),
            ("1GB", None),
            ("MB", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(size(text), expected, "{text}");
        }
    }
}
