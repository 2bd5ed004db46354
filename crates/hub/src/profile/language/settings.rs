//! The language's tables of the gateway's own settings: service, auth, users, origins, limits and the like. What they mean stands in `meaning`.

use super::Kind::{self, Address, Choice, Count, List, Name, Size, Switch, Text, Time, Words};
use super::Presence::{Always, Default, May};
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
            "cluster_host",
            Address,
            Default("${CLUSTER_HOST:-}"),
            "The address at which other nodes of the cluster pass requests on to this one, which they learn from Redis; the one at which Redis sees this machine if it is empty.",
            r#"cluster_host = "10.0.0.7""#,
        ),
        key(
            "cluster_port",
            Count(0, 65_535),
            Default("${CLUSTER_PORT:-0}"),
            "The port for that; 0 takes a free one. No port is opened where there is no Redis.",
            "cluster_port = 7300",
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
