//! The language of profiles: every table and key, once, with its kind, its default and what it is for. From here come the checks of what was
//! written, the JSON Schema and the reference page. Reads nothing itself.

/// A table of the language.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) about: &'static str,
    pub(crate) keys: &'static [Key],
}

/// A key of a table.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) presence: Presence,
    pub(crate) about: &'static str,
    /// As it would stand in a profile, for the reference page.
    pub(crate) example: &'static str,
}

/// Whether a key must be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// It must.
    Needed,
    /// It need not, and then is not there.
    May,
    /// It need not, and then is this text, variables and all.
    Default(&'static str),
    /// It need not, and then is an empty table, so that the defaults in it hold.
    Always,
}

/// What may stand at a key.
#[derive(Debug)]
pub(crate) enum Kind {
    /// A text.
    Text,
    /// The name of an event, namespace or variable: 1 to 255 bytes without control characters.
    Name,
    /// The pattern of rooms' names: `conversation:{roomId}`.
    RoomPattern,
    /// A template: a text with `{paths}`.
    Template,
    /// A condition in CEL, or `true`, `false`.
    Condition,
    /// `true` or `false`.
    Switch,
    /// A whole number between two bounds.
    Count(i64, i64),
    /// A time: `"500ms"`, `"3s"`, `"5m"`, `"24h"`, `"7d"`; a bare number in a variable is seconds.
    Time,
    /// A size in bytes: `"64KiB"`, `"1MB"`; a bare number is bytes.
    Size,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of texts, or one text with commas.
    Words,
    /// A list.
    List(&'static Kind),
    /// One, or a list of several.
    OneOrMany(&'static Kind),
    /// One of two forms: a text of the first kind, or a table.
    TextOr(&'static Kind, &'static Table),
    /// A table.
    Table(&'static Table),
    /// Any number of tables, in order: `[[name]]`.
    Tables(&'static Table),
    /// A table whose keys are the author's own names.
    Named(&'static Kind),
    /// Any value, with templates in its texts.
    Data,
    /// What a command's argument must be.
    Arguments,
}

const fn key(name: &'static str, kind: Kind, presence: Presence, about: &'static str, example: &'static str) -> Key {
    Key { name, kind, presence, about, example }
}

use Kind::{
    Choice, Condition, Count, Data, List, Name, Named, OneOrMany, RoomPattern, Size, Switch, Template, Text, TextOr,
    Time, Words,
};
use Presence::{Always, Default, May, Needed};

const UNLIMITED: i64 = u32::MAX as i64;

/// The whole of a profile.
pub(crate) static PROFILE: Table = Table {
    about: "A profile is one TOML file. Texts may hold variables, `${NAME|OTHER_NAME:-default}`: the first that is set and not empty wins; without a \
            default one of them must be set. `$${` is a plain `${`. Values are typed as their key wants. The order of `[[…]]` tables counts, the \
            order of all others never does.",
    keys: &[
        key("about", Text, May, "What this gateway is, in a sentence.", r#"about = "The gateway of HomeTrip""#),
        key("service", Kind::Table(&SERVICE), Always, "Who the gateway is, and where it listens.", ""),
        key("auth", Kind::Table(&AUTH), Always, "Who gets in, and as whom.", ""),
        key("user", Kind::Table(&USER), Always, "What one user may have.", ""),
        key("cors", Kind::Table(&CORS), Always, "Which pages may connect.", ""),
        key("endpoint", Kind::Tables(&ENDPOINT), Needed, "The ways in for clients.", ""),
        key("source", Kind::Table(&SOURCE), Always, "Where events come from.", ""),
        key("redis", Kind::Table(&REDIS), Always, "Where Redis is. It is used if one of its variables is set.", ""),
        key("publish", Kind::Table(&PUBLISH), Always, "How clients' messages reach the broker.", ""),
        key("limits", Kind::Table(&LIMITS), Always, "How much of everything.", ""),
        key("drain", Kind::Table(&DRAIN), Always, "How the gateway goes when it is told to.", ""),
        key("log", Kind::Table(&LOG), Always, "What is written down, and where.", ""),
        key("api", Kind::Table(&API), Always, "The server API.", ""),
        key("on", Kind::Table(&ON), Always, "What is done when connections and users come and go.", ""),
        key(
            "room",
            Named(&Kind::Table(&ROOM)),
            May,
            "The kinds of rooms, by the author's own names. The most specific name pattern wins. A kind `user` is always there.",
            "",
        ),
        key(
            "command",
            Named(&Kind::Table(&COMMAND)),
            May,
            "What clients may send, by the event's name. A command goes through its phases in a fixed order: `args`, `require`, `call`, `let`, `publish`, `join` and `leave`, `answer`, `emit`. A phase that fails stops the rest and answers with its error.",
            "",
        ),
        key(
            "route",
            Kind::Tables(&ROUTE),
            May,
            "What becomes of events from backends. Routes are tried from the top down, the first match takes the event. An event that no route asks for is ignored: acknowledged and counted.",
            "",
        ),
        key(
            "http",
            Named(&Kind::Table(&HTTP)),
            May,
            "Documents that operators of this system expect, by method and path. They win over the gateway's own.",
            "",
        ),
    ],
};

static SERVICE: Table = Table {
    about: "Who the gateway is, and where it listens.",
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
            "ops_port",
            Count(1, 65_535),
            Default("${OPS_PORT:-}"),
            "A port of its own for the server API, metrics and console.",
            "ops_port = 9100",
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

static AUTH: Table = Table {
    about: "Who gets in, and as whom. Tokens are JWT; they come from `auth.token` (Socket.IO), `Authorization: Bearer`, `?token=` or the subprotocol pair `bearer, TOKEN`.",
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
    about: "Who a client without a token is, where one gets in.",
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

static USER: Table = Table {
    about: "What one user may have.",
    keys: &[key(
        "connections",
        Count(0, UNLIMITED),
        Default("0"),
        "Connections of one user at a time; 0 for any number.",
        "connections = 1",
    )],
};

static CORS: Table = Table {
    about: "Which pages may connect.",
    keys: &[key(
        "origins",
        Words,
        Default("${CORS_ORIGIN:-*}"),
        "The origins of pages that may connect, over HTTP and WebSocket alike; `*` for every page.",
        r#"origins = ["https://hometrip.com"]"#,
    )],
};

static ENDPOINT: Table = Table {
    about: "A way in for clients.",
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
            "envelope",
            Choice(&["flat", "data"]),
            Default("flat"),
            "`json` alone: `flat` for `{type, …}`, `data` for `{type, data}`.",
            r#"envelope = "data""#,
        ),
        key("heartbeat", Kind::Table(&HEARTBEAT), Always, "`json` alone: how the life of a connection is watched.", ""),
    ],
};

static HEARTBEAT: Table = Table {
    about: "How the life of a plain connection is watched: by protocol pings, which every client answers by itself.",
    keys: &[
        key(
            "every",
            Time,
            Default("30s"),
            "The time between two pings.",
            r#"every = "${WS_HEARTBEAT_INTERVAL:-30000}ms""#,
        ),
        key(
            "silent",
            Count(1, 100),
            Default("2"),
            "After how many intervals without a byte from the client it is closed.",
            "silent = 2",
        ),
        key("send", Data, May, "A message that goes out beside the ping.", r#"send = { type = "ping" }"#),
    ],
};

static SOURCE: Table = Table {
    about: "Where events come from.",
    keys: &[key(
        "rabbitmq",
        Kind::Table(&RABBITMQ),
        May,
        "A RabbitMQ broker. It is used if one of the variables of its address is set.",
        "",
    )],
};

static RABBITMQ: Table = Table {
    about: "A RabbitMQ broker. Queues that exist already are used as they are.",
    keys: &[
        key(
            "url",
            Text,
            Default("${RABBITMQ_URL:-}"),
            "The broker as one URL; it wins over the parts.",
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
    about: "A queue that is consumed.",
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

static REDIS: Table = Table {
    about: "Where Redis is. It is used if a URL or a host is set.",
    keys: &[
        key(
            "url",
            Text,
            Default("${REDIS_URL:-}"),
            "Redis as one URL; it wins over the parts.",
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
    ],
};

static PUBLISH: Table = Table {
    about: "How clients' messages reach the broker: with publisher confirms.",
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

static LIMITS: Table = Table {
    about: "How much of everything. What happens at a limit stands in the reference of codes.",
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
    ],
};

static DRAIN: Table = Table {
    about: "How the gateway goes when it is told to (SIGTERM).",
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

static LOG: Table = Table {
    about: "What is written down, and where.",
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

static API: Table = Table {
    about: "The server API.",
    keys: &[key(
        "key",
        Text,
        Default("${API_KEY:-}"),
        "The key that opens it; closed if it is empty.",
        r#"key = "${API_KEY}""#,
    )],
};

static ON: Table = Table {
    about: "What is done when connections and users come and go.",
    keys: &[
        key(
            "connect",
            Kind::Table(&CONNECT),
            May,
            "A socket has connected to a namespace. A user's socket is always in `user:{userId}`.",
            "",
        ),
        key("user_online", Kind::Table(&USER_ONLINE), May, "A user's first socket in the cluster has come.", ""),
        key(
            "user_offline",
            Kind::Table(&USER_OFFLINE),
            May,
            "A user's last socket in the cluster has been gone for the grace time.",
            "",
        ),
    ],
};

static CONNECT: Table = Table {
    about: "A socket has connected. Templates know `socket.id`, `socket.rooms`, `user`, `now`, `new.id`.",
    keys: &[
        key(
            "namespace",
            OneOrMany(&Name),
            May,
            "The namespaces that are meant; all if it is not written.",
            r#"namespace = "/location""#,
        ),
        key(
            "join",
            OneOrMany(&TextOr(&Template, &JOIN_IF)),
            May,
            "Rooms that the socket is in from the start, whatever their `enter` says. A room whose field is missing is left out.",
            r#"join = ["company:{user.companyId?}"]"#,
        ),
        key(
            "emit",
            OneOrMany(&Kind::Table(&EMIT)),
            May,
            "What goes out, after the socket is in its rooms.",
            r#"emit = { to = "self", event = "connected", data = { socketId = "{socket.id}" } }"#,
        ),
    ],
};

static JOIN_IF: Table = Table {
    about: "A room with a condition.",
    keys: &[
        key("room", Template, Needed, "The room.", r#"room = "super_admin""#),
        key("when", Condition, Needed, "Whether it is joined. Knows `user`.", r#"when = "user.role == 'super_admin'""#),
    ],
};

static USER_ONLINE: Table = Table {
    about: "A user's first socket in the cluster has come. Templates know `user.id`, `user.lastSeen`, `user.rooms.KIND`, `now`.",
    keys: &[key(
        "emit",
        OneOrMany(&Kind::Table(&EMIT)),
        Needed,
        "What goes out.",
        r#"emit = { to = "{user.rooms.conversation}", event = "presence_update", data = { status = "online" } }"#,
    )],
};

static USER_OFFLINE: Table = Table {
    about: "A user's last socket in the cluster has gone. Templates know `user.id`, `user.lastSeen`, `user.rooms.KIND`, `now`.",
    keys: &[
        key("grace", Time, Default("3s"), "How long it must be gone.", r#"grace = "3s""#),
        key(
            "emit",
            OneOrMany(&Kind::Table(&EMIT)),
            Needed,
            "What goes out. `{user.rooms.KIND}` are the rooms of a kind where the user was.",
            r#"emit = { to = "{user.rooms.conversation}", event = "presence_update", data = { status = "offline" } }"#,
        ),
    ],
};

static EMIT: Table = Table {
    about: "One event that goes out. A member of several of its rooms gets it once. No room left: it is not sent.",
    keys: &[
        key(
            "to",
            OneOrMany(&Template),
            May,
            "`self`, `everyone`, or rooms. In the hooks of a room: that room, if it is not written.",
            r#"to = ["company:{event.companyId?}", "super_admin"]"#,
        ),
        key("except", OneOrMany(&Template), May, "Who is left out: `self`, or members of rooms.", r#"except = "self""#),
        key("event", Name, Needed, "The event's name, as clients see it.", r#"event = "new_message""#),
        key(
            "data",
            Data,
            May,
            "The payload. In routes, the event's own bytes if it is not written.",
            r#"data = { userId = "{user.id}" }"#,
        ),
        key(
            "add",
            Named(&Data),
            May,
            "In routes: fields that the payload gets; its other bytes stay as they are. A field that is there gets this value.",
            r#"add = { timestamp = "{event.timestamp | now}" }"#,
        ),
        key(
            "namespace",
            OneOrMany(&Name),
            May,
            "The namespaces whose sockets are meant; the acting socket's if it is not written, in routes the first one.",
            r#"namespace = "/location""#,
        ),
    ],
};

static ROOM: Table = Table {
    about: "A kind of rooms. What belongs to a room stands here and nowhere else, so that no second way goes round it.",
    keys: &[
        key(
            "name",
            RoomPattern,
            Needed,
            "The pattern of its rooms' names. A part takes as little as it can, the last one the rest.",
            r#"name = "conversation:{roomId}""#,
        ),
        key(
            "namespace",
            OneOrMany(&Name),
            May,
            "The namespaces that have rooms of this kind; all if it is not written.",
            r#"namespace = "/location""#,
        ),
        key(
            "enter",
            Condition,
            Default("false"),
            "Whether a client may enter: `true`, or a condition that knows the pattern's parts, `user`, `socket` and `room`. Without it rooms of this kind are closed to clients: they neither enter nor leave them by commands.",
            r#"enter = "!has(user.clanIds) || clanId in user.clanIds""#,
        ),
        key("ask", Kind::Table(&ASK), May, "An access service that is asked before a client enters.", ""),
        key(
            "on_enter",
            OneOrMany(&Kind::Table(&EMIT)),
            May,
            "What is told when a socket has entered.",
            r#"on_enter = { except = "self", event = "user_joined", data = { userId = "{user.id}" } }"#,
        ),
        key(
            "on_leave",
            OneOrMany(&Kind::Table(&EMIT)),
            May,
            "What is told when a socket has left, by its end, too.",
            r#"on_leave = { except = "self", event = "user_left", data = { userId = "{user.id}" } }"#,
        ),
        key(
            "on_user_enter",
            OneOrMany(&Kind::Table(&EMIT)),
            May,
            "What is told when the first of a user's sockets has entered. Not for anonymous clients.",
            r#"on_user_enter = { event = "presence_update", data = { userId = "{user.id}", status = "online" } }"#,
        ),
    ],
};

static ASK: Table = Table {
    about: "An access service: 2xx lets in, 403 and 404 refuse, anything else refuses with `try again`.",
    keys: &[
        key(
            "get",
            Text,
            Needed,
            "The address, with the names of `with` in braces, which are filled in percent-encoded. Empty: nobody is asked, with a warning at start.",
            r#"get = "${CONVERSATION_ACCESS_URL:-}""#,
        ),
        key(
            "with",
            Named(&Template),
            Needed,
            "What the names in the address stand for.",
            r#"with = { conversationId = "{room.roomId}", userId = "{user.id}" }"#,
        ),
        key("timeout", Time, Default("2s"), "How long an answer may take.", r#"timeout = "2s""#),
    ],
};

static COMMAND: Table = Table {
    about: "A command. Templates know `args`, `user`, `socket.id`, `now`, `new.id`, the names of `call` and `let`, and, after `join` or `leave`, `room`.",
    keys: &[
        key(
            "namespace",
            OneOrMany(&Name),
            May,
            "The namespaces that have the command; all if it is not written.",
            r#"namespace = "/location""#,
        ),
        key(
            "args",
            Kind::Arguments,
            May,
            "The fields of the client's message, each with what it must be: `\"id\"`, `\"text\"`, `\"number\"`, `\"integer\"`, `\"bool\"`, `\"object\"`, `\"any\"` (with `?` for one that may be missing), a list of words, `{ text = [min, max] }`, `{ number = [min, max] }`, `{ integer = [min, max] }`, `{ list = \"id\", max = 100 }`, `{ is = \"text\", default = \"x\" }`, `{ one_of = [\"a\", \"b\"], default = \"a\" }`, or a table of fields (`{ fields = { … } }` where all their names are words of this list).",
            r#"args = { roomType = ["conversation", "notification"], roomId = "id" }"#,
        ),
        key("bare", Name, May, "The field that a bare text or number stands for.", r#"bare = "roomId""#),
        key(
            "require",
            OneOrMany(&Kind::Table(&REQUIRE)),
            May,
            "What must hold.",
            r#"require = { member = "clan:{args.clanId}", code = "not_a_member" }"#,
        ),
        key(
            "call",
            Named(&Kind::Table(&CALL)),
            May,
            "Values that are fetched, by the names under which templates know them.",
            r#"call = { seen = { presence = "{args.userIds}" } }"#,
        ),
        key(
            "let",
            Named(&Data),
            May,
            "Values that are made, by the names under which templates know them. None of them sees another.",
            r#"let = { line = { id = "{new.id}", content = "{args.content}" } }"#,
        ),
        key(
            "publish",
            Kind::Table(&PUBLICATION),
            May,
            "A message to the broker, confirmed before what follows. Skipped where no broker is set.",
            "",
        ),
        key(
            "join",
            OneOrMany(&Template),
            May,
            "Rooms that the socket enters, if their rules let it.",
            r#"join = "{args.roomType}:{args.roomId}""#,
        ),
        key("leave", OneOrMany(&Template), May, "Rooms that the socket leaves.", r#"leave = "clan:{args.clanId}""#),
        key(
            "answer",
            Kind::Table(&ANSWER),
            May,
            "What the client is told: in the acknowledgement where it asked for one, else as the event.",
            r#"answer = { ack = { success = true, room = "{room}" } }"#,
        ),
        key(
            "emit",
            OneOrMany(&Kind::Table(&EMIT)),
            May,
            "What goes out.",
            r#"emit = { to = "clan:{args.clanId}", except = "self", event = "chat", data = "{line}" }"#,
        ),
    ],
};

static REQUIRE: Table = Table {
    about: "Something that must hold: a membership or a condition.",
    keys: &[
        key("member", Template, May, "A room that the socket must be in.", r#"member = "clan:{args.clanId}""#),
        key(
            "that",
            Condition,
            May,
            "A condition that knows `args`, `user` and `socket`. One that errs does not hold.",
            r#"that = "user.id == args.vendorId""#,
        ),
        key(
            "code",
            Text,
            May,
            "The error code: `not_a_member` or `forbidden` if it is not written.",
            r#"code = "forbidden""#,
        ),
        key("message", Template, May, "What the client is told.", r#"message = "not your vendor""#),
    ],
};

static CALL: Table = Table {
    about: "A value that is fetched.",
    keys: &[key(
        "presence",
        Template,
        Needed,
        "The presence of one user or of several: `{id: {online, lastSeen}}`.",
        r#"presence = "{args.userIds}""#,
    )],
};

static PUBLICATION: Table = Table {
    about: "A message to the broker.",
    keys: &[
        key("key", Template, Needed, "The routing key.", r#"key = "gateway.chat.sent""#),
        key("body", Data, Needed, "The body.", r#"body = "{line}""#),
        key(
            "exchange",
            Name,
            May,
            "The exchange; that of `[publish]` if it is not written.",
            r#"exchange = "clan_events""#,
        ),
    ],
};

static ANSWER: Table = Table {
    about: "What the client is told.",
    keys: &[
        key(
            "ack",
            Data,
            May,
            "The acknowledgement; the data of the event if it is not written.",
            r#"ack = { success = true }"#,
        ),
        key("event", Name, May, "The event for a client that asked for no acknowledgement.", r#"event = "joined""#),
        key("data", Data, May, "Its payload.", r#"data = { room = "{room}" }"#),
    ],
};

static ROUTE: Table = Table {
    about: "What becomes of events from backends. Templates know `event`, `key`, `key.last`, `key.0` and so on, `now`, `new.id` and the names of `let`. A field of the event that is not optional and is missing or ill-typed makes the event a dead letter.",
    keys: &[
        key("from", Choice(&["rabbitmq"]), Default("rabbitmq"), "The source.", r#"from = "rabbitmq""#),
        key("key", Text, May, "The routing keys that it takes: `*` is one word, `#` any number.", r#"key = "order.*""#),
        key(
            "when",
            Condition,
            May,
            "A condition that must hold, too. Knows `event` and `key`. One that errs does not hold.",
            r#"when = "has(event.userId)""#,
        ),
        key(
            "fallback",
            Condition,
            May,
            "A condition for events whose key matches no other route: those are tried only after all the others.",
            r#"fallback = "has(event.orderId)""#,
        ),
        key(
            "once",
            Template,
            May,
            "The event's own identity: where it was seen lately, nothing is sent again.",
            r#"once = "{event.messageId?}""#,
        ),
        key(
            "let",
            Named(&Data),
            May,
            "Values that are made, by the names under which templates know them. None of them sees another.",
            r#"let = { status = "{event.status | key.last}" }"#,
        ),
        key(
            "data",
            Data,
            May,
            "The payload of all that goes out; the event's own bytes if it is not written.",
            r#"data = { orderId = "{event.orderId}" }"#,
        ),
        key(
            "add",
            Named(&Data),
            May,
            "Fields that the payload gets; its other bytes stay as they are. A field that is there gets this value.",
            r#"add = { timestamp = "{event.timestamp | now}" }"#,
        ),
        key(
            "emit",
            OneOrMany(&Kind::Table(&EMIT)),
            May,
            "What goes out.",
            r#"emit = { to = "user:{event.userId}", event = "booking_update" }"#,
        ),
        key("drop", Text, May, "Why events of this key are ignored.", r#"drop = "not for clients""#),
    ],
};

static HTTP: Table = Table {
    about: "A document, by method and path: `[http.\"GET /user-status/{userId}\"]`. Templates know `path`, `gateway` and `now`.",
    keys: &[
        key(
            "body",
            Data,
            Needed,
            "The document.",
            r#"body = { status = "{gateway.status}", uptime = "{gateway.uptime}" }"#,
        ),
        key(
            "public",
            Switch,
            Default("true"),
            "Whether it is open to everyone; the key of the server API opens it otherwise.",
            r#"public = "${PUBLIC_QUERIES:-true}""#,
        ),
    ],
};

impl Table {
    /// The key of this name.
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

impl Kind {
    /// What is expected, for messages: `a whole number from 0 to 65535`.
    pub(crate) fn expected(&self) -> String {
        match self {
            Self::Text | Self::Name | Self::RoomPattern | Self::Template => "a text".to_owned(),
            Self::Condition => "a condition in quotes, or `true` or `false`".to_owned(),
            Self::Switch => "`true` or `false`".to_owned(),
            Self::Count(min, max) if *max >= UNLIMITED => format!("a whole number from {min} up"),
            Self::Count(min, max) => format!("a whole number from {min} to {max}"),
            Self::Time => "a time such as \"500ms\", \"3s\", \"5m\", \"24h\" or \"7d\"".to_owned(),
            Self::Size => "a size such as \"64KiB\" or \"1MB\"".to_owned(),
            Self::Choice(words) => format!("one of {}", quoted_list(words)),
            Self::Words => "a list of texts, or one text with commas".to_owned(),
            Self::List(_) => "a list".to_owned(),
            Self::OneOrMany(kind) => format!("{}, or a list of them", kind.expected()),
            Self::TextOr(kind, _) => format!("{}, or a table", kind.expected()),
            Self::Table(_) | Self::Named(_) => "a table".to_owned(),
            Self::Tables(_) => "tables, each as `[[…]]`".to_owned(),
            Self::Data => "a value".to_owned(),
            Self::Arguments => "a table of fields, each with what it must be".to_owned(),
        }
    }
}

/// Words for a sentence: `a`, `b` or `c`.
pub(crate) fn quoted_list(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        Some((last, _)) => last.clone(),
        None => String::new(),
    }
}
