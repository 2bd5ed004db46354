//! To whom a program's event goes: everyone, rooms, not these. Knows nothing of how it gets there.

use std::time::{Duration, Instant};

use hub::emission::{Emission, Except, Payload, Rooms, Sending, Target};
use hub::names::{NamespaceId, RoomName};

use super::args::{Args, IntoArgs};
use super::socket::{Error, Socket, event_name, payload, room_name};
use crate::cluster::{Bus, Clients, Unanswered, scope};
use crate::fanout::Done;
use crate::gateway::Gateway;
use crate::shard::inbox::{Act, Query};

/// Who sends.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// A socket; in order with what else is done through it.
    Socket {
        /// Which.
        socket: Socket,
        /// Whether it may get the event itself.
        included: bool,
    },
    /// The program, to a namespace.
    Program(Gateway, Box<str>),
}

/// An event for many, on its way to be addressed. Without a room it goes to everyone in the namespace.
#[derive(Debug, Clone)]
pub struct Broadcast {
    origin: Origin,
    rooms: Vec<String>,
    except: Vec<String>,
    volatile: bool,
}

/// What clients answered to an event for many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replies {
    /// The answers, in the order of arrival, those of this node's sockets first.
    pub given: Vec<Reply>,
    /// How many were asked and did not answer in time, or left.
    pub missing: usize,
    /// Whose sockets are missing as well, in words, where not all other nodes told in time how many they asked.
    pub missing_nodes: Option<String>,
}

/// What a client answered to an event for many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The public id of its socket; `None` for one of another node, which passes on nothing but the answer.
    pub socket: Option<String>,
    /// The answer; from another node its first argument alone.
    pub args: Args,
}

impl Broadcast {
    pub(crate) fn new(origin: Origin) -> Self {
        Self { origin, rooms: Vec::new(), except: Vec::new(), volatile: false }
    }

    /// Adds a room, or a socket by its id. Members of several get the event once.
    pub fn to(mut self, room: &str) -> Self {
        self.rooms.push(room.to_owned());
        self
    }

    /// Leaves the members of a room out, or a socket by its id.
    pub fn except(mut self, room: &str) -> Self {
        self.except.push(room.to_owned());
        self
    }

    /// Drops the event for clients that cannot take it at once.
    pub fn volatile(mut self) -> Self {
        self.volatile = true;
        self
    }

    /// Sends an event and waits for nothing.
    ///
    /// # Errors
    /// A name or the arguments are no good; the gateway is overloaded, and nobody gets it.
    pub fn emit(&self, event: &str, args: impl IntoArgs) -> Result<(), Error> {
        let sending = Sending { volatile: self.volatile, ..Sending::default() };
        match self.emission(event, payload(args)?, sending)? {
            Some(emission) => self.send(emission, None),
            None => Ok(()),
        }
    }

    /// Sends an event, waits while the gateway has no room for it, and until it is sent to or queued for everyone; how many those are. The
    /// way for a program that publishes as fast as it can.
    ///
    /// # Errors
    /// A name or the arguments are no good.
    pub async fn deliver(&self, event: &str, args: impl IntoArgs) -> Result<usize, Error> {
        let sending = Sending { volatile: self.volatile, ..Sending::default() };
        let payload = payload(args)?;
        self.settled().await;
        match self.emission(event, payload, sending)? {
            Some(emission) => Ok(self.gateway().publish(vec![emission]).await),
            None => Ok(0),
        }
    }

    /// Sends an event and collects the answers of all Socket.IO clients that get it, on all nodes, until all have answered or the time is over; a minute at most
    /// on other nodes.
    ///
    /// # Errors
    /// As for [`emit`](Self::emit). Answers that are missing are no error: they are counted.
    pub async fn emit_with_ack(&self, event: &str, args: impl IntoArgs, timeout: Duration) -> Result<Replies, Error> {
        let began = Instant::now();
        let acks = self.gateway().acks.clone();
        let mut question = acks.ask();
        let number = question.number();
        let sending = Sending { volatile: self.volatile, ack: Some(number), local: true };
        let Some(emission) = self.emission(event, payload(args)?, sending)? else { return Ok(Replies::default()) };
        let bus = self.gateway().publisher.bus_of(emission.namespace);
        if bus.is_some_and(|bus| bus.is_full() || bus.is_held()) {
            return Err(Error::Overloaded);
        }
        let elsewhere = bus.map(|bus| (bus, emission.clone()));
        self.send(emission, Some(Done::new(move |_| acks.all_asked(number))))?;
        let elsewhere = async {
            match elsewhere {
                Some((bus, emission)) => {
                    // Behind what was done through the socket before.
                    self.settled().await;
                    ask_elsewhere(bus, emission, timeout.saturating_sub(began.elapsed())).await
                }
                None => Ok(Clients::default()),
            }
        };
        // In time or not: what was answered is what there is.
        let (_, elsewhere) = tokio::join!(tokio::time::timeout(timeout, question.complete()), elsewhere);
        let here = question.take();
        let missing = here.asked - here.given.len().min(here.asked);
        let here =
            here.given.into_iter().map(|(id, payload)| Reply { socket: Some(id.to_string()), args: Args(payload) });
        let mut replies = Replies { given: here.collect(), missing, missing_nodes: None };
        let elsewhere = elsewhere.unwrap_or_else(|unanswered| {
            replies.missing_nodes = unanswered.is_anyone_silent().then(|| unanswered.to_string());
            unanswered.so_far
        });
        replies.missing = replies.missing.saturating_add(elsewhere.missing);
        replies.given.extend(elsewhere.given.into_iter().map(|payload| Reply { socket: None, args: Args(payload) }));
        Ok(replies)
    }

    /// The sockets that an event would go to now. Those whose namespace has no handlers of the program's are not among them.
    ///
    /// # Errors
    /// A name is no good.
    pub async fn sockets(&self) -> Result<Vec<Socket>, Error> {
        self.settled().await;
        let Some((namespace, target, except)) = self.audience()? else { return Ok(Vec::new()) };
        let parts = self.gateway().ask(|reply| Query::Sockets {
            namespace,
            target: target.clone(),
            except: except.clone(),
            reply,
        });
        Ok(parts.await.concat())
    }

    /// What was done through the socket before comes first.
    pub(super) async fn settled(&self) {
        match &self.origin {
            Origin::Socket { socket, .. } => socket.settled().await,
            Origin::Program(..) => {}
        }
    }

    pub(super) fn gateway(&self) -> &Gateway {
        match &self.origin {
            Origin::Socket { socket, .. } => &socket.0.gateway,
            Origin::Program(gateway, _) => gateway,
        }
    }

    fn send(&self, emission: Emission, done: Option<Done>) -> Result<(), Error> {
        match &self.origin {
            Origin::Socket { socket, .. } => socket.act(Act::Broadcast(emission, done)),
            Origin::Program(gateway, _) => Ok(gateway.publisher.try_publish(emission, done)?),
        }
    }

    fn emission(&self, event: &str, payload: Payload, sending: Sending) -> Result<Option<Emission>, Error> {
        let event = event_name(event)?;
        let audience = self.audience()?;
        Ok(audience.map(|(namespace, target, except)| Emission { namespace, target, except, event, payload, sending }))
    }

    /// `None` where nobody is in it, and it is not there.
    pub(super) fn namespace(&self) -> Option<NamespaceId> {
        match &self.origin {
            Origin::Socket { socket, .. } => Some(socket.0.namespace),
            Origin::Program(gateway, namespace) => gateway.namespaces.find(namespace),
        }
    }

    /// `None` where nobody is in the namespace.
    pub(super) fn audience(&self) -> Result<Option<(NamespaceId, Target, Except)>, Error> {
        let names =
            |names: &[String]| names.iter().map(|name| room_name(name)).collect::<Result<Vec<RoomName>, Error>>();
        let target = Rooms::new(names(&self.rooms)?).map_or(Target::Everyone, Target::Rooms);
        let mut except = Except { rooms: names(&self.except)?, sockets: Vec::new() };
        if let Origin::Socket { socket, included: false } = &self.origin {
            except.sockets.push(socket.0.id);
        }
        Ok(self.namespace().map(|namespace| (namespace, target, except)))
    }
}

async fn ask_elsewhere(bus: &Bus, emission: Emission, wait: Duration) -> Result<Clients, Unanswered<Clients>> {
    let Emission { namespace, target, except, event, payload, .. } = emission;
    bus.ask_clients(namespace, &event, &payload, scope(&target, &except), wait).await
}
