//! Services in rules: what a command calls and what becomes of the answer, what a room keeps, and the snapshot that it asks for.

#![allow(clippy::unwrap_used, reason = "tests unwrap")]

mod stage;

use hub::codes::ErrorCode;
use hub::names::{EventName, RoomName};
use hub::rules::Reply;
use stage::{MAIN, NOW_UNIX_MS, Stage, json};

const PLACES: &str = r#"
[auth]
token = "ignored"

[[endpoint]]
protocol = "json"

[upstream.other]
grpc = "localhost:1"

[upstream.location]
grpc = "${LOCATION_SERVICE_URL:-}"

[room.place]
name     = "place:{vendorId}"
enter    = true
keep     = { event = "moved", for = "1h" }
snapshot = { call = "location.acme.Places/Get", with = { vendorId = "{room.vendorId}", kind = "{room.kind}" }, event = "moved", data = { vendorId = "{room.vendorId}", location = "{reply.location}", note = "{reply.note?}", timestamp = "{reply.timestamp | now}" } }

[room.vendor]
name     = "vendor:{id}"
enter    = true
snapshot = { call = "other.Vendors/Get", event = "vendor_updated" }

[room.plain]
name  = "plain:{id}"
enter = true

[command.move]
args   = { vendorId = "id", location = { lat = { number = [-90, 90] }, long = { number = [-180, 180] } } }
call   = { stored = { call = "location.acme.Places/Update", with = "{args}" } }
answer = { ack = { success = true, version = "{stored.version}" } }
emit   = { to = "place:{args.vendorId}", event = "moved", data = "{args.location}" }
"#;

const MOVE: &str = r#"{"vendorId":7,"location":{"lat":1.50,"long":-2}}"#;
const ASKED: &str = r#"call 1 acme.Places/Update {"vendorId":7,"location":{"lat":1.50,"long":-2}}"#;

fn places() -> Stage {
    Stage::new(PLACES, &[("LOCATION_SERVICE_URL", "localhost:5004")])
}

fn room(name: &str) -> RoomName {
    RoomName::parse(name).unwrap()
}

#[test]
fn a_command_goes_on_with_what_the_service_replied() {
    let lines = places().command("move", MOVE, true, vec![json(r#"{"version":3}"#)]);
    let expected = [ASKED, r#"ack {"success":true,"version":3}"#, r#"place:7 <- moved {"lat":1.50,"long":-2}"#];
    assert_eq!(lines, expected);
}

#[test]
fn without_a_reply_nothing_goes_out() {
    for (code, told) in [
        (ErrorCode::Refused, "failed refused: the vendor is closed"),
        (ErrorCode::Unavailable, "failed unavailable: the vendor is closed"),
        (ErrorCode::TimedOut, "failed timed_out: the vendor is closed"),
    ] {
        let reply = Reply::Failed { code, message: "the vendor is closed".to_owned() };
        assert_eq!(places().command("move", MOVE, true, vec![reply]), [ASKED, told]);
    }
    let lines = places().command("move", r#"{"vendorId":7,"location":{"lat":91,"long":0}}"#, true, vec![]);
    assert_eq!(lines.len(), 1, "nobody is called with what is not sound: {lines:?}");
}

#[test]
fn a_service_without_an_address_is_skipped_with_a_warning() {
    let mut stage = Stage::new(PLACES, &[]);
    let warnings: Vec<String> = stage.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].ends_with("no address is set for the upstream `location`: calls of it are skipped"),
        "{warnings:?}"
    );
    let lines = stage.command("move", MOVE, true, vec![Reply::NotConfigured]);
    let expected = [ASKED, r#"ack {"success":true,"version":null}"#, r#"place:7 <- moved {"lat":1.50,"long":-2}"#];
    assert_eq!(lines, expected);
}

#[test]
fn a_snapshot_is_asked_for_by_the_room_and_made_of_the_reply() {
    let rules = places().profile.rules;
    let question = rules.snapshot(MAIN, &room("place:a b"), NOW_UNIX_MS).unwrap().unwrap();
    assert_eq!((question.callee.upstream(), question.callee.to_string().as_str()), (1, "acme.Places/Get"));
    assert_eq!(question.message, r#"{"vendorId":"a b","kind":"place"}"#);
    assert_eq!(question.event.as_str(), "moved");
    let made = |name: &str, reply: &str| {
        let payload = rules.snapshot_payload(MAIN, &room(name), NOW_UNIX_MS, reply.as_bytes());
        payload.map(|payload| String::from_utf8(payload.json.to_vec()).unwrap())
    };
    for (reply, expected) in [
        (
            r#"{"location":{"lat":0}}"#,
            Ok(r#"{"vendorId":"7","location":{"lat":0},"timestamp":"2026-11-20T21:44:00.000Z"}"#),
        ),
        (r#"{"location":1,"note":"x","timestamp":2}"#, Ok(r#"{"vendorId":"7","location":1,"note":"x","timestamp":2}"#)),
        ("{}", Err("{reply.location} is missing")),
    ] {
        assert_eq!(made("place:7", reply), expected.map(str::to_owned).map_err(str::to_owned), "{reply}");
    }
    assert!(made("place:7", "no JSON").is_err());
    assert_eq!(made("vendor:7", r#"{"name":"x"}"#).as_deref(), Ok(r#"{"name":"x"}"#), "the reply as it is");
    let question = rules.snapshot(MAIN, &room("vendor:7"), NOW_UNIX_MS).unwrap().unwrap();
    assert_eq!((question.callee.upstream(), question.message.as_str()), (0, "{}"));
    assert_eq!(rules.snapshot(MAIN, &room("plain:7"), NOW_UNIX_MS), Ok(None));
}

#[test]
fn rooms_say_what_they_keep() {
    let rules = places().profile.rules;
    let moved = EventName::parse("moved").unwrap();
    assert_eq!(rules.kept_events(), std::slice::from_ref(&moved));
    assert_eq!(rules.keeps(MAIN, &room("place:7")), Some((&moved, 3_600_000)));
    assert_eq!(rules.keeps(MAIN, &room("vendor:7")), None);
    let latest = ["place:7", "vendor:7", "plain:7"].map(|name| rules.has_latest(MAIN, &room(name)));
    assert_eq!(latest, [true, true, false]);
}

#[test]
fn every_method_is_named_once() {
    let rules = places().profile.rules;
    let methods: Vec<String> = rules.methods().iter().map(ToString::to_string).collect();
    assert_eq!(methods, ["acme.Places/Get", "Vendors/Get", "acme.Places/Update"]);
    let messages: Vec<(String, String)> =
        rules.messages().iter().map(|message| (message.method.to_string(), message.fields.join(" "))).collect();
    assert_eq!(
        messages,
        [("acme.Places/Get".to_owned(), "vendorId kind".to_owned())],
        "as far as the profile says them"
    );
}

const TICKETS: &str = r#"
[auth]
token = "ignored"

[[endpoint]]
protocol = "json"

[upstream.tickets]
http = "https://tickets.example/api"

[room.ticket]
name     = "ticket:{id}"
enter    = true
snapshot = { call = "tickets GET /tickets/{room.id}", event = "ticket" }

[command.ask]
args   = { id = "any", of = "text?" }
call   = { found = { call = "tickets GET /tickets/{args.id}?of={args.of | 'all'}" } }
answer = { ack = "{found}" }

[command.close]
args   = { id = "id" }
call   = { closed = { call = "tickets POST /tickets/{args.id}/close", with = { by = "{user.id}" } } }
answer = { ack = "{closed.state}" }

[command.reopen]
args = { id = "id" }
call = { done = { call = "tickets PUT /tickets/{args.id}/open" } }

[command.forget]
args = { id = "id" }
call = { done = { call = "tickets DELETE /tickets/{args.id}" } }
"#;

#[test]
fn a_service_of_http_is_asked_by_its_path() {
    const NO_PATH: &str = "which no path can hold";
    let replied = || vec![json(r#"{"state":"done"}"#)];
    for (command, data, expected) in [
        ("close", r#"{"id":7}"#, vec![r#"call 0 POST /tickets/7/close {"by":"42"}"#, r#"ack "done""#]),
        ("reopen", r#"{"id":"7"}"#, vec!["call 0 PUT /tickets/7/open {}", r#"ack {"success":true}"#]),
        ("forget", r#"{"id":"7"}"#, vec!["call 0 DELETE /tickets/7 ", r#"ack {"success":true}"#]),
        ("ask", r#"{"id":"7"}"#, vec!["call 0 GET /tickets/7?of=all ", r#"ack {"state":"done"}"#]),
        (
            "ask",
            r#"{"id":"../a?b#c","of":""}"#,
            vec!["call 0 GET /tickets/..%2Fa%3Fb%23c?of= ", r#"ack {"state":"done"}"#],
        ),
        (
            "ask",
            r#"{"id":"é","of":"a&b=.."}"#,
            vec!["call 0 GET /tickets/%C3%A9?of=a%26b%3D.. ", r#"ack {"state":"done"}"#],
        ),
        ("ask", r#"{"id":".."}"#, vec![&format!("failed bad_field: {{args.id}} is `..`, {NO_PATH}")]),
        ("ask", r#"{"id":""}"#, vec![&format!("failed bad_field: {{args.id}} is ``, {NO_PATH}")]),
        ("ask", r#"{"id":null}"#, vec!["failed bad_field: {args.id} is missing"]),
        ("ask", r#"{"id":[1]}"#, vec!["failed bad_field: {args.id} is a list, not a text"]),
    ] {
        let lines = Stage::new(TICKETS, &[]).command(command, data, true, replied());
        assert_eq!(lines, expected, "{command} {data}");
    }
    let rules = Stage::new(TICKETS, &[]).profile.rules;
    let question = rules.snapshot(MAIN, &room("ticket:a b"), NOW_UNIX_MS).unwrap().unwrap();
    assert_eq!((question.callee.to_string().as_str(), question.message.as_str()), ("GET /tickets/a%20b", ""));
    let empty = rules.snapshot_payload(MAIN, &room("ticket:7"), NOW_UNIX_MS, b"null");
    assert_eq!(empty.err().as_deref(), Some("the reply is empty"), "there is no value");
}
