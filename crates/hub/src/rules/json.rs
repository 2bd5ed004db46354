//! Raw JSON as text: checked once, then read in place. Builds no tree of values and never writes a payload again.
//! Knows nothing of rules.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::names::{NameError, check_name};

/// How deep objects and lists may stand in each other. What comes later, conditions and clients, may walk JSON by recursion.
pub(crate) const NESTING_MAX: usize = 128;

/// Why bytes are no JSON for us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// They break the grammar (RFC 8259) or are not UTF-8.
    NotJson(String),
    /// They go deeper than [`NESTING_MAX`].
    TooDeep,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson(why) => write!(f, "not JSON: {why}"),
            Self::TooDeep => write!(f, "nested deeper than {NESTING_MAX}"),
        }
    }
}

/// The fields of an object, in order, each with its value as raw JSON.
pub(crate) type Fields<'a> = Vec<(Cow<'a, str>, &'a str)>;

/// A whole JSON text that has been checked, the fields of its object at hand.
#[derive(Debug)]
pub(crate) struct Document<'a> {
    /// The text without the white space around it.
    pub(crate) raw: &'a str,
    /// Its fields; `None` where it is no object.
    pub(crate) fields: Option<Fields<'a>>,
}

impl<'a> Document<'a> {
    /// Checks a text and reads the fields of its object.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        Self::of_text(std::str::from_utf8(bytes).map_err(|error| Malformed::NotJson(error.to_string()))?)
    }

    /// The same for what is known to be a text.
    pub(crate) fn of_text(text: &'a str) -> Result<Self, Malformed> {
        check_nesting(text.as_bytes())?;
        let raw = text.trim_matches([' ', '\t', '\n', '\r']);
        let not_json = |error: serde_json::Error| Malformed::NotJson(error.to_string());
        // Reading the fields checks the values on the way, so that an object is gone through once.
        let fields = if raw.starts_with('{') {
            Some(serde_json::from_str::<FieldList<'a>>(raw).map_err(not_json)?.0)
        } else {
            serde_json::from_str::<&RawValue>(raw).map_err(not_json)?;
            None
        };
        Ok(Self { raw, fields })
    }

    /// The value of a field; of the last one where it is repeated, as `JSON.parse` takes it.
    pub(crate) fn field(&self, name: &str) -> Option<&'a str> {
        last(self.fields.as_ref()?, name)
    }

    /// The value at a path.
    pub(crate) fn path(&self, path: &[Box<str>]) -> Option<&'a str> {
        match path.split_first() {
            None => Some(self.raw),
            Some((first, rest)) if self.fields.is_some() => descend(self.field(first)?, rest),
            Some(_) => descend(self.raw, path),
        }
    }

    /// The text with these fields set: the value of a field that is there is replaced where it stands, the others are added at the end.
    /// Everything else keeps its bytes. `None` where the text is no object.
    pub(crate) fn with_fields(&self, set: &[(Box<str>, String)]) -> Option<String> {
        let fields = self.fields.as_ref()?;
        let mut replaced: Vec<(usize, usize, &str)> = Vec::new();
        let mut added = String::new();
        for (name, value) in set {
            match last(fields, name) {
                Some(own) if own == value => {}
                Some(own) => {
                    let start = own.as_ptr() as usize - self.raw.as_ptr() as usize;
                    replaced.push((start, start + own.len(), value));
                }
                None => {
                    if !fields.is_empty() || !added.is_empty() {
                        added.push(',');
                    }
                    push_text(&mut added, name);
                    added.push(':');
                    added.push_str(value);
                }
            }
        }
        replaced.sort_unstable_by_key(|(start, _, _)| *start);
        let end = self.raw.rfind('}').expect("an object ends with a brace");
        let mut text = String::with_capacity(self.raw.len() + added.len() + 16);
        let mut copied = 0;
        for (start, stop, value) in replaced {
            text.push_str(&self.raw[copied..start]);
            text.push_str(value);
            copied = stop;
        }
        text.push_str(&self.raw[copied..end]);
        text.push_str(&added);
        text.push('}');
        Some(text)
    }
}

/// The value at a path below a raw value that has been checked.
pub(crate) fn descend<'a>(raw: &'a str, path: &[Box<str>]) -> Option<&'a str> {
    let mut value = raw;
    for step in path {
        value = match value.as_bytes().first()? {
            b'{' => last(&fields(value)?, step)?,
            b'[' => *items(value)?.get(step.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(value)
}

/// The fields of a raw object; `None` for anything else.
pub(crate) fn fields(raw: &str) -> Option<Fields<'_>> {
    serde_json::from_str::<FieldList<'_>>(raw).ok().map(|list| list.0)
}

/// The items of a raw list; `None` for anything else.
pub(crate) fn items(raw: &str) -> Option<Vec<&str>> {
    serde_json::from_str::<ItemList<'_>>(raw).ok().map(|list| list.0)
}

/// The text of a raw string; `None` for anything else, and for a string with half a surrogate pair.
pub(crate) fn text(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        serde_json::from_str::<String>(raw).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

/// The text of an id: a string that may stand in a name, or an integer's digits.
pub(crate) fn id(raw: &str) -> Option<Cow<'_, str>> {
    if is_integer(raw) {
        return Some(Cow::Borrowed(raw));
    }
    text(raw).filter(|text| check_name(text).is_ok())
}

/// Whether a raw value is a number without fraction or exponent.
pub(crate) fn is_integer(raw: &str) -> bool {
    let digits = raw.strip_prefix('-').unwrap_or(raw);
    !digits.is_empty() && digits.len() <= 40 && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// What a raw value is, for messages.
pub(crate) fn type_name(raw: &str) -> &'static str {
    match raw.as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') if raw == "\"\"" => "an empty text",
        // JSON can spell what is no text: half of a character that a client has cut in two.
        Some(b'"') if text(raw).is_none() => "a text with half a character",
        Some(b'"') => "a text",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        Some(_) if is_integer(raw) => "an integer",
        Some(_) => "a number",
        None => "nothing",
    }
}

/// What a raw value is that is no id, for messages.
pub(crate) fn no_id(raw: &str) -> Cow<'static, str> {
    match text(raw).map(|text| (text.len(), check_name(&text))) {
        Some((length, Err(NameError::TooLong))) => Cow::Owned(format!("a text of {length} bytes")),
        Some((_, Err(NameError::Control))) => Cow::Borrowed("a text with control characters"),
        Some((_, Ok(()) | Err(NameError::Empty))) | None => Cow::Borrowed(type_name(raw)),
    }
}

/// Appends a text as a JSON string.
pub(crate) fn push_text(out: &mut String, text: &str) {
    if text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::to_string(text).expect("every text is a JSON string"));
    }
}

/// A text as a JSON string.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    push_text(&mut out, text);
    out
}

/// A time as clients read it: ISO 8601, UTC, with milliseconds. The calendar arithmetic is Howard Hinnant's `civil_from_days`.
pub fn iso_8601(unix_ms: u64) -> String {
    let (days, of_day_ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (secs, ms) = (of_day_ms / 1_000, of_day_ms % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{ms:03}Z", secs / 3_600, secs / 60 % 60, secs % 60)
}

fn last<'a>(fields: &Fields<'a>, name: &str) -> Option<&'a str> {
    fields.iter().rev().find(|(key, _)| key == name).map(|(_, value)| *value)
}

/// Refuses what goes too deep. Needs no valid JSON: on anything else the parser errs afterwards.
fn check_nesting(bytes: &[u8]) -> Result<(), Malformed> {
    // What opens so seldom cannot go too deep, wherever it closes: counting is far cheaper than following.
    if bytes.iter().filter(|byte| matches!(byte, b'{' | b'[')).count() <= NESTING_MAX {
        return Ok(());
    }
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in bytes {
        if in_text {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_text = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_text = true,
            b'{' | b'[' => {
                depth += 1;
                if depth > NESTING_MAX {
                    return Err(Malformed::TooDeep);
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

struct FieldList<'a>(Fields<'a>);

impl<'de> Deserialize<'de> for FieldList<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = FieldList<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::with_capacity(16);
                while let Some(name) = map.next_key_seed(FieldName)? {
                    fields.push((name, map.next_value::<&'de RawValue>()?.get()));
                }
                Ok(FieldList(fields))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// A field's name, borrowed where it holds no escape.
struct FieldName;

impl<'de> DeserializeSeed<'de> for FieldName {
    type Value = Cow<'de, str>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for FieldName {
    type Value = Cow<'de, str>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }
    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }
    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

struct ItemList<'a>(Vec<&'a str>);

impl<'de> Deserialize<'de> for ItemList<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = ItemList<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element::<&'de RawValue>()? {
                    items.push(item.get());
                }
                Ok(ItemList(items))
            }
        }
        deserializer.deserialize_seq(InOrder)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests unwrap")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn steps(path: &str) -> Vec<Box<str>> {
        path.split('.').map(Box::from).collect()
    }

    #[test]
    fn paths_are_read_in_place() {
        let document =
            Document::parse(br#" {"a": {"b": [1, {"c": 1.0e2}]}, "a\u0062": "x", "r": 1, "r": 2} "#).unwrap();
        for (path, expected) in [
            ("a.b.0", Some("1")),
            ("a.b.1.c", Some("1.0e2")),
            ("ab", Some("\"x\"")),
            ("r", Some("2")),
            ("a.b.2", None),
            ("a.b.c", None),
            ("r.x", None),
        ] {
            assert_eq!(document.path(&steps(path)), expected, "{path}");
        }
    }

    #[test]
    fn fields_are_set_without_touching_the_rest() {
        for (before, set, expected) in [
            (r#"{"b":1.0, "a" : 2}"#, r#"{"t":3}"#, r#"{"b":1.0, "a" : 2,"t":3}"#),
            (r#"{"b":1.0, "a" : 2}"#, r#"{"b":"x","a":null}"#, r#"{"b":"x", "a" : null}"#),
            ("{}", r#"{"t":3,"u":4}"#, r#"{"t":3,"u":4}"#),
            ("{ }", r#"{"t":3}"#, r#"{ "t":3}"#),
            (r#"{"b":1.0}"#, r#"{"b":1.0}"#, r#"{"b":1.0}"#),
        ] {
            let set: Vec<(Box<str>, String)> =
                fields(set).unwrap().into_iter().map(|(name, value)| (Box::from(&*name), value.to_owned())).collect();
            let document = Document::parse(before.as_bytes()).unwrap();
            assert_eq!(document.with_fields(&set).as_deref(), Some(expected), "{before}");
        }
        assert_eq!(Document::parse(b"[1]").unwrap().with_fields(&[]), None);
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for bytes in
            [&b""[..], b"{", b"nope", b"{\"a\":1,}", b"\"\xff\"", b"1 2", b"{\"a\":\"\xff\"}", b"\xef\xbb\xbf{}"]
        {
            assert!(Document::parse(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_and_brackets_in_texts_do_not_count() {
        let deep = |depth: usize| ["[".repeat(depth), "]".repeat(depth)].concat();
        assert!(Document::parse(deep(NESTING_MAX).as_bytes()).is_ok());
        assert_eq!(Document::parse(deep(NESTING_MAX + 1).as_bytes()).unwrap_err(), Malformed::TooDeep);
        assert_eq!(Document::parse("[".repeat(1_000_000).as_bytes()).unwrap_err(), Malformed::TooDeep);
        let text = format!("\"{}\"", "[\\\"".repeat(1_000));
        assert!(Document::parse(text.as_bytes()).is_ok());
    }

    #[test]
    fn times_are_iso_8601() {
        for (unix_ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_123, "2000-02-29T00:00:00.123Z"),
            (1_795_211_040_000, "2026-11-20T21:44:00.000Z"),
            (4_102_444_799_999, "2099-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(iso_8601(unix_ms), expected);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            if let Ok(document) = Document::parse(&bytes) {
                prop_assert!(serde_json::from_slice::<serde_json::Value>(document.raw.as_bytes()).is_ok());
            }
        }

        #[test]
        fn a_quoted_text_reads_back(written: String) {
            let raw = quoted(&written);
            let read = text(&raw);
            prop_assert_eq!(read.as_deref(), Some(written.as_str()));
        }
    }
}
