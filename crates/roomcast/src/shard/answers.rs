//! The answers of a shard's HTTP front, and the cross-origin rules that stand on them. Knows no session.

use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Either, Full};
use hub::profile::Origins;
use hyper::body::Incoming;

/// Bytes of a refused body that are read and dropped before the connection is closed.
const DISCARD_MAX_BYTES: usize = 16 * 1024 * 1024;

/// The body of an answer: bytes at hand, or what the backend runtime gives.
pub(super) type Body = Either<Full<Bytes>, axum::body::Body>;

/// Reads a body that is refused, within bounds: a client reads the answer only once it has sent everything.
pub(super) async fn discard(mut body: Incoming, within: Duration) {
    let reading = async {
        let mut left = DISCARD_MAX_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            let Some(rest) = left.checked_sub(length) else { return };
            left = rest;
        }
    };
    // What is still on its way after that meets a closed connection.
    let _ = tokio::time::timeout(within, reading).await;
}

/// Cross-origin rules for one request (the WHATWG Fetch standard, "CORS protocol").
pub(super) struct Cors<'a> {
    pub(super) origins: &'a Origins,
    pub(super) origin: Option<&'a HeaderValue>,
}

impl Cors<'_> {
    /// Whether a page of this origin may connect. A client without an Origin is no browser.
    pub(super) fn allows(&self) -> bool {
        match (self.origins, self.origin) {
            (Origins::Any, _) | (_, None) => true,
            (Origins::Listed(origins), Some(origin)) => {
                origins.iter().any(|listed| listed.as_bytes() == origin.as_bytes())
            }
        }
    }

    pub(super) fn apply(&self, headers: &mut HeaderMap) {
        match (self.origins, self.origin) {
            (Origins::Any, _) => {
                headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            }
            (Origins::Listed(_), origin) => {
                headers.append(header::VARY, HeaderValue::from_static("Origin"));
                if let Some(origin) = origin.filter(|_| self.allows()) {
                    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
                    headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
                }
            }
        }
    }

    pub(super) fn preflight(&self, wanted: Option<HeaderValue>) -> Response<Body> {
        let mut response = empty(StatusCode::NO_CONTENT);
        let headers = response.headers_mut();
        self.apply(headers);
        headers
            .insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET,HEAD,PUT,PATCH,POST,DELETE"));
        headers.append(header::VARY, HeaderValue::from_static("Access-Control-Request-Headers"));
        if let Some(wanted) = wanted {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted);
        }
        response
    }
}

pub(super) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::default()));
    *response.status_mut() = status;
    response
}

pub(super) fn with_type(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::new(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

pub(super) fn uncached(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The refusal of a WebSocket handshake.
pub(super) fn text(status: StatusCode, message: &str) -> Response<Body> {
    let mut response = with_type(status, "text/html", Bytes::copy_from_slice(message.as_bytes()));
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The node takes no new session: another one does, or this one later.
pub(super) fn unavailable(reason: &str) -> Response<Body> {
    let body = format!(r#"{{"error":"the node takes no new sessions","code":"{reason}"}}"#);
    let mut response = with_type(StatusCode::SERVICE_UNAVAILABLE, "application/json", Bytes::from(body));
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}
