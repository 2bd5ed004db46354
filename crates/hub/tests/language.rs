//! The language at work on what other gateways need: claims, families of rooms, publishing, routes by rows of a table, several namespaces.

#![allow(clippy::unwrap_used, reason = "tests unwrap")]

mod stage;

use bytes::Bytes;
use hub::codes::ErrorCode;
use hub::names::{NamespaceId, RoomName};
use hub::rules::{Arrival, ClaimsUsed, NewId, Origin, Reply};
use proptest::prelude::*;
use stage::{MAIN, NOW_UNIX_MS, Stage, with_claims};

const MARKETPLACE: &str = r##"
[auth]
token = "ignored"

[[endpoint]]
protocol = "socket.io"

[on.connect]
join = ["company:{user.companyId?}", "shop:{user.shopIds?}", "role:{user.role?}", { room = "super_admin", when = "user.role == 'super_admin'" }]
emit = { to = "self", event = "connected", data = { userId = "{user.id}", rooms = "{socket.rooms}" } }

[room.company]
name  = "company:{id}"
enter = "id == user.companyId"

[room.shop]
name  = "shop:{id}"
enter = "id in user.shopIds"

[room.role]
name = "role:{role}"

[room.super_admin]
name = "super_admin"

[room.order]
name  = "order:{id}"
enter = true

[room.custom]
name  = "{id}"
enter = true

[command.join_room]
args   = { roomId = "id" }
bare   = "roomId"
join   = "{args.roomId}"
answer = { ack = { success = true, room = "{room}", kind = "{room.kind}" } }

[source.rabbitmq]
queue = [{ name = "websocket.events", bind = ["order.*", "inventory.*", "notification.*", "payment.*", "shop.*"] }]

[[route]]
key  = "order.created"
emit = [
  { to = ["company:{event.companyId?}", "super_admin"], event = "order:new_order" },
  { to = "shop:{event.shopId?}", event = "order:shop_order" },
  { to = "order:{event.orderId}", event = "order:update" },
]

[[route]]
key  = "order.*"
let  = { status = "{event.status | key.last}" }
data = { orderId = "{event.orderId}", orderNumber = "{event.orderNumber?}", status = "{status}", message = "Your order #{event.orderNumber | event.orderId} is now {status}", timestamp = "{event.timestamp | now}" }
emit = [
  { to = "user:{event.customerId | event.userId?}", event = "order:status_updated" },
  { to = "order:{event.orderId}", event = "order:update" },
]

[[route]]
key  = "inventory.out_of_stock"
add  = { severity = "critical", timestamp = "{event.timestamp | now}" }
emit = { to = "everyone", event = "inventory:alert" }

[[route]]
key  = "notification.*"
when = "has(event.userId)"
emit = { to = "user:{event.userId}", event = "notification:new" }

[[route]]
key  = "notification.*"
when = "has(event.type) && event.type == 'announcement'"
emit = { to = "everyone", event = "announcement:new" }

[[route]]
key  = "notification.*"
emit = { to = "user:{event.userId}", event = "notification:new" }

[[route]]
key      = "inventory.updated"
fallback = "has(event.quantity) && has(event.productId)"
emit     = { to = "everyone", event = "inventory:updated" }

[[route]]
key  = "shop.*"
emit = { to = "shop:{event.shopId}", event = "shop:{key.last}" }
"##;

fn check(got: Vec<String>, expected: &[&str]) {
    assert_eq!(got, expected);
}

fn marketplace(claims: &str) -> Stage {
    Stage::new(MARKETPLACE, &[]).of(with_claims("42", claims))
}

#[test]
fn claims_give_rooms() {
    let claims = r#"{"id":"42","role":"super_admin","companyId":7,"shopIds":[1,"b"]}"#;
    let rooms = ["user:42", "company:7", "shop:1", "shop:b", "role:super_admin", "super_admin"];
    let mut expected: Vec<String> = rooms.iter().map(|room| format!("in {room}")).collect();
    expected.push(format!(r#"self connected {{"userId":"42","rooms":{}}}"#, serde_json::to_string(&rooms).unwrap()));
    assert_eq!(marketplace(claims).connect(), expected);
    check(
        marketplace(r#"{"id":"42","role":null}"#).connect(),
        &["in user:42", r#"self connected {"userId":"42","rooms":["user:42"]}"#],
    );
    let used = ["companyId", "id", "role", "shopIds"].map(str::to_owned).to_vec();
    assert_eq!(marketplace("{}").profile.rules.claims_used(), &ClaimsUsed::Named(used));
}

#[test]
fn a_rooms_own_rule_holds_whichever_command_asks() {
    let claims = r#"{"id":"42","companyId":7,"shopIds":["1"]}"#;
    for (room, expected) in [
        ("company:7", r#"ack {"success":true,"room":"company:7","kind":"company"}"#),
        ("company:8", "failed forbidden: you may not enter `company:8`"),
        ("shop:1", r#"ack {"success":true,"room":"shop:1","kind":"shop"}"#),
        ("role:admin", "failed forbidden: you may not enter `role:admin`"),
        ("super_admin", "failed forbidden: you may not enter `super_admin`"),
        ("user:42", "failed forbidden: you may not enter `user:42`"),
        ("anything", r#"ack {"success":true,"room":"anything","kind":"custom"}"#),
        ("abcdefghij_-ABCDE123", "failed forbidden: a room must not be named like a socket"),
    ] {
        check(marketplace(claims).command("join_room", &format!("{room:?}"), true, vec![]), &[expected]);
        check(
            marketplace(claims).command("join_room", &format!(r#"{{"roomId":{room:?}}}"#), true, vec![]),
            &[expected],
        );
    }
    let mut stage = marketplace("{}");
    check(stage.command("join_room", r#""shop:1""#, true, vec![]), &["failed forbidden: you may not enter `shop:1`"]);
    let errors = stage.profile.rules.errors();
    assert_eq!(
        errors,
        [("id in user.shopIds".to_owned(), 1)],
        "a condition that errs is a no, and is counted by its name"
    );
}

#[test]
fn new_claims_take_rooms_away_and_give_others() {
    let stage = marketplace(r#"{"id":"42","companyId":8,"shopIds":["1"]}"#);
    let rooms = ["user:42", "company:7", "shop:1", "super_admin", "order:1"].map(|room| RoomName::parse(room).unwrap());
    let refreshed = stage.profile.rules.on_refresh(MAIN, &rooms, &stage.facts());
    let names = |rooms: &[RoomName]| rooms.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names(&refreshed.join), ["company:8"]);
    assert_eq!(names(&refreshed.leave), ["company:7", "super_admin"]);
}

#[test]
fn routes_are_rows_of_a_table() {
    let stage = marketplace("{}");
    let created = r#"{"orderId":5,"companyId":"c"}"#;
    check(
        stage.route("order.created", created),
        &[
            &format!("company:c+super_admin <- order:new_order {created}"),
            &format!("order:5 <- order:update {created}"),
        ],
    );
    let shipped = r#"{"orderId":5,"status":"shipped","message":"Your order #5 is now shipped","timestamp":"2026-11-20T21:44:00.000Z"}"#;
    check(stage.route("order.shipped", r#"{"orderId":5}"#), &[&format!("order:5 <- order:update {shipped}")]);
    check(
        stage.route("order.x", r#"{"orderId":5,"orderNumber":"N\"1","userId":9,"status":"late","timestamp":3}"#),
        &[
            r#"user:9 <- order:status_updated {"orderId":5,"orderNumber":"N\"1","status":"late","message":"Your order #N\"1 is now late","timestamp":3}"#,
            r#"order:5 <- order:update {"orderId":5,"orderNumber":"N\"1","status":"late","message":"Your order #N\"1 is now late","timestamp":3}"#,
        ],
    );
    check(
        stage.route("inventory.out_of_stock", r#"{ "productId": 1.0 , "severity":"low"}"#),
        &[
            r#"everyone <- inventory:alert { "productId": 1.0 , "severity":"critical","timestamp":"2026-11-20T21:44:00.000Z"}"#,
        ],
    );
    assert!(stage.route("inventory.out_of_stock", "[1]")[0].starts_with("poison: the event is no object"));
    check(stage.route("notification.new", r#"{"userId":9}"#), &[r#"user:9 <- notification:new {"userId":9}"#]);
    check(
        stage.route("notification.x", r#"{"type":"announcement"}"#),
        &[r#"everyone <- announcement:new {"type":"announcement"}"#],
    );
    assert!(stage.route("notification.x", r#"{"userld":9}"#)[0].starts_with("poison: {event.userId} is missing"));
    check(
        stage.route("payment.x", r#"{"productId":1,"quantity":0}"#),
        &[r#"everyone <- inventory:updated {"productId":1,"quantity":0}"#],
    );
    check(stage.route("inventory.updated", r#"{"x":1}"#), &[r#"everyone <- inventory:updated {"x":1}"#]);
    check(
        stage.route("inventory.out_of_stock", r#"{"productId":1,"quantity":0,"severity":1,"timestamp":2}"#),
        &[r#"everyone <- inventory:alert {"productId":1,"quantity":0,"severity":"critical","timestamp":2}"#],
    );
    check(stage.route("payment.x", "{}"), &["ignored: no route takes the key `payment.x`"]);
    check(stage.route("shop.opened", r#"{"shopId":7}"#), &[r#"shop:7 <- shop:opened {"shopId":7}"#]);
    let long = stage.route(&format!("shop.{}", "x".repeat(252)), r#"{"shopId":7}"#);
    assert!(long[0].starts_with("poison: the event's name `shop:x") && long[0].contains("is longer than 255 bytes"));
}

#[test]
fn a_variable_switches_a_route() {
    let text = MARKETPLACE.replace("key  = \"shop.*\"", "key  = \"shop.*\"\nwhen = \"${SHOPS:-false}\"");
    for (value, sent) in [("", false), ("false", false), ("0", false), ("Off", false), ("true", true), ("YES", true)] {
        let outcome = Stage::new(&text, &[("SHOPS", value)]).route("shop.opened", r#"{"shopId":7}"#);
        assert_eq!(outcome[0].starts_with("shop:7 <- shop:opened"), sent, "{value}: {outcome:?}");
    }
}

#[test]
fn explaining_says_what_was_looked_at() {
    let stage = marketplace("{}");
    let body = Bytes::from_static(br#"{"type":"news"}"#);
    let origin = Origin::Rabbitmq { exchange: "events", queue: "websocket.events" };
    let arrival =
        Arrival { origin, key: "notification.x", body: &body, now_unix_ms: NOW_UNIX_MS, new_id: NewId::Known("fresh") };
    let (_, lines) = stage.profile.rules.explain(&arrival);
    let told: Vec<&str> =
        lines.iter().filter(|line| !line.ends_with("does not match the key")).map(String::as_str).collect();
    assert_eq!(
        told,
        [
            "the route in line 65 (key `notification.*`) matches the key, but not `when`: has(event.userId)",
            "the route in line 70 (key `notification.*`) matches the key, but not `when`: has(event.type) && event.type == 'announcement'",
            "the route in line 75 (key `notification.*`) takes the event",
            "  it is a dead letter: {event.userId} is missing",
        ]
    );
}

const CLAN: &str = r#"
[auth]
token     = "with_key"
anonymous = { query = "userId", guest = "guest-" }

[[endpoint]]
protocol = "json"

[room.clan_chat]
name  = "clan:{clanId}"
enter = "!has(user.clanIds) || clanId in user.clanIds"

[command.chat]
args    = { content = { text = [1, 4000] }, clanId = "id", messageType = { text = [1, 32], default = "TEXT" } }
require = [{ member = "clan:{args.clanId}" }]
let     = { line = { messageId = "{new.id}", content = "{args.content}", clanId = "{args.clanId}", messageType = "{args.messageType}", timestamp = "{now}" } }
publish = { key = "gateway.chat.sent", body = "{line}" }
answer  = { event = "message_sent", data = { messageId = "{line.messageId}" } }
emit    = { to = "clan:{args.clanId}", except = "self", event = "chat", data = "{line}" }

[source.rabbitmq]
queue = [{ name = "websocket.gateway", bind = ["clan.#"] }]

[[route]]
key  = "clan.message"
once = "{event.messageId?}"
emit = { to = "clan:{event.clanId}", event = "chat" }

[[route]]
key  = "clan.#"
drop = "not for clients"
"#;

#[test]
fn a_message_is_confirmed_before_anybody_hears_of_it() {
    const LINE: &str = r#"{"messageId":"fresh","content":"hi","clanId":1,"messageType":"TEXT","timestamp":"2026-11-20T21:44:00.000Z"}"#;
    let asked = format!("publish - gateway.chat.sent fresh {LINE}");
    let answered = r#"self message_sent {"messageId":"fresh"}"#;
    let told = format!("clan:1 but self <- chat {LINE}");
    for (reply, expected) in [
        (Reply::Published, vec![&*asked, answered, &told]),
        (Reply::NotConfigured, vec![&asked, answered, &told]),
        (
            Reply::Failed { code: ErrorCode::TryAgain, message: "the broker is away".into() },
            vec![&asked, "failed try_again: the broker is away"],
        ),
        (
            Reply::Failed { code: ErrorCode::Unknown, message: "no confirm".into() },
            vec![&asked, "failed unknown: no confirm (fresh)"],
        ),
        (Reply::Allowed, vec![&asked, "failed internal: the gateway lost track of this command"]),
    ] {
        let mut stage = Stage::new(CLAN, &[]).inside(&["clan:1"]);
        check(stage.command("chat", r#"{"content":"hi","clanId":1}"#, false, vec![reply]), &expected);
    }
    let mut stage = Stage::new(CLAN, &[]);
    check(
        stage.command("chat", r#"{"content":"hi","clanId":1}"#, false, vec![]),
        &["failed not_a_member: you are not a member of `clan:1`"],
    );
}

#[test]
fn an_event_may_carry_its_own_identity() {
    let stage = Stage::new(CLAN, &[]);
    check(
        stage.route("clan.message", r#"{"clanId":1,"messageId":"m"}"#),
        &["once m", r#"clan:1 <- chat {"clanId":1,"messageId":"m"}"#],
    );
    check(stage.route("clan.message", r#"{"clanId":1}"#), &[r#"clan:1 <- chat {"clanId":1}"#]);
    check(stage.route("clan.war", "{}"), &["ignored: not for clients"]);
}

#[test]
fn access_is_open_without_a_key_and_said_so() {
    let open = Stage::new(CLAN, &[]);
    assert_eq!(open.profile.auth.access, hub::profile::Access::Open);
    assert_eq!(open.warnings.len(), 1);
    let closed = Stage::new(CLAN, &[("JWKS_URL", "https://id.example.com/keys")]);
    assert_eq!((closed.profile.auth.access, closed.warnings.len()), (hub::profile::Access::Token, 0));
}

const NAMESPACES: &str = r##"
[auth]
token = "ignored"

[[endpoint]]
protocol   = "socket.io"
namespaces = ["/", "/location"]

[[endpoint]]
protocol  = "json"
paths     = { "/ws/location" = "/location", "/ws/vendor" = "/vendor" }
envelope  = "data"
heartbeat = { send = { type = "ping" }, every = "${WS_HEARTBEAT_INTERVAL:-30000}ms" }

[room.location]
namespace = "/location"
name      = "location:{vendorId}"
enter     = true

[command.subscribe]
namespace = ["/location", "/vendor"]
args      = { vendorId = "id" }
join      = "location:{args.vendorId}"

[source.rabbitmq]
queue = [{ name = "q", bind = "#" }]

[[route]]
emit = { namespace = ["/location", "/vendor"], to = "location:{event.vendorId}", event = "location_updated" }
"##;

#[test]
fn namespaces_keep_to_themselves() {
    let stage = Stage::new(NAMESPACES, &[("WS_HEARTBEAT_INTERVAL", "500")]);
    let rules = &stage.profile.rules;
    let (main, location, vendor) = (NamespaceId(0), NamespaceId(1), NamespaceId(2));
    let names: Vec<&str> = rules.namespaces().iter().map(|name| &**name).collect();
    assert_eq!(names, ["/", "/location", "/vendor"]);
    assert_eq!(
        (rules.namespace("/vendor"), rules.namespace("/x"), rules.namespace_name(location)),
        (Some(vendor), None, "/location")
    );
    assert_eq!(rules.command(main, "subscribe"), None);
    assert!(rules.command(location, "subscribe").is_some() && rules.command(location, "nothing").is_none());
    check(
        stage.route("any.key", r#"{"vendorId":1}"#),
        &[
            r#"[1] location:1 <- location_updated {"vendorId":1}"#,
            r#"[2] location:1 <- location_updated {"vendorId":1}"#,
        ],
    );
    let hub::profile::Endpoint::Json(endpoint) = &stage.profile.endpoints[1] else { panic!("the second is plain") };
    assert_eq!(
        (endpoint.heartbeat.every.as_millis(), endpoint.heartbeat.send.as_deref()),
        (500, Some(r#"{"type":"ping"}"#))
    );
}

const DEPOT: &str = r#"
[auth]
token = "ignored"

[[endpoint]]
protocol   = "socket.io"
namespaces = ["/", "/trucks"]
heartbeat  = { event = "ping", every = "5s" }

[source.redis]
channels = ["depot:trucks", "depot.news"]

[room.truck]
name  = "truck:{truckId}"
enter = true

[[route]]
from = "redis:depot:trucks"
emit = { namespace = "/trucks", to = "truck:{event.truckId}", event = "truck_moved", data = { id = "{event.truckId}", from = "{key}" } }

[[route]]
from = "redis:depot.news"
when = "event.urgent"
emit = { to = "everyone", event = "news" }
"#;

#[test]
fn a_channel_of_redis_has_its_own_routes() {
    let stage = Stage::new(DEPOT, &[]);
    check(
        stage.route_from("depot:trucks", r#"{"truckId":7}"#),
        &[r#"[1] truck:7 <- truck_moved {"id":7,"from":"depot:trucks"}"#],
    );
    check(
        stage.route_from("depot:trucks", "{}"),
        &["poison: {event.truckId} is missing (the route in line 17 (channel `depot:trucks`))"],
    );
    check(stage.route_from("depot.news", r#"{"urgent":true}"#), &[r#"everyone <- news {"urgent":true}"#]);
    let ignored = "ignored: no route takes what comes by the channel `depot.news`";
    check(stage.route_from("depot.news", r#"{"urgent":false}"#), &[ignored]);
    check(stage.route_from("depot.news", "{}"), &[ignored]);
    assert_eq!(stage.profile.rules.errors(), [("event.urgent".to_owned(), 2)], "explaining counts, too");
    check(stage.route("depot:trucks", r#"{"truckId":7}"#), &["ignored: no route takes the key `depot:trucks`"]);
    let hub::profile::Endpoint::SocketIo(endpoint) = &stage.profile.endpoints[0] else { panic!("it is Socket.IO") };
    let beat = endpoint.heartbeat.as_ref().expect("it has one");
    assert_eq!((beat.event.as_str(), beat.every.as_secs()), ("ping", 5));
}

#[test]
fn documents_name_parts_of_their_paths() {
    let profile = format!(
        "{CLAN}\n[http.\"GET /user-status/{{userId}}\"]\nbody = {{ data = {{ userId = \"{{path.userId}}\", now = \"{{now}}\" }} }}\npublic = false"
    );
    let stage = Stage::new(&profile, &[]);
    let rules = &stage.profile.rules;
    let (document, parts) = rules.document("GET", "/user-status/a b").unwrap();
    assert_eq!((parts.clone(), rules.document_is_public(document)), (vec!["a b".to_owned()], false));
    let written = rules.write_document(document, &parts, &[], NOW_UNIX_MS, &|_| None);
    assert_eq!(written, r#"{"data":{"userId":"a b","now":"2026-11-20T21:44:00.000Z"}}"#);
    for path in ["/user-status", "/user-status/", "/user-status/a/b", "/"] {
        assert_eq!(rules.document("GET", path), None, "{path}");
    }
}

#[test]
fn the_order_of_the_file_never_counts_but_for_routes() {
    const BEGIN: &str = "[auth]\ntoken = 'ignored'\n[[endpoint]]\nprotocol = 'socket.io'\n";
    const PARTS: [&str; 4] = [
        "[room.a]\nname = 'x:{rest}'\nenter = true\n",
        "[room.b]\nname = '{rest}:x'\nenter = true\n",
        "[http.'GET /{any}']\nbody = 'any'\n",
        "[http.'GET /one']\nbody = 'one'\n",
    ];
    let command = "[command.join]\nargs = { room = 'id' }\njoin = '{args.room}'\nanswer = { ack = '{room.kind}' }\n";
    let forth = format!("{BEGIN}{command}{}", PARTS.concat());
    let back = format!("{BEGIN}{}{command}", PARTS.iter().rev().copied().collect::<String>());
    for text in [forth, back] {
        let mut stage = Stage::new(&text, &[]);
        check(stage.command("join", r#"{"room":"x:x"}"#, true, vec![]), &[r#"ack "a""#]);
        let rules = &stage.profile.rules;
        let written = ["/one", "/two"].map(|path| {
            let (document, parts) = rules.document("GET", path).unwrap();
            rules.write_document(document, &parts, &[], NOW_UNIX_MS, &|_| None)
        });
        assert_eq!(written, [r#""one""#, r#""any""#]);
    }
}

proptest! {
    #[test]
    fn any_event_has_an_outcome(key in "[a-z.]{0,20}|order\\.created|inventory\\.out_of_stock|notification\\.x", body: Vec<u8>) {
        let stage = marketplace("{}");
        let body = Bytes::from(body);
        let origin = Origin::Rabbitmq { exchange: "events", queue: "q" };
        stage.profile.rules.route(&Arrival { origin, key: &key, body: &body, now_unix_ms: NOW_UNIX_MS, new_id: NewId::Known("fresh") });
    }

    #[test]
    fn any_event_of_json_has_an_outcome(body in json_text()) {
        let stage = marketplace("{}");
        for key in ["order.created", "order.x", "inventory.out_of_stock", "notification.x", "payment.x"] {
            let lines = stage.route(key, &body);
            prop_assert!(lines.iter().all(|line| !line.contains("not JSON")), "{:?}", lines);
        }
    }

    #[test]
    fn any_message_has_an_answer(data in "\\PC{0,30}|[\\[\\]{}\",:0-9a-z]{0,30}", wants_ack: bool) {
        let mut stage = marketplace("{}");
        let lines = stage.command("join_room", &data, wants_ack, vec![]);
        prop_assert!(!wants_ack || lines.len() == 1, "{:?}", lines);
    }
}

fn json_text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        any::<String>().prop_map(|value| serde_json::to_string(&value).unwrap()),
    ];
    let name =
        prop::sample::select(vec!["orderId", "userId", "type", "quantity", "productId", "companyId", "status", "x"]);
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec((name.clone(), inner), 0..6).prop_map(|fields| {
                let fields: Vec<String> = fields.into_iter().map(|(name, value)| format!("{name:?}:{value}")).collect();
                format!("{{{}}}", fields.join(","))
            }),
        ]
    })
}
