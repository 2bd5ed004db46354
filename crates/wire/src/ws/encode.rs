//! Frames from the server to a client: never masked, never fragmented. Knows nothing of connections.

use bytes::{Buf, Bytes};

/// The longest payload of a control frame (RFC 6455, section 5.5).
pub(super) const MAX_CONTROL_PAYLOAD: usize = 125;

/// What a frame carries (RFC 6455, section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// A further fragment of the message before it.
    Continuation,
    /// UTF-8 text.
    Text,
    /// Bytes.
    Binary,
    /// The closing handshake.
    Close,
    /// A ping, to be answered by a pong with the same payload.
    Ping,
    /// The answer to a ping.
    Pong,
}

impl Opcode {
    /// The opcode's number on the wire.
    pub fn number(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    /// The opcode of a number on the wire; none of the reserved ones.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Continuation),
            1 => Some(Self::Text),
            2 => Some(Self::Binary),
            8 => Some(Self::Close),
            9 => Some(Self::Ping),
            10 => Some(Self::Pong),
            _ => None,
        }
    }

    /// Whether a frame of this kind may stand within a fragmented message.
    pub fn is_control(self) -> bool {
        match self {
            Self::Close | Self::Ping | Self::Pong => true,
            Self::Continuation | Self::Text | Self::Binary => false,
        }
    }
}

/// One text frame around what `write` appends, which is about `size_hint` bytes: the text is written where it goes out from.
/// It must be UTF-8, and `write` must not touch what is there already.
pub fn text_frame_of(size_hint: usize, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut out = Vec::with_capacity(MAX_HEADER + size_hint);
    out.resize(MAX_HEADER, 0);
    write(&mut out);
    let header = Header::of(Opcode::Text, out.len() - MAX_HEADER);
    let start = MAX_HEADER - header.as_slice().len();
    out[start..MAX_HEADER].copy_from_slice(header.as_slice());
    let mut frame = Bytes::from(out);
    frame.advance(start);
    frame
}

/// Appends the header of an unfragmented frame with `payload_len` bytes of payload.
pub fn frame_header(opcode: Opcode, payload_len: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(Header::of(opcode, payload_len).as_slice());
}

/// The header of an unfragmented, unmasked frame.
struct Header {
    bytes: [u8; MAX_HEADER],
    len: usize,
}

impl Header {
    fn of(opcode: Opcode, payload_len: usize) -> Self {
        const FINAL: u8 = 0x80;
        let mut bytes = [0; MAX_HEADER];
        bytes[0] = FINAL | opcode.number();
        let len = match payload_len {
            0..=125 => {
                bytes[1] = payload_len as u8;
                2
            }
            126..=0xffff => {
                bytes[1] = 126;
                bytes[2..4].copy_from_slice(&(payload_len as u16).to_be_bytes());
                4
            }
            _ => {
                bytes[1] = 127;
                bytes[2..].copy_from_slice(&(payload_len as u64).to_be_bytes());
                MAX_HEADER
            }
        };
        Self { bytes, len }
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// One text frame. The bytes must be UTF-8: clients fail the connection otherwise.
pub fn text_frame(text: &[u8]) -> Bytes {
    event_frames(text, &[])
}

/// One binary frame.
pub fn binary_frame(data: &[u8]) -> Bytes {
    frame(Opcode::Binary, &[data])
}

/// A text frame and the binary frames that belong to it, as one piece, so that nothing can come between them.
pub fn event_frames(text: &[u8], attachments: &[Bytes]) -> Bytes {
    let payload: usize = attachments.iter().map(Bytes::len).sum();
    let mut out = Vec::with_capacity(text.len() + payload + MAX_HEADER * (attachments.len() + 1));
    frame_header(Opcode::Text, text.len(), &mut out);
    out.extend_from_slice(text);
    for attachment in attachments {
        frame_header(Opcode::Binary, attachment.len(), &mut out);
        out.extend_from_slice(attachment);
    }
    out.into()
}

/// A close frame; without a code its payload is empty. The reason is cut to 123 bytes at a character's boundary.
pub fn close_frame(code: Option<u16>, reason: &str) -> Bytes {
    match code {
        None => frame(Opcode::Close, &[]),
        Some(code) => {
            let code = code.to_be_bytes();
            let room = MAX_CONTROL_PAYLOAD - code.len();
            let end = (0..=room.min(reason.len())).rev().find(|end| reason.is_char_boundary(*end)).unwrap_or(0);
            frame(Opcode::Close, &[&code, &reason.as_bytes()[..end]])
        }
    }
}

/// A ping frame; the payload is cut to 125 bytes.
pub fn ping_frame(payload: &[u8]) -> Bytes {
    frame(Opcode::Ping, &[&payload[..payload.len().min(MAX_CONTROL_PAYLOAD)]])
}

/// A pong frame; the payload is cut to 125 bytes.
pub fn pong_frame(payload: &[u8]) -> Bytes {
    frame(Opcode::Pong, &[&payload[..payload.len().min(MAX_CONTROL_PAYLOAD)]])
}

/// The longest header of an unmasked frame.
const MAX_HEADER: usize = 10;

fn frame(opcode: Opcode, parts: &[&[u8]]) -> Bytes {
    let payload_len = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(MAX_HEADER + payload_len);
    frame_header(opcode, payload_len, &mut out);
    for part in parts {
        out.extend_from_slice(part);
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_tells_the_length_in_the_fewest_bytes() {
        let check = |payload_len, expected: &[u8]| {
            let mut out = Vec::new();
            frame_header(Opcode::Text, payload_len, &mut out);
            assert_eq!(out, expected, "{payload_len}");
        };
        check(0, &[0x81, 0]);
        check(125, &[0x81, 125]);
        check(126, &[0x81, 126, 0, 126]);
        check(0xffff, &[0x81, 126, 0xff, 0xff]);
        check(0x1_0000, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn frames_are_header_and_payload() {
        let check = |frame: Bytes, expected: &[u8]| assert_eq!(frame, expected);
        check(text_frame(b"2"), b"\x81\x012");
        check(binary_frame(b"\x00\x01"), b"\x82\x02\x00\x01");
        check(event_frames(b"451-[]", &[Bytes::from_static(b"ab"), Bytes::new()]), b"\x81\x06451-[]\x82\x02ab\x82\x00");
        check(ping_frame(b""), b"\x89\x00");
        check(pong_frame(b"x"), b"\x8a\x01x");
        check(close_frame(None, "not sent"), b"\x88\x00");
        check(close_frame(Some(1001), "bye"), b"\x88\x05\x03\xe9bye");
        assert_eq!(pong_frame(&[0; 200]).len(), 2 + MAX_CONTROL_PAYLOAD);
    }

    #[test]
    fn a_text_that_is_written_in_place_makes_the_same_frame() {
        for len in [0, 1, 125, 126, 0xffff, 0x1_0000] {
            let text = vec![b'x'; len];
            assert_eq!(text_frame_of(3, |out| out.extend_from_slice(&text)), text_frame(&text), "{len}");
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let frame = close_frame(Some(1000), &"é".repeat(100));
        assert_eq!(frame[..2], [0x88, 2 + 122]);
        assert_eq!(std::str::from_utf8(&frame[4..]), Ok("é".repeat(61).as_str()));
    }
}
