//! HTTP/2, which backend services speak for gRPC: how it is told from HTTP/1.1 on one port, and a connection of it, on the backend runtime. Knows
//! neither calls nor sessions: these are not to be had over it.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hub::profile::Timeouts;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::io::AsyncReadExt as _;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tonic::Status;
use tower::ServiceExt as _;

use crate::metrics::Metrics;
use crate::shard::patience::Patient;
use crate::shard::transport::Transport;

/// What a client begins with (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Connections of one port. Further ones are closed at once: a backend service needs one or two.
const CONNECTIONS_MAX: usize = 256;

/// Calls under way on one connection; the client keeps the rest.
const CALLS_MAX: u32 = 128;

/// What one connection may send of bodies before they are read, all calls together.
const WINDOW_BYTES: u32 = 256 * 1024;

/// The head of a call.
const HEAD_MAX_BYTES: u32 = 16 * 1024;

/// How long a connection without a call stays: clients of gRPC open another one by themselves.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// How often a silent client is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(30);

/// Where the gateway is in its life, as its connections must know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It serves.
    Serving,
    /// Calls are answered; then the connection is to be opened elsewhere.
    Draining,
    /// It is over.
    Ended,
}

/// How a connection begins.
pub struct Opening {
    /// Whether HTTP/2 is spoken.
    pub http2: bool,
    /// What was read to know.
    pub head: Bytes,
    /// What is left of the time that its first request has.
    pub left: Duration,
}

/// Tells what is spoken on a connection of which `head` was read; reads on until that is clear.
///
/// # Errors
/// The connection breaks, or the time is over.
pub async fn opening(stream: &mut Transport, head: Bytes, within: Duration) -> io::Result<Opening> {
    if let Some(http2) = stream.agreed_on_http2().or_else(|| begins(&head)) {
        return Ok(Opening { http2, head, left: within });
    }
    let until = Instant::now() + within;
    let mut read = BytesMut::from(&*head);
    let http2 = loop {
        if let Some(http2) = begins(&read) {
            break http2;
        }
        if tokio::time::timeout_at(until, stream.read_buf(&mut read)).await?? == 0 {
            break false;
        }
    };
    Ok(Opening { http2, head: read.freeze(), left: until.saturating_duration_since(Instant::now()) })
}

/// Whether these first bytes are the preface; `None` while they may become it.
fn begins(head: &[u8]) -> Option<bool> {
    let common = head.len().min(PREFACE.len());
    match head[..common] == PREFACE[..common] {
        true if common < PREFACE.len() => None,
        same => Some(same),
    }
}

/// What serves the connections of one port. Cheap to clone.
#[derive(Clone)]
pub struct Http2 {
    /// What is not gRPC.
    documents: Router,
    grpc: Router,
    timeouts: Timeouts,
    places: Arc<Semaphore>,
    life: watch::Receiver<Life>,
    metrics: Arc<Metrics>,
}

/// The calls of a connection so far.
#[derive(Debug, Clone, Copy, Default)]
struct Calls {
    open: usize,
    begun: u64,
}

/// A call, until its answer is gone.
struct Open(Arc<watch::Sender<Calls>>);

impl Open {
    fn new(calls: &Arc<watch::Sender<Calls>>) -> Self {
        calls.send_modify(|calls| *calls = Calls { open: calls.open + 1, begun: calls.begun + 1 });
        Self(calls.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|calls| calls.open -= 1);
    }
}

impl Http2 {
    /// A port with these answers.
    pub fn new(
        documents: Router,
        grpc: Router,
        timeouts: Timeouts,
        life: watch::Receiver<Life>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { documents, grpc, timeouts, places: Arc::new(Semaphore::new(CONNECTIONS_MAX)), life, metrics }
    }

    /// Serves a connection of which this was read, until it ends.
    pub async fn serve(self, stream: Transport, head: Bytes) {
        let Ok(_place) = self.places.try_acquire() else {
            return self.metrics.refused.inc("http2");
        };
        let (stream, stage) = Patient::new(stream, head, self.timeouts.head, &self.timeouts);
        // From here on HTTP/2 itself asks whether the client is there.
        stage.head_is_whole();
        let calls = Arc::new(watch::Sender::new(Calls::default()));
        let seen = calls.subscribe();
        let http2 = self.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let open = Open::new(&calls);
            let answer = http2.clone().answer(request.map(Body::new));
            async move {
                let answer = answer.await;
                // A stream of answers is a call for as long as it goes on.
                Ok::<_, std::convert::Infallible>(answer.map(|body| {
                    body.map_frame(move |frame| {
                        let _call = &open;
                        frame
                    })
                }))
            }
        });
        let mut connection = pin!(
            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_concurrent_streams(CALLS_MAX)
                .max_header_list_size(HEAD_MAX_BYTES)
                .initial_stream_window_size(WINDOW_BYTES)
                .initial_connection_window_size(WINDOW_BYTES)
                .keep_alive_interval(PING_EVERY)
                .keep_alive_timeout(self.timeouts.write)
                .serve_connection(stream, service)
        );
        let mut life = self.life.clone();
        let mut let_go = pin!(until_let_go(seen, self.life.clone()));
        let mut is_let_go = false;
        loop {
            tokio::select! {
                ended = &mut connection => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "an HTTP/2 connection ended");
                    }
                    return;
                }
                () = &mut let_go, if !is_let_go => {
                    connection.as_mut().graceful_shutdown();
                    is_let_go = true;
                }
                () = over(&mut life) => return,
            }
        }
    }

    async fn answer(self, request: Request<Body>) -> Response<Body> {
        let is_grpc = request.headers().get(CONTENT_TYPE).is_some_and(is_grpc);
        let router = if is_grpc { self.grpc } else { self.documents };
        // Twice, since what is asked for may itself wait for as long as a body may take.
        match tokio::time::timeout(2 * self.timeouts.body, router.oneshot(request)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(never)) => match never {},
            Err(_) if is_grpc => Status::deadline_exceeded("the request took too long").into_http(),
            Err(_) => {
                let mut answer = Response::new(Body::from("The request took too long"));
                *answer.status_mut() = StatusCode::REQUEST_TIMEOUT;
                answer
            }
        }
    }
}

/// `application/grpc`, or that with a format.
fn is_grpc(kind: &HeaderValue) -> bool {
    let rest = kind.as_bytes().strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// Waits until a connection is to be told that nothing new is taken: it was idle for long, or the gateway drains and it has nothing under way.
/// One that comes while the gateway drains is there for a last question, such as a probe's.
async fn until_let_go(mut calls: watch::Receiver<Calls>, mut life: watch::Receiver<Life>) {
    loop {
        let Calls { open, begun } = *calls.borrow_and_update();
        let drains = *life.borrow_and_update() != Life::Serving;
        if drains && open == 0 && begun > 0 {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(IDLE_TIMEOUT), if open == 0 => return,
            changed = calls.changed() => if changed.is_err() { return },
            changed = life.changed() => if changed.is_err() { return },
        }
    }
}

/// Waits until the gateway is over.
async fn over(life: &mut watch::Receiver<Life>) {
    let _ = life.wait_for(|life| *life == Life::Ended).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_what_is_spoken() {
        let table: [(&[u8], Option<bool>); 8] = [
            (b"", None),
            (b"P", None),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", None),
            (PREFACE, Some(true)),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0", Some(true)),
            (b"POST / HTTP/1.1\r\n", Some(false)),
            (b"PRI * HTTP/1.1\r\n\r\nSM\r\n\r\n", Some(false)),
            (b"GET", Some(false)),
        ];
        for (head, expected) in table {
            assert_eq!(begins(head), expected, "{:?}", String::from_utf8_lossy(head));
        }
    }

    #[test]
    fn grpc_is_told_by_its_media_type() {
        let table = [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ];
        for (kind, expected) in table {
            assert_eq!(is_grpc(&HeaderValue::from_static(kind)), expected, "{kind}");
        }
    }
}
