//! The state machine of one Engine.IO session. Knows no sockets and no clock; the driver tells it what came and when, does what
//! the outputs say, and comes back at [`Session::next_deadline`].

use std::borrow::Cow;

use bytes::Bytes;

use super::{Outbound, Payload, Refusal, Transport};

/// What all sessions of a gateway share.
#[derive(Clone, Debug)]
pub struct Settings {
    /// From a pong (or the opening) to the next ping.
    pub ping_interval_ms: u64,
    /// From a ping to the latest moment of its pong.
    pub ping_timeout_ms: u64,
    /// From a probe's WebSocket to its `5`.
    pub upgrade_timeout_ms: u64,
    /// How long a closed polling session waits for the GET that tells the client.
    pub close_timeout_ms: u64,
    /// The largest POST body, and about the largest answer to a GET, in bytes.
    pub max_payload: usize,
    /// What may wait for a client on polling, in bytes; past it the session is closed as a slow consumer.
    pub max_buffered_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ping_interval_ms: 25_000,
            ping_timeout_ms: 20_000,
            upgrade_timeout_ms: 10_000,
            close_timeout_ms: 30_000,
            max_payload: 1_000_000,
            max_buffered_bytes: 1 << 20,
        }
    }
}

/// What goes with every input: the shared settings, the present moment, and the list of what is to be done.
#[derive(Debug)]
pub struct Context<'a> {
    /// The gateway's settings.
    pub settings: &'a Settings,
    /// The present moment on a clock that never goes back.
    pub now_ms: u64,
    /// Outputs are appended here, to be done in their order.
    pub out: &'a mut Vec<Output>,
}

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Answer the GET that is waiting with 200 and this payload.
    AnswerGet(Bytes),
    /// Break the connection of the POST whose body is still arriving.
    AbortPost,
    /// Write this text message to the session's WebSocket.
    WriteMain(&'static str),
    /// Write this text message to the WebSocket that is probing.
    WriteProbe(&'static str),
    /// Close the WebSocket that is probing (empty close frame) and feed nothing of it here again; the session goes on over polling.
    CloseProbe,
    /// The probing WebSocket is the session's transport now: write these to it, in order, before anything else.
    Upgraded {
        /// The packets that waited for a GET.
        buffered: Vec<Outbound>,
    },
    /// Close the session's WebSocket with a close frame.
    CloseWebSocket {
        /// The frame's code; none is an empty frame.
        code: Option<u16>,
        /// The frame's reason.
        reason: &'static str,
    },
    /// The session carries no more messages in either direction. Comes exactly once.
    Closed(CloseReason),
    /// The session's id is unknown from now on: drop the session. Comes exactly once, after `Closed`, at once or when the client
    /// has been told.
    Forget,
}

/// Why a session ended, in the words of Node's `disconnect` event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The client closed, or its connection is gone.
    TransportClose,
    /// The client broke off a request, or broke the rules of its transport.
    TransportError,
    /// No pong in time.
    PingTimeout,
    /// The client sent what is no packet.
    ParseError,
    /// The gateway ended the session.
    ForcedClose,
    /// The gateway is going down.
    ServerShuttingDown,
    /// More was waiting for the client than the bound allows.
    SlowConsumer,
}

impl CloseReason {
    /// The reason as Node words it.
    pub fn as_str(self) -> &'static str {
        todo!()
    }
}

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// On polling.
    Polling,
    /// On polling, and a WebSocket is being tried.
    Probing,
    /// On a WebSocket.
    WebSocket,
    /// Closed, and waiting for a GET that tells the client.
    Closing,
    /// Gone.
    Closed,
}

/// What a client sent for the layer above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// The text after the packet's `4`.
    Text(&'a str),
    /// A binary message.
    Binary(Cow<'a, [u8]>),
}

/// What becomes of the GET that just arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GetVerdict {
    /// Answer it with 200 and this payload.
    Answer(Bytes),
    /// Keep it until [`Output::AnswerGet`].
    Wait,
    /// 400 with an empty body: another GET was waiting. The session is closed.
    Overlap,
    /// Refuse it with the refusal's status and JSON body.
    Refuse(Refusal),
}

/// How to answer a POST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostAnswer {
    /// 200, `Content-Type: text/html`, body `ok`.
    Ok,
    /// 400 with an empty body.
    BadRequest,
    /// 413 with an empty body; the session stays usable.
    TooLarge,
    /// Refuse it with the refusal's status and JSON body.
    Refuse(Refusal),
}

/// What becomes of a WebSocket that names this session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeVerdict {
    /// It probes: its messages go to [`Session::websocket_text`] and [`Session::websocket_binary`].
    Accept,
    /// Close it with an empty close frame, and feed nothing of it here.
    Close,
}

/// The body of a POST, of which [`Session::next_message`] takes one message at a time.
#[derive(Debug)]
pub struct Post<'a> {
    packets: Payload<'a>,
}

/// One session.
#[derive(Debug)]
pub struct Session {}

impl Session {
    /// A session opened by a GET on polling, which the driver answers with the open packet.
    pub fn polling(settings: &Settings, now_ms: u64) -> Self {
        let _ = (settings, now_ms);
        todo!()
    }

    /// A session opened directly on a WebSocket, to which the driver writes the open packet.
    pub fn websocket(settings: &Settings, now_ms: u64) -> Self {
        let _ = (settings, now_ms);
        todo!()
    }

    /// How messages to the client travel at present; also what [`super::verify`] asks of a known session.
    pub fn transport(&self) -> Transport {
        todo!()
    }

    /// Where the session stands.
    pub fn phase(&self) -> Phase {
        todo!()
    }

    /// A GET arrived.
    pub fn get(&mut self, context: &mut Context<'_>) -> GetVerdict {
        let _ = context;
        todo!()
    }

    /// The connection of the waiting GET broke off.
    pub fn get_aborted(&mut self, context: &mut Context<'_>) {
        let _ = context;
        todo!()
    }

    /// The head of a POST arrived. After `Ok` read its body (at most `max_payload` bytes) and come back with one of
    /// [`Session::post_body`], [`Session::post_too_large`], [`Session::post_aborted`].
    pub fn post_started(&mut self, content_type: Option<&str>, context: &mut Context<'_>) -> Result<(), PostAnswer> {
        let _ = (content_type, context);
        todo!()
    }

    /// The body of the POST is whole. After `Ok` take its messages with [`Session::next_message`], then answer [`PostAnswer::Ok`].
    pub fn post_body<'a>(&mut self, body: &'a [u8], context: &mut Context<'_>) -> Result<Post<'a>, PostAnswer> {
        let _ = (body, context);
        todo!()
    }

    /// The next message of a POST. Control packets are dealt with on the way; none once the body is used up or the session closed.
    pub fn next_message<'a>(&mut self, post: &mut Post<'a>, context: &mut Context<'_>) -> Option<Received<'a>> {
        let _ = (&mut post.packets, context);
        todo!()
    }

    /// The body of the POST is over the bound.
    pub fn post_too_large(&mut self) -> PostAnswer {
        todo!()
    }

    /// The connection of the POST broke off within its body.
    pub fn post_aborted(&mut self, context: &mut Context<'_>) {
        let _ = context;
        todo!()
    }

    /// A WebSocket arrived that names this session.
    pub fn probe_started(&mut self, context: &mut Context<'_>) -> ProbeVerdict {
        let _ = context;
        todo!()
    }

    /// A text message on the session's WebSocket, or on the one that probes.
    pub fn websocket_text<'a>(&mut self, text: &'a str, context: &mut Context<'_>) -> Option<Received<'a>> {
        let _ = (text, context);
        todo!()
    }

    /// A binary message on the session's WebSocket, or on the one that probes.
    pub fn websocket_binary<'a>(&mut self, data: &'a [u8], context: &mut Context<'_>) -> Option<Received<'a>> {
        let _ = (data, context);
        todo!()
    }

    /// The session's WebSocket, or the one that probes, is gone or has been closed by the driver (a frame that breaks the rules).
    pub fn websocket_closed(&mut self, reason: CloseReason, context: &mut Context<'_>) {
        let _ = (reason, context);
        todo!()
    }

    /// Keeps a message for the client's next GET. Goes out with [`Session::flush`], so that one answer carries a whole tick.
    ///
    /// Returns whether the session took it: not when it is on a WebSocket (write the frame there), closing or closed.
    pub fn send(&mut self, message: Outbound, context: &mut Context<'_>) -> bool {
        let _ = (message, context);
        todo!()
    }

    /// Answers the waiting GET with what is buffered, if there is both.
    pub fn flush(&mut self, context: &mut Context<'_>) {
        let _ = context;
        todo!()
    }

    /// When [`Session::on_timeout`] is to be called at the latest.
    pub fn next_deadline(&self) -> Option<u64> {
        todo!()
    }

    /// Does what is due by now; nothing if nothing is.
    pub fn on_timeout(&mut self, context: &mut Context<'_>) {
        let _ = context;
        todo!()
    }

    /// Ends the session from our side: a WebSocket gets a close frame with `code` and `text`, a polling client what is buffered and
    /// then a close packet, with this or its next GET.
    pub fn close(&mut self, reason: CloseReason, code: Option<u16>, text: &'static str, context: &mut Context<'_>) {
        let _ = (reason, code, text, context);
        todo!()
    }
}
