//! A gateway built and run by a program: from its options to its end. The wiring is `app`'s.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use http::HeaderMap;
use hub::codes::CloseCode;
use hub::names::NamespaceId;
use hub::profile::{
    Endpoint, Envelope, Heartbeat, JsonEndpoint, Origins, Profile, RedisAddress, RedisMode, Secret, SocketIoEndpoint,
};

use super::args::IntoArgs;
use super::broadcast::{Broadcast, Origin};
use super::handshake::Request;
use super::messages::Messages;
use super::namespace::Namespace;
use super::program::Program;
use super::servers::ServerReplies;
use super::socket::Error;
use crate::app::Running;
use crate::metrics::Metrics;
use crate::upstream::Files;

/// What a gateway is like whose program says nothing else: open, on a free port of this machine, Socket.IO at `/socket.io/`.
const PROFILE: &str = r#"
about = "A gateway within a program"

[service]
host = "127.0.0.1"
port = 0
console = false

[auth]
token = "ignored"

[[endpoint]]
protocol = "socket.io"
"#;

/// Builds a [`Server`].
#[derive(Debug)]
pub struct Builder {
    profile: Profile,
    files: Files,
    shards: usize,
    program: Program,
    endpoints: Vec<(Endpoint, Messages)>,
}

/// A gateway within a program: its clients' side. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Server {
    running: Arc<Running>,
}

impl Server {
    /// A gateway that its program describes whole.
    pub fn builder() -> Builder {
        let (profile, _) = Profile::read(PROFILE, "built-in", &|_| None).expect("the profile is tested");
        Self::with_profile(profile)
    }

    /// A gateway that a profile describes, with handlers of the program's own beside its rules: an event that is a command of the profile is
    /// the profile's.
    pub fn with_profile(profile: Profile) -> Builder {
        let shards = std::thread::available_parallelism().map_or(1, usize::from).min(crate::fanout::SHARDS_MAX);
        Builder { profile, files: Files::default(), shards, program: Program::default(), endpoints: Vec::new() }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.running.address()
    }

    /// To everyone in a namespace.
    pub fn of(&self, namespace: &str) -> Broadcast {
        Broadcast::new(Origin::Program(self.running.gateway().clone(), with_slash(namespace).into()))
    }

    /// To the members of a room of the main namespace, `/`.
    pub fn to(&self, room: &str) -> Broadcast {
        self.of("/").to(room)
    }

    /// Tells the other servers of the cluster of an event, in the main namespace, `/`; see [`Broadcast::server_side_emit`].
    ///
    /// # Errors
    /// As there.
    pub fn server_side_emit(&self, event: &str, args: impl IntoArgs) -> Result<(), Error> {
        self.of("/").server_side_emit(event, args)
    }

    /// The same, and waits for their answers; see [`Broadcast::server_side_emit_with_ack`].
    ///
    /// # Errors
    /// As there.
    pub async fn server_side_emit_with_ack(
        &self,
        event: &str,
        args: impl IntoArgs,
        timeout: Duration,
    ) -> Result<ServerReplies, Error> {
        self.of("/").server_side_emit_with_ack(event, args, timeout).await
    }

    /// How many clients are connected.
    pub async fn connections(&self) -> usize {
        self.running.gateway().numbers().await.connections
    }

    /// Ends it: no new clients, those who are there are sent away over the profile's time to drain, then the port is closed.
    pub async fn stop(&self) {
        self.running.drain().await;
    }
}

impl Builder {
    /// The address to listen on, such as `0.0.0.0:3000`; port 0 takes a free one.
    ///
    /// # Errors
    /// It is no address with a port.
    pub fn listen(mut self, address: &str) -> anyhow::Result<Self> {
        let (host, port) = address.rsplit_once(':').with_context(|| format!("{address:?} has no port"))?;
        self.profile.service.port = port.parse().with_context(|| format!("{port:?} is no port"))?;
        self.profile.service.host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(self)
    }

    /// The folder of the `.proto` files that the profile's upstreams name; behind it are those that come with the gateway.
    pub fn proto_files(mut self, folder: impl Into<PathBuf>) -> Self {
        self.files = Files::in_folder(folder);
        self
    }

    /// How many threads own connections; one for each core by default.
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = shards.clamp(1, crate::fanout::SHARDS_MAX);
        self
    }

    /// Joins the cluster on this Redis (`redis://…`, `rediss://…`) in the format of its other members, with the key that Node's adapters have by default. What is
    /// wrong with the address is told by [`start`](Self::start).
    pub fn redis(mut self, url: &str, mode: RedisMode) -> Self {
        self.profile.redis = Some(RedisAddress::Url(Secret::new(url)));
        self.profile.redis_key.get_or_insert_with(|| "socket.io".to_owned());
        self.profile.redis_mode = mode;
        self
    }

    /// The path of Socket.IO, `/socket.io` by default.
    ///
    /// # Panics
    /// The profile has no endpoint of Socket.IO.
    pub fn path(mut self, path: &str) -> Self {
        self.socket_io().path = path.trim_end_matches('/').to_owned();
        self
    }

    /// The time between two pings, and how long a pong may take.
    ///
    /// # Panics
    /// The profile has no endpoint of Socket.IO.
    pub fn heartbeat(mut self, ping_interval: Duration, ping_timeout: Duration) -> Self {
        let endpoint = self.socket_io();
        endpoint.ping_interval = ping_interval;
        endpoint.ping_timeout = ping_timeout;
        self
    }

    /// How long a client may stay without entering a namespace.
    ///
    /// # Panics
    /// The profile has no endpoint of Socket.IO.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.socket_io().connect_timeout = timeout;
        self
    }

    /// Lets in clients of Engine.IO 3, that is `socket.io-client` 1 and 2.
    ///
    /// # Panics
    /// The profile has no endpoint of Socket.IO.
    pub fn allow_eio3(mut self) -> Self {
        self.socket_io().allow_eio3 = true;
        self
    }

    /// The largest message of a client, in bytes.
    pub fn message_bytes(mut self, bytes: u64) -> Self {
        self.profile.limits.message_bytes = bytes;
        self
    }

    /// Compresses messages from this size on for clients that offer it (permessage-deflate).
    ///
    /// # Panics
    /// The profile has no endpoint of Socket.IO.
    pub fn deflate(mut self, threshold_bytes: u64) -> Self {
        self.socket_io().deflate = true;
        self.profile.limits.deflate_threshold_bytes = threshold_bytes;
        self
    }

    /// The pages that may connect.
    pub fn origins(mut self, origins: Origins) -> Self {
        self.profile.cors.credentials = matches!(origins, Origins::Listed(_));
        self.profile.cors.origins = origins;
        self
    }

    /// Any other setting, by its place in the profile.
    pub fn configure(mut self, change: impl FnOnce(&mut Profile)) -> Self {
        change(&mut self.profile);
        self
    }

    /// What to do in the namespace of this name; its `/` may be left out.
    pub fn namespace(mut self, name: &str, namespace: Namespace) -> Self {
        self.program.named.insert(with_slash(name).into(), Arc::new(namespace));
        self
    }

    /// What to do in namespaces whose names fit. Each is there while a client is in it, and apart from the others.
    pub fn namespaces_matching(
        mut self,
        fits: impl Fn(&str) -> bool + Send + Sync + 'static,
        namespace: Namespace,
    ) -> Self {
        self.program.matching.push((Box::new(fits), Arc::new(namespace)));
        self
    }

    /// Engine.IO without Socket.IO at this path, with the heartbeat that Socket.IO has at the time of the call.
    pub fn engine_io(mut self, path: &str, messages: Messages) -> Self {
        let like = Self::find_socket_io(&mut self.profile).cloned();
        let mut endpoint = like.unwrap_or_else(|| Server::builder().socket_io().clone());
        endpoint.path = path.trim_end_matches('/').to_owned();
        self.endpoints.push((Endpoint::SocketIo(endpoint), messages));
        self
    }

    /// WebSockets at this path, with nothing in between, and with the compression that Socket.IO has at the time of the call.
    pub fn websocket(mut self, path: &str, messages: Messages) -> Self {
        let endpoint = JsonEndpoint {
            paths: vec![(path.to_owned(), NamespaceId(0))],
            deflate: Self::find_socket_io(&mut self.profile).is_some_and(|endpoint| endpoint.deflate),
            envelope: Envelope::Flat,
            heartbeat: Heartbeat {
                every: Duration::from_secs(25),
                silent: 2,
                close_code: CloseCode::Silent.number(),
                send: None,
            },
        };
        self.endpoints.push((Endpoint::Json(endpoint), messages));
        self
    }

    /// Decides on each request that would open a connection, before anything else is looked at; the text of a refusal is told in its
    /// answer (403).
    pub fn allow_request(mut self, allow: impl Fn(&Request) -> Result<(), String> + Send + Sync + 'static) -> Self {
        self.program.allow = Some(Box::new(allow));
        self
    }

    /// Changes the headers of each answer to a request of Engine.IO, upgrades included.
    pub fn response_headers(
        mut self,
        change: impl Fn(&http::Method, &Request, &mut HeaderMap) + Send + Sync + 'static,
    ) -> Self {
        self.program.response_headers = Some(Box::new(change));
        self
    }

    /// Starts it. To be called within a tokio runtime, which runs the handlers once they wait for something.
    ///
    /// # Errors
    /// It cannot start: the address is in use, or a setting makes no sense.
    pub async fn start(self) -> anyhow::Result<Server> {
        let Self { mut profile, files, shards, mut program, endpoints } = self;
        let mut messages = HashMap::new();
        for (endpoint, handlers) in endpoints {
            messages.insert(profile.endpoints.len(), Arc::new(handlers));
            profile.endpoints.push(endpoint);
        }
        program.messages = messages;
        let metrics = Arc::new(Metrics::default());
        let running = crate::app::start(Arc::new(profile), &files, program, metrics, shards).await?;
        Ok(Server { running: Arc::new(running) })
    }

    fn socket_io(&mut self) -> &mut SocketIoEndpoint {
        Self::find_socket_io(&mut self.profile).expect("the profile has an endpoint of Socket.IO")
    }

    fn find_socket_io(profile: &mut Profile) -> Option<&mut SocketIoEndpoint> {
        profile.endpoints.iter_mut().find_map(|endpoint| match endpoint {
            Endpoint::SocketIo(endpoint) => Some(endpoint),
            Endpoint::Json(_) => None,
        })
    }
}

/// The name of a namespace, as clients say it.
fn with_slash(name: &str) -> Cow<'_, str> {
    if name.starts_with('/') { name.into() } else { format!("/{name}").into() }
}
