//! Connections below Socket.IO: messages over Engine.IO, or over a WebSocket with nothing in between. Knows neither sessions nor frames.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;

use super::handshake::Request;
use super::namespace::Reaction;
use super::socket::Error;
use crate::shard::inbox::{Act, ConnectionKey, Deed, Inbox};

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Bytes),
}

/// One client. Cheap to clone, usable from any thread; what is done through it happens in that order.
#[derive(Clone)]
pub struct Connection(pub(crate) Arc<Link>);

pub(crate) struct Link {
    pub(crate) inbox: Inbox,
    pub(crate) key: ConnectionKey,
    pub(crate) request: Arc<Request>,
    pub(crate) handlers: Arc<Messages>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("key", &self.0.key).finish_non_exhaustive()
    }
}

impl Connection {
    /// The request with which it was opened.
    pub fn request(&self) -> &Request {
        &self.0.request
    }

    /// Sends a message; nothing happens once the client is gone.
    ///
    /// # Errors
    /// The gateway is overloaded.
    pub fn send(&self, message: Message) -> Result<(), Error> {
        self.act(Act::Message(message))
    }

    /// Ends the connection.
    pub fn close(&self) {
        let _ = self.act(Act::Close);
    }

    fn act(&self, act: Act) -> Result<(), Error> {
        Ok(self.0.inbox.act(Deed { connection: self.0.key, socket: None, act })?)
    }
}

type OnOpen = dyn Fn(Connection) -> Reaction + Send + Sync;
type OnMessage = dyn Fn(Connection, Message) -> Reaction + Send + Sync;
type OnClose = dyn Fn(Connection, &'static str) -> Reaction + Send + Sync;

/// What a program does with connections below Socket.IO, to be given to [`Builder::engine_io`](super::Builder::engine_io) or
/// [`Builder::websocket`](super::Builder::websocket). Handlers run as those of a [`Namespace`](super::Namespace) do.
#[derive(Default)]
pub struct Messages {
    pub(crate) open: Option<Box<OnOpen>>,
    pub(crate) message: Option<Box<OnMessage>>,
    pub(crate) close: Option<Box<OnClose>>,
}

impl fmt::Debug for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messages").finish_non_exhaustive()
    }
}

impl Messages {
    /// Takes connections and ignores what they say.
    pub fn new() -> Self {
        Self::default()
    }

    /// What to do when a client has come.
    pub fn on_open<F, Fut>(mut self, handler: F) -> Self
    where
        F: Fn(Connection) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.open = Some(Box::new(move |connection| Box::pin(handler(connection))));
        self
    }

    /// What to do with a message.
    pub fn on_message<F, Fut>(mut self, handler: F) -> Self
    where
        F: Fn(Connection, Message) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.message = Some(Box::new(move |connection, message| Box::pin(handler(connection, message))));
        self
    }

    /// What to do when a client is gone, and why.
    pub fn on_close<F, Fut>(mut self, handler: F) -> Self
    where
        F: Fn(Connection, &'static str) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.close = Some(Box::new(move |connection, reason| Box::pin(handler(connection, reason))));
        self
    }
}
