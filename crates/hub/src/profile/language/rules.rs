//! The language's tables of what clients meet: hooks, rooms, commands. What they mean stands in `rules::build`.

use super::Kind::{self, Condition, Data, Name, Named, OneOrMany, RoomPattern, Template, Text, TextOr, Time};
use super::Presence::{Default, May, Needed};
use super::{Table, key};

pub(super) static ON: Table = Table {
    about: "",
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
    about: "Templates know `socket.id`, `socket.rooms`, `user`, `now`, `new.id`.",
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
            "Rooms that the socket is in from the start, whatever their `enter` says. A room whose field is missing is left out. So is, with a warning in the log, an item of a list that is no id, and what is past `rooms_per_connection`.",
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
    about: "Templates know `user.id`, `user.lastSeen`, `user.rooms.KIND`, `now`.",
    keys: &[key(
        "emit",
        OneOrMany(&Kind::Table(&EMIT)),
        Needed,
        "What goes out.",
        r#"emit = { to = "{user.rooms.conversation}", event = "presence_update", data = { status = "online" } }"#,
    )],
};

static USER_OFFLINE: Table = Table {
    about: "Templates know `user.id`, `user.lastSeen`, `user.rooms.KIND`, `now`.",
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

pub(super) static EMIT: Table = Table {
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
        key(
            "event",
            Template,
            Needed,
            "The event's name, as clients see it: 1 to 255 bytes without control characters.",
            r#"event = "new_message""#,
        ),
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

pub(super) static ROOM: Table = Table {
    about: "What belongs to a room stands here and nowhere else, so that no second way goes round it. Templates know `room`, `room.kind`, the parts of the pattern in `room`, `socket.id`, `user`, `now`, `new.id`.",
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
            "keep",
            Kind::Table(&KEEP),
            May,
            "The last event of a name is kept, and who enters gets it, after the answer to the command. A command that enters anew gets it again.",
            "",
        ),
        key(
            "snapshot",
            Kind::Table(&SNAPSHOT),
            May,
            "A service that is asked for the latest value where none is kept; who enters gets it, after the answer to the command. An event of that name that comes in the meantime wins. A service that does not answer costs the snapshot alone.",
            "",
        ),
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

static KEEP: Table = Table {
    about: "What rooms keep together is bounded by `limits.kept`.",
    keys: &[
        key("event", Name, Needed, "The event's name.", r#"event = "location_updated""#),
        key("for", Time, Default("24h"), "How long a value is good.", r#"for = "24h""#),
    ],
};

static SNAPSHOT: Table = Table {
    about: "One question serves all who wait for its answer, so templates know the room and nobody in it: `room`, `room.kind`, the parts of the pattern in `room`, `now`.",
    keys: &[
        key(
            "call",
            Text,
            Needed,
            "What is called: `UPSTREAM.SERVICE/METHOD`, the service with its package, or `UPSTREAM VERB /PATH` by HTTP, as in commands.",
            r#"call = "location.LocationService/GetVendorLocation""#,
        ),
        key(
            "with",
            Data,
            May,
            "The message; an empty one if it is not written.",
            r#"with = { vendorId = "{room.vendorId}" }"#,
        ),
        key("event", Name, Needed, "The event under which the value goes out.", r#"event = "location_updated""#),
        key(
            "data",
            Data,
            May,
            "Its payload; the reply if it is not written. Knows `reply`, too: where a field of it is not there, and not optional, there is no snapshot.",
            r#"data = { vendorId = "{room.vendorId}", location = "{reply.location}", timestamp = "{now}" }"#,
        ),
    ],
};

static ASK: Table = Table {
    about: "2xx lets in, 403 and 404 refuse, anything else refuses with `try again`.",
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

pub(super) static COMMAND: Table = Table {
    about: "Templates know `args`, `user`, `socket.id`, `now`, `new.id`, the names of `call` and `let`, and, after `join` or `leave`, `room`.",
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
            "The fields of the client's message, each with what it must be: `\"id\"`, `\"text\"`, `\"number\"`, `\"integer\"`, `\"bool\"`, `\"object\"`, `\"any\"` (with `?` for one that may be missing), a list of words, `{ text = [min, max] }`, `{ number = [min, max] }`, `{ integer = [min, max] }`, `{ list = \"id\", max = 100 }`, `{ is = \"text\", default = \"x\" }`, `{ one_of = [\"a\", \"b\"], default = \"a\" }`, or a table of fields (`{ fields = { … } }` where all their names are words of this list). A table of these may say `optional = true`.",
            r#"args = { roomType = ["conversation", "notification"], roomId = "id" }"#,
        ),
        key("bare", Name, May, "The field that a bare text or number stands for.", r#"bare = "roomId""#),
        key(
            "require",
            OneOrMany(&Kind::Table(&REQUIRE)),
            May,
            "What must hold: a membership (`member`) or a condition (`that`).",
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
    about: "",
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
    about: "Presence, or a service's answer. A service that refuses ends the command with its message (`refused`); one that does not answer ends it, too (`unavailable`, `timed_out`).",
    keys: &[
        key(
            "presence",
            Template,
            May,
            "The presence of one user or of several: `{id: {online, lastSeen}}`.",
            r#"presence = "{args.userIds}""#,
        ),
        key(
            "call",
            Text,
            May,
            "What of a service is called: `UPSTREAM.SERVICE/METHOD`, the service with its package, or `UPSTREAM VERB /PATH` by HTTP (GET, POST, PUT, PATCH, DELETE), whose path is a template and filled in percent-encoded. The value is its reply; `null` where the upstream has no address.",
            r#"call = "location.LocationService/UpdateVendorLocation""#,
        ),
        key(
            "with",
            Data,
            May,
            "The message; an empty one if it is not written. None goes along with GET and DELETE.",
            r#"with = "{args}""#,
        ),
    ],
};

static PUBLICATION: Table = Table {
    about: "",
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
    about: "",
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
