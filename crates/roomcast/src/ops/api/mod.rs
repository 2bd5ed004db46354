//! The server API over HTTP: requests become calls (`calls`), and what these give becomes JSON. Its description for tools is `openapi.json`.

mod body;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use hub::codes::ErrorCode;
use serde::Deserialize;
use serde_json::{Value, json};

use self::body::Fields;
use super::calls::{self, Publish, Refused, To};
use super::documents::nothing_here;
use super::{Ops, failure};

/// The description of the calls (OpenAPI 3.1). A test holds it to the router, and answers to it.
pub(super) const OPENAPI: &str = include_str!("openapi.json");

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = failure(self.status, self.code, &self.message);
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// The calls, by their paths.
pub(super) fn paths() -> [(&'static str, MethodRouter<Ops>); 5] {
    [
        ("/api/publish", post(publish)),
        ("/api/rooms", get(rooms)),
        ("/api/rooms/{room}", get(room)),
        ("/api/presence/{user_id}", get(presence)),
        ("/api/disconnect", post(disconnect)),
    ]
}

/// What stands below `/api`.
pub(super) fn router(ops: Ops) -> Router<Ops> {
    let calls = paths().into_iter().fold(Router::new(), |router, (path, call)| router.route(path, call));
    let calls = calls
        .route("/api/{*rest}", axum::routing::any(unknown))
        .method_not_allowed_fallback(wrong_method)
        .route_layer(axum::middleware::from_fn_with_state(ops, with_key));
    // What the calls are is no secret: tools read it before they have the key.
    calls.route("/api/openapi.json", get(openapi).fallback(wrong_method))
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
    calls::let_in(ops, headers).err().map(Refused::into_response)
}

/// `GET /api/openapi.json`.
async fn openapi() -> Response {
    ([(CONTENT_TYPE, "application/json")], OPENAPI).into_response()
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
    let delivered = calls::publish(&ops, what_to_publish(&body)?).await?;
    Ok(Json(json!({ "delivered": delivered })))
}

fn what_to_publish(body: &Bytes) -> Result<Publish, Refused> {
    let mut fields = Fields::read(body)?;
    let event = fields.text("event")?.ok_or_else(|| Refused::field("event", "is missing"))?;
    let namespace = fields.text("namespace")?;
    let to = fields.texts("rooms")?.map_or(To::Everyone, To::Rooms);
    let except = fields.texts("except")?.unwrap_or_default();
    let data = fields.raw("data").map(|data| body.slice_ref(data.as_bytes())).unwrap_or_default();
    fields.none_left()?;
    Ok(Publish { event, namespace, to, except, data })
}

/// The query of the calls that ask.
#[derive(Deserialize)]
struct Asked {
    namespace: Option<String>,
}

/// The last part of a path, or why it is none.
type Named = Result<Path<String>, PathRejection>;

/// What a query asks for, or why it makes no sense.
type Asking = Result<Query<Asked>, QueryRejection>;

fn name(named: Named) -> Result<String, Refused> {
    named.map(|Path(name)| name).map_err(|rejection| bad_request(&rejection.body_text()))
}

fn namespace(asked: Asking) -> Result<Option<String>, Refused> {
    asked.map(|Query(asked)| asked.namespace).map_err(|rejection| bad_request(&rejection.body_text()))
}

fn bad_request(message: &str) -> Refused {
    Refused { status: StatusCode::BAD_REQUEST, code: ErrorCode::BadField, message: message.to_owned() }
}

/// `GET /api/rooms`.
async fn rooms(State(ops): State<Ops>, asked: Asking) -> Result<Json<Value>, Refused> {
    let rooms = calls::rooms(&ops, namespace(asked)?.as_deref()).await?;
    Ok(Json(json!({ "rooms": rooms })))
}

/// `GET /api/rooms/{room}`.
async fn room(State(ops): State<Ops>, named: Named, asked: Asking) -> Result<Json<Value>, Refused> {
    let name = name(named)?;
    let members = calls::room(&ops, namespace(asked)?.as_deref(), &name).await?;
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
async fn presence(State(ops): State<Ops>, named: Named) -> Result<Json<Value>, Refused> {
    let user_id = name(named)?;
    let calls::Presence { online, last_seen } = calls::presence(&ops, &user_id).await;
    Ok(Json(json!({ "userId": user_id, "online": online, "lastSeen": last_seen })))
}

/// `POST /api/disconnect`.
async fn disconnect(State(ops): State<Ops>, request: Request) -> Result<Json<Value>, Refused> {
    let body = body::read(request, ops.gateway.profile.limits.event_bytes).await?;
    let mut fields = Fields::read(&body)?;
    let (user_id, socket_id) = (fields.id("userId")?, fields.text("socketId")?);
    fields.none_left()?;
    let disconnected = calls::disconnect(&ops, ("userId", user_id), ("socketId", socket_id)).await?;
    Ok(Json(json!({ "disconnected": disconnected })))
}
