//! The calls of the server API: backend services publish, ask who is where, and disconnect. Who may is decided by one key. Knows neither of its
//! dialects, HTTP (`api`) and gRPC (`grpc`), nor how events reach their members.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};
use hub::codes::ErrorCode;
use hub::emission::{Emission, Except, Payload, Rooms, Sending, Target};
use hub::names::{EventName, NameError, NamespaceId, RoomName, SocketId};
use hub::rules::iso_8601;
use subtle::ConstantTimeEq as _;
use tokio::time::timeout;

use super::Ops;
use crate::shard::inbox::{Member, Whom};

/// Rooms that one publish may name, and rooms that it may leave out.
const ROOMS_MAX: usize = 1_000;

/// How long a publish waits for room.
const ROOM_MAX: Duration = Duration::from_secs(5);

/// Events that Socket.IO keeps for itself: a stock client would take them for its own.
const RESERVED_EVENTS: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// A call that is not carried out, in the words of HTTP.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) code: ErrorCode,
    pub(super) message: String,
}

impl Refused {
    /// What may be possible later.
    fn later(code: ErrorCode, message: &str) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, code, message: message.to_owned() }
    }

    /// A field that is wrong.
    pub(super) fn field(name: &str, what: &str) -> Self {
        let message = format!("field {name:?} {what}");
        Self { status: StatusCode::BAD_REQUEST, code: ErrorCode::BadField, message }
    }
}

/// Lets in who has the key.
///
/// # Errors
/// The request is without it, or has a wrong one, or there is none.
pub(super) fn let_in(ops: &Ops, headers: &HeaderMap) -> Result<(), Refused> {
    let Some(key) = &ops.gateway.profile.api_key else {
        let message = "the server API is closed: set API_KEY to open it".to_owned();
        return Err(Refused { status: StatusCode::FORBIDDEN, code: ErrorCode::Forbidden, message });
    };
    let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given =
        given.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let message = match given {
        // In constant time, so that nobody finds the key letter by letter.
        Some((_, given)) if bool::from(given.trim().as_bytes().ct_eq(key.reveal().as_bytes())) => return Ok(()),
        Some(_) => "the key is wrong",
        None => "a key is needed: Authorization: Bearer $API_KEY",
    };
    let message = message.to_owned();
    Err(Refused { status: StatusCode::UNAUTHORIZED, code: ErrorCode::Unauthenticated, message })
}

/// Whom a publish is for.
#[derive(Debug)]
pub(super) enum To {
    Everyone,
    /// Those in any of these rooms; none of them is nobody.
    Rooms(Vec<String>),
}

/// What a publish asks for.
#[derive(Debug)]
pub(super) struct Publish {
    pub(super) event: String,
    pub(super) namespace: Option<String>,
    pub(super) to: To,
    /// Rooms, and public ids of sockets.
    pub(super) except: Vec<String>,
    /// JSON, or nothing.
    pub(super) data: Bytes,
}

/// Publishes, and waits until every member on this node has it sent or queued; how many these are.
pub(super) async fn publish(ops: &Ops, asked: Publish) -> Result<usize, Refused> {
    let emissions = emissions(ops, asked)?;
    let Some(emission) = emissions.first() else { return Ok(0) };
    tracing::trace!(event = %emission.event, target = ?emission.target, bytes = emission.payload.size(), "published by the server API");
    let publisher = &ops.gateway.publisher;
    if publisher.is_held() {
        return Err(Refused::later(ErrorCode::TryAgain, "the other nodes of the cluster cannot be reached; try again"));
    }
    if timeout(ROOM_MAX, publisher.until_room(&emissions)).await.is_err() {
        return Err(Refused::later(ErrorCode::Busy, "the gateway is overloaded; try again"));
    }
    Ok(ops.gateway.publish(emissions).await)
}

/// What a publish comes to, namespace by namespace; nothing where it names nobody.
fn emissions(ops: &Ops, asked: Publish) -> Result<Vec<Emission>, Refused> {
    let Publish { event, namespace, to, except, data } = asked;
    if RESERVED_EVENTS.contains(&event.as_str()) {
        return Err(Refused::field("event", "is a name that Socket.IO keeps for itself"));
    }
    let event = EventName::parse(&event).map_err(|error| Refused::field("event", &error.to_string()))?;
    let namespaces = namespaces(ops, namespace.as_deref())?;
    let except_rooms = room_names("except", &except)?;
    let target = match to {
        To::Everyone => Target::Everyone,
        To::Rooms(names) => match Rooms::new(room_names("rooms", &names)?) {
            Some(rooms) => Target::Rooms(rooms),
            None => return Ok(Vec::new()),
        },
    };
    // A name of that shape may be a socket's; where it is none, it leaves nobody out.
    let sockets = except.iter().filter_map(|name| SocketId::parse(name)).collect();
    let except = Except { rooms: except_rooms, sockets };
    let payload = Payload::json(data);
    let of = |namespace| Emission {
        namespace,
        target: target.clone(),
        except: except.clone(),
        event: event.clone(),
        payload: payload.clone(),
        sending: Sending::default(),
    };
    Ok(namespaces.into_iter().map(of).collect())
}

fn room_names(field: &str, names: &[String]) -> Result<Vec<RoomName>, Refused> {
    if names.len() > ROOMS_MAX {
        return Err(Refused::field(field, &format!("has {} entries, of at most {ROOMS_MAX}", names.len())));
    }
    let parse = |name: &String| {
        RoomName::parse(name)
            .map_err(|error: NameError| Refused::field(field, &format!("has a name that {error}: {name:?}")))
    };
    names.iter().map(parse).collect()
}

/// The namespace of this name; without one all that the profile has: who publishes to a room knows whom it is for, and not which way in they took.
fn namespaces(ops: &Ops, name: Option<&str>) -> Result<Vec<NamespaceId>, Refused> {
    let rules = &ops.gateway.profile.rules;
    match name {
        None => Ok(rules.namespace_ids()),
        Some(name) => rules.namespace(name).map(|namespace| vec![namespace]).ok_or_else(|| {
            let known: Vec<String> = rules.namespaces().iter().map(|known| format!("{known:?}")).collect();
            Refused::field("namespace", &format!("names {name:?}, but there is only {}", known.join(", ")))
        }),
    }
}

/// Every room with the number of its members, of one namespace or of all together.
pub(super) async fn rooms(ops: &Ops, namespace: Option<&str>) -> Result<BTreeMap<String, usize>, Refused> {
    let namespaces = namespaces(ops, namespace)?;
    Ok(ops.gateway.rooms(&namespaces).await)
}

/// The members of a room, in one namespace or in all of them.
pub(super) async fn room(ops: &Ops, namespace: Option<&str>, name: &str) -> Result<Vec<Member>, Refused> {
    let namespaces = namespaces(ops, namespace)?;
    let room = RoomName::parse(name).map_err(|error| Refused::field("room", &error.to_string()))?;
    let mut members = Vec::new();
    for namespace in namespaces {
        members.extend(ops.gateway.room(namespace, &room).await);
    }
    Ok(members)
}

/// Where a user is.
#[derive(Debug)]
pub(super) struct Presence {
    pub(super) online: bool,
    /// In ISO 8601; `None` while online, and for a user who has not been seen.
    pub(super) last_seen: Option<String>,
}

/// Whether a user is online, and when last seen.
pub(super) async fn presence(ops: &Ops, user_id: &str) -> Presence {
    let seen = ops.gateway.seen(user_id).await;
    Presence { online: seen.online, last_seen: seen.last_seen_unix_ms.map(iso_8601) }
}

/// A field of a call, as its dialect spells it: its name, and what it says.
pub(super) type Field<T> = (&'static str, Option<T>);

/// Ends every connection of a user, or one socket, for good; how many connections these were.
pub(super) async fn disconnect(
    ops: &Ops,
    (user_field, user_id): Field<String>,
    (socket_field, socket_id): Field<String>,
) -> Result<usize, Refused> {
    let whom = match (user_id, socket_id) {
        (Some(user_id), None) => Whom::User(user_id),
        (None, Some(socket_id)) => {
            let socket_id = SocketId::parse(&socket_id);
            Whom::Socket(socket_id.ok_or_else(|| Refused::field(socket_field, "is no socket id"))?)
        }
        (None, None) => {
            let what = format!("is missing, and so is {socket_field:?}: one of them is needed");
            return Err(Refused::field(user_field, &what));
        }
        (Some(_), Some(_)) => {
            return Err(Refused::field(socket_field, &format!("stands beside {user_field:?}: only one of them may")));
        }
    };
    let disconnected = ops.gateway.disconnect(whom.clone()).await;
    tracing::info!(?whom, disconnected, "disconnected by the server API");
    Ok(disconnected)
}
