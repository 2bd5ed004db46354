//! What waits for the other nodes as it is published: events, orders, questions and answers, in the words that all members share. Knows no queue.

use std::borrow::Borrow;
use std::sync::Arc;

use bytes::Bytes;
use hub::emission::{Emission, Except, Payload, Target};
use hub::names::{NamespaceId, RoomName};
use wire::bus::Decoded;
use wire::bus::broadcast::{Outgoing, Scope};
use wire::bus::request::{Asked, Request, Who};

use super::Shared;
use super::asking::Question;
use super::dialect::{self, Saying};
use super::outgoing::Entry;
use crate::fanout::Event;
use crate::sampled::Sampled;

/// What an event costs in the queue beside its payload.
const OVERHEAD_BYTES: usize = 256;

/// What a name costs beside its text; an id of a socket, which is as long, with it.
const NAME_BYTES: usize = 24;

/// How often something could not be said, for the log.
static UNSAYABLE: Sampled = Sampled::new();

/// What waits.
#[derive(Clone)]
pub(super) enum Item {
    Event(Arc<Event>),
    Order(Arc<Order>),
    Question(Arc<Question>),
    Answer(Arc<Answer>),
}

/// What the other nodes are to do.
pub(super) struct Order {
    pub(super) namespace: NamespaceId,
    pub(super) request: Request,
}

/// What somebody asked.
pub(super) struct Answer {
    pub(super) channel: String,
    pub(super) message: Bytes,
}

impl Item {
    /// What it takes of the queue's bound.
    pub(super) fn cost(&self) -> usize {
        match self {
            Self::Event(event) => event_size(&event.emission) + OVERHEAD_BYTES,
            Self::Order(order) => request_size(&order.request) + OVERHEAD_BYTES,
            Self::Question(question) => request_size(&question.request) + OVERHEAD_BYTES,
            Self::Answer(answer) => answer.message.len() + OVERHEAD_BYTES,
        }
    }
}

/// The rooms of an event can be far more than what it says.
fn event_size(Emission { target, except, payload, .. }: &Emission) -> usize {
    let target = match target {
        Target::Everyone => 0,
        Target::Rooms(rooms) => names_size(rooms.names()),
    };
    payload.size() + target + names_size(&except.rooms) + except.sockets.len() * NAME_BYTES
}

fn request_size(request: &Request) -> usize {
    let of_scope = |Scope { rooms, except }: &Scope| names_size(rooms) + names_size(except);
    let of = |who: &Who| match who {
        Who::Scope(scope) => of_scope(scope),
        Who::Socket(_) => NAME_BYTES,
    };
    let of_arguments =
        |Decoded { json, attachments }: &Decoded| json.len() + attachments.iter().map(Bytes::len).sum::<usize>();
    match request {
        Request::ServerSideEmit { arguments, .. } => of_arguments(arguments),
        Request::Broadcast { arguments, scope, .. } => of_arguments(arguments) + of_scope(scope),
        Request::Sockets { rooms } => names_size(rooms),
        Request::Join { who, rooms } | Request::Leave { who, rooms } => of(who) + names_size(rooms),
        Request::Disconnect { who, .. } => of(who),
        Request::Fetch { scope, .. } => of_scope(scope),
        Request::AllRooms => 0,
    }
}

fn names_size(names: &[impl Borrow<str>]) -> usize {
    names.iter().map(|name| name.borrow().len() + NAME_BYTES).sum()
}

/// What is published: the channel and the message. `None` where it is for no namespace that other nodes know, or cannot be said; or where it may have been
/// already, and must not be twice.
pub(super) fn message(shared: &Shared, entry: &Entry) -> Option<(String, Bytes)> {
    let said = match &entry.item {
        Item::Event(event) => event_message(shared, event, entry.number),
        // Who counts answers would count one for two.
        Item::Question(_) | Item::Answer(_) if entry.is_tried => return None,
        Item::Order(order) => request_message(shared, order.namespace, None, &order.request),
        Item::Question(question) => {
            request_message(shared, question.namespace, Some(question.id.clone()), &question.request)
        }
        Item::Answer(answer) => Ok(Some((answer.channel.clone(), answer.message.clone()))),
    };
    match said {
        Ok(said) => said,
        Err(error) => {
            shared.gateway.metrics.bus_dropped.inc("unsayable");
            if let Some(times) = UNSAYABLE.due() {
                tracing::warn!(%error, times, "what cannot be said to other nodes reached this node's members alone");
            }
            None
        }
    }
}

fn request_message(shared: &Shared, namespace: NamespaceId, id: Option<String>, request: &Request) -> Saying {
    let asked = Asked { uid: Some(shared.uid.clone()), id, request: request.clone() };
    dialect::request(shared, namespace, &asked)
}

/// Arguments as the bus has them.
pub(super) fn decoded(payload: &Payload) -> Decoded {
    Decoded { json: payload.json.to_vec(), attachments: payload.attachments.to_vec() }
}

pub(super) fn names(names: &[RoomName]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

/// Whom other members are to take it for.
pub fn scope(target: &Target, except: &Except) -> Scope {
    let rooms = match target {
        Target::Everyone => Vec::new(),
        Target::Rooms(rooms) => names(rooms.names()),
    };
    let sockets = except.sockets.iter().map(|id| id.as_str().to_owned());
    Scope { rooms, except: names(&except.rooms).into_iter().chain(sockets).collect() }
}

fn event_message(shared: &Shared, event: &Event, number: u64) -> Saying {
    let emission = &event.emission;
    let channels = shared.channels_of(emission.namespace);
    let (Some(channels), Ok(arguments)) = (channels, std::str::from_utf8(&emission.payload.json)) else {
        return Ok(None);
    };
    let scope = scope(&emission.target, &emission.except);
    let outgoing = Outgoing {
        uid: &shared.uid,
        namespace: &channels.name,
        event: emission.event.as_str(),
        arguments,
        attachments: &emission.payload.attachments,
        scope: &scope,
        volatile: emission.sending.volatile,
        number: Some(number),
    };
    dialect::event(shared, channels, &outgoing)
}

#[cfg(test)]
mod tests {
    use hub::emission::{Rooms, Sending};
    use hub::names::EventName;

    use super::*;

    #[test]
    fn names_count_as_what_they_take() {
        let names: Vec<String> = (0..1_000).map(|number| format!("{number:0255}")).collect();
        let rooms: Vec<RoomName> = names.iter().map(|name| RoomName::parse(name).expect("a name")).collect();
        let cost = |target: Target, except: Vec<RoomName>| {
            let except = Except { rooms: except, sockets: Vec::new() };
            let payload = Payload { json: Bytes::from_static(b"0"), attachments: [].into() };
            let event = EventName::parse("e").expect("a name");
            let sending = Sending::default();
            let emission = Emission { namespace: NamespaceId(0), target, except, event, payload, sending };
            Item::Event(Arc::new(Event { emission, done: None, version: None })).cost()
        };
        let all = || Target::Rooms(Rooms::new(rooms.clone()).expect("there are some"));
        assert!(cost(all(), Vec::new()) > 255_000);
        assert!(cost(Target::Everyone, rooms.clone()) > 255_000);
        assert!(cost(Target::Everyone, Vec::new()) < 1_000);
        let scope = |rooms: &[String]| Scope { rooms: rooms.to_vec(), except: rooms.to_vec() };
        let who = |rooms: &[String]| Who::Scope(scope(rooms));
        for request in [
            Request::Sockets { rooms: names.clone() },
            Request::Join { who: who(&[]), rooms: names.clone() },
            Request::Leave { who: who(&names), rooms: Vec::new() },
            Request::Disconnect { who: who(&names), close: true },
            Request::Fetch { scope: scope(&names), peers_only: false },
        ] {
            assert!(request_size(&request) > 255_000, "{request:?}");
        }
    }
}
