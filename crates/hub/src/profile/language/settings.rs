//! The language's tables of settings: service, auth, endpoints, sources, limits and the like. What they mean stands in `meaning`.

use super::Kind::{self, Choice, Count, Data, List, Name, Named, OneOrMany, Size, Switch, Text, Time, Words};
use super::Presence::{Always, Default, May, Needed};
use super::{Table, UNLIMITED, key};

pub(super) static SERVICE: Table = Table {
    about: "",
    keys: &[
        key(
            "name",
            Text,
            Default("roomcast"),
            "The name that health documents and logs give.",
            r#"name = "websocket-gateway""#,
        ),
        key(
            "version",
            Text,
            May,
            "The version that health documents give; the gateway's own if it is not written.",
            r#"version = "1.0.0""#,
        ),
        key("healthy", Text, Default("ok"), "What `{gateway.status}` says while all is well.", r#"healthy = "OK""#),
        key("host", Text, Default("${SERVICE_HOST:-0.0.0.0}"), "The address to listen on.", r#"host = "127.0.0.1""#),
        key(
            "port",
            Count(0, 65_535),
            Default("${PORT:-3000}"),
            "The port to listen on; 0 takes a free one.",
            r#"port = "${PORT:-3002}""#,
        ),
        key(
            "page",
            Choice(&["chat"]),
            May,
            "A page that comes with the gateway, at `/`: `chat` talks in a room over Socket.IO at `/socket.io` or a plain WebSocket at `/ws`.",
            r#"page = "chat""#,
        ),
        key(
            "console",
            Switch,
            Default("${CONSOLE:-true}"),
            "Whether there is a console at `/console`: a page to connect as a client, send commands and watch events. It shows nothing but what the client's own token, or the key of the server API, opens.",
            "console = false",
        ),
        key(
            "ops_port",
            Count(1, 65_535),
            Default("${OPS_PORT:-}"),
            "A port of its own for the server API, metrics and console.",
            "ops_port = 9100",
        ),
        key(
            "grpc_port",
            Count(1, 65_535),
            Default("${GRPC_PORT:-}"),
            "A port for gRPC alone, without TLS. gRPC stands on the port of the server API, too.",
            "grpc_port = 9200",
        ),
        key(
            "tls_certificate",
            Text,
            Default("${TLS_CERT_FILE:-}"),
            "The file of the certificate chain (PEM), with which the service port speaks TLS; read anew when it changes. The operators' port never does.",
            r#"tls_certificate = "/run/secrets/tls.crt""#,
        ),
        key(
            "tls_key",
            Text,
            Default("${TLS_KEY_FILE:-}"),
            "The file of the certificate's private key (PEM).",
            r#"tls_key = "/run/secrets/tls.key""#,
        ),
        key(
            "trusted_proxies",
            Words,
            Default("${TRUSTED_PROXIES:-}"),
            "Addresses or networks of proxies whose `X-Forwarded-For` is believed.",
            r#"trusted_proxies = ["10.0.0.0/8"]"#,
        ),
        key(
            "unused_variables",
            List(&Name),
            Default(
                "NODE_ENV,DATABASE_URL,MESSAGE_SERVICE_URL,NOTIFICATION_SERVICE_URL,BOOKING_SERVICE_URL,JWT_REFRESH_EXPIRES_IN",
            ),
            "Variables that are accepted and do nothing.",
            r#"unused_variables = ["NODE_ENV"]"#,
        ),
    ],
};

pub(super) static AUTH: Table = Table {
    about: "Tokens are JWT. They come from `auth.token` (Socket.IO), `Authorization: Bearer`, `?token=` or the subprotocol pair `bearer, TOKEN`.",
    keys: &[
        key(
            "token",
            Choice(&["required", "with_key", "ignored"]),
            Default("required"),
            "`required`: everyone needs a good token, and a key must be set. `with_key`: the same where a key is set, open access where none is. `ignored`: open access.",
            r#"token = "with_key""#,
        ),
        key(
            "allow_anonymous",
            Switch,
            Default("false"),
            "Lets in clients without a token, as nobody; a bad token is refused all the same.",
            r#"allow_anonymous = "${ALLOW_AUTH_WITHOUT_JWT:-false}""#,
        ),
        key("anonymous", Kind::Table(&ANONYMOUS), Always, "Who a client without a token is.", ""),
        key(
            "secret",
            Text,
            Default("${JWT_SECRET:-}"),
            "The shared secret of HS256, HS384 and HS512.",
            r#"secret = "${JWT_SECRET}""#,
        ),
        key(
            "public_key",
            Text,
            Default("${JWT_PUBLIC_KEY:-}"),
            "The public key of RS*, PS*, ES* and EdDSA: PEM, or the path of a PEM file.",
            r#"public_key = "/run/secrets/jwt.pem""#,
        ),
        key(
            "jwks_url",
            Text,
            Default("${JWKS_URL:-}"),
            "Where the key set is fetched.",
            r#"jwks_url = "https://id.example.com/jwks.json""#,
        ),
        key(
            "algorithms",
            Words,
            Default("${JWT_ALGORITHMS:-}"),
            "The algorithms that are let in; all that fit the keys if it is empty.",
            r#"algorithms = ["RS256"]"#,
        ),
        key(
            "user_claims",
            List(&Name),
            Default("userId,id,sub,user_id"),
            "The claims that may name the user; the first that is there does.",
            r#"user_claims = ["sub"]"#,
        ),
        key("leeway", Time, Default("5s"), "How far the clocks of issuer and gateway may differ.", r#"leeway = "5s""#),
        key(
            "warn_before",
            Time,
            Default("300s"),
            "How long before its end a client is told that its token ends.",
            r#"warn_before = "5m""#,
        ),
        key(
            "token_life",
            Time,
            Default("${JWT_EXPIRES_IN:-7d}"),
            "How long a development token lives, as `roomcast token` makes it.",
            r#"token_life = "7d""#,
        ),
    ],
};

static ANONYMOUS: Table = Table {
    about: "",
    keys: &[
        key("query", Name, May, "The query parameter by which the client names its user.", r#"query = "userId""#),
        key(
            "guest",
            Text,
            May,
            "What a guest's made-up id begins with. Without it, a client that names no user has none.",
            r#"guest = "guest-""#,
        ),
    ],
};

pub(super) static USER: Table = Table {
    about: "",
    keys: &[
        key(
            "connections",
            Count(0, UNLIMITED),
            Default("0"),
            "Connections of one user at a time; 0 for any number. The last one wins: what becomes of the oldest stands in `surplus`.",
            "connections = 1",
        ),
        key("surplus", Kind::Table(&SURPLUS), Always, "How a connection goes that is one too many of its user's.", ""),
    ],
};

static SURPLUS: Table = Table {
    about: "The connection gets an `error` event, and ends for good: those of Socket.IO get a disconnect packet, too, after which stock clients do not \
            come back.",
    keys: &[
        key("close", Choice(&["oldest"]), Default("oldest"), "Which one goes.", r#"close = "oldest""#),
        key("code", Count(1000, 4999), Default("4409"), "The close code of its WebSocket.", "code = 4409"),
        key(
            "error",
            Text,
            Default("replaced"),
            "The error code that it is told, which is the close's reason, too.",
            r#"error = "replaced""#,
        ),
    ],
};

pub(super) static CORS: Table = Table {
    about: "",
    keys: &[
        key(
            "origins",
            Words,
            Default("${CORS_ORIGIN:-*}"),
            "The origins of pages that may connect, over HTTP and WebSocket alike; `*` for every page, `own` for the pages of the gateway's own origin alone.",
            r#"origins = ["https://hometrip.com"]"#,
        ),
        key(
            "credentials",
            Switch,
            May,
            "Whether those pages may send cookies along; if it is not written, they may where `origins` lists them.",
            "credentials = false",
        ),
    ],
};

pub(super) static ENDPOINT: Table = Table {
    about: "",
    keys: &[
        key(
            "protocol",
            Choice(&["socket.io", "json"]),
            Needed,
            "`socket.io`, or `json` for JSON messages on plain WebSockets.",
            r#"protocol = "socket.io""#,
        ),
        key(
            "path",
            Text,
            May,
            "Its path: `/socket.io` if it is not written, `/ws` for `json`.",
            r#"path = "/socket.io""#,
        ),
        key(
            "paths",
            Named(&Name),
            May,
            "`json` alone, in place of `path`: several paths, each with the namespace that it leads to.",
            r#"paths = { "/ws/location" = "/location" }"#,
        ),
        key(
            "namespaces",
            List(&Name),
            May,
            "`socket.io` alone: the namespaces that may be connected to; `/` alone if it is not written.",
            r#"namespaces = ["/", "/location"]"#,
        ),
        key(
            "ping_interval",
            Time,
            Default("25s"),
            "`socket.io` alone: the time between two pings.",
            r#"ping_interval = "25s""#,
        ),
        key(
            "ping_timeout",
            Time,
            Default("20s"),
            "`socket.io` alone: how long a pong may take.",
            r#"ping_timeout = "60s""#,
        ),
        key(
            "connect_timeout",
            Time,
            Default("45s"),
            "`socket.io` alone: how long a client may stay without connecting to a namespace.",
            r#"connect_timeout = "45s""#,
        ),
        key(
            "upgrade_timeout",
            Time,
            Default("10s"),
            "`socket.io` alone: how long an upgrade to WebSocket may take.",
            r#"upgrade_timeout = "10s""#,
        ),
        key(
            "transports",
            List(&Choice(&["polling", "websocket"])),
            May,
            "`socket.io` alone: the transports that are offered; both if it is not written.",
            r#"transports = ["websocket"]"#,
        ),
        key(
            "allow_eio3",
            Switch,
            Default("false"),
            "`socket.io` alone: lets in clients of Engine.IO 3, that is `socket.io-client` 1 and 2.",
            "allow_eio3 = true",
        ),
        key(
            "trailing_slash",
            Switch,
            Default("true"),
            "`socket.io` alone: whether clients write a slash at the end of the path, as they do unless told otherwise.",
            "trailing_slash = false",
        ),
        key(
            "cookie",
            Kind::Table(&COOKIE),
            May,
            "`socket.io` alone: the cookie that the answer to a polling handshake sets; none if it is not written.",
            r#"cookie = { name = "io" }"#,
        ),
        key(
            "compress_polls",
            Switch,
            Default("true"),
            "`socket.io` alone: whether answers to polls are compressed (gzip, deflate) where the client takes it.",
            "compress_polls = false",
        ),
        key(
            "compress_polls_from",
            Size,
            Default("1024"),
            "`socket.io` alone: the size from which an answer to a poll is compressed.",
            r#"compress_polls_from = "4KiB""#,
        ),
        key(
            "client_files",
            Text,
            May,
            "`socket.io` alone: a folder with `socket.io.js` and its siblings (`client-dist` or `dist` of the npm packages), served below the path.",
            r#"client_files = "/srv/socket.io/dist""#,
        ),
        key(
            "envelope",
            Choice(&["flat", "data"]),
            Default("flat"),
            "`json` alone: `flat` for `{type, …}`, `data` for `{type, data}`.",
            r#"envelope = "data""#,
        ),
        key(
            "deflate",
            Switch,
            Default("false"),
            "Whether messages are compressed on WebSockets (permessage-deflate, RFC 7692), for clients that offer it; those below `limits.deflate_threshold` never are.",
            "deflate = true",
        ),
        key("heartbeat", Kind::Table(&HEARTBEAT), Always, "What every client gets from time to time.", ""),
    ],
};

static COOKIE: Table = Table {
    about: "It holds the session's id, so that a balancer can lead all requests of a session to one node.",
    keys: &[
        key("name", Name, Default("io"), "Its name.", r#"name = "io""#),
        key("path", Text, Default("/"), "The path that it is for.", r#"path = "/""#),
        key("http_only", Switch, Default("true"), "Whether scripts may not read it.", "http_only = true"),
        key("secure", Switch, Default("false"), "Whether it goes over TLS alone.", "secure = true"),
        key(
            "same_site",
            Choice(&["strict", "lax", "none"]),
            Default("lax"),
            "With which requests from other sites it goes.",
            r#"same_site = "none""#,
        ),
    ],
};

static HEARTBEAT: Table = Table {
    about: "Plain connections get protocol pings, which every client answers by itself. Those of Socket.IO have pings of their own (`ping_interval`); \
            they get an `event` where one is written, and are never closed over it.",
    keys: &[
        key(
            "every",
            Time,
            Default("30s"),
            "The time between two of them.",
            r#"every = "${WS_HEARTBEAT_INTERVAL:-30000}ms""#,
        ),
        key(
            "silent",
            Count(1, 100),
            Default("2"),
            "`json` alone: after how many intervals without a byte from the client it is closed.",
            "silent = 2",
        ),
        key("code", Count(1000, 4999), Default("4408"), "`json` alone: the close code then.", "code = 4408"),
        key("send", Data, May, "`json` alone: a message that goes out beside the ping.", r#"send = { type = "ping" }"#),
        key(
            "event",
            Name,
            May,
            "`socket.io` alone: an event that goes out, in each namespace that the client is in.",
            r#"event = "ping""#,
        ),
    ],
};

pub(super) static SOURCE: Table = Table {
    about: "",
    keys: &[
        key(
            "rabbitmq",
            Kind::Table(&RABBITMQ),
            May,
            "A RabbitMQ broker. It is used if one of the variables of its address is set.",
            "",
        ),
        key(
            "redis",
            Kind::Table(&REDIS_CHANNELS),
            May,
            "Channels of the Redis in `[redis]`. They are used if it is.",
            "",
        ),
    ],
};

static REDIS_CHANNELS: Table = Table {
    about: "Redis 6 or newer is needed. What is published to a channel while the gateway is not connected is lost, as for every subscriber; so is an \
            event that cannot be handled, and one that comes while 16 MiB of others wait.",
    keys: &[key(
        "channels",
        List(&Name),
        Needed,
        "The channels that are subscribed to.",
        r#"channels = ["venta:location", "venta:vendor"]"#,
    )],
};

static RABBITMQ: Table = Table {
    about: "Queues that exist already are used as they are.",
    keys: &[
        key(
            "url",
            Text,
            Default("${RABBITMQ_URL:-}"),
            "The broker as one URL; it wins over the parts. `amqps://` is TLS, with the machine's authorities or those of the file in `SSL_CERT_FILE`.",
            r#"url = "amqp://guest:guest@localhost:5672/%2f""#,
        ),
        key(
            "host",
            Text,
            Default("${RABBITMQ_HOST:-}"),
            "Its host; `localhost` if another part is set.",
            r#"host = "rabbitmq""#,
        ),
        key("port", Count(1, 65_535), Default("${RABBITMQ_PORT:-}"), "Its port; 5672 if it is not set.", "port = 5672"),
        key(
            "user",
            Text,
            Default("${RABBITMQ_USER:-}"),
            "Who logs in; `guest` if it is not set.",
            r#"user = "gateway""#,
        ),
        key(
            "password",
            Text,
            Default("${RABBITMQ_PASSWORD:-}"),
            "With what; `guest` if it is not set.",
            r#"password = "${RABBITMQ_PASSWORD}""#,
        ),
        key("vhost", Text, Default("${RABBITMQ_VHOST:-}"), "The virtual host; `/` if it is not set.", r#"vhost = "/""#),
        key(
            "exchange",
            Name,
            Default("${RABBITMQ_EXCHANGE:-events}"),
            "The exchange that events are published to.",
            r#"exchange = "${RABBITMQ_EXCHANGE:-hometrip_events}""#,
        ),
        key(
            "type",
            Choice(&["topic", "direct", "fanout"]),
            Default("topic"),
            "The exchange's type.",
            r#"type = "topic""#,
        ),
        key(
            "durable",
            Switch,
            Default("true"),
            "Whether the exchange outlives the broker's restart.",
            "durable = true",
        ),
        key("prefetch", Count(1, 65_535), Default("256"), "How many deliveries may be in hand.", "prefetch = 256"),
        key(
            "consumers",
            Choice(&["all", "one"]),
            Default("all"),
            "`all`: every node consumes. `one`: one does and the others stand by, so that order holds over the cluster.",
            r#"consumers = "one""#,
        ),
        key(
            "dead_letter",
            Name,
            Default("roomcast.dead_letter"),
            "The durable queue for messages that cannot be handled.",
            r#"dead_letter = "roomcast.dead_letter""#,
        ),
        key(
            "dead_letter_max",
            Count(1, UNLIMITED),
            Default("10000"),
            "How many messages it keeps, the oldest out first.",
            "dead_letter_max = 10000",
        ),
        key("queue", Kind::Tables(&QUEUE), Needed, "The queues that are consumed.", ""),
    ],
};

static QUEUE: Table = Table {
    about: "",
    keys: &[
        key("name", Name, Needed, "Its name.", r#"name = "websocket.message.sent""#),
        key(
            "bind",
            OneOrMany(&Text),
            Needed,
            "The routing keys that bring messages into it; `*` is one word, `#` any number.",
            r#"bind = ["order.*", "payment.*"]"#,
        ),
        key("durable", Switch, Default("true"), "Whether it outlives the broker's restart.", "durable = true"),
    ],
};

pub(super) static REDIS: Table = Table {
    about: "",
    keys: &[
        key(
            "url",
            Text,
            Default("${REDIS_URL:-}"),
            "Redis as one URL; it wins over the parts. `rediss://` is TLS, with the machine's authorities or those of the file in `SSL_CERT_FILE`.",
            r#"url = "redis://localhost:6379/1""#,
        ),
        key("host", Text, Default("${REDIS_HOST:-}"), "Its host.", r#"host = "redis""#),
        key("port", Count(1, 65_535), Default("${REDIS_PORT:-6379}"), "Its port.", "port = 6379"),
        key(
            "password",
            Text,
            Default("${REDIS_PASSWORD:-}"),
            "Its password, if it wants one.",
            r#"password = "${REDIS_PASSWORD}""#,
        ),
        key("database", Count(0, 1_000_000), Default("${REDIS_DB:-0}"), "The database's number.", "database = 1"),
        key(
            "key",
            Text,
            Default("${REDIS_ADAPTER_KEY:-socket.io}"),
            "What the names of the cluster's channels begin with: the `key` of Node's Redis adapter. Nodes with another one are another cluster; `none`: this node is in none.",
            r#"key = "chat""#,
        ),
    ],
};

pub(super) static PUBLISH: Table = Table {
    about: "Every message is confirmed by the broker.",
    keys: &[
        key("exchange", Name, May, "The exchange; the source's if it is not written.", r#"exchange = "clan_events""#),
        key(
            "confirm_timeout",
            Time,
            Default("5s"),
            "How long a confirm may take before the outcome is called unknown.",
            r#"confirm_timeout = "5s""#,
        ),
    ],
};

pub(super) static UPSTREAM: Table = Table {
    about: "As `[upstream.location]`. With `grpc` the service is asked what its methods and messages are (gRPC server reflection); where it does not say, the `.proto` files count, which are read at start. Messages are JSON to rules, by the mapping of protobuf: names of fields in camelCase, and taken in snake_case, too; whole numbers of 64 bits as texts. A number that stands where the service wants a text becomes one. With `http` messages and replies are JSON as they stand; 2xx is a reply (`null` where its body is empty), 4xx a refusal, whose words are the `message`, `error` or `detail` of its JSON, or its plain text; anything else is no answer. Redirects are not followed, and no call is made twice.",
    keys: &[
        key(
            "grpc",
            Text,
            May,
            "Its address for gRPC: `host:port`, `http://…` or, for TLS, `https://…`. Empty: it is not called, and its calls are skipped, with a warning at start. One of `grpc` and `http` is needed.",
            r#"grpc = "${LOCATION_SERVICE_URL:-}""#,
        ),
        key(
            "http",
            Text,
            May,
            "Its address for HTTP, before the paths of calls: `http://…` or `https://…`. Empty: as for `grpc`.",
            r#"http = "${TICKETS_URL:-}""#,
        ),
        key(
            "authorization",
            Text,
            May,
            "What every call says in its `authorization` (HTTP's header, gRPC's metadata); nothing if it is empty.",
            r#"authorization = "${TICKETS_AUTHORIZATION:-}""#,
        ),
        key(
            "proto",
            OneOrMany(&Text),
            May,
            "Its `.proto` files. They are looked for in `profiles/NAME/` of the working directory (NAME is the profile's), beside the profile's file, and among those that come with the gateway.",
            r#"proto = "location.proto""#,
        ),
        key(
            "timeout",
            Time,
            Default("2s"),
            "How long an answer may take. After five calls in a row without one, further calls fail at once for a second, for longer each time, up to four seconds.",
            r#"timeout = "2s""#,
        ),
    ],
};

pub(super) static LIMITS: Table = Table {
    about: "What happens at a limit stands in the reference of codes.",
    keys: &[
        key(
            "connections",
            Count(0, UNLIMITED),
            Default("0"),
            "Connections of one node; 0 for any number. One more is refused with 503.",
            r#"connections = "${WS_MAX_CONNECTIONS:-1000}""#,
        ),
        key(
            "messages_per_minute",
            Count(0, UNLIMITED),
            Default("0"),
            "Messages of one connection in a minute; 0 for any number. Ten times as many close it.",
            r#"messages_per_minute = "${WS_RATE_LIMIT:-100}""#,
        ),
        key("message", Size, Default("1MB"), "The largest message of a client.", r#"message = "1MB""#),
        key("event", Size, Default("1MiB"), "The largest event from a backend.", r#"event = "1MiB""#),
        key(
            "kept",
            Size,
            Default("16MiB"),
            "The last values that rooms keep, all together; at the bound the oldest are forgotten.",
            r#"kept = "16MiB""#,
        ),
        key(
            "send_queue",
            Size,
            Default("1MiB"),
            "What may wait to be sent to one connection. A client that falls further behind is cut.",
            r#"send_queue = "1MiB""#,
        ),
        key(
            "rooms_per_connection",
            Count(1, 1_000_000),
            Default("1000"),
            "Rooms that one connection may be in.",
            "rooms_per_connection = 1000",
        ),
        key(
            "commands_waiting",
            Count(1, 10_000),
            Default("32"),
            "Commands of one connection that may wait.",
            "commands_waiting = 32",
        ),
        key(
            "deflate_threshold",
            Size,
            Default("1KiB"),
            "From what size on a message is compressed, where an endpoint says `deflate`.",
            r#"deflate_threshold = "1KiB""#,
        ),
        key(
            "head_timeout",
            Time,
            Default("10s"),
            "How long the head of a request may take: the first one from the beginning of the connection, others from their first byte.",
            r#"head_timeout = "10s""#,
        ),
        key(
            "body_timeout",
            Time,
            Default("30s"),
            "How long the body of a request may take.",
            r#"body_timeout = "30s""#,
        ),
        key(
            "keep_alive",
            Time,
            Default("75s"),
            "How long an HTTP connection may be idle between two requests; more than the proxy in front allows itself.",
            r#"keep_alive = "75s""#,
        ),
        key(
            "message_timeout",
            Time,
            Default("60s"),
            "How long a WebSocket message may take from its first byte to its last.",
            r#"message_timeout = "60s""#,
        ),
        key(
            "write_timeout",
            Time,
            Default("30s"),
            "How long a client may take nothing of what waits for it.",
            r#"write_timeout = "30s""#,
        ),
        key(
            "close_timeout",
            Time,
            Default("5s"),
            "How long to wait for a client's side of a WebSocket's close.",
            r#"close_timeout = "5s""#,
        ),
    ],
};

pub(super) static DRAIN: Table = Table {
    about: "",
    keys: &[
        key(
            "delay",
            Time,
            Default("${DRAIN_DELAY:-0s}"),
            "The time between `not ready` and the first closed connection.",
            r#"delay = "5s""#,
        ),
        key(
            "timeout",
            Time,
            Default("${SHUTDOWN_TIMEOUT:-8s}"),
            "The time in which all must be over.",
            r#"timeout = "8s""#,
        ),
    ],
};

pub(super) static LOG: Table = Table {
    about: "",
    keys: &[
        key(
            "level",
            Choice(&["error", "warn", "info", "http", "verbose", "debug", "silly", "trace"]),
            Default("${LOG_LEVEL:-info}"),
            "How much. `http` and `verbose` are `debug`, `silly` is `trace`.",
            r#"level = "debug""#,
        ),
        key(
            "dir",
            Text,
            Default("${LOG_DIR:-}"),
            "The folder for `combined.log` and `error.log`; the console alone if it is empty.",
            r#"dir = "logs""#,
        ),
        key(
            "format",
            Choice(&["json", "text", "simple"]),
            Default("${LOG_FORMAT:-json}"),
            "`json` for one object in each line, `text` for people; `simple` is `text`.",
            r#"format = "text""#,
        ),
        key("file_size", Size, Default("5MB"), "The size at which a file is rotated.", r#"file_size = "5MB""#),
        key("files", Count(1, 1_000), Default("5"), "How many rotated files are kept.", "files = 5"),
    ],
};

pub(super) static API: Table = Table {
    about: "",
    keys: &[key(
        "key",
        Text,
        Default("${API_KEY:-}"),
        "The key that opens it; closed if it is empty.",
        r#"key = "${API_KEY}""#,
    )],
};
