//! Socket.IO 5 packets, as they travel inside Engine.IO messages. Knows no connections, namespaces or rooms beyond their spelling.

mod decode;
mod encode;

pub use decode::{Decoded, Decoder, Event, Kind, MAX_ATTACHMENTS, Packet, ParseError, parse};
pub use encode::Outbound;
