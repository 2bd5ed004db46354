//! Pieces of JSON that has been checked already, borrowed as they came. Knows no dialect, and checks nothing but where [`check`]
//! says so: on text that is not JSON the pieces are meaningless, but nothing panics and every walk ends.
//!
//! JSON allows no raw control character in a string and only space, tab, CR and LF outside: checked JSON never holds 0x1e, the
//! separator of polling payloads, and may be put into one as it is.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::value::RawValue;

/// Checks that a text is one JSON value and gives it without surrounding space.
pub fn check(text: &str) -> Result<&str, serde_json::Error> {
    serde_json::from_str::<&RawValue>(text).map(RawValue::get)
}

/// The elements of an array (`[1,"x"]`), each as it came; none of anything else.
pub fn elements(array: &str) -> Elements<'_> {
    match array.trim_ascii_start().strip_prefix('[') {
        Some(inside) => Elements { text: inside, at: 0 },
        None => Elements { text: "", at: 0 },
    }
}

/// The elements of a list without brackets (`1,"x"`), as the arguments of an event are kept.
pub fn arguments(joined: &str) -> Elements<'_> {
    Elements { text: joined, at: 0 }
}

/// The elements of an array, in order.
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Elements<'a> {
    /// What has not been taken yet, without the comma before it: the elements after the last one taken.
    pub fn rest(&self) -> &'a str {
        let start = skip(self.text.as_bytes(), self.at, |byte| is_space(byte) || byte == b',');
        slice(self.text, start..self.text.len())
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let range = next_element(self.text.as_bytes(), &mut self.at)?;
        Some(slice(self.text, range))
    }
}

/// A field of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// The key as it came, with its quotes and escapes.
    pub key: &'a str,
    /// The value as it came.
    pub value: &'a str,
}

impl Field<'_> {
    /// Whether this is the key's name, however it is escaped.
    pub fn is(&self, name: &str) -> bool {
        key_is(self.key.as_bytes(), name)
    }
}

/// The fields of an object, in order, repeated ones as often as they came.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    text: &'a str,
    at: usize,
}

/// The fields of an object; none of anything else.
pub fn fields(object: &str) -> Fields<'_> {
    Fields { text: object, at: 0 }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let (key, value) = next_field(self.text.as_bytes(), &mut self.at)?;
        Some(Field { key: slice(self.text, key), value: slice(self.text, value) })
    }
}

/// The text that a JSON string means. None for what is no string, and for a lone surrogate, which JSON can spell but text cannot hold.
pub fn unescape(string: &str) -> Option<Cow<'_, str>> {
    let inside = string.strip_prefix('"')?.strip_suffix('"')?;
    if inside.contains('\\') { serde_json::from_str(string).ok().map(Cow::Owned) } else { Some(Cow::Borrowed(inside)) }
}

/// Whether a key as it came, with its quotes, spells this name.
pub(crate) fn key_is(key: &[u8], name: &str) -> bool {
    match key.strip_prefix(b"\"").and_then(|key| key.strip_suffix(b"\"")) {
        Some(inside) if inside.contains(&b'\\') => serde_json::from_slice::<String>(key).is_ok_and(|key| key == name),
        Some(inside) => inside == name.as_bytes(),
        None => false,
    }
}

/// The next element of a list at `at`, which moves behind it.
pub(crate) fn next_element(json: &[u8], at: &mut usize) -> Option<Range<usize>> {
    let start = skip(json, *at, |byte| is_space(byte) || byte == b',');
    let end = value_end(json, start);
    *at = end;
    (start < end).then_some(start..end)
}

/// The key and value of the next field at `at`, which moves behind it. The first call stands at the object's beginning.
pub(crate) fn next_field(json: &[u8], at: &mut usize) -> Option<(Range<usize>, Range<usize>)> {
    let between = if *at == 0 { b'{' } else { b',' };
    let separator = skip(json, *at, is_space);
    if json.get(separator) != Some(&between) {
        return None;
    }
    let key = skip(json, separator + 1, is_space);
    if json.get(key) != Some(&b'"') {
        return None;
    }
    let key_end = string_end(json, key);
    let value = skip(json, key_end, |byte| is_space(byte) || byte == b':');
    let end = value_end(json, value);
    *at = end;
    Some((key..key_end, value..end))
}

/// Where the string that begins at `start` ends, behind its closing quote.
pub(crate) fn string_end(json: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = json.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    json.len()
}

/// The first place from `at` on whose byte is not to be skipped.
pub(crate) fn skip(json: &[u8], at: usize, skipped: impl Fn(u8) -> bool) -> usize {
    let rest = json.get(at..).unwrap_or_default();
    at + rest.iter().position(|byte| !skipped(*byte)).unwrap_or(rest.len())
}

/// What JSON counts as space.
pub(crate) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Where the value that begins at `start` ends. Counts brackets instead of recursing, so depth costs nothing.
fn value_end(json: &[u8], start: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = start;
    while let Some(byte) = json.get(at) {
        match byte {
            b'"' => at = string_end(json, at),
            b'[' | b'{' => {
                depth += 1;
                at += 1;
                continue;
            }
            b']' | b'}' => {
                if depth == 0 {
                    return at;
                }
                depth -= 1;
                at += 1;
            }
            b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' => {
                if depth == 0 {
                    return at;
                }
                at += 1;
                continue;
            }
            _ => {
                at = skip(json, at, |byte| {
                    !is_space(byte) && !matches!(byte, b',' | b':' | b']' | b'}' | b'"' | b'[' | b'{')
                });
            }
        }
        if depth == 0 {
            return at.min(json.len());
        }
    }
    at.min(json.len())
}

/// A piece of a text whose ends stand beside ASCII characters. In what is not JSON they may not; then it is empty.
fn slice(text: &str, range: Range<usize>) -> &str {
    text.get(range).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn elements_come_as_they_were_written() {
        let check =
            |array: &str, expected: &[&str]| assert_eq!(elements(array).collect::<Vec<_>>(), expected, "{array}");
        check("[]", &[]);
        check("[ ]", &[]);
        check("[1]", &["1"]);
        check(
            r#" [1.0, "a,b]" ,{"x":[1,{}]}, [[],"\"]"] ,null]"#,
            &["1.0", r#""a,b]""#, r#"{"x":[1,{}]}"#, r#"[[],"\"]"]"#, "null"],
        );
        check(r#"["é","\\"]"#, &[r#""é""#, r#""\\""#]);
        check("{}", &[]);
    }

    #[test]
    fn a_list_without_brackets_may_begin_with_an_array() {
        assert_eq!(arguments("[1],[2]").collect::<Vec<_>>(), ["[1]", "[2]"]);
        let mut list = arguments(r#""name" , [1], 2"#);
        assert_eq!((list.next(), list.rest()), (Some(r#""name""#), "[1], 2"));
        assert_eq!(arguments("").next(), None);
    }

    #[test]
    fn fields_keep_their_spelling() {
        let pairs = |object| fields(object).map(|field| (field.key, field.value)).collect::<Vec<_>>();
        assert_eq!(pairs("{}"), []);
        assert_eq!(pairs("[1]"), []);
        assert_eq!(
            pairs(r#" { "a" : 1e3 ,"b":{"a":[]},"a":"}" } "#),
            [(r#""a""#, "1e3"), (r#""b""#, r#"{"a":[]}"#), (r#""a""#, r#""}""#)]
        );
        assert!(fields(r#"{"\u0061":1}"#).next().expect("one field").is("a"));
    }

    #[test]
    fn unescape_knows_what_text_can_hold() {
        assert_eq!(unescape(r#""plain""#).as_deref(), Some("plain"));
        assert_eq!(unescape(r#""a\u0000\"\ud83d\ude00""#).as_deref(), Some("a\0\"😀"));
        assert_eq!(unescape(r#""\ud800""#), None);
        assert_eq!(unescape("1"), None);
    }

    #[test]
    fn checked_json_holds_no_separator() {
        assert!(check("\"a\u{1e}b\"").is_err());
        assert!(check("[1,\u{1e}2]").is_err());
        assert_eq!(check(r#" ["\u001e"] "#).ok(), Some(r#"["\u001e"]"#));
    }

    proptest! {
        #[test]
        fn elements_agree_with_serde_json(values in prop::collection::vec(value(), 0..6)) {
            let array = serde_json::to_string(&values).expect("values are JSON");
            let found: Vec<serde_json::Value> = elements(&array).map(|text| serde_json::from_str(text).expect("an element")).collect();
            prop_assert_eq!(found, values);
        }

        #[test]
        fn walks_end_on_anything(text in "[\\[\\]{}\",:\\\\ a1é]{0,40}") {
            prop_assert!(elements(&text).count() <= text.len());
            prop_assert!(arguments(&text).count() <= text.len());
            prop_assert!(fields(&text).count() <= text.len());
            prop_assert!(unescape(&text).is_none_or(|plain| plain.len() <= text.len()));
        }
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
                prop::collection::btree_map(any::<String>(), inner, 0..5).prop_map(|map| map.into_iter().collect()),
            ]
        })
    }
}
