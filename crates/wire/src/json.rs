//! The plain JSON dialects of clients without Socket.IO: one object per WebSocket message, with the event's name in `type`.
//! Knows no event by name.

use std::borrow::Cow;

use bytes::Bytes;

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

/// What is wrong with a client's message; the text is meant for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageError {
    /// Not JSON.
    NotJson {
        /// What the parser expected.
        expected: String,
        /// Where, counted from 1.
        column: usize,
    },
    /// JSON, but no object.
    NotAnObject,
    /// No field `type`.
    NoType,
    /// A field `type` that is no string.
    TypeNotAString,
}

/// Reads a client's message.
pub fn parse(text: &str, envelope: Envelope) -> Result<Message<'_>, MessageError> {
    let _ = (text, envelope);
    todo!()
}

/// The message for an event. `arguments` is the JSON of its arguments, joined by commas; only the first is sent.
pub fn encode(envelope: Envelope, event: &str, arguments: &[u8]) -> Bytes {
    let _ = (envelope, event, arguments);
    todo!()
}
