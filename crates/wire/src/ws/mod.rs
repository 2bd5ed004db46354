//! The WebSocket protocol (RFC 6455), the server's side: the handshake's checks, a parser for what clients send, frames for what
//! they get, and their compression (RFC 7692). Knows nothing of what the messages mean.

mod deflate;
mod encode;
mod frame;
mod handshake;
mod parser;

pub use deflate::{Deflate, Deflater, Inflater};
pub use encode::{
    Opcode, binary_frame, close_frame, event_frames, frame_header, ping_frame, pong_frame, text_frame, text_frame_of,
};
pub use handshake::{Accept, UpgradeHeaders, UpgradeRefusal, accept_key, check_upgrade, protocols};
pub use parser::{Feed, Flow, Incoming, Parser, Violation};
