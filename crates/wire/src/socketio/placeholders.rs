//! Whether the placeholders of a binary packet number its attachments. Works on checked JSON and leaves it as it is.

use super::decode::{MAX_DEPTH, ParseError};
use crate::raw::{is_space, key_is, skip, string_end};

/// An object or array that the walk is within.
enum Open<'a> {
    Array,
    Object { placeholder: bool, number: Option<&'a str> },
}

/// Checks every object `{"_placeholder":true,"num":n}` of the JSON: `n` must be a whole number below `attachments`.
///
/// As in JavaScript a later field of the same name wins, other fields beside the two do not matter, and an object whose
/// `_placeholder` is anything but `true` is an ordinary one.
pub(super) fn check(json: &str, attachments: usize) -> Result<(), ParseError> {
    let bytes = json.as_bytes();
    let mut open: Vec<Open<'_>> = Vec::new();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'[' | b'{' if open.len() == MAX_DEPTH => return Err(ParseError::TooDeep),
            b'[' => open.push(Open::Array),
            b'{' => open.push(Open::Object { placeholder: false, number: None }),
            b']' => drop(open.pop()),
            b'}' => {
                if let Some(Open::Object { placeholder: true, number }) = open.pop() {
                    check_number(number, attachments)?;
                }
            }
            b'"' => {
                let end = string_end(bytes, at);
                let colon = skip(bytes, end, is_space);
                if bytes.get(colon) != Some(&b':') {
                    at = end;
                    continue;
                }
                let value = skip(bytes, colon + 1, is_space);
                if let Some(Open::Object { placeholder, number }) = open.last_mut() {
                    let key = &bytes[at..end];
                    if key_is(key, "_placeholder") {
                        *placeholder = bytes[value..].starts_with(b"true");
                    } else if key_is(key, "num") {
                        *number = Some(scalar(json, value));
                    }
                }
                at = value;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

fn check_number(number: Option<&str>, attachments: usize) -> Result<(), ParseError> {
    let number = number.and_then(|text| text.parse::<f64>().ok()).ok_or(ParseError::Placeholder)?;
    // Spelled as a double, as JavaScript sees it: `1.0` is 1. At most ten attachments, so the comparison is exact.
    if (0..attachments).any(|index| number == index as f64) { Ok(()) } else { Err(ParseError::Placeholder) }
}

/// The text of a number, or something that is none.
fn scalar(json: &str, start: usize) -> &str {
    let end = skip(json.as_bytes(), start, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.'));
    json.get(start..end).unwrap_or_default()
}
