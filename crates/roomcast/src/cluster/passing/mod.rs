//! Any request on any node: what comes to one that has not the session is passed on to the one that has, so that no balancer needs sticky sessions.
//!
//! The session's id names its node, and [`Nodes`] says where that is. Polls go over one HTTP/2 connection to each other node (`link`), a WebSocket over a
//! connection of its own, byte by byte (`tunnel`); both sides of either know the cluster's secret (`proof`). What others pass on comes by `listener`. Knows
//! nothing of sessions but their ids, and nothing of packets.

mod link;
mod listener;
mod proof;
mod tunnel;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{Either, Empty};
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;
use wire::engine::Revision;

use self::link::{Link, Outcome};
pub use self::listener::Port;
pub use self::tunnel::{Passage as TunnelPassage, Tunnel};
use super::nodes::{NodeInfo, Nodes};
use crate::metrics::Metrics;
use crate::shard::ids::{NodeId, SessionId};
use crate::shard::poll::Passage;

/// Polls and WebSockets of other nodes' sessions that this node may have under way. Further ones are answered as if their node were not there.
const PASSAGES_MAX: usize = 65_536;

/// How long a connection to another node may take, proofs included.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// The shortest time between two polls of a client whose node is about to go, so that one which comes back to the same node does not run in circles.
const LEAVE_MIN: Duration = Duration::from_millis(250);

/// How long after another each passage ends when this node goes.
const LEAVE_EACH_MAX: Duration = Duration::from_millis(10);

/// How often a node that ends looks for what is still under way.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Where the client of a passed-on request is. On a connection between nodes alone; a client's own field of this name is overwritten.
const CLIENT: HeaderName = HeaderName::from_static("roomcast-client");

/// The session that a node asks for itself about.
const SESSION: HeaderName = HeaderName::from_static("roomcast-session");

/// What it says of it: a poll, or a WebSocket, is about to lose its way; or a client has gone.
const LEAVING: HeaderName = HeaderName::from_static("roomcast-leaving");
const POLL: HeaderValue = HeaderValue::from_static("poll");
const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");
const GONE: HeaderValue = HeaderValue::from_static("gone");

/// Between nodes: the session ended while the request's body was still arriving, and its client's connection is to be broken off without an answer.
/// No client is ever answered this.
pub const BROKEN_OFF: StatusCode = StatusCode::GONE;

/// Fields that speak of one connection (RFC 9110, section 7.6.1), or that hyper sees to.
const OF_ONE_CONNECTION: [HeaderName; 7] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::EXPECT,
];

/// The body of a request to another node.
type Sent = Either<Incoming, Empty<Bytes>>;

/// A session of another node, as a request names it.
#[derive(Debug, Clone, Copy)]
pub struct Foreign {
    /// Its id.
    pub sid: SessionId,
    /// The revision that the request speaks.
    pub revision: Revision,
}

impl Foreign {
    fn place(self) -> (NodeId, u8) {
        self.sid.place(self.revision)
    }
}

/// What came of a poll that was passed on.
pub enum Answer {
    /// What its owner says.
    Whole(Response<Bytes>),
    /// The client's connection is to be broken off.
    BrokenOff,
    /// The owner, or the way to it, was lost on the way.
    Lost,
    /// The way was lost before, and there is no other: the request as it came.
    NotThere(Box<Request<Incoming>>),
}

/// A request from another node.
pub enum Asked {
    /// It passes on what a client at this address sent.
    ByClient {
        /// As the client sent it.
        request: Box<Request<Incoming>>,
        /// Where the client is, or the proxy in front of it.
        address: IpAddr,
    },
    /// It is about to go, and a session's client comes through it; or that client has gone.
    Leaving {
        /// The session.
        sid: SessionId,
        /// What comes through it.
        what: Passage,
    },
}

/// The way to the other nodes.
pub struct Passing {
    nodes: Nodes,
    links: Mutex<HashMap<NodeId, Arc<Link>>>,
    places: Arc<Semaphore>,
    websockets: AtomicUsize,
    stage: watch::Sender<Stage>,
    backend: Handle,
    metrics: Arc<Metrics>,
}

/// How far this node is from its end.
#[derive(Clone)]
enum Stage {
    Here,
    /// It is about to go.
    Leaving {
        since: Instant,
        each: Duration,
        /// How many know when their turn is.
        told: Arc<AtomicU32>,
    },
    /// No connections come to it any more.
    Ending,
}

/// A place among those who are passed on.
struct Place {
    metrics: Arc<Metrics>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.metrics.passing_on.dec();
    }
}

/// One of the WebSockets that are under way, from the first moment on.
struct Counted(Arc<Passing>);

impl Counted {
    fn new(passing: Arc<Passing>) -> Self {
        passing.websockets.fetch_add(1, Ordering::Relaxed);
        Self(passing)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.websockets.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A poll on its way, from the first moment on. A GET that its client drops may not have been sent yet, so that nobody would hear of it: its session's node
/// is told in words, and ends the session as it does for its own clients.
struct Unanswered {
    passing: Arc<Passing>,
    session: Foreign,
    is_get: bool,
    /// Until it is answered.
    place: Option<Place>,
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        // What is still to be told takes its place, so that no more of this goes on at once than of the polls themselves.
        let place = self.place.take().filter(|_| self.is_get);
        let Some(permit) = place.and_then(|mut place| place.permit.take()) else { return };
        let (passing, session) = (self.passing.clone(), self.session);
        self.passing.backend.spawn(async move {
            if let Some(node) = passing.node(session).await
                && let Some((_, sender)) = passing.sender(&node).await
            {
                // A node that is lost has lost the session as well.
                let _ = sender.ask(leaving(session.sid, Passage::Client)).await;
            }
            drop(permit);
        });
    }
}

/// The way to a session's node.
pub struct Way {
    poll: Unanswered,
    node: Arc<NodeInfo>,
    link: Arc<Link>,
    sender: link::Sender,
}

impl Passing {
    /// No connection is made before it is needed; those of polls live on this runtime.
    pub fn new(nodes: Nodes, metrics: Arc<Metrics>, backend: Handle) -> Self {
        Self {
            nodes,
            links: Mutex::default(),
            places: Arc::new(Semaphore::new(PASSAGES_MAX)),
            websockets: AtomicUsize::new(0),
            stage: watch::Sender::new(Stage::Here),
            backend,
            metrics,
        }
    }

    /// The way by which a poll of this session goes; none if its node is not there.
    pub async fn way(self: &Arc<Self>, session: Foreign, method: &Method) -> Option<Way> {
        let place = Some(self.place()?);
        let mut poll = Unanswered { passing: self.clone(), session, is_get: *method == Method::GET, place };
        let found = async {
            let node = self.node(session).await?;
            let (link, sender) = self.sender(&node).await?;
            Some((node, link, sender))
        };
        let Some((node, link, sender)) = found.await else {
            poll.place = None;
            return None;
        };
        Some(Way { poll, node, link, sender })
    }

    async fn sender(&self, node: &NodeInfo) -> Option<(Arc<Link>, link::Sender)> {
        let link = self.link(node);
        let sender = link.sender(node, &self.nodes, &self.backend).await;
        if sender.is_none() {
            self.metrics.passed_on.inc("unreachable");
        }
        Some((link, sender?))
    }

    /// A connection to the node of this session, for a WebSocket of it whose client is at this address; none if its node is not there.
    pub async fn tunnel(self: &Arc<Self>, session: Foreign, client: IpAddr) -> Option<Tunnel> {
        let counted = Counted::new(self.clone());
        let place = self.place()?;
        let node = self.node(session).await?;
        let (_, shard) = session.place();
        let purpose = proof::Purpose::Tunnel { client, shard };
        match proof::connect(&node, &self.nodes, purpose).await {
            Ok(stream) => {
                self.metrics.passed_on.inc("answered");
                Some(Tunnel { stream, passage: TunnelPassage::new(counted, node, session.sid, place) })
            }
            Err(error) => {
                tracing::debug!(address = ?node.address, error = format!("{error:#}"), "a node cannot be reached");
                self.metrics.passed_on.inc("unreachable");
                None
            }
        }
    }

    fn place(&self) -> Option<Place> {
        match self.places.clone().try_acquire_owned() {
            Ok(permit) => {
                self.metrics.passing_on.inc();
                Some(Place { metrics: self.metrics.clone(), permit: Some(permit) })
            }
            Err(_) => {
                self.metrics.passed_on.inc("full");
                None
            }
        }
    }

    async fn node(&self, session: Foreign) -> Option<Arc<NodeInfo>> {
        let (id, _) = session.place();
        // A request of the wrong revision is its node's to refuse.
        let other = match session.revision {
            Revision::Three => Revision::Four,
            Revision::Four => Revision::Three,
        };
        let (unlikely, _) = session.sid.place(other);
        let node = match self.nodes.find(id).or_else(|| self.nodes.find(unlikely)) {
            Some(node) => Some(node),
            // It may have started a moment ago.
            None => self.nodes.look_up(id).await,
        };
        if node.is_none() {
            self.metrics.passed_on.inc("unknown");
        }
        node
    }

    fn link(&self, node: &NodeInfo) -> Arc<Link> {
        let mut links = self.links.lock();
        if !links.contains_key(&node.id) {
            // Those of nodes that are gone, too.
            links.retain(|_, link| link.is_open());
        }
        links.entry(node.id).or_default().clone()
    }

    /// Polls and WebSockets that are under way.
    fn under_way(&self) -> usize {
        PASSAGES_MAX - self.places.available_permits()
    }

    /// WebSockets that are under way.
    pub fn websockets(&self) -> usize {
        self.websockets.load(Ordering::Relaxed)
    }

    /// This node is about to go: within this time the polls that wait are sent on, and WebSockets closed, at a steady pace. Polls may come all the while;
    /// no WebSocket does.
    pub fn leave(&self, within: Duration) {
        let count = u32::try_from(self.under_way()).unwrap_or(u32::MAX).max(1);
        let each = (within / count).min(LEAVE_EACH_MAX);
        self.stage.send_replace(Stage::Leaving { since: Instant::now(), each, told: Arc::default() });
    }

    /// Whether it is.
    pub fn is_leaving(&self) -> bool {
        !matches!(*self.stage.borrow(), Stage::Here)
    }

    /// No connections come to this node any more: what waits, and what still comes by those that are there, is sent on at once. Ends when nothing is under
    /// way, or after this time.
    pub async fn end(&self, within: Duration) {
        self.stage.send_replace(Stage::Ending);
        let begun = Instant::now();
        // Who was accepted last may have yet to ask.
        let is_over = || begun.elapsed() >= within || (begun.elapsed() >= LEAVE_MIN && self.under_way() == 0);
        while !is_over() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Tells whom a passage is of in its turn, if this node goes, until the passage ends, which ends this: what is told may be there before it is, or be lost.
    async fn keep_telling<T, F: Future<Output = ()>>(&self, tell: impl Fn() -> F) -> T {
        self.turn().await;
        loop {
            tell().await;
            tokio::time::sleep(LEAVE_MIN).await;
        }
    }

    /// Ends when a passage that began now has to, since this node goes; never if it does not.
    async fn turn(&self) {
        let earliest = Instant::now() + LEAVE_MIN;
        let mut stage = self.stage.subscribe();
        let Ok(now) = stage.wait_for(|stage| !matches!(stage, Stage::Here)).await.map(|stage| stage.clone()) else {
            return std::future::pending().await;
        };
        match now {
            Stage::Here => {}
            Stage::Leaving { since, each, told } => {
                let nth = told.fetch_add(1, Ordering::Relaxed);
                let its_turn = earliest.max(since + each * nth);
                // Whichever comes first; the sender lives as long as this node.
                let ending = stage.wait_for(|stage| matches!(stage, Stage::Ending));
                let _ = tokio::time::timeout_at(its_turn, ending).await;
            }
            // What has just begun is to be there first.
            Stage::Ending => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}

impl Way {
    /// Passes a request on; who drops this on the way, drops the request for its owner, too.
    pub async fn pass(mut self, request: Request<Incoming>, client: IpAddr) -> Answer {
        let answer = self.answer(request, client).await;
        self.poll.place = None;
        answer
    }

    async fn answer(&mut self, request: Request<Incoming>, client: IpAddr) -> Answer {
        let is_post = request.method() == Method::POST;
        let begun = Instant::now();
        let mut outcome = self.ask(passed(request, client)).await;
        // A connection may be lost while nobody looks. Once is enough: the next one has just been made.
        if let Outcome::Unsent(request) = outcome {
            match self.poll.passing.sender(&self.node).await {
                Some((link, sender)) => (self.link, self.sender) = (link, sender),
                None => return as_it_came(request).map_or(Answer::Lost, Answer::NotThere),
            }
            outcome = self.ask(request).await;
        }
        let metrics = &self.poll.passing.metrics;
        let error = match outcome {
            Outcome::Answered(answer) => {
                metrics.passed_on.inc("answered");
                if answer.status() == BROKEN_OFF {
                    return Answer::BrokenOff;
                }
                if is_post {
                    metrics.passed_on_seconds.observe(begun.elapsed().as_secs_f64());
                }
                return Answer::Whole(answer);
            }
            Outcome::Unsent(_) => anyhow::anyhow!("connections to its node do not hold"),
            Outcome::Lost(error) => error,
        };
        tracing::debug!(error = format!("{error:#}"), "a request that was passed on was lost");
        metrics.passed_on.inc("lost");
        Answer::Lost
    }

    /// Asks the session's node; which is told, too, when this one is about to go.
    async fn ask(&self, request: Request<Sent>) -> Outcome {
        let tell = || self.link.tell(leaving(self.poll.session.sid, Passage::Poll));
        tokio::select! {
            biased;
            outcome = self.sender.ask(request) => outcome,
            outcome = self.poll.passing.keep_telling(tell) => outcome,
        }
    }
}

/// A request as it goes to the session's node.
fn passed(request: Request<Incoming>, client: IpAddr) -> Request<Sent> {
    let (head, body) = request.into_parts();
    let mut headers = head.headers;
    for name in named_by_connection(&headers).into_iter().chain(OF_ONE_CONNECTION) {
        headers.remove(name);
    }
    headers.insert(CLIENT, HeaderValue::try_from(client.to_string()).expect("an address is a header value"));
    let mut request = Request::new(Either::Left(body));
    *request.method_mut() = head.method;
    *request.uri_mut() = between_nodes(head.uri.into_parts().path_and_query);
    *request.headers_mut() = headers;
    request
}

/// The same back again, but for fields that speak of one connection.
fn as_it_came(request: Request<Sent>) -> Option<Box<Request<Incoming>>> {
    let (mut head, body) = request.into_parts();
    let Either::Left(body) = body else { return None };
    head.headers.remove(CLIENT);
    head.uri = Uri::from(head.uri.into_parts().path_and_query?);
    Some(Box::new(Request::from_parts(head, body)))
}

/// Tells a session's node that this one is about to go, or that the client has gone.
fn leaving(sid: SessionId, what: Passage) -> Request<Sent> {
    let mut request = Request::new(Either::Right(Empty::new()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = between_nodes(None);
    let mut sid = HeaderValue::try_from(sid.to_string()).expect("the alphabet of ids is a header value's");
    sid.set_sensitive(true);
    request.headers_mut().insert(SESSION, sid);
    let what = match what {
        Passage::Poll => POLL,
        Passage::WebSocket => WEBSOCKET,
        Passage::Client => GONE,
    };
    request.headers_mut().insert(LEAVING, what);
    request
}

/// What a node asks; nothing if it makes no sense.
pub fn read(mut request: Request<Incoming>) -> Option<Asked> {
    if let Some(client) = request.headers_mut().remove(CLIENT) {
        let address = client.to_str().ok()?.parse().ok()?;
        // As a client's own request has it.
        let path = std::mem::take(request.uri_mut()).into_parts().path_and_query?;
        *request.uri_mut() = Uri::from(path);
        return Some(Asked::ByClient { request: Box::new(request), address });
    }
    let sid = SessionId::parse(request.headers().get(SESSION)?.to_str().ok()?)?;
    let what = request.headers().get(LEAVING)?;
    let words = [(POLL, Passage::Poll), (WEBSOCKET, Passage::WebSocket), (GONE, Passage::Client)];
    let what = words.into_iter().find(|(word, _)| word == what);
    Some(Asked::Leaving { sid, what: what?.1 })
}

/// A WebSocket's handshake as it goes to the session's node: as it came.
pub fn handshake(request: &Request<Incoming>) -> Request<Empty<Bytes>> {
    let mut handshake = Request::new(Empty::new());
    *handshake.method_mut() = request.method().clone();
    *handshake.uri_mut() = request.uri().clone();
    *handshake.headers_mut() = request.headers().clone();
    for name in [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::EXPECT] {
        handshake.headers_mut().remove(name);
    }
    handshake
}

/// Fields that a `Connection` field names as its connection's own.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let connection = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    connection.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok()).collect()
}

/// HTTP/2 wants a name for the server; a client's own stays in `host`.
fn between_nodes(path: Option<PathAndQuery>) -> Uri {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(Authority::from_static("node"));
    parts.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    Uri::from_parts(parts).expect("all three parts are there")
}
