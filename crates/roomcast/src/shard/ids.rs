//! The ids that name a place: session ids hold their shard and node, socket ids their shard and slot, so that finding either needs no table.
//! Takes its randomness as an argument.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hub::names::SocketId;

const ID_BYTES: usize = 15;

/// This run of this node, as session ids name it: an id of an earlier run is unknown here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeId(pub [u8; 3]);

impl NodeId {
    /// An Engine.IO session id of a shard: shard (1 byte), node (3), random (11), in base64url. It is a secret between us and the client.
    pub fn session_id(self, shard: usize, random: [u8; 11]) -> Box<str> {
        let mut bytes = [0; ID_BYTES];
        bytes[0] = shard as u8;
        bytes[1..4].copy_from_slice(&self.0);
        bytes[4..].copy_from_slice(&random);
        URL_SAFE_NO_PAD.encode(bytes).into()
    }

    /// The shard of a session id of this node.
    pub fn shard_of(self, session_id: &str) -> Option<usize> {
        let bytes = decode(session_id)?;
        (bytes[1..4] == self.0).then_some(usize::from(bytes[0]))
    }
}

/// A socket's public id: shard (1 byte), slot (4), random (10), in base64url.
pub fn socket_id(shard: usize, slot: u32, random: [u8; 10]) -> SocketId {
    let mut bytes = [0; ID_BYTES];
    bytes[0] = shard as u8;
    bytes[1..5].copy_from_slice(&slot.to_be_bytes());
    bytes[5..].copy_from_slice(&random);
    SocketId::parse(&URL_SAFE_NO_PAD.encode(bytes)).expect("15 bytes are 20 characters of the alphabet")
}

/// The shard and slot that a socket id names, if it is one of ours; another node's may name any.
pub fn place_of(id: &str) -> Option<(usize, u32)> {
    let bytes = decode(id)?;
    let slot = u32::from_be_bytes(bytes[1..5].try_into().expect("four bytes"));
    Some((usize::from(bytes[0]), slot))
}

fn decode(id: &str) -> Option<[u8; ID_BYTES]> {
    let mut bytes = [0; ID_BYTES];
    (id.len() == SocketId::CHARACTERS && URL_SAFE_NO_PAD.decode_slice(id, &mut bytes) == Ok(ID_BYTES)).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_name_their_place() {
        let node = NodeId([1, 2, 3]);
        let sid = node.session_id(63, [9; 11]);
        assert_eq!((sid.len(), node.shard_of(&sid)), (20, Some(63)));
        assert_eq!(NodeId([1, 2, 4]).shard_of(&sid), None, "another run of the node");
        assert_eq!(node.shard_of("__proto__"), None);
        assert_eq!(place_of(socket_id(2, 70_000, [5; 10]).as_str()), Some((2, 70_000)));
    }
}
