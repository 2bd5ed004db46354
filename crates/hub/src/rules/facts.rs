//! What the rules are told about the world, and what they say in return. Plain data; decides nothing.

use std::cell::OnceCell;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::codes::ErrorCode;
use crate::emission::{Emission, Payload};
use crate::names::{EventName, NamespaceId, RoomName, SocketId, UserId};

/// Who a connection is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The user; `None` for an anonymous client.
    pub id: Option<UserId>,
    /// The claims as one raw JSON object, with `id`, `email` and `role` normalised (`null` when absent).
    pub claims: Arc<str>,
}

impl User {
    /// Nobody: no id, no claims.
    pub fn anonymous() -> Self {
        Self { id: None, claims: Arc::from(r#"{"id":null,"email":null,"role":null}"#) }
    }
}

/// A fresh id, made when a rule first asks for it: most never do, and randomness and a text for each message would be felt.
pub struct FreshId<'a> {
    make: &'a dyn Fn() -> String,
    made: OnceCell<String>,
}

impl<'a> FreshId<'a> {
    /// An id that `make` will give.
    pub fn new(make: &'a dyn Fn() -> String) -> Self {
        Self { make, made: OnceCell::new() }
    }
}

/// The id that `{new.id}` stands for: the same wherever one decision asks for it.
#[derive(Clone, Copy)]
pub enum NewId<'a> {
    /// This one.
    Known(&'a str),
    /// One that is made if it is asked for.
    Fresh(&'a FreshId<'a>),
}

impl<'a> NewId<'a> {
    /// The id, which is there from now on.
    pub fn as_str(&self) -> &'a str {
        match *self {
            Self::Known(id) => id,
            Self::Fresh(fresh) => fresh.made.get_or_init(fresh.make),
        }
    }
}

impl Default for NewId<'_> {
    fn default() -> Self {
        Self::Known("")
    }
}

impl fmt::Debug for NewId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(id) => write!(f, "{id:?}"),
            Self::Fresh(fresh) => write!(f, "{:?}", fresh.made.get()),
        }
    }
}

/// What holds while one thing is decided.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The time, in milliseconds since 1970.
    pub now_unix_ms: u64,
    /// A fresh id, for `{new.id}` and for the message that a command publishes.
    pub new_id: NewId<'a>,
    /// The socket that acts, where one does.
    pub socket: Option<SocketId>,
    /// Who it is.
    pub user: &'a User,
}

/// Which input an event came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin<'a> {
    /// A queue of RabbitMQ's.
    Rabbitmq {
        /// The exchange that it was published to.
        exchange: &'a str,
        /// The queue that it was consumed from.
        queue: &'a str,
    },
    /// A channel of Redis's, which is the event's key, too.
    Redis {
        /// The channel.
        channel: &'a str,
    },
}

/// An event as it arrived.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// The input.
    pub origin: Origin<'a>,
    /// The routing key.
    pub key: &'a str,
    /// The body, as it came. Emissions share its bytes.
    pub body: &'a Bytes,
    /// The time, in milliseconds since 1970.
    pub now_unix_ms: u64,
    /// A fresh id, for `{new.id}`.
    pub new_id: NewId<'a>,
}

/// What becomes of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A route took it.
    Sent {
        /// What goes out, in order; empty where every target was optional and missing.
        emissions: Vec<Emission>,
        /// The event's own identity: where it was seen lately, nothing is sent again.
        once: Option<String>,
    },
    /// No route asks for it: ack it, count it by its key.
    Ignored {
        /// Why.
        reason: String,
    },
    /// It cannot be handled: keep it as a dead letter.
    Poison {
        /// What is wrong with it, with the field's name.
        reason: String,
    },
}

/// Something that a rule wants done, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send an event to the acting socket.
    ToSelf {
        /// Its name.
        event: EventName,
        /// Its arguments.
        payload: Payload,
    },
    /// Answer the client's acknowledgement.
    Ack {
        /// The arguments.
        payload: Payload,
    },
    /// Tell the client that its command failed: in the acknowledgement where it asked for one, else as an `error` event.
    Failed {
        /// The code.
        code: ErrorCode,
        /// What is wrong, in a sentence for the client's developer.
        message: String,
        /// The id under which the message may have been published, where the outcome is unknown.
        message_id: Option<String>,
    },
    /// Send an event to rooms or everyone.
    Emit(Emission),
}

/// What a new connection gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Welcome {
    /// The rooms that it is in from the start, each once.
    pub rooms: Vec<RoomName>,
    /// Those that it should have been in, too.
    pub left_out: LeftOut,
    /// What goes out, in order, after it is in them.
    pub effects: Vec<Effect>,
}

/// Rooms that a socket should be in by what is said of its user, and is not: somebody must look at who says it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// How many there are. What a list has past its bound counts once.
    pub count: usize,
    /// What is wrong with the first of them, without a value of the claims.
    pub first: String,
}

impl LeftOut {
    /// One more.
    pub(crate) fn note(&mut self, what: impl FnOnce() -> String) {
        if self.count == 0 {
            self.first = what();
        }
        self.count += 1;
    }
}

/// What a refreshed token changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refreshed {
    /// Rooms that the new claims give.
    pub join: Vec<RoomName>,
    /// Rooms that they no longer give.
    pub leave: Vec<RoomName>,
    /// Rooms that they should give, too.
    pub left_out: LeftOut,
}

/// A user whose presence changed.
#[derive(Debug, Clone, Copy)]
pub struct Presence<'a> {
    /// The user.
    pub id: &'a UserId,
    /// The rooms where the user was, or is.
    pub rooms: &'a [(NamespaceId, RoomName)],
    /// When the user was last seen, in milliseconds since 1970.
    pub last_seen_unix_ms: u64,
    /// The time, in milliseconds since 1970.
    pub now_unix_ms: u64,
}
