//! What others are told of who is here: by this node alone, or, in a cluster, where no other node has told it. Knows neither Redis nor
//! who the others are.

use std::collections::HashSet;
use std::sync::Arc;

use hub::names::{NamespaceId, RoomName, SocketId, UserId};
use hub::rooms::SocketKey;
use hub::rules::User;
use hub::sockets::Moment;

use super::Shard;
use super::inbox::Message;
use crate::cluster::{Ask, Record};
use crate::presence::Place;

impl Shard {
    /// Hands the sockets that came or changed rooms to the directory.
    pub(super) fn tell_directory(&mut self) {
        let Some(directory) = &self.outside.gateway.directory else { return };
        for key in self.sockets.take_changed() {
            let socket = self.sockets.get(key);
            if !self.outside.gateway.profile.rules.governs(socket.namespace) {
                continue;
            }
            directory.changed(Record {
                id: socket.id,
                namespace: socket.namespace,
                user: socket.user.clone(),
                rooms: self.sockets.rooms().of(key).cloned().collect(),
                connected_unix_ms: self.clock.unix_ms(),
            });
        }
    }

    /// A user's first socket on this node came.
    pub(super) fn user_came(&mut self, user: &Arc<User>, id: &UserId) {
        let asked = self.outside.gateway.directory.as_ref().map(|directory| directory.ask(Ask::Online(user.clone())));
        if !matches!(asked, Some(Ok(()))) {
            self.user_online(id);
        }
    }

    fn user_online(&mut self, id: &UserId) {
        let now = self.clock.unix_ms();
        let presence = hub::rules::Presence { id, rooms: &[], last_seen_unix_ms: now, now_unix_ms: now };
        let emissions = self.outside.gateway.profile.rules.on_user_online(&presence);
        for emission in emissions {
            self.emit(emission, None);
        }
    }

    /// The first of a user's sockets on this node entered a room that presence follows. Returns whether it is to be told at once.
    pub(super) fn first_entered(
        &mut self,
        user: &Arc<User>,
        namespace: NamespaceId,
        room: &RoomName,
        key: SocketKey,
    ) -> bool {
        let Some(directory) = &self.outside.gateway.directory else { return true };
        let (shard, socket) = (self.index, self.sockets.get(key).id);
        directory.ask(Ask::Entered { user: user.clone(), namespace, room: room.clone(), shard, key, socket }).is_err()
    }

    /// The directory was asked, and no other node has told that the user is in the room.
    pub(super) fn user_entered(&mut self, namespace: NamespaceId, room: &RoomName, key: SocketKey, socket: SocketId) {
        let asked = self.sockets.try_get(key).filter(|of| of.id == socket && of.namespace == namespace);
        let is_there = asked.is_some() && self.sockets.rooms().is_member(key, room);
        if is_there {
            self.with_sockets(|sockets, moment, _, out| sockets.user_entered(key, room, moment, out));
        }
    }

    /// Others were told that everybody here is gone: it is told once more who is here, and in which rooms.
    pub(super) fn tell_anew(&mut self) {
        let profile = self.outside.gateway.profile.clone();
        let (mut users, mut entered) = (HashSet::new(), HashSet::new());
        for key in self.sockets.keys().collect::<Vec<_>>() {
            let Some(socket) = self.sockets.try_get(key) else { continue };
            let (user, namespace) = (socket.user.clone(), socket.namespace);
            let Some(id) = &user.id else { continue };
            let rooms: Vec<RoomName> = self.sockets.rooms().of(key).cloned().collect();
            if users.insert(id.clone()) {
                self.user_came(&user, id);
            }
            for room in rooms.iter().filter(|room| profile.rules.watches_user_enter(namespace, room)) {
                if entered.insert((id.clone(), namespace, room.clone()))
                    && self.first_entered(&user, namespace, room, key)
                {
                    self.with_sockets(|sockets, moment, _, out| sockets.user_entered(key, room, moment, out));
                }
            }
        }
    }

    /// Where a user may have only so many connections, the oldest ones go, on whichever shard and node they are.
    pub(super) fn claim_place(&mut self, slot: u32, id: &UserId) {
        let gateway = &self.outside.gateway;
        let Some(connections) = gateway.profile.user.connections else { return };
        let place = (self.index, self.slots.key(slot));
        // In one order for all, here and in the directory: else each of two connections could be told that the other one is the newer.
        let note = |surplus: &[Place]| {
            if let Some(directory) = &gateway.directory {
                directory.takes(id.as_str(), place, surplus);
            }
        };
        for (shard, key) in gateway.presence.claim(id.as_str(), place, connections as usize, note) {
            gateway.publisher.inboxes()[shard].send(Message::Replaced(key));
        }
    }

    /// A socket is gone, of this user and from this slot.
    pub(super) fn socket_went(&mut self, socket: SocketId, user: &User, slot: u32) {
        let gateway = &self.outside.gateway;
        let Some(directory) = &gateway.directory else { return };
        directory.gone(socket);
        let Some(id) = &user.id else { return };
        directory.user_changed(id.as_str());
        if gateway.profile.user.connections.is_some() {
            let key = self.slots.key(slot);
            let others = self.sockets.at(slot).iter().any(|of| self.sockets.get(*of).user.id.as_ref() == Some(id));
            if !others {
                directory.gives_back(id.as_str(), (self.index, key));
            }
        }
    }

    /// A room that presence follows was entered or left by a user's socket.
    pub(super) fn user_moved(&self, id: &UserId) {
        if let Some(directory) = &self.outside.gateway.directory {
            directory.user_changed(id.as_str());
        }
    }

    /// What the first of a user's sockets in a room sets off.
    pub(super) fn tell_entered(&mut self, key: SocketKey, room: &RoomName, later: &mut Vec<hub::sockets::Output>) {
        let new_id = || self.clock.new_id();
        let moment = Moment { now_unix_ms: self.clock.unix_ms(), new_id: &new_id };
        self.sockets.user_entered(key, room, &moment, later);
    }
}
