//! What a command's arguments must be, and their check against a client's message: only the fields that are declared come through.
//! Reads raw JSON, keeps raw JSON.

use std::fmt;

use super::json::{self, Document, Fields};
use super::scope::{Branch, Named};

/// One field of a message.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    pub(crate) name: Box<str>,
    pub(crate) spec: Spec,
    pub(crate) optional: bool,
    /// What holds where it is missing, as raw JSON.
    pub(crate) default: Option<Box<str>>,
}

/// What a value must be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Spec {
    Any,
    Id,
    Bool,
    Object,
    /// A text of so many characters (code points).
    Text(usize, usize),
    Number(f64, f64),
    Integer(i64, i64),
    /// One of these words.
    Word(Vec<Box<str>>),
    /// A list of at most so many.
    List(Box<Spec>, usize),
    Fields(Vec<Field>),
}

/// How many items a list may have where the profile does not say.
pub(crate) const LIST_MAX: usize = 1_000;

/// Checks the fields of a message. The error names the field and what it must be.
pub(crate) fn read(fields: &[Field], message: &Document<'_>) -> Result<Named, String> {
    match &message.fields {
        Some(given) => read_below(fields, given, &At::Message),
        None => Err(format!("the message must be an object, not {}", json::type_name(message.raw))),
    }
}

/// Checks the default of a field; the error says what is wrong.
pub(crate) fn check_default(name: &str, spec: &Spec, default: &str) -> Result<(), String> {
    spec.read(default, &At::Field(&At::Message, name)).map(drop)
}

/// What templates may name below the fields.
pub(crate) fn branches(fields: &[Field]) -> Vec<(String, Branch)> {
    fields.iter().map(|field| (field.name.to_string(), field.spec.branch())).collect()
}

/// Where a value stands in the message: spelled out only where something is wrong with it.
enum At<'a> {
    Message,
    Field(&'a At<'a>, &'a str),
    Item(&'a At<'a>, usize),
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message => Ok(()),
            Self::Field(Self::Message, name) => f.write_str(name),
            Self::Field(above, name) => write!(f, "{above}.{name}"),
            Self::Item(above, index) => write!(f, "{above}.{index}"),
        }
    }
}

fn read_below(fields: &[Field], given: &Fields<'_>, above: &At<'_>) -> Result<Named, String> {
    let mut values = Named::with_capacity(fields.len());
    for field in fields {
        let path = At::Field(above, &field.name);
        let value = given.iter().rev().find(|(name, _)| **name == *field.name).map(|(_, value)| *value);
        // A client that sends `null` for what it has not means that it has it not.
        let absent = value.is_none_or(|value| value == "null" && (field.optional || field.default.is_some()));
        match (value, &field.default) {
            (Some(value), _) if !absent => values.push((field.name.clone(), field.spec.read(value, &path)?)),
            (_, Some(default)) => values.push((field.name.clone(), default.clone())),
            (_, None) if field.optional => {}
            (_, None) => return Err(format!("{path} is missing: it must be {}", field.spec.expected())),
        }
    }
    Ok(values)
}

impl Spec {
    /// What is expected, for messages.
    pub(crate) fn expected(&self) -> String {
        match self {
            Self::Any => "a value".to_owned(),
            Self::Id => "an id: a text of 1 to 255 bytes, or an integer".to_owned(),
            Self::Bool => "true or false".to_owned(),
            Self::Object | Self::Fields(_) => "an object".to_owned(),
            Self::Text(0, usize::MAX) => "a text".to_owned(),
            Self::Text(min, max) => format!("a text of {min} to {max} characters"),
            Self::Number(min, max) if min.is_infinite() && max.is_infinite() => "a number".to_owned(),
            Self::Number(min, max) => format!("a number from {min} to {max}"),
            Self::Integer(i64::MIN, i64::MAX) => "an integer".to_owned(),
            Self::Integer(min, max) => format!("an integer from {min} to {max}"),
            Self::Word(words) => format!("one of {}", words.join(", ")),
            Self::List(item, max) => format!("a list of at most {max}, each {}", item.expected()),
        }
    }

    fn branch(&self) -> Branch {
        match self {
            Self::Any | Self::Object | Self::List(..) => Branch::Open,
            Self::Id | Self::Bool | Self::Text(..) | Self::Number(..) | Self::Integer(..) | Self::Word(_) => {
                Branch::Value
            }
            Self::Fields(fields) => Branch::ValueWith(branches(fields)),
        }
    }

    fn out_of_bounds(&self, raw: &str, path: &At<'_>) -> String {
        let shown = if raw.len() <= SHOWN_MAX { raw } else { "that" };
        format!("{path} must be {}, not {shown}", self.expected())
    }

    fn read(&self, raw: &str, path: &At<'_>) -> Result<Box<str>, String> {
        let kept = |fits: bool| {
            if fits {
                Ok(Box::from(raw))
            } else {
                Err(format!("{path} must be {}, not {}", self.expected(), json::type_name(raw)))
            }
        };
        match self {
            Self::Any => kept(true),
            Self::Id if json::id(raw).is_none() => {
                Err(format!("{path} must be {}, not {}", self.expected(), json::no_id(raw)))
            }
            Self::Id => kept(true),
            Self::Bool => kept(matches!(raw, "true" | "false")),
            Self::Object => kept(raw.starts_with('{')),
            Self::Text(min, max) => match json::text(raw) {
                Some(text) => {
                    let characters = text.chars().count();
                    if (*min..=*max).contains(&characters) {
                        Ok(Box::from(raw))
                    } else {
                        Err(format!("{path} must be {}, not of {characters}", self.expected()))
                    }
                }
                None => kept(false),
            },
            Self::Number(min, max) => match number(raw) {
                Some(value) if !(*min..=*max).contains(&value) => Err(self.out_of_bounds(raw, path)),
                value => kept(value.is_some()),
            },
            Self::Integer(min, max) if json::is_integer(raw) => {
                match raw.parse().is_ok_and(|value: i64| (*min..=*max).contains(&value)) {
                    true => kept(true),
                    false => Err(self.out_of_bounds(raw, path)),
                }
            }
            Self::Integer(..) => kept(false),
            Self::Word(words) => {
                let known = json::text(raw).is_some_and(|text| words.iter().any(|word| **word == *text));
                if known { Ok(Box::from(raw)) } else { Err(format!("{path} must be {}", self.expected())) }
            }
            Self::List(item, max) => {
                let Some(items) = json::items(raw) else { return kept(false) };
                if items.len() > *max {
                    return Err(format!("{path} has {} items: at most {max} are let in", items.len()));
                }
                // Written anew, since of an object among the items only the declared fields come through.
                let mut list = String::with_capacity(raw.len());
                for (index, value) in items.iter().enumerate() {
                    list.push(if index == 0 { '[' } else { ',' });
                    list.push_str(&item.read(value, &At::Item(path, index))?);
                }
                list.push_str(if items.is_empty() { "[]" } else { "]" });
                Ok(list.into_boxed_str())
            }
            Self::Fields(fields) => {
                let Some(given) = json::fields(raw) else { return kept(false) };
                let mut object = String::from("{");
                for (name, value) in read_below(fields, &given, path)? {
                    if object.len() > 1 {
                        object.push(',');
                    }
                    json::push_text(&mut object, &name);
                    object.push(':');
                    object.push_str(&value);
                }
                object.push('}');
                Ok(object.into_boxed_str())
            }
        }
    }
}

/// The most of a client's number that an error repeats.
const SHOWN_MAX: usize = 32;

fn number(raw: &str) -> Option<f64> {
    raw.starts_with(|first: char| first == '-' || first.is_ascii_digit()).then(|| raw.parse().ok()).flatten()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests unwrap")]
mod tests {
    use super::*;

    fn field(name: &str, spec: Spec) -> Field {
        Field { name: name.into(), spec, optional: false, default: None }
    }

    fn check(spec: Spec, raw: &str, expected: Result<&str, &str>) {
        let message = format!(r#"{{"x":{raw},"more":1}}"#);
        let read = read(&[field("x", spec)], &Document::parse(message.as_bytes()).unwrap());
        let value = read.map(|values| values[0].1.to_string());
        assert_eq!(value, expected.map(str::to_owned).map_err(str::to_owned), "{raw}");
    }

    #[test]
    fn values_are_what_they_must_be() {
        check(Spec::Id, "42", Ok("42"));
        check(Spec::Id, r#""a""#, Ok(r#""a""#));
        check(Spec::Id, r#""""#, Err("x must be an id: a text of 1 to 255 bytes, or an integer, not an empty text"));
        let long = format!("{:?}", "x".repeat(256));
        let expected = "x must be an id: a text of 1 to 255 bytes, or an integer, not a text of 256 bytes";
        check(Spec::Id, &long, Err(expected));
        let expected = "x must be an id: a text of 1 to 255 bytes, or an integer, not a text with control characters";
        check(Spec::Id, r#""a\nb""#, Err(expected));
        check(Spec::Id, "1.0", Err("x must be an id: a text of 1 to 255 bytes, or an integer, not a number"));
        check(Spec::Text(1, 3), r#""äöü""#, Ok(r#""äöü""#));
        check(Spec::Text(1, 3), r#""abcd""#, Err("x must be a text of 1 to 3 characters, not of 4"));
        let expected = "x must be a text of 1 to 3 characters, not a text with half a character";
        check(Spec::Text(1, 3), r#""a\ud83e""#, Err(expected));
        check(Spec::Text(1, 3), r#""\ud83e\udd80""#, Ok(r#""\ud83e\udd80""#));
        check(Spec::Text(1, 3), "7", Err("x must be a text of 1 to 3 characters, not an integer"));
        check(Spec::Number(-90.0, 90.0), "-9.05e1", Err("x must be a number from -90 to 90, not -9.05e1"));
        check(Spec::Number(-90.0, 90.0), "89.50", Ok("89.50"));
        check(Spec::Integer(0, 9), "10", Err("x must be an integer from 0 to 9, not 10"));
        check(Spec::Bool, "true", Ok("true"));
        check(Spec::Word(vec!["a".into(), "b".into()]), r#""c""#, Err("x must be one of a, b"));
        check(Spec::List(Box::new(Spec::Id), 2), r#"[1,"b"]"#, Ok(r#"[1,"b"]"#));
        check(Spec::List(Box::new(Spec::Id), 2), "[1,2,3]", Err("x has 3 items: at most 2 are let in"));
        check(Spec::List(Box::new(Spec::Bool), 2), "[1]", Err("x.0 must be true or false, not an integer"));
        let lat = || Spec::Fields(vec![field("lat", Spec::Bool)]);
        check(lat(), r#"{"z":1,"lat":true}"#, Ok(r#"{"lat":true}"#));
        check(
            Spec::List(Box::new(lat()), 2),
            r#"[{"z":1,"lat":true}, {"lat":false}]"#,
            Ok(r#"[{"lat":true},{"lat":false}]"#),
        );
        check(Spec::List(Box::new(lat()), 2), "[ ]", Ok("[]"));
        check(Spec::Fields(vec![field("lat", Spec::Bool)]), "{}", Err("x.lat is missing: it must be true or false"));
        check(Spec::Fields(vec![field("lat", Spec::Bool)]), "3", Err("x must be an object, not an integer"));
    }

    #[test]
    fn what_may_be_missing_may_be_null() {
        let optional = Field { optional: true, ..field("a", Spec::Id) };
        let with_default = Field { default: Some("\"TEXT\"".into()), ..field("b", Spec::Id) };
        let fields = [optional, with_default];
        for raw in ["{}", r#"{"a":null,"b":null}"#] {
            let message = Document::parse(raw.as_bytes()).unwrap();
            assert_eq!(read(&fields, &message), Ok(vec![("b".into(), "\"TEXT\"".into())]), "{raw}");
        }
        assert_eq!(
            read(&fields, &Document::parse(b"[]").unwrap()),
            Err("the message must be an object, not a list".to_owned())
        );
    }
}
