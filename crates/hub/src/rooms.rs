//! Who is in which room of one shard: sockets, their memberships, and each room's members as a dense list of slots.
//! Knows no rule, no user and no encoding.

use std::collections::HashMap;

use slab::Slab;
use smallvec::SmallVec;

use crate::names::{NamespaceId, RoomName};
use crate::per_namespace::PerNamespace;

/// A socket of this shard, by its place in [`Rooms`]; reused once the socket is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SocketKey(u32);

impl SocketKey {
    /// The key as an index, for tables beside [`Rooms`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Is told when a room gets its first member and loses its last one, at once, so that nobody can be forgotten.
pub trait Watch {
    /// The room has its first member in this shard.
    fn opened(&mut self, namespace: NamespaceId, room: &RoomName);
    /// The room's last member in this shard is gone.
    fn closed(&mut self, namespace: NamespaceId, room: &RoomName);
}

/// What became of a join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// The socket is a member now.
    Newly,
    /// It was one already; nothing changed.
    Already,
    /// It is in as many rooms as it may be.
    TooMany,
}

/// Rooms and members of one shard.
///
/// Every membership stands twice: in its socket's list and in its room's, and each side knows its place in the other, so that both
/// joining and leaving cost the same whatever the size of the room.
#[derive(Debug)]
pub struct Rooms {
    rooms: Slab<Room>,
    namespaces: PerNamespace<Namespace>,
    sockets: Slab<Memberships>,
    rooms_per_socket: usize,
    named_rooms: usize,
    /// Sockets that entered or left a named room, where somebody wants to know; some more than once, and some gone meanwhile.
    changed: Option<Vec<SocketKey>>,
}

#[derive(Debug)]
struct Namespace {
    by_name: HashMap<RoomName, u32>,
    /// The room that every socket of the namespace is in.
    everyone: u32,
}

#[derive(Debug)]
struct Room {
    namespace: NamespaceId,
    /// `None` for the room of everyone.
    name: Option<RoomName>,
    /// The members' slots: what a fan-out walks along.
    slots: Vec<u32>,
    /// For each member, where the membership stands in its socket's list.
    backs: Vec<Back>,
}

#[derive(Debug, Clone, Copy)]
struct Back {
    socket: u32,
    place: u32,
}

#[derive(Debug)]
struct Memberships {
    slot: u32,
    namespace: NamespaceId,
    /// Unordered; the room of everyone is one of them.
    list: SmallVec<[Membership; 2]>,
}

#[derive(Debug, Clone, Copy)]
struct Membership {
    room: u32,
    /// Where the socket stands in the room's lists.
    place: u32,
}

/// Why the namespace of a socket is always there.
const ENTERED: &str = "a namespace is there as long as a socket is in it";

impl Namespace {
    fn open(id: NamespaceId, rooms: &mut Slab<Room>) -> Self {
        let everyone = rooms.insert(Room { namespace: id, name: None, slots: Vec::new(), backs: Vec::new() });
        Self { by_name: HashMap::new(), everyone: everyone as u32 }
    }
}

impl Rooms {
    /// No rooms yet. A socket may be in `rooms_per_socket` named rooms.
    pub fn new(namespaces: usize, rooms_per_socket: usize) -> Self {
        let mut rooms = Slab::new();
        let namespaces = (0..namespaces).map(|index| Namespace::open(NamespaceId(index as u32), &mut rooms)).collect();
        let namespaces = PerNamespace::new(namespaces);
        Self { rooms, namespaces, sockets: Slab::new(), rooms_per_socket, named_rooms: 0, changed: None }
    }

    /// Notes from now on which sockets come and change rooms, for [`take_changed`](Self::take_changed).
    pub fn note_changes(&mut self) {
        self.changed = Some(Vec::new());
    }

    /// The sockets that came or changed rooms since this was asked last; some may be gone.
    pub fn take_changed(&mut self) -> Vec<SocketKey> {
        let mut changed = self.changed.as_mut().map(std::mem::take).unwrap_or_default();
        changed.sort_unstable_by_key(|key| key.0);
        changed.dedup();
        changed
    }

    /// A new socket of the connection in `slot`, in no room but that of everyone.
    pub fn enter(&mut self, namespace: NamespaceId, slot: u32) -> SocketKey {
        let socket = self.sockets.insert(Memberships { slot, namespace, list: SmallVec::new() }) as u32;
        let rooms = &mut self.rooms;
        let everyone = self.namespaces.get_or_insert_with(namespace, || Namespace::open(namespace, rooms)).everyone;
        self.attach(socket, everyone);
        self.note_change(socket);
        SocketKey(socket)
    }

    /// The socket is gone, from all its rooms.
    pub fn exit(&mut self, key: SocketKey, watch: &mut dyn Watch) {
        while let Some(last) = self.sockets[key.0 as usize].list.len().checked_sub(1) {
            self.detach(key.0, last, watch);
        }
        let Memberships { namespace, .. } = self.sockets.remove(key.0 as usize);
        if self.everyone(namespace).is_empty()
            && let Some(Namespace { everyone, .. }) = self.namespaces.remove(namespace)
        {
            self.rooms.remove(everyone as usize);
        }
    }

    /// Makes the socket a member of the room.
    pub fn join(&mut self, key: SocketKey, name: &RoomName, watch: &mut dyn Watch) -> Join {
        if self.place(key, name).is_some() {
            return Join::Already;
        }
        let memberships = &self.sockets[key.0 as usize];
        // One of the memberships is the room of everyone.
        if memberships.list.len() > self.rooms_per_socket {
            return Join::TooMany;
        }
        let namespace = memberships.namespace;
        let by_name = &mut self.namespaces.get_mut(namespace).expect(ENTERED).by_name;
        let room = match by_name.get(name) {
            Some(room) => *room,
            None => {
                let room = Room { namespace, name: Some(name.clone()), slots: Vec::new(), backs: Vec::new() };
                let index = self.rooms.insert(room) as u32;
                by_name.insert(name.clone(), index);
                self.named_rooms += 1;
                watch.opened(namespace, name);
                index
            }
        };
        self.attach(key.0, room);
        self.note_change(key.0);
        Join::Newly
    }

    /// Ends the membership. Returns whether there was one.
    pub fn leave(&mut self, key: SocketKey, name: &RoomName, watch: &mut dyn Watch) -> bool {
        match self.place(key, name) {
            Some(place) => {
                self.detach(key.0, place, watch);
                self.note_change(key.0);
                true
            }
            None => false,
        }
    }

    /// Whether the socket is a member of the room.
    pub fn is_member(&self, key: SocketKey, name: &RoomName) -> bool {
        self.place(key, name).is_some()
    }

    /// The named rooms of a socket.
    pub fn of(&self, key: SocketKey) -> impl Iterator<Item = &RoomName> {
        self.sockets[key.0 as usize]
            .list
            .iter()
            .filter_map(|membership| self.rooms[membership.room as usize].name.as_ref())
    }

    /// The slots of a room's members, each once.
    pub fn members(&self, namespace: NamespaceId, name: &RoomName) -> &[u32] {
        self.find(namespace, name).map_or(&[], |room| &room.slots)
    }

    /// The sockets of a room's members.
    pub fn member_sockets(&self, namespace: NamespaceId, name: &RoomName) -> impl Iterator<Item = SocketKey> {
        Self::sockets_of(self.find(namespace, name))
    }

    /// Every socket of the namespace.
    pub fn everyone_s_sockets(&self, namespace: NamespaceId) -> impl Iterator<Item = SocketKey> {
        let everyone = self.namespaces.get(namespace).map(|namespace| &self.rooms[namespace.everyone as usize]);
        Self::sockets_of(everyone)
    }

    /// The slots of every socket of the namespace.
    pub fn everyone(&self, namespace: NamespaceId) -> &[u32] {
        self.namespaces.get(namespace).map_or(&[], |namespace| &self.rooms[namespace.everyone as usize].slots)
    }

    /// Every named room with its number of members.
    pub fn all(&self) -> impl Iterator<Item = (NamespaceId, &RoomName, usize)> {
        self.rooms.iter().filter_map(|(_, room)| Some((room.namespace, room.name.as_ref()?, room.slots.len())))
    }

    /// How many named rooms have a member.
    pub fn count(&self) -> usize {
        self.named_rooms
    }

    fn note_change(&mut self, socket: u32) {
        if let Some(changed) = &mut self.changed {
            changed.push(SocketKey(socket));
        }
    }

    fn find(&self, namespace: NamespaceId, name: &RoomName) -> Option<&Room> {
        let room = self.namespaces.get(namespace)?.by_name.get(name)?;
        Some(&self.rooms[*room as usize])
    }

    fn sockets_of(room: Option<&Room>) -> impl Iterator<Item = SocketKey> {
        room.into_iter().flat_map(|room| room.backs.iter().map(|back| SocketKey(back.socket)))
    }

    /// Where the membership stands in the socket's list. The shorter of the two lists is searched.
    fn place(&self, key: SocketKey, name: &RoomName) -> Option<usize> {
        let memberships = &self.sockets[key.0 as usize];
        let room = *self.namespaces.get(memberships.namespace)?.by_name.get(name)?;
        let members = &self.rooms[room as usize].backs;
        if members.len() < memberships.list.len() {
            members.iter().find(|back| back.socket == key.0).map(|back| back.place as usize)
        } else {
            memberships.list.iter().position(|membership| membership.room == room)
        }
    }

    fn attach(&mut self, socket: u32, room: u32) {
        let memberships = &mut self.sockets[socket as usize];
        let members = &mut self.rooms[room as usize];
        memberships.list.push(Membership { room, place: members.slots.len() as u32 });
        members.slots.push(memberships.slot);
        members.backs.push(Back { socket, place: memberships.list.len() as u32 - 1 });
    }

    fn detach(&mut self, socket: u32, place: usize, watch: &mut dyn Watch) {
        let list = &mut self.sockets[socket as usize].list;
        let gone = list.swap_remove(place);
        if let Some(moved) = list.get(place).copied() {
            self.rooms[moved.room as usize].backs[moved.place as usize].place = place as u32;
        }
        let room = &mut self.rooms[gone.room as usize];
        room.slots.swap_remove(gone.place as usize);
        room.backs.swap_remove(gone.place as usize);
        if let Some(moved) = room.backs.get(gone.place as usize).copied() {
            self.sockets[moved.socket as usize].list[moved.place as usize].place = gone.place;
        }
        let room = &mut self.rooms[gone.room as usize];
        if room.slots.capacity() > 16 && room.slots.len() * 4 < room.slots.capacity() {
            room.slots.shrink_to(room.slots.len() * 2);
            room.backs.shrink_to(room.backs.len() * 2);
        }
        if room.slots.is_empty() && room.name.is_some() {
            let Room { namespace, name, .. } = self.rooms.remove(gone.room as usize);
            let name = name.expect("only the room of everyone has no name");
            let by_name = &mut self.namespaces.get_mut(namespace).expect(ENTERED).by_name;
            by_name.remove(&name);
            if by_name.capacity() > 64 && by_name.len() * 4 < by_name.capacity() {
                by_name.shrink_to(by_name.len() * 2);
            }
            self.named_rooms -= 1;
            watch.closed(namespace, &name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Open(BTreeSet<RoomName>);

    impl Watch for Open {
        fn opened(&mut self, _: NamespaceId, room: &RoomName) {
            assert!(self.0.insert(room.clone()), "{room} was open");
        }
        fn closed(&mut self, _: NamespaceId, room: &RoomName) {
            assert!(self.0.remove(room), "{room} was not open");
        }
    }

    #[test]
    fn who_came_or_changed_rooms_is_noted_once_where_somebody_wants_to_know() {
        let mut open = Open::default();
        let mut rooms = Rooms::new(1, 10);
        let name = RoomName::parse("a").expect("a name");
        let before = rooms.enter(NamespaceId(0), 0);
        assert_eq!(rooms.take_changed(), []);
        rooms.note_changes();
        let (one, two) = (rooms.enter(NamespaceId(0), 1), rooms.enter(NamespaceId(0), 2));
        rooms.join(one, &name, &mut open);
        assert_eq!(rooms.take_changed(), [one, two]);
        rooms.join(one, &name, &mut open);
        rooms.leave(before, &name, &mut open);
        assert_eq!(rooms.take_changed(), [], "nothing changed");
        rooms.leave(one, &name, &mut open);
        assert_eq!(rooms.take_changed(), [one]);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Enter,
        Exit(usize),
        Join(usize, u8),
        Leave(usize, u8),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            2 => Just(Step::Enter),
            1 => any::<usize>().prop_map(Step::Exit),
            6 => (any::<usize>(), 0..6u8).prop_map(|(socket, room)| Step::Join(socket, room)),
            4 => (any::<usize>(), 0..6u8).prop_map(|(socket, room)| Step::Leave(socket, room)),
        ];
        proptest::collection::vec(step, 0..200)
    }

    fn name(number: u8) -> RoomName {
        RoomName::parse(&format!("room:{number}")).expect("a name")
    }

    proptest! {
        /// Holds the two-sided lists against a plain map from socket to set of rooms.
        #[test]
        fn rooms_agree_with_a_naive_model(steps in steps()) {
            let namespace = NamespaceId(0);
            let (mut rooms, mut open) = (Rooms::new(1, 4), Open::default());
            let mut model: Vec<(SocketKey, u32, BTreeSet<RoomName>)> = Vec::new();
            let mut next_slot = 0;
            for step in steps {
                match step {
                    Step::Enter => {
                        model.push((rooms.enter(namespace, next_slot), next_slot, BTreeSet::new()));
                        next_slot += 1;
                    }
                    Step::Exit(_) | Step::Join(..) | Step::Leave(..) if model.is_empty() => {}
                    Step::Exit(index) => {
                        let (key, ..) = model.swap_remove(index % model.len());
                        rooms.exit(key, &mut open);
                    }
                    Step::Join(index, room) => {
                        let index = index % model.len();
                        let (key, _, joined) = &mut model[index];
                        let expected = if joined.contains(&name(room)) { Join::Already } else if joined.len() == 4 { Join::TooMany } else { Join::Newly };
                        prop_assert_eq!(rooms.join(*key, &name(room), &mut open), expected);
                        if expected == Join::Newly {
                            joined.insert(name(room));
                        }
                    }
                    Step::Leave(index, room) => {
                        let index = index % model.len();
                        let (key, _, joined) = &mut model[index];
                        prop_assert_eq!(rooms.leave(*key, &name(room), &mut open), joined.remove(&name(room)));
                    }
                }
                let mut expected: BTreeMap<RoomName, BTreeSet<u32>> = BTreeMap::new();
                for (key, slot, joined) in &model {
                    prop_assert_eq!(&rooms.of(*key).cloned().collect::<BTreeSet<_>>(), joined);
                    for room in joined {
                        expected.entry(room.clone()).or_default().insert(*slot);
                    }
                }
                for room in (0..6).map(name) {
                    let members = rooms.members(namespace, &room);
                    let set: BTreeSet<u32> = members.iter().copied().collect();
                    prop_assert_eq!(set.len(), members.len());
                    prop_assert_eq!(set, expected.get(&room).cloned().unwrap_or_default());
                    prop_assert_eq!(rooms.member_sockets(namespace, &room).count(), members.len());
                }
                prop_assert_eq!(&open.0, &expected.keys().cloned().collect::<BTreeSet<_>>());
                prop_assert_eq!(rooms.everyone(namespace).len(), model.len());
                prop_assert_eq!(rooms.count(), expected.len());
            }
        }
    }
}
