//! What a route may allocate, counted: a small number that does not grow with the event, whose bytes are shared and never copied or
//! taken apart into a tree. Alone in its binary, since everything in the process is counted.

#[global_allocator]
static HEAP: dhat::Alloc = dhat::Alloc;

use bytes::Bytes;
use hub::profile::Profile;
use hub::rules::{Arrival, NewId, Origin, Outcome};

/// What a route that copies the payload to one room makes: the list of the event's fields, the room's name, the list of rooms, the
/// emission. As counted when this was written; lower it with what lowers it.
const ALLOCATIONS_MAX: u64 = 16;

/// An event with a message of so many parts, each of about a hundred bytes.
fn event(parts: usize) -> Bytes {
    let part = format!(r#"{{"content":"{}","read":[1,2,{{"by":null}}]}}"#, "x".repeat(60));
    let parts = vec![part; parts].join(",");
    format!(r#"{{"conversationId":"42","senderId":"7","message":[{parts}]}}"#).into()
}

#[test]
fn a_route_that_copies_the_payload_makes_as_few_allocations_for_a_large_event_as_for_a_small_one() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let text = hub::profile::builtin("hometrip").expect("it is built in");
    let environment = |name: &str| (name == "JWT_SECRET").then(|| "secret".to_owned());
    let (profile, _) = Profile::read(text, "hometrip.toml", &environment).expect("it is tested");
    let cost = |parts: usize| {
        let body = event(parts);
        let arrival = Arrival {
            origin: Origin::Rabbitmq { exchange: "hometrip_events", queue: "websocket.message.sent" },
            key: "message.sent",
            body: &body,
            now_unix_ms: 1_795_211_040_000,
            new_id: NewId::Known("fresh"),
        };
        let before = dhat::HeapStats::get();
        let outcome = profile.rules.route(&arrival);
        let after = dhat::HeapStats::get();
        let Outcome::Sent { emissions, .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!(emissions[0].payload.json.as_ptr(), body.as_ptr(), "the payload is the event's bytes");
        (body.len(), after.total_blocks - before.total_blocks, after.total_bytes - before.total_bytes)
    };
    let (_, few, few_bytes) = cost(3);
    let (len, many, many_bytes) = cost(300);
    assert!(few <= ALLOCATIONS_MAX, "{few} allocations");
    assert_eq!((many, many_bytes), (few, few_bytes), "an event of {len} bytes");
}
