//! The router as a backend service, a probe and a scraper see it, before shards that hold a few known members.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hub::emission::{Emission, Target};
use hub::names::{NamespaceId, RoomName, SocketId, UserId};
use hub::profile::{Profile, builtin};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tower::ServiceExt as _;

use super::census::Walk;
use super::*;
use crate::fanout::{Interest, Publisher};
use crate::metrics::Metrics;
use crate::presence::Presence;
use crate::shard::inbox::{Inbox, Member, Message, Next, Numbers, Query, Receiver, Whom, inbox};

mod openapi;

const KEY: &str = "the key of the server API";
const NAMESPACE: NamespaceId = NamespaceId(0);

/// Who is where: user, socket, room; two shards hold them.
const MEMBERS: [(&str, &str, &str); 3] = [
    ("1", "aaaaaaaaaaaaaaaaaaaa", "conversation:a"),
    ("2", "bbbbbbbbbbbbbbbbbbbb", "conversation:a"),
    ("2", "cccccccccccccccccccc", "conversation:b"),
];

struct Node {
    shards: Vec<JoinHandle<()>>,
    router: Router,
    health: Arc<Health>,
    gateway: Gateway,
    published: Arc<Mutex<Vec<Emission>>>,
}

fn profile(text: &str, variables: &[(&str, &str)]) -> Profile {
    let variables: HashMap<&str, &str> = variables.iter().copied().collect();
    let environment = |name: &str| variables.get(name).map(|value| (*value).to_owned());
    Profile::read(text, "test.toml", &environment).expect("it is good").0
}

impl Node {
    fn start(variables: &[(&str, &str)]) -> Self {
        Self::with_profile(builtin("hometrip").expect("it is built in"), variables)
    }

    fn with_profile(text: &str, variables: &[(&str, &str)]) -> Self {
        let metrics = Arc::new(Metrics::default());
        let profile = Arc::new(profile(text, &[variables, &[("JWT_SECRET", "secret")]].concat()));
        let interest = Arc::new(Interest::new(profile.rules.namespaces().len()));
        let (inboxes, receivers): (Vec<Inbox>, Vec<Receiver>) = (0..2).map(|_| inbox()).unzip();
        let published = Arc::new(Mutex::new(Vec::new()));
        let mut shards = Vec::new();
        for (shard, receiver) in receivers.into_iter().enumerate() {
            let members: Vec<Membership> = MEMBERS.into_iter().skip(shard).step_by(2).map(membership).collect();
            members.iter().for_each(|(room, _)| interest.add(NAMESPACE, room, shard));
            shards.push(tokio::spawn(serve_shard(receiver, members, profile.clone(), published.clone())));
        }
        let presence = Arc::new(Presence::default());
        presence.connected("1");
        let publisher = Publisher::new(inboxes.into(), interest);
        let gateway = Gateway {
            namespaces: crate::namespaces::Namespaces::new(profile.clone(), &[]),
            profile,
            publisher,
            presence,
            metrics: metrics.clone(),
            acks: Arc::default(),
            directory: None,
            left: Arc::new(Notify::new()),
        };
        let health = Arc::new(Health::new(&gateway.profile, metrics));
        let router = router(&Ops::new(gateway.clone(), health.clone()), Port::Only);
        Self { shards, router, health, gateway, published }
    }

    fn open() -> Self {
        Self::start(&[("API_KEY", KEY)])
    }

    /// Ends the shards: who asks them gets no answer.
    fn end(&self) {
        self.shards.iter().for_each(JoinHandle::abort);
    }

    async fn send(&self, request: Request<Body>) -> Response<Body> {
        self.router.clone().oneshot(request).await.expect("a router answers")
    }

    /// Sends with the key; gives the status and the JSON.
    async fn call(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let request = Request::builder().method(method).uri(path).header("authorization", format!("Bearer {KEY}"));
        json_of(self.send(request.body(Body::from(body.to_owned())).expect("a request")).await).await
    }

    async fn get(&self, path: &str, accept: &str) -> (u16, String, String) {
        let request = Request::get(path).header("accept", accept).body(Body::empty()).expect("a request");
        let response = self.send(request).await;
        let kind = response.headers()["content-type"].to_str().expect("text").to_owned();
        (response.status().as_u16(), kind, text_of(response).await)
    }
}

async fn text_of(response: Response<Body>) -> String {
    let bytes = response.into_body().collect().await.expect("a body").to_bytes();
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

async fn json_of(response: Response<Body>) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = text_of(response).await;
    (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
}

type Membership = (RoomName, Member);

fn membership((user, socket, room): (&str, &str, &str)) -> Membership {
    let user_id = Some(UserId::from_text(user).expect("a user"));
    (RoomName::parse(room).expect("a room"), Member { socket_id: SocketId::parse(socket).expect("a socket"), user_id })
}

/// A shard without connections: it counts its members where a real one would send to them.
async fn serve_shard(
    mut receiver: Receiver,
    members: Vec<Membership>,
    profile: Arc<Profile>,
    published: Arc<Mutex<Vec<Emission>>>,
) {
    while let Next::Message(message) = receiver.recv().await {
        match message {
            Message::Event(event) => {
                receiver.release(&event);
                let Emission { target, except, .. } = &event.emission;
                let is_meant = |(room, member): &&Membership| {
                    let left_out = except.rooms.contains(room) || except.sockets.contains(&member.socket_id);
                    !left_out
                        && match target {
                            Target::Everyone => true,
                            Target::Rooms(rooms) => rooms.names().contains(room),
                        }
                };
                published.lock().push(event.emission.clone());
                event.done.as_ref().expect("the API waits").add_delivered(members.iter().filter(is_meant).count());
            }
            Message::Query(query) => answer(query, &members, &profile),
            Message::Listen(_)
            | Message::Accepted(..)
            | Message::Passed(..)
            | Message::Poll(_)
            | Message::Adopt(_)
            | Message::Authenticated { .. }
            | Message::Admitted { .. }
            | Message::Resume { .. }
            | Message::Snapshot { .. }
            | Message::Replaced(_)
            | Message::UserEntered { .. }
            | Message::TellAnew
            | Message::Drain { .. }
            | Message::End => panic!("the API sends nothing of the kind"),
        }
    }
}

fn answer(query: Query, members: &[Membership], profile: &Profile) {
    match query {
        Query::Rooms(reply) => {
            let mut rooms: HashMap<&RoomName, usize> = HashMap::new();
            members.iter().for_each(|(room, _)| *rooms.entry(room).or_default() += 1);
            let rooms = rooms.into_iter().map(|(room, members)| (NAMESPACE, room.clone(), members));
            let _ = reply.send(rooms.collect());
        }
        Query::Room(_, name, reply) => {
            let of_room = members.iter().filter(|(room, _)| *room == name).map(|(_, member)| member.clone());
            let _ = reply.send(of_room.collect());
        }
        Query::Numbers(reply) => {
            let _ = reply.send(Numbers { sockets: members.len(), ..Numbers::default() });
        }
        Query::Users(reply) => {
            let _ = reply.send(members.iter().filter_map(|(_, member)| member.user_id.clone()).collect());
        }
        Query::InNamespace(namespace, reply) => {
            let _ = reply.send(if namespace == NAMESPACE { members.len() } else { 0 });
        }
        Query::OfKind(kind, reply) => {
            let of_kind = members.iter().filter(|(room, _)| profile.rules.is_of_kind(kind, NAMESPACE, room));
            let rooms: Vec<(NamespaceId, RoomName)> = of_kind.map(|(room, _)| (NAMESPACE, room.clone())).collect();
            let members = rooms.len();
            let _ = reply.send((rooms, members));
        }
        Query::Sockets { .. } | Query::Describe { .. } | Query::Order { .. } => {
            panic!("the API asks nothing of the kind")
        }
        Query::Disconnect(whom, reply) => {
            let is_meant = |(_, member): &&Membership| match &whom {
                Whom::User(id) => member.user_id.as_ref().is_some_and(|user| user.as_str() == id),
                Whom::Socket(id) => member.socket_id == *id,
            };
            let _ = reply.send(members.iter().filter(is_meant).count());
        }
    }
}

#[tokio::test]
async fn publish_reaches_the_rooms_that_are_named() {
    let node = Node::open();
    let table = [
        (r#"{"rooms":["conversation:a"],"event":"e","data":1}"#, 2),
        (r#"{"rooms":["conversation:a","conversation:b","conversation:a"],"event":"e","data":1}"#, 3),
        (r#"{"rooms":["conversation:a"],"except":["conversation:b"],"event":"e"}"#, 2),
        (r#"{"rooms":["conversation:a"],"except":["bbbbbbbbbbbbbbbbbbbb"],"event":"e"}"#, 1),
        (r#"{"rooms":["nobody:here"],"event":"e"}"#, 0),
        (r#"{"rooms":[],"event":"e"}"#, 0),
        (r#"{"event":"e","namespace":"/"}"#, 3),
    ];
    for (body, delivered) in table {
        assert_eq!(node.call("POST", "/api/publish", body).await, (200, json!({ "delivered": delivered })), "{body}");
    }
}

#[tokio::test]
async fn a_payload_stays_as_it_came() {
    let node = Node::open();
    let data = r#"{"b":1.0, "a":[1e2,"\u00e9"]}"#;
    let body = format!(r#"{{ "data" : {data} , "rooms":["conversation:b"],"event":"new_message"}}"#);
    assert_eq!(node.call("POST", "/api/publish", &body).await, (200, json!({ "delivered": 1 })));
    let published = node.published.lock();
    assert_eq!(published[0].payload.json, data);
    assert_eq!(published[0].event.as_str(), "new_message");
}

#[tokio::test]
async fn a_bad_body_is_answered_by_what_is_wrong_with_it() {
    let node = Node::open();
    let table = [
        ("/api/publish", "", 400, "bad_message", "the body must be a JSON object"),
        ("/api/publish", r#"{"rooms":["a"]}"#, 400, "bad_field", "field \"event\" is missing"),
        ("/api/publish", r#"{"event":""}"#, 400, "bad_field", "field \"event\" is empty"),
        (
            "/api/publish",
            r#"{"event":"disconnect"}"#,
            400,
            "bad_field",
            "field \"event\" is a name that Socket.IO keeps",
        ),
        ("/api/publish", r#"{"event":"e","rooms":null}"#, 400, "bad_field", "field \"rooms\" must be a list of texts"),
        ("/api/publish", r#"{"event":"e","rooms":[""]}"#, 400, "bad_field", "field \"rooms\" has a name that is empty"),
        ("/api/publish", r#"{"event":"e","room":"a"}"#, 400, "bad_field", "field \"room\" is not known; there is"),
        (
            "/api/publish",
            r#"{"event":"e","namespace":"/x"}"#,
            400,
            "bad_field",
            "field \"namespace\" names \"/x\", but there is only \"/\"",
        ),
        ("/api/disconnect", "{}", 400, "bad_field", "field \"userId\" is missing"),
        ("/api/disconnect", r#"{"userId":1,"socketId":"x"}"#, 400, "bad_field", "field \"socketId\" stands beside"),
        ("/api/disconnect", r#"{"socketId":"x"}"#, 400, "bad_field", "field \"socketId\" is no socket id"),
        ("/api/disconnect", r#"{"userId":{}}"#, 400, "bad_field", "field \"userId\" must be a text or an integer"),
        ("/api/nothing", "{}", 404, "unknown_command", "there is nothing at POST /api/nothing"),
        ("/api/rooms", "{}", 405, "unknown_command", "/api/rooms does not take POST"),
    ];
    for (path, body, status, code, error) in table {
        let (found, answer) = node.call("POST", path, body).await;
        let message = answer["error"].as_str().unwrap_or_default();
        assert_eq!((found, answer["code"].as_str()), (status, Some(code)), "{path} {body}: {answer}");
        assert!(message.starts_with(error), "{path} {body}: {message:?} should begin with {error:?}");
    }
    assert!(node.published.lock().is_empty());
    let large = format!(r#"{{"event":"e","data":"{}"}}"#, "x".repeat(2 * 1024 * 1024));
    let (status, answer) = node.call("POST", "/api/publish", &large).await;
    assert_eq!((status, &answer["code"]), (413, &Value::from("too_large")));
}

#[tokio::test]
async fn rooms_members_and_presence_are_told() {
    let node = Node::open();
    let rooms = json!({ "rooms": { "conversation:a": 2, "conversation:b": 1 } });
    assert_eq!(node.call("GET", "/api/rooms", "").await, (200, rooms));
    let room = json!({ "room": "conversation:b", "members": 1, "sockets": [
        { "socketId": "cccccccccccccccccccc", "userId": "2" },
    ] });
    assert_eq!(node.call("GET", "/api/rooms/conversation%3Ab", "").await, (200, room));
    let nobody = json!({ "room": "a/b", "members": 0, "sockets": [] });
    assert_eq!(node.call("GET", "/api/rooms/a%2Fb", "").await, (200, nobody));
    for path in
        ["/api/rooms?namespace=/nowhere", "/api/rooms?namespace=/&namespace=/", "/api/rooms/%ff", "/api/presence/%ff"]
    {
        let (status, answer) = node.call("GET", path, "").await;
        assert_eq!((status, &answer["code"]), (400, &json!("bad_field")), "{path}: {answer}");
    }
    let online = json!({ "userId": "1", "online": true, "lastSeen": null });
    assert_eq!(node.call("GET", "/api/presence/1", "").await, (200, online));
    let unknown = json!({ "userId": "a@b", "online": false, "lastSeen": null });
    assert_eq!(node.call("GET", "/api/presence/a%40b", "").await, (200, unknown));
}

#[tokio::test]
async fn users_and_sockets_can_be_disconnected() {
    let node = Node::open();
    let table = [(r#"{"userId":"2"}"#, 2), (r#"{"userId":2}"#, 2), (r#"{"socketId":"aaaaaaaaaaaaaaaaaaaa"}"#, 1)];
    for (body, disconnected) in table {
        let expected = (200, json!({ "disconnected": disconnected }));
        assert_eq!(node.call("POST", "/api/disconnect", body).await, expected, "{body}");
    }
}

#[tokio::test]
async fn the_api_is_closed_without_a_key_and_to_a_wrong_one() {
    let calls = [
        ("POST", "/api/publish"),
        ("GET", "/api/rooms"),
        ("GET", "/api/rooms/a"),
        ("GET", "/api/presence/1"),
        ("POST", "/api/disconnect"),
        ("GET", "/api/nothing"),
    ];
    let (closed, open) = (Node::start(&[]), Node::open());
    for (method, path) in calls {
        let (status, answer) = closed.call(method, path, "{}").await;
        assert_eq!(status, 403, "{path}");
        assert_eq!(answer["error"], "the server API is closed: set API_KEY to open it");
        for authorization in [None, Some("Bearer wrong"), Some("Bearer "), Some("Basic eDp5"), Some(KEY)] {
            let mut request = Request::builder().method(method).uri(path);
            if let Some(authorization) = authorization {
                request = request.header("authorization", authorization);
            }
            let response = open.send(request.body(Body::from("{}")).expect("a request")).await;
            assert_eq!(response.headers()["www-authenticate"], "Bearer");
            let (status, answer) = json_of(response).await;
            assert_eq!((status, &answer["code"]), (401, &Value::from("unauthenticated")), "{path} {authorization:?}");
        }
    }
}

#[tokio::test]
async fn probes_follow_the_node() {
    let node = Node::start(&[("RABBITMQ_URL", "amqp://127.0.0.1")]);
    let status = async |path: &str| node.get(path, "*/*").await.0;
    assert_eq!((status("/health/live").await, status("/health/ready").await), (200, 503));
    node.health.enter(Phase::Serving);
    assert_eq!((status("/health/ready").await, status("/health/ready?strict=1").await), (200, 503));
    node.health.set_state(Part::Rabbitmq, State::Connected);
    assert_eq!((status("/health/ready").await, status("/health/ready?strict=1").await), (200, 200));
    node.health.set_state(Part::Rabbitmq, State::Deaf { reason: "no canary".to_owned() });
    assert_eq!((status("/health/live").await, status("/health/ready").await), (200, 503));
    node.health.set_state(Part::Rabbitmq, State::Connected);
    node.health.enter(Phase::Draining);
    assert_eq!((status("/health/live").await, status("/health/ready").await), (200, 503));
}

#[tokio::test]
async fn the_health_document_of_the_profile_has_live_values() {
    let node = Node::start(&[("RABBITMQ_URL", "amqp://127.0.0.1")]);
    node.health.enter(Phase::Serving);
    node.health.set_state(Part::Rabbitmq, State::Disconnected { reason: "refused".to_owned() });
    let (status, kind, text) = node.get("/health", "*/*").await;
    assert_eq!((status, kind.as_str()), (200, "application/json"));
    let health: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(health["status"], "degraded");
    assert_eq!(health["service"], "websocket-gateway");
    assert_eq!(health["eventBus"], "disconnected");
    assert_eq!(health["redis"], "disabled");
    assert!(health["version"].is_string() && health["uptime"].is_number(), "{health}");
    assert!(health["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')), "{health}");
    node.health.set_state(Part::Rabbitmq, State::Connected);
    let (_, _, text) = node.get("/health", "*/*").await;
    assert!(text.contains(r#""status":"ok""#) && text.contains(r#""eventBus":"connected""#), "{text}");
}

#[tokio::test]
async fn metrics_are_the_profiles_document_or_prometheus_text() {
    let node = Node::open();
    node.gateway.metrics.deliveries.inc();
    let (status, kind, text) = node.get("/metrics", "*/*").await;
    assert_eq!((status, kind.as_str()), (200, "application/json"));
    let document: Value = serde_json::from_str(&text).expect("JSON");
    let rooms = json!({ "conversation:a": 2, "conversation:b": 1 });
    assert_eq!(document, json!({ "connectedSockets": 3, "rooms": rooms, "totalRooms": 2 }));
    let open_metrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let text_plain = "text/plain; version=0.0.4; charset=utf-8";
    for (path, accept, expected) in [
        ("/metrics", "text/plain", text_plain),
        ("/metrics", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5", open_metrics),
        ("/metrics?format=prometheus", "*/*", text_plain),
    ] {
        let (status, kind, text) = node.get(path, accept).await;
        assert_eq!((status, kind.as_str()), (200, expected));
        assert!(text.contains("roomcast_deliveries_total 1") && text.ends_with("# EOF\n"), "{text}");
        assert!(text.contains("\nroomcast_rooms 2\n"), "{text}");
    }
}

#[tokio::test]
async fn an_unknown_path_is_told_as_json() {
    let (status, _, text) = Node::open().get("/nothing", "*/*").await;
    assert_eq!(status, 404);
    let answer: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(answer, json!({ "error": "there is nothing at GET /nothing", "code": "unknown_command" }));
}

#[tokio::test]
async fn plain_http_at_a_websocket_is_told_what_is_missing() {
    let node = Node::with_profile(builtin("venta").expect("it is built in"), &[]);
    for path in ["/ws/location", "/ws/vendor"] {
        let response = node.send(Request::get(path).body(Body::empty()).expect("a request")).await;
        assert_eq!(response.status().as_u16(), 426, "{path}");
        assert_eq!(response.headers()["upgrade"], "websocket", "{path}");
    }
    assert_eq!(node.get("/ws", "*/*").await.0, 404);
    let handshake =
        Request::get("/ws/vendor").header("connection", "keep-alive, Upgrade").header("upgrade", "websocket");
    assert_eq!(
        node.send(handshake.body(Body::empty()).expect("a request")).await.status().as_u16(),
        404,
        "not on this port"
    );
}

#[tokio::test]
async fn what_a_walk_found_is_good_for_a_second_where_there_are_many_to_walk_over() {
    let (node, start) = (Node::open(), Instant::now());
    let census = Census::default();
    let users = async |after_ms: u64| {
        let now = start + Duration::from_millis(after_ms);
        census.ask(&node.gateway, Walk::Users, now).await.all.to_string()
    };
    node.gateway.metrics.sockets.set(1_000_000);
    assert_eq!(users(0).await, r#"["1","2"]"#);
    // Whoever walks from here on finds nobody.
    node.end();
    assert_eq!(users(999).await, r#"["1","2"]"#);
    assert_eq!(users(1_000).await, "[]");
    let few = Node::open();
    let rooms = async || census.ask(&few.gateway, Walk::Rooms, start).await.count;
    assert_eq!(rooms().await, 2);
    few.end();
    assert_eq!(rooms().await, 0);
}

#[tokio::test]
async fn every_field_that_a_document_may_name_has_a_value() {
    let node = Node::open();
    let ops = Ops::new(node.gateway, node.health);
    for (field, _) in hub::rules::GATEWAY_FIELDS {
        assert!(documents::field_of_gateway(&ops, field).await.is_some(), "{field}");
    }
}

#[tokio::test]
async fn a_document_may_name_parts_of_its_path_and_be_for_those_with_the_key() {
    let text = r#"
        [[endpoint]]
        protocol = "socket.io"
        [http."GET /echo/{name}"]
        body = { name = "{path.name}" }
        [http."GET /users"]
        public = false
        body   = { users = "{gateway.users}" }
    "#;
    let node = Node::with_profile(text, &[("API_KEY", KEY)]);
    assert_eq!(node.call("GET", "/echo/a%20%22b%22", "").await, (200, json!({ "name": "a \"b\"" })));
    assert_eq!(node.get("/echo/%ff", "*/*").await.0, 400);
    assert_eq!(node.get("/users", "*/*").await.0, 401);
    assert_eq!(node.call("GET", "/users", "").await, (200, json!({ "users": ["1", "2"] })));
}

#[tokio::test]
async fn a_document_may_fetch_presence_and_counts() {
    let text = r#"
        [[endpoint]]
        protocol   = "socket.io"
        namespaces = ["/", "/other"]
        [room.conversation]
        name = "conversation:{id}"
        [http."GET /user-status/{userId}"]
        call = { seen = { online = "{path.userId}" }, more = { presence = "{path.userId}" } }
        body = { userId = "{path.userId}", isConnected = "{seen}", presence = "{more}" }
        [http."GET /counts"]
        call = { main = { sockets = "/" }, other = { sockets = "/other" }, rooms = { rooms = "conversation" }, members = { members = "conversation" }, users = { members = "user" } }
        body = { main = "{main}", other = "{other}", rooms = "{rooms}", members = "{members}", users = "{users}", all = "{gateway.totalUsers}" }
    "#;
    let node = Node::with_profile(text, &[]);
    let status = async |user: &str| {
        let (status, _, text) = node.get(&format!("/user-status/{user}"), "*/*").await;
        assert_eq!(status, 200, "{text}");
        serde_json::from_str::<Value>(&text).expect("JSON")
    };
    let one = status("1").await;
    assert_eq!((&one["isConnected"], &one["presence"]["1"]["online"]), (&json!(true), &json!(true)));
    let nobody = json!({ "x y": { "online": false, "lastSeen": null } });
    assert_eq!(status("x%20y").await, json!({ "userId": "x y", "isConnected": false, "presence": nobody }));
    assert_eq!(status(&"9".repeat(300)).await["isConnected"], false, "no user has such an id");
    let counts = json!({ "main": 3, "other": 0, "rooms": 2, "members": 3, "users": 0, "all": 2 });
    assert_eq!(node.call("GET", "/counts", "").await, (200, counts));
}
