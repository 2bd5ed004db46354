//! WebSocket frames as a client needs them: whole frames out of a stream of bytes, and masked ones to send. Pure.
//!
//! The mask is zero, which masks nothing: what is measured is the server, and XOR costs the client alone.

use std::ops::Range;

/// A text message.
pub const TEXT: u8 = 1;
/// The end.
pub const CLOSE: u8 = 8;
/// To be answered with a pong.
pub const PING: u8 = 9;
/// The answer to a ping.
pub const PONG: u8 = 10;

/// Where a frame of the server's stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it is; 0 for the rest of a message in pieces.
    pub opcode: u8,
    /// Its payload.
    pub payload: Range<usize>,
}

/// Why the bytes are no frame that a client takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken(pub &'static str);

/// The frame that the bytes begin with; `None` while it is not whole.
#[inline]
pub fn first(bytes: &[u8]) -> Result<Option<Frame>, Broken> {
    let [head, length, rest @ ..] = bytes else { return Ok(None) };
    if head & 0x80 == 0 || head & 0x0f == 0 {
        return Err(Broken("a message in pieces, which no server here sends"));
    }
    if head & 0x70 != 0 {
        return Err(Broken("a frame with an extension that was not asked for"));
    }
    let (start, length) = match (length, rest) {
        (0..126, _) => (2, usize::from(*length)),
        (126, [high, low, ..]) => (4, usize::from(u16::from_be_bytes([*high, *low]))),
        (127, [a, b, c, d, e, f, g, h, ..]) => {
            let length = u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
            (10, usize::try_from(length).map_err(|_| Broken("a frame that fits into no memory"))?)
        }
        (126 | 127, _) => return Ok(None),
        (128.., _) => return Err(Broken("a masked frame of a server's")),
    };
    let payload = start..start + length;
    Ok((bytes.len() >= payload.end).then_some(Frame { opcode: head & 0x0f, payload }))
}

/// Writes a client's frame.
pub fn write_masked(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    write_head(out, opcode, payload.len(), 0x80);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

/// Writes a server's frame.
pub fn write_unmasked(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    write_head(out, opcode, payload.len(), 0);
    out.extend_from_slice(payload);
}

fn write_head(out: &mut Vec<u8>, opcode: u8, length: usize, mask: u8) {
    out.push(0x80 | opcode);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..126), _) => out.push(mask | short),
        (_, Ok(medium)) => {
            out.push(mask | 126);
            out.extend_from_slice(&medium.to_be_bytes());
        }
        (_, Err(_)) => {
            out.push(mask | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// The bytes of a server's frame around a payload.
pub fn head_bytes(payload: usize) -> usize {
    match payload {
        0..126 => 2,
        126..65_536 => 4,
        _ => 10,
    }
}
