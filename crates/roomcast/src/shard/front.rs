//! HTTP on a shard: Engine.IO requests go to the shard that owns the session, WebSocket handshakes end in a socket taken back from hyper,
//! everything else goes to the backend runtime. Knows nothing of what sessions do with their packets.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Either, Full, Limited};
use hub::names::NamespaceId;
use hub::profile::{Endpoint, Profile};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tower::ServiceExt;
use wire::engine::{self, Known, Query, Refusal, Revision, Transport, Transports, Verdict};
use wire::ws::{Deflate, UpgradeHeaders};

use super::MESSAGES_PER_READ;
use super::admission::Admission;
use super::answers::{Body, Cors, discard, empty, text, unavailable, uncached, with_type};
use super::ids::NodeId;
use super::inbox::{Inbox, Message};
use super::patience::Patient;
use super::poll::{Adopted, Handshake, PollKind, PollReply, PollRequest, Role};
use crate::embed;
use crate::embed::Program;
use crate::metrics::Metrics;

/// Bytes of a request's head.
const HEAD_MAX_BYTES: usize = 16 * 1024;

/// What the fronts of all shards share.
pub struct Shared {
    /// What the gateway runs.
    pub profile: Arc<Profile>,
    /// The shards.
    pub inboxes: Arc<[Inbox]>,
    /// This node, as session ids name it.
    pub node: NodeId,
    /// New sessions are refused.
    pub draining: AtomicBool,
    /// How fast new sessions are let in.
    pub admission: Admission,
    /// Everything that is no session.
    pub ops: axum::Router,
    /// Where that runs.
    pub backend: tokio::runtime::Handle,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<crate::addresses::Network>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// What the program has to say about requests.
    pub program: Arc<Program>,
}

/// The front of one shard.
pub struct Front {
    shared: Arc<Shared>,
    shard: usize,
}

impl Front {
    /// The front of this shard.
    pub fn new(shared: Arc<Shared>, shard: usize) -> Self {
        Self { shared, shard }
    }

    /// Serves one TCP connection until it ends or becomes a WebSocket.
    pub async fn serve(self: Rc<Self>, stream: std::net::TcpStream, peer: SocketAddr) {
        let stream = stream
            .set_nonblocking(true)
            .and_then(|()| stream.set_nodelay(true))
            .and_then(|()| TcpStream::from_std(stream));
        let Ok(stream) = stream else { return };
        let timeouts = self.shared.profile.limits.timeouts;
        let (stream, stage) = Patient::new(stream, &timeouts);
        let service = service_fn(move |request| {
            let front = self.clone();
            let stage = stage.clone();
            async move {
                stage.head_is_whole();
                let response = front.answer(request, peer.ip()).await;
                stage.answered();
                Ok::<_, Infallible>(response)
            }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(timeouts.keep_alive)
            .max_buf_size(HEAD_MAX_BYTES)
            .serve_connection(stream, service)
            .with_upgrades();
        if let Err(error) = connection.await {
            tracing::trace!(%peer, %error, "an HTTP connection ended");
        }
    }

    async fn answer(&self, request: Request<Incoming>, peer: IpAddr) -> Response<Body> {
        let draining = self.shared.draining.load(Ordering::Relaxed);
        let mut response = self.route(request, peer).await;
        if draining && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            // So that a client which comes back opens a new connection, which the balancer can send elsewhere.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn route(&self, request: Request<Incoming>, peer: IpAddr) -> Response<Body> {
        let path = request.uri().path();
        for (index, endpoint) in self.shared.profile.endpoints.iter().enumerate() {
            match endpoint {
                Endpoint::SocketIo(endpoint) => {
                    let rest = path.strip_prefix(endpoint.path.as_str());
                    if rest.is_some_and(|rest| rest.starts_with('/')) {
                        return self.engine(request, peer, index).await;
                    }
                }
                Endpoint::Json(endpoint) => {
                    let namespace = endpoint.paths.iter().find(|(of, _)| of == path).map(|(_, namespace)| *namespace);
                    if let Some(namespace) = namespace
                        && request.headers().contains_key(header::UPGRADE)
                    {
                        return self.plain(request, peer, index, namespace).await;
                    }
                }
            }
        }
        self.ops(request).await
    }

    /// An Engine.IO request.
    async fn engine(&self, request: Request<Incoming>, peer: IpAddr, endpoint: usize) -> Response<Body> {
        let origin = request.headers().get(header::ORIGIN).cloned();
        let cors = Cors { origins: &self.shared.profile.origins, origin: origin.as_ref() };
        if request.method() == Method::OPTIONS && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
        {
            let wanted = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
            return cors.preflight(wanted);
        }
        let query_string = request.uri().query().unwrap_or_default().to_owned();
        let query = Query::parse(&query_string);
        let method = request.method().clone();
        let kept = self.program_s_request(&request, peer);
        let mut response = if request.headers().contains_key(header::UPGRADE) {
            self.engine_websocket(request, peer, endpoint, &query, cors.allows(), kept.clone()).await
        } else {
            self.poll(request, peer, endpoint, &query, kept.clone()).await
        };
        cors.apply(response.headers_mut());
        if let (Some(change), Some(kept)) = (&self.shared.program.response_headers, kept) {
            change(&method, &kept, response.headers_mut());
        }
        response
    }

    /// The request as the program may look at it, if it ever does.
    fn program_s_request(&self, request: &Request<Incoming>, peer: IpAddr) -> Option<Arc<embed::Request>> {
        self.shared.program.wants_requests().then(|| {
            let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            Arc::new(embed::Request {
                uri: request.uri().clone(),
                headers: request.headers().clone(),
                address: self.address(request, peer),
                issued_unix_ms: since_1970.as_millis() as u64,
            })
        })
    }

    /// What the program has against a request that would open a session.
    fn refused_by_program(&self, request: Option<&embed::Request>) -> Result<(), String> {
        match (&self.shared.program.allow, request) {
            (Some(allow), Some(request)) => allow(request),
            (Some(_) | None, _) => Ok(()),
        }
    }

    async fn poll(
        &self,
        request: Request<Incoming>,
        peer: IpAddr,
        endpoint: usize,
        query: &Query<'_>,
        kept: Option<Arc<embed::Request>>,
    ) -> Response<Body> {
        let owner = query.sid().and_then(|sid| self.owner(sid));
        let allowed = if query.sid().is_none() { self.refused_by_program(kept.as_deref()) } else { Ok(()) };
        let verdict = match self.verify(&request, query, endpoint, owner.is_some(), false, allowed.is_ok()) {
            Ok(verdict) => verdict,
            Err(refusal) => return self.refuse_with(refusal, allowed.err().as_deref()),
        };
        match (verdict, query.sid().zip(owner)) {
            (Verdict::Open(Transport::Polling), _) => {
                if let Err(refused) = self.admit().await {
                    return refused;
                }
                let handshake = Box::new(Handshake { request: kept, ..self.handshake(&request, query) });
                let kind = PollKind::Open { handshake, address: self.address(&request, peer), endpoint };
                self.ask(self.shard, "", kind).await
            }
            (Verdict::Get, Some((sid, owner))) => {
                let mut abort =
                    Guard { inbox: Some(self.shared.inboxes[owner].clone()), sid, kind: Some(PollKind::Aborted) };
                let response = self.ask(owner, sid, PollKind::Get).await;
                abort.inbox = None;
                response
            }
            (Verdict::Post, Some((sid, owner))) => self.post(request, owner, sid).await,
            (Verdict::MethodNotServed, _) => empty(StatusCode::INTERNAL_SERVER_ERROR),
            (
                Verdict::Open(Transport::WebSocket)
                | Verdict::Probe
                | Verdict::UpgradeAndClose
                | Verdict::Get
                | Verdict::Post,
                _,
            ) => self.refuse(Refusal::BadRequest),
        }
    }

    fn body_timeout(&self) -> Duration {
        self.shared.profile.limits.timeouts.body
    }

    /// The shard of a session of ours.
    fn owner(&self, sid: &str) -> Option<usize> {
        self.shared.node.shard_of(sid).filter(|shard| *shard < self.shared.inboxes.len())
    }

    /// Lets a new session in, in its turn.
    async fn admit(&self) -> Result<(), Response<Body>> {
        let is_full = || {
            let limit = self.shared.profile.limits.connections;
            limit.is_some_and(|limit| self.shared.metrics.connections.get() >= i64::from(limit))
        };
        if self.shared.draining.load(Ordering::Relaxed) {
            return Err(unavailable("draining"));
        }
        let wait = if is_full() { None } else { self.shared.admission.take(Instant::now()) };
        match wait {
            Some(Duration::ZERO) => Ok(()),
            Some(wait) => {
                tokio::time::sleep(wait).await;
                match self.shared.draining.load(Ordering::Relaxed) {
                    true => Err(unavailable("draining")),
                    false if is_full() => Err(unavailable("full")),
                    false => Ok(()),
                }
            }
            None => Err(unavailable("full")),
        }
    }

    /// The checks that need no session; a session of ours is taken for one on polling, and its owner knows better.
    fn verify(
        &self,
        request: &Request<Incoming>,
        query: &Query<'_>,
        endpoint: usize,
        known: bool,
        upgrade: bool,
        allowed: bool,
    ) -> Result<Verdict, Refusal> {
        let method = match *request.method() {
            Method::GET => engine::Method::Get,
            Method::POST => engine::Method::Post,
            _ => engine::Method::Other,
        };
        let transports = match &self.shared.profile.endpoints[endpoint] {
            Endpoint::SocketIo(endpoint) => Transports { polling: endpoint.polling, websocket: endpoint.websocket },
            Endpoint::Json(_) => Transports { polling: false, websocket: false },
        };
        let session = known.then_some(Known { transport: Transport::Polling, revision: Revision::Four });
        let origin = request.headers().get(header::ORIGIN).map(HeaderValue::as_bytes);
        engine::verify(&engine::Request { method, query, upgrade, origin, allowed, session }, transports)
    }

    async fn post(&self, request: Request<Incoming>, owner: usize, sid: &str) -> Response<Body> {
        let binary = request.headers().get(header::CONTENT_TYPE).is_some_and(|value| {
            let kind = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
            kind.trim_ascii().eq_ignore_ascii_case(b"application/octet-stream")
        });
        if binary {
            // Ends the session: bodies of Engine.IO 4 are text.
            return self.ask(owner, sid, PollKind::PostStarted { binary }).await;
        }
        let limit = self.shared.profile.limits.message_bytes as usize;
        let declared =
            request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if declared.is_some_and(|length| length > limit) {
            let response = self.ask(owner, sid, PollKind::PostTooLarge).await;
            discard(request.into_body(), self.body_timeout()).await;
            return response;
        }
        let mut started = None;
        let mut body = Box::pin(Limited::new(request.into_body(), limit).collect());
        // A body that is here already needs no word to the owner that one is on its way.
        let collected = match futures_util::poll!(&mut body) {
            std::task::Poll::Ready(collected) => Ok(collected),
            std::task::Poll::Pending => {
                let mut guard =
                    Guard { inbox: Some(self.shared.inboxes[owner].clone()), sid, kind: Some(PollKind::PostAborted) };
                match self.request(owner, sid, PollKind::PostStarted { binary: false }).await {
                    Some(PollReply::Ok) => {}
                    reply => {
                        guard.inbox = None;
                        return self.reply(reply);
                    }
                }
                started = Some(guard);
                tokio::time::timeout(self.body_timeout(), body).await
            }
        };
        let body = match collected {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                release(&mut started);
                return self.ask(owner, sid, PollKind::PostTooLarge).await;
            }
            Ok(Err(_)) | Err(_) => return empty(StatusCode::BAD_REQUEST),
        };
        let mut is_started = started.is_some();
        release(&mut started);
        // A helping at a time, so that others of the shard have their turn in between.
        for helping in helpings(&body) {
            let kind = PollKind::Post { body: helping, started: std::mem::take(&mut is_started) };
            match self.request(owner, sid, kind).await {
                Some(PollReply::Ok) => {}
                reply => return self.reply(reply),
            }
        }
        self.reply(Some(PollReply::Ok))
    }

    async fn engine_websocket(
        &self,
        mut request: Request<Incoming>,
        peer: IpAddr,
        endpoint: usize,
        query: &Query<'_>,
        allowed: bool,
        kept: Option<Arc<embed::Request>>,
    ) -> Response<Body> {
        let owner = query.sid().and_then(|sid| self.owner(sid));
        if query.sid().is_none()
            && let Err(message) = self.refused_by_program(kept.as_deref())
        {
            self.shared.metrics.refused.inc("program");
            return text(StatusCode::BAD_REQUEST, &message);
        }
        let verdict = match self.verify(&request, query, endpoint, owner.is_some(), true, allowed) {
            Ok(verdict) => verdict,
            Err(Refusal::Forbidden) => {
                self.shared.metrics.refused.inc("origin");
                return text(StatusCode::FORBIDDEN, "Origin not allowed");
            }
            Err(refusal) => {
                self.shared.metrics.refused.inc("bad_handshake");
                return text(StatusCode::BAD_REQUEST, refusal.message());
            }
        };
        let (owner, role) = match (verdict, query.sid().zip(owner)) {
            (Verdict::Probe, Some((sid, owner))) => match self.request(owner, sid, PollKind::Upgrade).await {
                Some(PollReply::Ok) => (owner, Role::Upgrade { sid: sid.into(), endpoint }),
                Some(PollReply::UnknownSession) => {
                    return text(StatusCode::BAD_REQUEST, Refusal::SessionUnknown.message());
                }
                _ => return text(StatusCode::BAD_REQUEST, Refusal::BadRequest.message()),
            },
            (Verdict::Open(Transport::WebSocket), _) => {
                if let Err(refused) = self.admit().await {
                    return refused;
                }
                let handshake = Box::new(Handshake { request: kept, ..self.handshake(&request, query) });
                (self.shard, Role::SocketIo { handshake, address: self.address(&request, peer), endpoint })
            }
            (
                Verdict::Open(Transport::Polling)
                | Verdict::Get
                | Verdict::Post
                | Verdict::Probe
                | Verdict::UpgradeAndClose
                | Verdict::MethodNotServed,
                _,
            ) => {
                return text(StatusCode::BAD_REQUEST, Refusal::BadRequest.message());
            }
        };
        let protocol = first_protocol(request.headers());
        self.upgrade(&mut request, owner, role, protocol)
    }

    /// A handshake of the plain JSON dialects.
    async fn plain(
        &self,
        mut request: Request<Incoming>,
        peer: IpAddr,
        endpoint: usize,
        namespace: NamespaceId,
    ) -> Response<Body> {
        let cors = Cors { origins: &self.shared.profile.origins, origin: request.headers().get(header::ORIGIN) };
        if !cors.allows() {
            self.shared.metrics.refused.inc("origin");
            return text(StatusCode::FORBIDDEN, "Origin not allowed");
        }
        if let Err(refused) = self.admit().await {
            return refused;
        }
        let query_string = request.uri().query().unwrap_or_default().to_owned();
        let request_kept = self.program_s_request(&request, peer);
        let mut handshake = self.handshake(&request, &Query::parse(&query_string));
        handshake.request = request_kept;
        let protocols: Vec<&str> = protocols(request.headers()).collect();
        let protocol = match protocols.as_slice() {
            ["bearer", token] => {
                handshake.token = Some((*token).into());
                Some(HeaderValue::from_static("bearer"))
            }
            [first, ..] => HeaderValue::from_str(first).ok(),
            [] => None,
        };
        let role =
            Role::Json { handshake: Box::new(handshake), address: self.address(&request, peer), endpoint, namespace };
        self.upgrade(&mut request, self.shard, role, protocol)
    }

    /// Answers 101 and, once that is flushed, hands the socket to its shard.
    fn upgrade(
        &self,
        request: &mut Request<Incoming>,
        owner: usize,
        role: Role,
        protocol: Option<HeaderValue>,
    ) -> Response<Body> {
        let headers = request.headers();
        let field = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let accept = wire::ws::check_upgrade(&UpgradeHeaders {
            method: request.method().as_str(),
            upgrade: field(header::UPGRADE),
            connection: field(header::CONNECTION),
            version: field(header::SEC_WEBSOCKET_VERSION),
            key: field(header::SEC_WEBSOCKET_KEY),
        });
        let accept = match accept {
            Ok(accept) => accept,
            Err(refusal) => {
                self.shared.metrics.refused.inc("bad_handshake");
                let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
                let mut response = text(status, refusal.message());
                if status == StatusCode::UPGRADE_REQUIRED {
                    response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13, 8"));
                }
                return response;
            }
        };
        let deflate = self.deflate(headers, &role);
        let upgrade = hyper::upgrade::on(request);
        let inbox = self.shared.inboxes[owner].clone();
        tokio::task::spawn_local(async move {
            let Ok(upgraded) = upgrade.await else { return };
            let Ok(parts) = upgraded.downcast::<Patient>() else { return };
            let Ok(socket) = parts.io.into_inner().into_std() else { return };
            let adopted = Adopted { socket: OwnedFd::from(socket), leftover: parts.read_buf, deflate, role };
            inbox.send(Message::Adopt(Box::new(adopted)));
        });
        let mut response = Response::new(Either::Left(Full::default()));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(
            header::SEC_WEBSOCKET_ACCEPT,
            HeaderValue::try_from(accept.accept.as_str()).expect("base64 is a header value"),
        );
        if let Some(protocol) = protocol {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        if let Some(deflate) = deflate {
            headers.insert(
                header::SEC_WEBSOCKET_EXTENSIONS,
                HeaderValue::try_from(deflate.answer()).expect("a name and numbers are a header value"),
            );
        }
        response
    }

    /// Compression, where the endpoint has it and the client offers it.
    fn deflate(&self, headers: &HeaderMap, role: &Role) -> Option<Deflate> {
        let endpoint = match role {
            Role::SocketIo { endpoint, .. } | Role::Upgrade { endpoint, .. } | Role::Json { endpoint, .. } => *endpoint,
        };
        let has_it = match &self.shared.profile.endpoints[endpoint] {
            Endpoint::SocketIo(endpoint) => endpoint.deflate,
            Endpoint::Json(endpoint) => endpoint.deflate,
        };
        let offers = headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS).iter().filter_map(|value| value.to_str().ok());
        if has_it { offers.filter_map(Deflate::negotiate).next() } else { None }
    }

    /// Everything that is no session, on the backend runtime.
    async fn ops(&self, request: Request<Incoming>) -> Response<Body> {
        let router = self.shared.ops.clone();
        let answer = self.shared.backend.spawn(async move { router.oneshot(request.map(axum::body::Body::new)).await });
        // Twice, since what is asked for may itself wait for as long as a body may take.
        let Ok(answer) = tokio::time::timeout(2 * self.body_timeout(), answer).await else {
            return text(StatusCode::REQUEST_TIMEOUT, "The request took too long");
        };
        match answer {
            Ok(Ok(response)) => response.map(Either::Right),
            Ok(Err(never)) => match never {},
            Err(_) => empty(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    fn handshake(&self, request: &Request<Incoming>, query: &Query<'_>) -> Handshake {
        let authorization = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        // RFC 9110, section 11.1: the scheme's case says nothing.
        let bearer = authorization.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        });
        let token = bearer
            .map(str::to_owned)
            .or_else(|| query.value("token").map(Into::into))
            .filter(|token| !token.is_empty());
        let named = self.shared.profile.auth.anonymous_query.as_deref();
        let user_id = named.and_then(|name| query.value(name)).filter(|id| !id.is_empty());
        Handshake { token: token.map(String::into_boxed_str), user_id: user_id.map(Into::into), request: None }
    }

    /// Where the client is: the peer, or what a trusted proxy says.
    fn address(&self, request: &Request<Incoming>, peer: IpAddr) -> IpAddr {
        crate::addresses::client(peer, request.headers().get_all("x-forwarded-for"), &self.shared.trusted_proxies)
    }

    fn refuse(&self, refusal: Refusal) -> Response<Body> {
        self.refuse_with(refusal, None)
    }

    /// The same with a message of the program's own.
    fn refuse_with(&self, refusal: Refusal, message: Option<&str>) -> Response<Body> {
        self.shared.metrics.refused.inc("bad_handshake");
        let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
        let body = refusal.json_body_with(message.unwrap_or(refusal.message()));
        with_type(status, "application/json", Bytes::from(body))
    }

    async fn ask(&self, owner: usize, sid: &str, kind: PollKind) -> Response<Body> {
        let reply = self.request(owner, sid, kind).await;
        self.reply(reply)
    }

    async fn request(&self, owner: usize, sid: &str, kind: PollKind) -> Option<PollReply> {
        let (reply, answer) = oneshot::channel();
        self.shared.inboxes[owner].send(Message::Poll(PollRequest { sid: sid.into(), kind, reply }));
        answer.await.ok()
    }

    fn reply(&self, reply: Option<PollReply>) -> Response<Body> {
        match reply {
            Some(PollReply::Packets(packets)) => {
                uncached(with_type(StatusCode::OK, "text/plain; charset=UTF-8", packets))
            }
            Some(PollReply::Ok) => uncached(with_type(StatusCode::OK, "text/html", Bytes::from_static(b"ok"))),
            Some(PollReply::UnknownSession) => self.refuse(Refusal::SessionUnknown),
            Some(PollReply::BadRequest) => self.refuse(Refusal::BadRequest),
            Some(PollReply::TooLarge) => empty(StatusCode::PAYLOAD_TOO_LARGE),
            Some(PollReply::Unavailable) => unavailable("full"),
            Some(PollReply::Gone) | None => empty(StatusCode::BAD_REQUEST),
        }
    }
}

/// The body of a POST in parts of so many packets that a shard may handle at once.
fn helpings(body: &Bytes) -> Vec<Bytes> {
    let separators = body.iter().enumerate().filter(|(_, byte)| **byte == engine::SEPARATOR as u8).map(|(at, _)| at);
    let mut helpings = Vec::new();
    let mut start = 0;
    for at in separators.skip(MESSAGES_PER_READ - 1).step_by(MESSAGES_PER_READ) {
        helpings.push(body.slice(start..at));
        start = at + 1;
    }
    helpings.push(body.slice(start..));
    helpings
}

fn release(guard: &mut Option<Guard<'_>>) {
    if let Some(guard) = guard {
        guard.inbox = None;
    }
}

/// Tells the owner of a session when a request of its client ends early: its future is dropped then.
struct Guard<'a> {
    inbox: Option<Inbox>,
    sid: &'a str,
    kind: Option<PollKind>,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if let (Some(inbox), Some(kind)) = (self.inbox.take(), self.kind.take()) {
            let (reply, _) = oneshot::channel();
            inbox.send(Message::Poll(PollRequest { sid: self.sid.into(), kind, reply }));
        }
    }
}

fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

fn first_protocol(headers: &HeaderMap) -> Option<HeaderValue> {
    protocols(headers).next().and_then(|protocol| HeaderValue::from_str(protocol).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_served_in_helpings_and_nothing_is_lost_in_between() {
        for packets in [0, 1, 63, 64, 65, 128, 1000] {
            let body = Bytes::from(vec!["4x"; packets].join("\x1e"));
            let helpings = helpings(&body);
            assert!(
                helpings
                    .iter()
                    .all(|part| part.split(|byte| *byte == engine::SEPARATOR as u8).count() <= MESSAGES_PER_READ)
            );
            assert_eq!(helpings.join(&(engine::SEPARATOR as u8)), body, "{packets} packets");
        }
    }
}
