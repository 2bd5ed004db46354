//! The one HTTP/2 connection to another node, by which all polls of its sessions go: made when it is first needed, and again once it was lost.
//! Knows nothing of what is asked over it.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Limited};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::super::nodes::{NodeInfo, Nodes};
use super::Sent;
use super::proof::{self, Purpose};

/// How long a node that could not be reached is left alone.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// How often a silent node is asked whether it is there, and how long it may take to say so: less than its lease.
pub(super) const PING_EVERY: Duration = Duration::from_secs(3);
pub(super) const PING_MAX: Duration = Duration::from_secs(5);

/// What one answer, and all together, may bring before they are read; they are read at once.
const ANSWER_WINDOW_BYTES: u32 = 1024 * 1024;
const WINDOW_BYTES: u32 = 8 * 1024 * 1024;

/// More than any session owes its client: a full send queue, in base64.
const ANSWER_MAX_BYTES: usize = 256 * 1024 * 1024;

/// Polls that were dropped by their clients while their answers were on the way, within a second: remembered, since what comes for one that is not would be
/// answered. No number of them ends the connection: the clients are to blame, not the other node.
const DROPPED_MAX: usize = 65_536;

/// The connection to one node.
#[derive(Default)]
pub(super) struct Link(Mutex<State>);

#[derive(Default)]
enum State {
    #[default]
    None,
    Open(SendRequest<Sent>),
    /// It could not be reached at this time.
    Failed(Instant),
}

/// Sends requests over a connection.
pub(super) struct Sender(SendRequest<Sent>);

/// What came of a request.
pub(super) enum Outcome {
    /// The answer.
    Answered(Response<Bytes>),
    /// The connection was lost before the request was sent over it. Here it is again.
    Unsent(Request<Sent>),
    /// The connection, or the node, was lost on the way.
    Lost(anyhow::Error),
}

impl Link {
    /// The connection, if the node can be reached. Whoever comes while it is being made waits for it.
    pub(super) async fn sender(&self, node: &NodeInfo, nodes: &Nodes, backend: &Handle) -> Option<Sender> {
        let mut state = self.0.lock().await;
        match &*state {
            State::Open(sender) if !sender.is_closed() => return Some(Sender(sender.clone())),
            State::Failed(at) if at.elapsed() < AGAIN_AFTER => return None,
            State::None | State::Open(_) | State::Failed(_) => {}
        }
        let (node, nodes, address) = (node.clone(), nodes.clone(), node.address);
        let made = backend.spawn(async move { connect(&node, &nodes).await }).await;
        match made.context("the runtime is gone").and_then(|made| made) {
            Ok(sender) => {
                *state = State::Open(sender.clone());
                Some(Sender(sender))
            }
            Err(error) => {
                tracing::debug!(?address, error = format!("{error:#}"), "a node cannot be reached");
                *state = State::Failed(Instant::now());
                None
            }
        }
    }

    /// Whether it is, or is about to be, of use.
    pub(super) fn is_open(&self) -> bool {
        self.0.try_lock().map_or(true, |state| match &*state {
            State::None => true,
            State::Open(sender) => !sender.is_closed(),
            State::Failed(_) => false,
        })
    }

    /// Tells the node something, if it can be reached without further ado.
    pub(super) async fn tell(&self, what: Request<Sent>) {
        let sender = match &*self.0.lock().await {
            State::Open(sender) => Sender(sender.clone()),
            State::None | State::Failed(_) => return,
        };
        // Whom it does not reach, it has nothing to tell.
        let _ = sender.ask(what).await;
    }
}

impl Sender {
    /// The answer to a request. Who drops this on the way, drops the request for the other node, too.
    pub(super) async fn ask(&self, request: Request<Sent>) -> Outcome {
        let answer = match self.0.clone().try_send_request(request).await {
            Ok(answer) => answer,
            Err(mut error) => {
                return match error.take_message() {
                    Some(request) => Outcome::Unsent(request),
                    None => Outcome::Lost(error.into_error().into()),
                };
            }
        };
        let (head, body) = answer.into_parts();
        // Whole, so that a client who reads slowly holds up nobody else on this connection.
        match Limited::new(body, ANSWER_MAX_BYTES).collect().await {
            Ok(body) => Outcome::Answered(Response::from_parts(head, body.to_bytes())),
            Err(error) => Outcome::Lost(anyhow::anyhow!(error)),
        }
    }
}

async fn connect(node: &NodeInfo, nodes: &Nodes) -> anyhow::Result<SendRequest<Sent>> {
    let stream = proof::connect(node, nodes, Purpose::Polls).await?;
    let (sender, connection) = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(ANSWER_WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_concurrent_reset_streams(DROPPED_MAX)
        .max_local_error_reset_streams(None)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_MAX)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(stream))
        .await?;
    let address = node.address;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(?address, %error, "the connection to a node was lost");
        }
    });
    Ok(sender)
}
