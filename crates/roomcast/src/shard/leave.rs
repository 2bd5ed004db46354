//! How sockets and connections go, and when a connection must be looked at: the one place that frees a slot.

use hub::codes::CloseCode;
use hub::profile::Surplus;
use hub::rooms::SocketKey;
use wire::engine::{CloseReason, Phase};
use wire::socketio::Outbound;

use super::connection::{Pending, Protocol, Purpose};
use super::inbox::ConnectionKey;
use super::slots::Way;
use super::{Doom, Shard, encode};

impl Shard {
    /// The socket leaves its rooms and namespace, and others are told.
    pub(super) fn exit(&mut self, key: SocketKey, reason: &'static str) {
        let (slot, namespace) = self.place(key);
        let place = (self.index, self.slots.key(slot));
        let id = self.sockets.get(key).id;
        let departed = self.with_sockets(|sockets, moment, watch, out| sockets.exit(key, moment, watch, out));
        if departed.dropped_commands > 0 {
            self.outside.gateway.metrics.commands_dropped.inc_by(departed.dropped_commands as u64);
            tracing::warn!(
                commands = departed.dropped_commands,
                "commands of a client that is gone were dropped: too many wait"
            );
        }
        if let Some(user_id) = &departed.user.id {
            let now = self.clock.unix_ms();
            if self.outside.gateway.presence.disconnected(
                &departed.user,
                user_id.as_str(),
                place,
                &departed.followed_rooms,
                now,
            ) {
                self.outside.gateway.left.notify_one();
            }
        }
        self.outside.gateway.metrics.sockets.dec();
        self.socket_went(id, &departed.user, slot);
        self.let_go(key, slot, namespace, reason);
    }

    /// All sockets of a connection go, and what the program has of it below them.
    pub(super) fn leave_all(&mut self, slot: u32, reason: &'static str) {
        for key in self.sockets.at(slot).to_vec() {
            self.exit(key, reason);
        }
        if self.connections[slot as usize].is_some() {
            self.close_messages(slot, reason);
        }
    }

    /// Counts the end of a connection or of a socket, by reason.
    pub(super) fn count_disconnect(&self, reason: &str) {
        let reason = if reason.is_empty() { "closed".to_owned() } else { reason.replace(' ', "_") };
        self.outside.gateway.metrics.disconnects.inc(&reason);
    }

    /// Disconnects for good, as the server API or a program asks: stock clients do not come back after it.
    pub(super) fn disconnect(&mut self, slot: u32) {
        match self.connection(slot).protocol {
            Protocol::SocketIo(_) => {
                for key in self.sockets.at(slot).to_vec() {
                    self.send_disconnect(key);
                }
                self.leave_all(slot, "server namespace disconnect");
                // The packets have said it; the close frame is without a code, as in Node.
                self.close_engine(slot, CloseReason::ForcedClose, None, "");
            }
            Protocol::Json(_) | Protocol::Probe(_) | Protocol::Greeting { .. } => {
                self.leave_all(slot, "server namespace disconnect");
                self.close(slot, CloseCode::Normal, CloseCode::Normal.reason());
            }
        }
    }

    /// A newer connection of the same user took the place of this one, which is told so and ended for good.
    pub(super) fn replaced(&mut self, slot: u32) {
        let Surplus { close_code, error } = self.outside.gateway.profile.user.surplus;
        for key in self.sockets.at(slot).to_vec() {
            let namespace = self.sockets.get(key).namespace;
            let message = "a newer connection of the same user took the place of this one";
            self.tell_error(slot, namespace, None, error, message, None);
            self.send_disconnect(key);
        }
        self.leave_all(slot, "server namespace disconnect");
        self.close_with(slot, CloseReason::ForcedClose, close_code, error.as_str());
    }

    pub(super) fn send_disconnect(&mut self, key: SocketKey) {
        let (slot, namespace) = self.place(key);
        if matches!(self.connection(slot).protocol, Protocol::SocketIo(_)) {
            let name = self.namespaces.name(namespace);
            let frame = encode::socket_io(self.slots.encoding(slot), &Outbound::Disconnect { namespace: name }, &[]);
            self.send(slot, frame);
        }
    }

    /// Frees a connection and everything of it, at once.
    pub(super) fn end(&mut self, slot: u32, reason: &'static str) {
        self.leave_all(slot, reason);
        let Some(mut connection) = self.connections[slot as usize].take() else { return };
        if let Some(tls) = &mut connection.tls {
            tls.end(|parts| self.slots.write(slot, parts));
        }
        for Pending { namespace, purpose, .. } in &connection.pending {
            match purpose {
                Purpose::Enter | Purpose::Admit(_) => self.namespaces.release(*namespace),
                Purpose::Refresh(_) => {}
            }
        }
        connection.seat = None;
        self.queued_bytes -= connection.outbox.as_ref().map_or(0, |outbox| outbox.bytes());
        let key = self.slots.key(slot);
        self.early.remove(&key);
        self.slots.close(slot);
        crate::memory::connection_ended();
        let mut is_counted = connection.closing_until_ms.is_some();
        match connection.protocol {
            Protocol::SocketIo(io) => {
                is_counted |= matches!(io.session.phase(), Phase::Closing | Phase::Closed);
                self.sessions.remove(&io.sid);
                if let Some(probe) = io.probe {
                    self.doomed.push((probe, Doom::Broken));
                }
            }
            Protocol::Json(_) => {}
            Protocol::Probe(main) => return self.probe_ended(key, main),
            Protocol::Greeting { .. } => return,
        }
        if !is_counted {
            self.count_disconnect(reason);
        }
        self.open -= 1;
        self.outside.gateway.metrics.connections.dec();
        self.outside.gateway.metrics.connections_closed.inc();
        tracing::debug!(reason, address = %connection.address, "a connection ended");
    }

    /// The WebSocket that was to take a session over is gone; the session goes on over polling.
    fn probe_ended(&mut self, probe: ConnectionKey, main: ConnectionKey) {
        if self.slots.is_current(main) && self.migrated.is_none() {
            let io = self.socket_io(main.slot);
            if io.probe.take_if(|current| *current == probe).is_some() {
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
            Protocol::SocketIo(io) => {
                let session = [io.session.next_deadline(), io.enter_until_ms, io.opens_at_ms];
                session.into_iter().flatten().chain([io.next_beat_ms]).min()
            }
            Protocol::Json(json) => Some(json.next_ping_ms),
            Protocol::Probe(_) => None,
            Protocol::Greeting { until_ms, .. } => Some(*until_ms),
        };
        let of_tokens = self.sockets.at(slot).iter().filter_map(|key| {
            let socket = self.sockets.get(*key);
            let expiry_ms = socket.expires_at_unix_secs?.saturating_mul(1000);
            let at = if socket.warned { expiry_ms } else { expiry_ms.saturating_sub(warn_ms) };
            Some(now.saturating_add(at.saturating_sub(unix_ms)))
        });
        // One that is closing already has the time for that alone.
        let of_writing = connection.outbox.as_ref().and_then(|outbox| outbox.until_ms);
        let of_transport =
            connection.closing_until_ms.or([of_writing, connection.message_until_ms].into_iter().flatten().min());
        of_tokens.chain(of_protocol).chain(of_transport).min()
    }

    /// A deadline of the connection may be reached: does what is due.
    pub(super) fn deadline_reached(&mut self, slot: u32) {
        let now = self.clock.now_ms();
        let key = self.slots.key(slot);
        let connection = self.connection(slot);
        if connection.closing_until_ms.is_some_and(|until| until <= now) {
            return self.end(slot, "closed");
        }
        if connection.closing_until_ms.is_none() {
            if connection.outbox.as_ref().is_some_and(|outbox| outbox.until_ms.is_some_and(|until| until <= now)) {
                self.slots.set_way(slot, Way::Closed);
                return self.doomed.push((key, Doom::Slow));
            }
            if connection.message_until_ms.is_some_and(|until| until <= now) {
                connection.message_until_ms = None;
                let doom = match connection.protocol {
                    Protocol::SocketIo(_) | Protocol::Json(_) => Doom::Close(CloseCode::TooLong),
                    Protocol::Probe(_) | Protocol::Greeting { .. } => Doom::Broken,
                };
                return self.doomed.push((key, doom));
            }
        }
        match &mut self.connection(slot).protocol {
            Protocol::SocketIo(io) => {
                if io.opens_at_ms.is_some_and(|at| at <= now) {
                    self.open_websocket(key);
                    return self.settle();
                }
                if io.enter_until_ms.is_some_and(|until| until <= now) {
                    io.enter_until_ms = None;
                    return self.close_engine(slot, CloseReason::ForcedClose, None, "");
                }
                self.session(slot, |session, context| session.on_timeout(context));
                self.settle();
                if self.slots.is_current(key) {
                    self.beat_socket_io(slot);
                }
            }
            Protocol::Json(_) => self.beat(slot),
            Protocol::Probe(_) => {}
            Protocol::Greeting { until_ms, .. } => {
                if *until_ms <= now {
                    return self.end(slot, "nothing came");
                }
            }
        }
        if self.slots.is_current(key) {
            self.check_expiry(slot);
        }
    }
}
