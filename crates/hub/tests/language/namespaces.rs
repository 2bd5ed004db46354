//! Several namespaces, channels of Redis beside a broker, and the order of the file.

use hub::names::NamespaceId;

use crate::check;
use crate::stage::{NOW_UNIX_MS, Stage};

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
