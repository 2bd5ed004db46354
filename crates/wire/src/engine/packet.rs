//! Engine.IO packets: the text of one, and the payloads of long-polling that join several with 0x1e.
//! Knows no session.

use std::borrow::Cow;

use bytes::Bytes;

/// One packet as a peer wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// `0`: the session's parameters (server to client).
    Open(&'a str),
    /// `1`: the end of the session.
    Close,
    /// `2`, with an optional payload (`probe`).
    Ping(&'a str),
    /// `3`, with an optional payload (`probe`).
    Pong(&'a str),
    /// `4`: text for the layer above.
    Message(&'a str),
    /// `5`: the client has moved to this transport.
    Upgrade,
    /// `6`: nothing; ends a pending poll.
    Noop,
    /// Bytes for the layer above: a binary WebSocket message, or `b` and base64 in text.
    Binary(Cow<'a, [u8]>),
}

/// Why a text is no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketError {
    /// The text is empty.
    Empty,
    /// The first character names no packet type.
    UnknownType,
}

impl<'a> Packet<'a> {
    /// Reads the text of one packet: a WebSocket text message, or a piece of a polling payload.
    pub fn parse(text: &'a str) -> Result<Self, PacketError> {
        let _ = text;
        todo!()
    }

    /// The packet's text; binary becomes `b` and base64.
    pub fn write(&self, out: &mut Vec<u8>) {
        let _ = out;
        todo!()
    }
}

/// A message packet on its way to a client, in shared bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outbound {
    /// The packet's whole text with its leading type, such as `42["hello"]`.
    Text(Bytes),
    /// The bytes of a binary message, as a WebSocket would carry them.
    Binary(Bytes),
}

/// The packets of a polling payload, one after the other. Stops after the first error.
#[derive(Clone, Debug)]
pub struct Payload<'a> {
    rest: Option<&'a str>,
}

impl<'a> Payload<'a> {
    /// A reader of the payload's text.
    pub fn new(text: &'a str) -> Self {
        Self { rest: Some(text) }
    }
}

impl<'a> Iterator for Payload<'a> {
    type Item = Result<Packet<'a>, PacketError>;

    fn next(&mut self) -> Option<Self::Item> {
        todo!()
    }
}

/// A polling payload of these packets.
pub fn encode_payload(packets: &[Outbound]) -> Bytes {
    let _ = packets;
    todo!()
}

/// What the first packet tells a client about its session.
#[derive(Clone, Copy, Debug)]
pub struct OpenPacket<'a> {
    /// The session's id, a secret. Must need no JSON escapes.
    pub sid: &'a str,
    /// Whether a move to WebSocket is on offer.
    pub upgrades: bool,
    /// Milliseconds between a pong and the next ping.
    pub ping_interval_ms: u64,
    /// Milliseconds in which a ping must be answered.
    pub ping_timeout_ms: u64,
    /// The largest POST body, in bytes.
    pub max_payload: usize,
}

/// The text of the open packet, `0` first, its keys in Node's order.
pub fn open_packet(open: &OpenPacket<'_>) -> String {
    let _ = open;
    todo!()
}
