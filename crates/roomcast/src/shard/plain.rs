//! Plain JSON connections: an envelope a message, a heartbeat, and a close code that a browser can read.

use std::net::IpAddr;

use bytes::Bytes;
use hub::codes::{CloseCode, ErrorCode};
use hub::emission::Payload;
use hub::names::NamespaceId;
use hub::profile::{Endpoint, Heartbeat, JsonEndpoint, SocketIoEndpoint};
use wire::engine::CloseReason;
use wire::json::Envelope;
use wire::ws::{self, Incoming};

use super::connection::{Json, Pending, Protocol, Purpose};
use super::inbox::ConnectionKey;
use super::poll::Handshake;
use super::slots::Encoding;
use super::{Shard, encode};
use crate::embed;

/// What a client said while it was not decided yet whether it gets in: it knows of nothing that it should wait for.
#[derive(Debug, Default)]
pub(super) struct Early {
    /// Commands with their data. Bound: `limits.commands_waiting` of them and `limits.message_bytes` bytes; then `busy`.
    commands: Vec<(Box<str>, Option<Box<str>>)>,
    bytes: usize,
}

fn wire_envelope(envelope: hub::profile::Envelope) -> Envelope {
    match envelope {
        hub::profile::Envelope::Flat => Envelope::Flat,
        hub::profile::Envelope::Data => Envelope::Data,
    }
}

impl Shard {
    /// A plain connection, not started yet; what its slot wants.
    pub(super) fn open_json(
        &mut self,
        key: ConnectionKey,
        handshake: Box<Handshake>,
        address: IpAddr,
        endpoint: usize,
        namespace: NamespaceId,
    ) -> Encoding {
        let now = self.clock.now_ms();
        let envelope = match &self.outside.gateway.profile.endpoints[endpoint] {
            Endpoint::Json(json) => json.envelope,
            Endpoint::SocketIo(_) => unreachable!("the front sends plain connections to plain endpoints"),
        };
        let encoding = match envelope {
            hub::profile::Envelope::Flat => Encoding::Flat,
            hub::profile::Envelope::Data => Encoding::Data,
        };
        let json = Json { envelope, namespace, next_ping_ms: u64::MAX, heard_ms: now };
        self.open(key, self.new_connection(Protocol::Json(json), handshake, address, endpoint));
        let every_ms = self.heartbeat(key.slot).map(|heartbeat| heartbeat.every.as_millis() as u64);
        if let (Protocol::Json(json), Some(every_ms)) = (&mut self.connection(key.slot).protocol, every_ms) {
            json.next_ping_ms = now.saturating_add(every_ms);
        }
        encoding
    }

    /// Lets a plain connection in: its path names the namespace, and its handshake all else.
    pub(super) fn start_json(&mut self, key: ConnectionKey) {
        if let Protocol::Json(Json { namespace, .. }) = self.connection(key.slot).protocol {
            let endpoint = self.connection(key.slot).endpoint;
            if self.outside.program.messages.contains_key(&endpoint) {
                self.open_messages(key);
                return self.arm(key.slot);
            }
            self.authenticate(key.slot, namespace, None, None);
            if self.slots.is_current(key) {
                self.arm(key.slot);
            }
        }
    }

    pub(super) fn incoming_json(&mut self, slot: u32, incoming: Incoming<'_>) {
        let Protocol::Json(json) = &self.connection(slot).protocol else { return };
        let (envelope, namespace) = (json.envelope, json.namespace);
        if self.connection(slot).program.is_some() {
            return match incoming {
                Incoming::Text(text) => self.program_message(slot, embed::Message::Text(text.to_owned())),
                Incoming::Binary(data) => self.program_message(slot, embed::Message::Binary(data.to_vec().into())),
                Incoming::Ping(_) | Incoming::Pong(_) | Incoming::Close { .. } => {}
            };
        }
        let text = match incoming {
            Incoming::Text(text) => text,
            Incoming::Binary(_) => {
                return self.tell_error(
                    slot,
                    namespace,
                    None,
                    ErrorCode::BadMessage,
                    "messages are JSON text, not binary",
                    None,
                );
            }
            Incoming::Ping(_) | Incoming::Pong(_) | Incoming::Close { .. } => return,
        };
        if !self.may_send(slot, namespace, None) {
            return;
        }
        match wire::json::parse(text, wire_envelope(envelope)) {
            Ok(message) => self.command(slot, namespace, &message.event, message.data, None),
            Err(error) => self.tell_error(slot, namespace, None, ErrorCode::BadMessage, &error.to_string(), None),
        }
    }

    /// A command of a client that is in no namespace: it waits where the client may yet be let in.
    pub(super) fn early_command(&mut self, slot: u32, namespace: NamespaceId, name: &str, data: Option<&str>) {
        let decides = |pending: &Pending| {
            pending.namespace == namespace && matches!(pending.purpose, Purpose::Enter | Purpose::Admit(_))
        };
        if !self.connection(slot).pending.iter().any(decides) {
            return self.tell_error(slot, namespace, None, ErrorCode::Unauthenticated, "not connected", None);
        }
        let limits = &self.outside.gateway.profile.limits;
        let (commands_max, bytes_max) = (limits.commands_waiting as usize, limits.message_bytes);
        let early = self.early.entry(self.slots.key(slot)).or_default();
        let bytes = early.bytes + name.len() + data.map_or(0, str::len);
        if early.commands.len() >= commands_max || bytes as u64 > bytes_max {
            return self.tell_error(slot, namespace, None, ErrorCode::Busy, "too many commands wait; try again", None);
        }
        early.bytes = bytes;
        early.commands.push((Box::from(name), data.map(Box::from)));
    }

    /// A client got in: what it has said already is done now.
    pub(super) fn do_early_commands(&mut self, slot: u32, namespace: NamespaceId) {
        let key = self.slots.key(slot);
        let Some(Early { commands, .. }) = self.early.remove(&key) else { return };
        for (name, data) in commands {
            if !self.slots.is_current(key) || self.connection(slot).is_over() {
                return;
            }
            self.command(slot, namespace, &name, data.as_deref(), None);
        }
    }

    fn heartbeat(&self, slot: u32) -> Option<&Heartbeat> {
        let connection = self.connections[slot as usize].as_ref()?;
        match &self.outside.gateway.profile.endpoints[connection.endpoint] {
            Endpoint::Json(json) => Some(&json.heartbeat),
            Endpoint::SocketIo(_) => None,
        }
    }

    /// Pings a plain connection whose time has come, and ends one of which nothing came for too long.
    pub(super) fn beat(&mut self, slot: u32) {
        let now = self.clock.now_ms();
        let Some(heartbeat) = self.heartbeat(slot) else { return };
        let (every_ms, silent) = (heartbeat.every.as_millis() as u64, u64::from(heartbeat.silent));
        let close_code = heartbeat.close_code;
        let Protocol::Json(json) = &mut self.connection(slot).protocol else { return };
        if now < json.next_ping_ms {
            return;
        }
        if now - json.heard_ms >= every_ms.saturating_mul(silent) {
            return self.close_with(slot, CloseReason::ForcedClose, close_code, CloseCode::Silent.reason());
        }
        json.next_ping_ms = now.saturating_add(every_ms);
        let namespace = json.namespace;
        let frame = self.beat_frame(slot, namespace);
        self.send(slot, frame);
    }

    /// Sends the event of the heartbeat to a Socket.IO connection whose time has come, in each namespace that it is in.
    pub(super) fn beat_socket_io(&mut self, slot: u32) {
        let now = self.clock.now_ms();
        let endpoint = self.connection(slot).endpoint;
        let Endpoint::SocketIo(SocketIoEndpoint { heartbeat: Some(beat), .. }) =
            &self.outside.gateway.profile.endpoints[endpoint]
        else {
            return;
        };
        let every_ms = beat.every.as_millis() as u64;
        let is_over = self.connection(slot).is_over();
        let io = self.socket_io(slot);
        if now < io.next_beat_ms {
            return;
        }
        io.next_beat_ms = if is_over { u64::MAX } else { now.saturating_add(every_ms) };
        for key in self.sockets.at(slot).to_vec() {
            let (_, namespace) = self.place(key);
            let frame = self.beat_frame(slot, namespace);
            self.send(slot, frame);
        }
    }

    /// What a connection gets with each beat: the same bytes for all of one endpoint, namespace and encoding.
    fn beat_frame(&mut self, slot: u32, namespace: NamespaceId) -> Bytes {
        let key = (self.connection(slot).endpoint, namespace, self.slots.encoding(slot));
        if let Some((_, frame)) = self.beats.iter().find(|(of, _)| *of == key) {
            return frame.clone();
        }
        let (endpoint, _, encoding) = key;
        let frame = match &self.outside.gateway.profile.endpoints[endpoint] {
            Endpoint::Json(JsonEndpoint { heartbeat, .. }) => {
                let ping = ws::ping_frame(b"");
                match &heartbeat.send {
                    Some(send) => [ws::text_frame(send.as_bytes()), ping].concat().into(),
                    None => ping,
                }
            }
            Endpoint::SocketIo(SocketIoEndpoint { heartbeat: Some(beat), .. }) => {
                let name = self.namespaces.name(namespace);
                encode::event(encoding, name, &beat.event, &Payload::json(""), None)
            }
            Endpoint::SocketIo(_) => Bytes::new(),
        };
        // Namespaces that a program opens have numbers without end; those of the profile are few.
        if self.outside.gateway.profile.rules.governs(namespace) {
            self.beats.push((key, frame.clone()));
        }
        frame
    }

    /// An event of the gateway's own, in the slot's dialect.
    pub(super) fn send_own(&mut self, slot: u32, namespace: NamespaceId, event: &str, json: String) {
        let name = self.namespaces.name(namespace);
        let frame = encode::own_event(self.slots.encoding(slot), name, event, json);
        self.send(slot, frame);
    }
}
