//! The answers of a shard's HTTP front, and the cross-origin rules that stand on them. Knows no session.

use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Either, Full};
use hub::profile::{Cookie, Cors, Origins, SameSite};
use hyper::body::Incoming;
use wire::engine::PollBody;

use super::ids::SessionId;

/// The field of a request that answers to pages of other origins depend on.
const ORIGIN: &str = "Origin";

/// Bytes of a refused body that are read and dropped before the connection is closed.
const DISCARD_MAX_BYTES: usize = 16 * 1024 * 1024;

// Constants, so that they are checked when the program is built and not for each answer.
pub(super) const HTML: HeaderValue = HeaderValue::from_static("text/html");
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=UTF-8");
const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const ANY_ORIGIN: HeaderValue = HeaderValue::from_static("*");

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

/// Cross-origin rules for one request (the WHATWG Fetch standard, "CORS protocol"). Holds nothing of the request's bytes, which would keep
/// the buffer that they were read into for as long as the answer waits.
pub(super) struct CrossOrigin<'a> {
    rules: &'a Cors,
    allows: bool,
    /// The request's origin, where it is a listed one.
    origin: Option<HeaderValue>,
}

impl<'a> CrossOrigin<'a> {
    /// The rules for a request with these headers.
    pub(super) fn of(rules: &'a Cors, headers: &HeaderMap) -> Self {
        let asking = headers.get(header::ORIGIN);
        let (allows, origin) = match (&rules.origins, asking) {
            (Origins::Any, _) | (_, None) => (true, None),
            (Origins::Listed(origins), Some(asking)) => {
                let listed = origins.iter().find(|listed| listed.as_bytes() == asking.as_bytes());
                (listed.is_some(), listed.and_then(|listed| HeaderValue::from_str(listed).ok()))
            }
            (Origins::Own, Some(asking)) => {
                let authority = asking.to_str().ok().and_then(|asking| Some(asking.split_once("://")?.1));
                let host = headers.get(header::HOST).map(HeaderValue::as_bytes);
                (authority.is_some_and(|authority| Some(authority.as_bytes()) == host), None)
            }
        };
        Self { rules, allows, origin }
    }

    /// Whether a page of this origin may connect. A client without an Origin is no browser.
    pub(super) fn allows(&self) -> bool {
        self.allows
    }

    /// The fields that an answer has for it.
    pub(super) fn fields(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let (vary, origin) = match &self.rules.origins {
            Origins::Own => return [const { None }; 3].into_iter().flatten(),
            Origins::Any => (None, Some(ANY_ORIGIN)),
            Origins::Listed(_) => (Some(HeaderValue::from_static(ORIGIN)), self.origin.clone()),
        };
        let credentials = self.rules.credentials.then_some(HeaderValue::from_static("true"));
        [
            vary.map(|value| (header::VARY, value)),
            origin.map(|value| (header::ACCESS_CONTROL_ALLOW_ORIGIN, value)),
            credentials.map(|value| (header::ACCESS_CONTROL_ALLOW_CREDENTIALS, value)),
        ]
        .into_iter()
        .flatten()
    }

    pub(super) fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in self.fields() {
            match name == header::VARY {
                true => add_vary(headers, ORIGIN),
                false => {
                    headers.insert(name, value);
                }
            }
        }
    }

    /// The answer to an OPTIONS, whatever else it asks; none where nothing is said of other origins.
    pub(super) fn preflight(&self, headers: &HeaderMap) -> Option<Response<Body>> {
        if self.rules.origins == Origins::Own {
            return None;
        }
        let mut response = empty(StatusCode::NO_CONTENT);
        let wanted = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
        let headers = response.headers_mut();
        self.apply(headers);
        headers
            .insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET,HEAD,PUT,PATCH,POST,DELETE"));
        add_vary(headers, "Access-Control-Request-Headers");
        if let Some(wanted) = wanted {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted);
        }
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        Some(response)
    }
}

/// Adds a field to those that an answer depends on, all in one line as Node writes them.
fn add_vary(headers: &mut HeaderMap, field: &str) {
    let fields = match headers.get(header::VARY).and_then(|value| value.to_str().ok()) {
        Some(before) => format!("{before}, {field}"),
        None => field.to_owned(),
    };
    headers.insert(header::VARY, HeaderValue::try_from(fields).expect("names of fields are a header value"));
}

pub(super) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::default()));
    *response.status_mut() = status;
    response
}

pub(super) fn with_type(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::new(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}

/// The body of an answer to a poll.
pub(super) fn poll_body(body: PollBody) -> Response<Body> {
    let content_type = if body.binary { BYTES } else { TEXT };
    uncached(with_type(StatusCode::OK, content_type, body.bytes))
}

/// The value of a `Set-Cookie` that holds a session's id.
pub(super) fn session_cookie(cookie: &Cookie, sid: SessionId) -> HeaderValue {
    let mut text = format!("{}={sid}; Path={}", cookie.name, cookie.path);
    for (is_set, attribute) in [(cookie.http_only, "; HttpOnly"), (cookie.secure, "; Secure")] {
        text.push_str(if is_set { attribute } else { "" });
    }
    text.push_str(match cookie.same_site {
        SameSite::Strict => "; SameSite=Strict",
        SameSite::Lax => "; SameSite=Lax",
        SameSite::None => "; SameSite=None",
    });
    HeaderValue::try_from(text).expect("the profile checked what stands in a cookie")
}

pub(super) fn uncached(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(header::CACHE_CONTROL, NO_STORE);
    response
}

/// The refusal of a WebSocket handshake.
pub(super) fn text(status: StatusCode, message: &str) -> Response<Body> {
    let mut response = with_type(status, HTML, Bytes::copy_from_slice(message.as_bytes()));
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The node takes no new session: another one does, or this one later.
pub(super) fn unavailable(reason: &str) -> Response<Body> {
    let body = format!(r#"{{"error":"the node takes no new sessions","code":"{reason}"}}"#);
    let mut response = with_type(StatusCode::SERVICE_UNAVAILABLE, JSON, Bytes::from(body));
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cross-origin headers of an answer to a page of `origin`, as `name: value` in lines.
    fn check(origins: Origins, credentials: bool, origin: &'static str, allowed: bool, expected: &[&str]) {
        let rules = Cors { origins, credentials };
        let request = HeaderMap::from_iter([
            (header::ORIGIN, HeaderValue::from_static(origin)),
            (header::HOST, HeaderValue::from_static("own.example:3000")),
        ]);
        let cross_origin = CrossOrigin::of(&rules, &request);
        assert_eq!(cross_origin.allows(), allowed, "{rules:?} {origin}");
        let mut headers = HeaderMap::new();
        cross_origin.apply(&mut headers);
        let mut lines: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().expect("text"))).collect();
        lines.sort();
        assert_eq!(lines, expected, "{rules:?} {origin}");
    }

    #[test]
    fn pages_learn_whether_they_may_connect() {
        let listed = || Origins::Listed(vec!["http://a".to_owned()]);
        check(Origins::Any, false, "http://a", true, &["access-control-allow-origin: *"]);
        check(
            Origins::Any,
            true,
            "http://a",
            true,
            &["access-control-allow-credentials: true", "access-control-allow-origin: *"],
        );
        check(listed(), false, "http://a", true, &["access-control-allow-origin: http://a", "vary: Origin"]);
        check(listed(), true, "http://b", false, &["access-control-allow-credentials: true", "vary: Origin"]);
        check(Origins::Own, true, "http://own.example:3000", true, &[]);
        check(Origins::Own, true, "http://a", false, &[]);
        check(Origins::Own, true, "null", false, &[]);
    }

    #[test]
    fn a_cookie_is_spelled_as_node_spells_it() {
        let cookie = Cookie {
            name: "io".to_owned(),
            path: "/".to_owned(),
            http_only: true,
            secure: false,
            same_site: SameSite::Lax,
        };
        let sid = SessionId::parse("AAAAAAAAAAAAAAAAAAAA").expect("an id");
        assert_eq!(session_cookie(&cookie, sid), "io=AAAAAAAAAAAAAAAAAAAA; Path=/; HttpOnly; SameSite=Lax");
        let cookie = Cookie { http_only: false, secure: true, same_site: SameSite::None, ..cookie };
        assert_eq!(session_cookie(&cookie, sid), "io=AAAAAAAAAAAAAAAAAAAA; Path=/; Secure; SameSite=None");
    }
}
