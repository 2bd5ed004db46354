//! Bodies of the server API: one JSON object, field by field, so that an answer can name the field that is wrong. Knows no call.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::header::EXPECT;
use http_body_util::BodyExt as _;
use hub::codes::ErrorCode;
use serde_json::value::RawValue;

use crate::ops::calls::Refused;

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// What is read and thrown away of a body that is too large, so that its sender is there to read the answer.
const DISCARDED_MAX_BYTES: usize = 16 * 1024 * 1024;

/// Reads a body of at most this size.
///
/// # Errors
/// It is larger, or does not arrive.
pub(super) async fn read(request: Request, max_bytes: u64) -> Result<Bytes, Refused> {
    let max_bytes = usize::try_from(max_bytes).unwrap_or(usize::MAX);
    let declared = request.body().size_hint().lower();
    // Who asks before sending gets the answer before sending.
    if declared > max_bytes as u64 && request.headers().contains_key(EXPECT) {
        return Err(too_large(max_bytes));
    }
    match tokio::time::timeout(BODY_TIMEOUT, collect(request.into_body(), max_bytes)).await {
        Ok(Ok(Some(body))) => Ok(body),
        Ok(Ok(None)) => Err(too_large(max_bytes)),
        Ok(Err(_)) | Err(_) => {
            let message = "the body did not arrive".to_owned();
            Err(Refused { status: StatusCode::REQUEST_TIMEOUT, code: ErrorCode::BadMessage, message })
        }
    }
}

/// The whole body, or `None` if it is too large.
async fn collect(mut body: Body, max_bytes: usize) -> Result<Option<Bytes>, axum::Error> {
    let (mut collected, mut discarded) = (BytesMut::new(), 0);
    while let Some(frame) = body.frame().await {
        let Ok(chunk) = frame?.into_data() else { continue };
        if discarded == 0 && collected.len() + chunk.len() <= max_bytes {
            collected.extend_from_slice(&chunk);
            continue;
        }
        collected = BytesMut::new();
        discarded += chunk.len();
        if discarded > DISCARDED_MAX_BYTES {
            break;
        }
    }
    Ok((discarded == 0).then(|| collected.freeze()))
}

fn too_large(max_bytes: usize) -> Refused {
    let message = format!("the body is larger than {max_bytes} bytes");
    Refused { status: StatusCode::PAYLOAD_TOO_LARGE, code: ErrorCode::TooLarge, message }
}

/// The fields of a body that nobody has taken yet.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    left: BTreeMap<String, &'a RawValue>,
    asked: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// Takes a body apart.
    ///
    /// # Errors
    /// It is no JSON object.
    pub(super) fn read(body: &'a [u8]) -> Result<Self, Refused> {
        let left = serde_json::from_slice(body).map_err(|error| Refused {
            status: StatusCode::BAD_REQUEST,
            code: ErrorCode::BadMessage,
            message: format!("the body must be a JSON object: {error}"),
        })?;
        Ok(Self { left, asked: Vec::new() })
    }

    /// A field as it came.
    pub(super) fn raw(&mut self, name: &'static str) -> Option<&'a str> {
        self.asked.push(name);
        self.left.remove(name).map(RawValue::get)
    }

    /// A field that is a text.
    pub(super) fn text(&mut self, name: &'static str) -> Result<Option<String>, Refused> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        serde_json::from_str(raw).map(Some).map_err(|_| Refused::field(name, "must be a text"))
    }

    /// A field that is a list of texts.
    pub(super) fn texts(&mut self, name: &'static str) -> Result<Option<Vec<String>>, Refused> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        serde_json::from_str(raw).map(Some).map_err(|_| Refused::field(name, "must be a list of texts"))
    }

    /// A field that is a text or an integer, as its text.
    pub(super) fn id(&mut self, name: &'static str) -> Result<Option<String>, Refused> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        let id = match raw.parse::<i128>() {
            Ok(integer) => integer.to_string(),
            Err(_) => serde_json::from_str(raw).map_err(|_| Refused::field(name, "must be a text or an integer"))?,
        };
        if id.is_empty() { Err(Refused::field(name, "is empty")) } else { Ok(Some(id)) }
    }

    /// Refuses a field that nobody asked for: a misspelt `rooms` must not go to everyone.
    pub(super) fn none_left(self) -> Result<(), Refused> {
        match self.left.keys().next() {
            None => Ok(()),
            Some(name) => {
                let known: Vec<String> = self.asked.iter().map(|known| format!("{known:?}")).collect();
                Err(Refused::field(name, &format!("is not known; there is {}", known.join(", "))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, read: impl FnOnce(&mut Fields<'_>) -> Result<(), Refused>, expected: &str) {
        let read = Fields::read(body.as_bytes()).and_then(|mut fields| {
            read(&mut fields)?;
            fields.none_left()
        });
        let message = read.map_or_else(|refused| refused.message, |()| "good".to_owned());
        assert!(message.starts_with(expected), "{body}: {message:?} should begin with {expected:?}");
    }

    #[test]
    fn an_answer_names_the_field_that_is_wrong() {
        check(r#"{"event":"a"}"#, |fields| fields.text("event").map(drop), "good");
        check(r#"{"event":1}"#, |fields| fields.text("event").map(drop), "field \"event\" must be a text");
        check(r#"{"event":null}"#, |fields| fields.text("event").map(drop), "field \"event\" must be a text");
        check("{}", |fields| fields.text("event").map(|text| assert_eq!(text, None)), "good");
        let rooms = |fields: &mut Fields<'_>| fields.texts("rooms").map(drop);
        check(r#"{"rooms":["a","b"]}"#, rooms, "good");
        check(r#"{"rooms":"a"}"#, rooms, "field \"rooms\" must be a list of texts");
        check(r#"{"rooms":["a",1]}"#, rooms, "field \"rooms\" must be a list of texts");
        check(r#"{"roms":[]}"#, rooms, "field \"roms\" is not known; there is \"rooms\"");
        for body in ["", "[]", "{", "nonsense", "{\"a\":1}}"] {
            check(body, rooms, "the body must be a JSON object: ");
        }
    }

    #[test]
    fn an_id_is_a_text_or_an_integer() {
        let table = [
            ("42", Some("42")),
            ("\"42\"", Some("42")),
            ("-1", Some("-1")),
            ("\"\"", None),
            ("4.2", None),
            ("{}", None),
        ];
        for (raw, expected) in table {
            let body = format!("{{\"userId\":{raw}}}");
            let id = Fields::read(body.as_bytes()).and_then(|mut fields| fields.id("userId"));
            assert_eq!(id.ok().flatten().as_deref(), expected, "{raw}");
        }
    }

    #[test]
    fn data_stays_as_it_came() {
        let body = r#"{"data": {"b":1.0, "a":"\u00e9"} }"#;
        let data = Fields::read(body.as_bytes()).expect("an object").raw("data");
        assert_eq!(data, Some(r#"{"b":1.0, "a":"\u00e9"}"#));
    }
}
