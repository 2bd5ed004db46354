//! What sockets do: their packets become commands, and what the hub decides about them is carried out. Between the dialects and the hub;
//! how they come in is `enter`, how they go `leave`.

use std::sync::Arc;

use hub::codes::{CloseCode, ErrorCode};
use hub::names::NamespaceId;
use hub::rooms::SocketKey;
use hub::rules::{LeftOut, Reply, Request, User};
use hub::sockets::Output;
use wire::engine::{CloseReason, Revision};
use wire::socketio::{Address, Decoded, Kind, Outbound};

use super::connection::Rate;
use super::inbox::Message;
use super::{Doom, ERRORS_PER_MINUTE, Shard, encode};
use crate::access::Answer;
use crate::source::Published;
use crate::upstream::Failure;

/// The command that renews a token in place, in every profile.
pub(super) const REFRESH: &str = "refresh_token";

impl Shard {
    /// A Socket.IO packet of a client's.
    pub(super) fn packet(&mut self, slot: u32, decoded: &Decoded<'_>) {
        let packet = &decoded.packet;
        let revision = self.socket_io(slot).session.known().revision;
        let address = match revision {
            Revision::Four => Address { namespace: &packet.namespace, query: None },
            Revision::Three => Address::of(&packet.namespace),
        };
        if packet.kind == Kind::Connect {
            // Clients of Socket.IO 4 say what they have to say in the namespace's query, and a payload of theirs is not looked at.
            let auth = packet.data.as_deref().filter(|_| revision == Revision::Four);
            return self.connect(slot, &address, auth);
        }
        let keys = self.sockets.at(slot).iter().copied();
        let mut of_name =
            keys.filter(|key| self.namespaces.name(self.sockets.get(*key).namespace) == address.namespace);
        let Some(key) = of_name.next() else {
            // As Node: whoever speaks in a namespace that it is not in breaks the protocol.
            return self.close_engine(slot, CloseReason::ParseError, None, "");
        };
        let namespace = self.sockets.get(key).namespace;
        match packet.kind {
            Kind::Disconnect => {
                self.exit(key, "client namespace disconnect");
                self.count_disconnect("client_namespace_disconnect");
            }
            Kind::Event | Kind::BinaryEvent => {
                if let Some(event) = packet.event()
                    && self.may_send(slot, namespace, packet.ack)
                {
                    if self.is_program_s(key, &event.name) {
                        self.program_event(key, &event.name, event.arguments, &decoded.attachments, packet.ack);
                    } else {
                        self.command(slot, namespace, &event.name, event.iter().next(), packet.ack);
                    }
                }
            }
            Kind::Ack | Kind::BinaryAck => self.answered(key, decoded),
            Kind::Connect | Kind::ConnectError => self.close_engine(slot, CloseReason::ParseError, None, ""),
        }
    }

    pub(super) fn serves(&mut self, slot: u32, namespace: NamespaceId) -> bool {
        let endpoint = self.connection(slot).endpoint;
        match &self.outside.gateway.profile.endpoints[endpoint] {
            hub::profile::Endpoint::SocketIo(endpoint) => endpoint.namespaces.contains(&namespace),
            hub::profile::Endpoint::Json(_) => false,
        }
    }

    /// A client's command.
    pub(super) fn command(
        &mut self,
        slot: u32,
        namespace: NamespaceId,
        name: &str,
        data: Option<&str>,
        ack: Option<u64>,
    ) {
        // A plain client whose token is still being looked at is in no namespace yet.
        let Some(key) = self.sockets.find(slot, namespace) else {
            return self.early_command(slot, namespace, name, data);
        };
        if self.outside.gateway.publisher.is_full() {
            // Its fan-out would find no room: say so before anything has happened.
            return self.tell_error(
                slot,
                namespace,
                ack,
                ErrorCode::Busy,
                "the gateway is overloaded; try again",
                None,
            );
        }
        if self.outside.gateway.publisher.is_held() && self.says_something(namespace, name) {
            let message = "the other nodes cannot be reached; try again";
            return self.tell_error(slot, namespace, ack, ErrorCode::TryAgain, message, None);
        }
        if self.is_program_s(key, name) {
            return self.program_event(key, name, data.unwrap_or_default(), &[], ack);
        }
        if name == REFRESH {
            return self.refresh(slot, namespace, data, ack);
        }
        self.with_sockets(|sockets, moment, watch, out| sockets.command(key, name, data, ack, moment, watch, out));
    }

    /// Whether a command of the profile says something to others.
    fn says_something(&self, namespace: NamespaceId, name: &str) -> bool {
        let rules = &self.outside.gateway.profile.rules;
        rules.command(namespace, name).is_some_and(|command| rules.emits(command))
    }

    pub(super) fn send_ack(
        &mut self,
        slot: u32,
        namespace: NamespaceId,
        ack: u64,
        arguments: &[u8],
        attachments: &[bytes::Bytes],
    ) {
        let name = self.namespaces.name(namespace);
        let packet = Outbound::Ack { namespace: name, ack, arguments, attachments: attachments.len() };
        let frame = encode::socket_io(self.slots.encoding(slot), &packet, attachments);
        self.send(slot, frame);
    }

    /// Tells a client what went wrong: in its answer where it asked for one, else as an event.
    pub(super) fn tell_error(
        &mut self,
        slot: u32,
        namespace: NamespaceId,
        ack: Option<u64>,
        code: ErrorCode,
        message: &str,
        message_id: Option<&str>,
    ) {
        self.outside.gateway.metrics.client_errors.inc(code.as_str());
        let now = self.clock.now_ms();
        if code.is_clients_fault() && self.connection(slot).errors.take(ERRORS_PER_MINUTE, now) == Rate::Abuse {
            // It stays through any number of mistakes, but not if it does nothing else.
            return self.doomed.push((self.slots.key(slot), Doom::Close(CloseCode::PolicyViolation)));
        }
        tracing::debug!(code = code.as_str(), message, "told a client");
        match ack {
            Some(ack) => {
                self.send_ack(slot, namespace, ack, encode::ack_error(code, message, message_id).as_bytes(), &[])
            }
            None => self.send_own(slot, namespace, "error", encode::error_event(code, message, message_id)),
        }
    }

    /// Whether the connection may send one more message; tells it if not.
    pub(super) fn may_send(&mut self, slot: u32, namespace: NamespaceId, ack: Option<u64>) -> bool {
        self.outside.gateway.metrics.messages_received.inc();
        let Some(per_minute) = self.outside.gateway.profile.limits.messages_per_minute else { return true };
        let now = self.clock.now_ms();
        match self.connection(slot).bucket.take(per_minute, now) {
            Rate::Within => return true,
            Rate::Over => {
                self.outside.gateway.metrics.rate_limited.inc();
                let message = format!("more than {per_minute} messages a minute");
                self.tell_error(slot, namespace, ack, ErrorCode::RateLimited, &message, None);
            }
            Rate::Abuse => self.close(slot, CloseCode::PolicyViolation, CloseCode::PolicyViolation.reason()),
        }
        false
    }

    /// Carries out what the sockets decided, in order.
    pub(super) fn carry_out(&mut self, outputs: &mut Vec<Output>) {
        let mut later = Vec::new();
        for output in outputs.drain(..) {
            self.output(output, &mut later);
        }
        // What the first of a user's sockets in a room sets off.
        while !later.is_empty() {
            for output in std::mem::take(&mut later) {
                self.output(output, &mut later);
            }
        }
    }

    fn output(&mut self, output: Output, later: &mut Vec<Output>) {
        match output {
            Output::ToSocket { key, event, payload } => {
                let (slot, namespace) = self.place(key);
                let name = self.namespaces.name(namespace);
                let frame = encode::event(self.slots.encoding(slot), name, &event, &payload, None);
                self.send(slot, frame);
            }
            Output::Ack { key, ack, payload } => {
                let (slot, namespace) = self.place(key);
                self.send_ack(slot, namespace, ack, &payload.json, &payload.attachments);
            }
            Output::Failed { key, ack, code, message, message_id } => {
                let (slot, namespace) = self.place(key);
                self.tell_error(slot, namespace, ack, code, &message, message_id.as_deref());
            }
            Output::Emit(emission) => {
                if !self.emit(emission, None) {
                    tracing::warn!("a shard is overloaded: an event of a client was dropped");
                }
            }
            Output::Wait { user, ticket, request } => self.ask_world(user, ticket, request),
            Output::Entered { key, room } => {
                let (_, namespace) = self.place(key);
                let user = self.sockets.get(key).user.clone();
                let Some(id) = &user.id else { return };
                if self.outside.gateway.presence.entered(id.as_str(), namespace, &room)
                    && self.first_entered(&user, namespace, &room, key)
                {
                    self.tell_entered(key, &room, later);
                }
            }
            Output::Latest { key, room } => self.give_latest(key, room),
            Output::LeftOut { key, left_out } => {
                let user = self.sockets.get(key).user.id.as_ref().map(|id| id.as_str());
                let LeftOut { count, first } = left_out;
                tracing::warn!(user, rooms = count, reason = first, "a user was not put into every room of its claims");
            }
            Output::Left { key, room } => {
                let (_, namespace) = self.place(key);
                if let Some(id) = &self.sockets.get(key).user.id {
                    self.outside.gateway.presence.left(id.as_str(), namespace, &room);
                    self.user_moved(id);
                }
            }
        }
    }

    pub(super) fn place(&self, key: SocketKey) -> (u32, NamespaceId) {
        let socket = self.sockets.get(key);
        (socket.slot, socket.namespace)
    }

    /// Asks the world for a command that waits; the answer comes back through the inbox, whatever happens.
    fn ask_world(&mut self, user: Arc<User>, ticket: u32, request: Request) {
        let inbox = self.own.clone();
        let resume = move |reply| inbox.send(Message::Resume { ticket, reply });
        match request {
            Request::Presence { user_ids } => {
                let (gateway, now) = (self.outside.gateway.clone(), self.clock.unix_ms());
                self.outside.backend.spawn(async move {
                    resume(Reply::Json(gateway.presence_of(&user_ids, now).await.to_string().into()));
                });
            }
            Request::Call { callee, message } => {
                let upstreams = self.outside.upstreams.clone();
                self.outside.backend.spawn(async move {
                    let failed = |code, message| Reply::Failed { code, message };
                    resume(match upstreams.call(&callee, &message).await {
                        Ok(reply) => Reply::Json(reply),
                        Err(Failure::NotConfigured) => Reply::NotConfigured,
                        Err(Failure::Refused(message)) => failed(ErrorCode::Refused, message),
                        Err(Failure::Unfit(message)) => failed(ErrorCode::BadField, message),
                        Err(Failure::Unavailable(message)) => failed(ErrorCode::Unavailable, message),
                        Err(Failure::TimedOut(message)) => failed(ErrorCode::TimedOut, message),
                    });
                });
            }
            Request::Ask { url, timeout_ms } => {
                let access = self.outside.access.clone();
                self.outside.backend.spawn(async move {
                    resume(match access.ask(&url, timeout_ms).await {
                        Answer::Allowed => Reply::Allowed,
                        Answer::Refused => {
                            tracing::warn!(
                                user = user.id.as_ref().map(|id| id.as_str()),
                                url,
                                "the access service refused a join"
                            );
                            Reply::Refused
                        }
                        Answer::TryAgain => {
                            Reply::Failed { code: ErrorCode::TryAgain, message: "try again".to_owned() }
                        }
                    });
                });
            }
            Request::Publish { exchange, key, body, message_id } => {
                let publishing = self.outside.publishing.clone();
                self.outside.backend.spawn(async move {
                    resume(match publishing.publish(exchange.as_deref(), &key, body, &message_id).await {
                        Published::Confirmed => Reply::Published,
                        Published::NotConfigured => Reply::NotConfigured,
                        Published::Unavailable => Reply::Failed {
                            code: ErrorCode::TryAgain,
                            message: "the message could not be sent; try again".to_owned(),
                        },
                        Published::Unconfirmed => Reply::Failed {
                            code: ErrorCode::Unknown,
                            message: "the message may have been sent".to_owned(),
                        },
                    });
                });
            }
        }
    }
}
