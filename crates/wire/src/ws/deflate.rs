//! permessage-deflate (RFC 7692), the server's side: what is agreed in the handshake, and messages made smaller and whole again. No context is
//! taken over in either direction, so that a message compressed once fits every connection, and one compressor and one decompressor
//! serve all connections of an owner. Knows nothing of connections.

use std::fmt;

use bytes::Bytes;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::encode::frame_header;
use super::{Opcode, Violation};

/// The extension's name in `Sec-WebSocket-Extensions`.
const NAME: &str = "permessage-deflate";

/// The window of our compressor: the format's largest, and what holds where nothing else is agreed.
const WINDOW_BITS: u8 = 15;

/// What ends a flushed block, and is left out on the wire (RFC 7692, section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Bytes of a buffer that are kept from one message to the next.
const KEPT_BYTES: usize = 64 * 1024;

/// Takes most of what text has to give, at a quarter of the time of the highest level.
const LEVEL: Compression = Compression::new(6);

/// permessage-deflate as it is agreed with one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deflate {
    /// The window that the client wants us to keep to, if it named one.
    server_window_bits: Option<u8>,
}

impl Deflate {
    /// Takes the first offer in a `Sec-WebSocket-Extensions` header that can be taken. None if there is none: the connection does
    /// without, since an offer that is not understood is declined, not refused (RFC 7692, section 5.1).
    pub fn negotiate(header: &str) -> Option<Self> {
        split_unquoted(header, ',').find_map(offer)
    }

    /// The value of the answer's `Sec-WebSocket-Extensions`.
    pub fn answer(self) -> String {
        let mut answer = format!("{NAME}; server_no_context_takeover; client_no_context_takeover");
        if let Some(bits) = self.server_window_bits {
            answer.push_str(&format!("; server_max_window_bits={bits}"));
        }
        answer
    }

    /// Whether messages to the client may be compressed. One that asked for a smaller window gets them as they are, which the
    /// extension allows for each message: its own window would need a compression of its own.
    pub fn compresses(self) -> bool {
        self.server_window_bits.is_none_or(|bits| bits >= WINDOW_BITS)
    }
}

/// An offer, if it is one of ours with known parameters, each once and with a value that it may have (RFC 7692, section 7.1).
fn offer(text: &str) -> Option<Deflate> {
    let mut parts = split_unquoted(text, ';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case(NAME) {
        return None;
    }
    let mut seen = Vec::new();
    let mut server_window_bits = None;
    for part in parts {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (name.trim_end(), Some(unquote(value.trim_start()))),
            None => (part, None),
        };
        let name = name.to_ascii_lowercase();
        match (name.as_str(), value) {
            ("server_no_context_takeover" | "client_no_context_takeover" | "client_max_window_bits", None) => {}
            // We inflate with the largest window, so that the client's own may be any.
            ("client_max_window_bits", Some(value)) => drop(window_bits(value)?),
            ("server_max_window_bits", Some(value)) => server_window_bits = Some(window_bits(value)?),
            _ => return None,
        }
        if seen.contains(&name) {
            return None;
        }
        seen.push(name);
    }
    Some(Deflate { server_window_bits })
}

/// 8 to 15, without leading zeros.
fn window_bits(value: &str) -> Option<u8> {
    let bits = value.parse().ok().filter(|bits| (8..=15).contains(bits))?;
    value.starts_with(|digit: char| matches!(digit, '1'..='9')).then_some(bits)
}

fn unquote(value: &str) -> &str {
    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
}

/// The parts of a header between separators that stand in no quoted string.
fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |character| {
        quoted ^= character == '"';
        character == separator && !quoted
    })
}

/// Makes messages smaller. One serves any number of connections; its memory (a quarter of a megabyte) is taken with the first message.
#[derive(Default)]
pub struct Deflater {
    state: Option<Box<Compress>>,
    compressed: Vec<u8>,
}

impl fmt::Debug for Deflater {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Deflater").finish_non_exhaustive()
    }
}

impl Deflater {
    /// Frames of ours, one after the other, with the payload of each data frame compressed that has `threshold` bytes at least and gets
    /// smaller by it. Where none does, these are the same bytes, shared.
    pub fn frames(&mut self, frames: &Bytes, threshold: usize) -> Bytes {
        let mut out = Vec::new();
        // How much of `frames` is in `out`, or is known to go there as it is.
        let (mut copied, mut at) = (0, 0);
        while let Some((opcode, header_len, payload_len)) = own_header(&frames[at..]) {
            let payload = at + header_len..at + header_len + payload_len;
            if !opcode.is_control() && payload_len >= threshold.max(1) {
                let compressed = self.compress(&frames[payload.clone()]);
                if compressed.len() < payload_len {
                    out.extend_from_slice(&frames[copied..at]);
                    let first = out.len();
                    frame_header(opcode, compressed.len(), &mut out);
                    out[first] |= RESERVED_1;
                    out.extend_from_slice(compressed);
                    copied = payload.end;
                }
            }
            at = payload.end;
        }
        if copied == 0 {
            return frames.clone();
        }
        out.extend_from_slice(&frames[copied..]);
        out.into()
    }

    /// One message, without its tail.
    fn compress(&mut self, mut payload: &[u8]) -> &[u8] {
        let state = self.state.get_or_insert_with(|| Box::new(Compress::new(LEVEL, false)));
        let out = &mut self.compressed;
        state.reset();
        out.clear();
        out.shrink_to(KEPT_BYTES);
        loop {
            // Enough for what cannot be compressed, so that one round is the rule.
            out.reserve(payload.len() + payload.len() / 512 + 64);
            let before = state.total_in();
            state.compress_vec(payload, out, FlushCompress::Sync).expect("a compressor takes any bytes in any state");
            payload = &payload[(state.total_in() - before) as usize..];
            if payload.is_empty() && out.len() < out.capacity() {
                break;
            }
        }
        out.strip_suffix(&TAIL).expect("a flush ends with an empty stored block")
    }
}

/// Says that the payload is compressed (RFC 7692, section 6).
pub(super) const RESERVED_1: u8 = 0x40;

/// Opcode, length of the header and length of the payload of the unmasked frame at the beginning of `bytes`; none at their end.
fn own_header(bytes: &[u8]) -> Option<(Opcode, usize, usize)> {
    let (&[first, short_len], rest) = bytes.split_first_chunk::<2>()?;
    let opcode = Opcode::from_number(first & 0x0f)?;
    Some(match short_len {
        126 => (opcode, 4, usize::from(u16::from_be_bytes(*rest.first_chunk()?))),
        127 => (opcode, 10, u64::from_be_bytes(*rest.first_chunk()?) as usize),
        len => (opcode, 2, usize::from(len)),
    })
}

/// Makes clients' messages whole again. One serves any number of connections; its memory (some forty kilobytes) is taken with the
/// first message, and its buffer grows with what comes out, never beyond the bound.
#[derive(Default)]
pub struct Inflater {
    state: Option<Box<Decompress>>,
    message: Vec<u8>,
}

impl fmt::Debug for Inflater {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Inflater").finish_non_exhaustive()
    }
}

impl Inflater {
    /// One message. More than `max_message` bytes are a violation as soon as they come out, whatever is left to be inflated.
    pub(super) fn inflate(&mut self, compressed: &[u8], max_message: usize) -> Result<&[u8], Violation> {
        let state = self.state.get_or_insert_with(|| Box::new(Decompress::new(false)));
        let message = &mut self.message;
        state.reset(false);
        message.clear();
        message.shrink_to(KEPT_BYTES);
        for mut piece in [compressed, &TAIL] {
            loop {
                if message.len() == message.capacity() {
                    let room = message.len().clamp(4096, 1 << 20).min(max_message.saturating_add(1) - message.len());
                    message.reserve_exact(room);
                }
                let before = (state.total_in(), message.len());
                let status = state.decompress_vec(piece, message, FlushDecompress::Sync);
                let taken = (state.total_in() - before.0) as usize;
                piece = &piece[taken..];
                if message.len() > max_message {
                    return Err(Violation::too_big());
                }
                match status {
                    // A block that calls itself the last one may be followed by others (RFC 7692, section 7.2.3.4).
                    Ok(Status::StreamEnd) => state.reset(false),
                    Ok(Status::Ok | Status::BufError) if message.len() == message.capacity() => continue,
                    Ok(Status::Ok | Status::BufError) if taken > 0 || piece.is_empty() => {}
                    Ok(Status::Ok | Status::BufError) | Err(_) => return Err(Violation::not_deflate()),
                }
                if piece.is_empty() {
                    break;
                }
            }
        }
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::{event_frames, text_frame};
    use proptest::prelude::*;

    #[test]
    fn the_first_offer_that_can_be_taken_is_taken() {
        let check = |header: &str, expected: Option<&str>| {
            let answer = Deflate::negotiate(header).map(Deflate::answer);
            let expected = expected.map(|rest| {
                format!("permessage-deflate; server_no_context_takeover; client_no_context_takeover{rest}")
            });
            assert_eq!(answer, expected, "{header}");
        };
        check("permessage-deflate", Some(""));
        check("permessage-deflate; client_max_window_bits", Some(""));
        check("PerMessage-Deflate ;server_no_context_takeover; client_no_context_takeover", Some(""));
        check("permessage-deflate; client_max_window_bits=\"9\"", Some(""));
        check("permessage-deflate; server_max_window_bits = 10", Some("; server_max_window_bits=10"));
        check("x-webkit-deflate-frame, permessage-deflate", Some(""));
        check(
            "permessage-deflate; shiny, permessage-deflate; server_max_window_bits=15",
            Some("; server_max_window_bits=15"),
        );
        check("foo; bar=\"a, permessage-deflate, b\"", None);
        for declined in [
            "",
            ";",
            "permessage-deflat",
            "permessage-deflate;",
            "permessage-deflate; unknown",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; client_max_window_bits; client_max_window_bits=9",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=7",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=09",
            "permessage-deflate; server_max_window_bits=+9",
            "permessage-deflate; client_max_window_bits=x",
            "permessage-deflate; client_max_window_bits=\"9",
        ] {
            check(declined, None);
        }
    }

    #[test]
    fn a_client_with_a_small_window_gets_messages_as_they_are() {
        let compresses = |header| Deflate::negotiate(header).expect("an offer").compresses();
        assert!(compresses("permessage-deflate"));
        assert!(compresses("permessage-deflate; server_max_window_bits=15"));
        assert!(!compresses("permessage-deflate; server_max_window_bits=14"));
    }

    #[test]
    fn the_examples_of_the_rfc_inflate() {
        let check = |compressed: &[u8], expected: &[u8]| {
            assert_eq!(Inflater::default().inflate(compressed, 100), Ok(expected), "{compressed:02x?}");
        };
        check(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], b"Hello");
        check(&[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00], b"Hello");
        check(&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00], b"Hello");
        check(&[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00], b"Hello");
        check(&[0x00], b"");
        check(&[0x02, 0x00], b"");
    }

    #[test]
    fn what_is_no_deflate_is_damaged() {
        for compressed in [&[0x07][..], &[0x00, 1, 2, 3, 4, 5], b"hello"] {
            assert_eq!(
                Inflater::default().inflate(compressed, 100),
                Err(Violation::not_deflate()),
                "{compressed:02x?}"
            );
        }
    }

    #[test]
    fn a_bomb_is_refused_at_the_bound_and_harms_no_message_after_it() {
        let bomb = Deflater::default().compress(&vec![0; 10_000_000]).to_vec();
        assert!(bomb.len() < 20_000);
        let mut inflater = Inflater::default();
        for max_message in [0, 1, 5_000, 100_000, 9_999_999] {
            assert_eq!(inflater.inflate(&bomb, max_message), Err(Violation::too_big()));
            assert!(inflater.message.capacity() <= max_message.max(KEPT_BYTES) + 64, "{max_message}");
        }
        assert_eq!(inflater.inflate(&bomb, 10_000_000).map(<[u8]>::len), Ok(10_000_000));
        assert_eq!(inflater.inflate(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], 5), Ok(b"Hello".as_slice()));
        assert!(inflater.message.capacity() <= KEPT_BYTES, "a large message leaves no large buffer");
    }

    #[test]
    fn small_and_incompressible_messages_go_as_they_are() {
        let mut deflater = Deflater::default();
        let small = text_frame(b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
        assert_eq!(deflater.frames(&small, 32), small);
        assert!(deflater.frames(&small, 31).len() < small.len());
        let close = crate::ws::close_frame(Some(1000), &"a".repeat(100));
        assert_eq!(deflater.frames(&close, 0), close, "control frames are never compressed");
        assert_eq!(deflater.frames(&text_frame(b""), 0), text_frame(b""));
    }

    proptest! {
        #[test]
        fn what_is_compressed_inflates(messages in prop::collection::vec(("[a-d]{0,300}", prop::collection::vec(any::<u8>(), 0..3000)), 1..4), threshold in 0..200_usize) {
            let mut deflater = Deflater::default();
            let mut inflater = Inflater::default();
            for (text, attachment) in &messages {
                let frames = deflater.frames(&event_frames(text.as_bytes(), &[Bytes::from(attachment.clone())]), threshold);
                let mut at = 0;
                for expected in [text.as_bytes(), attachment] {
                    let (_, header_len, payload_len) = own_header(&frames[at..]).expect("a frame");
                    let payload = &frames[at + header_len..at + header_len + payload_len];
                    if frames[at] & RESERVED_1 == 0 {
                        prop_assert_eq!(payload, expected);
                    } else {
                        prop_assert!(expected.len() >= threshold && payload.len() < expected.len());
                        prop_assert_eq!(inflater.inflate(payload, expected.len()).expect("in bounds"), expected);
                    }
                    at += header_len + payload_len;
                }
                prop_assert_eq!(at, frames.len());
            }
        }

        #[test]
        fn any_bytes_inflate_within_the_bound_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), max_message in 0..2000_usize) {
            match Inflater::default().inflate(&bytes, max_message) {
                Ok(message) => prop_assert!(message.len() <= max_message),
                Err(violation) => prop_assert!([1007, 1009].contains(&violation.code)),
            }
        }
    }
}
