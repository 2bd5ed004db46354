//! The state machine of one Engine.IO session. Knows no sockets and no clock; the driver tells it what came and when, does what
//! the outputs say, and comes back at [`Session::next_deadline`].

use std::borrow::Cow;

use bytes::Bytes;

use super::outcome::{CloseReason, Context, GetVerdict, Output, Phase, PostAnswer, ProbeVerdict, Received, Settings};
use super::polling::{NOOP, NOOP_INTERVAL_MS, Polling, Probe};
use super::{Outbound, Packet, Payload, Refusal, Transport};

/// Packets of our own, as they stand on the wire.
const CLOSE: &str = "1";
const PING: &str = "2";
const PROBE_PONG: &str = "3probe";
/// What the GET after a close is answered with, as in Node.
const NOOP_AND_CLOSE: &str = "6\u{1e}1";

/// One session. Small on a WebSocket: what polling needs is kept in a box that the upgrade frees.
#[derive(Debug)]
pub struct Session {
    state: State,
    heartbeat: Heartbeat,
}

#[derive(Debug)]
enum State {
    Polling(Box<Polling>),
    WebSocket,
    /// Closed by us over polling; what is buffered and the close packet wait for the client's next GETs.
    Closing {
        until_ms: u64,
        polling: Box<Polling>,
    },
    Closed,
}

#[derive(Clone, Copy, Debug)]
enum Heartbeat {
    PingDue(u64),
    PongDue(u64),
    Stopped,
}

/// The body of a POST, of which [`Session::next_message`] takes one message at a time.
#[derive(Debug)]
pub struct Post<'a> {
    packets: Payload<'a>,
}

impl Session {
    /// A session opened by a GET on polling, which the driver answers with the open packet.
    pub fn polling(settings: &Settings, now_ms: u64) -> Self {
        Self {
            state: State::Polling(Box::default()),
            heartbeat: Heartbeat::PingDue(now_ms + settings.ping_interval_ms),
        }
    }

    /// A session opened directly on a WebSocket, to which the driver writes the open packet.
    pub fn websocket(settings: &Settings, now_ms: u64) -> Self {
        Self { state: State::WebSocket, heartbeat: Heartbeat::PingDue(now_ms + settings.ping_interval_ms) }
    }

    /// How messages to the client travel at present; also what [`super::verify`] asks of a known session.
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
                    self.state = State::Closed;
                    context.out.push(Output::Forget);
                    GetVerdict::Answer(Bytes::from_static(NOOP_AND_CLOSE.as_bytes()))
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

    /// The head of a POST arrived. After `Ok` read its body (at most `max_payload` bytes) and come back with one of
    /// [`Session::post_body`], [`Session::post_too_large`], [`Session::post_aborted`].
    pub fn post_started(&mut self, content_type: Option<&str>, context: &mut Context<'_>) -> Result<(), PostAnswer> {
        match &mut self.state {
            State::Polling(polling) => {
                let binary =
                    content_type.is_some_and(|value| value.trim().eq_ignore_ascii_case("application/octet-stream"));
                if polling.post_arrives || binary {
                    self.end(CloseReason::TransportError, CLOSE, context);
                    return Err(PostAnswer::BadRequest);
                }
                polling.post_arrives = true;
                Ok(())
            }
            // As in Node it is read and answered, and nothing of it is looked at.
            State::Closing { .. } => Ok(()),
            State::WebSocket => Err(PostAnswer::Refuse(Refusal::BadRequest)),
            State::Closed => Err(PostAnswer::Refuse(Refusal::SessionUnknown)),
        }
    }

    /// The body of the POST is whole. After `Ok` take its messages with [`Session::next_message`] until there is none, then answer
    /// [`PostAnswer::Ok`], even if the session was closed over what it held.
    pub fn post_body<'a>(&mut self, body: &'a [u8], context: &mut Context<'_>) -> Result<Post<'a>, PostAnswer> {
        match &mut self.state {
            State::Polling(polling) => polling.post_arrives = false,
            State::Closing { .. } => {}
            State::WebSocket => return Err(PostAnswer::Refuse(Refusal::BadRequest)),
            State::Closed => return Err(PostAnswer::Refuse(Refusal::SessionUnknown)),
        }
        if body.len() > context.settings.max_payload {
            return Err(PostAnswer::TooLarge);
        }
        let Ok(text) = simdutf8::basic::from_utf8(body) else {
            self.end(CloseReason::ParseError, CLOSE, context);
            return Err(PostAnswer::BadRequest);
        };
        Ok(Post { packets: Payload::new(text) })
    }

    /// The next message of a POST. Control packets are dealt with on the way; none once the body is used up or the session closed.
    pub fn next_message<'a>(&mut self, post: &mut Post<'a>, context: &mut Context<'_>) -> Option<Received<'a>> {
        while let State::Polling(_) = self.state {
            let received = match post.packets.next()? {
                Ok(packet) => self.packet(packet, context),
                Err(_) => {
                    self.end(CloseReason::ParseError, CLOSE, context);
                    None
                }
            };
            if received.is_some() {
                return received;
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

    /// A text message on the session's WebSocket, or on the one that probes.
    pub fn websocket_text<'a>(&mut self, text: &'a str, context: &mut Context<'_>) -> Option<Received<'a>> {
        match &mut self.state {
            State::WebSocket => match Packet::parse(text) {
                Ok(packet) => self.packet(packet, context),
                Err(_) => {
                    self.end(CloseReason::ParseError, CLOSE, context);
                    None
                }
            },
            State::Polling(polling) => {
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
            State::Closing { .. } | State::Closed => None,
        }
    }

    /// A binary message on the session's WebSocket, or on the one that probes.
    pub fn websocket_binary<'a>(&mut self, data: &'a [u8], context: &mut Context<'_>) -> Option<Received<'a>> {
        match &mut self.state {
            State::WebSocket => Some(Received::Binary(Cow::Borrowed(data))),
            State::Polling(polling) => {
                if polling.probe.take().is_some() {
                    context.out.push(Output::CloseProbe);
                }
                None
            }
            State::Closing { .. } | State::Closed => None,
        }
    }

    /// The session's WebSocket, or the one that probes, is gone or has been closed by the driver (a frame that breaks the rules).
    /// A session that is only being probed goes on over polling.
    pub fn websocket_closed(&mut self, reason: CloseReason, context: &mut Context<'_>) {
        match &mut self.state {
            State::WebSocket => self.closed(reason, context),
            State::Polling(polling) => polling.probe = None,
            State::Closing { .. } | State::Closed => {}
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
            Heartbeat::PingDue(at_ms) | Heartbeat::PongDue(at_ms) => Some(at_ms),
            Heartbeat::Stopped => None,
        };
        match &self.state {
            State::Polling(polling) => match polling.probe {
                Some(probe) => [heartbeat, Some(probe.closes_at_ms), probe.noop_at_ms].into_iter().flatten().min(),
                None => heartbeat,
            },
            State::WebSocket => heartbeat,
            State::Closing { until_ms, .. } => Some(*until_ms),
            State::Closed => None,
        }
    }

    /// Does what is due by now; nothing if nothing is.
    pub fn on_timeout(&mut self, context: &mut Context<'_>) {
        match &mut self.state {
            State::Polling(polling) => polling.on_timeout(context),
            State::Closing { until_ms, .. } if *until_ms <= context.now_ms => {
                self.state = State::Closed;
                context.out.push(Output::Forget);
            }
            State::Closing { .. } | State::WebSocket | State::Closed => {}
        }
        match self.heartbeat {
            Heartbeat::PingDue(at_ms) if at_ms <= context.now_ms => {
                self.heartbeat = Heartbeat::PongDue(context.now_ms + context.settings.ping_timeout_ms);
                self.ping(context);
            }
            Heartbeat::PongDue(at_ms) if at_ms <= context.now_ms => self.end(CloseReason::PingTimeout, CLOSE, context),
            Heartbeat::PingDue(_) | Heartbeat::PongDue(_) | Heartbeat::Stopped => {}
        }
    }

    /// Ends the session from our side: a WebSocket gets a close frame with `code` and `text`, a polling client what is buffered and
    /// then a close packet, with this or its next GET.
    pub fn close(&mut self, reason: CloseReason, code: Option<u16>, text: &'static str, context: &mut Context<'_>) {
        match &mut self.state {
            State::WebSocket => {
                context.out.push(Output::CloseWebSocket { code, reason: text });
                self.closed(reason, context);
            }
            State::Polling(polling) if polling.get_waits && polling.is_empty() => self.end(reason, CLOSE, context),
            State::Polling(polling) => {
                polling.flush(context);
                polling.break_off(context);
                let until_ms = context.now_ms + context.settings.close_timeout_ms;
                let polling = std::mem::take(polling);
                self.state = State::Closing { until_ms, polling };
                self.heartbeat = Heartbeat::Stopped;
                context.out.push(Output::Closed(reason));
            }
            State::Closing { .. } | State::Closed => {}
        }
    }

    /// A packet on the session's transport.
    fn packet<'a>(&mut self, packet: Packet<'a>, context: &mut Context<'_>) -> Option<Received<'a>> {
        match packet {
            Packet::Message(text) => return Some(Received::Text(text)),
            Packet::Binary(data) => return Some(Received::Binary(data)),
            // As in Node an unasked pong puts the next ping off, too: the client has just proved that it is there.
            Packet::Pong(_) => self.heartbeat = Heartbeat::PingDue(context.now_ms + context.settings.ping_interval_ms),
            Packet::Open(_) | Packet::Upgrade | Packet::Noop => {}
            Packet::Close => self.end(CloseReason::TransportClose, NOOP, context),
            // In revision 4 it is the server that asks.
            Packet::Ping(_) => self.end(CloseReason::TransportError, CLOSE, context),
        }
        None
    }

    fn ping(&mut self, context: &mut Context<'_>) {
        match &mut self.state {
            State::Polling(polling) => {
                polling.push(Outbound::Text(Bytes::from_static(PING.as_bytes())));
                polling.flush(context);
            }
            State::WebSocket => context.out.push(Output::WriteMain(PING)),
            State::Closing { .. } | State::Closed => {}
        }
    }

    /// The probing WebSocket becomes the transport.
    fn upgrade(&mut self, context: &mut Context<'_>) {
        let State::Polling(mut polling) = std::mem::replace(&mut self.state, State::WebSocket) else {
            unreachable!("only a session on polling is probed");
        };
        if polling.get_waits {
            // The client has paused its polling and does not look at it.
            context.out.push(Output::AnswerGet(Bytes::from_static(CLOSE.as_bytes())));
        }
        context.out.push(Output::Upgraded { buffered: polling.take_all() });
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
                    context.out.push(Output::AnswerGet(Bytes::from_static(get_answer.as_bytes())));
                }
                polling.break_off(context);
                self.closed(reason, context);
            }
            State::WebSocket => {
                context.out.push(Output::CloseWebSocket { code: None, reason: "" });
                self.closed(reason, context);
            }
            State::Closing { .. } | State::Closed => {}
        }
    }

    fn closed(&mut self, reason: CloseReason, context: &mut Context<'_>) {
        self.state = State::Closed;
        self.heartbeat = Heartbeat::Stopped;
        context.out.extend([Output::Closed(reason), Output::Forget]);
    }
}

#[cfg(test)]
mod tests;
