//! Polling payloads of revision 3, in which each packet stands behind its length: as text, counted in UTF-16 code units, or as bytes.
//! Knows no session.
//!
//! Text: `6:4hello2:4€10:b4AQIDBA==`. Bytes: `00` (text) or `01` (binary), the decimal digits of the length as bytes 0 to 9, `ff`, the packet;
//! a binary packet begins with the byte of its type, which the length counts.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::packet::{MESSAGE_BYTE, decode_base64};
use super::{Outbound, Packet, PacketError};

/// Digits of a length that are read: a payload is far shorter than ten billion.
const MAX_DIGITS: usize = 10;

/// Ends the digits of a length among bytes.
const END_OF_DIGITS: u8 = 0xff;

impl<'a> Packet<'a> {
    /// Reads the text of one packet of revision 3, which differs in `b`: a type and base64 follow it.
    pub fn parse_3(text: &'a str) -> Result<Self, PacketError> {
        let Some(binary) = text.strip_prefix('b') else {
            return Self::parse(text);
        };
        let kind = binary.bytes().next().map(|kind| kind.wrapping_sub(b'0'));
        // Where the first character is none of ASCII, the type is unknown anyway.
        Ok(typed(kind, Cow::Owned(decode_base64(binary.get(1..).unwrap_or_default()))))
    }

    /// Reads a binary message of revision 3: the byte of the type, then the payload.
    pub fn parse_3_bytes(bytes: &'a [u8]) -> Self {
        typed(bytes.first().copied(), Cow::Borrowed(bytes.get(1..).unwrap_or_default()))
    }
}

/// A packet whose payload came as bytes. Only a message's payload means anything, and as in Node an unknown type means nothing: it is an
/// error in text alone.
fn typed(kind: Option<u8>, payload: Cow<'_, [u8]>) -> Packet<'_> {
    match kind {
        Some(0) => Packet::Open(""),
        Some(1) => Packet::Close,
        Some(2) => Packet::Ping(""),
        Some(3) => Packet::Pong(""),
        Some(MESSAGE_BYTE) => Packet::Binary(payload),
        Some(5) => Packet::Upgrade,
        Some(_) | None => Packet::Noop,
    }
}

/// The first packet of a payload of text, and what follows it. An empty packet is none, as in Node.
pub(super) fn split_text(text: &str) -> Result<(Option<Packet<'_>>, &str), PacketError> {
    let (digits, rest) = text.split_once(':').ok_or(PacketError::Length)?;
    let length = decimal(digits.bytes().map(|byte| byte.wrapping_sub(b'0')))?;
    let end = end_of_units(rest, length).ok_or(PacketError::Length)?;
    let (packet, rest) = rest.split_at(end);
    Ok((if packet.is_empty() { None } else { Some(Packet::parse_3(packet)?) }, rest))
}

/// The first packet of a payload of bytes, and what follows it.
pub(super) fn split_bytes(bytes: &[u8]) -> Result<(Packet<'_>, &[u8]), PacketError> {
    let (kind, rest) = bytes.split_first().ok_or(PacketError::Empty)?;
    let end = rest.iter().take(MAX_DIGITS + 1).position(|byte| *byte == END_OF_DIGITS).ok_or(PacketError::Length)?;
    let length = decimal(rest[..end].iter().copied())?;
    let rest = &rest[end + 1..];
    // As in Node the last packet may be shorter than it says.
    let (packet, rest) = rest.split_at(length.min(rest.len()));
    let packet = match kind {
        0 => Packet::parse_3(simdutf8::basic::from_utf8(packet).map_err(|_| PacketError::NotUtf8)?)?,
        _ => Packet::parse_3_bytes(packet),
    };
    Ok((packet, rest))
}

/// A payload of text; binary packets become base64.
pub(super) fn write_text<'a>(packets: impl Iterator<Item = &'a Outbound>, out: &mut Vec<u8>) {
    for packet in packets {
        match packet {
            Outbound::Text(text) => {
                out.extend_from_slice(units(text).to_string().as_bytes());
                out.push(b':');
                out.extend_from_slice(text);
            }
            Outbound::Binary(data) => {
                let digits = STANDARD.encode(data);
                out.extend_from_slice(format!("{}:b4{digits}", 2 + digits.len()).as_bytes());
            }
        }
    }
}

/// A payload of bytes.
pub(super) fn write_bytes<'a>(packets: impl Iterator<Item = &'a Outbound>, out: &mut Vec<u8>) {
    for packet in packets {
        let (kind, length) = match packet {
            Outbound::Text(text) => (0, text.len()),
            Outbound::Binary(data) => (1, 1 + data.len()),
        };
        out.push(kind);
        out.extend(length.to_string().bytes().map(|digit| digit - b'0'));
        out.push(END_OF_DIGITS);
        match packet {
            Outbound::Text(text) => out.extend_from_slice(text),
            Outbound::Binary(data) => {
                out.push(MESSAGE_BYTE);
                out.extend_from_slice(data);
            }
        }
    }
}

/// The most bytes that a packet takes in either form.
pub(super) fn len_at_most(packet: &Outbound) -> usize {
    const HEAD: usize = MAX_DIGITS + 4;
    HEAD + match packet {
        Outbound::Text(text) => text.len(),
        Outbound::Binary(data) => data.len().div_ceil(3) * 4,
    }
}

fn decimal(digits: impl Iterator<Item = u8>) -> Result<usize, PacketError> {
    let mut value: usize = 0;
    let mut count = 0;
    for digit in digits {
        count += 1;
        if digit > 9 || count > MAX_DIGITS {
            return Err(PacketError::Length);
        }
        value = value * 10 + usize::from(digit);
    }
    if count == 0 { Err(PacketError::Length) } else { Ok(value) }
}

/// How many UTF-16 code units a UTF-8 text has: one for each character, two above U+FFFF.
fn units(text: &[u8]) -> usize {
    let characters = text.iter().filter(|byte| **byte & 0xc0 != 0x80).count();
    characters + text.iter().filter(|byte| **byte >= 0xf0).count()
}

/// Where so many UTF-16 code units end; nowhere if the text is shorter, or within a character.
fn end_of_units(text: &str, mut length: usize) -> Option<usize> {
    let mut end = 0;
    for character in text.chars() {
        if length == 0 {
            break;
        }
        length = length.checked_sub(character.len_utf16())?;
        end += character.len_utf8();
    }
    (length == 0).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::super::payload::Payload;
    use super::*;
    use proptest::prelude::*;

    fn text(body: &str) -> Vec<Result<Packet<'_>, PacketError>> {
        Payload::counted(body).collect()
    }

    #[test]
    fn a_length_counts_utf_16_units() {
        assert_eq!(text("6:4hello2:4€"), [Ok(Packet::Message("hello")), Ok(Packet::Message("€"))]);
        assert_eq!(text("3:4😀1:2"), [Ok(Packet::Message("😀")), Ok(Packet::Ping(""))]);
        assert_eq!(text("10:b4AQIDBA==1:6"), [Ok(Packet::Binary(vec![1, 2, 3, 4].into())), Ok(Packet::Noop)]);
        assert_eq!(text("0:1:6"), [Ok(Packet::Noop)], "an empty packet is none");
    }

    #[test]
    fn what_is_no_payload_is_an_error_after_what_is_good() {
        for body in ["", "1", "1:", ":", "abc", "2:2", "x:2", "2:4😀", "99999999999:4", "-1:2"] {
            assert_eq!(text(body), [Err(PacketError::Length)], "{body}");
        }
        assert_eq!(text("1:7"), [Err(PacketError::UnknownType)]);
        for nothing in ["1:b", "2:bA", "2:bé", "3:b9A"] {
            assert_eq!(text(nothing), [Ok(Packet::Noop)], "{nothing}");
        }
        assert_eq!(text("2:4a1:2x"), [Ok(Packet::Message("a")), Ok(Packet::Ping("")), Err(PacketError::Length)]);
    }

    #[test]
    fn a_payload_of_bytes_tells_text_from_binary() {
        let body = b"\x00\x04\xff4\xe2\x82\xac\x01\x05\xff\x04\x01\x02\x03\x04";
        let read = |body| Payload::bytes(body).collect::<Vec<_>>();
        assert_eq!(read(body), [Ok(Packet::Message("€")), Ok(Packet::Binary((&[1, 2, 3, 4]).into()))]);
        let mut written = Vec::new();
        let packets =
            [Outbound::Text("4€".to_owned().into()), Outbound::Binary(bytes::Bytes::from_static(&[1, 2, 3, 4]))];
        write_bytes(packets.iter(), &mut written);
        assert_eq!(written, body);
        for bad in
            [&b"\x00"[..], b"\x00\x01", b"\x00\xff4", b"\x00\x0a\xff4", b"\x00\x00\xff", b"\x00\x01\xff7", &[0; 40]]
        {
            assert!(matches!(read(bad).as_slice(), [Err(_)]), "{bad:?}");
        }
        assert_eq!(read(b""), []);
        assert_eq!(read(b"\x00\x01\xff\xe9"), [Err(PacketError::NotUtf8)]);
        assert_eq!(read(b"\x00\x09\xff2"), [Ok(Packet::Ping(""))]);
        assert_eq!(read(b"\x01\x01\xff\x09\x01\x00\xff"), [Ok(Packet::Noop), Ok(Packet::Noop)]);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_in_either_form(messages in prop::collection::vec((any::<bool>(), ".{0,20}"), 1..6)) {
            let packets: Vec<Outbound> = messages.iter().map(|(text, data)| match text {
                true => Outbound::Text(format!("4{data}").into()),
                false => Outbound::Binary(data.clone().into()),
            }).collect();
            let expected: Vec<_> = messages.iter().map(|(text, data)| Ok(match text {
                true => Packet::Message(data),
                false => Packet::Binary(data.as_bytes().into()),
            })).collect();
            let (mut as_text, mut as_bytes) = (Vec::new(), Vec::new());
            write_text(packets.iter(), &mut as_text);
            write_bytes(packets.iter(), &mut as_bytes);
            let bound: usize = packets.iter().map(len_at_most).sum();
            prop_assert!(as_text.len() <= bound && as_bytes.len() <= bound);
            prop_assert_eq!(text(std::str::from_utf8(&as_text).expect("UTF-8")), expected.clone());
            prop_assert_eq!(Payload::bytes(&as_bytes).collect::<Vec<_>>(), expected);
        }

        #[test]
        fn no_payload_panics(body in "[0-9:b4é😀]{0,20}", bytes in prop::collection::vec(any::<u8>(), 0..30)) {
            prop_assert!(text(&body).len() <= body.len() + 1);
            prop_assert!(Payload::bytes(&bytes).count() <= bytes.len() + 1);
        }
    }
}
