//! A service by HTTP: requests with messages of JSON, and what the statuses of its answers mean.

use std::time::Duration;

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use hub::profile::Upstream;
use hub::rules::{HttpRequest, Verb};
use reqwest::{Client, Response, Url};
use serde::de::IgnoredAny;
use serde_json::Value;

use super::service::{Answer, REPLY_MAX_BYTES, refused, timed_out, unavailable};

/// How long a connection without a call is kept: less than the 5 s after which common servers close theirs, so that no call meets a closing one.
const IDLE_MAX: Duration = Duration::from_secs(4);

/// Where a service that refuses says why, the first that is there: most frameworks' own, then RFC 9457.
const WORDS: [&str; 5] = ["/message", "/error/message", "/error", "/detail", "/title"];

/// A service of HTTP.
pub(super) struct Http {
    name: String,
    client: Client,
    /// Without a slash at its end: paths begin with one.
    base: String,
}

impl Http {
    /// Prepares the connections; nobody is called.
    ///
    /// # Errors
    /// The address makes no sense, or the machine has no usable TLS set-up.
    pub(super) fn new(upstream: &Upstream, address: &str) -> anyhow::Result<Self> {
        let url = Url::parse(address)?;
        if !matches!(url.scheme(), "http" | "https") {
            anyhow::bail!("there is no scheme `{}` for HTTP: write `http` or `https`", url.scheme());
        }
        if url.query().is_some() || url.fragment().is_some() {
            // Paths are put behind it as they are.
            anyhow::bail!("an address has no `?` and no `#`: what goes along with a call stands in its path");
        }
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(secret) = &upstream.authorization {
            let mut value =
                HeaderValue::from_str(secret.reveal()).context("`authorization` cannot be the value of a header")?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        // A redirect is no answer: who is called is the operator's to say.
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .user_agent(concat!("roomcast/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .pool_idle_timeout(IDLE_MAX)
            .build()?;
        Ok(Self { name: upstream.name.clone(), client, base: url.as_str().trim_end_matches('/').to_owned() })
    }

    /// Makes a request with a message of JSON, if it has one.
    pub(super) async fn ask(&self, request: &HttpRequest, message: &str) -> Answer {
        let url = format!("{}{}", self.base, request.path);
        let mut asking = self.client.request(method(request.verb), url);
        if request.verb.has_body() {
            asking = asking.header(CONTENT_TYPE, "application/json").body(message.to_owned());
        }
        let answer = match asking.send().await {
            Ok(answer) => answer,
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::new(error.without_url()));
                tracing::debug!(upstream = self.name, error, "the connection broke");
                return Answer::Nothing(unavailable(&self.name, "is not available; try again"));
            }
        };
        let (status, is_text) = (answer.status(), is_text(answer.headers()));
        match read(answer).await {
            Ok(Some(body)) => self.judge(status, is_text, body),
            Ok(None) => self.nonsense(status, "its body is too large"),
            Err(_) => Answer::Nothing(unavailable(&self.name, "is not available; try again")),
        }
    }

    /// What an answer means: the service's own words are for the client, unless it is to blame itself.
    fn judge(&self, status: StatusCode, is_text: bool, body: Bytes) -> Answer {
        match status {
            _ if status.is_success() => {
                if body.trim_ascii().is_empty() {
                    return Answer::Reply(Bytes::from_static(b"null"));
                }
                match serde_json::from_slice::<IgnoredAny>(&body) {
                    Ok(_) => Answer::Reply(body),
                    Err(_) => self.nonsense(status, "its body is no JSON"),
                }
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => Answer::Nothing(timed_out(&self.name)),
            _ if status.is_client_error() => Answer::Failure(refused(&self.name, &words(is_text, &body))),
            // Said by those in front of it, while it is away.
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => {
                Answer::Nothing(unavailable(&self.name, "is not available; try again"))
            }
            _ if status.is_server_error() => {
                tracing::warn!(upstream = self.name, %status, "a service failed");
                Answer::Failure(unavailable(&self.name, "failed"))
            }
            _ => self.nonsense(status, "its status is neither a reply nor a refusal"),
        }
    }

    fn nonsense(&self, status: StatusCode, what: &str) -> Answer {
        tracing::warn!(upstream = self.name, %status, what, "an answer that makes no sense");
        Answer::Nothing(unavailable(&self.name, "gave an answer that makes no sense"))
    }
}

fn method(verb: Verb) -> Method {
    match verb {
        Verb::Get => Method::GET,
        Verb::Post => Method::POST,
        Verb::Put => Method::PUT,
        Verb::Patch => Method::PATCH,
        Verb::Delete => Method::DELETE,
    }
}

fn is_text(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"))
}

/// The body; `None` where it is larger than a reply may be.
async fn read(mut answer: Response) -> reqwest::Result<Option<Bytes>> {
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > REPLY_MAX_BYTES {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body.freeze()))
}

/// Why a service refuses, in its own words; nothing where it says none that are meant for people.
fn words(is_text: bool, body: &[u8]) -> String {
    if is_text {
        return String::from_utf8_lossy(body).trim().to_owned();
    }
    let Ok(said) = serde_json::from_slice::<Value>(body) else { return String::new() };
    let found = WORDS.iter().filter_map(|place| said.pointer(place)).find_map(|words| match words {
        Value::String(words) if !words.is_empty() => Some(words.clone()),
        // Validators give a sentence for each field.
        Value::Array(items) => {
            let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            (!items.is_empty()).then(|| items.join(", "))
        }
        _ => None,
    });
    found.unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what a test cannot go on without")]
mod tests {
    use axum::Router;
    use axum::extract::Request;
    use axum::response::IntoResponse as _;
    use hub::profile::{Secret, UpstreamProtocol};

    use super::super::Failure;
    use super::*;

    /// A service that answers with the status, the type and the body in the query, or says what it was asked.
    async fn serve() -> String {
        async fn answer(request: Request) -> axum::response::Response {
            let (head, body) = request.into_parts();
            let query = head.uri.query().unwrap_or_default();
            let given: Vec<String> = query
                .split('&')
                .map(|part| percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned())
                .collect();
            if let [status, kind, body] = given.as_slice() {
                let status = StatusCode::from_u16(status.parse().unwrap()).unwrap();
                let headers = [("content-type", kind.clone()), ("location", "/elsewhere".to_owned())];
                return (status, headers, body.clone()).into_response();
            }
            let body = axum::body::to_bytes(body, REPLY_MAX_BYTES).await.unwrap();
            let header = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or("-");
            let (authorization, kind) = (header("authorization"), header("content-type"));
            let asked = format!("{} {} {authorization} {kind} ", head.method, head.uri);
            serde_json::to_string(&(asked + &String::from_utf8_lossy(&body))).unwrap().into_response()
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
        format!("http://{address}/api/")
    }

    fn service(address: &str) -> anyhow::Result<Http> {
        let upstream = Upstream {
            name: "tickets".to_owned(),
            protocol: UpstreamProtocol::Http,
            address: Some(address.to_owned()),
            authorization: Some(Secret::new("Bearer secret")),
            timeout: Duration::from_secs(60),
        };
        Http::new(&upstream, address)
    }

    async fn told(service: &Http, verb: Verb, path: &str, message: &str) -> String {
        let request = HttpRequest { upstream: 0, verb, path: path.to_owned() };
        match service.ask(&request, message).await {
            Answer::Reply(reply) => String::from_utf8(reply.to_vec()).unwrap(),
            Answer::Failure(Failure::Refused(words)) => format!("refused: {words}"),
            Answer::Failure(failure) => format!("failed: {failure:?}"),
            Answer::Nothing(failure) => format!("nothing: {failure:?}"),
        }
    }

    #[tokio::test]
    async fn a_request_says_what_the_rule_does() {
        let service = service(&serve().await).unwrap();
        for (verb, path, message, expected) in [
            (Verb::Get, "/tickets/a%2Fb?q=1", "", r#""GET /api/tickets/a%2Fb?q=1 Bearer secret - ""#),
            (Verb::Delete, "/tickets/7", "", r#""DELETE /api/tickets/7 Bearer secret - ""#),
            (Verb::Post, "/tickets", "[1]", r#""POST /api/tickets Bearer secret application/json [1]""#),
            (Verb::Put, "/tickets", "[1]", r#""PUT /api/tickets Bearer secret application/json [1]""#),
            (Verb::Patch, "/tickets", "[1]", r#""PATCH /api/tickets Bearer secret application/json [1]""#),
        ] {
            assert_eq!(told(&service, verb, path, message).await, expected);
        }
    }

    #[tokio::test]
    async fn the_status_says_what_the_answer_means() {
        const NONSENSE: &str = r#"nothing: Unavailable("the service `tickets` gave an answer that makes no sense")"#;
        const AWAY: &str = r#"nothing: Unavailable("the service `tickets` is not available; try again")"#;
        const LATE: &str = r#"nothing: TimedOut("the service `tickets` did not answer in time")"#;
        const FAILED: &str = r#"failed: Unavailable("the service `tickets` failed")"#;
        const REFUSED: &str = "refused: the service `tickets` refused";
        let (json, problem) = ("application/json", "application/problem+json");
        let service = service(&serve().await).unwrap();
        let long = format!(r#"{{"message":"{}"}}"#, "x".repeat(1_000));
        let long_told = format!("refused: {}", "x".repeat(500));
        for (status, kind, body, expected) in [
            (200, json, r#"{"a":1.50}"#, r#"{"a":1.50}"#),
            (201, "text/html", "7", "7"),
            (200, json, " ", "null"),
            (204, json, "", "null"),
            (200, json, "{", NONSENSE),
            (200, "text/html", "<html>", NONSENSE),
            (301, json, "{}", NONSENSE),
            (304, json, "", NONSENSE),
            (400, json, r#"{"message":"no"}"#, "refused: no"),
            (
                422,
                json,
                r#"{"message":["a is wrong","b, too"],"error":"Unprocessable"}"#,
                "refused: a is wrong, b, too",
            ),
            (403, json, r#"{"error":"not yours"}"#, "refused: not yours"),
            (409, json, r#"{"error":{"message":"closed"}}"#, "refused: closed"),
            (404, problem, r#"{"title":"Not found","detail":"no ticket 7"}"#, "refused: no ticket 7"),
            (400, "text/plain; charset=utf-8", " closed\n", "refused: closed"),
            (400, json, &long, &long_told),
            (401, json, r#"{"message":7}"#, REFUSED),
            (404, "text/html", "<h1>nginx</h1>", REFUSED),
            (429, json, "", REFUSED),
            (408, json, "", LATE),
            (504, json, "", LATE),
            (502, "text/html", "<h1>nginx</h1>", AWAY),
            (503, json, r#"{"message":"the password is 1234"}"#, AWAY),
            (500, json, r#"{"message":"the password is 1234"}"#, FAILED),
            (501, json, "", FAILED),
        ] {
            let encoded = percent_encoding::utf8_percent_encode(body, percent_encoding::NON_ALPHANUMERIC);
            let kind = percent_encoding::utf8_percent_encode(kind, percent_encoding::NON_ALPHANUMERIC);
            let path = format!("/?{status}&{kind}&{encoded}");
            assert_eq!(told(&service, Verb::Get, &path, "").await, expected, "{status} {body}");
        }
        let nobody = self::service("http://127.0.0.1:1").unwrap();
        assert_eq!(told(&nobody, Verb::Get, "/", "").await, AWAY);
    }

    #[test]
    fn addresses_are_urls() {
        for (address, expected) in [
            ("http://tickets:80/api/", Some("http://tickets/api")),
            ("https://tickets.example", Some("https://tickets.example")),
            ("ftp://tickets", None),
            ("http://", None),
            ("http://tickets/api?key=1", None),
            ("http://tickets/#api", None),
            ("tickets:80", None),
        ] {
            assert_eq!(service(address).ok().map(|service| service.base).as_deref(), expected, "{address}");
        }
    }
}
