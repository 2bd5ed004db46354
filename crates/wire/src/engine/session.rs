//! The state machine of one Engine.IO session. Knows no sockets and no clock; the driver tells it what came and when, does what
//! the outputs say, and comes back at [`Session::next_deadline`].

use std::borrow::Cow;

use bytes::Bytes;

use super::outcome::{CloseReason, Context, GetVerdict, Output, Phase, PostAnswer, ProbeVerdict, Received, Settings};
use super::polling::{NOOP, NOOP_INTERVAL_MS, Polling, Probe};
use super::{Known, Outbound, Packet, PacketError, Payload, PollBody, Polls, Refusal, Revision, Transport};

/// Packets of our own, as they stand on the wire.
const CLOSE: &str = "1";
const PING: &str = "2";
const PONG: &str = "3";
const PROBE_PONG: &str = "3probe";

/// How late a ping may be and still count as sent in time.
const LATE_MAX_MS: u64 = 20;

/// One session. Small on a WebSocket: what polling needs is kept in a box that the upgrade frees.
#[derive(Debug)]
pub struct Session {
    state: State,
    heartbeat: Heartbeat,
    revision: Revision,
}

#[derive(Debug)]
enum State {
    Polling(Box<Polling>),
    WebSocket,
    /// Closed by us over polling; what is buffered and the close packet wait for the client's next GETs, or for the WebSocket that it is
    /// moving to: once it has paused its polling it sends no GET any more.
    Closing {
        until_ms: u64,
        polling: Box<Polling>,
        /// Of the close frame, should the client arrive on its WebSocket.
        code: Option<u16>,
        text: &'static str,
    },
    Closed,
}

#[derive(Clone, Copy, Debug)]
enum Heartbeat {
    PingDue(u64),
    PongDue(u64),
    /// Revision 3: the client pings, and must have done so by then.
    PingAwaited(u64),
    Stopped,
}

/// The body of a POST, of which [`Session::next_message`] takes one message at a time.
#[derive(Debug)]
pub struct Post {
    body: Body,
    /// Where the packets begin that are not read yet; nowhere once the body is used up.
    at: Option<usize>,
}

#[derive(Debug)]
enum Body {
    Text(String),
    Bytes(Bytes),
}

impl Heartbeat {
    /// The heartbeat of a session that opened, or was heard of, at this moment.
    fn start(revision: Revision, settings: &Settings, now_ms: u64) -> Self {
        match revision {
            Revision::Four => Self::PingDue(now_ms + settings.ping_interval_ms),
            Revision::Three => Self::PingAwaited(now_ms + settings.ping_interval_ms + settings.ping_timeout_ms),
        }
    }
}

impl Session {
    /// A session opened by a GET on polling, which the driver answers with [`Session::opened`].
    pub fn polling(settings: &Settings, polls: Polls, now_ms: u64) -> Self {
        let revision = polls.revision();
        let heartbeat = Heartbeat::start(revision, settings, now_ms);
        Self { state: State::Polling(Box::new(Polling::new(polls))), heartbeat, revision }
    }

    /// A session opened directly on a WebSocket, to which the driver writes the open packet.
    pub fn websocket(settings: &Settings, revision: Revision, now_ms: u64) -> Self {
        Self { state: State::WebSocket, heartbeat: Heartbeat::start(revision, settings, now_ms), revision }
    }

    /// The answer to the GET that opened the session: its open packet.
    pub fn opened(&self, open_packet: String) -> PollBody {
        let packet = [Outbound::Text(open_packet.into())];
        match &self.state {
            State::Polling(polling) | State::Closing { polling, .. } => polling.polls.body(&packet),
            State::WebSocket | State::Closed => Polls::default().body(&packet),
        }
    }

    /// What [`super::verify`] asks of a known session.
    pub fn known(&self) -> Known {
        Known { transport: self.transport(), revision: self.revision }
    }

    /// How messages to the client travel at present.
    pub fn transport(&self) -> Transport {
        match &self.state {
            State::Polling(_) | State::Closing { .. } | State::Closed => Transport::Polling,
            State::WebSocket => Transport::WebSocket,
        }
    }

    /// Where the session stands.
    pub fn phase(&self) -> Phase {
        match &self.state {
            State::Polling(polling) if polling.probe.is_some() => Phase::Probing,
            State::Polling(_) => Phase::Polling,
            State::WebSocket => Phase::WebSocket,
            State::Closing { .. } => Phase::Closing,
            State::Closed => Phase::Closed,
        }
    }

    /// A GET arrived.
    pub fn get(&mut self, context: &mut Context<'_>) -> GetVerdict {
        match &mut self.state {
            State::Polling(polling) if polling.get_waits => {
                self.end(CloseReason::TransportError, CLOSE, context);
                GetVerdict::Overlap
            }
            State::Polling(polling) => match polling.take_payload(context.settings.max_payload) {
                Some(payload) => GetVerdict::Answer(payload),
                None => {
                    polling.get_waits = true;
                    GetVerdict::Wait
                }
            },
            State::Closing { polling, .. } => match polling.take_payload(context.settings.max_payload) {
                Some(payload) => GetVerdict::Answer(payload),
                None => {
                    // Both packets, as Node has them.
                    let body = polling.polls.control(&[NOOP, CLOSE]);
                    self.farewell_over(context);
                    GetVerdict::Answer(body)
                }
            },
            State::WebSocket => GetVerdict::Refuse(Refusal::BadRequest),
            State::Closed => GetVerdict::Refuse(Refusal::SessionUnknown),
        }
    }

    /// The connection of the waiting GET broke off, which ends the session.
    pub fn get_aborted(&mut self, context: &mut Context<'_>) {
        if let State::Polling(polling) = &mut self.state
            && polling.get_waits
        {
            polling.get_waits = false;
            self.end(CloseReason::TransportError, CLOSE, context);
        }
    }

    /// The connection of a GET broke off before it came here, which ends the session as well.
    pub fn get_lost(&mut self, context: &mut Context<'_>) {
        if let State::Polling(_) = self.state {
            self.end(CloseReason::TransportError, CLOSE, context);
        }
    }

    /// The waiting GET is to be answered with nothing, so that the client's next one can come by another way.
    pub fn get_released(&mut self, context: &mut Context<'_>) {
        if let State::Polling(polling) = &mut self.state
            && std::mem::take(&mut polling.get_waits)
        {
            context.out.push(Output::AnswerGet(polling.polls.control(&[NOOP])));
        }
    }

    /// The head of a POST arrived; `binary` if it says that its body is `application/octet-stream`. After `Ok` read the body (at most
    /// `max_payload` bytes) and come back with one of [`Session::post_body`], [`Session::post_too_large`], [`Session::post_aborted`].
    pub fn post_started(&mut self, binary: bool, context: &mut Context<'_>) -> Result<(), PostAnswer> {
        match &mut self.state {
            State::Polling(polling) => {
                // The payloads of revision 4 are text.
                if polling.post_arrives || (binary && self.revision == Revision::Four) {
                    self.end(CloseReason::TransportError, CLOSE, context);
                    return Err(PostAnswer::BadRequest);
                }
                polling.post_arrives = true;
                Ok(())
            }
            // As in Node it is read and answered, and nothing of it is looked at but whether the client closes as well.
            State::Closing { .. } => Ok(()),
            State::WebSocket => Err(PostAnswer::Refuse(Refusal::BadRequest)),
            State::Closed => Err(PostAnswer::Refuse(Refusal::SessionUnknown)),
        }
    }

    /// The body of the POST is whole. After `Ok` take its messages with [`Session::next_message`] until there is none, then answer
    /// [`PostAnswer::Ok`], even if the session was closed over what it held.
    pub fn post_body(&mut self, body: Bytes, binary: bool, context: &Context<'_>) -> Result<Post, PostAnswer> {
        let polls = match &mut self.state {
            State::Polling(polling) | State::Closing { polling, .. } => {
                polling.post_arrives = false;
                &polling.polls
            }
            State::WebSocket => return Err(PostAnswer::Refuse(Refusal::BadRequest)),
            State::Closed => return Err(PostAnswer::Refuse(Refusal::SessionUnknown)),
        };
        if body.len() > context.settings.max_payload {
            return Err(PostAnswer::TooLarge);
        }
        if binary {
            return Ok(Post { body: Body::Bytes(body), at: Some(0) });
        }
        // As in Node: bytes that are no text stand as U+FFFD, and whoever reads the message decides.
        let text = simdutf8::basic::from_utf8(&body).map_or_else(|_| String::from_utf8_lossy(&body), Cow::Borrowed);
        let text = polls.posted(&text).map(Cow::into_owned);
        // As in Node a form without the field holds no packet, not an empty one.
        Ok(Post { at: text.as_ref().map(|_| 0), body: Body::Text(text.unwrap_or_default()) })
    }

    /// The next message of a POST. Control packets are dealt with on the way; none once the body is used up or the session closed.
    pub fn next_message<'a>(&mut self, post: &'a mut Post, context: &mut Context<'_>) -> Option<Received<'a>> {
        let at = post.at.take()?;
        let (State::Polling(polling) | State::Closing { polling, .. }) = &self.state else { return None };
        let (mut packets, length) = match &post.body {
            Body::Text(text) => (polling.polls.read(&text[at..]), text.len()),
            Body::Bytes(bytes) => (Payload::bytes(&bytes[at..]), bytes.len()),
        };
        if let State::Closing { .. } = self.state {
            // A client that was told of its end by the last packet of a GET says so, and sends no further GET.
            if packets.map_while(Result::ok).any(|packet| matches!(packet, Packet::Close)) {
                self.farewell_over(context);
            }
            return None;
        }
        while let State::Polling(_) = self.state {
            match packets.next()?.map(|packet| self.packet(packet, context)) {
                Ok(None) => {}
                Ok(Some(received)) => {
                    post.at = packets.unread().map(|unread| length - unread);
                    return Some(received);
                }
                Err(_) => self.end(CloseReason::ParseError, CLOSE, context),
            }
        }
        None
    }

    /// The body of the POST is over the bound. The session stays usable.
    pub fn post_too_large(&mut self) -> PostAnswer {
        if let State::Polling(polling) = &mut self.state {
            polling.post_arrives = false;
        }
        PostAnswer::TooLarge
    }

    /// The connection of the POST broke off within its body, which ends the session.
    pub fn post_aborted(&mut self, context: &mut Context<'_>) {
        if let State::Polling(polling) = &mut self.state
            && polling.post_arrives
        {
            polling.post_arrives = false;
            self.end(CloseReason::TransportError, CLOSE, context);
        }
    }

    /// A WebSocket arrived that names this session.
    pub fn probe_started(&mut self, context: &mut Context<'_>) -> ProbeVerdict {
        match &mut self.state {
            State::Polling(polling) if polling.probe.is_none() => {
                let closes_at_ms = context.now_ms + context.settings.upgrade_timeout_ms;
                polling.probe = Some(Probe { closes_at_ms, noop_at_ms: None });
                ProbeVerdict::Accept
            }
            State::Polling(_) | State::WebSocket | State::Closing { .. } | State::Closed => ProbeVerdict::Close,
        }
    }

    /// The way of the WebSocket that probes is about to end. It is closed, and the session goes on over polling, unless its client was answered on it
    /// already: a client that was may have paused its polling, and then only hears what it is told after its move.
    ///
    /// Returns whether the session can go on. One that cannot is to be closed ([`Session::close`]), which lets the client move first.
    pub fn probe_leaves(&mut self, context: &mut Context<'_>) -> bool {
        let State::Polling(polling) = &mut self.state else { return true };
        let is_answered = polling.probe.is_some_and(|probe| probe.noop_at_ms.is_some());
        if !is_answered {
            polling.close_probe(context);
        }
        !is_answered
    }

    /// A text message on the session's WebSocket, or on the one that probes.
    pub fn websocket_text<'a>(&mut self, text: &'a str, context: &mut Context<'_>) -> Option<Received<'a>> {
        match &mut self.state {
            State::WebSocket => {
                let packet = match self.revision {
                    Revision::Four => Packet::parse(text),
                    Revision::Three => Packet::parse_3(text),
                };
                self.websocket_packet(packet, context)
            }
            State::Polling(polling) | State::Closing { polling, .. } => {
                if let Some(probe) = &mut polling.probe {
                    match text {
                        "2probe" => {
                            context.out.push(Output::WriteProbe(PROBE_PONG));
                            probe.noop_at_ms.get_or_insert(context.now_ms + NOOP_INTERVAL_MS);
                        }
                        _ if text.starts_with('5') => self.upgrade(context),
                        _ => {
                            polling.probe = None;
                            context.out.push(Output::CloseProbe);
                        }
                    }
                }
                None
            }
            State::Closed => None,
        }
    }

    /// A binary message on the session's WebSocket, or on the one that probes.
    pub fn websocket_binary<'a>(&mut self, data: &'a [u8], context: &mut Context<'_>) -> Option<Received<'a>> {
        match &mut self.state {
            State::WebSocket => match self.revision {
                Revision::Four => Some(Received::Binary(Cow::Borrowed(data))),
                Revision::Three => self.packet(Packet::parse_3_bytes(data), context),
            },
            State::Polling(polling) | State::Closing { polling, .. } => {
                polling.close_probe(context);
                None
            }
            State::Closed => None,
        }
    }

    /// The session's WebSocket, or the one that probes, is gone or has been closed by the driver (a frame that breaks the rules).
    /// A session that is only being probed goes on over polling.
    pub fn websocket_closed(&mut self, reason: CloseReason, context: &mut Context<'_>) {
        match &mut self.state {
            State::WebSocket => self.closed(reason, context),
            State::Polling(polling) | State::Closing { polling, .. } => polling.probe = None,
            State::Closed => {}
        }
    }

    /// Keeps a message for the client's next GET. Goes out with [`Session::flush`], so that one answer carries a whole tick. A message
    /// that does not fit the bound closes the session.
    ///
    /// Returns whether the session took it: not when it is on a WebSocket (write the frame there), closing or closed.
    pub fn send(&mut self, message: Outbound, context: &mut Context<'_>) -> bool {
        let State::Polling(polling) = &mut self.state else {
            return false;
        };
        if !polling.fits(&message, context.settings) {
            // A client whose GET waits is not slow; the tick is big.
            polling.flush(context);
        }
        if polling.fits(&message, context.settings) {
            polling.push(message);
            return true;
        }
        // What it has not fetched by now it has lost: telling it so in time is worth more than half of it.
        drop(polling.take_all());
        self.close(CloseReason::SlowConsumer, None, "", context);
        false
    }

    /// Answers the waiting GET with what is buffered, if there is both.
    pub fn flush(&mut self, context: &mut Context<'_>) {
        if let State::Polling(polling) = &mut self.state {
            polling.flush(context);
        }
    }

    /// When [`Session::on_timeout`] is to be called at the latest.
    pub fn next_deadline(&self) -> Option<u64> {
        let heartbeat = match self.heartbeat {
            Heartbeat::PingDue(at_ms) | Heartbeat::PongDue(at_ms) | Heartbeat::PingAwaited(at_ms) => Some(at_ms),
            Heartbeat::Stopped => None,
        };
        match &self.state {
            State::Polling(polling) => match polling.probe {
                Some(probe) => [heartbeat, Some(probe.closes_at_ms), probe.noop_at_ms].into_iter().flatten().min(),
                None => heartbeat,
            },
            State::WebSocket => heartbeat,
            // No GET waits that would have to be ended before.
            State::Closing { until_ms, polling, .. } => {
                Some(polling.probe.map_or(*until_ms, |probe| probe.closes_at_ms.min(*until_ms)))
            }
            State::Closed => None,
        }
    }

    /// Does what is due by now; nothing if nothing is.
    pub fn on_timeout(&mut self, context: &mut Context<'_>) {
        match &mut self.state {
            State::Closing { until_ms, .. } if *until_ms <= context.now_ms => self.farewell_over(context),
            State::Polling(polling) | State::Closing { polling, .. } => polling.on_timeout(context),
            State::WebSocket | State::Closed => {}
        }
        match self.heartbeat {
            Heartbeat::PingDue(at_ms) if at_ms <= context.now_ms => {
                // A timer that is a little late does not add to the client's time, which counts it from the start as well; one that is very
                // late (the machine slept) does.
                let sent_ms = if context.now_ms - at_ms <= LATE_MAX_MS { at_ms } else { context.now_ms };
                self.heartbeat = Heartbeat::PongDue(sent_ms + context.settings.ping_timeout_ms);
                self.control(PING, context);
            }
            Heartbeat::PongDue(at_ms) | Heartbeat::PingAwaited(at_ms) if at_ms <= context.now_ms => {
                self.end(CloseReason::PingTimeout, CLOSE, context);
            }
            Heartbeat::PingDue(_) | Heartbeat::PongDue(_) | Heartbeat::PingAwaited(_) | Heartbeat::Stopped => {}
        }
    }

    /// Ends the session from our side: a WebSocket gets a close frame with `code` and `text`, a polling client what is buffered and
    /// then a close packet, with this or its next GET. One that is moving to a WebSocket may finish: there it gets what is buffered and
    /// then the close frame.
    pub fn close(&mut self, reason: CloseReason, code: Option<u16>, text: &'static str, context: &mut Context<'_>) {
        match &mut self.state {
            State::WebSocket => {
                context.out.push(Output::CloseWebSocket { code, reason: text });
                self.closed(reason, context);
            }
            State::Polling(polling) if polling.get_waits && polling.is_empty() => self.end(reason, CLOSE, context),
            State::Polling(polling) => {
                polling.flush(context);
                polling.abort_post(context);
                let until_ms = context.now_ms + context.settings.close_timeout_ms;
                let polling = std::mem::take(polling);
                self.state = State::Closing { until_ms, polling, code, text };
                self.heartbeat = Heartbeat::Stopped;
                context.out.push(Output::Closed(reason));
            }
            State::Closing { .. } | State::Closed => {}
        }
    }

    fn websocket_packet<'a>(
        &mut self,
        packet: Result<Packet<'a>, PacketError>,
        context: &mut Context<'_>,
    ) -> Option<Received<'a>> {
        match packet {
            Ok(packet) => self.packet(packet, context),
            Err(_) => {
                self.end(CloseReason::ParseError, CLOSE, context);
                None
            }
        }
    }

    /// A packet on the session's transport.
    fn packet<'a>(&mut self, packet: Packet<'a>, context: &mut Context<'_>) -> Option<Received<'a>> {
        match (packet, self.revision) {
            (Packet::Message(text), _) => return Some(Received::Text(text)),
            (Packet::Binary(data), _) => return Some(Received::Binary(data)),
            // As in Node an unasked pong puts the next ping off, too: the client has just proved that it is there.
            (Packet::Pong(_), Revision::Four) => {
                self.heartbeat = Heartbeat::PingDue(context.now_ms + context.settings.ping_interval_ms);
            }
            (Packet::Ping(_), Revision::Three) => {
                self.heartbeat = Heartbeat::start(Revision::Three, context.settings, context.now_ms);
                self.control(PONG, context);
            }
            (Packet::Open(_) | Packet::Upgrade | Packet::Noop, _) => {}
            (Packet::Close, _) => self.end(CloseReason::TransportClose, NOOP, context),
            // In revision 4 it is the server that asks, in revision 3 the client.
            (Packet::Ping(_), Revision::Four) | (Packet::Pong(_), Revision::Three) => {
                self.end(CloseReason::TransportError, CLOSE, context);
            }
        }
        None
    }

    /// Sends a packet of our own, at once.
    fn control(&mut self, packet: &'static str, context: &mut Context<'_>) {
        match &mut self.state {
            State::Polling(polling) => {
                polling.push(Outbound::Text(Bytes::from_static(packet.as_bytes())));
                polling.flush(context);
            }
            State::WebSocket => context.out.push(Output::WriteMain(packet)),
            State::Closing { .. } | State::Closed => {}
        }
    }

    /// The probing WebSocket becomes the transport, even if only for the farewell.
    fn upgrade(&mut self, context: &mut Context<'_>) {
        let (mut polling, farewell) = match std::mem::replace(&mut self.state, State::WebSocket) {
            State::Polling(polling) => (polling, None),
            State::Closing { polling, code, text, .. } => (polling, Some((code, text))),
            State::WebSocket | State::Closed => unreachable!("only a session on polling is probed"),
        };
        if polling.get_waits {
            // The client has paused its polling and does not look at it.
            context.out.push(Output::AnswerGet(polling.polls.control(&[CLOSE])));
        }
        context.out.push(Output::Upgraded { buffered: polling.take_all() });
        if let Some((code, reason)) = farewell {
            self.state = State::Closed;
            return context.out.extend([Output::CloseWebSocket { code, reason }, Output::Forget]);
        }
        // A pong may have been lost between the transports: it is asked for again a full interval later.
        if let Heartbeat::PongDue(_) = self.heartbeat {
            self.heartbeat = Heartbeat::PingDue(context.now_ms + context.settings.ping_interval_ms);
        }
    }

    /// Ends the session over what the client did or did not do: nothing of it is left afterwards.
    fn end(&mut self, reason: CloseReason, get_answer: &'static str, context: &mut Context<'_>) {
        match &mut self.state {
            State::Polling(polling) => {
                if polling.get_waits {
                    context.out.push(Output::AnswerGet(polling.polls.control(&[get_answer])));
                }
                polling.abort_post(context);
                polling.close_probe(context);
                self.closed(reason, context);
            }
            State::WebSocket => {
                context.out.push(Output::CloseWebSocket { code: None, reason: "" });
                self.closed(reason, context);
            }
            State::Closing { .. } | State::Closed => {}
        }
    }

    /// The client of a closing session knows of its end, or has had its time to ask.
    fn farewell_over(&mut self, context: &mut Context<'_>) {
        if let State::Closing { mut polling, .. } = std::mem::replace(&mut self.state, State::Closed) {
            polling.close_probe(context);
        }
        context.out.push(Output::Forget);
    }

    fn closed(&mut self, reason: CloseReason, context: &mut Context<'_>) {
        self.state = State::Closed;
        self.heartbeat = Heartbeat::Stopped;
        context.out.extend([Output::Closed(reason), Output::Forget]);
    }
}

#[cfg(test)]
mod tests;
