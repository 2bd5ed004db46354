//! What HTTP tells a shard about one of its sessions, from whatever TCP connection and shard it came. Types only.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;
use hub::names::NamespaceId;
use tokio::sync::oneshot;

use crate::embed;

/// Who a client says it is, beside what it may still say in its first message.
#[derive(Debug, Default)]
pub struct Handshake {
    /// The token of the `Authorization` header, the query or the subprotocol.
    pub token: Option<Box<str>>,
    /// `?userId=`, which names the user where access is open.
    pub user_id: Option<Box<str>>,
    /// The request, where a program may look at it.
    pub request: Option<Arc<embed::Request>>,
}

/// A polling request for a session of the shard.
pub struct PollRequest {
    /// The session; empty for a handshake.
    pub sid: Box<str>,
    /// What is asked.
    pub kind: PollKind,
    /// The answer. A sender that is dropped stands for 400.
    pub reply: oneshot::Sender<PollReply>,
}

/// What a polling request asks.
pub enum PollKind {
    /// A new session.
    Open {
        /// Who the client says it is.
        handshake: Box<Handshake>,
        /// Where it is, behind trusted proxies.
        address: IpAddr,
        /// Which endpoint of the profile it came to.
        endpoint: usize,
    },
    /// GET: packets, as soon as there are any.
    Get,
    /// The GET that is pending was dropped by its client.
    Aborted,
    /// POST: its head is here.
    PostStarted {
        /// Whether its body is said to be binary.
        binary: bool,
    },
    /// POST: its body is here.
    Post {
        /// The body.
        body: Bytes,
        /// Whether [`PollKind::PostStarted`] went before.
        started: bool,
    },
    /// POST: its body will never be complete.
    PostAborted,
    /// POST: its body is over the limit.
    PostTooLarge,
    /// May a WebSocket take the session over?
    Upgrade,
}

/// The answer to a polling request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PollReply {
    /// 200, `text/plain; charset=UTF-8`: packets, or the handshake.
    Packets(Bytes),
    /// 200, `text/html`: `ok`.
    Ok,
    /// No such session.
    UnknownSession,
    /// The session is on another transport, or the request does not fit.
    BadRequest,
    /// The session is over because of this request: 400, empty.
    Gone,
    /// 413, empty.
    TooLarge,
    /// 503: the node is full or ending.
    Unavailable,
}

/// A WebSocket whose handshake is over, on its way to its shard.
pub struct Adopted {
    /// The socket, non-blocking.
    pub socket: OwnedFd,
    /// What came with the handshake already.
    pub leftover: Bytes,
    /// Compression, where it was agreed upon.
    pub deflate: Option<wire::ws::Deflate>,
    /// What it is to become.
    pub role: Role,
}

/// What an adopted WebSocket is to become.
pub enum Role {
    /// A new Socket.IO session.
    SocketIo {
        /// Who the client says it is.
        handshake: Box<Handshake>,
        /// Where it is.
        address: IpAddr,
        /// Which endpoint of the profile it came to.
        endpoint: usize,
    },
    /// The next transport of a polling session.
    Upgrade {
        /// The session.
        sid: Box<str>,
        /// Which endpoint of the profile it came to.
        endpoint: usize,
    },
    /// A plain JSON connection.
    Json {
        /// Who the client says it is.
        handshake: Box<Handshake>,
        /// Where it is.
        address: IpAddr,
        /// Which endpoint of the profile it came to.
        endpoint: usize,
        /// The namespace that the path stands for.
        namespace: NamespaceId,
    },
}
