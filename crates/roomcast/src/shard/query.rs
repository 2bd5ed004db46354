//! Answers to questions about what the shard holds. Reads, and disconnects where that is asked.

use std::collections::HashSet;

use hub::names::{NamespaceId, RoomName, SocketId};
use hub::rules::KindId;

use super::Shard;
use super::inbox::{Described, Member, Numbers, Query, Whom};

impl Shard {
    pub(super) fn answer(&mut self, query: Query) {
        // Whoever asked may have gone meanwhile: nobody misses the answer then.
        match query {
            Query::Rooms(reply) => {
                let rooms =
                    self.sockets.rooms().all().map(|(namespace, room, members)| (namespace, room.clone(), members));
                let _ = reply.send(rooms.collect());
            }
            Query::Room(namespace, room, reply) => {
                let members = self.sockets.rooms().member_sockets(namespace, &room).map(|key| {
                    let socket = self.sockets.get(key);
                    Member { socket_id: socket.id, user_id: socket.user.id.clone() }
                });
                let _ = reply.send(members.collect());
            }
            Query::Numbers(reply) => {
                let _ = reply.send(Numbers {
                    connections: self.open,
                    sockets: self.sockets.count(),
                    queued_bytes: self.queued_bytes,
                    to_drain: self.drain.as_ref().map_or(0, |drain| drain.keys.len() - drain.closed),
                    farewells: if self.is_draining && self.drain.is_none() { self.farewells() } else { 0 },
                });
            }
            Query::Users(reply) => {
                let _ = reply.send(self.sockets.all().filter_map(|socket| socket.user.id.clone()).collect());
            }
            Query::InNamespace(namespace, reply) => {
                let _ = reply.send(self.sockets.all().filter(|socket| socket.namespace == namespace).count());
            }
            Query::OfKind(kind, reply) => {
                let _ = reply.send(self.of_kind(kind));
            }
            Query::Sockets { namespace, target, except, reply } => {
                let _ = reply.send(self.sockets_of(namespace, &target, &except));
            }
            Query::Describe { namespace, target, except, reply } => {
                let keys = self.audience(namespace, &target, &except);
                let described = keys.into_iter().map(|key| {
                    let socket = self.sockets.get(key);
                    let rooms = self.sockets.rooms().of(key).cloned().collect();
                    Described { socket_id: socket.id, user_id: socket.user.id.clone(), rooms }
                });
                let _ = reply.send(described.collect());
            }
            Query::Order { namespace, target, except, order, reply } => {
                self.note_what_came_before();
                let _ = reply.send(self.carry_out_order(namespace, &target, &except, &order));
            }
            Query::Disconnect(whom, reply) => {
                self.note_what_came_before();
                let slots = self.slots_of(&whom);
                for slot in &slots {
                    self.disconnect(*slot);
                }
                let _ = reply.send(slots.len());
            }
        }
    }

    fn of_kind(&self, kind: KindId) -> (Vec<(NamespaceId, RoomName)>, usize) {
        let rules = &self.outside.gateway.profile.rules;
        let (mut rooms, mut members) = (Vec::new(), HashSet::new());
        for (namespace, room, _) in self.sockets.rooms().all() {
            if rules.is_of_kind(kind, namespace, room) {
                members.extend(self.sockets.rooms().member_sockets(namespace, room));
                rooms.push((namespace, room.clone()));
            }
        }
        (rooms, members.len())
    }

    fn slots_of(&self, whom: &Whom) -> Vec<u32> {
        let is_meant = |id: SocketId, user: Option<&str>| match whom {
            Whom::User(wanted) => user == Some(wanted.as_str()),
            Whom::Socket(wanted) => id == *wanted,
        };
        let sockets = self.sockets.all();
        let meant = sockets.filter(|socket| is_meant(socket.id, socket.user.id.as_ref().map(|id| id.as_str())));
        let mut slots: Vec<u32> = meant.map(|socket| socket.slot).collect();
        slots.sort_unstable();
        slots.dedup();
        slots
    }
}
