//! Engine.IO packets: the text of one, and the payloads of long-polling that join several with 0x1e.
//! Knows no session.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use bytes::Bytes;

/// Stands between the packets of a polling payload.
pub const SEPARATOR: char = '\u{1e}';

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
}

impl fmt::Display for PacketError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Empty => "empty Engine.IO packet",
            Self::UnknownType => "unknown Engine.IO packet type",
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
    /// How many bytes the packet takes in a polling payload, without a separator.
    pub fn polling_len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(data) => 1 + data.len().div_ceil(3) * 4,
        }
    }
}

/// The packets of a polling payload, one after the other. The reader stops at the first error. An empty payload, and a separator
/// at the end, is an empty packet and so an error.
///
/// A payload has no more packets than bytes, so the bound on the body is the bound on their number.
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
        let text = self.rest.take()?;
        let (first, rest) = match text.split_once(SEPARATOR) {
            Some((first, rest)) => (first, Some(rest)),
            None => (text, None),
        };
        let packet = Packet::parse(first);
        if packet.is_ok() {
            self.rest = rest;
        }
        Some(packet)
    }
}

/// A polling payload of these packets.
pub fn encode_payload<'a>(packets: impl IntoIterator<Item = &'a Outbound>) -> Bytes {
    let mut out = Vec::new();
    for (index, packet) in packets.into_iter().enumerate() {
        out.reserve(1 + packet.polling_len());
        if index > 0 {
            out.push(SEPARATOR as u8);
        }
        match packet {
            Outbound::Text(text) => out.extend_from_slice(text),
            Outbound::Binary(data) => write_binary(data, &mut out),
        }
    }
    out.into()
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
    let OpenPacket { sid, upgrades, ping_interval_ms, ping_timeout_ms, max_payload } = open;
    let upgrades = if *upgrades { r#""websocket""# } else { "" };
    format!(
        r#"0{{"sid":"{sid}","upgrades":[{upgrades}],"pingInterval":{ping_interval_ms},"pingTimeout":{ping_timeout_ms},"maxPayload":{max_payload}}}"#
    )
}

fn write_binary(data: &[u8], out: &mut Vec<u8>) {
    out.push(b'b');
    out.extend_from_slice(STANDARD.encode(data).as_bytes());
}

/// Base64 as Node's `Buffer.from(text, "base64")` reads it: either alphabet, with or without padding, other characters skipped.
fn decode_base64(text: &str) -> Vec<u8> {
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
    use proptest::prelude::*;

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
    fn a_payload_is_packets_and_separators() {
        let read = |text| Payload::new(text).collect::<Vec<_>>();
        assert_eq!(
            read("4a\u{1e}2\u{1e}bAQ=="),
            [Ok(Packet::Message("a")), Ok(Packet::Ping("")), Ok(Packet::Binary(vec![1].into()))]
        );
        assert_eq!(read(""), [Err(PacketError::Empty)]);
        assert_eq!(read("4a\u{1e}"), [Ok(Packet::Message("a")), Err(PacketError::Empty)]);
        assert_eq!(read("4a\u{1e}7\u{1e}4b"), [Ok(Packet::Message("a")), Err(PacketError::UnknownType)]);
        let packets = [
            Outbound::Text(Bytes::from_static(b"4a")),
            Outbound::Binary(Bytes::from_static(&[1])),
            Outbound::Text(Bytes::from_static(b"2")),
        ];
        assert_eq!(encode_payload(&packets), "4a\u{1e}bAQ==\u{1e}2");
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

    proptest! {
        #[test]
        fn what_is_written_is_read(messages in prop::collection::vec((any::<bool>(), "[^\u{1e}]{0,20}"), 1..6)) {
            let packets: Vec<Outbound> = messages.iter().map(|(text, data)| match text {
                true => Outbound::Text(format!("4{data}").into()),
                false => Outbound::Binary(data.clone().into()),
            }).collect();
            let payload = encode_payload(&packets);
            let text = std::str::from_utf8(&payload).expect("UTF-8");
            prop_assert_eq!(text.len(), packets.iter().map(Outbound::polling_len).sum::<usize>() + packets.len() - 1);
            let expected: Vec<_> = messages.iter().map(|(text, data)| Ok(match text {
                true => Packet::Message(data),
                false => Packet::Binary(data.as_bytes().into()),
            })).collect();
            prop_assert_eq!(Payload::new(text).collect::<Vec<_>>(), expected);
        }

        #[test]
        fn no_payload_panics(text in "[0-9b\u{1e}A=é]{0,40}|.{0,40}") {
            prop_assert!(Payload::new(&text).count() <= text.len() + 1);
        }
    }
}
