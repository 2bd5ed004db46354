//! What the hub costs: sockets that come and go, rooms that are joined and walked along, rules that are worked out.
//! `cargo bench -p roomcast-hub`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use hub::names::{NamespaceId, RoomName, SocketId, UserId};
use hub::profile::Profile;
use hub::rooms::{Join, Rooms, Watch};
use hub::rules::{Arrival, NewId, Origin, Outcome, User};
use hub::sockets::{Moment, Sockets};

const MAIN: NamespaceId = NamespaceId(0);
const NOW_UNIX_MS: u64 = 1_795_211_040_000;

/// Rules of each kind that a route may have.
const ROUTES: &str = r##"
about = "Routes to be measured"

[service]
port = 0

[auth]
token = "ignored"

[[endpoint]]
protocol = "socket.io"

[on.connect]
emit = { to = "self", event = "connected", data = { socketId = "{socket.id}", userId = "{user.id}" } }

[room.any]
name  = "{name}"
enter = true

[command.echo]
args   = { data = "any" }
answer = { ack = { data = "{args.data}" } }

[command.say]
args = { room = "id", data = "any" }
emit = { to = "{args.room}", event = "message", data = { room = "{args.room}", data = "{args.data}" } }

[source.rabbitmq]
exchange = "events"

[[source.rabbitmq.queue]]
name = "all"
bind = "#"

[[route]]
key  = "copied"
emit = { to = "room:{event.conversationId}", event = "message" }

[[route]]
key  = "templated"
emit = { to = "room:{event.conversationId}", event = "message", data = { id = "{event.conversationId}", from = "{event.senderId}", at = "{now}" } }

[[route]]
key  = "conditional"
when = "event.urgent && event.senderId != 'system'"
emit = { to = "room:{event.conversationId}", event = "message" }
"##;

/// An event of HomeTrip's, 300 bytes or so.
const EVENT: &str = r#"{"conversationId":"5c7f1f0e-2b1c-4b8e-9a55-0d6c6f7b9a10","bookingId":"b-20931","userId":"42","senderId":"7","urgent":true,"message":{"id":"m-99120","content":"The key is under the blue pot beside the door, see you on Friday","type":"text","createdAt":"2026-11-20T21:44:00.000Z","attachments":[]}}"#;

struct Nobody;

impl Watch for Nobody {
    fn opened(&mut self, _: NamespaceId, _: &RoomName) {}
    fn closed(&mut self, _: NamespaceId, _: &RoomName) {}
}

fn profile(text: &str) -> Profile {
    let environment = |name: &str| (name == "JWT_SECRET").then(|| "secret".to_owned());
    match Profile::read(text, "bench.toml", &environment) {
        Ok((profile, _)) => profile,
        Err(problems) => panic!("{problems:?}"),
    }
}

fn room(name: &str) -> RoomName {
    RoomName::parse(name).expect("a name")
}

fn rooms(c: &mut Criterion) {
    let mut rooms = Rooms::new(1, 1_000);
    let crowd = room("crowd");
    for slot in 0..1_000 {
        let socket = rooms.enter(MAIN, slot);
        assert_eq!(rooms.join(socket, &crowd, &mut Nobody), Join::Newly);
    }
    for index in 0..100_000 {
        let socket = rooms.enter(MAIN, 1_000 + index);
        rooms.join(socket, &room(&format!("user:{index}")), &mut Nobody);
    }
    c.bench_function("rooms/find a room of 1,000 among 100,000", |bencher| {
        bencher.iter(|| rooms.members(MAIN, black_box(&crowd)).len());
    });
    let socket = rooms.enter(MAIN, 200_000);
    c.bench_function("rooms/join and leave a room of 1,000", |bencher| {
        bencher.iter(|| {
            rooms.join(socket, black_box(&crowd), &mut Nobody);
            rooms.leave(socket, &crowd, &mut Nobody)
        });
    });
    let fresh = room("fresh");
    c.bench_function("rooms/open and close a room", |bencher| {
        bencher.iter(|| {
            rooms.join(socket, black_box(&fresh), &mut Nobody);
            rooms.leave(socket, &fresh, &mut Nobody)
        });
    });
}

fn sockets(c: &mut Criterion) {
    let mut sockets = Sockets::new(Arc::new(profile(ROUTES)));
    let id = SocketId::parse("socket-0000000000001").expect("an id");
    let user = UserId::from_text("42").expect("an id");
    let claims = r#"{"id":"42","email":null,"role":null}"#;
    let user = Arc::new(User { id: Some(user), claims: claims.into() });
    let new_id = || "fresh".to_owned();
    let moment = Moment { now_unix_ms: NOW_UNIX_MS, new_id: &new_id };
    let mut out = Vec::new();
    c.bench_function("sockets/enter, be welcomed, leave", |bencher| {
        bencher.iter(|| {
            let key = sockets.enter(0, MAIN, id, user.clone(), None);
            sockets.welcome(key, &moment, &mut Nobody, &mut out);
            sockets.exit(key, &moment, &mut Nobody, &mut out);
            out.drain(..).count()
        });
    });
    let key = sockets.enter(0, MAIN, id, user.clone(), None);
    for (name, data) in [("echo", r#"{"data":"hello"}"#), ("say", r#"{"room":"lobby","data":"hello"}"#)] {
        c.bench_function(&format!("sockets/a command: {name}"), |bencher| {
            bencher.iter(|| {
                sockets.command(key, name, Some(black_box(data)), Some(1), &moment, &mut Nobody, &mut out);
                out.drain(..).count()
            });
        });
    }
}

fn rules(c: &mut Criterion) {
    let own = profile(ROUTES);
    let hometrip = profile(hub::profile::builtin("hometrip").expect("it is built in"));
    let large = EVENT.replace("[]", &format!("[{}]", vec![r#"{"name":"a.jpg","bytes":1}"#; 400].join(",")));
    let cases = [
        ("copies 300 B", &own, "copied", EVENT),
        ("copies 11 KB", &own, "copied", &large),
        ("writes a payload", &own, "templated", EVENT),
        ("has a condition", &own, "conditional", EVENT),
        ("hometrip: message.sent", &hometrip, "message.sent", EVENT),
        ("hometrip: booking.confirmed", &hometrip, "booking.confirmed", EVENT),
    ];
    for (name, profile, key, event) in cases {
        let body = Bytes::copy_from_slice(event.as_bytes());
        c.bench_function(&format!("rules/a route: {name}"), |bencher| {
            bencher.iter_batched(
                || Arrival {
                    origin: Origin::Rabbitmq { exchange: "events", queue: "all" },
                    key,
                    body: &body,
                    now_unix_ms: NOW_UNIX_MS,
                    new_id: NewId::Known("fresh"),
                },
                |arrival| match profile.rules.route(&arrival) {
                    Outcome::Sent { emissions, .. } => assert_eq!(emissions.len(), 1),
                    refused @ (Outcome::Ignored { .. } | Outcome::Poison { .. }) => panic!("{refused:?}"),
                },
                BatchSize::SmallInput,
            );
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    targets = rooms, sockets, rules
}
criterion_main!(benches);
