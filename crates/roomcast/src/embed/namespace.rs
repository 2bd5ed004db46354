//! What a program does in a namespace: its handlers, and how Rust functions become them. Runs none of them.

use std::collections::HashMap;
use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use hub::codes::ErrorCode;
use serde::Serialize;
use serde_json::Value;

use super::args::{Args, ArgsError, Binary, FromArgs, IntoArgs};
use super::handshake::Handshake;
use super::servers::OnServerSide;
use super::socket::{Answer, Socket};

/// What a handler has under way.
pub(crate) type Reaction = Pin<Box<dyn Future<Output = ()> + Send>>;

type Admit = dyn Fn(Arc<Handshake>) -> Pin<Box<dyn Future<Output = Result<(), Refused>> + Send>> + Send + Sync;
type OnConnect = dyn Fn(Socket) -> Reaction + Send + Sync;
type OnEvent = dyn Fn(Socket, Event) -> Reaction + Send + Sync;
type OnDisconnect = dyn Fn(Socket, &'static str) -> Reaction + Send + Sync;

/// Why a client is not let into a namespace: what its `connect_error` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub(crate) message: String,
    pub(crate) data: Option<String>,
}

impl Refused {
    /// With this message.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), data: None }
    }

    /// With details, which the client finds as `data` of the error; left out if they are no JSON.
    pub fn with_data(mut self, data: impl Serialize) -> Self {
        self.data = serde_json::to_string(&data).ok();
        self
    }
}

/// An event of a client's.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// Its arguments.
    pub args: Args,
    /// The way to answer it, where the client asked for an answer.
    pub answer: Option<Answer>,
}

impl Event {
    /// Reads the arguments.
    ///
    /// # Errors
    /// An argument is of another type; the error names it.
    pub fn read<T: FromArgs>(&self) -> Result<T, ArgsError> {
        self.args.read()
    }

    /// Answers, if the client asked for an answer that was not given yet.
    ///
    /// # Errors
    /// The arguments are no JSON, or the gateway is overloaded.
    pub fn answer(&self, args: impl IntoArgs) -> Result<(), super::Error> {
        self.answer.as_ref().map_or(Ok(()), |answer| answer.send(args))
    }
}

/// What a handler of events can take: the [`Event`] itself, with the way to answer it, or its arguments ([`FromArgs`]).
pub trait FromEvent: Sized {
    /// Takes what is needed out of the event.
    ///
    /// # Errors
    /// An argument is of another type; the error names it.
    fn from_event(event: &Event) -> Result<Self, ArgsError>;
}

impl FromEvent for Event {
    fn from_event(event: &Event) -> Result<Self, ArgsError> {
        Ok(event.clone())
    }
}

/// What a handler of events can give: nothing, or the arguments of the answer; or a [`Result`] of these, whose error the client is told.
pub trait IntoReply {
    /// The answer's arguments; `None` where nothing is answered.
    ///
    /// # Errors
    /// What the client is told.
    fn into_reply(self) -> Result<Option<Args>, String>;
}

impl IntoReply for () {
    fn into_reply(self) -> Result<Option<Args>, String> {
        Ok(None)
    }
}

impl<T: IntoReply, E: Display> IntoReply for Result<T, E> {
    fn into_reply(self) -> Result<Option<Args>, String> {
        self.map_err(|error| error.to_string())?.into_reply()
    }
}

macro_rules! takes {
    ($([$($generic:ident),*] $type:ty;)+) => {$(
        impl<$($generic: serde::de::DeserializeOwned),*> FromEvent for $type {
            fn from_event(event: &Event) -> Result<Self, ArgsError> {
                event.args.read()
            }
        }
    )+};
}

macro_rules! gives {
    ($([$($generic:ident),*] $type:ty;)+) => {$(
        impl<$($generic: Serialize),*> IntoReply for $type {
            fn into_reply(self) -> Result<Option<Args>, String> {
                self.into_args().map(Some).map_err(|error| error.to_string())
            }
        }
    )+};
}

takes! {
    [] Args; [] ();
    [A] (A,); [A, B] (A, B); [A, B, C] (A, B, C); [A, B, C, D] (A, B, C, D); [A, B, C, D, E] (A, B, C, D, E);
}

gives! {
    [] Args; [] &str; [] String; [] bool; [] i64; [] u64; [] f64; [] Value; [] Binary;
    [A] (A,); [A, B] (A, B); [A, B, C] (A, B, C); [A, B, C, D] (A, B, C, D); [A, B, C, D, E] (A, B, C, D, E);
}

/// What a program does in a namespace, to be given to [`Builder::namespace`](super::Builder::namespace).
///
/// A handler runs on the connection's own shard up to its first `await` that has to wait, in the order of what the client sent; from there on
/// it runs beside others on the program's runtime. So what comes before the first `await` is in order, and must not block.
#[derive(Default)]
pub struct Namespace {
    pub(crate) admit: Option<Box<Admit>>,
    pub(crate) connect: Option<Box<OnConnect>>,
    pub(crate) events: HashMap<Box<str>, Box<OnEvent>>,
    pub(crate) any: Option<Box<OnEvent>>,
    pub(crate) disconnect: Option<Box<OnDisconnect>>,
    pub(crate) servers: HashMap<Box<str>, Box<OnServerSide>>,
}

impl std::fmt::Debug for Namespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Namespace").field("events", &self.events.keys()).finish_non_exhaustive()
    }
}

impl Namespace {
    /// A namespace that lets everyone in and does nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decides who is let in. A client that is refused gets a `connect_error` and keeps its other namespaces.
    pub fn admit<F, Fut>(mut self, decide: F) -> Self
    where
        F: Fn(Arc<Handshake>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Refused>> + Send + 'static,
    {
        self.admit = Some(Box::new(move |handshake| Box::pin(decide(handshake))));
        self
    }

    /// What to do when a client has come in.
    pub fn on_connect<F, Fut>(mut self, handler: F) -> Self
    where
        F: Fn(Socket) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.connect = Some(Box::new(move |socket| Box::pin(handler(socket))));
        self
    }

    /// What to do with an event of this name. The handler takes what it asks for ([`FromEvent`]); what it returns is the answer, if the
    /// client wants one ([`IntoReply`]). Arguments that do not fit, and an error that it returns, are told to the client: in the answer as
    /// `{error, code}`, else as an `error` event.
    pub fn on<A, F, Fut, R>(mut self, event: &str, handler: F) -> Self
    where
        A: FromEvent + Send + 'static,
        F: Fn(Socket, A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = R> + Send + 'static,
        R: IntoReply,
    {
        self.events.insert(event.into(), Box::new(reacting(handler)));
        self
    }

    /// What to do with events of any other name. Without it they are ignored.
    pub fn on_any<F, Fut, R>(mut self, handler: F) -> Self
    where
        F: Fn(Socket, Event) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = R> + Send + 'static,
        R: IntoReply,
    {
        self.any = Some(Box::new(reacting(handler)));
        self
    }

    /// What to do when a client is gone from the namespace, and why (in the words of the Node server: `transport close`, `ping timeout`,
    /// `client namespace disconnect` and so on). It is in none of its rooms any more.
    pub fn on_disconnect<F, Fut>(mut self, handler: F) -> Self
    where
        F: Fn(Socket, &'static str) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.disconnect = Some(Box::new(move |socket, reason| Box::pin(handler(socket, reason))));
        self
    }

    pub(crate) fn handler_of(&self, event: &str) -> Option<&OnEvent> {
        self.events.get(event).or(self.any.as_ref()).map(|handler| &**handler)
    }
}

fn reacting<A, F, Fut, R>(handler: F) -> impl Fn(Socket, Event) -> Reaction + Send + Sync + 'static
where
    A: FromEvent + Send + 'static,
    F: Fn(Socket, A) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = R> + Send + 'static,
    R: IntoReply,
{
    move |socket, event| match A::from_event(&event) {
        Ok(taken) => {
            let answer = event.answer;
            let under_way = handler(socket.clone(), taken);
            Box::pin(async move {
                match under_way.await.into_reply() {
                    Ok(Some(args)) => {
                        if let Some(answer) = answer {
                            answer.deliver(args).await;
                        }
                    }
                    Ok(None) => {}
                    Err(message) => socket.tell_failure(answer, ErrorCode::Internal, message).await,
                }
            })
        }
        Err(error) => Box::pin(async move {
            socket.tell_failure(event.answer, ErrorCode::BadField, error.to_string()).await;
        }),
    }
}
