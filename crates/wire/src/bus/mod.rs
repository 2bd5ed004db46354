//! What members of a cluster say to each other over Redis, as the Node packages `@socket.io/redis-adapter` (8.x, classic and sharded), `socket.io-redis` (6.x)
//! and `@socket.io/redis-emitter` (5.x) say it. Knows no connection to Redis, no socket and no room of this process.

pub mod broadcast;
mod decode;
mod encode;
pub mod request;
mod server_side;
pub mod sharded;
mod socket;

pub use decode::{Decoded, Malformed};
pub use socket::RemoteSocket;
