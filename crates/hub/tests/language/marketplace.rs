//! Claims give rooms, rooms come in families, routes are rows of a table; and whatever comes has an outcome.

use bytes::Bytes;
use hub::names::RoomName;
use hub::rules::{Arrival, ClaimsUsed, NewId, Origin};
use proptest::prelude::*;

use crate::check;
use crate::stage::{MAIN, NOW_UNIX_MS, Stage, with_claims};

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
    let refreshed = stage.profile.rules.on_refresh(MAIN, &rooms, &stage.facts(), stage.rooms_max);
    let names = |rooms: &[RoomName]| rooms.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names(&refreshed.join), ["company:8"]);
    assert_eq!(names(&refreshed.leave), ["company:7", "super_admin"]);
}

#[test]
fn what_is_wrong_with_a_claim_costs_itself_alone() {
    const NO_ID: &str = "not an id (a text of 1 to 255 bytes, or an integer)";
    let own = ["user:42", "company:7"];
    let check = |shop_ids: &str, rooms_max: usize, shops: &[&str], left_out: usize, first: &str| {
        let mut stage = marketplace(&format!(r#"{{"id":"42","role":null,"companyId":7,"shopIds":{shop_ids}}}"#));
        stage.rooms_max = rooms_max;
        let welcome = stage.profile.rules.on_connect(MAIN, &stage.facts(), rooms_max);
        let rooms: Vec<_> = welcome.rooms.iter().map(RoomName::as_str).collect();
        assert_eq!(rooms, [&own, shops].concat(), "{shop_ids}");
        assert_eq!((welcome.left_out.count, &*welcome.left_out.first), (left_out, first), "{shop_ids}");
        let counted: u64 = stage.profile.rules.errors().iter().map(|(_, times)| times).sum();
        assert_eq!(counted, left_out as u64, "{shop_ids}");
        // The client is told of the rooms that it is in.
        let told = format!(r#"self connected {{"userId":"42","rooms":["{}"]}}"#, rooms.join(r#"",""#));
        assert_eq!(stage.connect().last(), Some(&told));
        let refreshed = stage.profile.rules.on_refresh(MAIN, &[], &stage.facts(), rooms_max);
        assert_eq!((refreshed.join, refreshed.left_out), (welcome.rooms, welcome.left_out), "{shop_ids}");
    };
    check(r#"["s1","s1",2]"#, 9, &["shop:s1", "shop:2"], 0, "");
    check("null", 9, &[], 0, "");
    check(
        r#"["s1",null,2,{"id":3},"",true,1.5]"#,
        9,
        &["shop:s1", "shop:2"],
        5,
        &format!("{{user.shopIds?}} is null, {NO_ID}"),
    );
    check(r#"{"a":"s1"}"#, 9, &[], 1, &format!("{{user.shopIds?}} is an object, {NO_ID}"));
    let long = "x".repeat(252);
    check(&format!(r#"["{long}","s1"]"#), 9, &["shop:s1"], 1, "a room's name is longer than 255 bytes");
    check(r#"["s1","s2","s3","s4"]"#, 4, &["shop:s1", "shop:s2"], 2, "a socket is in 4 rooms at most");
    let many: Vec<String> = (0..1_500).map(|shop| shop.to_string()).collect();
    let shops: Vec<String> = (0..1_000).map(|shop| format!("shop:{shop}")).collect();
    let shops: Vec<&str> = shops.iter().map(String::as_str).collect();
    check(&format!("[{}]", many.join(",")), 2_000, &shops, 1, "{user.shopIds?} gives more than 1000 names");
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
