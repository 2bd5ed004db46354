//! Frames from the server to a client: never masked, never fragmented. Knows nothing of connections.

use bytes::Bytes;

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

/// Appends the header of an unfragmented frame with `payload_len` bytes of payload.
pub fn frame_header(opcode: Opcode, payload_len: usize, out: &mut Vec<u8>) {
    let _ = (opcode, payload_len, out);
    todo!()
}

/// One text frame. The bytes must be UTF-8: clients fail the connection otherwise.
pub fn text_frame(text: &[u8]) -> Bytes {
    let _ = text;
    todo!()
}

/// One binary frame.
pub fn binary_frame(data: &[u8]) -> Bytes {
    let _ = data;
    todo!()
}

/// A text frame and the binary frames that belong to it, as one piece, so that nothing can come between them.
pub fn event_frames(text: &[u8], attachments: &[Bytes]) -> Bytes {
    let _ = (text, attachments);
    todo!()
}

/// A close frame; without a code its payload is empty. The reason is cut to 123 bytes at a character's boundary.
pub fn close_frame(code: Option<u16>, reason: &str) -> Bytes {
    let _ = (code, reason);
    todo!()
}

/// A ping frame; the payload is cut to 125 bytes.
pub fn ping_frame(payload: &[u8]) -> Bytes {
    let _ = payload;
    todo!()
}

/// A pong frame; the payload is cut to 125 bytes.
pub fn pong_frame(payload: &[u8]) -> Bytes {
    let _ = payload;
    todo!()
}
