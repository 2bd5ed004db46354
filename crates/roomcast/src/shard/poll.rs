//! What HTTP tells a shard about one of its sessions, from whatever TCP connection and shard it came. Types only.

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::Bytes;
use hub::names::NamespaceId;
use tokio::sync::oneshot;
use wire::engine::{Known, PollBody, Polls, Post, Revision};

use super::ids::SessionId;

use super::front::Seat;
use super::transport::Tls;
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

/// A polling request for the shard.
pub enum PollRequest {
    /// A new session.
    Open {
        /// Who the client says it is.
        handshake: Box<Handshake>,
        /// Where it is, behind trusted proxies.
        address: IpAddr,
        /// Which endpoint of the profile it came to.
        endpoint: usize,
        /// How its polls are written.
        polls: Polls,
        /// Its place among the connections of this node, where they are limited.
        seat: Option<Seat>,
        /// The answer.
        reply: oneshot::Sender<PollReply>,
    },
    /// For a session of the shard.
    Session {
        /// What the request says of its session.
        named: Named,
        /// What is asked.
        kind: PollKind,
        /// The answer. A sender that is dropped stands for 400.
        reply: oneshot::Sender<PollReply>,
    },
    /// The node by which a session's client comes is about to go, or has lost that client.
    Leaving {
        /// The session.
        sid: SessionId,
        /// What goes through that node.
        what: Passage,
    },
}

/// What of a session goes through another node, and is about to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// The GET that waits.
    Poll,
    /// Its WebSocket.
    WebSocket,
    /// The client itself: it went away before its GET was answered, or even sent on.
    Client,
}

/// A session as a request names it. Its owner knows whether the request fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named {
    /// The session.
    pub sid: SessionId,
    /// Which endpoint of the profile the request came to.
    pub endpoint: usize,
    /// The transport and revision that the request is for.
    pub asked: Known,
    /// Whether the request asks for a WebSocket.
    pub upgrade: bool,
}

/// What a polling request asks.
pub enum PollKind {
    /// GET: packets, as soon as there are any.
    Get,
    /// The GET that is pending was dropped by its client.
    Aborted,
    /// POST: its head is here.
    PostStarted {
        /// Whether its body is said to be binary.
        binary: bool,
        /// Told when the connection of the POST is to be broken off.
        abort: oneshot::Sender<()>,
    },
    /// POST: its body is here.
    Post {
        /// The body.
        body: Bytes,
        /// Whether it is said to be binary.
        binary: bool,
        /// Whether [`PollKind::PostStarted`] went before.
        started: bool,
    },
    /// POST: what is left of its body after a helping of messages. The shard asks itself, so that others have their turn in between.
    PostRest(Post),
    /// POST: its body will never be complete.
    PostAborted,
    /// POST: its body is over the limit.
    PostTooLarge {
        /// Whether it is said to be binary.
        binary: bool,
        /// Whether [`PollKind::PostStarted`] went before.
        started: bool,
    },
    /// Is there such a session, and does the request fit it?
    Fits,
}

/// The answer to a polling request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PollReply {
    /// 200: the session is open.
    Opened {
        /// The handshake's answer.
        body: PollBody,
        /// The session's id, for a cookie.
        sid: SessionId,
    },
    /// 200: packets.
    Packets(PollBody),
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
}

/// A WebSocket whose handshake is over, on its way to its shard.
pub struct Adopted {
    /// The socket, non-blocking.
    pub socket: OwnedFd,
    /// How it begins.
    pub beginning: Beginning,
}

/// How a WebSocket begins, after its handshake.
pub struct Beginning {
    /// TLS over it.
    pub tls: Option<Tls>,
    /// What came with the handshake already.
    pub leftover: Bytes,
    /// Compression, where it was agreed upon.
    pub deflate: Option<wire::ws::Deflate>,
    /// What it is to become.
    pub role: Role,
    /// Its place among the connections of this node, where they are limited.
    pub seat: Option<Seat>,
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
        /// The revision that it speaks.
        revision: Revision,
    },
    /// The next transport of a polling session.
    Upgrade {
        /// The session.
        sid: SessionId,
        /// Which endpoint of the profile it came to.
        endpoint: usize,
    },
    /// Nothing: it is told so by a close frame.
    Unwanted,
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
