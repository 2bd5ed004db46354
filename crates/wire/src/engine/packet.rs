//! Engine.IO packets: the text of one, in and out. Knows no session, and nothing of the payloads that join several.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use bytes::Bytes;

/// The type of a message where it stands as a byte: before the bytes of a binary message in revision 3.
pub const MESSAGE_BYTE: u8 = 4;

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

/// Why a text is no packet. The peer's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketError {
    /// The text is empty.
    Empty,
    /// The first character names no packet type.
    UnknownType,
    /// A packet of a payload of revision 3 without a length, or not as long as it says.
    Length,
    /// A packet that says it is text, and is not UTF-8.
    NotUtf8,
}

impl fmt::Display for PacketError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Empty => "empty Engine.IO packet",
            Self::UnknownType => "unknown Engine.IO packet type",
            Self::Length => "Engine.IO packet that is not as long as it says",
            Self::NotUtf8 => "Engine.IO packet of text that is not UTF-8",
        })
    }
}

impl std::error::Error for PacketError {}

impl<'a> Packet<'a> {
    /// Reads the text of one packet: a WebSocket text message, or a piece of a polling payload. What follows a type that has no
    /// payload is ignored, and base64 is read as leniently as Node reads it.
    pub fn parse(text: &'a str) -> Result<Self, PacketError> {
        let kind = text.as_bytes().first().ok_or(PacketError::Empty)?;
        // One byte of ASCII, or `get` gives nothing and the type is unknown anyway.
        let payload = text.get(1..).unwrap_or_default();
        match kind {
            b'0' => Ok(Self::Open(payload)),
            b'1' => Ok(Self::Close),
            b'2' => Ok(Self::Ping(payload)),
            b'3' => Ok(Self::Pong(payload)),
            b'4' => Ok(Self::Message(payload)),
            b'5' => Ok(Self::Upgrade),
            b'6' => Ok(Self::Noop),
            b'b' => Ok(Self::Binary(Cow::Owned(decode_base64(payload)))),
            _ => Err(PacketError::UnknownType),
        }
    }

    /// Appends the packet's text; binary becomes `b` and base64.
    pub fn write(&self, out: &mut Vec<u8>) {
        let (kind, payload) = match self {
            Self::Open(payload) => (b'0', *payload),
            Self::Close => (b'1', ""),
            Self::Ping(payload) => (b'2', *payload),
            Self::Pong(payload) => (b'3', *payload),
            Self::Message(payload) => (b'4', *payload),
            Self::Upgrade => (b'5', ""),
            Self::Noop => (b'6', ""),
            Self::Binary(data) => return write_binary(data, out),
        };
        out.push(kind);
        out.extend_from_slice(payload.as_bytes());
    }
}

/// A message packet on its way to a client, in shared bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outbound {
    /// The packet's whole text with its leading type, such as `42["hello"]`. UTF-8 without 0x1e.
    Text(Bytes),
    /// The bytes of a binary message, as a WebSocket would carry them.
    Binary(Bytes),
}

impl Outbound {
    /// How many bytes the packet takes in a polling payload of revision 4, without a separator.
    pub fn polling_len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(data) => 1 + data.len().div_ceil(3) * 4,
        }
    }
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

/// What an open packet usually takes.
const OPEN_PACKET_BYTES: usize = 128;

/// The text of the open packet, `0` first, its keys in Node's order.
pub fn open_packet(open: &OpenPacket<'_>) -> String {
    let OpenPacket { sid, upgrades, ping_interval_ms, ping_timeout_ms, max_payload } = open;
    let upgrades = if *upgrades { r#""websocket""# } else { "" };
    let mut packet = String::with_capacity(OPEN_PACKET_BYTES);
    for part in [r#"0{"sid":""#, sid, r#"","upgrades":["#, upgrades] {
        packet.push_str(part);
    }
    for (name, number) in [
        (r#"],"pingInterval":"#, *ping_interval_ms),
        (r#","pingTimeout":"#, *ping_timeout_ms),
        (r#","maxPayload":"#, *max_payload as u64),
    ] {
        packet.push_str(name);
        write!(packet, "{number}").expect("a text takes what there is memory for");
    }
    packet.push('}');
    packet
}

pub(super) fn write_binary(data: &[u8], out: &mut Vec<u8>) {
    out.push(b'b');
    out.extend_from_slice(STANDARD.encode(data).as_bytes());
}

/// Base64 as Node's `Buffer.from(text, "base64")` reads it: either alphabet, with or without padding, other characters skipped.
pub(super) fn decode_base64(text: &str) -> Vec<u8> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new()
            .with_decode_allow_trailing_bits(true)
            .with_decode_padding_mode(base64::engine::DecodePaddingMode::RequireNone),
    );
    if let Ok(data) = STANDARD.decode(text) {
        return data;
    }
    let mut digits: Vec<u8> = text
        .bytes()
        .filter_map(|byte| match byte {
            b'-' => Some(b'+'),
            b'_' => Some(b'/'),
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' => Some(byte),
            _ => None,
        })
        .collect();
    if digits.len() % 4 == 1 {
        // Six bits alone make no byte.
        digits.pop();
    }
    LENIENT.decode(digits).expect("only digits of the alphabet are left, in a possible number")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_its_type_and_payload() {
        let check = |text, expected| {
            assert_eq!(Packet::parse(text).as_ref(), Ok(&expected), "{text}");
            let mut out = Vec::new();
            expected.write(&mut out);
            assert_eq!(out, text.as_bytes());
        };
        check(r#"0{"sid":"x"}"#, Packet::Open(r#"{"sid":"x"}"#));
        check("1", Packet::Close);
        check("2", Packet::Ping(""));
        check("2probe", Packet::Ping("probe"));
        check("3probe", Packet::Pong("probe"));
        check("4héllo", Packet::Message("héllo"));
        check("5", Packet::Upgrade);
        check("6", Packet::Noop);
        check("bAQIDBA==", Packet::Binary(Cow::Borrowed(&[1, 2, 3, 4])));
        check("b", Packet::Binary(Cow::Borrowed(&[])));
        for (text, error) in [
            ("", PacketError::Empty),
            ("7", PacketError::UnknownType),
            ("abc", PacketError::UnknownType),
            ("é", PacketError::UnknownType),
        ] {
            assert_eq!(Packet::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn base64_is_read_as_node_reads_it() {
        let check = |text, expected: &[u8]| assert_eq!(decode_base64(text), expected, "{text}");
        check("AQIDBA==", &[1, 2, 3, 4]);
        check("AQIDBA", &[1, 2, 3, 4]);
        check("AQ ID\n!BA=", &[1, 2, 3, 4]);
        check("-_8=", &[0xfb, 0xff]);
        check("+/8=", &[0xfb, 0xff]);
        check("AR", &[1]);
        check("A", &[]);
        check("é", &[]);
    }

    #[test]
    fn the_open_packet_is_spelled_as_node_spells_it() {
        let open = OpenPacket {
            sid: "abc",
            upgrades: true,
            ping_interval_ms: 25_000,
            ping_timeout_ms: 20_000,
            max_payload: 1_000_000,
        };
        let expected =
            r#"0{"sid":"abc","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;
        assert_eq!(open_packet(&open), expected);
        assert!(open_packet(&OpenPacket { upgrades: false, ..open }).contains(r#""upgrades":[],"#));
    }
}
