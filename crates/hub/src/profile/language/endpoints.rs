//! The language's tables of the ways in for clients. What they mean stands in `meaning`.

use super::Kind::{self, Choice, Count, Data, List, Name, Named, Size, Switch, Text, Time};
use super::Presence::{Always, Default, May, Needed};
use super::{Table, key};

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
