//! HTTP on a shard: which request goes where. Polls are `polls`, WebSocket handshakes `upgrades`, requests of other nodes' sessions `passed`;
//! everything that is no session goes to the backend runtime. Knows nothing of what sessions do with their packets.

mod direct;
mod passed;
mod polls;
mod upgrades;

use std::convert::Infallible;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Either;
use hub::names::NamespaceId;
use hub::profile::{Endpoint, Profile, Timeouts};
use hyper::body::Incoming;
use hyper::service::service_fn;
use tokio::net::TcpStream;
use tower::ServiceExt;
use wire::engine::{self, Known, Offer, Query, Refusal, Verdict};

pub use self::direct::Direct;
use super::admission::Admission;
use super::answers::{Body, CrossOrigin, empty, text, unavailable};
use super::client_files::ClientFiles;
use super::ids::{NodeId, SessionId};
use super::inbox::Inbox;
use super::patience::Patient;
use super::poll::{Handshake, Named};
use super::transport::Transport;
use crate::cluster::passing::{Foreign, Passing};
use crate::embed;
use crate::embed::Program;
use crate::http2::{Http2, Opening, opening};
use crate::metrics::Metrics;

/// Bytes of a request's head.
pub(super) const HEAD_MAX_BYTES: usize = 16 * 1024;

/// The session of a request ended while its body was still arriving: its connection is broken off, without an answer.
#[derive(Debug)]
struct BrokenOff;

impl fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the session of a request ended while its body was still arriving")
    }
}

impl std::error::Error for BrokenOff {}

/// What the fronts of all shards share.
pub struct Shared {
    /// What the gateway runs.
    pub profile: Arc<Profile>,
    /// The shards.
    pub inboxes: Arc<[Inbox]>,
    /// This node, as session ids name it.
    pub node: NodeId,
    /// The way to the other nodes, where there are any.
    pub passing: Option<Arc<Passing>>,
    /// New sessions are refused.
    pub draining: AtomicBool,
    /// How fast new sessions are let in.
    pub admission: Admission,
    /// Seats that are taken, where connections are limited.
    pub seats: Arc<AtomicUsize>,
    /// Everything that is no session.
    pub ops: axum::Router,
    /// The same, and gRPC, on connections that speak HTTP/2.
    pub http2: Http2,
    /// Where both run.
    pub backend: tokio::runtime::Handle,
    /// The client's files of each endpoint, where it serves them.
    pub client_files: Vec<Option<ClientFiles>>,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<crate::addresses::Network>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// TLS, where the service port speaks it.
    pub tls: Option<tokio_rustls::TlsAcceptor>,
    /// What the program has to say about requests.
    pub program: Arc<Program>,
}

/// A place among the connections that this node may have, from the agreement until the connection ends: so that clients who come at once do not
/// all take the last one.
#[derive(Debug)]
pub struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// No new session is let in.
pub struct NoSeat;

/// Serves one TCP connection of operators, on whatever runtime this is called: the same documents as beside the sessions, and as much time.
pub async fn serve_router(stream: TcpStream, router: axum::Router, http2: Http2, timeouts: Timeouts) {
    let mut stream = Transport::Plain(stream);
    let Ok(Opening { http2: is_http2, head, left }) = opening(&mut stream, Bytes::new(), timeouts.head).await else {
        return;
    };
    if is_http2 {
        return http2.serve(stream, head).await;
    }
    let (stream, stage) = Patient::new(stream, head, left, &timeouts);
    let service = service_fn(move |request: Request<Incoming>| {
        let (router, stage) = (router.clone(), stage.clone());
        async move {
            stage.head_is_whole();
            let answer = router.oneshot(request.map(axum::body::Body::new));
            let response = match tokio::time::timeout(2 * timeouts.body, answer).await {
                Ok(Ok(response)) => response.map(Either::Right),
                Ok(Err(never)) => match never {},
                Err(_) => took_too_long(),
            };
            stage.answered();
            Ok::<Response<Body>, Infallible>(response)
        }
    });
    let connection =
        hyper::server::conn::http1::Builder::new().max_buf_size(HEAD_MAX_BYTES).serve_connection(stream, service);
    if let Err(error) = connection.await {
        tracing::trace!(%error, "a connection of operators ended");
    }
}

/// The answer to a request of the documents or the server API whose body does not come.
fn took_too_long() -> Response<Body> {
    text(StatusCode::REQUEST_TIMEOUT, "The request took too long")
}

/// What a request is for.
enum Found<'a> {
    /// An endpoint of Socket.IO; what the path says below the endpoint's.
    Engine(usize, &'a str),
    /// A WebSocket of a plain endpoint.
    Plain(usize, NamespaceId),
}

/// Who sends requests.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer {
    /// Where the client is, or the proxy in front of it.
    address: IpAddr,
    /// Another node passes them on: they are not passed on again.
    is_passed: bool,
}

/// The front of one shard; or of none, for what other nodes pass on.
pub struct Front {
    shared: Arc<Shared>,
    shard: usize,
    tasks: Arc<AtomicUsize>,
}

/// Counts a task of the shard's runtime for as long as it lives.
struct Task(Arc<AtomicUsize>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Front {
    /// The front of this shard.
    pub fn new(shared: Arc<Shared>, shard: usize) -> Self {
        Self { shared, shard, tasks: Arc::default() }
    }

    /// Whether nothing of the front's is under way: the shard then is alone in its thread, and may sleep without its runtime.
    pub fn is_idle(&self) -> bool {
        self.tasks.load(Ordering::Relaxed) == 0
    }

    /// Starts a task on the shard's runtime. There is no other way to one.
    fn spawn(&self, work: impl Future<Output = ()> + 'static) {
        self.tasks.fetch_add(1, Ordering::Relaxed);
        let task = Task(self.tasks.clone());
        tokio::task::spawn_local(async move {
            work.await;
            drop(task);
        });
    }

    /// Whether connections begin with a TLS handshake.
    pub fn speaks_tls(&self) -> bool {
        self.shared.tls.is_some()
    }

    /// Has a TCP connection served, until it ends or becomes a WebSocket. It is non-blocking already, `head` was read of it, and
    /// it has waited so long for its first byte.
    pub fn start(self: Rc<Self>, stream: std::net::TcpStream, peer: SocketAddr, head: Bytes, waited: Duration) {
        let first_head = self.shared.profile.limits.timeouts.head.saturating_sub(waited);
        let peer = Peer { address: peer.ip(), is_passed: false };
        let serving = self.clone().serve(stream, peer, head, first_head);
        self.spawn(serving);
    }

    async fn serve(self: Rc<Self>, stream: std::net::TcpStream, peer: Peer, head: Bytes, first_head: Duration) {
        let Ok(stream) = TcpStream::from_std(stream) else { return };
        let timeouts = self.shared.profile.limits.timeouts;
        let mut stream = match self.shared.tls.as_ref().filter(|_| !peer.is_passed) {
            None => Transport::Plain(stream),
            Some(acceptor) => match tokio::time::timeout(timeouts.head, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => Transport::Tls(Box::new(stream)),
                Ok(Err(error)) => {
                    self.shared.metrics.refused.inc("tls");
                    return tracing::debug!(peer = %peer.address, %error, "a TLS handshake failed");
                }
                Err(_) => return self.shared.metrics.refused.inc("tls"),
            },
        };
        let Ok(Opening { http2, head, left }) = opening(&mut stream, head, first_head).await else { return };
        if http2 {
            return self.hand_over(stream, head);
        }
        let (stream, stage) = Patient::new(stream, head, left, &timeouts);
        let service = service_fn(move |request| {
            let front = self.clone();
            let stage = stage.clone();
            async move {
                stage.head_is_whole();
                let response = front.answer(request, peer).await;
                stage.answered();
                response
            }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .max_buf_size(HEAD_MAX_BYTES)
            .serve_connection(stream, service)
            .with_upgrades();
        if let Err(error) = connection.await {
            tracing::trace!(peer = %peer.address, %error, "an HTTP connection ended");
        }
        crate::memory::connection_ended();
    }

    /// Leaves a connection that speaks HTTP/2 to the backend runtime: no session is spoken of on it, so that no shard is to be kept busy by it.
    fn hand_over(&self, stream: Transport, head: Bytes) {
        let http2 = self.shared.http2.clone();
        self.shared.backend.spawn(async move {
            match stream.moved_here() {
                Ok(stream) => http2.serve(stream, head).await,
                Err(error) => tracing::warn!(%error, "an HTTP/2 connection could not be handed over"),
            }
        });
    }

    async fn answer(&self, request: Request<Incoming>, peer: Peer) -> Result<Response<Body>, BrokenOff> {
        let mut response = self.route(request, peer).await?;
        if self.is_draining() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            // So that a client which comes back opens a new connection, which the balancer can send elsewhere.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(response)
    }

    async fn route(&self, request: Request<Incoming>, peer: Peer) -> Result<Response<Body>, BrokenOff> {
        match self.find(request.uri().path(), request.headers()) {
            Some(Found::Engine(endpoint, file)) => {
                let file = file.to_owned();
                self.engine(request, peer, endpoint, &file).await
            }
            Some(Found::Plain(endpoint, namespace)) => Ok(self.plain(request, peer.address, endpoint, namespace).await),
            None => Ok(self.ops(request).await),
        }
    }

    /// The endpoint that a request is for.
    fn find<'a>(&self, path: &'a str, headers: &HeaderMap) -> Option<Found<'a>> {
        let mut endpoints = self.shared.profile.endpoints.iter().enumerate();
        endpoints.find_map(|(index, endpoint)| match endpoint {
            Endpoint::SocketIo(endpoint) => {
                let rest = path.strip_prefix(endpoint.path.as_str())?;
                let is_below = rest.starts_with('/') || (rest.is_empty() && !endpoint.trailing_slash);
                is_below.then(|| Found::Engine(index, rest.trim_start_matches('/')))
            }
            Endpoint::Json(endpoint) => {
                let (_, namespace) = endpoint.paths.iter().find(|(of, _)| of == path)?;
                upgrades::is_asked(headers).then_some(Found::Plain(index, *namespace))
            }
        })
    }

    /// An Engine.IO request. `file` is what its path says below the endpoint's.
    async fn engine(
        &self,
        mut request: Request<Incoming>,
        Peer { address: peer, is_passed }: Peer,
        endpoint: usize,
        file: &str,
    ) -> Result<Response<Body>, BrokenOff> {
        let cross_origin = CrossOrigin::of(&self.shared.profile.cors, request.headers());
        if request.method() == Method::OPTIONS
            && let Some(preflight) = cross_origin.preflight(request.headers())
        {
            return Ok(preflight);
        }
        let query_string = request.uri().query().unwrap_or_default().to_owned();
        let query = Query::parse(&query_string);
        if let Some(passing) = &self.shared.passing
            && !is_passed
            && let Some(sid) = self.foreign(&query)
        {
            let session = Foreign { sid, revision: query.revision() };
            // A node that is not there knows no session: what is said of it is said here.
            if upgrades::is_asked(request.headers()) {
                // Its client stays on polling, which goes on by other ways. Once it has begun to move, it could not turn back.
                if passing.is_leaving() {
                    return Ok(unavailable("draining"));
                }
                if let Some(tunnel) = passing.tunnel(session, peer).await {
                    return Ok(self.pass_upgrade(request, tunnel).await);
                }
            } else if let Some(way) = passing.way(session, request.method()).await {
                match self.pass_poll(request, peer, way, &cross_origin).await? {
                    Ok(response) => return Ok(response),
                    Err(unanswered) => request = *unanswered,
                }
            }
        }
        let method = request.method().clone();
        let kept = self.program_s_request(&request, peer);
        let mut response = if upgrades::is_asked(request.headers()) {
            let allowed = cross_origin.allows();
            let response = self.engine_websocket(request, peer, endpoint, &query, allowed, kept.clone()).await;
            if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                return Ok(response);
            }
            response
        } else if let Some(file) = self.client_file(endpoint, file, request.headers()) {
            file
        } else {
            self.poll(request, peer, endpoint, &query, kept.clone()).await?
        };
        cross_origin.apply(response.headers_mut());
        if let (Some(change), Some(kept)) = (&self.shared.program.response_headers, kept) {
            change(&method, &kept, response.headers_mut());
        }
        Ok(response)
    }

    /// The request as the program may look at it, if it ever does.
    fn program_s_request<B>(&self, request: &Request<B>, peer: IpAddr) -> Option<Arc<embed::Request>> {
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

    fn client_file(&self, endpoint: usize, file: &str, headers: &HeaderMap) -> Option<Response<Body>> {
        self.shared.client_files[endpoint].as_ref()?.answer(file, headers)
    }

    fn body_timeout(&self) -> Duration {
        self.shared.profile.limits.timeouts.body
    }

    /// The session that a request names, if it may be one of ours, and the shard that owns it.
    fn named(&self, query: &Query<'_>, endpoint: usize, upgrade: bool) -> Option<(usize, Named)> {
        let sid = SessionId::parse(query.sid()?)?;
        let owner = self.shared.node.shard_of(sid).filter(|shard| *shard < self.shared.inboxes.len())?;
        let asked = Known { transport: query.transport()?, revision: query.revision() };
        Some((owner, Named { sid, endpoint, asked, upgrade }))
    }

    fn is_draining(&self) -> bool {
        self.shared.draining.load(Ordering::Relaxed)
    }

    fn is_full(&self) -> bool {
        let limit = self.shared.profile.limits.connections;
        limit.is_some_and(|limit| self.shared.seats.load(Ordering::Acquire) >= limit as usize)
    }

    /// Takes a place for a new session; nothing is to be held where connections are not limited.
    fn seat(&self) -> Result<Option<Seat>, NoSeat> {
        let Some(limit) = self.shared.profile.limits.connections else { return Ok(None) };
        let seats = &self.shared.seats;
        // Nobody is refused for the sake of one who is refused as well.
        let more = |taken: usize| (taken < limit as usize).then_some(taken + 1);
        seats.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).map_err(|_| NoSeat)?;
        Ok(Some(Seat(seats.clone())))
    }

    /// Lets a new session in, in its turn.
    async fn admit(&self) -> Result<Option<Seat>, Response<Body>> {
        if self.is_draining() {
            return Err(unavailable("draining"));
        }
        let wait = if self.is_full() { None } else { self.shared.admission.take(Instant::now()) };
        let Some(wait) = wait else { return Err(unavailable("full")) };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
            if self.is_draining() {
                return Err(unavailable("draining"));
            }
        }
        self.seat().map_err(|NoSeat| unavailable("full"))
    }

    /// The checks that need no session; a session of ours is taken for what the request says it is, and its owner knows better.
    fn verify<B>(
        &self,
        request: &Request<B>,
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
        let offer = match &self.shared.profile.endpoints[endpoint] {
            Endpoint::SocketIo(endpoint) => {
                Offer { polling: endpoint.polling, websocket: endpoint.websocket, revision_3: endpoint.allow_eio3 }
            }
            Endpoint::Json(_) => Offer { polling: false, websocket: false, revision_3: false },
        };
        let asked = query.transport().map(|transport| Known { transport, revision: query.revision() });
        let session = asked.filter(|_| known);
        let origin = request.headers().get(header::ORIGIN).map(HeaderValue::as_bytes);
        engine::verify(&engine::Request { method, query, upgrade, origin, allowed, session }, offer)
    }

    /// Everything that is no session, on the backend runtime.
    async fn ops(&self, request: Request<Incoming>) -> Response<Body> {
        let router = self.shared.ops.clone();
        let answer = self.shared.backend.spawn(async move { router.oneshot(request.map(axum::body::Body::new)).await });
        // Twice, since what is asked for may itself wait for as long as a body may take.
        let Ok(answer) = tokio::time::timeout(2 * self.body_timeout(), answer).await else {
            return took_too_long();
        };
        match answer {
            Ok(Ok(response)) => response.map(Either::Right),
            Ok(Err(never)) => match never {},
            Err(_) => empty(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    fn handshake<B>(&self, request: &Request<B>, query: &Query<'_>) -> Handshake {
        let authorization = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        // RFC 9110, section 11.1: the scheme's case says nothing.
        let bearer = authorization.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        });
        let token = bearer
            .filter(|token| !token.is_empty())
            .map(str::to_owned)
            .or_else(|| query.value("token").map(Into::into))
            .filter(|token| !token.is_empty());
        let named = self.shared.profile.auth.anonymous_query.as_deref();
        let user_id = named.and_then(|name| query.value(name)).filter(|id| !id.is_empty());
        Handshake { token: token.map(String::into_boxed_str), user_id: user_id.map(Into::into), request: None }
    }

    /// Where the client is: the peer, or what a trusted proxy says.
    fn address<B>(&self, request: &Request<B>, peer: IpAddr) -> IpAddr {
        crate::addresses::client(peer, request.headers().get_all("x-forwarded-for"), &self.shared.trusted_proxies)
    }
}
