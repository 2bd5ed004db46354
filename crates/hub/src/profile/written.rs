//! The first stage of reading a profile: what was written. Walks the file along the table of the language, fills in variables and defaults, types
//! every value, and keeps where it stood. Does not know what anything means.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::language::{Key, Kind, Presence, Table, quoted_list};
use super::problem::{Findings, Span, did_you_mean};
use super::section::{Entry, Section, Value, Written};
use super::settings::Variable;
use super::units::{size, time};
use super::variables::{Used, expand};
use crate::names::check_name;

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
    let mut reader = Reader { text, environment, findings, variables };
    reader.table(table, root.get_ref(), span, "")
}

struct Reader<'a, 'f> {
    text: &'a str,
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
                let suggestion = did_you_mean(name.get_ref(), known.clone())
                    .or_else(|| dotted(table, name.get_ref()))
                    .or_else(|| {
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
                    let suggestion = match key.kind {
                        _ if !key.example.is_empty() => Some(format!("for example {}", key.example)),
                        Kind::Tables(_) => Some(format!("write `[[{path_of_key}]]`")),
                        _ => None,
                    };
                    self.findings.problem_with(&place, what, suggestion);
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
        let scalar =
            matches!(kind, Kind::Switch | Kind::Count(..) | Kind::Time | Kind::Size | Kind::Address | Kind::Choice(_));
        if scalar && trimmed.is_empty() && from_variable {
            return None;
        }
        let expected = kind.expected();
        let mut refuse = |suggestion| {
            self.findings.problem_with(span, format!("{subject} must be {expected}, not `{text}`"), suggestion);
            None
        };
        match kind {
            Kind::Condition if from_variable => {
                place(Value::Text(yes_or_no(trimmed).map_or(text, |value| value.to_string())))
            }
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
            Kind::Switch if from_variable => match yes_or_no(trimmed) {
                Some(value) => place(Value::Switch(value)),
                None => refuse(None),
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
            Kind::Address => match trimmed.parse() {
                Ok(address) => place(Value::Address(address)),
                Err(_) => refuse(None),
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
            | Kind::Arguments => refuse(match kind {
                Kind::Switch | Kind::Count(..) => Some("leave out the quotes".to_owned()),
                _ => (!key.example.is_empty()).then(|| format!("for example {}", key.example)),
            }),
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
                    about: comment(self.text, span).unwrap_or(key.about).to_owned(),
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

/// What the author says of a value: the comment at the end of its line, else the one in the line before.
fn comment<'t>(text: &'t str, span: &Span) -> Option<&'t str> {
    if span.is_empty() {
        return None;
    }
    let rest = text.get(span.end..)?.lines().next()?;
    let at_end = rest.rsplit_once('#').map(|(_, comment)| comment).filter(|comment| !comment.contains(['"', '\'']));
    let before = || {
        let line_start = text.get(..span.start)?.rfind('\n')?;
        text[..line_start].lines().next_back()?.trim().strip_prefix('#')
    };
    at_end.or_else(before).map(str::trim).filter(|comment| !comment.is_empty())
}

/// What is written in variables for yes and for no.
fn yes_or_no(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// `on.connect` for `on_connect`: a key of a table, written as one word.
fn dotted(table: &Table, name: &str) -> Option<String> {
    let (above, below) = name.split_once(['_', '-'])?;
    let Kind::Table(inner) = table.key(above)?.kind else { return None };
    inner.key(below).map(|_| format!("did you mean `{above}.{below}`?"))
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
