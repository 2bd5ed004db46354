//! A socket in the hands of a program: what is done with it goes to its shard, in order. Holds no connection.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use hub::codes::ErrorCode;
use hub::emission::{Payload, Sending};
use hub::names::{EventName, NamespaceId, RoomName, SocketId};
use tokio::sync::oneshot;
use wire::socketio::RESERVED_EVENTS;

use super::args::{Args, ArgsError, IntoArgs};
use super::broadcast::{Broadcast, Origin};
use super::handshake::Handshake;
use super::namespace::Namespace;
use crate::acks::Question;
use crate::gateway::Gateway;
use crate::shard::inbox::{Act, ConnectionKey, Deed, Full, Inbox};

/// Handlers of one socket that may be waiting at a time; events beyond are answered `busy`.
pub(crate) const REACTIONS_MAX: u32 = 1_000;

/// Why something cannot be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The name of an event or room is empty, longer than 255 bytes, or holds control characters.
    Name(String),
    /// The arguments cannot be written as JSON.
    Args(ArgsError),
    /// The gateway is overloaded: what waits in the shard has reached its bound. Nothing was sent.
    Overloaded,
    /// No answer in time.
    Timeout,
    /// The client cannot be asked: it speaks plain JSON, which has no answers, or owes as many as it may.
    Unasked,
    /// The socket is gone.
    Disconnected,
    /// The other nodes of the cluster cannot be reached at present: Redis is away, or too much is asked of them. They were told nothing.
    Unreachable,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(text) => f.write_str(text),
            Self::Args(error) => error.fmt(f),
            Self::Overloaded => f.write_str("the gateway is overloaded; try again"),
            Self::Timeout => f.write_str("no answer in time"),
            Self::Unasked => f.write_str("the client cannot be asked"),
            Self::Disconnected => f.write_str("the socket is gone"),
            Self::Unreachable => f.write_str("the other nodes of the cluster cannot be reached; try again"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Full> for Error {
    fn from(Full: Full) -> Self {
        Self::Overloaded
    }
}

pub(crate) fn event_name(name: &str) -> Result<EventName, Error> {
    if RESERVED_EVENTS.contains(&name) {
        return Err(Error::Name(format!("the event's name {name:?} is the client's own")));
    }
    EventName::parse(name).map_err(|error| Error::Name(format!("the event's name {error}")))
}

pub(crate) fn room_name(name: &str) -> Result<RoomName, Error> {
    RoomName::parse(name).map_err(|error| Error::Name(format!("the room's name {error}")))
}

pub(crate) fn payload(args: impl IntoArgs) -> Result<Payload, Error> {
    args.into_args().map(|args| args.0).map_err(Error::Args)
}

/// One client in one namespace. Cheap to clone, usable from any thread; what is done through it happens in that order, also when it is
/// kept beyond the client's stay: then nothing happens.
#[derive(Clone)]
pub struct Socket(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) gateway: Gateway,
    pub(crate) handlers: Arc<Namespace>,
    pub(crate) id: SocketId,
    pub(crate) namespace: NamespaceId,
    pub(crate) shard: usize,
    pub(crate) connection: ConnectionKey,
    pub(crate) handshake: Arc<Handshake>,
    pub(crate) connected: AtomicBool,
    /// Handlers that wait for something.
    pub(crate) reactions: AtomicU32,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("id", &self.0.id).field("namespace", &self.namespace()).finish_non_exhaustive()
    }
}

impl Socket {
    /// Its public id, 20 characters; also the name of a room that it alone is in.
    pub fn id(&self) -> &str {
        self.0.id.as_str()
    }

    /// The name of its namespace.
    pub fn namespace(&self) -> &str {
        self.0.handshake.namespace()
    }

    /// What the client said of itself when it came, and a place for values of the program's own.
    pub fn handshake(&self) -> &Handshake {
        &self.0.handshake
    }

    /// Whether it is still there.
    pub fn is_connected(&self) -> bool {
        self.0.connected.load(Ordering::Acquire)
    }

    /// Sends an event.
    ///
    /// # Errors
    /// A name or the arguments are no good, or the gateway is overloaded.
    pub fn emit(&self, event: &str, args: impl IntoArgs) -> Result<(), Error> {
        self.send(event, args, Sending::default())
    }

    /// Sends an event that is dropped if the client cannot take it at once: its socket is full, or no poll of it waits.
    ///
    /// # Errors
    /// As for [`emit`](Self::emit).
    pub fn emit_volatile(&self, event: &str, args: impl IntoArgs) -> Result<(), Error> {
        self.send(event, args, Sending { volatile: true, ..Sending::default() })
    }

    /// Sends an event and waits for the client's answer.
    ///
    /// # Errors
    /// As for [`emit`](Self::emit); no answer in time; the client cannot be asked; the socket is gone.
    pub async fn emit_with_ack(&self, event: &str, args: impl IntoArgs, timeout: Duration) -> Result<Args, Error> {
        let mut question = self.ask(event, args)?;
        let in_time = tokio::time::timeout(timeout, question.complete()).await.is_ok();
        match question.take().given.pop() {
            Some((_, payload)) => Ok(Args(payload)),
            None if in_time && self.is_connected() => Err(Error::Unasked),
            None if in_time => Err(Error::Disconnected),
            None => Err(Error::Timeout),
        }
    }

    fn ask(&self, event: &str, args: impl IntoArgs) -> Result<Question, Error> {
        let question = self.0.gateway.acks.ask();
        self.send(event, args, Sending { ack: Some(question.number()), ..Sending::default() })?;
        Ok(question)
    }

    fn send(&self, event: &str, args: impl IntoArgs, sending: Sending) -> Result<(), Error> {
        self.act(Act::Emit { event: event_name(event)?, payload: payload(args)?, sending })
    }

    /// To the members of a room, but not to this socket.
    pub fn to(&self, room: &str) -> Broadcast {
        self.broadcast().to(room)
    }

    /// To everyone in the namespace but this socket.
    pub fn broadcast(&self) -> Broadcast {
        Broadcast::new(Origin::Socket { socket: self.clone(), included: false })
    }

    /// To everyone in the namespace, this socket included.
    pub fn everyone(&self) -> Broadcast {
        Broadcast::new(Origin::Socket { socket: self.clone(), included: true })
    }

    /// Puts it into a room. A socket that is in as many as it may be stays out, which is logged.
    ///
    /// # Errors
    /// The name is no good, or the gateway is overloaded.
    pub fn join(&self, room: &str) -> Result<(), Error> {
        self.act(Act::Join(room_name(room)?))
    }

    /// Takes it out of a room.
    ///
    /// # Errors
    /// The name is no good, or the gateway is overloaded.
    pub fn leave(&self, room: &str) -> Result<(), Error> {
        self.act(Act::Leave(room_name(room)?))
    }

    /// The rooms that it is in, without the one of its own id.
    pub async fn rooms(&self) -> Vec<String> {
        let (sender, receiver) = oneshot::channel();
        // Not an event: it needs no room in the inbox.
        let _ = self.act(Act::Rooms(sender));
        receiver.await.unwrap_or_default().iter().map(RoomName::to_string).collect()
    }

    /// Waits until everything that was done through it so far has happened: members that joined are reached by broadcasts from elsewhere.
    pub async fn settled(&self) {
        self.rooms().await;
    }

    /// Ends its stay in the namespace for good: stock clients do not come back by themselves. The connection is kept,
    /// but for that of a plain JSON client, which ends.
    pub fn disconnect(&self) {
        let _ = self.act(Act::Disconnect { close: false });
    }

    /// Ends its stay in every namespace, and the connection with it.
    pub fn disconnect_connection(&self) {
        let _ = self.act(Act::Disconnect { close: true });
    }

    /// Waits while the gateway has no room for it.
    pub(crate) async fn tell_failure(&self, answer: Option<Answer>, code: ErrorCode, message: String) {
        let ack = answer.and_then(|answer| answer.take());
        self.inbox().deliver_act(self.deed(Act::Fail { ack, code, message })).await;
    }

    pub(crate) fn act(&self, act: Act) -> Result<(), Error> {
        Ok(self.inbox().act(self.deed(act))?)
    }

    fn inbox(&self) -> &Inbox {
        &self.0.gateway.publisher.inboxes()[self.0.shard]
    }

    fn deed(&self, act: Act) -> Deed {
        Deed { connection: self.0.connection, socket: Some((self.0.namespace, self.0.id)), act }
    }
}

/// The way to answer an event, once: whoever of its clones is first.
#[derive(Debug, Clone)]
pub struct Answer {
    socket: Socket,
    number: u64,
    given: Arc<AtomicBool>,
}

impl Answer {
    pub(crate) fn new(socket: Socket, number: u64) -> Self {
        Self { socket, number, given: Arc::default() }
    }

    /// Answers, if that was not done yet.
    ///
    /// # Errors
    /// The arguments are no JSON, or the gateway is overloaded.
    pub fn send(&self, args: impl IntoArgs) -> Result<(), Error> {
        let payload = payload(args)?;
        let Some(ack) = self.take() else { return Ok(()) };
        // What was not sent can be sent later.
        self.socket.act(Act::Answer { ack, payload }).inspect_err(|_| self.given.store(false, Ordering::Release))
    }

    /// The same, but waits while the gateway has no room for it. A socket that is gone meanwhile needs no answer.
    pub(crate) async fn deliver(&self, Args(payload): Args) {
        if let Some(ack) = self.take() {
            self.socket.inbox().deliver_act(self.socket.deed(Act::Answer { ack, payload })).await;
        }
    }

    /// The number to answer, for the first who asks.
    fn take(&self) -> Option<u64> {
        (!self.given.swap(true, Ordering::AcqRel)).then_some(self.number)
    }
}
