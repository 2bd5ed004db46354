//! Socket.IO 5 packets, and 4 where they differ, as they travel inside Engine.IO messages. Knows no connections, namespaces or rooms beyond their spelling.

mod address;
mod decode;
mod encode;
mod placeholders;

pub use address::Address;
pub use decode::{
    Decoded, Decoder, Event, Kind, MAX_ATTACHMENTS, MAX_DEPTH, Packet, ParseError, RESERVED_EVENTS, parse,
};
pub use encode::Outbound;
