//! What a profile means, for those who act on it: plain values, checked and with every variable filled in. Knows nothing of TOML.

use core::net::IpAddr;
use std::fmt;
use std::time::Duration;

use crate::codes::ErrorCode;
use crate::names::{EventName, NamespaceId};
use crate::rules::KeyPattern;

/// A value that must not reach a log: its `Debug` form says only whether it is there.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the one who needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// `[service]`: who the gateway is and where it listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The name that health documents and logs give.
    pub name: String,
    /// The version that health documents give; `None` for the gateway's own.
    pub version: Option<String>,
    /// The status that health documents give while all is well.
    pub healthy: String,
    /// The address to listen on.
    pub host: String,
    /// The port to listen on; 0 takes a free one.
    pub port: u16,
    /// The page at `/`.
    pub page: Option<Page>,
    /// Whether `/console` is there.
    pub console: bool,
    /// A port of its own for the server API, metrics and console.
    pub ops_port: Option<u16>,
    /// A port of its own for gRPC.
    pub grpc_port: Option<u16>,
    /// The address for other nodes of the cluster; `None` for the one at which Redis sees this machine.
    pub cluster_host: Option<IpAddr>,
    /// The port for them; 0 takes a free one.
    pub cluster_port: u16,
    /// The certificate of the service port; `None` for plain HTTP.
    pub tls: Option<Certificate>,
    /// Addresses or networks whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<String>,
    /// Variables that are accepted and do nothing.
    pub unused_variables: Vec<String>,
}

/// A certificate, by its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The chain, the server's own first, in PEM.
    pub chain: String,
    /// Its private key, in PEM.
    pub key: String,
}

/// A page that comes with the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// Two windows talk in a room, each over the protocol of its choice.
    Chat,
}

/// Who gets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// A good token is needed.
    Token,
    /// A client without a token gets in without being a user; a bad token is refused all the same.
    TokenOrAnonymous,
    /// Everyone gets in; tokens are not looked at.
    Open,
}

/// `[auth]`: who gets in, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// Who gets in.
    pub access: Access,
    /// The query parameter by which a client without a token names its user, in open and anonymous access.
    pub anonymous_query: Option<String>,
    /// What the id of a guest begins with; `None` leaves a client without a token without an id.
    pub guest_prefix: Option<String>,
    /// The shared secret of HS256, HS384 and HS512.
    pub secret: Option<Secret>,
    /// A public key in PEM, or the path of a file that holds one.
    pub public_key: Option<String>,
    /// Where a key set is fetched.
    pub jwks_url: Option<String>,
    /// The algorithms that are let in; empty for all that fit the keys.
    pub algorithms: Vec<String>,
    /// How far clocks may differ.
    pub leeway: Duration,
    /// How long before its end a client is told that its token ends.
    pub warn_before: Duration,
    /// The claims that may name the user; the first that is there does.
    pub user_claims: Vec<String>,
    /// How long a development token lives.
    pub token_life: Duration,
}

/// `[user]`: what one user may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserLimits {
    /// How many connections a user may have at a time; `None` for any number.
    pub connections: Option<u32>,
    /// How the oldest one goes when there is one too many.
    pub surplus: Surplus,
}

/// `[user] surplus`: how a connection goes that is one too many of its user's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Surplus {
    /// The close code of its WebSocket.
    pub close_code: u16,
    /// What it is told.
    pub error: ErrorCode,
}

/// `[cors]`: the pages that may connect, and what they may send along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// The pages.
    pub origins: Origins,
    /// Whether they may send cookies and the like.
    pub credentials: bool,
}

/// The pages that may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// Every page.
    Any,
    /// Pages of the gateway's own origin: nothing is said of any other.
    Own,
    /// Pages of these origins.
    Listed(Vec<String>),
}

/// `[[endpoint]]`: one way in for clients.
#[derive(Debug, Clone, PartialEq)]
pub enum Endpoint {
    /// Socket.IO over Engine.IO.
    SocketIo(SocketIoEndpoint),
    /// JSON messages on plain WebSockets.
    Json(JsonEndpoint),
}

/// A Socket.IO endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketIoEndpoint {
    /// The path, without the slash at its end.
    pub path: String,
    /// The namespaces that may be connected to.
    pub namespaces: Vec<NamespaceId>,
    /// The time between two pings.
    pub ping_interval: Duration,
    /// How long a pong may take.
    pub ping_timeout: Duration,
    /// How long a client may stay without connecting to a namespace.
    pub connect_timeout: Duration,
    /// How long an upgrade to WebSocket may take.
    pub upgrade_timeout: Duration,
    /// Whether long-polling is offered.
    pub polling: bool,
    /// Whether WebSocket is offered.
    pub websocket: bool,
    /// Whether messages are compressed for clients that offer it.
    pub deflate: bool,
    /// Whether clients of Engine.IO 3 (`socket.io-client` 1 and 2) are let in.
    pub allow_eio3: bool,
    /// Whether the path ends with a slash.
    pub trailing_slash: bool,
    /// The cookie that the answer to a polling handshake sets.
    pub cookie: Option<Cookie>,
    /// The size from which answers to polls are compressed, in bytes; `None` for never.
    pub compress_polls_from: Option<u64>,
    /// The folder of the client's files.
    pub client_files: Option<String>,
    /// An event that clients get from time to time.
    pub heartbeat: Option<Beat>,
}

/// An event that Socket.IO clients get from time to time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat {
    /// The time between two of them.
    pub every: Duration,
    /// Its name.
    pub event: EventName,
}

/// A cookie that holds a session's id, for balancers that go by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cookie {
    /// Its name.
    pub name: String,
    /// The path that it is for.
    pub path: String,
    /// Whether scripts may not read it.
    pub http_only: bool,
    /// Whether it goes over TLS alone.
    pub secure: bool,
    /// With which requests from other sites it goes.
    pub same_site: SameSite,
}

/// With which requests from other sites a cookie goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    /// With none.
    Strict,
    /// With those that open a page.
    Lax,
    /// With all.
    None,
}

/// Where the fields of a plain message stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Envelope {
    /// `{"type": …, fields …}`.
    Flat,
    /// `{"type": …, "data": …}`.
    Data,
}

/// An endpoint of plain JSON WebSockets.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonEndpoint {
    /// Its paths, each with the namespace that it leads to.
    pub paths: Vec<(String, NamespaceId)>,
    /// Whether messages are compressed for clients that offer it.
    pub deflate: bool,
    /// Where the fields of a message stand.
    pub envelope: Envelope,
    /// How the life of a connection is watched.
    pub heartbeat: Heartbeat,
}

/// How the life of a plain connection is watched.
#[derive(Debug, Clone, PartialEq)]
pub struct Heartbeat {
    /// The time between two protocol pings.
    pub every: Duration,
    /// After how many intervals without a byte from the client it is closed.
    pub silent: u32,
    /// The close code then.
    pub close_code: u16,
    /// A message that goes out beside the protocol ping, as raw JSON.
    pub send: Option<String>,
}

/// Where a broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RabbitmqAddress {
    /// As one URL.
    Url(Secret),
    /// In parts, which need no escaping.
    Parts {
        /// Its host.
        host: String,
        /// Its port.
        port: u16,
        /// Who logs in.
        user: String,
        /// With what.
        password: Secret,
        /// The virtual host.
        vhost: String,
    },
}

/// How several nodes share a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consumers {
    /// Every node consumes.
    All,
    /// One node consumes, the others stand by: order holds over the cluster.
    One,
}

/// A queue of the broker's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// The keys that bring messages into it, as topic patterns.
    pub bindings: Vec<String>,
    /// Whether it outlives the broker's restart.
    pub durable: bool,
}

impl Queue {
    /// Whether a message with this key comes into it.
    pub fn brings(&self, key: &str) -> bool {
        self.bindings.iter().any(|pattern| KeyPattern::parse(pattern).matches(key))
    }
}

/// `[source.rabbitmq]`: where events come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rabbitmq {
    /// Where the broker is; `None` where no variable names one: it is not used then.
    pub address: Option<RabbitmqAddress>,
    /// The exchange.
    pub exchange: String,
    /// Its type, `topic` as a rule.
    pub exchange_type: String,
    /// Whether it outlives the broker's restart.
    pub durable: bool,
    /// How many deliveries may be in hand.
    pub prefetch: u16,
    /// How several nodes share a queue.
    pub consumers: Consumers,
    /// The queue for messages that cannot be handled.
    pub dead_letter: String,
    /// How many messages it keeps, the oldest out first.
    pub dead_letter_max: u32,
    /// The queues.
    pub queues: Vec<Queue>,
}

/// `[source.redis]`: channels that events come by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisChannels {
    /// The channels' names.
    pub channels: Vec<String>,
}

/// `[redis]`: where Redis is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedisAddress {
    /// As one URL.
    Url(Secret),
    /// In parts.
    Parts {
        /// Its host.
        host: String,
        /// Its port.
        port: u16,
        /// The password, if it wants one.
        password: Option<Secret>,
        /// The database's number.
        database: u32,
    },
    /// By servers of a Redis Cluster.
    Cluster {
        /// Their addresses, at least one.
        servers: Vec<String>,
        /// The password, if they want one.
        password: Option<Secret>,
    },
    /// Where Sentinels say.
    Sentinels {
        /// Their addresses, at least one.
        sentinels: Vec<String>,
        /// The name by which they know it.
        name: String,
        /// Their own password, if they want one.
        sentinel_password: Option<Secret>,
        /// The password of Redis, if it wants one.
        password: Option<Secret>,
        /// The database's number.
        database: u32,
    },
}

/// `[redis]` `mode`: how the members of a cluster speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisMode {
    /// Every node hears every event.
    Classic,
    /// Each room has a channel, which the nodes with a member of it hear.
    Sharded,
}

/// `[redis] bus_outage`: what becomes of events while the cluster's Redis is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BusOutage {
    /// They wait where they are.
    Hold,
    /// This node's members alone get them.
    Local,
}

/// `[publish]`: how clients' messages reach the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publishing {
    /// The exchange; `None` for the source's.
    pub exchange: Option<String>,
    /// How long a confirm may take before the outcome is called unknown.
    pub confirm_timeout: Duration,
}

/// `[upstream.NAME]`: a service that rules call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Its name in the profile.
    pub name: String,
    /// How it is called.
    pub protocol: UpstreamProtocol,
    /// Its address; `None` where it is not to be called.
    pub address: Option<String>,
    /// What it is told of who calls, in `authorization`.
    pub authorization: Option<Secret>,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// How a service is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamProtocol {
    /// By gRPC.
    Grpc {
        /// The names of its `.proto` files.
        proto: Vec<String>,
    },
    /// By HTTP, with JSON.
    Http,
}

/// `[limits]`: how much of everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections of this node; `None` for any number.
    pub connections: Option<u32>,
    /// Messages of one connection in a minute; `None` for any number.
    pub messages_per_minute: Option<u32>,
    /// The largest message of a client, in bytes.
    pub message_bytes: u64,
    /// The largest event from a backend, in bytes.
    pub event_bytes: u64,
    /// The last values that rooms keep, all together, in bytes.
    pub kept_bytes: u64,
    /// What may wait to be sent to one connection, in bytes.
    pub send_queue_bytes: u64,
    /// Rooms that one connection may be in.
    pub rooms_per_connection: u32,
    /// Commands of one connection that may wait.
    pub commands_waiting: u32,
    /// From what size on a message is compressed, in bytes.
    pub deflate_threshold_bytes: u64,
    /// How long a client may take for what it began.
    pub timeouts: Timeouts,
}

/// The times of `[limits]`: how long a client may take for what it began, so that none holds anything for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// The head of a request.
    pub head: Duration,
    /// The body of a request.
    pub body: Duration,
    /// Nothing at all between two requests of one connection.
    pub keep_alive: Duration,
    /// A WebSocket message.
    pub message: Duration,
    /// Taking something of what waits for it.
    pub write: Duration,
    /// Its side of a WebSocket's close.
    pub close: Duration,
}

/// `[drain]`: how the gateway goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// The time between `not ready` and the first closed connection.
    pub delay: Duration,
    /// The time in which all must be over.
    pub timeout: Duration,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// What must wake someone.
    Error,
    /// What to look at tomorrow.
    Warn,
    /// Each connection.
    Info,
    /// Each decision.
    Debug,
    /// Each message.
    Trace,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object for each line.
    Json,
    /// Text for people.
    Text,
}

/// `[log]`: what is written down, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// How much.
    pub level: LogLevel,
    /// The folder for files; `None` for the console alone.
    pub dir: Option<String>,
    /// How a line looks.
    pub format: LogFormat,
    /// The size at which a file is rotated, in bytes.
    pub file_bytes: u64,
    /// How many rotated files are kept.
    pub files: u32,
}

/// A variable that a profile reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its names; the first that is set wins.
    pub names: Vec<String>,
    /// What holds where none is set.
    pub default: Option<String>,
    /// What it is for, in a sentence.
    pub about: String,
    /// The key of the profile that reads it, such as `service.port`; empty for one that is accepted and unused.
    pub key: String,
}

impl Variable {
    /// Whether the start ends where it is not set.
    pub fn required(&self) -> bool {
        self.default.is_none()
    }
}
