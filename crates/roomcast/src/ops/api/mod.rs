//! The server API: backend services publish, ask who is where, and disconnect. Who may is decided by one key. Knows nothing of how events reach
//! their members.

mod body;

use axum::extract::{Path, Query, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use hub::codes::ErrorCode;
use hub::emission::{Emission, Except, Payload, Rooms, Sending, Target};
use hub::names::{EventName, NameError, NamespaceId, RoomName, SocketId};
use hub::rules::iso_8601;
use serde::Deserialize;
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;

use self::body::Fields;
use super::documents::nothing_here;
use super::{Ops, failure};
use crate::shard::inbox::Whom;

/// Rooms that one publish may name, and rooms that it may leave out.
const ROOMS_MAX: usize = 1_000;

/// Events that Socket.IO keeps for itself: a stock client would take them for its own.
const RESERVED_EVENTS: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// A request that is not carried out.
#[derive(Debug)]
pub(super) struct Refused {
    status: StatusCode,
    code: ErrorCode,
    message: String,
}

impl Refused {
    /// A field of the body or the query that is wrong.
    fn field(name: &str, what: &str) -> Self {
        let message = format!("field {name:?} {what}");
        Self { status: StatusCode::BAD_REQUEST, code: ErrorCode::BadField, message }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        failure(self.status, self.code, &self.message)
    }
}

/// The calls below `/api`.
pub(super) fn router(ops: Ops) -> Router<Ops> {
    Router::new()
        .route("/api/publish", post(publish))
        .route("/api/rooms", get(rooms))
        .route("/api/rooms/{room}", get(room))
        .route("/api/presence/{user_id}", get(presence))
        .route("/api/disconnect", post(disconnect))
        .route("/api/{*rest}", axum::routing::any(unknown))
        .method_not_allowed_fallback(wrong_method)
        .route_layer(axum::middleware::from_fn_with_state(ops, with_key))
}

/// Lets in who has the key.
async fn with_key(State(ops): State<Ops>, request: Request, next: Next) -> Response {
    match without_key(&ops, request.headers()) {
        Some(refused) => refused,
        None => next.run(request).await,
    }
}

/// The answer to a request without the key, or with a wrong one; `None` where the key is right.
pub(super) fn without_key(ops: &Ops, headers: &HeaderMap) -> Option<Response> {
    let Some(key) = &ops.gateway.profile.api_key else {
        let message = "the server API is closed: set API_KEY to open it";
        return Some(failure(StatusCode::FORBIDDEN, ErrorCode::Forbidden, message));
    };
    let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given =
        given.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let message = match given {
        // In constant time, so that nobody finds the key letter by letter.
        Some((_, given)) if bool::from(given.trim().as_bytes().ct_eq(key.reveal().as_bytes())) => return None,
        Some(_) => "the key is wrong",
        None => "a key is needed: Authorization: Bearer $API_KEY",
    };
    let mut response = failure(StatusCode::UNAUTHORIZED, ErrorCode::Unauthenticated, message);
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    Some(response)
}

async fn unknown(request: Request) -> Response {
    nothing_here(request.method(), request.uri())
}

async fn wrong_method(request: Request) -> Response {
    let message = format!("{} does not take {}", request.uri().path(), request.method());
    failure(StatusCode::METHOD_NOT_ALLOWED, ErrorCode::UnknownCommand, &message)
}

/// `POST /api/publish`.
async fn publish(State(ops): State<Ops>, request: Request) -> Result<Json<Value>, Refused> {
    let _publishing = ops.publishing.acquire().await;
    let body = body::read(request, ops.gateway.profile.limits.event_bytes).await?;
    let Some(emission) = emission(&ops, &body)? else {
        return Ok(Json(json!({ "delivered": 0 })));
    };
    tracing::trace!(event = %emission.event, target = ?emission.target, bytes = emission.payload.size(), "published by the server API");
    let delivered = ops.gateway.publish(vec![emission]).await;
    Ok(Json(json!({ "delivered": delivered })))
}

/// What a publish asks for; `None` where it names nobody.
fn emission(ops: &Ops, body: &Bytes) -> Result<Option<Emission>, Refused> {
    let mut fields = Fields::read(body)?;
    let event = fields.text("event")?.ok_or_else(|| Refused::field("event", "is missing"))?;
    if RESERVED_EVENTS.contains(&event.as_str()) {
        return Err(Refused::field("event", "is a name that Socket.IO keeps for itself"));
    }
    let event = EventName::parse(&event).map_err(|error| Refused::field("event", &error.to_string()))?;
    let namespace = namespace(ops, fields.text("namespace")?.as_deref())?;
    let rooms = fields.texts("rooms", ROOMS_MAX)?;
    let except = fields.texts("except", ROOMS_MAX)?.unwrap_or_default();
    let payload =
        fields.raw("data").map_or_else(|| Payload::json(""), |data| Payload::json(body.slice_ref(data.as_bytes())));
    fields.none_left()?;
    let target = match rooms {
        None => Target::Everyone,
        Some(names) => match Rooms::new(room_names("rooms", &names)?) {
            Some(rooms) => Target::Rooms(rooms),
            None => return Ok(None),
        },
    };
    // A name of that shape may be a socket's; where it is none, it leaves nobody out.
    let sockets = except.iter().filter_map(|name| SocketId::parse(name)).collect();
    let except = Except { rooms: room_names("except", &except)?, sockets };
    Ok(Some(Emission { namespace, target, except, event, payload, sending: Sending::default() }))
}

fn room_names(field: &str, names: &[String]) -> Result<Vec<RoomName>, Refused> {
    let parse = |name: &String| {
        RoomName::parse(name)
            .map_err(|error: NameError| Refused::field(field, &format!("has a name that {error}: {name:?}")))
    };
    names.iter().map(parse).collect()
}

/// The namespace of this name; without one `/`, or the first where there is no `/`.
fn namespace(ops: &Ops, name: Option<&str>) -> Result<NamespaceId, Refused> {
    let rules = &ops.gateway.profile.rules;
    match name {
        None => Ok(rules.namespace("/").unwrap_or(NamespaceId(0))),
        Some(name) => rules.namespace(name).ok_or_else(|| {
            let known: Vec<String> = rules.namespaces().iter().map(|known| format!("{known:?}")).collect();
            Refused::field("namespace", &format!("names {name:?}, but there is only {}", known.join(", ")))
        }),
    }
}

/// The query of the calls that ask.
#[derive(Deserialize)]
struct Asked {
    namespace: Option<String>,
}

/// `GET /api/rooms`.
async fn rooms(State(ops): State<Ops>, Query(asked): Query<Asked>) -> Result<Json<Value>, Refused> {
    let namespace = namespace(&ops, asked.namespace.as_deref())?;
    let rooms = ops.gateway.rooms(namespace).await;
    Ok(Json(json!({ "rooms": rooms })))
}

/// `GET /api/rooms/{room}`.
async fn room(
    State(ops): State<Ops>,
    Path(name): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Json<Value>, Refused> {
    let namespace = namespace(&ops, asked.namespace.as_deref())?;
    let room = RoomName::parse(&name).map_err(|error| Refused::field("room", &error.to_string()))?;
    let members = ops.gateway.room(namespace, &room).await;
    let sockets: Vec<Value> = members
        .iter()
        .map(|member| {
            let user_id = member.user_id.as_ref().map(|id| id.as_str());
            json!({ "socketId": member.socket_id.as_str(), "userId": user_id })
        })
        .collect();
    Ok(Json(json!({ "room": name, "members": members.len(), "sockets": sockets })))
}

/// `GET /api/presence/{userId}`.
async fn presence(State(ops): State<Ops>, Path(user_id): Path<String>) -> Json<Value> {
    let seen = ops.gateway.seen(&user_id);
    let last_seen = seen.last_seen_unix_ms.map(iso_8601);
    Json(json!({ "userId": user_id, "online": seen.online, "lastSeen": last_seen }))
}

/// `POST /api/disconnect`.
async fn disconnect(State(ops): State<Ops>, request: Request) -> Result<Json<Value>, Refused> {
    let body = body::read(request, ops.gateway.profile.limits.event_bytes).await?;
    let mut fields = Fields::read(&body)?;
    let (user_id, socket_id) = (fields.id("userId")?, fields.text("socketId")?);
    fields.none_left()?;
    let whom = match (user_id, socket_id) {
        (Some(user_id), None) => Whom::User(user_id),
        (None, Some(socket_id)) => {
            let socket_id = SocketId::parse(&socket_id);
            Whom::Socket(socket_id.ok_or_else(|| Refused::field("socketId", "is no socket id"))?)
        }
        (None, None) => {
            return Err(Refused::field("userId", "is missing, and so is \"socketId\": one of them is needed"));
        }
        (Some(_), Some(_)) => return Err(Refused::field("socketId", "stands beside \"userId\": only one of them may")),
    };
    let disconnected = ops.gateway.disconnect(whom.clone()).await;
    tracing::info!(?whom, disconnected, "disconnected by the server API");
    Ok(Json(json!({ "disconnected": disconnected })))
}
