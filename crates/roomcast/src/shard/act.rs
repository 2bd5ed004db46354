//! What sockets do and what is done to them: they enter with a token, send commands, are told things, and go. Between the dialects and the hub.

use std::sync::Arc;

use hub::codes::{CloseCode, ErrorCode};
use hub::names::{NamespaceId, UserId};
use hub::profile::Access;
use hub::rooms::SocketKey;
use hub::rules::{Reply, Request, User};
use hub::sockets::Output;
use serde::Deserialize;
use serde_json::value::RawValue;
use wire::engine::CloseReason;
use wire::socketio::{Decoded, Kind, Outbound};

use super::connection::{Protocol, Purpose, Rate};
use super::inbox::Message;
use super::slots::Encoding;
use super::{Shard, encode, ids};
use crate::access::Answer;
use crate::auth::{Check, Identity, Refusal, Verdict};
use crate::source::Published;

/// The command that renews a token in place, in every profile.
const REFRESH: &str = "refresh_token";

/// What a client sends with its CONNECT packet. Anything else in it is for the application, of which there is none here.
#[derive(Deserialize)]
struct AuthPayload<'a> {
    #[serde(borrow, default)]
    token: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RefreshArguments {
    token: String,
}

impl Shard {
    /// A Socket.IO packet of a client's.
    pub(super) fn packet(&mut self, slot: u32, decoded: &Decoded<'_>) {
        let packet = &decoded.packet;
        let namespace = self.outside.gateway.profile.rules.namespace(&packet.namespace);
        let namespace = namespace.filter(|namespace| self.serves(slot, *namespace));
        if packet.kind == Kind::Connect {
            return self.connect(slot, &packet.namespace, namespace, packet.data.as_deref());
        }
        let key = namespace.and_then(|namespace| self.sockets.find(slot, namespace));
        let (Some(namespace), Some(key)) = (namespace, key) else {
            // As Node: whoever speaks in a namespace that it is not in breaks the protocol.
            return self.close_engine(slot, CloseReason::ParseError, None, "");
        };
        match packet.kind {
            Kind::Disconnect => {
                self.exit(key);
                self.count_disconnect("client_namespace_disconnect");
            }
            Kind::Event | Kind::BinaryEvent => {
                if let Some(event) = packet.event()
                    && self.may_send(slot, namespace, packet.ack)
                {
                    self.command(slot, namespace, &event.name, event.iter().next(), packet.ack);
                }
            }
            // Nothing of ours asks for an answer yet: an answer is to an unknown number, which is ignored.
            Kind::Ack | Kind::BinaryAck => {}
            Kind::Connect | Kind::ConnectError => self.close_engine(slot, CloseReason::ParseError, None, ""),
        }
    }

    fn serves(&mut self, slot: u32, namespace: NamespaceId) -> bool {
        let endpoint = self.connection(slot).endpoint;
        match &self.outside.gateway.profile.endpoints[endpoint] {
            hub::profile::Endpoint::SocketIo(endpoint) => endpoint.namespaces.contains(&namespace),
            hub::profile::Endpoint::Json(_) => false,
        }
    }

    /// A client asks to be let into a namespace.
    fn connect(&mut self, slot: u32, name: &str, namespace: Option<NamespaceId>, auth: Option<&str>) {
        let Some(namespace) = namespace else {
            let packet = Outbound::ConnectError { namespace: name, message: "Invalid namespace", data: None };
            let frame = encode::socket_io(self.slots.encoding(slot), &packet, &[]);
            return self.send(slot, frame);
        };
        let pending = self.connection(slot).authenticating.iter().any(|(of, _)| *of == namespace);
        if pending || self.sockets.find(slot, namespace).is_some() {
            return self.close_engine(slot, CloseReason::ParseError, None, "");
        }
        let token = match auth.map(serde_json::from_str::<AuthPayload<'_>>) {
            None | Some(Ok(AuthPayload { token: None })) => None,
            Some(Ok(AuthPayload { token: Some(token) })) if token.get() == "null" => None,
            // A token that is no text is a bad one: what stands there is no JSON Web Token.
            Some(Ok(AuthPayload { token: Some(token) })) => {
                Some(serde_json::from_str(token.get()).unwrap_or_else(|_| token.get().to_owned()))
            }
            Some(Err(_)) => None,
        };
        self.authenticate(slot, namespace, token);
    }

    /// Looks at the token of a client that wants in: its own, or that of its handshake.
    pub(super) fn authenticate(&mut self, slot: u32, namespace: NamespaceId, token: Option<String>) {
        let token = token
            .filter(|token| !token.is_empty())
            .or_else(|| self.connection(slot).handshake.token.as_deref().map(str::to_owned));
        let access = self.outside.gateway.profile.auth.access;
        self.connection(slot).authenticating.push((namespace, Purpose::Enter));
        match (access, token) {
            (Access::Open, _) | (Access::TokenOrAnonymous, None) => {
                let identity = Identity { user: self.guest(slot), expires_at_unix_secs: None };
                self.authenticated(slot, namespace, Verdict::Accepted(identity));
            }
            (Access::Token | Access::TokenOrAnonymous, token) => self.check_token(slot, namespace, token.as_deref()),
        }
    }

    fn check_token(&mut self, slot: u32, namespace: NamespaceId, token: Option<&str>) {
        match self.outside.auth.check(token, self.clock.unix_ms() / 1000) {
            Check::Now(verdict) => self.authenticated(slot, namespace, verdict),
            Check::Later(verdict) => {
                let (inbox, connection) = (self.own.clone(), self.slots.key(slot));
                self.outside.backend.spawn(async move {
                    let verdict = verdict.await;
                    inbox.send(Message::Authenticated { connection, namespace, verdict });
                });
            }
        }
    }

    /// A client without a token: a guest with an id where the profile gives one, else nobody.
    fn guest(&mut self, slot: u32) -> User {
        let auth = &self.outside.gateway.profile.auth;
        let named =
            self.connections[slot as usize].as_ref().and_then(|connection| connection.handshake.user_id.as_deref());
        let id = named.filter(|_| auth.anonymous_query.is_some()).and_then(|id| UserId::from_text(id).ok());
        let id = id.or_else(|| {
            let prefix = auth.guest_prefix.as_deref()?;
            let random: [u8; 6] = self.clock.random();
            let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
            UserId::from_text(&format!("{prefix}{digits}")).ok()
        });
        match id {
            Some(id) => User {
                claims: Arc::from(format!(r#"{{"id":{},"email":null,"role":null}}"#, id.to_json())),
                id: Some(id),
            },
            None => User::anonymous(),
        }
    }

    /// The verdict on a token is there.
    pub(super) fn authenticated(&mut self, slot: u32, namespace: NamespaceId, verdict: Verdict) {
        let authenticating = &mut self.connection(slot).authenticating;
        let Some(index) = authenticating.iter().position(|(of, _)| *of == namespace) else { return };
        let (_, purpose) = authenticating.swap_remove(index);
        match (purpose, verdict) {
            (Purpose::Enter, Verdict::Accepted(identity)) => self.enter(slot, namespace, identity),
            (Purpose::Enter, Verdict::Refused(refusal)) => self.refuse(slot, namespace, refusal),
            (Purpose::Enter, Verdict::Unavailable) => {
                // A passing fault of ours: the client is to come back, so the transport ends and no final no is said.
                tracing::warn!("a client could not be let in: no key to judge its token by");
                self.close(slot, CloseCode::TryAgainLater, CloseCode::TryAgainLater.reason());
            }
            (Purpose::Refresh(ack), Verdict::Accepted(identity)) => self.refreshed(slot, namespace, ack, identity),
            (Purpose::Refresh(ack), Verdict::Refused(refusal)) => {
                self.tell_error(slot, namespace, ack, ErrorCode::BadToken, refusal.message(), None);
            }
            (Purpose::Refresh(ack), Verdict::Unavailable) => {
                self.tell_error(
                    slot,
                    namespace,
                    ack,
                    ErrorCode::TryAgain,
                    "the token cannot be checked at the moment; try again",
                    None,
                );
            }
        }
    }

    fn refuse(&mut self, slot: u32, namespace: NamespaceId, refusal: Refusal) {
        // A bad token was counted where it was judged.
        if refusal == Refusal::NoToken {
            self.outside.gateway.metrics.refused.inc(refusal.reason());
        }
        tracing::info!(reason = refusal.reason(), address = %self.connection(slot).address, "a client was refused");
        let code = match refusal {
            Refusal::NoToken => ErrorCode::Unauthenticated,
            Refusal::BadToken(_) => ErrorCode::BadToken,
        };
        match self.connection(slot).protocol {
            Protocol::SocketIo(_) => {
                let name = self.outside.gateway.profile.rules.namespace_name(namespace);
                let packet = Outbound::ConnectError { namespace: name, message: refusal.message(), data: None };
                let frame = encode::socket_io(self.slots.encoding(slot), &packet, &[]);
                self.send(slot, frame);
            }
            Protocol::Json(_) => {
                self.tell_error(slot, namespace, None, code, refusal.message(), None);
                self.close(slot, CloseCode::Unauthorized, CloseCode::Unauthorized.reason());
            }
            Protocol::Probe(_) => {}
        }
    }

    /// Lets a client in: it learns its id, then its rooms and events begin.
    fn enter(&mut self, slot: u32, namespace: NamespaceId, identity: Identity) {
        let Identity { user, expires_at_unix_secs } = identity;
        let id = ids::socket_id(self.index, slot, self.clock.random());
        let user = Arc::new(user);
        let key = self.sockets.enter(slot, namespace, id, user.clone(), expires_at_unix_secs);
        self.outside.gateway.metrics.sockets.inc();
        if let Protocol::SocketIo(io) = &mut self.connection(slot).protocol {
            io.enter_until_ms = None;
            let name = self.outside.gateway.profile.rules.namespace_name(namespace);
            let packet = Outbound::Connect { namespace: name, sid: id.as_str(), pid: None };
            let frame = encode::socket_io(self.slots.encoding(slot), &packet, &[]);
            self.send(slot, frame);
        }
        tracing::info!(socket = %id, user = user.id.as_ref().map(|id| id.as_str()), address = %self.connection(slot).address, "connected");
        if let Some(id) = &user.id
            && self.outside.gateway.presence.connected(id.as_str())
        {
            self.user_online(id);
        }
        self.with_sockets(|sockets, moment, watch, out| sockets.welcome(key, moment, watch, out));
        self.arm(slot);
    }

    fn user_online(&mut self, id: &UserId) {
        let now = self.clock.unix_ms();
        let presence = hub::rules::Presence { id, rooms: &[], last_seen_unix_ms: now, now_unix_ms: now };
        let emissions = self.outside.gateway.profile.rules.on_user_online(&presence);
        for emission in emissions {
            self.emit(emission);
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
            return self.tell_error(
                slot,
                namespace,
                ack,
                ErrorCode::Unauthenticated,
                "not connected yet: wait for the first message",
                None,
            );
        };
        if self.outside.gateway.publisher.inboxes().iter().any(|inbox| inbox.is_full()) {
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
        if name == REFRESH {
            return self.refresh(slot, namespace, data, ack);
        }
        self.with_sockets(|sockets, moment, watch, out| sockets.command(key, name, data, ack, moment, watch, out));
    }

    fn refresh(&mut self, slot: u32, namespace: NamespaceId, data: Option<&str>, ack: Option<u64>) {
        let Ok(RefreshArguments { token }) = serde_json::from_str(data.unwrap_or("null")) else {
            return self.tell_error(slot, namespace, ack, ErrorCode::BadField, "field \"token\" must be a text", None);
        };
        if self.connection(slot).authenticating.iter().any(|(of, _)| *of == namespace) {
            return self.tell_error(slot, namespace, ack, ErrorCode::Busy, "a token is being checked already", None);
        }
        self.connection(slot).authenticating.push((namespace, Purpose::Refresh(ack)));
        self.check_token(slot, namespace, Some(&token));
    }

    fn refreshed(&mut self, slot: u32, namespace: NamespaceId, ack: Option<u64>, identity: Identity) {
        let Some(key) = self.sockets.find(slot, namespace) else { return };
        if self.sockets.get(key).user.id != identity.user.id {
            return self.tell_error(slot, namespace, ack, ErrorCode::Forbidden, "the token is another user's", None);
        }
        let Identity { user, expires_at_unix_secs } = identity;
        self.with_sockets(|sockets, moment, watch, out| {
            sockets.refresh(key, Arc::new(user), expires_at_unix_secs, moment, watch, out)
        });
        let left = expires_at_unix_secs.map(|at| at.saturating_sub(self.clock.unix_ms() / 1000));
        let expires_in = left.map_or("null".to_owned(), |left| left.to_string());
        match ack {
            Some(ack) => self.send_ack(
                slot,
                namespace,
                ack,
                format!(r#"{{"success":true,"expiresIn":{expires_in}}}"#).into_bytes(),
                &[],
            ),
            None => self.send_own(slot, namespace, "token_refreshed", format!(r#"{{"expiresIn":{expires_in}}}"#)),
        }
        self.arm(slot);
    }

    fn send_ack(
        &mut self,
        slot: u32,
        namespace: NamespaceId,
        ack: u64,
        arguments: Vec<u8>,
        attachments: &[bytes::Bytes],
    ) {
        let name = self.outside.gateway.profile.rules.namespace_name(namespace);
        let packet = Outbound::Ack { namespace: name, ack, arguments: &arguments, attachments: attachments.len() };
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
        tracing::debug!(code = code.as_str(), message, "told a client");
        match ack {
            Some(ack) => {
                self.send_ack(slot, namespace, ack, encode::ack_error(code, message, message_id).into_bytes(), &[])
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
                let name = self.outside.gateway.profile.rules.namespace_name(namespace);
                let frame = encode::event(self.slots.encoding(slot), name, &event, &payload);
                self.send(slot, frame);
            }
            Output::Ack { key, ack, payload } => {
                let (slot, namespace) = self.place(key);
                self.send_ack(slot, namespace, ack, payload.json.to_vec(), &payload.attachments);
            }
            Output::Failed { key, ack, code, message, message_id } => {
                let (slot, namespace) = self.place(key);
                self.tell_error(slot, namespace, ack, code, &message, message_id.as_deref());
            }
            Output::Emit(emission) => {
                if !self.emit(emission) {
                    tracing::warn!("a shard is overloaded: an event of a client was dropped");
                }
            }
            Output::Wait { key, ticket, request } => self.ask_world(key, ticket, request),
            Output::Entered { key, room } => {
                let (_, namespace) = self.place(key);
                let user = self.sockets.get(key).user.clone();
                let Some(id) = &user.id else { return };
                if self.outside.gateway.presence.entered(id.as_str(), namespace, &room) {
                    let new_id = || self.clock.new_id();
                    let moment = hub::sockets::Moment { now_unix_ms: self.clock.unix_ms(), new_id: &new_id };
                    self.sockets.user_entered(key, &room, &moment, later);
                }
            }
            Output::Left { key, room } => {
                let (_, namespace) = self.place(key);
                if let Some(id) = &self.sockets.get(key).user.id {
                    self.outside.gateway.presence.left(id.as_str(), namespace, &room);
                }
            }
        }
    }

    fn place(&self, key: SocketKey) -> (u32, NamespaceId) {
        let socket = self.sockets.get(key);
        (socket.slot, socket.namespace)
    }

    /// Asks the world for a command that waits; the answer comes back through the inbox, whatever happens.
    fn ask_world(&mut self, key: SocketKey, ticket: u32, request: Request) {
        let (slot, namespace) = self.place(key);
        let (inbox, connection) = (self.own.clone(), self.slots.key(slot));
        let resume = move |reply| inbox.send(Message::Resume { connection, namespace, ticket, reply });
        match request {
            Request::Presence { user_ids } => resume(Reply::Json(self.presence_of(&user_ids).into())),
            Request::Ask { url, timeout_ms } => {
                let access = self.outside.access.clone();
                let user = self.sockets.get(key).user.id.clone();
                self.outside.backend.spawn(async move {
                    resume(match access.ask(&url, timeout_ms).await {
                        Answer::Allowed => Reply::Allowed,
                        Answer::Refused => {
                            tracing::warn!(
                                user = user.as_ref().map(|id| id.as_str()),
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

    /// `{id: {online, lastSeen}}`, each user once.
    fn presence_of(&self, user_ids: &[String]) -> String {
        let now = self.clock.unix_ms();
        let mut object = serde_json::Map::new();
        for id in user_ids {
            let seen = self.outside.gateway.presence.seen(id);
            let last_seen = if seen.online { Some(now) } else { seen.last_seen_unix_ms };
            let mut user = serde_json::Map::new();
            user.insert("online".to_owned(), seen.online.into());
            user.insert("lastSeen".to_owned(), last_seen.map(hub::rules::iso_8601).into());
            object.insert(id.clone(), user.into());
        }
        serde_json::Value::Object(object).to_string()
    }

    /// The socket leaves its rooms and namespace, and others are told.
    pub(super) fn exit(&mut self, key: SocketKey) {
        let departed = self.with_sockets(|sockets, moment, watch, out| sockets.exit(key, moment, watch, out));
        self.outside.gateway.metrics.sockets.dec();
        if let Some(id) = &departed.user.id {
            let now = self.clock.unix_ms();
            if self.outside.gateway.presence.disconnected(&departed.user, id.as_str(), &departed.followed_rooms, now) {
                self.outside.gateway.left.notify_one();
            }
        }
    }

    /// All sockets of a connection go.
    pub(super) fn leave_all(&mut self, slot: u32) {
        for key in self.sockets.at(slot).to_vec() {
            self.exit(key);
        }
    }

    pub(super) fn count_disconnect(&self, reason: &str) {
        self.outside.gateway.metrics.disconnects.inc(reason);
    }

    /// A Socket.IO session carries no more messages.
    pub(super) fn count_end(&self, reason: &str) {
        self.count_disconnect(&reason.replace(' ', "_"));
    }

    /// Disconnects for good, as the server API asks: stock clients do not come back after it.
    pub(super) fn disconnect(&mut self, slot: u32) {
        if let Protocol::SocketIo(_) = self.connection(slot).protocol {
            for key in self.sockets.at(slot).to_vec() {
                self.send_disconnect(key);
            }
        }
        self.leave_all(slot);
        self.close(slot, CloseCode::Normal, CloseCode::Normal.reason());
    }

    fn send_disconnect(&mut self, key: SocketKey) {
        let (slot, namespace) = self.place(key);
        if matches!(self.slots.encoding(slot), Encoding::SocketIo | Encoding::Polling) {
            let name = self.outside.gateway.profile.rules.namespace_name(namespace);
            let frame = encode::socket_io(self.slots.encoding(slot), &Outbound::Disconnect { namespace: name }, &[]);
            self.send(slot, frame);
        }
    }

    /// Frees a connection and everything of it, at once.
    pub(super) fn end(&mut self, slot: u32, reason: &str) {
        self.leave_all(slot);
        let Some(connection) = self.connections[slot as usize].take() else { return };
        self.queued_bytes -= connection.outbox.as_ref().map_or(0, |outbox| outbox.bytes());
        self.slots.close(slot);
        match connection.protocol {
            Protocol::SocketIo(io) => {
                if let Some(sid) = &io.sid {
                    self.sessions.remove(sid);
                }
                if let Some(probe) = io.probe {
                    self.doomed.push((probe, super::Doom::Broken));
                }
            }
            Protocol::Json(_) => {}
            Protocol::Probe(main) => return self.probe_ended(main),
        }
        self.open -= 1;
        self.outside.gateway.metrics.connections.dec();
        self.outside.gateway.metrics.connections_closed.inc();
        tracing::debug!(reason, address = %connection.address, "a connection ended");
    }

    /// The WebSocket that was to take a session over is gone; the session goes on over polling.
    fn probe_ended(&mut self, main: super::ConnectionKey) {
        if self.slots.is_current(main) && self.migrated.is_none() {
            let io = self.socket_io(main.slot);
            if io.probe.take().is_some() {
                self.session(main.slot, |session, context| {
                    session.websocket_closed(CloseReason::TransportClose, context)
                });
            }
        }
    }

    /// When the connection must be looked at next.
    pub(super) fn deadline(&mut self, slot: u32) -> Option<u64> {
        let (now, unix_ms) = (self.clock.now_ms(), self.clock.unix_ms());
        let warn_ms = self.outside.gateway.profile.auth.warn_before.as_millis() as u64;
        let connection = self.connections[slot as usize].as_ref()?;
        let of_protocol = match &connection.protocol {
            Protocol::SocketIo(io) => [io.session.next_deadline(), io.enter_until_ms].into_iter().flatten().min(),
            Protocol::Json(json) => Some(json.next_ping_ms),
            Protocol::Probe(_) => None,
        };
        let of_tokens = self.sockets.at(slot).iter().filter_map(|key| {
            let socket = self.sockets.get(*key);
            let expiry_ms = socket.expires_at_unix_secs?.saturating_mul(1000);
            let at = if socket.warned { expiry_ms } else { expiry_ms.saturating_sub(warn_ms) };
            Some(now.saturating_add(at.saturating_sub(unix_ms)))
        });
        of_tokens.chain(of_protocol).chain(connection.closing_until_ms).min()
    }

    /// A deadline of the connection may be reached: does what is due.
    pub(super) fn deadline_reached(&mut self, slot: u32) {
        let now = self.clock.now_ms();
        let connection = self.connection(slot);
        if connection.closing_until_ms.is_some_and(|until| until <= now) {
            return self.end(slot, "closed");
        }
        let key = self.slots.key(slot);
        match &mut self.connection(slot).protocol {
            Protocol::SocketIo(io) => {
                if io.enter_until_ms.is_some_and(|until| until <= now) {
                    io.enter_until_ms = None;
                    return self.close_engine(slot, CloseReason::ForcedClose, None, "");
                }
                self.session(slot, |session, context| session.on_timeout(context));
                self.settle();
            }
            Protocol::Json(_) => self.beat(slot),
            Protocol::Probe(_) => {}
        }
        if self.slots.is_current(key) {
            self.check_expiry(slot);
        }
    }

    /// Warns sockets whose token ends soon, and ends those whose token is over.
    fn check_expiry(&mut self, slot: u32) {
        let unix_ms = self.clock.unix_ms();
        let warn_ms = self.outside.gateway.profile.auth.warn_before.as_millis() as u64;
        for key in self.sockets.at(slot).to_vec() {
            let socket = self.sockets.get_mut(key);
            let Some(expiry_ms) = socket.expires_at_unix_secs.map(|at| at.saturating_mul(1000)) else { continue };
            let namespace = socket.namespace;
            if !socket.warned && expiry_ms.saturating_sub(warn_ms) <= unix_ms {
                socket.warned = true;
                let left_secs = expiry_ms.saturating_sub(unix_ms).div_ceil(1000);
                self.send_own(slot, namespace, "token_expiring_soon", format!(r#"{{"expiresIn":{left_secs}}}"#));
            }
            if expiry_ms <= unix_ms {
                self.expired(slot, key, namespace);
            }
        }
    }

    fn expired(&mut self, slot: u32, key: SocketKey, namespace: NamespaceId) {
        let code = ErrorCode::BadToken.as_str();
        self.send_own(slot, namespace, "token_expired", format!(r#"{{"message":"Token expired","code":"{code}"}}"#));
        tracing::info!(socket = %self.sockets.get(key).id, "a token ended");
        self.send_disconnect(key);
        self.exit(key);
        self.count_disconnect("token_expired");
        if self.sockets.at(slot).is_empty() {
            match self.connection(slot).protocol {
                Protocol::SocketIo(_) => self.close_engine(slot, CloseReason::ForcedClose, None, ""),
                Protocol::Json(_) => self.close(slot, CloseCode::Unauthorized, "token expired"),
                Protocol::Probe(_) => {}
            }
        }
    }
}
