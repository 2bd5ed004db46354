//! What goes out: one event, for whom. Knows neither how it is encoded nor how it gets there.

use std::sync::Arc;

use bytes::Bytes;

use crate::names::{EventName, NamespaceId, RoomName, SocketId};

/// For whom an emission is. There is no empty list of rooms: no room left means that nothing is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Every socket of the namespace.
    Everyone,
    /// Every member of at least one of the rooms, each once.
    Rooms(Rooms),
}

/// One room or more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rooms(Arc<[RoomName]>);

impl Rooms {
    /// Takes the rooms, repeats left out; `None` where there is none.
    pub fn new(names: impl IntoIterator<Item = RoomName>) -> Option<Self> {
        let mut unique: Vec<RoomName> = Vec::new();
        for name in names {
            if !unique.contains(&name) {
                unique.push(name);
            }
        }
        (!unique.is_empty()).then(|| Self(unique.into()))
    }

    /// The rooms, at least one.
    pub fn names(&self) -> &[RoomName] {
        &self.0
    }
}

/// Who is left out of an emission.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Except {
    /// Members of these rooms.
    pub rooms: Vec<RoomName>,
    /// These sockets.
    pub sockets: Vec<SocketId>,
}

impl Except {
    /// Whether nobody is left out.
    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty() && self.sockets.is_empty()
    }
}

/// The arguments of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// The JSON of the arguments, joined by commas, as they came: `{"a":1}`, or `1,"two"`; empty for no argument.
    pub json: Bytes,
    /// Binary attachments, in the order of the placeholders in `json`.
    pub attachments: Box<[Bytes]>,
}

impl Payload {
    /// A payload of one JSON argument.
    pub fn json(json: impl Into<Bytes>) -> Self {
        Self { json: json.into(), attachments: Box::from([]) }
    }

    /// Its size in bytes, as queues count it.
    pub fn size(&self) -> usize {
        self.json.len() + self.attachments.iter().map(Bytes::len).sum::<usize>()
    }
}

/// One event on its way to its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emission {
    /// The namespace whose sockets are meant.
    pub namespace: NamespaceId,
    /// For whom.
    pub target: Target,
    /// For whom not.
    pub except: Except,
    /// Under which name.
    pub event: EventName,
    /// With what.
    pub payload: Payload,
    /// How it is to be sent.
    pub sending: Sending,
}

/// How an event is to be sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sending {
    /// Who cannot take it at once need not get it.
    pub volatile: bool,
    /// The number under which each member is asked for an answer.
    pub ack: Option<u64>,
    /// It is for members on this node alone: the other nodes of the cluster have it already, or hear of it by themselves.
    pub local: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_room_is_no_target() {
        assert_eq!(Rooms::new([]), None);
        let room = RoomName::parse("a").expect("a name");
        assert_eq!(Rooms::new([room.clone(), room]).map(|rooms| rooms.names().len()), Some(1));
    }
}
