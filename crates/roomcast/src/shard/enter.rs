//! How a client comes in and stays in: its token, the verdict on it, its renewal and its end. Knows no key: `auth` judges.

use std::sync::Arc;

use hub::codes::{CloseCode, ErrorCode};
use hub::names::{NamespaceId, SocketId, UserId, check_name};
use hub::profile::Access;
use hub::rooms::SocketKey;
use hub::rules::User;
use serde::Deserialize;
use serde_json::value::RawValue;
use wire::engine::{CloseReason, Query, Revision};
use wire::socketio::{Address, Outbound};

use super::connection::{Pending, Protocol, Purpose};
use super::inbox::Message;
use super::{Shard, encode, ids};
use crate::auth::{Check, Identity, Refusal, Verdict};
use crate::embed::Handshake;
use crate::namespaces::Namespace;

/// Namespaces of the program's that one connection may be in; any other is an invalid one to it.
const NAMESPACES_MAX: usize = 1_000;

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
    /// A client asks to be let into a namespace.
    pub(super) fn connect(&mut self, slot: u32, address: &Address<'_>, auth: Option<&str>) {
        let name = address.namespace;
        let of_profile = self.outside.gateway.profile.rules.namespace(name);
        let of_profile = of_profile.filter(|namespace| self.serves(slot, *namespace));
        let opened = match of_profile {
            Some(_) => None,
            None => self.open_for_program(slot, name),
        };
        let Some(namespace) = of_profile.or(opened.as_ref().map(|opened| opened.id)) else {
            let packet = Outbound::ConnectError { namespace: name, message: "Invalid namespace", data: None };
            let frame = encode::socket_io(self.slots.encoding(slot), &packet, &[]);
            return self.send(slot, frame);
        };
        let is_pending = self.connection(slot).pending.iter().any(|pending| pending.namespace == namespace);
        if is_pending || self.sockets.find(slot, namespace).is_some() {
            return self.close_engine(slot, CloseReason::ParseError, None, "");
        }
        if let Some(opened) = opened {
            self.namespaces.hold(opened);
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
        // What clients of Socket.IO 4 say of themselves stands in the namespace's query.
        let query = address.query.map(Query::parse);
        let token = token.or_else(|| query.as_ref()?.value("token").map(str::to_owned));
        let auth = auth.map(Box::from).or_else(|| Some(query?.to_json().into_boxed_str()));
        let kept = self.outside.program.namespace(name).and(auth);
        self.authenticate(slot, namespace, token, kept);
    }

    /// The namespace of this name, where the program has handlers for it.
    fn open_for_program(&mut self, slot: u32, name: &str) -> Option<Arc<Namespace>> {
        let wanted = self.sockets.at(slot).len() + self.connection(slot).pending.len();
        if check_name(name).is_err() || wanted >= NAMESPACES_MAX {
            return None;
        }
        self.outside.program.namespace(name)?;
        self.outside.gateway.namespaces.open(name)
    }

    /// Looks at the token of a client that wants in: its own, or that of its handshake.
    /// `auth` is all that it sent, where the program will look at it.
    pub(super) fn authenticate(
        &mut self,
        slot: u32,
        namespace: NamespaceId,
        token: Option<String>,
        auth: Option<Box<str>>,
    ) {
        let token = token
            .filter(|token| !token.is_empty())
            .or_else(|| self.connection(slot).handshake.token.as_deref().map(str::to_owned));
        let access = self.outside.gateway.profile.auth.access;
        self.connection(slot).pending.push(Pending { namespace, purpose: Purpose::Enter, auth });
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
        let pending = &mut self.connection(slot).pending;
        let waits = |pending: &Pending| {
            pending.namespace == namespace && matches!(pending.purpose, Purpose::Enter | Purpose::Refresh(_))
        };
        let Some(index) = pending.iter().position(waits) else { return };
        let Pending { purpose, auth, .. } = pending.swap_remove(index);
        if self.connection(slot).is_over() {
            return match purpose {
                Purpose::Enter | Purpose::Admit(_) => self.namespaces.release(namespace),
                Purpose::Refresh(_) => {}
            };
        }
        match (purpose, verdict) {
            (Purpose::Admit(_), _) => {}
            (Purpose::Enter, Verdict::Accepted(identity)) => self.admit(slot, namespace, identity, auth.as_deref()),
            (Purpose::Enter, Verdict::Refused(refusal)) => self.refuse_token(slot, namespace, refusal),
            (Purpose::Enter, Verdict::Unavailable) => {
                self.namespaces.release(namespace);
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

    fn refuse_token(&mut self, slot: u32, namespace: NamespaceId, refusal: Refusal) {
        // A bad token was counted where it was judged.
        if refusal == Refusal::NoToken {
            self.outside.gateway.metrics.refused.inc(refusal.reason());
        }
        tracing::info!(reason = refusal.reason(), address = %self.connection(slot).address, "a client was refused");
        let code = match refusal {
            Refusal::NoToken => ErrorCode::Unauthenticated,
            Refusal::BadToken(_) => ErrorCode::BadToken,
        };
        self.refuse(slot, namespace, code, refusal.message(), None);
    }

    /// Tells a client that it is not let in; `data` is the JSON of what else the program has to say about it.
    pub(super) fn refuse(
        &mut self,
        slot: u32,
        namespace: NamespaceId,
        code: ErrorCode,
        message: &str,
        data: Option<&str>,
    ) {
        match self.connection(slot).protocol {
            Protocol::SocketIo(_) => {
                let revision = self.socket_io(slot).session.known().revision;
                let (name, data) = (self.namespaces.name(namespace), data.map(str::as_bytes));
                let packet = match revision {
                    Revision::Four => Outbound::ConnectError { namespace: name, message, data },
                    Revision::Three => Outbound::Error4 { namespace: name, message, data },
                };
                let frame = encode::socket_io(self.slots.encoding(slot), &packet, &[]);
                self.send(slot, frame);
            }
            Protocol::Json(_) => {
                self.tell_error(slot, namespace, None, code, message, None);
                self.close(slot, CloseCode::Unauthorized, CloseCode::Unauthorized.reason());
            }
            Protocol::Probe(_) | Protocol::Greeting { .. } => {}
        }
        self.namespaces.release(namespace);
    }

    /// Lets a client in: it learns its id, then its rooms and events begin.
    /// `handshake` is there where the program has a say in the namespace.
    pub(super) fn enter(
        &mut self,
        slot: u32,
        namespace: NamespaceId,
        identity: Identity,
        handshake: Option<Arc<Handshake>>,
    ) {
        let Identity { user, expires_at_unix_secs } = identity;
        // A token that got in by the leeway alone has that long to be refreshed.
        let leeway_secs = self.outside.gateway.profile.auth.leeway.as_secs();
        let now_unix_secs = self.clock.unix_ms() / 1000;
        let expires_at_unix_secs =
            expires_at_unix_secs.map(|at| if at <= now_unix_secs { at.saturating_add(leeway_secs) } else { at });
        let id = self.socket_id(slot);
        let user = Arc::new(user);
        let key = self.sockets.enter(slot, namespace, id, user.clone(), expires_at_unix_secs);
        self.outside.gateway.metrics.sockets.inc();
        if let Protocol::SocketIo(io) = &mut self.connection(slot).protocol {
            io.enter_until_ms = None;
            let revision = io.session.known().revision;
            let name = self.namespaces.name(namespace);
            let packet = match revision {
                Revision::Four => Outbound::Connect { namespace: name, sid: id.as_str(), pid: None },
                Revision::Three => Outbound::Connect4 { namespace: name },
            };
            let frame = encode::socket_io(self.slots.encoding(slot), &packet, &[]);
            self.send(slot, frame);
        }
        tracing::info!(socket = %id, user = user.id.as_ref().map(|id| id.as_str()), address = %self.connection(slot).address, "connected");
        if let Some(id) = &user.id {
            if self.outside.gateway.presence.connected(id.as_str()) {
                self.user_came(&user, id);
            }
            self.claim_place(slot, id);
        }
        self.with_sockets(|sockets, moment, watch, out| sockets.welcome(key, moment, watch, out));
        self.arm(slot);
        self.take_up(key, handshake);
        self.do_early_commands(slot, namespace);
    }

    /// A public id. The clients of Engine.IO 3 know theirs without being told: their session's, behind the namespace's name where that is
    /// not `/`.
    fn socket_id(&mut self, slot: u32) -> SocketId {
        match &self.connection(slot).protocol {
            Protocol::SocketIo(io) if io.session.known().revision == Revision::Three => io.sid.to_socket_id(),
            Protocol::SocketIo(_) | Protocol::Json(_) | Protocol::Probe(_) | Protocol::Greeting { .. } => {
                ids::socket_id(self.index, slot, self.clock.random())
            }
        }
    }

    pub(super) fn refresh(&mut self, slot: u32, namespace: NamespaceId, data: Option<&str>, ack: Option<u64>) {
        let Ok(RefreshArguments { token }) = serde_json::from_str(data.unwrap_or("null")) else {
            return self.tell_error(slot, namespace, ack, ErrorCode::BadField, "field \"token\" must be a text", None);
        };
        if self.connection(slot).pending.iter().any(|pending| pending.namespace == namespace) {
            return self.tell_error(slot, namespace, ack, ErrorCode::Busy, "a token is being checked already", None);
        }
        self.connection(slot).pending.push(Pending { namespace, purpose: Purpose::Refresh(ack), auth: None });
        self.check_token(slot, namespace, Some(&token));
    }

    fn refreshed(&mut self, slot: u32, namespace: NamespaceId, ack: Option<u64>, identity: Identity) {
        let Some(key) = self.sockets.find(slot, namespace) else { return };
        // One issuer's integer may be another's text: it is the same user, in the same room.
        let own = self.sockets.get(key).user.id.as_ref();
        if own.map(UserId::as_str) != identity.user.id.as_ref().map(UserId::as_str) {
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
                format!(r#"{{"success":true,"expiresIn":{expires_in}}}"#).as_bytes(),
                &[],
            ),
            None => self.send_own(slot, namespace, "token_refreshed", format!(r#"{{"expiresIn":{expires_in}}}"#)),
        }
        self.arm(slot);
    }

    /// Warns sockets whose token ends soon, and ends those whose token is over.
    pub(super) fn check_expiry(&mut self, slot: u32) {
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
        self.exit(key, "server namespace disconnect");
        self.count_disconnect("token_expired");
        if self.sockets.at(slot).is_empty() {
            match self.connection(slot).protocol {
                Protocol::SocketIo(_) => self.close_engine(slot, CloseReason::ForcedClose, None, ""),
                Protocol::Json(_) => self.close(slot, CloseCode::Unauthorized, "token expired"),
                Protocol::Probe(_) | Protocol::Greeting { .. } => {}
            }
        }
    }
}
