//! Where other nodes come with what they pass on: polls over HTTP/2, which are answered here, and WebSockets, whose connections go to the shards as if
//! the clients had come to them. Knows nothing of sessions.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hub::profile::Profile;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::super::Settings;
use super::super::nodes::Nodes;
use super::link::{PING_EVERY, PING_MAX};
use super::proof::{self, Purpose};
use super::{CONNECT_MAX, PASSAGES_MAX};
use crate::sampled::Sampled;
use crate::shard::front::{Front, Shared};
use crate::shard::inbox::Message;

/// Connections that have not shown yet that they are of the cluster. Further ones wait to be accepted.
const STRANGERS_MAX: usize = 256;

/// How long to wait when no connection can be accepted, since no descriptor is left.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// What one request, and all together, may send of their bodies before they are read; they are read at once.
const BODY_WINDOW_BYTES: u32 = 256 * 1024;
const WINDOW_BYTES: u32 = 8 * 1024 * 1024;

/// The head of a request: what a client may send, and what is added on the way.
const HEAD_MAX_BYTES: u32 = 32 * 1024;

/// How often it could not be listened, for the log.
static UNREACHABLE: Sampled = Sampled::new();

/// How long to wait before it is looked again where this machine is.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The port for the other nodes.
pub struct Port {
    settings: Settings,
    number: u16,
    /// Where it is to be, if that is written.
    host: Option<IpAddr>,
    /// None while it is not known at which address it is to be.
    listener: Option<TcpListener>,
}

/// What answers those who come.
struct Answering {
    front: Front,
    shared: Arc<Shared>,
    nodes: Nodes,
}

impl Port {
    /// Opens the port, and has the others know where it is.
    ///
    /// # Errors
    /// The address is not ours, or in use.
    pub async fn open(profile: &Profile, settings: Settings, nodes: &Nodes) -> anyhow::Result<Self> {
        let number = profile.service.cluster_port;
        let host = profile.service.cluster_host;
        let own = match host.filter(|host| !host.is_unspecified()) {
            Some(own) => Some(own),
            // The name of Redis may not be known yet, as at the start of a whole system.
            None => settings.local_address().await.ok(),
        };
        let listener = match own {
            Some(own) => Some(listen(host.unwrap_or(own), own, number, nodes).await?),
            None => None,
        };
        Ok(Self { settings, number, host, listener })
    }

    /// Answers those who come, until this is dropped.
    pub async fn serve(self, shared: Arc<Shared>, nodes: Nodes) {
        let Self { settings, number, host, mut listener } = self;
        let listener = loop {
            match listener.take() {
                Some(listener) => break listener,
                None => sleep(LOOK_AGAIN_AFTER).await,
            }
            let opened = async {
                let own = settings.local_address().await?;
                listen(host.unwrap_or(own), own, number, &nodes).await
            };
            match opened.await {
                Ok(opened) => listener = Some(opened),
                Err(error) => {
                    if let Some(times) = UNREACHABLE.due() {
                        let error = format!("{error:#}");
                        tracing::warn!(error, times, "other nodes cannot pass requests on to this one; trying again");
                    }
                }
            }
        };
        // The shard's own number counts for new sessions alone, and nobody passes these on.
        let answering = Arc::new(Answering { front: Front::new(shared.clone(), 0), shared, nodes });
        let places = Arc::new(Semaphore::new(STRANGERS_MAX));
        let mut connections = JoinSet::new();
        loop {
            let place = places.clone().acquire_owned().await.expect("nobody closes it");
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
            };
            match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(answering.clone().answer(stream, peer, place));
                }
                Err(error) => {
                    tracing::error!(%error, "cannot accept connections of other nodes; trying again");
                    sleep(EXHAUSTED_PAUSE).await;
                }
            }
        }
    }
}

/// Listens on `host`, and has the others know that they reach it at `own`; port 0 is any free one.
async fn listen(host: IpAddr, own: IpAddr, port: u16, nodes: &Nodes) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind((host, port)).await;
    let listener =
        listener.with_context(|| format!("cannot listen for other nodes on {}", SocketAddr::new(host, port)))?;
    let mut address = listener.local_addr()?;
    address.set_ip(own);
    tracing::info!(%address, "listening for other nodes");
    nodes.set_address(address);
    Ok(listener)
}

impl Answering {
    async fn answer(self: Arc<Self>, mut stream: TcpStream, peer: SocketAddr, place: OwnedSemaphorePermit) {
        let known = self.meet(&mut stream).await;
        drop(place);
        match known {
            Ok(Purpose::Polls) => self.answer_polls(stream, peer).await,
            Ok(Purpose::Tunnel { client, shard }) => self.hand_over(stream, client, shard),
            Err(error) => {
                self.shared.metrics.refused.inc("node");
                tracing::debug!(%peer, error = format!("{error:#}"), "who came as a node was refused");
            }
        }
    }

    async fn meet(&self, stream: &mut TcpStream) -> anyhow::Result<Purpose> {
        let secret = self.nodes.secret().context("the cluster's secret is not known yet")?;
        stream.set_nodelay(true)?;
        timeout(CONNECT_MAX, proof::answer(stream, secret.as_bytes(), self.nodes.own()))
            .await
            .context("it took too long")?
    }

    async fn answer_polls(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        tracing::debug!(%peer, "another node passes requests on");
        let answering = self.clone();
        let service = service_fn(move |request| {
            let answering = answering.clone();
            async move { Ok::<_, Infallible>(answering.front.answer_passed(request).await) }
        });
        let connection = Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(PASSAGES_MAX as u32)
            .max_header_list_size(HEAD_MAX_BYTES)
            .initial_stream_window_size(BODY_WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            // Clients that go away, or send too much, are no fault of the node that passes them on, however many they are.
            .max_pending_accept_reset_streams(PASSAGES_MAX)
            .max_local_error_reset_streams(None)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_MAX)
            .serve_connection(TokioIo::new(stream), service);
        // Requests that are under way are dropped with it, as if their clients had gone: they have.
        if let Err(error) = connection.await {
            tracing::debug!(%peer, %error, "the connection of another node ended");
        }
    }

    fn hand_over(&self, stream: TcpStream, client: IpAddr, shard: u8) {
        let shard = usize::from(shard) % self.shared.inboxes.len();
        match stream.into_std() {
            Ok(stream) => self.shared.inboxes[shard].send(Message::Passed(stream, client)),
            Err(error) => tracing::warn!(%error, "a connection of another node could not be handed over"),
        }
    }
}
