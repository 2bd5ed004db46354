//! The program's part of a shard: its handlers are called here, and what they do with their clients is carried out here.
//! Knows no handler's purpose; rooms and events are the hub's as they are for rules.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::FutureExt;
use hub::codes::ErrorCode;
use hub::emission::{Except, Payload, Sending, Target};
use hub::names::NamespaceId;
use hub::profile::Access;
use hub::rooms::{Join, SocketKey};
use wire::engine::CloseReason;
use wire::socketio::Decoded;
use wire::ws;

use super::act::REFRESH;
use super::connection::{Owed, Pending, Protocol, Purpose};
use super::inbox::{Act, ConnectionKey, Deed, Message, Order};
use super::slots::{Encoding, Way};
use super::{Shard, encode};
use crate::auth::Identity;
use crate::embed::{
    self, Answer, Args, Connection, Event, Handshake, Inner, Link, REACTIONS_MAX, Reaction, Refused, Socket,
};

/// Answers that one connection may owe at a time; a question beyond goes unanswered.
const OWED_MAX: usize = 1_000;

/// Deeds carried out in one turn.
pub(super) const DEEDS_BATCH: usize = 512;

impl Shard {
    /// Asks the program whether a client that the profile lets in may come into its namespace; lets it in where there is nobody to ask.
    pub(super) fn admit(&mut self, slot: u32, namespace: NamespaceId, identity: Identity, auth: Option<&str>) {
        let Some(handlers) = self.outside.program.namespace(self.namespaces.name(namespace)).cloned() else {
            return self.enter(slot, namespace, identity, None);
        };
        let request = self.connection(slot).handshake.request.clone().expect("kept where a program has namespaces");
        let name = self.namespaces.name(namespace);
        let handshake = Arc::new(Handshake::new(request, name, auth));
        let Some(admit) = &handlers.admit else {
            return self.enter(slot, namespace, identity, Some(handshake));
        };
        let _runtime = self.outside.backend.enter();
        let first = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let mut deciding = admit(handshake.clone());
            match first_poll(deciding.as_mut()) {
                Poll::Ready(verdict) => Decision::Made(verdict),
                Poll::Pending => Decision::UnderWay(deciding),
            }
        }));
        let purpose = Purpose::Admit(Box::new((identity, handshake)));
        self.connection(slot).pending.push(Pending { namespace, purpose, auth: None });
        match first {
            Ok(Decision::Made(verdict)) => self.admitted(slot, namespace, verdict),
            Ok(Decision::UnderWay(deciding)) => {
                let (inbox, connection) = (self.own.clone(), self.slots.key(slot));
                self.outside.backend.spawn(async move {
                    // Whatever becomes of it, the client is answered.
                    let verdict = AssertUnwindSafe(deciding).catch_unwind().await.unwrap_or_else(|_| Err(undecided()));
                    inbox.send(Message::Admitted { connection, namespace, verdict });
                });
            }
            Err(_) => self.admitted(slot, namespace, Err(undecided())),
        }
    }

    /// What the program says of a client that wants in.
    pub(super) fn admitted(&mut self, slot: u32, namespace: NamespaceId, verdict: Result<(), Refused>) {
        let pending = &mut self.connection(slot).pending;
        let waits = |pending: &Pending| pending.namespace == namespace && matches!(pending.purpose, Purpose::Admit(_));
        let Some(index) = pending.iter().position(waits) else { return };
        let Purpose::Admit(waiting) = pending.swap_remove(index).purpose else { return };
        let (identity, handshake) = *waiting;
        match verdict {
            Ok(()) if self.connection(slot).is_over() => self.namespaces.release(namespace),
            Ok(()) => self.enter(slot, namespace, identity, Some(handshake)),
            Err(Refused { message, data }) => {
                self.outside.gateway.metrics.refused.inc("program");
                self.refuse(slot, namespace, ErrorCode::Forbidden, &message, data.as_deref());
            }
        }
    }

    /// A socket is in: it becomes the program's where the program has handlers for its namespace.
    pub(super) fn take_up(&mut self, key: SocketKey, handshake: Option<Arc<Handshake>>) {
        let (slot, namespace) = self.place(key);
        let (Some(handshake), Some(handlers)) =
            (handshake, self.outside.program.namespace(self.namespaces.name(namespace)).cloned())
        else {
            return;
        };
        let socket = Socket(Arc::new(Inner {
            gateway: self.outside.gateway.clone(),
            handlers,
            id: self.sockets.get(key).id,
            namespace,
            shard: self.index,
            connection: self.slots.key(slot),
            handshake,
            connected: AtomicBool::new(true),
            reactions: AtomicU32::new(0),
        }));
        if self.program_sockets.len() <= key.index() {
            self.program_sockets.resize(key.index() + 1, None);
        }
        self.program_sockets[key.index()] = Some(socket.clone());
        if let Some(connect) = &socket.0.handlers.connect {
            self.react(Some(&socket), || connect(socket.clone()));
            self.do_deeds(DEEDS_BATCH);
        }
    }

    /// A socket is gone: its owed answers, its namespace and its handlers learn of it.
    pub(super) fn let_go(&mut self, key: SocketKey, slot: u32, namespace: NamespaceId, reason: &'static str) {
        self.namespaces.release(namespace);
        let socket = self.program_sockets.get_mut(key.index()).and_then(Option::take);
        if let Some(socket) = &socket {
            // Before anyone hears of its answers.
            socket.0.connected.store(false, Ordering::Release);
        }
        if let Some(Owed(owed)) = self.connection(slot).owed.as_deref_mut() {
            let gone: Vec<u64> = owed.iter().filter(|(of, _)| *of == namespace).map(|(_, number)| *number).collect();
            owed.retain(|(of, _)| *of != namespace);
            gone.into_iter().for_each(|number| self.outside.gateway.acks.gone(number));
        }
        let Some(socket) = socket else { return };
        if let Some(disconnect) = &socket.0.handlers.disconnect {
            // What it does waits for the next turn: whoever ends a connection must not find another one ended meanwhile.
            self.react(None, || disconnect(socket.clone(), reason));
        }
    }

    /// Whether an event of this name is the program's to handle: the rules of the profile come first, and a name that nobody knows is the
    /// program's where it has handlers at all.
    pub(super) fn is_program_s(&self, key: SocketKey, name: &str) -> bool {
        let profile = &self.outside.gateway.profile;
        let is_profile_s = || match name {
            REFRESH => profile.auth.access != Access::Open,
            _ => profile.rules.command(self.sockets.get(key).namespace, name).is_some(),
        };
        self.program_sockets.get(key.index()).is_some_and(Option::is_some) && !is_profile_s()
    }

    /// An event of a client's, which is the program's to handle. `arguments` is their JSON, joined by commas.
    pub(super) fn program_event(
        &mut self,
        key: SocketKey,
        name: &str,
        arguments: &str,
        attachments: &[Bytes],
        ack: Option<u64>,
    ) {
        let Some(Some(socket)) = self.program_sockets.get(key.index()) else { return };
        let socket = socket.clone();
        let Some(handler) = socket.0.handlers.handler_of(name) else { return };
        if socket.0.reactions.load(Ordering::Relaxed) >= REACTIONS_MAX {
            let (slot, namespace) = self.place(key);
            let message = "too many events are being handled; try again";
            return self.tell_error(slot, namespace, ack, ErrorCode::Busy, message, None);
        }
        let payload = Payload { json: Bytes::copy_from_slice(arguments.as_bytes()), attachments: attachments.into() };
        let event = Event {
            name: name.to_owned(),
            args: Args(payload),
            answer: ack.map(|number| Answer::new(socket.clone(), number)),
        };
        self.react(Some(&socket), || handler(socket.clone(), event));
        self.do_deeds(DEEDS_BATCH);
    }

    /// A client's answer to a question of ours; one that it was not asked, or has answered already, is nobody's.
    pub(super) fn answered(&mut self, key: SocketKey, decoded: &Decoded<'_>) {
        let (slot, namespace) = self.place(key);
        let from = self.sockets.get(key).id;
        let (Some(number), Some(arguments)) = (decoded.packet.ack, decoded.packet.ack_arguments()) else { return };
        let Some(Owed(owed)) = self.connection(slot).owed.as_deref_mut() else { return };
        let Some(index) = owed.iter().position(|owed| *owed == (namespace, number)) else { return };
        owed.swap_remove(index);
        if owed.is_empty() {
            self.connection(slot).owed = None;
        }
        let json = Bytes::copy_from_slice(arguments.as_bytes());
        let payload = Payload { json, attachments: decoded.attachments.as_slice().into() };
        self.outside.gateway.acks.answer(number, from, payload);
    }

    /// Notes that a client owes an answer. Returns whether it may be asked.
    pub(super) fn owe(&mut self, slot: u32, namespace: NamespaceId, number: u64) -> bool {
        let acks = self.outside.gateway.acks.clone();
        let Owed(owed) = &mut **self.connection(slot).owed.get_or_insert_default();
        if owed.len() >= OWED_MAX / 8 {
            // Those whom nobody waits for any more.
            owed.retain(|(_, number)| acks.is_waiting(*number));
        }
        acks.asked(number, 1);
        let may = owed.len() < OWED_MAX;
        if may {
            owed.push((namespace, number));
        } else {
            acks.gone(number);
        }
        may
    }

    /// A connection below Socket.IO is open.
    pub(super) fn open_messages(&mut self, key: ConnectionKey) {
        let endpoint = self.connection(key.slot).endpoint;
        let Some(handlers) = self.outside.program.messages.get(&endpoint).cloned() else { return };
        let request = self.connection(key.slot).handshake.request.clone().expect("kept where a program has endpoints");
        let connection = Connection(Arc::new(Link { inbox: self.own.clone(), key, request, handlers }));
        self.connection(key.slot).program = Some(connection.clone());
        if let Some(open) = &connection.0.handlers.open {
            self.react(None, || open(connection.clone()));
            self.do_deeds(DEEDS_BATCH);
        }
    }

    /// A message below Socket.IO.
    pub(super) fn program_message(&mut self, slot: u32, message: embed::Message) {
        let Some(connection) = self.connection(slot).program.clone() else { return };
        self.outside.gateway.metrics.messages_received.inc();
        if let Some(handler) = &connection.0.handlers.message {
            self.react(None, || handler(connection.clone(), message));
            self.do_deeds(DEEDS_BATCH);
        }
    }

    /// A connection below Socket.IO is over.
    pub(super) fn close_messages(&mut self, slot: u32, reason: &'static str) {
        let Some(connection) = self.connection(slot).program.take() else { return };
        if let Some(close) = &connection.0.handlers.close {
            self.react(None, || close(connection.clone(), reason));
        }
    }

    /// Runs a handler as far as it goes without waiting; the rest of it goes on elsewhere.
    fn react(&mut self, socket: Option<&Socket>, handler: impl FnOnce() -> Reaction) {
        let _runtime = self.outside.backend.enter();
        let first = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let mut reaction = handler();
            match first_poll(reaction.as_mut()) {
                Poll::Ready(()) => None,
                Poll::Pending => Some(reaction),
            }
        }));
        match first {
            Ok(None) => {}
            Ok(Some(reaction)) => {
                let socket = socket.cloned();
                if let Some(socket) = &socket {
                    socket.0.reactions.fetch_add(1, Ordering::Relaxed);
                }
                self.outside.backend.spawn(async move {
                    if AssertUnwindSafe(reaction).catch_unwind().await.is_err() {
                        tell_panic();
                    }
                    if let Some(socket) = socket {
                        socket.0.reactions.fetch_sub(1, Ordering::Relaxed);
                    }
                });
            }
            Err(_) => tell_panic(),
        }
    }

    /// Carries out what the program did, in order, so many at most. Returns whether more may wait.
    pub(super) fn do_deeds(&mut self, most: usize) -> bool {
        // A deed may call a handler, whose own deeds come after those that wait.
        if self.is_doing {
            return false;
        }
        self.is_doing = true;
        let mut done = 0;
        while done < most
            && let Some(deed) = self.inbox.try_next_deed()
        {
            self.deed(deed);
            done += 1;
        }
        self.is_doing = false;
        done == most
    }

    pub(super) fn deed(&mut self, deed: Deed) {
        let Deed { connection, socket, act } = deed;
        if !self.slots.is_current(connection) {
            return;
        }
        let slot = connection.slot;
        match socket {
            None => self.act_on_connection(slot, act),
            Some((namespace, id)) => {
                let key = self.sockets.find(slot, namespace);
                if let Some(key) = key.filter(|key| self.sockets.get(*key).id == id) {
                    self.act_on_socket(key, act);
                }
            }
        }
    }

    fn act_on_connection(&mut self, slot: u32, act: Act) {
        match act {
            Act::Message(message) => {
                let encoding = self.slots.encoding(slot);
                let frame = match self.connection(slot).protocol {
                    Protocol::SocketIo(_) => encode::message(encoding, message),
                    Protocol::Json(_) | Protocol::Probe(_) | Protocol::Greeting { .. } => match message {
                        embed::Message::Text(text) => ws::text_frame(text.as_bytes()),
                        embed::Message::Binary(data) => ws::binary_frame(&data),
                    },
                };
                self.send(slot, frame);
            }
            Act::Close => match self.connection(slot).protocol {
                Protocol::SocketIo(_) => self.close_engine(slot, CloseReason::ForcedClose, None, ""),
                Protocol::Json(_) => {
                    self.close_messages(slot, "forced close");
                    self.close_websocket(slot, Some(1000), "");
                }
                Protocol::Probe(_) | Protocol::Greeting { .. } => {}
            },
            Act::Emit { .. }
            | Act::Broadcast(..)
            | Act::Answer { .. }
            | Act::Fail { .. }
            | Act::Join(_)
            | Act::Leave(_)
            | Act::Rooms(_)
            | Act::Disconnect { .. } => {}
        }
    }

    fn act_on_socket(&mut self, key: SocketKey, act: Act) {
        let (slot, namespace) = self.place(key);
        match act {
            Act::Emit { event, payload, sending } => {
                if sending.volatile && !self.can_take(slot) {
                    return;
                }
                if let Some(number) = sending.ack {
                    let may = is_socket_io(self.slots.encoding(slot)) && self.owe(slot, namespace, number);
                    self.outside.gateway.acks.all_asked(number);
                    if !may {
                        return;
                    }
                }
                let name = self.namespaces.name(namespace);
                let frame = encode::event(self.slots.encoding(slot), name, &event, &payload, sending.ack);
                self.send(slot, frame);
            }
            Act::Broadcast(emission, done) => {
                if !self.emit(emission, done) {
                    tracing::warn!("a shard is overloaded: an event of the program was dropped");
                }
            }
            Act::Answer { ack, payload } => {
                self.send_ack(slot, namespace, ack, &payload.json, &payload.attachments);
            }
            Act::Fail { ack, code, message } => self.tell_error(slot, namespace, ack, code, &message, None),
            Act::Join(room) => {
                let joined =
                    self.with_sockets(|sockets, moment, watch, out| sockets.join(key, &room, moment, watch, out));
                if joined == Join::TooMany {
                    tracing::warn!(%room, socket = %self.sockets.get(key).id, "a socket is in as many rooms as it may be");
                }
            }
            Act::Leave(room) => {
                self.with_sockets(|sockets, moment, watch, out| sockets.leave(key, &room, moment, watch, out));
            }
            Act::Rooms(reply) => {
                let _ = reply.send(self.sockets.rooms().of(key).cloned().collect());
            }
            // A plain connection is its one namespace's.
            Act::Disconnect { close: false } if is_socket_io(self.slots.encoding(slot)) => {
                self.send_disconnect(key);
                self.exit(key, "server namespace disconnect");
                self.count_disconnect("server namespace disconnect");
            }
            Act::Disconnect { .. } => self.disconnect(slot),
            Act::Message(_) | Act::Close => {}
        }
    }

    /// Whether a client takes an event at once: its socket is not full, or a poll of it waits.
    pub(super) fn can_take(&self, slot: u32) -> bool {
        match self.slots.way(slot) {
            Way::Direct => true,
            Way::Queue => self.connections[slot as usize].as_ref().is_some_and(|connection| connection.takes_at_once()),
            Way::Closed => false,
        }
    }

    /// The program's sockets that an emission would go to.
    pub(super) fn sockets_of(&self, namespace: NamespaceId, target: &Target, except: &Except) -> Vec<Socket> {
        let keys = self.audience(namespace, target, except);
        keys.iter().filter_map(|key| self.program_sockets.get(key.index())?.clone()).collect()
    }

    /// The sockets that an emission would go to.
    pub(super) fn audience(&self, namespace: NamespaceId, target: &Target, except: &Except) -> Vec<SocketKey> {
        let rooms = self.sockets.rooms();
        let mut keys: Vec<SocketKey> = match target {
            Target::Everyone => rooms.everyone_s_sockets(namespace).collect(),
            Target::Rooms(names) => names
                .names()
                .iter()
                .flat_map(|room| {
                    let own = self.slot_of_socket(namespace, room.as_str());
                    let own = own.and_then(|slot| self.sockets.find(slot, namespace));
                    rooms.member_sockets(namespace, room).chain(own)
                })
                .collect(),
        };
        keys.sort_unstable_by_key(|key| key.index());
        keys.dedup();
        keys.retain(|key| {
            let id = self.sockets.get(*key).id;
            let is_named = |room: &hub::names::RoomName| room.as_str() == id.as_str();
            !except.sockets.contains(&id)
                && !except.rooms.iter().any(|room| is_named(room) || rooms.is_member(*key, room))
        });
        keys
    }

    /// Has sockets enter rooms, leave them, or go; how many sockets these were.
    pub(super) fn carry_out_order(
        &mut self,
        namespace: NamespaceId,
        target: &Target,
        except: &Except,
        order: &Order,
    ) -> usize {
        let keys = self.audience(namespace, target, except);
        for key in &keys {
            match order {
                Order::Join(rooms) => rooms.iter().for_each(|room| self.act_on_socket(*key, Act::Join(room.clone()))),
                Order::Leave(rooms) => rooms.iter().for_each(|room| self.act_on_socket(*key, Act::Leave(room.clone()))),
                Order::Disconnect { close } => self.act_on_socket(*key, Act::Disconnect { close: *close }),
            }
        }
        keys.len()
    }

    /// Asks each of these for the answer that an event wants.
    pub(super) fn ask_all(&mut self, slots: &[u32], namespace: NamespaceId, sending: Sending) {
        if let Some(number) = sending.ack {
            for slot in slots {
                self.owe(*slot, namespace, number);
            }
        }
    }
}

/// How far a program is with its decision on a client.
enum Decision {
    Made(Result<(), Refused>),
    UnderWay(Pin<Box<dyn Future<Output = Result<(), Refused>> + Send>>),
}

/// Runs a future of the program's as far as it goes without waiting. The runtime's budget is the shard's, not the handler's: it would have
/// handlers wait for what is there.
fn first_poll<T>(future: Pin<&mut (dyn Future<Output = T> + Send)>) -> Poll<T> {
    Pin::new(&mut tokio::task::unconstrained(future)).poll(&mut Context::from_waker(Waker::noop()))
}

/// The panic hook has said what and where.
fn tell_panic() {
    tracing::error!("a handler of the program panicked");
}

/// What a client is told when the program panicked over it.
fn undecided() -> Refused {
    Refused::new("Internal server error")
}

/// Whether a client of this encoding can answer.
pub(super) fn is_socket_io(encoding: Encoding) -> bool {
    match encoding {
        Encoding::SocketIo | Encoding::SocketIo3 | Encoding::SocketIoDeflated | Encoding::Polling => true,
        Encoding::Flat | Encoding::FlatDeflated | Encoding::Data | Encoding::DataDeflated => false,
    }
}
