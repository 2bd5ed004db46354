//! The language's tables of what becomes of events, and of documents. What they mean stands in `rules::build`.

use super::Kind::{self, Condition, Data, Name, Named, OneOrMany, Switch, Template, Text};
use super::Presence::{Default, May, Needed};
use super::rules::EMIT;
use super::{Table, key};

pub(super) static ROUTE: Table = Table {
    about: "Templates know `event`, `key`, `key.last`, `key.0` and so on, `now`, `new.id` and the names of `let`. A field of the event that is not optional and is missing or ill-typed makes the event a dead letter.",
    keys: &[
        key(
            "from",
            Text,
            Default("rabbitmq"),
            "The source: `rabbitmq`, or `redis:CHANNEL` for a channel of `[source.redis]`, whose name is the event's `key`.",
            r#"from = "redis:venta:location""#,
        ),
        key(
            "key",
            Text,
            May,
            "`rabbitmq` alone: the routing keys that it takes; `*` is one word, `#` any number.",
            r#"key = "order.*""#,
        ),
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
            "A condition for events whose key matches no route: such an event goes by the first `fallback` that holds. A route may have a `key`, a `fallback` or both.",
            r#"fallback = "has(event.orderId)""#,
        ),
        key(
            "needs",
            OneOrMany(&Template),
            May,
            "What of the event must be there as an id. One without it is a dead letter, even where each of the emits could do without.",
            r#"needs = "{event.customerId | event.userId}""#,
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

pub(super) static HTTP: Table = Table {
    about: "As `[http.\"GET /user-status/{userId}\"]`. Templates know `path`, `gateway`, `now` and the names of `call`.",
    keys: &[
        key(
            "call",
            Named(&Kind::Table(&HTTP_CALL)),
            May,
            "Values that are fetched, by the names under which templates know them.",
            r#"call = { seen = { online = "{path.userId}" } }"#,
        ),
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

static HTTP_CALL: Table = Table {
    about: "One of these.",
    keys: &[
        key("online", Template, May, "Whether a user is online: `true` or `false`.", r#"online = "{path.userId}""#),
        key(
            "presence",
            Template,
            May,
            "The presence of one user or of several: `{id: {online, lastSeen}}`.",
            r#"presence = "{path.userId}""#,
        ),
        key("sockets", Name, May, "How many of this node's sockets are in a namespace.", r#"sockets = "/location""#),
        key("rooms", Text, May, "How many rooms of a kind there are.", r#"rooms = "conversation""#),
        key(
            "members",
            Text,
            May,
            "How many sockets are in rooms of a kind, each counted once.",
            r#"members = "clan_chat""#,
        ),
    ],
};
