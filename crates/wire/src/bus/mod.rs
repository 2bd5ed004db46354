//! What members of a cluster say to each other over Redis, as the Node packages `@socket.io/redis-adapter` (8.x, classic and sharded), `socket.io-redis` (6.x)
//! and `@socket.io/redis-emitter` (5.x) say it. Knows no connection to Redis, no socket and no room of this process.

pub mod broadcast;
mod decode;
mod encode;
pub mod request;
mod server_side;
pub mod sharded;
mod socket;

use bytes::Bytes;
use serde::Deserialize;

use self::decode::Reader;
pub use decode::{Decoded, Malformed};
pub use socket::RemoteSocket;

/// Who says that it sent this, as far as it can be read: for logs, of what else in it may be broken.
pub fn sender(message: &Bytes) -> Option<String> {
    #[derive(Deserialize)]
    struct Json {
        uid: Option<String>,
    }
    if message.first() == Some(&b'{') {
        return serde_json::from_slice(message).ok().and_then(|Json { uid }| uid);
    }
    let mut reader = Reader::new(message);
    if reader.array().is_ok() {
        return reader.text().ok();
    }
    let mut reader = Reader::new(message);
    for _ in 0..reader.map().ok()? {
        if reader.text().ok()? == "uid" {
            return reader.text().ok();
        }
        reader.skip().ok()?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sender_is_found_where_the_rest_is_broken() {
        let check = |message: &'static [u8], expected: Option<&str>| {
            assert_eq!(sender(&Bytes::from_static(message)).as_deref(), expected);
        };
        check(br#"{"type":99,"uid":"a1"}"#, Some("a1"));
        check(br#"{"type":99}"#, None);
        check(br#"{"uid":"#, None);
        check(b"\x93\xa2a1\xc1", Some("a1"));
        check(b"\x83\xa4type\x01\xa3uid\xa2a1", Some("a1"));
        check(b"\x81\xa4type", None);
        check(b"", None);
    }
}
