//! The header of a client's frame, the rules that it must keep, and the mask. Knows nothing of messages.

use super::deflate::RESERVED_1;
use super::encode::{MAX_CONTROL_PAYLOAD, Opcode};
use super::parser::Violation;

/// The longest header of a client's frame: two bytes, eight of length, four of mask.
pub(super) const MAX_HEADER: usize = 14;

/// A header that keeps the rules of RFC 6455, section 5.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) last: bool,
    /// The message that begins here is compressed.
    pub(super) compressed: bool,
    pub(super) opcode: Opcode,
    pub(super) payload_len: u64,
    pub(super) mask: [u8; 4],
}

impl Header {
    /// Reads a header from the beginning of `bytes`, and tells its length. None if there is not all of it; what can be refused
    /// is refused without waiting for the rest. `inflates`: compression was agreed.
    pub(super) fn read(bytes: &[u8], inflates: bool) -> Result<Option<(Self, usize)>, Violation> {
        let &[first, second, ref rest @ ..] = bytes else {
            return Ok(None);
        };
        let last = first & 0x80 != 0;
        let opcode = Opcode::from_number(first & 0x0f);
        let compressed = first & RESERVED_1 != 0;
        // Whether a message is compressed is said in its first frame, and of no control frame (RFC 7692, section 6.1).
        let may_be_compressed = inflates && matches!(opcode, Some(Opcode::Text | Opcode::Binary));
        if first & 0x30 != 0 || (compressed && !may_be_compressed) {
            return Err(Violation::protocol("reserved bit set"));
        }
        let opcode = opcode.ok_or(Violation::protocol("reserved opcode"))?;
        if second & 0x80 == 0 {
            return Err(Violation::protocol("frame not masked"));
        }
        let short_len = second & 0x7f;
        if opcode.is_control() {
            if !last {
                return Err(Violation::protocol("control frame fragmented"));
            }
            if usize::from(short_len) > MAX_CONTROL_PAYLOAD {
                return Err(Violation::protocol("control frame too long"));
            }
        }
        let (payload_len, rest) = match short_len {
            126 => match rest.split_first_chunk::<2>() {
                Some((len, rest)) => (u64::from(u16::from_be_bytes(*len)), rest),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk::<8>() {
                Some((len, rest)) => (u64::from_be_bytes(*len), rest),
                None => return Ok(None),
            },
            len => (u64::from(len), rest),
        };
        if payload_len >> 63 != 0 {
            return Err(Violation::protocol("length out of range"));
        }
        if (short_len == 126 && payload_len < 126) || (short_len == 127 && payload_len <= 0xffff) {
            return Err(Violation::protocol("length not in the fewest bytes"));
        }
        let Some((mask, payload)) = rest.split_first_chunk::<4>() else {
            return Ok(None);
        };
        Ok(Some((Self { last, compressed, opcode, payload_len, mask: *mask }, bytes.len() - payload.len())))
    }
}

/// Takes the mask off a piece of a payload that begins `offset` bytes into it.
pub(super) fn unmask(piece: &mut [u8], mask: [u8; 4], offset: u64) {
    let mut mask = mask;
    mask.rotate_left((offset % 4) as usize);
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, tail) = piece.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in tail.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}
