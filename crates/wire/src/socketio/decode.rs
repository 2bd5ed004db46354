//! Text and binary messages into packets. Knows nothing of who sent them, nor which namespaces there are.
//!
//! Whatever Node's parser refuses is refused here. Beyond it: an ack id over 64 bits, a control character in a namespace, a
//! placeholder that is no whole number, more nesting than [`MAX_DEPTH`] in a packet with attachments, and such a packet whose text and
//! attachments together are larger than one message may be, where Node bounds each by itself.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

use super::placeholders;
use crate::raw;

/// How many binary attachments a packet may have.
pub const MAX_ATTACHMENTS: usize = 10;

/// How deeply the JSON of a packet with attachments may be nested, since its placeholders are searched for.
pub const MAX_DEPTH: usize = 512;

/// Names that neither side may use for its events: the libraries have events of their own of these names.
pub const RESERVED_EVENTS: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

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
    /// How many binary messages belong to it, 1 to [`MAX_ATTACHMENTS`] for the binary types, else 0.
    pub attachments: usize,
    /// Its JSON: an object for `Connect`, an array for events and answers, an object or string for `ConnectError`.
    pub data: Option<Cow<'a, str>>,
}

/// An event's name and arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The name, unescaped; a numeric name as it was spelled.
    pub name: Cow<'a, str>,
    /// The JSON of the arguments as it came, joined by commas, without brackets.
    pub arguments: &'a str,
}

impl<'a> Event<'a> {
    /// The arguments one by one, each as it came.
    pub fn iter(&self) -> raw::Elements<'a> {
        raw::arguments(self.arguments)
    }
}

impl Packet<'_> {
    /// The event's name and arguments; none for other types and for an event without payload, which Node tolerates.
    pub fn event(&self) -> Option<Event<'_>> {
        match self.kind {
            Kind::Event | Kind::BinaryEvent => event_of(self.data.as_deref()?),
            Kind::Connect | Kind::Disconnect | Kind::Ack | Kind::ConnectError | Kind::BinaryAck => None,
        }
    }

    /// The JSON of an answer's arguments, joined by commas, without brackets; none for other types.
    pub fn ack_arguments(&self) -> Option<&str> {
        match self.kind {
            Kind::Ack | Kind::BinaryAck => Some(self.data.as_deref().map_or("", inside)),
            Kind::Connect | Kind::Disconnect | Kind::Event | Kind::ConnectError | Kind::BinaryEvent => None,
        }
    }

    /// The packet with text of its own.
    pub fn into_owned(self) -> Packet<'static> {
        Packet {
            kind: self.kind,
            namespace: Cow::Owned(self.namespace.into_owned()),
            ack: self.ack,
            attachments: self.attachments,
            data: self.data.map(|data| Cow::Owned(data.into_owned())),
        }
    }
}

/// What a client did wrong. Whatever it is, the Engine.IO session is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// The text is empty.
    Empty,
    /// The first character names no packet type.
    UnknownType,
    /// A binary packet that does not begin with a number from 1 and a dash.
    AttachmentCount,
    /// More than [`MAX_ATTACHMENTS`].
    TooManyAttachments,
    /// A control character in the namespace.
    Namespace,
    /// The ack id does not fit 64 bits.
    AckId,
    /// The payload is not JSON.
    NotJson,
    /// The payload is JSON of a kind that this packet type does not have.
    Payload,
    /// The event's name is missing, neither string nor number, or a lone surrogate.
    EventName,
    /// The event's name is one that only the library itself may use.
    ReservedEvent,
    /// A `CONNECT_ERROR`, which only servers send.
    ServerOnly,
    /// A text message came where an attachment was due.
    AttachmentMissing,
    /// A binary message came that belongs to no packet.
    UnexpectedBinary,
    /// A placeholder numbers no attachment of its packet.
    Placeholder,
    /// The JSON of a packet with attachments is nested more deeply than [`MAX_DEPTH`].
    TooDeep,
    /// A packet and its attachments are larger than allowed.
    TooLarge,
}

impl fmt::Display for ParseError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Empty => "empty packet",
            Self::UnknownType => "unknown packet type",
            Self::AttachmentCount => "binary packet without a valid number of attachments",
            Self::TooManyAttachments => "too many attachments",
            Self::Namespace => "control character in the namespace",
            Self::AckId => "ack id does not fit 64 bits",
            Self::NotJson => "payload is not JSON",
            Self::Payload => "payload does not fit the packet type",
            Self::EventName => "event without a valid name",
            Self::ReservedEvent => "reserved event name",
            Self::ServerOnly => "packet type that only servers send",
            Self::AttachmentMissing => "text message where an attachment was due",
            Self::UnexpectedBinary => "binary message that belongs to no packet",
            Self::Placeholder => "placeholder that numbers no attachment",
            Self::TooDeep => "packet with attachments nested too deeply",
            Self::TooLarge => "packet and its attachments are too large",
        })
    }
}

impl std::error::Error for ParseError {}

/// Reads the text of one packet (what follows the Engine.IO `4`), either side's.
pub fn parse(text: &str) -> Result<Packet<'_>, ParseError> {
    let kind = match text.as_bytes().first().ok_or(ParseError::Empty)? {
        b'0' => Kind::Connect,
        b'1' => Kind::Disconnect,
        b'2' => Kind::Event,
        b'3' => Kind::Ack,
        b'4' => Kind::ConnectError,
        b'5' => Kind::BinaryEvent,
        b'6' => Kind::BinaryAck,
        _ => return Err(ParseError::UnknownType),
    };
    let rest = &text[1..];
    let (attachments, rest) = match kind {
        Kind::BinaryEvent | Kind::BinaryAck => attachment_count(rest)?,
        Kind::Connect | Kind::Disconnect | Kind::Event | Kind::Ack | Kind::ConnectError => (0, rest),
    };
    let (namespace, rest) = namespace(rest)?;
    let (ack, rest) = ack_id(rest)?;
    let data = match rest {
        "" => None,
        rest => Some(raw::check(rest).map_err(|_| ParseError::NotJson)?),
    };
    check_data(kind, data)?;
    if let (Some(data), true) = (data, attachments > 0) {
        placeholders::check(data, attachments)?;
    }
    Ok(Packet { kind, namespace: Cow::Borrowed(namespace), ack, attachments, data: data.map(Cow::Borrowed) })
}

/// A packet with its attachments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// The packet.
    pub packet: Packet<'a>,
    /// The attachments that its placeholders number, `packet.attachments` of them.
    pub attachments: Vec<Bytes>,
}

/// Puts a client's packets together from text and binary messages. Holds memory only while attachments are outstanding: at most
/// [`MAX_ATTACHMENTS`] of them, and no more than the caller's `max_bytes` together with their text.
#[derive(Debug, Default)]
pub struct Decoder {
    waiting: Option<Box<Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    packet: Packet<'static>,
    attachments: Vec<Bytes>,
    bytes: usize,
}

impl Decoder {
    /// A text message (what follows the Engine.IO `4`). None if attachments must follow first.
    /// `max_bytes` bounds a text and its attachments together.
    pub fn text<'a>(&mut self, text: &'a str, max_bytes: usize) -> Result<Option<Decoded<'a>>, ParseError> {
        if self.waiting.is_some() {
            return Err(ParseError::AttachmentMissing);
        }
        if text.len() > max_bytes {
            return Err(ParseError::TooLarge);
        }
        let packet = parse(text)?;
        if packet.kind == Kind::ConnectError {
            return Err(ParseError::ServerOnly);
        }
        if packet.attachments == 0 {
            return Ok(Some(Decoded { packet, attachments: Vec::new() }));
        }
        let attachments = Vec::with_capacity(packet.attachments);
        self.waiting = Some(Box::new(Waiting { packet: packet.into_owned(), attachments, bytes: text.len() }));
        Ok(None)
    }

    /// A binary message. None if more attachments must follow.
    pub fn binary(&mut self, data: Cow<'_, [u8]>, max_bytes: usize) -> Result<Option<Decoded<'static>>, ParseError> {
        let mut waiting = self.waiting.take().ok_or(ParseError::UnexpectedBinary)?;
        waiting.bytes += data.len();
        if waiting.bytes > max_bytes {
            return Err(ParseError::TooLarge);
        }
        waiting.attachments.push(Bytes::from(data.into_owned()));
        if waiting.attachments.len() < waiting.packet.attachments {
            self.waiting = Some(waiting);
            return Ok(None);
        }
        Ok(Some(Decoded { packet: waiting.packet, attachments: waiting.attachments }))
    }
}

fn attachment_count(text: &str) -> Result<(usize, &str), ParseError> {
    let (digits, rest) = text.split_at(digits_end(text));
    let rest = rest.strip_prefix('-').ok_or(ParseError::AttachmentCount)?;
    let digits = match digits.trim_start_matches('0') {
        "" => return Err(ParseError::AttachmentCount),
        digits => digits,
    };
    // What does not even fit a number is too many in any case.
    match digits.parse::<usize>() {
        Ok(count) if count <= MAX_ATTACHMENTS => Ok((count, rest)),
        Ok(_) | Err(_) => Err(ParseError::TooManyAttachments),
    }
}

fn namespace(text: &str) -> Result<(&str, &str), ParseError> {
    if !text.starts_with('/') {
        return Ok(("/", text));
    }
    let (namespace, rest) = text.split_once(',').unwrap_or((text, ""));
    // It is written back in answers, where 0x1e would break a polling payload.
    if namespace.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(ParseError::Namespace);
    }
    Ok((namespace, rest))
}

fn ack_id(text: &str) -> Result<(Option<u64>, &str), ParseError> {
    let (digits, rest) = text.split_at(digits_end(text));
    if digits.is_empty() {
        return Ok((None, rest));
    }
    let id = digits.parse().map_err(|_| ParseError::AckId)?;
    Ok((Some(id), rest))
}

fn digits_end(text: &str) -> usize {
    text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len())
}

fn check_data(kind: Kind, data: Option<&str>) -> Result<(), ParseError> {
    let first = data.and_then(|data| data.bytes().next());
    match (kind, first) {
        (Kind::Connect | Kind::Disconnect | Kind::Event | Kind::Ack | Kind::BinaryEvent | Kind::BinaryAck, None)
        | (Kind::Connect, Some(b'{'))
        | (Kind::ConnectError, Some(b'{' | b'"'))
        | (Kind::Ack | Kind::BinaryAck, Some(b'[')) => Ok(()),
        (Kind::Event | Kind::BinaryEvent, Some(b'[')) => {
            let event = data.and_then(event_of).ok_or(ParseError::EventName)?;
            if RESERVED_EVENTS.contains(&event.name.as_ref()) { Err(ParseError::ReservedEvent) } else { Ok(()) }
        }
        (Kind::ConnectError, None | Some(_))
        | (Kind::Connect | Kind::Disconnect | Kind::Event | Kind::Ack | Kind::BinaryEvent | Kind::BinaryAck, Some(_)) => {
            Err(ParseError::Payload)
        }
    }
}

/// The name and arguments in an event's array.
fn event_of(array: &str) -> Option<Event<'_>> {
    let mut list = raw::arguments(inside(array));
    let first = list.next()?;
    let name = match first.as_bytes().first()? {
        b'"' => raw::unescape(first)?,
        b'-' | b'0'..=b'9' => Cow::Borrowed(first),
        _ => return None,
    };
    Some(Event { name, arguments: list.rest() })
}

/// What stands between the brackets of an array.
fn inside(array: &str) -> &str {
    let inside = array.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inside.unwrap_or_default().trim_ascii()
}

#[cfg(test)]
mod tests;
