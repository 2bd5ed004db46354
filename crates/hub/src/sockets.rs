//! The sockets of one shard: who each is, which rooms it is in, and what others hear of that; its commands stand in `commands`. Decisions come
//! out as values for the driver to carry out; knows no transport, no wire format and no other shard.

mod commands;

use std::collections::HashMap;
use std::sync::Arc;

use smallvec::SmallVec;

use self::commands::{Asker, Commands};
use crate::codes::ErrorCode;
use crate::emission::{Emission, Payload};
use crate::names::{EventName, NamespaceId, RoomName, SocketId, UserId};
use crate::profile::Profile;
use crate::rooms::{Join, Rooms, SocketKey, Watch};
use crate::rules::{Effect, Facts, FreshId, LeftOut, NewId, Request, User};

/// What the moment gives to a decision.
pub struct Moment<'a> {
    /// The time, in milliseconds since 1970.
    pub now_unix_ms: u64,
    /// Gives a fresh id each time.
    pub new_id: &'a dyn Fn() -> String,
}

/// One socket: a connection's presence in one namespace.
#[derive(Debug)]
pub struct Socket {
    /// Its public id.
    pub id: SocketId,
    /// Its namespace.
    pub namespace: NamespaceId,
    /// Its connection's slot.
    pub slot: u32,
    /// Who it is.
    pub user: Arc<User>,
    /// When its token ends, in seconds since 1970.
    pub expires_at_unix_secs: Option<u64>,
    /// Whether it was told that its token ends.
    pub warned: bool,
    commands: Option<Box<Commands>>,
}

/// What the driver is to do, in order.
#[derive(Debug)]
pub enum Output {
    /// Send an event to one socket.
    ToSocket {
        /// Which.
        key: SocketKey,
        /// The event's name.
        event: EventName,
        /// Its arguments.
        payload: Payload,
    },
    /// Answer an acknowledgement.
    Ack {
        /// Whose.
        key: SocketKey,
        /// Which.
        ack: u64,
        /// The arguments.
        payload: Payload,
    },
    /// Tell a client what went wrong.
    Failed {
        /// Whom.
        key: SocketKey,
        /// In which acknowledgement; `None` for an `error` event.
        ack: Option<u64>,
        /// The code.
        code: ErrorCode,
        /// The sentence.
        message: String,
        /// The id of a message whose fate is unknown.
        message_id: Option<String>,
    },
    /// Send an event to many.
    Emit(Emission),
    /// Ask the world, and give the answer to [`Sockets::resume`].
    Wait {
        /// Whose command waits.
        user: Arc<User>,
        /// To be given back with the answer.
        ticket: u32,
        /// What is asked.
        request: Request,
    },
    /// The socket entered a room that presence follows.
    Entered {
        /// Which socket.
        key: SocketKey,
        /// Which room.
        room: RoomName,
    },
    /// The socket entered, or asked to enter, a room that has a latest value for it.
    Latest {
        /// Which socket.
        key: SocketKey,
        /// Which room.
        room: RoomName,
    },
    /// Tell the operator that the socket is not in every room that is said of its user.
    LeftOut {
        /// Which socket.
        key: SocketKey,
        /// What it is not in.
        left_out: LeftOut,
    },
    /// The socket left a room that presence follows, by a command.
    Left {
        /// Which socket.
        key: SocketKey,
        /// Which room.
        room: RoomName,
    },
}

/// A socket that is gone.
#[derive(Debug)]
pub struct Departed {
    /// Who it was.
    pub user: Arc<User>,
    /// In which namespace.
    pub namespace: NamespaceId,
    /// The rooms that it was in and that presence follows.
    pub followed_rooms: Vec<(NamespaceId, RoomName)>,
    /// Commands of it that are dropped, since too many others are still to be finished.
    pub dropped_commands: usize,
}

/// Why the socket of a key is there.
const THERE: &str = "keys live as long as their sockets";

/// The sockets of one shard.
#[derive(Debug)]
pub struct Sockets {
    profile: Arc<Profile>,
    rooms: Rooms,
    sockets: Vec<Option<Box<Socket>>>,
    by_slot: Vec<SmallVec<[SocketKey; 2]>>,
    count: usize,
    /// Tickets are the shard's, so that an answer for a socket that is gone fits none that came in its place.
    last_ticket: u32,
    /// Who waits, by ticket. Bound: one command of each socket, and [`UNFINISHED_MAX`](crate::unfinished::UNFINISHED_MAX) of those that are gone.
    askers: HashMap<u32, Asker>,
    gone: usize,
    gone_bytes: usize,
}

impl Sockets {
    /// No sockets yet.
    pub fn new(profile: Arc<Profile>) -> Self {
        let rooms = Rooms::new(profile.rules.namespaces().len(), profile.limits.rooms_per_connection as usize);
        Self {
            profile,
            rooms,
            sockets: Vec::new(),
            by_slot: Vec::new(),
            count: 0,
            last_ticket: 0,
            askers: HashMap::new(),
            gone: 0,
            gone_bytes: 0,
        }
    }

    /// The rooms of these sockets.
    pub fn rooms(&self) -> &Rooms {
        &self.rooms
    }

    /// Notes from now on which sockets come and change rooms, for [`take_changed`](Self::take_changed).
    pub fn note_changes(&mut self) {
        self.rooms.note_changes();
    }

    /// The sockets that came or changed rooms since this was asked last, and are there.
    pub fn take_changed(&mut self) -> Vec<SocketKey> {
        let mut changed = self.rooms.take_changed();
        changed.retain(|key| self.sockets.get(key.index()).is_some_and(Option::is_some));
        changed
    }

    /// Every socket's key.
    pub fn keys(&self) -> impl Iterator<Item = SocketKey> {
        self.by_slot.iter().flatten().copied()
    }

    /// How many sockets there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// A socket that is there.
    pub fn get(&self, key: SocketKey) -> &Socket {
        self.sockets[key.index()].as_ref().expect(THERE)
    }

    /// A socket that may be gone; another may have its key meanwhile.
    pub fn try_get(&self, key: SocketKey) -> Option<&Socket> {
        self.sockets.get(key.index())?.as_deref()
    }

    /// A socket that is there, to change it.
    pub fn get_mut(&mut self, key: SocketKey) -> &mut Socket {
        self.sockets[key.index()].as_mut().expect(THERE)
    }

    /// The sockets of a connection.
    pub fn at(&self, slot: u32) -> &[SocketKey] {
        self.by_slot.get(slot as usize).map_or(&[], |keys| keys.as_slice())
    }

    /// The connection's socket in a namespace.
    pub fn find(&self, slot: u32, namespace: NamespaceId) -> Option<SocketKey> {
        self.at(slot).iter().copied().find(|key| self.get(*key).namespace == namespace)
    }

    /// Every socket.
    pub fn all(&self) -> impl Iterator<Item = &Socket> {
        self.sockets.iter().flatten().map(|socket| &**socket)
    }

    /// A connection enters a namespace. Its rooms come with [`welcome`](Self::welcome), once the client knows its id.
    pub fn enter(
        &mut self,
        slot: u32,
        namespace: NamespaceId,
        id: SocketId,
        user: Arc<User>,
        expires_at_unix_secs: Option<u64>,
    ) -> SocketKey {
        let key = self.rooms.enter(namespace, slot);
        let socket = Socket { id, namespace, slot, user, expires_at_unix_secs, warned: false, commands: None };
        if self.sockets.len() <= key.index() {
            self.sockets.resize_with(key.index() + 1, || None);
        }
        self.sockets[key.index()] = Some(Box::new(socket));
        if self.by_slot.len() <= slot as usize {
            self.by_slot.resize_with(slot as usize + 1, SmallVec::new);
        }
        self.by_slot[slot as usize].push(key);
        self.count += 1;
        key
    }

    /// Puts a new socket into its rooms: its user's own, by which the server API reaches it, and those of the profile.
    pub fn welcome(&mut self, key: SocketKey, moment: &Moment<'_>, watch: &mut dyn Watch, out: &mut Vec<Output>) {
        let Socket { namespace, user, id, .. } = self.get(key);
        let (namespace, user) = (*namespace, user.clone());
        let new_id = FreshId::new(moment.new_id);
        let facts =
            Facts { now_unix_ms: moment.now_unix_ms, new_id: NewId::Fresh(&new_id), socket: Some(*id), user: &user };
        let profile = self.profile.clone();
        let rooms_max = profile.limits.rooms_per_connection as usize;
        let welcome = profile.rules.on_connect(namespace, &facts, rooms_max);
        for room in &welcome.rooms {
            if self.rooms.join(key, room, watch) == Join::Newly {
                self.carry_out(key, None, profile.rules.on_enter(namespace, room, &facts), out);
                self.entered(key, room, out);
            }
        }
        self.carry_out(key, None, welcome.effects, out);
        welcome.rooms.iter().for_each(|room| self.latest(key, room, out));
        if welcome.left_out.count > 0 {
            out.push(Output::LeftOut { key, left_out: welcome.left_out });
        }
    }

    /// The socket is gone: out of its rooms, and others are told what the rules say.
    pub fn exit(
        &mut self,
        key: SocketKey,
        moment: &Moment<'_>,
        watch: &mut dyn Watch,
        out: &mut Vec<Output>,
    ) -> Departed {
        let profile = self.profile.clone();
        let Socket { namespace, user, id, slot, .. } = self.get(key);
        let (namespace, user, id, slot) = (*namespace, user.clone(), *id, *slot);
        let new_id = FreshId::new(moment.new_id);
        let facts =
            Facts { now_unix_ms: moment.now_unix_ms, new_id: NewId::Fresh(&new_id), socket: Some(id), user: &user };
        let mut followed_rooms = Vec::new();
        let mut told = Vec::new();
        for room in self.rooms.of(key) {
            told.extend(profile.rules.on_leave(namespace, room, &facts));
            if profile.rules.remembers_room(namespace, room) {
                followed_rooms.push((namespace, room.clone()));
            }
        }
        let commands = self.get_mut(key).commands.take();
        let dropped_commands = commands.map_or(0, |commands| self.leave_behind(key, *commands));
        self.rooms.exit(key, watch);
        self.sockets[key.index()] = None;
        self.by_slot[slot as usize].retain(|other| *other != key);
        self.count -= 1;
        // Nobody is there any more to be told anything itself: only what goes to others is left.
        out.extend(told.into_iter().filter_map(|effect| match effect {
            Effect::Emit(emission) => Some(Output::Emit(emission)),
            Effect::ToSelf { .. } | Effect::Ack { .. } | Effect::Failed { .. } => None,
        }));
        Departed { user, namespace, followed_rooms, dropped_commands }
    }

    /// New claims of the same user: rooms that they no longer give are left, new ones joined.
    pub fn refresh(
        &mut self,
        key: SocketKey,
        user: Arc<User>,
        expires_at_unix_secs: Option<u64>,
        moment: &Moment<'_>,
        watch: &mut dyn Watch,
        out: &mut Vec<Output>,
    ) {
        let profile = self.profile.clone();
        let namespace = self.get(key).namespace;
        let new_id = FreshId::new(moment.new_id);
        let id = self.get(key).id;
        let facts =
            Facts { now_unix_ms: moment.now_unix_ms, new_id: NewId::Fresh(&new_id), socket: Some(id), user: &user };
        let rooms: Vec<RoomName> = self.rooms.of(key).cloned().collect();
        let rooms_max = profile.limits.rooms_per_connection as usize;
        let mut refreshed = profile.rules.on_refresh(namespace, &rooms, &facts, rooms_max);
        let own = user.id.as_ref().and_then(user_room);
        for room in refreshed.leave.iter().filter(|room| own.as_ref() != Some(room)) {
            if self.rooms.leave(key, room, watch) {
                self.carry_out(key, None, profile.rules.on_leave(namespace, room, &facts), out);
                self.left(key, room, out);
            }
        }
        for room in &refreshed.join {
            match self.rooms.join(key, room, watch) {
                Join::Newly => {
                    self.carry_out(key, None, profile.rules.on_enter(namespace, room, &facts), out);
                    self.entered(key, room, out);
                    self.latest(key, room, out);
                }
                Join::Already => {}
                Join::TooMany => {
                    refreshed.left_out.note(|| format!("the socket is in {rooms_max} rooms already"));
                }
            }
        }
        if refreshed.left_out.count > 0 {
            out.push(Output::LeftOut { key, left_out: refreshed.left_out });
        }
        let socket = self.get_mut(key);
        socket.user = user;
        socket.expires_at_unix_secs = expires_at_unix_secs;
        socket.warned = false;
    }

    /// Puts a socket into a room because the program says so: the room's rule is for clients.
    pub fn join(
        &mut self,
        key: SocketKey,
        room: &RoomName,
        moment: &Moment<'_>,
        watch: &mut dyn Watch,
        out: &mut Vec<Output>,
    ) -> Join {
        let joined = self.rooms.join(key, room, watch);
        if joined == Join::Newly {
            self.told(key, moment, out, |rules, namespace, facts| rules.on_enter(namespace, room, facts));
            self.entered(key, room, out);
            self.latest(key, room, out);
        }
        joined
    }

    /// Takes a socket out of a room because the program says so. Returns whether it was in it.
    pub fn leave(
        &mut self,
        key: SocketKey,
        room: &RoomName,
        moment: &Moment<'_>,
        watch: &mut dyn Watch,
        out: &mut Vec<Output>,
    ) -> bool {
        let left = self.rooms.leave(key, room, watch);
        if left {
            self.told(key, moment, out, |rules, namespace, facts| rules.on_leave(namespace, room, facts));
            self.left(key, room, out);
        }
        left
    }

    fn told(
        &self,
        key: SocketKey,
        moment: &Moment<'_>,
        out: &mut Vec<Output>,
        hook: impl FnOnce(&crate::rules::Rules, NamespaceId, &Facts<'_>) -> Vec<Effect>,
    ) {
        let Socket { namespace, user, id, .. } = self.get(key);
        let new_id = FreshId::new(moment.new_id);
        let facts = Facts { now_unix_ms: moment.now_unix_ms, new_id: NewId::Fresh(&new_id), socket: Some(*id), user };
        self.carry_out(key, None, hook(&self.profile.rules, *namespace, &facts), out);
    }

    /// The first of a user's sockets is in the room: what the rules tell about it.
    pub fn user_entered(&mut self, key: SocketKey, room: &RoomName, moment: &Moment<'_>, out: &mut Vec<Output>) {
        let Socket { namespace, user, id, .. } = self.get(key);
        let new_id = FreshId::new(moment.new_id);
        let facts = Facts { now_unix_ms: moment.now_unix_ms, new_id: NewId::Fresh(&new_id), socket: Some(*id), user };
        let effects = self.profile.rules.on_user_enter(*namespace, room, &facts);
        self.carry_out(key, None, effects, out);
    }

    fn entered(&self, key: SocketKey, room: &RoomName, out: &mut Vec<Output>) {
        let Socket { namespace, user, .. } = self.get(key);
        let rules = &self.profile.rules;
        if user.id.is_some() && (rules.remembers_room(*namespace, room) || rules.watches_user_enter(*namespace, room)) {
            out.push(Output::Entered { key, room: room.clone() });
        }
    }

    /// Who is in a room that has a latest value gets it. A command's answer goes first.
    fn latest(&self, key: SocketKey, room: &RoomName, out: &mut Vec<Output>) {
        let namespace = self.get(key).namespace;
        if self.profile.rules.has_latest(namespace, room) && self.rooms.is_member(key, room) {
            out.push(Output::Latest { key, room: room.clone() });
        }
    }

    fn left(&self, key: SocketKey, room: &RoomName, out: &mut Vec<Output>) {
        let Socket { namespace, user, .. } = self.get(key);
        let rules = &self.profile.rules;
        if user.id.is_some() && (rules.remembers_room(*namespace, room) || rules.watches_user_enter(*namespace, room)) {
            out.push(Output::Left { key, room: room.clone() });
        }
    }

    fn carry_out(&self, key: SocketKey, ack: Option<u64>, effects: Vec<Effect>, out: &mut Vec<Output>) {
        for effect in effects {
            match effect {
                Effect::ToSelf { event, payload } => out.push(Output::ToSocket { key, event, payload }),
                Effect::Ack { payload } => {
                    if let Some(ack) = ack {
                        out.push(Output::Ack { key, ack, payload });
                    }
                }
                Effect::Failed { code, message, message_id } => {
                    out.push(Output::Failed { key, ack, code, message, message_id })
                }
                Effect::Emit(emission) => out.push(Output::Emit(emission)),
            }
        }
    }
}

/// The room of a user's own. `None` for an id so long that its room would be no name.
pub fn user_room(id: &UserId) -> Option<RoomName> {
    RoomName::parse(&format!("user:{}", id.as_str())).ok()
}
