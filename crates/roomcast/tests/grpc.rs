//! The server API as gRPC, from outside: a real client on every port that speaks it, and connections that are none.

#[path = "support/ports.rs"]
mod ports;

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use roomcast::embed::{Profile, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use tonic::metadata::MetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use self::v1::roomcast_client::RoomcastClient;
use self::v1::{
    DisconnectRequest, GetPresenceRequest, GetRoomRequest, ListRoomsRequest, PublishRequest, PublishResponse,
};

#[allow(missing_docs, dead_code, clippy::all, reason = "generated")]
mod v1 {
    include!("../src/ops/grpc/generated/roomcast.v1.rs");
}

const KEY: &str = "a key of the tests";

/// The longest that anything is waited for: only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// What HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A gateway whose clients name themselves and enter rooms; `service` and `api` are lines of these tables.
async fn gateway(service: &str, api: &str) -> Server {
    let text = format!(
        r#"
about = "Rooms"
[service]
host = "127.0.0.1"
port = 0
{service}
[api]
{api}
[auth]
token = "ignored"
anonymous = {{ query = "userId" }}
[[endpoint]]
protocol = "socket.io"
[on.connect]
join = ["user:{{user.id?}}"]
[room.user]
name = "user:{{id}}"
[room.table]
name = "table:{{id}}"
enter = true
[command.enter]
args = {{ room = "id" }}
join = "table:{{args.room}}"
answer = {{ ack = {{ done = true }} }}
"#
    );
    let (profile, _) = Profile::read(&text, "test.toml", &|_| None).expect("it is good");
    Server::with_profile(profile).shards(2).start().await.expect("free ports")
}

async fn open_gateway() -> Server {
    gateway("", &format!("key = {KEY:?}")).await
}

async fn channel(port: u16) -> Channel {
    let address = format!("http://127.0.0.1:{port}");
    Channel::from_shared(address).expect("an address").timeout(PATIENCE).connect().await.expect("it listens")
}

type WithKey = fn(Request<()>) -> Result<Request<()>, Status>;

fn with_key(mut request: Request<()>) -> Result<Request<()>, Status> {
    let key = format!("Bearer {KEY}").parse().expect("a header's value");
    request.metadata_mut().insert("authorization", key);
    Ok(request)
}

async fn client(port: u16) -> RoomcastClient<InterceptedService<Channel, WithKey>> {
    RoomcastClient::with_interceptor(channel(port).await, with_key as WithKey)
}

/// A Socket.IO client in a room.
struct Member(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Member {
    async fn enter(address: SocketAddr, user: &str, room: &str) -> Self {
        let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket&userId={user}");
        let mut member = Self(connect_async(url).await.expect("the gateway takes WebSockets").0);
        assert!(member.packet().await.starts_with("0{"));
        member.say("40").await;
        assert!(member.packet().await.starts_with("40{"));
        member.say(&format!(r#"421["enter",{{"room":"{room}"}}]"#)).await;
        assert_eq!(member.packet().await, r#"431[{"done":true}]"#);
        member
    }

    async fn say(&mut self, packet: &str) {
        self.0.send(Frame::text(packet)).await.expect("the gateway reads");
    }

    /// The next packet but pings.
    async fn packet(&mut self) -> String {
        loop {
            match tokio::time::timeout(PATIENCE, self.0.next()).await.expect("in time") {
                Some(Ok(Frame::Text(text))) if text.as_str() != "2" => return text.to_string(),
                Some(Ok(Frame::Text(_))) => self.say("3").await,
                other => panic!("{other:?} is no packet"),
            }
        }
    }
}

fn to_room(room: &str, event: &str, data_json: &str) -> PublishRequest {
    let (rooms, event, data_json) = (vec![room.to_owned()], event.to_owned(), data_json.to_owned());
    PublishRequest { rooms, event, data_json, ..PublishRequest::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn backend_services_publish_ask_and_disconnect() {
    let server = open_gateway().await;
    let mut api = client(server.address().port()).await;
    let mut ann = Member::enter(server.address(), "ann", "1").await;
    let mut bob = Member::enter(server.address(), "bob", "1").await;

    let data = r#"{"b":1.0, "a":[1e2,"\u00e9"]}"#;
    let told = api.publish(to_room("table:1", "note", &format!(" {data} "))).await.expect("it is published");
    assert_eq!(told.into_inner(), PublishResponse { delivered: 2 });
    assert_eq!(ann.packet().await, format!(r#"42["note",{data}]"#));
    assert_eq!(bob.packet().await, format!(r#"42["note",{data}]"#));
    let except = vec!["user:bob".to_owned()];
    let but_bob = PublishRequest { except, event: "all".to_owned(), everyone: true, ..PublishRequest::default() };
    assert_eq!(api.publish(but_bob).await.expect("it is published").into_inner().delivered, 1);
    assert_eq!(ann.packet().await, r#"42["all"]"#);

    let rooms = api.list_rooms(ListRoomsRequest::default()).await.expect("rooms").into_inner().rooms;
    assert_eq!(rooms.get("table:1"), Some(&2), "{rooms:?}");
    let asked = GetRoomRequest { room: "table:1".to_owned(), namespace: "/".to_owned() };
    let room = api.get_room(asked).await.expect("a room").into_inner();
    let mut users: Vec<&str> = room.sockets.iter().filter_map(|socket| socket.user_id.as_deref()).collect();
    users.sort_unstable();
    assert_eq!((room.room.as_str(), room.members, users), ("table:1", 2, vec!["ann", "bob"]));

    let of_ann = room.sockets.iter().find(|socket| socket.user_id.as_deref() == Some("ann")).expect("she is there");
    let asked = DisconnectRequest { socket_id: of_ann.socket_id.clone(), ..DisconnectRequest::default() };
    assert_eq!(api.disconnect(asked).await.expect("it is done").into_inner().disconnected, 1);
    assert_eq!(ann.packet().await, "41");
    let asked = DisconnectRequest { user_id: "bob".to_owned(), ..DisconnectRequest::default() };
    assert_eq!(api.disconnect(asked).await.expect("it is done").into_inner().disconnected, 1);
    assert_eq!(bob.packet().await, "41");

    let asked = GetPresenceRequest { user_id: "nobody".to_owned() };
    let nobody = api.get_presence(asked).await.expect("an answer").into_inner();
    assert_eq!((nobody.user_id.as_str(), nobody.online, nobody.last_seen), ("nobody", false, None));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_makes_no_sense_is_told_which_field_is_wrong() {
    let server = open_gateway().await;
    let mut api = client(server.address().port()).await;
    let good = to_room("a", "e", "");
    let table = [
        (PublishRequest { rooms: vec![], ..good.clone() }, "field \"rooms\" is empty, and \"everyone\" is not set"),
        (PublishRequest { everyone: true, ..good.clone() }, "field \"everyone\" stands beside \"rooms\""),
        (PublishRequest { event: String::new(), ..good.clone() }, "field \"event\" is missing"),
        (PublishRequest { event: "disconnect".to_owned(), ..good.clone() }, "field \"event\" is a name that Socket.IO"),
        (PublishRequest { rooms: vec![String::new()], ..good.clone() }, "field \"rooms\" has a name that is empty"),
        (PublishRequest { rooms: vec!["a".to_owned(); 1_001], ..good.clone() }, "field \"rooms\" has 1001 entries"),
        (PublishRequest { data_json: "{".to_owned(), ..good.clone() }, "field \"data_json\" must be JSON: "),
        (PublishRequest { data_json: "1 2".to_owned(), ..good.clone() }, "field \"data_json\" must be JSON: "),
        (PublishRequest { namespace: "/x".to_owned(), ..good.clone() }, "field \"namespace\" names \"/x\", but"),
    ];
    for (request, expected) in table {
        refuses(api.publish(request.clone()).await, Code::InvalidArgument, expected);
    }
    refuses(api.list_rooms(ListRoomsRequest { namespace: "/x".to_owned() }).await, Code::InvalidArgument, "field");
    refuses(api.get_room(GetRoomRequest::default()).await, Code::InvalidArgument, "field \"room\" is empty");
    let nobody = GetPresenceRequest::default();
    refuses(api.get_presence(nobody).await, Code::InvalidArgument, "field \"user_id\" is missing");
    let nothing = DisconnectRequest::default();
    refuses(api.disconnect(nothing).await, Code::InvalidArgument, "field \"user_id\" is missing, and so is");
    let both = DisconnectRequest { user_id: "a".to_owned(), socket_id: "b".to_owned() };
    refuses(api.disconnect(both).await, Code::InvalidArgument, "field \"socket_id\" stands beside");
    let no_id = DisconnectRequest { socket_id: "b".to_owned(), ..DisconnectRequest::default() };
    refuses(api.disconnect(no_id).await, Code::InvalidArgument, "field \"socket_id\" is no socket id");
    let large = to_room("a", "e", &format!("\"{}\"", "x".repeat(2 * 1024 * 1024)));
    refuses(api.publish(large).await, Code::OutOfRange, "");
    // And the connection goes on.
    assert_eq!(api.publish(good).await.expect("it is good").into_inner().delivered, 0);
    server.stop().await;
}

fn refuses<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, message: &str) {
    let status = answer.expect_err("it makes no sense");
    assert_eq!(status.code(), code, "{status:?}");
    assert!(status.message().starts_with(message), "{:?} should begin with {message:?}", status.message());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_needs_the_key() {
    let server = open_gateway().await;
    let mut api = RoomcastClient::new(channel(server.address().port()).await);
    for authorization in [None, Some("Bearer wrong"), Some("Bearer "), Some("Basic eDp5"), Some(KEY)] {
        let mut request = Request::new(to_room("a", "e", ""));
        if let Some(authorization) = authorization {
            request.metadata_mut().insert("authorization", MetadataValue::from_static(authorization));
        }
        refuses(api.publish(request).await, Code::Unauthenticated, "");
    }
    server.stop().await;
    let closed = gateway("", "").await;
    let mut api = client(closed.address().port()).await;
    let answer = api.list_rooms(ListRoomsRequest::default()).await;
    refuses(answer, Code::PermissionDenied, "the server API is closed: set API_KEY to open it");
    closed.stop().await;
}

async fn health(port: u16, service: &str) -> Result<ServingStatus, Status> {
    let asked = HealthCheckRequest { service: service.to_owned() };
    Ok(HealthClient::new(channel(port).await).check(asked).await?.into_inner().status())
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_is_on_the_port_of_the_server_api_and_on_one_of_its_own() {
    let api = format!("key = {KEY:?}");
    let [operators, grpc] = ports::free_ports();
    let server = gateway(&format!("grpc_port = {grpc}"), &api).await;
    for port in [server.address().port(), grpc] {
        assert!(client(port).await.list_rooms(ListRoomsRequest::default()).await.is_ok(), "port {port}");
        for service in ["", "roomcast.v1.Roomcast"] {
            assert_eq!(health(port, service).await.expect("known"), ServingStatus::Serving, "port {port}");
        }
        refuses(health(port, "other").await, Code::NotFound, "there is no service \"other\"");
    }
    server.stop().await;
    let server = gateway(&format!("ops_port = {operators}"), &api).await;
    assert!(client(operators).await.list_rooms(ListRoomsRequest::default()).await.is_ok());
    let clients = server.address().port();
    assert_eq!(health(clients, "").await.expect("known"), ServingStatus::Serving);
    refuses(
        client(clients).await.list_rooms(ListRoomsRequest::default()).await,
        Code::Unimplemented,
        "there is nothing",
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_tells_the_services() {
    use tonic_reflection::pb::{v1, v1alpha};
    let server = open_gateway().await;
    let port = server.address().port();
    // Two revisions of one protocol, with the same names in each.
    macro_rules! services {
        ($revision:ident) => {{
            let list = $revision::server_reflection_request::MessageRequest::ListServices(String::new());
            let request = $revision::ServerReflectionRequest { host: String::new(), message_request: Some(list) };
            let mut client = $revision::server_reflection_client::ServerReflectionClient::new(channel(port).await);
            let asked = futures_util::stream::iter([request]);
            let mut answers = client.server_reflection_info(asked).await.expect("it is served").into_inner();
            let answer = answers.message().await.expect("an answer").expect("one");
            match answer.message_response.expect("a message") {
                $revision::server_reflection_response::MessageResponse::ListServicesResponse(list) => {
                    list.service.into_iter().map(|service| service.name).collect::<Vec<String>>()
                }
                other => panic!("{other:?} is no list"),
            }
        }};
    }
    for services in [services!(v1), services!(v1alpha)] {
        for name in ["roomcast.v1.Roomcast", "grpc.health.v1.Health"] {
            assert!(services.iter().any(|service| service == name), "{name} is not among {services:?}");
        }
    }
    server.stop().await;
}

/// Sends bytes and reads until the gateway closes.
async fn converse(port: u16, parts: &[&[u8]]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
    stream.set_nodelay(true).expect("a socket");
    for part in parts {
        // The gateway may have had enough already.
        let _ = stream.write_all(part).await;
        tokio::task::yield_now().await;
    }
    let mut heard = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut heard)).await.expect("it is closed");
    heard
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_speaks_nonsense_ends_and_does_no_harm() {
    let [operators] = ports::free_ports();
    let server = gateway(&format!("ops_port = {operators}"), &format!("key = {KEY:?}")).await;
    let nonsense: [&[u8]; 5] = [
        b"this is no frame at all, and it goes on for longer than the head of one",
        &[0xff; 64],
        // A frame that says it is as large as frames can be said to be.
        &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1],
        // The head of a call that nobody can read.
        &[0, 0, 4, 1, 4, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff],
        // A call by an even number, which is the server's.
        &[0, 0, 0, 1, 5, 0, 0, 0, 2],
    ];
    for port in [server.address().port(), operators] {
        for bytes in nonsense {
            let empty_settings: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
            converse(port, &[PREFACE, empty_settings, bytes]).await;
            converse(port, &[&PREFACE[..10], &PREFACE[10..], bytes]).await;
        }
        // What begins like the preface and is a request of HTTP/1.1 is answered as one.
        let heard = converse(port, &[b"P", b"UT /nothing HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"]).await;
        assert!(heard.starts_with(b"HTTP/1.1 404"), "{}", String::from_utf8_lossy(&heard));
        assert_eq!(health(port, "").await.expect("it goes on"), ServingStatus::Serving);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_drains_says_so_and_lets_its_connections_go() {
    let server = open_gateway().await;
    let port = server.address().port();
    let mut watched = HealthClient::new(channel(port).await)
        .watch(HealthCheckRequest::default())
        .await
        .expect("it is served")
        .into_inner();
    let mut next = async || tokio::time::timeout(PATIENCE, watched.message()).await.expect("in time");
    let serving = next().await.expect("an answer").expect("one");
    assert_eq!(serving.status(), ServingStatus::Serving);
    let stopped = tokio::spawn(async move { server.stop().await });
    let not_serving = next().await.expect("an answer").expect("one");
    assert_eq!(not_serving.status(), ServingStatus::NotServing);
    // Nobody waits for those who only watch.
    tokio::time::timeout(PATIENCE, stopped).await.expect("in time").expect("it stops");
    assert!(!matches!(next().await, Ok(Some(_))), "nothing more is told");
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err(), "the port is closed");
}
