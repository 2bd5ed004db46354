//! The plain JSON dialects of clients without Socket.IO: one object per WebSocket message, with the event's name in `type`.
//! Knows no event by name, and never writes a payload anew: its bytes go through as they came.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

use crate::raw;

/// Where an event's payload stands in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Envelope {
    /// `{"type":"name", …the payload's fields}`.
    Flat,
    /// `{"type":"name","data":…}`.
    Data,
}

/// A client's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The event's name, unescaped.
    pub event: Cow<'a, str>,
    /// Its payload as it came: the whole object for `Flat`, the value of `data` for `Data`.
    pub data: Option<&'a str>,
}

/// What is wrong with a client's message. The client's fault; the text is meant for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageError {
    /// Not JSON.
    NotJson {
        /// What the parser says.
        problem: String,
        /// Where, counted from 1.
        line: usize,
        /// Where in the line, counted from 1, in bytes.
        column: usize,
    },
    /// JSON, but no object.
    NotAnObject,
    /// No field `type`.
    NoType,
    /// A field `type` that is no string.
    TypeNotAString,
}

impl fmt::Display for MessageError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson { problem, line: 0 | 1, column } => {
                write!(formatter, "not JSON: {problem} at column {column}")
            }
            Self::NotJson { problem, line, column } => {
                write!(formatter, "not JSON: {problem} at line {line}, column {column}")
            }
            Self::NotAnObject => formatter.write_str("not a JSON object"),
            Self::NoType => formatter.write_str("no field \"type\""),
            Self::TypeNotAString => formatter.write_str("field \"type\" must be a string"),
        }
    }
}

impl std::error::Error for MessageError {}

/// Reads a client's message. Of a field that came twice the last counts, as in JavaScript.
pub fn parse(text: &str, envelope: Envelope) -> Result<Message<'_>, MessageError> {
    let object = raw::check(text).map_err(|error| not_json(&error))?;
    if !object.starts_with('{') {
        return Err(MessageError::NotAnObject);
    }
    let mut name = None;
    let mut data = None;
    for field in raw::fields(object) {
        if field.is("type") {
            name = Some(field.value);
        } else if field.is("data") {
            data = Some(field.value);
        }
    }
    let event = raw::unescape(name.ok_or(MessageError::NoType)?).ok_or(MessageError::TypeNotAString)?;
    let data = match envelope {
        Envelope::Flat => Some(object),
        Envelope::Data => data,
    };
    Ok(Message { event, data })
}

/// The message for an event. `arguments` is the checked JSON of its arguments, joined by commas; only the first is sent, and
/// without any the message is `{"type":"name"}`.
///
/// In `Flat` a field `type` of the payload gives way to the event's name, and a payload that is no object travels as in `Data`.
pub fn encode(envelope: Envelope, event: &str, arguments: &[u8]) -> Bytes {
    let payload = raw::next_element(arguments, &mut 0).map(|range| &arguments[range]);
    let mut out = Vec::with_capacity(event.len() + payload.map_or(0, <[u8]>::len) + r#"{"type":"","data":}"#.len());
    out.extend_from_slice(br#"{"type":"#);
    write_string(event, &mut out);
    match (payload, envelope) {
        (None, Envelope::Flat | Envelope::Data) => {}
        (Some(object @ [b'{', ..]), Envelope::Flat) => write_fields(object, &mut out),
        (Some(value), Envelope::Flat | Envelope::Data) => {
            out.extend_from_slice(br#","data":"#);
            out.extend_from_slice(value);
        }
    }
    out.push(b'}');
    out.into()
}

/// Appends a JSON string, with everything escaped that JSON asks for.
pub(crate) fn write_string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a string is JSON, and a vector takes all of it");
}

fn write_fields(object: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    while let Some((key, value)) = raw::next_field(object, &mut at) {
        if !raw::key_is(&object[key.clone()], "type") {
            out.push(b',');
            out.extend_from_slice(&object[key.start..value.end]);
        }
    }
}

fn not_json(error: &serde_json::Error) -> MessageError {
    let text = error.to_string();
    let problem = text.split(" at line ").next().unwrap_or_default().to_owned();
    MessageError::NotJson { problem, line: error.line(), column: error.column() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_message_has_a_name_and_a_payload() {
        let check = |text, envelope, event: &str, data| {
            assert_eq!(parse(text, envelope), Ok(Message { event: event.into(), data }), "{text}");
        };
        check(r#"{"type":"ping"}"#, Envelope::Data, "ping", None);
        check(r#"{"type":"ping"}"#, Envelope::Flat, "ping", Some(r#"{"type":"ping"}"#));
        check(r#"{"data":{"a": 1.0},"type":"x"}"#, Envelope::Data, "x", Some(r#"{"a": 1.0}"#));
        check(r#" {"a": 1.0 , "type":"x"} "#, Envelope::Flat, "x", Some(r#"{"a": 1.0 , "type":"x"}"#));
        check(r#"{"type":"first","type":"last"}"#, Envelope::Data, "last", None);
        check(r#"{"\u0074ype":"\u0074yping"}"#, Envelope::Data, "typing", None);
        check(r#"{"data":{"type":"inner"},"type":"outer"}"#, Envelope::Data, "outer", Some(r#"{"type":"inner"}"#));
    }

    #[test]
    fn an_error_names_what_is_wrong() {
        let check = |text, expected: &str| {
            assert_eq!(parse(text, Envelope::Data).expect_err(text).to_string(), expected, "{text}");
        };
        check("hello", "not JSON: expected value at column 1");
        check("{\"type\":\n}", "not JSON: expected value at line 2, column 1");
        check("", "not JSON: EOF while parsing a value at column 0");
        check("[1]", "not a JSON object");
        check(r#"{"data":1}"#, "no field \"type\"");
        check(r#"{"type":null}"#, "field \"type\" must be a string");
        check(r#"{"type":["x"]}"#, "field \"type\" must be a string");
    }

    #[test]
    fn an_event_is_written_once_per_envelope() {
        let check = |arguments: &str, flat: &str, data: &str| {
            assert_eq!(encode(Envelope::Flat, "new", arguments.as_bytes()), flat, "flat {arguments}");
            assert_eq!(encode(Envelope::Data, "new", arguments.as_bytes()), data, "data {arguments}");
        };
        check("", r#"{"type":"new"}"#, r#"{"type":"new"}"#);
        check("{}", r#"{"type":"new"}"#, r#"{"type":"new","data":{}}"#);
        check(
            r#"{"b": 1.00,"a":"é"}"#,
            r#"{"type":"new","b": 1.00,"a":"é"}"#,
            r#"{"type":"new","data":{"b": 1.00,"a":"é"}}"#,
        );
        check(
            r#"{"type":"old","a":{"type":1}}"#,
            r#"{"type":"new","a":{"type":1}}"#,
            r#"{"type":"new","data":{"type":"old","a":{"type":1}}}"#,
        );
        check("[1],2", r#"{"type":"new","data":[1]}"#, r#"{"type":"new","data":[1]}"#);
        check("null", r#"{"type":"new","data":null}"#, r#"{"type":"new","data":null}"#);
        assert_eq!(encode(Envelope::Data, "a\"b", b""), r#"{"type":"a\"b"}"#);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(event: String, a: String, b: i64) {
            let payload = serde_json::json!({ "type": "hidden", "a": a, "b": b }).to_string();
            let text = encode(Envelope::Data, &event, payload.as_bytes());
            let message = parse(std::str::from_utf8(&text).expect("UTF-8"), Envelope::Data).expect("a message");
            prop_assert_eq!(message.event, event.as_str());
            prop_assert_eq!(message.data, Some(payload.as_str()));

            let text = encode(Envelope::Flat, &event, payload.as_bytes());
            let value: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
            prop_assert_eq!(value, serde_json::json!({ "type": event, "a": a, "b": b }));
        }

        #[test]
        fn no_text_and_no_payload_panics(text in "\\PC{0,40}|[\\[\\]{}\",:\\\\ typeda1]{0,40}") {
            let read = parse(&text, Envelope::Flat);
            prop_assert!(read.is_err() || text.contains("type") || text.contains('\\'));
            prop_assert!(encode(Envelope::Flat, "e", text.as_bytes()).len() <= text.len() + 30);
        }
    }
}
