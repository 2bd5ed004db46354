//! What the servers of a cluster say to each other: a program's events for the other ones, and its handlers of theirs. As Socket.IO's server does it
//! (`serverSideEmit`); clients hear nothing of it.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::time::Duration;

use futures_util::FutureExt;
use hub::codes::ErrorCode;
use hub::emission::Payload;
use hub::names::{EventName, NamespaceId};
use serde_json::json;

use super::args::{Args, FromArgs, IntoArgs};
use super::broadcast::{Broadcast, Origin};
use super::namespace::{IntoReply, Namespace};
use super::program::Program;
use super::socket::{Error, event_name, payload};
use crate::cluster::{Bus, Unanswered};
use crate::gateway::Gateway;

/// What Node servers emit to themselves.
const RESERVED: [&str; 2] = ["connection", "new_namespace"];

/// A handler that listens, and what it answers.
pub(crate) type OnServerSide = dyn Fn(Broadcast, Args) -> Answering + Send + Sync;
type Answering = Pin<Box<dyn Future<Output = Result<Option<Args>, (ErrorCode, String)>> + Send>>;

/// A handler under way: it comes to the arguments of its answer.
pub(crate) type Hearing = Pin<Box<dyn Future<Output = Option<Payload>> + Send>>;

/// What the other servers of a cluster answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerReplies {
    /// The answer of each that gave one, in the order of arrival: one argument, `null` of those that do not listen to the event.
    pub given: Vec<Args>,
    /// How many did not answer in time.
    pub missing: usize,
}

impl Namespace {
    /// What to do with an event of this name that another server of the cluster emits for the servers: a program's
    /// [`server_side_emit`](Broadcast::server_side_emit), or the `serverSideEmit` of a Node server. The handler gets the namespace as
    /// [`Server::of`](super::Server::of) gives it, and the arguments; the first argument that it returns is the answer, if the other server wants one. Arguments that do
    /// not fit, and an error that it returns, are answered as `{error, code}`.
    ///
    /// Events are handled in the order in which they came, up to each handler's first `await` that has to wait; what comes before that must not block. A thousand
    /// handlers may be waiting, then events are dropped.
    pub fn on_server_side_emit<A, F, Fut, R>(mut self, event: &str, handler: F) -> Self
    where
        A: FromArgs + Send + 'static,
        F: Fn(Broadcast, A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = R> + Send + 'static,
        R: IntoReply,
    {
        let handler = move |namespace: Broadcast, args: Args| -> Answering {
            match args.read() {
                Ok(taken) => {
                    let under_way = handler(namespace, taken);
                    Box::pin(async move { under_way.await.into_reply().map_err(|why| (ErrorCode::Internal, why)) })
                }
                Err(error) => Box::pin(async move { Err((ErrorCode::BadField, error.to_string())) }),
            }
        };
        self.servers.insert(event.into(), Box::new(handler));
        self
    }
}

impl Program {
    /// What becomes of an event of another server's; `None` where nobody listens.
    pub(crate) fn hear(&self, gateway: &Gateway, namespace: &str, event: &str, payload: Payload) -> Option<Hearing> {
        let handlers = self.namespace(namespace).filter(|handlers| handlers.servers.contains_key(event))?.clone();
        let everyone = Broadcast::new(Origin::Program(gateway.clone(), namespace.into()));
        let event = event.to_owned();
        let hearing = async move {
            let handler = handlers.servers.get(&*event)?;
            let outcome = handler(everyone, Args(payload)).await;
            let answer = outcome.unwrap_or_else(|(code, why)| {
                tracing::debug!(event, why, "a handler of an event of another server failed");
                Some(failure(code, &why))
            });
            answer.map(|Args(payload)| payload)
        };
        let safe = AssertUnwindSafe(hearing).catch_unwind();
        Some(Box::pin(safe.map(|outcome| {
            outcome.unwrap_or_else(|_| {
                tracing::error!("a handler of the program's panicked");
                Some(failure(ErrorCode::Internal, "the handler panicked").0)
            })
        })))
    }
}

fn failure(code: ErrorCode, why: &str) -> Args {
    let failure = json!({ "error": why, "code": code.as_str() });
    Args(Payload::json(failure.to_string()))
}

impl Broadcast {
    /// Tells the other servers of the cluster of an event, those that have this namespace, and waits for nothing: their
    /// [handlers](Namespace::on_server_side_emit) get it, and the listeners of Node servers. Rooms, which are clients', say nothing here.
    ///
    /// # Errors
    /// The name or the arguments are no good; too much waits for the other nodes, or they cannot be reached at present.
    pub fn server_side_emit(&self, event: &str, args: impl IntoArgs) -> Result<(), Error> {
        let (event, payload) = (server_event(event)?, payload(args)?);
        match self.other_servers()? {
            Some((bus, namespace)) if !bus.server_side_emit(namespace, &event, &payload) => Err(Error::Unreachable),
            Some(_) | None => Ok(()),
        }
    }

    /// The same, and waits for the answer of each of them, until all have answered or the time is over.
    ///
    /// # Errors
    /// As for [`server_side_emit`](Self::server_side_emit). Answers that are missing are no error: they are counted.
    pub async fn server_side_emit_with_ack(
        &self,
        event: &str,
        args: impl IntoArgs,
        timeout: Duration,
    ) -> Result<ServerReplies, Error> {
        let (event, payload) = (server_event(event)?, payload(args)?);
        let Some((bus, namespace)) = self.other_servers()? else { return Ok(ServerReplies::default()) };
        let (given, missing) = match bus.server_side_emit_with_ack(namespace, &event, &payload, timeout).await {
            Ok(given) => (given, 0),
            Err(Unanswered { so_far, answered, others: Some(others) }) => (so_far, others.saturating_sub(answered)),
            Err(Unanswered { others: None, .. }) => return Err(Error::Unreachable),
        };
        Ok(ServerReplies { given: given.into_iter().map(Args).collect(), missing })
    }

    /// The way to the other servers; `None` where there can be none.
    fn other_servers(&self) -> Result<Option<(&Bus, NamespaceId)>, Error> {
        let Some(namespace) = self.namespace() else { return Ok(None) };
        let Some(bus) = self.gateway().publisher.bus_of(namespace) else { return Ok(None) };
        if bus.is_held() {
            return Err(Error::Unreachable);
        }
        if bus.is_full() {
            return Err(Error::Overloaded);
        }
        Ok(Some((bus, namespace)))
    }
}

fn server_event(name: &str) -> Result<EventName, Error> {
    if RESERVED.contains(&name) {
        return Err(Error::Name(format!("the event's name {name:?} is the server's own")));
    }
    event_name(name)
}
