//! The words between a session and its driver: what goes in with every input, and what is to be done about it.
//! Decides nothing.

use std::borrow::Cow;

use super::{Outbound, PollBody, Refusal};

/// What all sessions of a gateway share.
#[derive(Clone, Debug)]
pub struct Settings {
    /// From the opening, and from each pong, to the next ping.
    pub ping_interval_ms: u64,
    /// From a ping to the latest moment of its pong.
    pub ping_timeout_ms: u64,
    /// From a probe's WebSocket to its `5`.
    pub upgrade_timeout_ms: u64,
    /// How long a closed polling session waits for the GET that tells the client, or for its WebSocket.
    pub close_timeout_ms: u64,
    /// The largest POST body, and the largest answer to a GET that joins several packets, in bytes.
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
    /// Answer the GET that is waiting with 200 and this body.
    AnswerGet(PollBody),
    /// Break the connection of the POST whose body is still arriving.
    AbortPost,
    /// Write this text message to the session's WebSocket.
    WriteMain(&'static str),
    /// Write this text message to the WebSocket that is probing.
    WriteProbe(&'static str),
    /// Close the WebSocket that is probing (empty close frame) and feed nothing of it here again. Alone, the session goes on over
    /// polling.
    CloseProbe,
    /// The probing WebSocket is the session's transport now: write these to it, in order, before anything else. May come after `Closed`,
    /// with [`Output::CloseWebSocket`] right behind it.
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

/// Why a session ended.
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
    /// The reason as Node words it in its `disconnect` event; the slow consumer is ours.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TransportClose => "transport close",
            Self::TransportError => "transport error",
            Self::PingTimeout => "ping timeout",
            Self::ParseError => "parse error",
            Self::ForcedClose => "forced close",
            Self::ServerShuttingDown => "server shutting down",
            Self::SlowConsumer => "slow consumer",
        }
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
    /// Closed, and waiting for a GET that tells the client, or for the WebSocket that it is moving to.
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
    /// Answer it with 200 and this body.
    Answer(PollBody),
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
    /// 400 with an empty body. The session is closed.
    BadRequest,
    /// 413 with an empty body; the session stays usable.
    TooLarge,
    /// Refuse it with the refusal's status and JSON body.
    Refuse(Refusal),
}

/// What becomes of a WebSocket that names this session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeVerdict {
    /// It probes: its messages go to [`super::Session::websocket_text`] and [`super::Session::websocket_binary`].
    Accept,
    /// Close it with an empty close frame, and feed nothing of it to the session.
    Close,
}
