//! Socket.IO connections: WebSocket messages go into the Engine.IO session (polls do so in `polls`), and what it says is carried out.
//! Knows nothing of what packets mean to a room: that is `act`.

use std::io::IoSlice;

use bytes::Bytes;
use hub::codes::{CloseCode, ErrorCode};
use hub::profile::{Endpoint, SocketIoEndpoint};
use wire::engine::{self, CloseReason, Context, OpenPacket, Output, ProbeVerdict, Received, Revision, Session};
use wire::socketio::Address;
use wire::ws::{self, Flow, Incoming, Violation};

use super::connection::{Bucket, Connection, Protocol, SocketIo};
use super::ids::SessionId;
use super::inbox::ConnectionKey;
use super::poll::{Adopted, Beginning, Handshake, PollReply, Role};
use super::slots::{Encoding, Way};
use super::transport::Tls;
use super::{Doom, ERRORS_PER_MINUTE, Shard, encode};
use crate::embed;

/// How long after its handshake a WebSocket of revision 3 hears the first packet. Clients of that age begin to listen a moment after their
/// `open` event, and would miss a packet that comes in the same breath; the Node server is slow enough for them.
const OPENING_AFTER_MS: u64 = 5;

/// The settings of an endpoint's sessions; those of a plain endpoint are not looked at.
pub(super) fn settings(endpoint: &Endpoint, max_payload: usize, send_queue_bytes: usize) -> engine::Settings {
    let mut settings =
        engine::Settings { max_payload, max_buffered_bytes: send_queue_bytes, ..engine::Settings::default() };
    if let Endpoint::SocketIo(endpoint) = endpoint {
        settings.ping_interval_ms = endpoint.ping_interval.as_millis() as u64;
        settings.ping_timeout_ms = endpoint.ping_timeout.as_millis() as u64;
        settings.upgrade_timeout_ms = endpoint.upgrade_timeout.as_millis() as u64;
    }
    settings
}

impl Shard {
    pub(super) fn session_id(&mut self, slot: u32, revision: Revision) -> SessionId {
        match revision {
            Revision::Four => self.node.session_id(self.index, self.clock.random()),
            Revision::Three => self.node.open_session_id(self.index, slot, self.clock.random()),
        }
    }

    /// Clients of Engine.IO 3 are let into the main namespace without asking, where there is one.
    pub(super) fn enter_unasked(&mut self, slot: u32, revision: Revision) {
        const MAIN: Address<'_> = Address { namespace: "/", query: None };
        let of_profile = self.outside.gateway.profile.rules.namespace(MAIN.namespace);
        let is_there = of_profile.is_some_and(|main| self.serves(slot, main))
            || self.outside.program.namespace(MAIN.namespace).is_some();
        let endpoint = self.connection(slot).endpoint;
        if revision == Revision::Three && is_there && !self.outside.program.messages.contains_key(&endpoint) {
            self.connect(slot, &MAIN, None);
        }
    }

    pub(super) fn open_packet(&self, sid: SessionId, endpoint: usize, polling: bool) -> String {
        let settings = &self.settings[endpoint];
        let websocket = matches!(
            &self.outside.gateway.profile.endpoints[endpoint],
            Endpoint::SocketIo(SocketIoEndpoint { websocket: true, .. })
        );
        engine::open_packet(&OpenPacket {
            sid: &sid.to_string(),
            upgrades: polling && websocket,
            ping_interval_ms: settings.ping_interval_ms,
            ping_timeout_ms: settings.ping_timeout_ms,
            max_payload: settings.max_payload,
        })
    }

    pub(super) fn open_socket_io(
        &mut self,
        key: ConnectionKey,
        session: Session,
        sid: SessionId,
        handshake: Box<Handshake>,
        address: std::net::IpAddr,
        endpoint: usize,
    ) {
        let now = self.clock.now_ms();
        let (connect_timeout_ms, beat_ms) = match &self.outside.gateway.profile.endpoints[endpoint] {
            Endpoint::SocketIo(endpoint) => {
                let beat_ms = endpoint.heartbeat.as_ref().map(|beat| beat.every.as_millis() as u64);
                (endpoint.connect_timeout.as_millis() as u64, beat_ms)
            }
            Endpoint::Json(_) => (0, None),
        };
        let io = SocketIo {
            session,
            decoder: wire::socketio::Decoder::default(),
            sid,
            waiting_get: None,
            arriving_post: None,
            probe: None,
            // Below Socket.IO there is nothing to enter.
            opens_at_ms: None,
            enter_until_ms: (!self.outside.program.messages.contains_key(&endpoint))
                .then_some(now + connect_timeout_ms),
            next_beat_ms: beat_ms.map_or(u64::MAX, |beat_ms| now.saturating_add(beat_ms)),
        };
        self.sessions.insert(sid, key.slot);
        self.open(key, self.new_connection(Protocol::SocketIo(Box::new(io)), handshake, address, endpoint));
        self.arm(key.slot);
    }

    pub(super) fn new_connection(
        &self,
        protocol: Protocol,
        handshake: Box<Handshake>,
        address: std::net::IpAddr,
        endpoint: usize,
    ) -> Connection {
        let per_minute = self.outside.gateway.profile.limits.messages_per_minute.unwrap_or(0);
        Connection {
            protocol,
            parser: ws::Parser::default(),
            tls: None,
            outbox: None,
            handshake,
            address,
            seat: None,
            endpoint,
            pending: smallvec::SmallVec::new(),
            owed: None,
            program: None,
            armed_ms: u64::MAX,
            unfed: None,
            is_unread: false,
            ended: false,
            bucket: Bucket::full(per_minute, self.clock.now_ms()),
            errors: Bucket::full(ERRORS_PER_MINUTE, self.clock.now_ms()),
            message_until_ms: None,
            closing_until_ms: None,
        }
    }

    /// A WebSocket whose handshake is over.
    pub(super) fn adopt(&mut self, adopted: Adopted) {
        let Adopted { socket, beginning } = adopted;
        let key = self.slots.open(Encoding::Flat);
        match self.slots.attach(key, socket, Encoding::Flat) {
            Ok(()) => self.begin(key, beginning),
            Err(_) => self.slots.close(key.slot),
        }
    }

    /// What the WebSocket in this slot is to become, it becomes.
    pub(super) fn begin(&mut self, key: ConnectionKey, beginning: Beginning) {
        let Beginning { tls, leftover, deflate, role, seat } = beginning;
        let mut encoding = match role {
            Role::Upgrade { sid, .. } => {
                let Some(main) = self.sessions.get(&sid).copied() else { return self.slots.close(key.slot) };
                if self.session(main, |session, context| session.probe_started(context)) == ProbeVerdict::Close {
                    // The other socket goes on.
                    return self.turn_away(key, tls);
                }
                let revision = self.socket_io(main).session.known().revision;
                let address = self.connection(main).address;
                let endpoint = self.connection(main).endpoint;
                self.socket_io(main).probe = Some(key);
                let connection =
                    self.new_connection(Protocol::Probe(self.slots.key(main)), Box::default(), address, endpoint);
                self.open(key, connection);
                self.arm(main);
                websocket_encoding(revision)
            }
            Role::SocketIo { handshake, address, endpoint, revision } => {
                let session = Session::websocket(&self.settings[endpoint], revision, self.clock.now_ms());
                let sid = self.session_id(key.slot, revision);
                self.open_socket_io(key, session, sid, handshake, address, endpoint);
                websocket_encoding(revision)
            }
            Role::Unwanted => return self.turn_away(key, tls),
            Role::Json { handshake, address, endpoint, namespace } => {
                self.open_json(key, handshake, address, endpoint, namespace)
            }
        };
        self.connection(key.slot).seat = seat;
        if let Some(deflate) = deflate {
            self.connection(key.slot).parser = ws::Parser::inflating();
            encoding = if deflate.compresses() { encoding.deflated() } else { encoding };
        }
        self.slots.set_encoding(key.slot, encoding);
        let mut leftover = leftover.to_vec();
        if let Some(mut tls) = tls {
            self.slots.set_way(key.slot, Way::Queue);
            // What came with the handshake may be waiting here still.
            if tls.decipher(&[], &mut leftover).is_err() {
                return self.doomed.push((key, Doom::Broken));
            }
            self.connection(key.slot).tls = Some(tls);
        }
        let opens_at_ms = self.clock.now_ms() + OPENING_AFTER_MS;
        if let Protocol::SocketIo(io) = &mut self.connection(key.slot).protocol {
            match io.session.known().revision {
                Revision::Four => self.open_websocket(key),
                Revision::Three => {
                    io.opens_at_ms = Some(opens_at_ms);
                    self.arm(key.slot);
                }
            }
        }
        self.start_json(key);
        if !leftover.is_empty() && self.slots.is_current(key) {
            self.feed(key, &mut leftover);
        }
    }

    /// Tells a WebSocket at once that it is not wanted, and ends it.
    fn turn_away(&mut self, key: ConnectionKey, tls: Option<Tls>) {
        let frame = ws::close_frame(None, "");
        let mut write = |parts: &[IoSlice<'_>]| self.slots.write(key.slot, parts);
        // A client that has gone meanwhile needs no telling.
        let _ = match tls {
            Some(mut tls) => tls.write(&[IoSlice::new(&frame)], write),
            None => write(&[IoSlice::new(&frame)]),
        };
        self.slots.close(key.slot);
    }

    /// Says the first words of a session that began on a WebSocket.
    pub(super) fn open_websocket(&mut self, key: ConnectionKey) {
        let endpoint = self.connection(key.slot).endpoint;
        let io = self.socket_io(key.slot);
        io.opens_at_ms = None;
        let (sid, revision) = (io.sid, io.session.known().revision);
        let open = self.open_packet(sid, endpoint, false);
        self.send(key.slot, ws::text_frame(open.as_bytes()));
        self.open_messages(key);
        self.enter_unasked(key.slot, revision);
    }

    /// A message or control frame of a WebSocket.
    pub(super) fn incoming(&mut self, key: ConnectionKey, incoming: Incoming<'_>) -> Flow {
        // What stands behind the `5` in one helping is the session's already: a client that closes at once, above all.
        let key = self.migrated.filter(|(probe, _)| *probe == key).map_or(key, |(_, main)| main);
        if !self.slots.is_current(key) || self.slots.way(key.slot) == Way::Closed {
            return Flow::Stop;
        }
        match incoming {
            Incoming::Ping(payload) => self.send(key.slot, ws::pong_frame(payload)),
            Incoming::Pong(_) => {}
            Incoming::Close { code, .. } => {
                self.send(key.slot, ws::close_frame(code, ""));
                self.flush_urgent();
                self.doomed.push((key, Doom::Broken));
                return Flow::Stop;
            }
            Incoming::Text(_) | Incoming::Binary(_) => {}
        }
        match &mut self.connection(key.slot).protocol {
            Protocol::SocketIo(_) => self.incoming_engine(key.slot, incoming),
            Protocol::Probe(main) => {
                let main = *main;
                if self.slots.is_current(main) {
                    // What waits in the slot belongs to the old transport, and must be with the session before it moves.
                    self.flush(main.slot);
                    self.incoming_engine(main.slot, incoming);
                }
            }
            Protocol::Json(_) => self.incoming_json(key.slot, incoming),
            Protocol::Greeting { .. } => {}
        }
        Flow::Continue
    }

    fn incoming_engine(&mut self, slot: u32, incoming: Incoming<'_>) {
        let received = match incoming {
            Incoming::Text(text) => self.session(slot, |session, context| session.websocket_text(text, context)),
            Incoming::Binary(data) => self.session(slot, |session, context| session.websocket_binary(data, context)),
            Incoming::Ping(_) | Incoming::Pong(_) | Incoming::Close { .. } => None,
        };
        if let Some(received) = received {
            self.received(slot, received);
        }
        if self.connections[slot as usize].is_some() {
            self.arm(slot);
        }
        self.settle();
    }

    /// A message for the layer above.
    pub(super) fn received(&mut self, slot: u32, received: Received<'_>) {
        if self.connection(slot).program.is_some() {
            return self.program_message(
                slot,
                match received {
                    Received::Text(text) => embed::Message::Text(text.to_owned()),
                    Received::Binary(data) => embed::Message::Binary(data.into_owned().into()),
                },
            );
        }
        let max_bytes = self.outside.gateway.profile.limits.message_bytes as usize;
        let decoder = &mut self.socket_io(slot).decoder;
        let decoded = match received {
            Received::Text(text) => decoder.text(text, max_bytes),
            Received::Binary(data) => decoder.binary(data, max_bytes),
        };
        match decoded {
            Ok(Some(decoded)) => self.packet(slot, &decoded),
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(%error, "a client sent a packet that is none");
                // As in Node this ends the session; but not without a word.
                if let Some(namespace) = self.sockets.at(slot).first().map(|key| self.sockets.get(*key).namespace) {
                    self.tell_error(slot, namespace, None, ErrorCode::BadMessage, &error.to_string(), None);
                }
                self.close_engine(slot, CloseReason::ParseError, None, "");
            }
        }
    }

    /// Frames that break RFC 6455 or a bound.
    pub(super) fn violated(&mut self, slot: u32, violation: &Violation) {
        match self.connection(slot).protocol {
            Protocol::SocketIo(_) => {
                // As in Node without a reason: stock clients look at the code, and their tests for there being nothing else.
                self.close_engine(slot, CloseReason::TransportError, Some(violation.code), "");
            }
            Protocol::Json(_) => {
                self.leave_all(slot, "transport error");
                self.count_disconnect("transport error");
                self.close_websocket(slot, Some(violation.code), violation.reason);
            }
            Protocol::Probe(_) | Protocol::Greeting { .. } => self.end(slot, "protocol error"),
        }
    }

    /// Ends the session below Socket.IO, which a stock client answers by coming back.
    pub(super) fn close_engine(&mut self, slot: u32, reason: CloseReason, code: Option<u16>, text: &'static str) {
        // What is due goes first.
        self.flush(slot);
        self.session(slot, |session, context| session.close(reason, code, text, context));
    }

    /// Puts packets of a polling session into its session and answers a GET that waits.
    pub(super) fn queue_packets(&mut self, slot: u32, frames: Vec<Bytes>) {
        self.session(slot, |session, context| {
            for packet in frames.into_iter().flat_map(encode::unpack) {
                session.send(packet, context);
            }
            session.flush(context);
        });
    }

    pub(super) fn socket_io(&mut self, slot: u32) -> &mut SocketIo {
        match &mut self.connection(slot).protocol {
            Protocol::SocketIo(io) => io,
            Protocol::Json(_) | Protocol::Probe(_) | Protocol::Greeting { .. } => {
                unreachable!("callers know that this connection speaks Socket.IO")
            }
        }
    }

    /// Lets the session take an input, and carries out what it says.
    pub(super) fn session<T>(&mut self, slot: u32, input: impl FnOnce(&mut Session, &mut Context<'_>) -> T) -> T {
        let mut out = std::mem::take(&mut self.engine_outputs);
        let now_ms = self.clock.now_ms();
        let connection = self.connections[slot as usize].as_mut().expect("a slot in use has its connection");
        let settings = &self.settings[connection.endpoint];
        let Protocol::SocketIo(io) = &mut connection.protocol else {
            unreachable!("callers know that this connection speaks Socket.IO")
        };
        let result = input(&mut io.session, &mut Context { settings, now_ms, out: &mut out });
        for output in out.drain(..) {
            self.engine_output(slot, output);
        }
        self.engine_outputs = out;
        result
    }

    fn engine_output(&mut self, slot: u32, output: Output) {
        match output {
            Output::AnswerGet(packets) => {
                if let Some(reply) = self.socket_io(slot).waiting_get.take() {
                    // A GET that was dropped meanwhile is about to be told as aborted, which ends the session.
                    let _ = reply.send(PollReply::Packets(packets));
                }
            }
            Output::AbortPost => {
                if let Some(abort) = self.socket_io(slot).arriving_post.take() {
                    // A POST that broke off by itself needs no breaking.
                    let _ = abort.send(());
                }
            }
            Output::WriteMain(text) => self.send(slot, ws::text_frame(text.as_bytes())),
            Output::WriteProbe(text) => {
                if let Some(probe) = self.socket_io(slot).probe {
                    self.send(probe.slot, ws::text_frame(text.as_bytes()));
                }
            }
            Output::CloseProbe => {
                if let Some(probe) = self.socket_io(slot).probe.take() {
                    self.close_websocket(probe.slot, None, "");
                }
            }
            Output::Upgraded { buffered } => self.upgraded(slot, buffered),
            Output::CloseWebSocket { code, reason } => self.close_websocket(slot, code, reason),
            // Its sockets leave when nobody is in the middle of something with them.
            Output::Closed(reason) => self.closed.push((self.slots.key(slot), reason)),
            Output::Forget => {
                let sid = self.socket_io(slot).sid;
                self.sessions.remove(&sid);
                if let Some(probe) = self.socket_io(slot).probe.take() {
                    self.doomed.push((probe, Doom::Broken));
                }
                self.finished.push(self.slots.key(slot));
            }
        }
    }

    /// The probing WebSocket is the session's transport now.
    fn upgraded(&mut self, slot: u32, buffered: Vec<engine::Outbound>) {
        let Some(probe) = self.socket_io(slot).probe.take() else { return };
        let main = self.slots.key(slot);
        self.flush(probe.slot);
        let encoding = self.slots.encoding(probe.slot);
        if self.slots.move_socket(probe, main, encoding).is_err() {
            // Nothing goes out any more, a close frame neither.
            self.slots.set_way(slot, Way::Closed);
            return self.doomed.push((main, Doom::Broken));
        }
        self.migrated = Some((probe, main));
        self.connection(slot).ended |= self.connection(probe.slot).ended;
        if let Some(outbox) = self.connection(probe.slot).outbox.take() {
            self.connection(slot).outbox = Some(outbox);
        }
        self.connection(slot).tls = self.connection(probe.slot).tls.take();
        for packet in buffered {
            self.send(slot, encode::packet_frame(encoding, &packet));
        }
    }

    /// Sends a close frame and waits for the client's side, within bounds.
    pub(super) fn close_websocket(&mut self, slot: u32, code: Option<u16>, reason: &str) {
        if self.slots.way(slot) == Way::Closed {
            return;
        }
        self.send(slot, ws::close_frame(code, reason));
        self.flush(slot);
        self.start_closing(slot);
    }

    /// Nothing more goes out but what is queued; then the sending side ends, and the client has a while to end its own.
    pub(super) fn start_closing(&mut self, slot: u32) {
        self.slots.set_way(slot, Way::Closed);
        let until = self.clock.now_ms() + self.outside.gateway.profile.limits.timeouts.close.as_millis() as u64;
        let connection = self.connection(slot);
        connection.closing_until_ms = Some(until);
        if connection.outbox.is_none() {
            self.end_writing(slot);
        }
        self.arm(slot);
    }

    /// Carries out the ends of sessions: their sockets leave, and what is forgotten is freed, unless its socket is still saying goodbye.
    /// For the end of an input alone, since whoever is in the middle of one holds on to its connection and sockets.
    pub(super) fn settle(&mut self) {
        loop {
            if let Some((key, reason)) = self.closed.pop() {
                if self.slots.is_current(key) {
                    self.leave_all(key.slot, reason.as_str());
                    self.count_disconnect(reason.as_str());
                }
            } else if let Some(key) = self.finished.pop() {
                if self.slots.is_current(key) && self.connection(key.slot).closing_until_ms.is_none() {
                    self.end(key.slot, "closed");
                }
            } else {
                return;
            }
        }
    }

    /// Ends the transport of a connection, whatever it speaks, so that the client comes back elsewhere or later.
    pub(super) fn close(&mut self, slot: u32, code: CloseCode, reason: &'static str) {
        let is_end_of_node = code == CloseCode::GoingAway;
        let why = if is_end_of_node { CloseReason::ServerShuttingDown } else { CloseReason::ForcedClose };
        self.close_with(slot, why, code.number(), reason);
    }

    /// The same with a number of the profile's.
    pub(super) fn close_with(&mut self, slot: u32, why: CloseReason, number: u16, reason: &'static str) {
        match self.connection(slot).protocol {
            Protocol::SocketIo(_) => self.close_engine(slot, why, Some(number), reason),
            Protocol::Json(_) => {
                self.leave_all(slot, reason);
                self.count_disconnect(reason);
                self.close_websocket(slot, Some(number), reason);
            }
            Protocol::Probe(_) | Protocol::Greeting { .. } => {}
        }
    }

    /// Tells a client that reads too slowly, as far as it reads at all, and drops what it did not read.
    pub(super) fn cut_slow(&mut self, slot: u32) {
        self.outside.gateway.metrics.slow_consumers.inc();
        self.count_disconnect(CloseCode::SlowConsumer.reason());
        tracing::info!(address = %self.connection(slot).address, "a client read too slowly and was cut");
        self.leave_all(slot, CloseReason::SlowConsumer.as_str());
        let frame = ws::close_frame(Some(CloseCode::SlowConsumer.number()), CloseCode::SlowConsumer.reason());
        if let Some(mut outbox) = self.connection(slot).outbox.take() {
            self.queued_bytes -= outbox.bytes();
            outbox.keep_first();
            outbox.push(frame);
            self.queued_bytes += outbox.bytes();
            self.connection(slot).outbox = Some(outbox);
        }
        self.start_closing(slot);
    }
}

/// The form of events on a WebSocket.
fn websocket_encoding(revision: Revision) -> Encoding {
    match revision {
        Revision::Four => Encoding::SocketIo,
        Revision::Three => Encoding::SocketIo3,
    }
}
