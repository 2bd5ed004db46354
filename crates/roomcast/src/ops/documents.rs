//! Documents over HTTP: the profile's own, and the gateway's where the profile has none; probes and metrics. Changes nothing.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use axum::extract::{Query, Request, State};
use axum::response::{Html, IntoResponse, Response};
use http::header::{ACCEPT, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use hub::codes::ErrorCode;
use hub::profile::{Endpoint, Page};
use hub::rules::{Fetch, iso_8601};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::without_key;
use super::census::Walk;
use super::health::{Part, Readiness};
use super::{Ops, failure, now_unix_ms};

/// Rooms that a document names; others are only in its counts.
pub const ROOMS_NAMED_MAX: usize = 1_000;

/// The media type of the Prometheus text that the gateway writes.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The media type of the older Prometheus text.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `GET /health/live`: the process answers.
pub(super) async fn live(State(ops): State<Ops>) -> Response {
    json_text(json!({ "status": "ok", "uptime": ops.health.uptime_secs() }).to_string())
}

#[derive(Deserialize)]
pub(super) struct ReadyQuery {
    strict: Option<String>,
}

/// `GET /health/ready`: whether new clients should come here.
pub(super) async fn ready(State(ops): State<Ops>, Query(query): Query<ReadyQuery>) -> Response {
    let strict = query.strict.is_some_and(|strict| !matches!(strict.as_str(), "0" | "false"));
    let status = match ops.health.readiness() {
        Readiness::Ready => StatusCode::OK,
        Readiness::Degraded if !strict => StatusCode::OK,
        Readiness::Degraded | Readiness::NotReady => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut response = json_text(ops.health.document());
    *response.status_mut() = status;
    response
}

#[derive(Deserialize)]
pub(super) struct MetricsQuery {
    format: Option<String>,
}

/// `GET /metrics`: Prometheus text, or the profile's document unless Prometheus text is asked for.
pub(super) async fn metrics(State(ops): State<Ops>, Query(query): Query<MetricsQuery>, headers: HeaderMap) -> Response {
    let asked = match query.format.as_deref() {
        Some(format) => format == "prometheus",
        None => accepts_prometheus(&headers),
    };
    if !asked && let Some(document) = profile_document(&ops, &Method::GET, "/metrics", &headers).await {
        return document;
    }
    let metrics = &ops.gateway.metrics;
    ops.gateway.refresh_gauges().await;
    // The same text reads as either; a scraper that does not say which gets the older name.
    let open =
        headers.get_all(ACCEPT).iter().any(|value| value.to_str().is_ok_and(|value| value.contains("openmetrics")));
    let kind = if open { OPEN_METRICS } else { PROMETHEUS_TEXT };
    ([(CONTENT_TYPE, kind)], metrics.prometheus_text()).into_response()
}

/// Whether a scraper asks: it accepts OpenMetrics, or plain text and neither JSON nor a page.
fn accepts_prometheus(headers: &HeaderMap) -> bool {
    let accepted: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let accepts = |kind: &str| accepted.iter().any(|value| value.contains(kind));
    accepts("application/openmetrics-text")
        || (accepts("text/plain") && !accepts("application/json") && !accepts("text/html"))
}

/// `GET /`: the profile's document there, or the page that it asks for.
pub(super) async fn page(State(ops): State<Ops>, request: Request) -> Response {
    match ops.gateway.profile.service.page {
        Some(Page::Chat) => Html(include_str!("../pages/chat.html")).into_response(),
        None => fallback(State(ops), request).await,
    }
}

/// What no route took: a document of the profile's, or the gateway's own `/health`.
pub(super) async fn fallback(State(ops): State<Ops>, request: Request) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    if let Some(document) = profile_document(&ops, &method, &path, request.headers()).await {
        return document;
    }
    if path == "/health" && matches!(method, Method::GET | Method::HEAD) {
        return own_health(&ops);
    }
    let is_websocket = ops.gateway.profile.endpoints.iter().any(|endpoint| is_websocket_of(endpoint, &path));
    // A handshake that comes here is one at the operators' port.
    if is_websocket && !is_handshake(request.headers()) {
        return upgrade_needed();
    }
    nothing_here(&method, request.uri())
}

fn is_websocket_of(endpoint: &Endpoint, path: &str) -> bool {
    match endpoint {
        Endpoint::Json(endpoint) => endpoint.paths.iter().any(|(of, _)| of == path),
        Endpoint::SocketIo(_) => false,
    }
}

fn is_handshake(headers: &HeaderMap) -> bool {
    let options = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    headers.contains_key(UPGRADE)
        && options.flat_map(|value| value.split(',')).any(|option| option.trim().eq_ignore_ascii_case("upgrade"))
}

/// Plain HTTP where a WebSocket is wanted: a proxy that drops the handshake's fields looks the same.
fn upgrade_needed() -> Response {
    let message = "this is a WebSocket endpoint, and the request asks for no upgrade: a proxy in between may have dropped `Upgrade` and `Connection`";
    let mut response = failure(StatusCode::UPGRADE_REQUIRED, ErrorCode::BadMessage, message);
    // RFC 9110, section 15.5.22.
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response
}

/// What stands on the operators' port alone.
pub(super) async fn elsewhere(request: Request) -> Response {
    nothing_here(request.method(), request.uri())
}

/// The answer to a request that means nothing.
pub(super) fn nothing_here(method: &Method, uri: &Uri) -> Response {
    let message = format!("there is nothing at {method} {}", uri.path());
    failure(StatusCode::NOT_FOUND, ErrorCode::UnknownCommand, &message)
}

fn own_health(ops: &Ops) -> Response {
    let part = |part: Part| ops.health.state(part).in_short();
    json_text(
        json!({
            "status": status(ops),
            "service": ops.gateway.profile.service.name,
            "version": version(ops),
            "rabbitmq": part(Part::Rabbitmq),
            "redis": ops.health.redis(),
            "uptime": ops.health.uptime_secs(),
            "timestamp": iso_8601(now_unix_ms()),
        })
        .to_string(),
    )
}

/// `degraded`, or the profile's own word for being well.
fn status(ops: &Ops) -> &str {
    match ops.health.status() {
        "ok" => &ops.gateway.profile.service.healthy,
        other => other,
    }
}

fn version(ops: &Ops) -> &str {
    ops.gateway.profile.service.version.as_deref().unwrap_or(env!("CARGO_PKG_VERSION"))
}

/// The profile's document at this path, if it has one. Its templates are run twice: first to see what they ask for, then with the answers,
/// so that nobody lists rooms for a document that names none.
async fn profile_document(ops: &Ops, method: &Method, path: &str, headers: &HeaderMap) -> Option<Response> {
    let method = if method == Method::HEAD { &Method::GET } else { method };
    let rules = &ops.gateway.profile.rules;
    let (document, parts) = rules.document(method.as_str(), path)?;
    if !rules.document_is_public(document)
        && let Some(refused) = without_key(ops, headers)
    {
        return Some(refused);
    }
    let decode = |part: &String| percent_decode_str(part).decode_utf8().ok().map(Cow::into_owned);
    let Some(parts) = parts.iter().map(decode).collect::<Option<Vec<String>>>() else {
        return Some(failure(StatusCode::BAD_REQUEST, ErrorCode::BadField, "the path is not UTF-8"));
    };
    let now = now_unix_ms();
    let mut fetched: Vec<(Box<str>, Box<str>)> = Vec::new();
    for (name, what) in rules.document_fetches(document, &parts) {
        fetched.push((Box::from(name), fetch(ops, what, now).await.into_boxed_str()));
    }
    let asked = RefCell::new(BTreeSet::new());
    rules.write_document(document, &parts, &fetched, now, &|field| {
        asked.borrow_mut().insert(field.to_owned());
        Some("null".to_owned())
    });
    let mut answers = BTreeMap::new();
    for field in asked.into_inner() {
        if let Some(value) = field_of_gateway(ops, &field).await {
            answers.insert(field, value);
        }
    }
    Some(json_text(rules.write_document(document, &parts, &fetched, now, &|field| answers.get(field).cloned())))
}

/// What a document's `call` asks for, as JSON.
async fn fetch(ops: &Ops, what: Fetch, now_unix_ms: u64) -> String {
    let gateway = &ops.gateway;
    let count = async |walk| ops.census.ask(gateway, walk, Instant::now()).await.count.to_string();
    match what {
        Fetch::Online(user) => gateway.seen(&user).await.online.to_string(),
        Fetch::Presence(users) => gateway.presence_of(&users, now_unix_ms).await.to_string(),
        Fetch::Sockets(namespace) => count(Walk::Sockets(namespace)).await,
        Fetch::Rooms(kind) => count(Walk::RoomsOf(kind)).await,
        Fetch::Members(kind) => count(Walk::MembersOf(kind)).await,
    }
}

/// The fields of `{gateway.…}` as JSON, as `hub::rules::GATEWAY_FIELDS` lists them; `None` for one that does not exist.
pub(super) async fn field_of_gateway(ops: &Ops, field: &str) -> Option<String> {
    let (gateway, health) = (&ops.gateway, &ops.health);
    let walk = async |walk| ops.census.ask(gateway, walk, Instant::now()).await;
    let value = match field {
        "status" => Value::from(status(ops)),
        "reasons" => Value::from(health.reasons()),
        "rabbitmq" => Value::from(health.state(Part::Rabbitmq).in_short()),
        "redis" => Value::from(health.redis()),
        "uptime" => Value::from(health.uptime_secs()),
        "service" => Value::from(gateway.profile.service.name.as_str()),
        "version" => Value::from(version(ops)),
        "connections" => Value::from(gateway.metrics.connections_opened.get()),
        "openConnections" => Value::from(gateway.numbers().await.connections),
        "sockets" => Value::from(gateway.numbers().await.sockets),
        "rooms" => return Some(walk(Walk::Rooms).await.all.to_string()),
        "totalRooms" => Value::from(walk(Walk::Rooms).await.count),
        "users" => return Some(walk(Walk::Users).await.all.to_string()),
        "totalUsers" => Value::from(walk(Walk::Users).await.count),
        _ => return None,
    };
    Some(value.to_string())
}

/// JSON that is already text. Documents tell what is true now, so that nobody should keep them.
pub(super) fn json_text(text: String) -> Response {
    ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prometheus_text_is_for_who_asks_for_it() {
        let table = [
            ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1", true),
            ("text/plain;version=0.0.4", true),
            ("*/*", false),
            ("application/json, text/plain, */*", false),
            ("text/html,application/xhtml+xml,*/*;q=0.8", false),
            ("", false),
        ];
        for (accept, expected) in table {
            let headers = HeaderMap::from_iter([(ACCEPT, accept.parse().expect("a header's value"))]);
            assert_eq!(accepts_prometheus(&headers), expected, "{accept}");
        }
    }
}
