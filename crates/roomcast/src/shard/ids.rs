//! The ids that name a place: session ids hold their shard and node, socket ids their shard and slot, so that finding either needs no table.
//! Takes its randomness as an argument.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hub::names::SocketId;
use wire::engine::Revision;

const ID_BYTES: usize = 15;

/// This run of this node, as session ids name it: an id of an earlier run is unknown here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeId(pub [u8; 3]);

/// The id of an Engine.IO session: 20 characters of `A-Za-z0-9_-`. A secret between us and the client.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId([u8; ID_BYTES]);

impl SessionId {
    /// Takes 20 characters of the alphabet; anything else is no session's id.
    pub fn parse(text: &str) -> Option<Self> {
        decode(text).map(Self)
    }

    /// The node and the shard of a session of this revision, whichever node that is.
    pub fn place(self, revision: Revision) -> (NodeId, u8) {
        let [shard, a, b, c, _, x, y, z, ..] = self.0;
        match revision {
            Revision::Four => (NodeId([a, b, c]), shard),
            Revision::Three => (NodeId([x, y, z]), shard),
        }
    }

    /// The id as a socket's public id: that is what it is to clients of Engine.IO 3, see [`NodeId::open_session_id`].
    pub fn to_socket_id(self) -> SocketId {
        SocketId::parse(&self.to_string()).expect("15 bytes are 20 characters of the alphabet")
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for SessionId {
    /// Not the id itself, which is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(…)")
    }
}

impl NodeId {
    /// The id of a session of a shard: shard (1 byte), node (3), random (11).
    pub fn session_id(self, shard: usize, random: [u8; 11]) -> SessionId {
        let mut bytes = [0; ID_BYTES];
        bytes[0] = shard as u8;
        bytes[1..4].copy_from_slice(&self.0);
        bytes[4..].copy_from_slice(&random);
        SessionId(bytes)
    }

    /// The id of a session of Engine.IO 3, whose clients take it for the public id of their socket. It is therefore built as one:
    /// shard (1 byte), slot (4), node (3), random (7).
    pub fn open_session_id(self, shard: usize, slot: u32, random: [u8; 7]) -> SessionId {
        let mut bytes = [0; ID_BYTES];
        bytes[0] = shard as u8;
        bytes[1..5].copy_from_slice(&slot.to_be_bytes());
        bytes[5..8].copy_from_slice(&self.0);
        bytes[8..].copy_from_slice(&random);
        SessionId(bytes)
    }

    /// The shard of a session of this node, in either form.
    pub fn shard_of(self, id: SessionId) -> Option<usize> {
        let SessionId(bytes) = id;
        (bytes[1..4] == self.0 || bytes[5..8] == self.0).then_some(usize::from(bytes[0]))
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

/// The shard and slot that a socket's name leads to, if it is one of ours; another node's may name any.
pub fn place_of(name: &str) -> Option<(usize, u32)> {
    let bytes = decode(SocketId::part_of(name))?;
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
        assert_eq!((sid.to_string().len(), node.shard_of(sid)), (20, Some(63)));
        assert_eq!(SessionId::parse(&sid.to_string()), Some(sid));
        assert_eq!(NodeId([1, 2, 4]).shard_of(sid), None, "another run of the node");
        for text in ["__proto__", "constructor", "", "AAAAAAAAAAAAAAAAAAA=", "AAAAAAAAAAAAAAAAAAAAA"] {
            assert_eq!(SessionId::parse(text), None, "{text}");
        }
        assert_eq!(place_of(socket_id(2, 70_000, [5; 10]).as_str()), Some((2, 70_000)));
        let sid = node.open_session_id(2, 70_000, [9; 7]);
        assert_eq!((node.shard_of(sid), place_of(sid.to_socket_id().as_str())), (Some(2), Some((2, 70_000))));
        assert_eq!(place_of(&format!("/chat#{sid}")), Some((2, 70_000)));
        assert_eq!(sid.place(Revision::Three), (node, 2));
        assert_eq!(node.session_id(63, [9; 11]).place(Revision::Four), (node, 63));
    }
}
