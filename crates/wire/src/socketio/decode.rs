//! Text and binary messages into packets. Knows nothing of who sent them.

use std::borrow::Cow;

use bytes::Bytes;

use crate::raw;

/// How many binary attachments a packet may have.
pub const MAX_ATTACHMENTS: usize = 10;

/// The type of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `0`: joins a namespace, or says that it was joined.
    Connect,
    /// `1`: leaves a namespace.
    Disconnect,
    /// `2`: an event.
    Event,
    /// `3`: the answer to an event.
    Ack,
    /// `4`: a namespace could not be joined.
    ConnectError,
    /// `5`: an event with attachments.
    BinaryEvent,
    /// `6`: an answer with attachments.
    BinaryAck,
}

/// One packet. Its JSON has been checked, and is kept as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Its type.
    pub kind: Kind,
    /// Its namespace, `/` where the text names none.
    pub namespace: Cow<'a, str>,
    /// The number that ties an answer to its event.
    pub ack: Option<u64>,
    /// How many binary messages belong to it.
    pub attachments: usize,
    /// Its JSON: an object for `Connect`, an array for events and answers.
    pub data: Option<Cow<'a, str>>,
}

/// An event's name and arguments.
#[derive(Clone, Debug)]
pub struct Event<'a> {
    /// The name, unescaped; the digits of a numeric name.
    pub name: Cow<'a, str>,
    /// The JSON of the arguments as it came, joined by commas, without brackets.
    pub arguments: &'a str,
}

impl<'a> Event<'a> {
    /// The arguments one by one, each as it came.
    pub fn iter(&self) -> raw::Elements<'a> {
        raw::elements(self.arguments)
    }
}

impl Packet<'_> {
    /// The event's name and arguments; none for other types and for an event without payload, which Node tolerates.
    pub fn event(&self) -> Option<Event<'_>> {
        todo!()
    }

    /// The JSON of an answer's arguments, joined by commas, without brackets.
    pub fn ack_arguments(&self) -> Option<&str> {
        todo!()
    }
}

/// What a client did wrong. Whatever it is, the Engine.IO session is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// The text is empty.
    Empty,
}

/// Reads the text of one packet (what follows the Engine.IO `4`), either side's.
pub fn parse(text: &str) -> Result<Packet<'_>, ParseError> {
    let _ = text;
    todo!()
}

/// A packet with its attachments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// The packet.
    pub packet: Packet<'a>,
    /// The attachments that its placeholders number.
    pub attachments: Vec<Bytes>,
}

/// Puts a client's packets together from text and binary messages. Holds memory only while attachments are outstanding.
#[derive(Debug, Default)]
pub struct Decoder {}

impl Decoder {
    /// A text message. None if attachments must follow first. `max_bytes` bounds the text and its attachments together.
    pub fn text<'a>(&mut self, text: &'a str, max_bytes: usize) -> Result<Option<Decoded<'a>>, ParseError> {
        let _ = (text, max_bytes);
        todo!()
    }

    /// A binary message. None if more attachments must follow.
    pub fn binary(&mut self, data: Cow<'_, [u8]>, max_bytes: usize) -> Result<Option<Decoded<'static>>, ParseError> {
        let _ = (data, max_bytes);
        todo!()
    }
}
