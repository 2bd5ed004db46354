//! A gateway within a program, from outside: clients are WebSockets that speak Socket.IO by hand, so that every packet is seen.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use roomcast::embed::{
    Args, Binary, Connection, Error, Event, Message, Messages, Namespace, Profile, Refused, Server, Socket,
};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// The longest that anything is waited for: only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    /// Opens a connection; the open packet is read.
    async fn open(address: SocketAddr) -> Self {
        let (socket, _) = connect_async(format!("ws://{address}/socket.io/?EIO=4&transport=websocket&name=x"))
            .await
            .expect("the gateway takes WebSockets");
        let mut client = Self(socket);
        let open = client.packet().await;
        assert!(open.starts_with("0{"), "{open}");
        client
    }

    /// Opens a connection and enters the namespace; gives the socket's id.
    async fn enter(address: SocketAddr, namespace: &str) -> (Self, String) {
        let mut client = Self::open(address).await;
        client.say(&format!("40{namespace},")).await;
        let answer = client.packet().await;
        let of_namespace = if namespace == "/" { String::new() } else { format!("{namespace},") };
        let json = answer.strip_prefix(&format!("40{of_namespace}")).expect("it is let in");
        let answer: Value = serde_json::from_str(json).expect("JSON");
        (client, answer["sid"].as_str().expect("an id").to_owned())
    }

    async fn say(&mut self, packet: &str) {
        self.0.send(Frame::text(packet)).await.expect("the gateway reads");
    }

    /// The next frame; pings are answered on the way.
    async fn frame(&mut self) -> Frame {
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.0.next()).await.expect("in time");
            match frame.expect("the connection stays").expect("it is sound") {
                Frame::Text(text) if text.as_str() == "2" => self.say("3").await,
                frame => return frame,
            }
        }
    }

    async fn packet(&mut self) -> String {
        match self.frame().await {
            Frame::Text(text) => text.to_string(),
            other => panic!("text, not {other:?}"),
        }
    }

    /// The next packet must be this one.
    async fn hears(&mut self, packet: &str) {
        assert_eq!(self.packet().await, packet);
    }

    async fn is_closed(&mut self) {
        loop {
            match tokio::time::timeout(PATIENCE, self.0.next()).await.expect("in time") {
                Some(Ok(Frame::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {}
            }
        }
    }
}

async fn serve(shards: usize, namespace: Namespace) -> Server {
    Server::builder().shards(shards).namespace("/", namespace).start().await.expect("a free port")
}

fn a_chat() -> Namespace {
    Namespace::new()
        .on("join", async |socket: Socket, (room,): (String,)| socket.join(&room))
        .on("leave", async |socket: Socket, (room,): (String,)| socket.leave(&room))
        .on("say", async |socket: Socket, (room, text): (String, String)| {
            socket.to(&room).emit("said", (text,))?;
            Ok::<_, Error>(("sent",))
        })
        .on("rooms", async |socket: Socket, ()| (socket.rooms().await,))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_takes_what_it_asks_for_and_its_result_is_the_answer() {
    let namespace = Namespace::new()
        .on("add", async |_: Socket, (a, b): (i64, i64)| (a + b,))
        .on("echo", async |_: Socket, args: Args| args)
        .on("fails", async |_: Socket, ()| Err::<(), _>("it went wrong"))
        .on("later", async |_: Socket, event: Event| {
            tokio::task::yield_now().await;
            event.answer(event.read::<(String,)>().expect("a text").0)
        })
        .on_any(async |_: Socket, event: Event| (event.name, event.args.len()));
    let server = serve(1, namespace).await;
    let (mut client, _) = Client::enter(server.address(), "/").await;
    for (said, heard) in [
        (r#"420["add",2,3]"#, "430[5]"),
        (r#"421["echo",{"b":1.0, "a":[null]},"é"]"#, r#"431[{"b":1.0, "a":[null]},"é"]"#),
        (r#"422["later","a"]"#, r#"432["a"]"#),
        (r#"423["fails"]"#, r#"433[{"code":"internal","error":"it went wrong"}]"#),
        (r#"42["fails"]"#, r#"42["error",{"code":"internal","message":"it went wrong"}]"#),
        (r#"424["never heard of",1,2]"#, r#"434["never heard of",2]"#),
    ] {
        client.say(said).await;
        client.hears(heard).await;
    }
    client.say(r#"425["add","two",3]"#).await;
    let refused = client.packet().await;
    assert!(refused.starts_with(r#"435[{"code":"bad_field","error":"argument 1: invalid type: string"#), "{refused}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_go_both_ways() {
    let namespace = Namespace::new().on("reverse", async |_: Socket, (Binary(bytes), rest): (Binary, Value)| {
        let reversed: Vec<u8> = bytes.iter().rev().copied().collect();
        (json!({ "rest": rest }), Binary::from(reversed))
    });
    let server = serve(1, namespace).await;
    let (mut client, _) = Client::enter(server.address(), "/").await;
    client.say(r#"451-7["reverse",{"_placeholder":true,"num":0},"x"]"#).await;
    client.0.send(Frame::binary(vec![1, 2, 3])).await.expect("the gateway reads");
    client.hears(r#"461-7[{"rest":"x"},{"_placeholder":true,"num":0}]"#).await;
    assert_eq!(client.frame().await, Frame::binary(vec![3, 2, 1]));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_reach_their_members_over_all_shards_and_not_the_sender() {
    for shards in [1, 4] {
        let server = serve(shards, a_chat()).await;
        let mut clients = Vec::new();
        for _ in 0..5 {
            let (mut client, id) = Client::enter(server.address(), "/").await;
            client.say(r#"42["join","a"]"#).await;
            client.say(r#"420["rooms"]"#).await;
            client.hears(r#"430[["a"]]"#).await;
            clients.push((client, id));
        }
        let (mut outsider, outsider_id) = Client::enter(server.address(), "/").await;

        // Joined, said and left in one breath: what is done is done in that order.
        clients[0].0.say(r#"42["leave","a"]"#).await;
        clients[0].0.say(r#"42["join","a"]"#).await;
        clients[0].0.say(r#"429["say","a","hello"]"#).await;
        clients[0].0.hears(r#"439["sent"]"#).await;
        for (client, _) in &mut clients[1..] {
            client.hears(r#"42["said","hello"]"#).await;
        }

        let reached = server.to("a").to("a").to(&outsider_id).deliver("news", (1, "two")).await;
        assert_eq!(reached, Ok(6), "each member once, and a socket by its id");
        let except = clients[1].1.clone();
        assert_eq!(server.of("/").except("a").deliver("rest", ()).await, Ok(1));
        assert_eq!(server.to("a").except(&except).deliver("others", ()).await, Ok(4));
        outsider.hears(r#"42["news",1,"two"]"#).await;
        outsider.hears(r#"42["rest"]"#).await;
        for (client, id) in &mut clients {
            client.hears(r#"42["news",1,"two"]"#).await;
            if *id != except {
                client.hears(r#"42["others"]"#).await;
            }
        }
        assert_eq!(server.of("/nobody").deliver("news", ()).await, Ok(0));
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_gets_the_client_s_answer_or_an_error() {
    let (sender, mut sockets) = mpsc::unbounded_channel();
    let namespace = Namespace::new().on_connect(move |socket: Socket| {
        sender.send(socket).expect("the test listens");
        std::future::ready(())
    });
    let server = serve(1, namespace).await;
    let (mut client, id) = Client::enter(server.address(), "/").await;
    let socket = sockets.recv().await.expect("it connected");
    assert_eq!((socket.id(), socket.namespace(), socket.is_connected()), (id.as_str(), "/", true));

    let question = tokio::spawn({
        let socket = socket.clone();
        async move { socket.emit_with_ack("q", (1,), PATIENCE).await }
    });
    let asked = client.packet().await;
    let number =
        asked.strip_prefix("42").and_then(|rest| rest.strip_suffix(r#"["q",1]"#)).expect("a number").to_owned();
    // Not what was asked, and asked of nobody: neither is an answer.
    client.say(r#"43999999["forged"]"#).await;
    client.say(&format!(r#"43{number}["yes",7]"#)).await;
    client.say(&format!(r#"43{number}["again"]"#)).await;
    let answer = question.await.expect("no panic").expect("an answer");
    assert_eq!(answer.read::<(String, u8)>(), Ok(("yes".to_owned(), 7)));

    assert_eq!(socket.emit_with_ack("q", (), Duration::from_millis(1)).await, Err(Error::Timeout));
    let unanswered = tokio::spawn({
        let socket = socket.clone();
        async move { socket.emit_with_ack("last", (), PATIENCE).await }
    });
    while !client.packet().await.ends_with(r#"["last"]"#) {}
    drop(client);
    assert_eq!(unanswered.await.expect("no panic"), Err(Error::Disconnected));
    assert_eq!(socket.emit("too late", ()), Ok(()), "nothing happens");
    for name in ["", "disconnect"] {
        assert!(matches!(socket.emit(name, ()), Err(Error::Name(_))), "{name:?} is no event of a program's");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_to_many_collects_every_answer_and_counts_the_missing() {
    for shards in [1, 4] {
        let server = serve(shards, a_chat()).await;
        let mut clients = Vec::new();
        for _ in 0..4 {
            clients.push(Client::enter(server.address(), "/").await);
        }
        let question = tokio::spawn({
            let server = server.clone();
            async move { server.of("/").emit_with_ack("who", (), PATIENCE).await }
        });
        for (index, (client, _)) in clients.iter_mut().enumerate() {
            let asked = client.packet().await;
            let number = asked.trim_start_matches("42").trim_end_matches(r#"["who"]"#).to_owned();
            if index < 3 {
                client.say(&format!("43{number}[{index}]")).await;
            }
        }
        drop(clients.pop());
        let replies = question.await.expect("no panic").expect("replies");
        let mut answers: Vec<String> = replies.given.iter().map(|(_, args)| args.json().to_owned()).collect();
        answers.sort();
        assert_eq!((answers, replies.missing), (vec!["0".to_owned(), "1".to_owned(), "2".to_owned()], 1));
        let nobody = server.to("empty").emit_with_ack("who", (), PATIENCE).await.expect("replies");
        assert_eq!((nobody.given.len(), nobody.missing), (0, 0));
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_decides_who_is_let_in() {
    let guarded = Namespace::new()
        .admit(async |handshake| {
            // A decision takes its time.
            tokio::task::yield_now().await;
            let auth: Value = handshake.auth().unwrap_or_default();
            match auth["password"].as_str() {
                Some("secret") => {
                    handshake.keep("an admin");
                    Ok(())
                }
                Some(_) | None => Err(Refused::new("not authorized").with_data(json!({ "code": 42 }))),
            }
        })
        .on("who", async |socket: Socket, ()| {
            let who = socket.handshake().kept::<&str>();
            (who, socket.handshake().request().query_value("name"))
        });
    let server =
        Server::builder().namespace("/", a_chat()).namespace("/admin", guarded).start().await.expect("a free port");
    let (mut client, _) = Client::enter(server.address(), "/").await;
    client.say("40/admin,").await;
    client.hears(r#"44/admin,{"message":"not authorized","data":{"code":42}}"#).await;
    client.say("40/unknown,").await;
    client.hears(r#"44/unknown,{"message":"Invalid namespace"}"#).await;
    client.say(r#"40/admin,{"password":"secret"}"#).await;
    assert!(client.packet().await.starts_with(r#"40/admin,{"sid":"#));
    client.say(r#"42/admin,1["who"]"#).await;
    client.hears(r#"43/admin,1["an admin","x"]"#).await;
    client.say(r#"420["rooms"]"#).await;
    client.hears("430[[]]").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_while_the_program_decides_leaves_nothing_behind() {
    let asked = Arc::new(tokio::sync::Semaphore::new(0));
    let decided = Arc::new(tokio::sync::Semaphore::new(0));
    let (is_asked, go_on) = (asked.clone(), decided.clone());
    let slow = Namespace::new().admit(move |_| {
        is_asked.add_permits(1);
        let go_on = go_on.clone();
        async move {
            go_on.acquire().await.expect("it stays open").forget();
            Ok(())
        }
    });
    let server = Server::builder()
        .shards(1)
        .namespaces_matching(|name| name.starts_with("/slow-"), slow)
        .start()
        .await
        .expect("a free port");
    let mut client = Client::open(server.address()).await;
    client.say("40/slow-1,").await;
    asked.acquire().await.expect("it stays open").forget();
    drop(client);
    while server.connections().await > 0 {
        tokio::task::yield_now().await;
    }
    decided.add_permits(1);
    // The next one in finds a namespace of its own and is alone in it.
    let mut client = Client::open(server.address()).await;
    client.say("40/slow-1,").await;
    decided.add_permits(1);
    assert!(client.packet().await.starts_with("40/slow-1,"));
    assert_eq!(server.of("/slow-1").deliver("e", ()).await, Ok(1));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_of_a_pattern_are_apart_and_there_while_someone_is_in() {
    for shards in [1, 4] {
        let server = Server::builder()
            .shards(shards)
            .namespaces_matching(|name| name.starts_with("/game-"), a_chat())
            .start()
            .await
            .expect("a free port");
        let (mut one, _) = Client::enter(server.address(), "/game-1").await;
        let (mut other, _) = Client::enter(server.address(), "/game-2").await;
        let (mut same, _) = Client::enter(server.address(), "/game-1").await;
        for (client, game) in [(&mut one, 1), (&mut other, 2), (&mut same, 1)] {
            client.say(&format!(r#"42/game-{game},["join","a"]"#)).await;
            client.say(&format!(r#"42/game-{game},0["rooms"]"#)).await;
            client.hears(&format!(r#"43/game-{game},0[["a"]]"#)).await;
        }
        one.say(r#"42/game-1,["say","a","x"]"#).await;
        same.hears(r#"42/game-1,["said","x"]"#).await;
        assert_eq!(server.of("/game-2").to("a").deliver("e", ()).await, Ok(1));
        other.hears(r#"42/game-2,["e"]"#).await;
        other.say("41/game-2,").await;
        other.say("40/game-2,").await;
        assert!(other.packet().await.starts_with("40/game-2,"), "a new one under the old name");
        assert_eq!(server.of("/game-2").to("a").deliver("e", ()).await, Ok(0), "its rooms went with its members");
        assert_eq!(server.of("/game-2").deliver("f", ()).await, Ok(1));
        other.hears(r#"42/game-2,["f"]"#).await;
        let mut stranger = Client::open(server.address()).await;
        stranger.say("40/play-1,").await;
        stranger.hears(r#"44/play-1,{"message":"Invalid namespace"}"#).await;
        let endless = format!("/game-{}", "x".repeat(255));
        stranger.say(&format!("40{endless},")).await;
        stranger.hears(&format!(r#"44{endless},{{"message":"Invalid namespace"}}"#)).await;
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_disconnects_and_learns_why_clients_go() {
    let (sender, mut reasons) = mpsc::unbounded_channel();
    let namespace = a_chat()
        .on("out", async |socket: Socket, ()| socket.disconnect())
        .on("off", async |socket: Socket, ()| socket.disconnect_connection())
        .on_disconnect(move |socket: Socket, reason| {
            assert!(!socket.is_connected());
            sender.send(reason).expect("the test listens");
            std::future::ready(())
        });
    let server = serve(1, namespace).await;
    let (mut client, _) = Client::enter(server.address(), "/").await;
    client.say(r#"42["out"]"#).await;
    client.hears("41").await;
    assert_eq!(reasons.recv().await, Some("server namespace disconnect"));
    client.say("40").await;
    assert!(client.packet().await.starts_with("40{"), "the connection was kept");
    client.say("41").await;
    assert_eq!(reasons.recv().await, Some("client namespace disconnect"));

    let (mut client, _) = Client::enter(server.address(), "/").await;
    client.say(r#"42["off"]"#).await;
    client.hears("41").await;
    client.is_closed().await;
    assert_eq!(reasons.recv().await, Some("server namespace disconnect"));

    let (client, _) = Client::enter(server.address(), "/").await;
    drop(client);
    assert_eq!(reasons.recv().await, Some("transport close"));

    let (mut client, _) = Client::enter(server.address(), "/").await;
    client.say("42[]").await;
    assert_eq!(reasons.recv().await, Some("parse error"));

    let (mut kept, id) = Client::enter(server.address(), "/").await;
    let (_other, _) = Client::enter(server.address(), "/").await;
    kept.say(r#"42["join","a"]"#).await;
    kept.say(r#"420["rooms"]"#).await;
    kept.hears(r#"430[["a"]]"#).await;
    let found = server.to("a").sockets().await.expect("a good name");
    assert_eq!(found.iter().map(Socket::id).collect::<Vec<_>>(), [id.as_str()]);
    assert_eq!(server.of("/").except(&id).sockets().await.expect("a good name").len(), 1);
    server.stop().await;
    assert_eq!(reasons.recv().await, Some("server shutting down"));
    assert_eq!(reasons.recv().await, Some("server shutting down"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volatile_event_is_for_those_who_can_take_it_at_once() {
    let server = serve(1, a_chat()).await;
    let url = format!("http://{}/socket.io/?EIO=4&transport=polling", server.address());
    let http = reqwest::Client::new();
    let get = async |url: &str| {
        let answer = http.get(url).send().await.expect("an answer");
        answer.text().await.expect("text")
    };
    let open = get(&url).await;
    let open: Value = serde_json::from_str(open.trim_start_matches('0')).expect("JSON");
    let url = format!("{url}&sid={}", open["sid"].as_str().expect("an id"));
    let posted = http.post(&url).body("40").send().await.expect("an answer");
    assert_eq!(posted.text().await.expect("text"), "ok");
    assert!(get(&url).await.starts_with("40{"));

    assert_eq!(server.of("/").volatile().deliver("dropped", ()).await, Ok(0), "no poll waits");
    assert_eq!(server.of("/").deliver("kept", ()).await, Ok(1));
    assert_eq!(get(&url).await, r#"42["kept"]"#);
    let reached = async {
        while server.of("/").volatile().deliver("in time", ()).await != Ok(1) {
            tokio::task::yield_now().await;
        }
    };
    let (polled, ()) = tokio::join!(get(&url), reached);
    assert_eq!(polled, r#"42["in time"]"#);

    let (mut client, id) = Client::enter(server.address(), "/").await;
    let bytes = "x".repeat(64 * 1024);
    let mut taken = 0;
    while server.to(&id).volatile().deliver("v", (&bytes,)).await == Ok(1) {
        taken += 1;
    }
    assert!(taken > 0);
    for _ in 0..taken {
        assert!(client.packet().await.starts_with(r#"42["v","x"#));
    }
    while server.to(&id).volatile().deliver("again", ()).await != Ok(1) {
        tokio::task::yield_now().await;
    }
    client.hears(r#"42["again"]"#).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_panics_takes_nobody_with_it() {
    let namespace = a_chat().on("panic", async |_: Socket, ()| -> () { panic!("a bug of the program's") });
    let guarded = Namespace::new().admit(async |handshake| {
        let (now,) = (handshake.auth::<Value>().unwrap_or_default()["now"] == true,);
        if !now {
            tokio::task::yield_now().await;
        }
        panic!("a bug of the program's")
    });
    let server = Server::builder().shards(1).namespace("/", namespace).namespace("/guarded", guarded);
    let server = server.start().await.expect("a free port");
    let (mut client, _) = Client::enter(server.address(), "/").await;
    for auth in [r#"{"now":true}"#, "{}"] {
        client.say(&format!("40/guarded,{auth}")).await;
        client.hears(r#"44/guarded,{"message":"Internal server error"}"#).await;
    }
    client.say(r#"42["panic"]"#).await;
    client.say(r#"420["rooms"]"#).await;
    client.hears("430[[]]").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_s_commands_come_before_the_program_s_handlers() {
    let text = roomcast_profile();
    let (profile, _) = Profile::read(&text, "test.toml", &|_| None).expect("a profile");
    let program = Namespace::new()
        .on("ping", async |_: Socket, ()| ("the program's",))
        .on("status", async |_: Socket, ()| ("the program's",));
    let server = Server::with_profile(profile).namespace("/", program).start().await.expect("a free port");
    let (mut client, _) = Client::enter(server.address(), "/").await;
    client.say(r#"420["ping"]"#).await;
    client.hears(r#"430[{"from":"the profile"}]"#).await;
    client.say(r#"421["status"]"#).await;
    client.hears(r#"431["the program's"]"#).await;
    server.stop().await;
}

fn roomcast_profile() -> String {
    r#"
about = "One command"
[service]
host = "127.0.0.1"
port = 0
[auth]
token = "ignored"
[[endpoint]]
protocol = "socket.io"
[command.ping]
answer = { ack = { from = "the profile" } }
"#
    .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn below_socket_io_there_are_messages() {
    let (sender, mut ends) = mpsc::unbounded_channel();
    let messages = move || {
        let ends = sender.clone();
        Messages::new()
            .on_open(async |connection: Connection| {
                let greeting = connection.request().query_value("name").unwrap_or_default();
                let _ = connection.send(Message::Text(greeting));
            })
            .on_message(async |connection: Connection, message: Message| match message {
                Message::Text(text) if text == "bye" => connection.close(),
                message => connection.send(message).expect("there is room"),
            })
            .on_close(move |_, reason| {
                ends.send(reason).expect("the test listens");
                std::future::ready(())
            })
    };
    let server = Server::builder()
        .engine_io("/engine.io", messages())
        .websocket("/raw", messages())
        .start()
        .await
        .expect("a free port");
    for (path, prefix) in [("engine.io/?EIO=4&transport=websocket&name=x", "4"), ("raw?name=x", "")] {
        let (socket, _) = connect_async(format!("ws://{}/{path}", server.address())).await.expect("a WebSocket");
        let mut client = Client(socket);
        if !prefix.is_empty() {
            assert!(client.packet().await.starts_with("0{"));
        }
        client.hears(&format!("{prefix}x")).await;
        client.say(&format!("{prefix}hé")).await;
        client.hears(&format!("{prefix}hé")).await;
        client.0.send(Frame::binary(vec![0, 255])).await.expect("the gateway reads");
        assert_eq!(client.frame().await, Frame::binary(vec![0, 255]));
        client.say(&format!("{prefix}bye")).await;
        client.is_closed().await;
        assert_eq!(ends.recv().await, Some("forced close"));
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_gateway_takes_nobody_and_stops_once() {
    let server = serve(2, a_chat()).await;
    let (mut client, _) = Client::enter(server.address(), "/").await;
    let address = server.address();
    tokio::join!(server.stop(), server.stop());
    client.is_closed().await;
    assert!(TcpStream::connect(address).await.is_err(), "the port is closed");
}

#[tokio::test]
async fn a_program_is_asked_once_about_a_request() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let builder = Server::builder().listen("127.0.0.1:0").expect("an address").allow_request(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        Err("no".to_owned())
    });
    let server = builder.namespace("/", Namespace::new()).start().await.expect("it starts");
    let address = server.address();
    assert!(connect_async(format!("ws://{address}/socket.io/?EIO=4&transport=websocket")).await.is_err());
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_panics_after_it_waited_waits_no_longer() {
    let namespace = a_chat().on("panic", async |_: Socket, ()| -> () {
        tokio::task::yield_now().await;
        // A panic that prints nothing.
        std::panic::resume_unwind(Box::new("a bug of the program's"))
    });
    let server = serve(1, namespace).await;
    let (mut client, _) = Client::enter(server.address(), "/").await;
    // More than may wait at a time.
    for number in 0..1_100 {
        client.0.feed(Frame::text(r#"42["panic"]"#)).await.expect("the gateway reads");
        client.say(&format!(r#"42{number}["rooms"]"#)).await;
        client.hears(&format!("43{number}[[]]")).await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_that_panics_over_a_client_s_name_does_not_fit() {
    let pattern = |name: &str| name[..6] == *"/game-";
    let server = Server::builder().namespace("chat", a_chat()).namespaces_matching(pattern, a_chat()).shards(1);
    let server = server.start().await.expect("a free port");
    let (mut client, _) = Client::enter(server.address(), "/chat").await;
    client.say("40/ab,").await;
    client.hears(r#"44/ab,{"message":"Invalid namespace"}"#).await;
    client.say("40/game-1,").await;
    assert!(client.packet().await.starts_with("40/game-1,"));
    assert_eq!(server.of("chat").deliver("e", ()).await, Ok(1), "the slash may be left out");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_need_not_wait_stays_on_the_connection_s_own_thread() {
    let free = Arc::new(tokio::sync::Semaphore::new(1));
    let namespace = Namespace::new().on("where", move |_: Socket, ()| {
        let free = free.clone();
        async move {
            // More than the runtime lets a task have before it has others run.
            for _ in 0..200 {
                drop(free.acquire().await.expect("it stays open"));
            }
            std::thread::current().name().unwrap_or_default().to_owned()
        }
    });
    let server = serve(1, namespace).await;
    let (mut client, _) = Client::enter(server.address(), "/").await;
    client.say(r#"420["where"]"#).await;
    client.hears(r#"430["shard-0"]"#).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_waits_where_an_emit_is_told_that_there_is_no_room() {
    fn fill(socket: &Socket) {
        let bytes = Binary::from(vec![0; 1 << 20]);
        while socket.broadcast().emit("filling", bytes.clone()).is_ok() {}
    }
    let namespace = Namespace::new()
        .on("fill", async |socket: Socket, ()| {
            fill(&socket);
            ("filled",)
        })
        .on("fail", async |socket: Socket, ()| {
            fill(&socket);
            Err::<(), _>("it went wrong")
        });
    let server = serve(1, namespace).await;
    let (mut client, _) = Client::enter(server.address(), "/").await;
    client.say(r#"420["fill"]"#).await;
    client.hears(r#"430["filled"]"#).await;
    client.say(r#"421["fail"]"#).await;
    client.hears(r#"431[{"code":"internal","error":"it went wrong"}]"#).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_socket_delivers_comes_after_what_was_done_through_it() {
    let (sender, mut sockets) = mpsc::unbounded_channel();
    let namespace = Namespace::new().on_connect(move |socket: Socket| {
        sender.send(socket).expect("the test listens");
        std::future::ready(())
    });
    let server = serve(1, namespace).await;
    let (mut client, _) = Client::enter(server.address(), "/").await;
    let socket = sockets.recv().await.expect("it connected");
    for room in 0..100 {
        let room = format!("room {room}");
        assert_eq!(socket.join(&room), Ok(()));
        assert_eq!(socket.everyone().to(&room).deliver("e", ()).await, Ok(1));
        client.hears(r#"42["e"]"#).await;
        assert_eq!(socket.leave(&room), Ok(()));
        assert_eq!(socket.everyone().to(&room).sockets().await.expect("a good name").len(), 0);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_gateway_is_never_full() {
    let server = serve(1, a_chat()).await;
    server.stop().await;
    let bytes = Binary::from(vec![0; 1 << 20]);
    for _ in 0..100 {
        let everyone = server.of("/");
        let reached = everyone.deliver("e", bytes.clone());
        assert_eq!(tokio::time::timeout(PATIENCE, reached).await, Ok(Ok(0)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_ends_or_cannot_start_leaves_no_thread() {
    let gateway = || Server::builder().shards(64).namespace("/", a_chat());
    // No other test has so many.
    let last_shards = || {
        let tasks = std::fs::read_dir("/proc/self/task").expect("a list of threads");
        // One that has ended meanwhile has no name.
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|name| name.trim_end() == "shard-63").count()
    };
    let server = gateway().start().await.expect("a free port");
    assert!(gateway().listen(&server.address().to_string()).expect("an address").start().await.is_err());
    assert!(last_shards() <= 1);
    server.stop().await;
    assert_eq!(last_shards(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_client_meets_rules_and_handlers() {
    let text =
        format!("{}\n[[endpoint]]\nprotocol = \"json\"\npath = \"/plain\"\nenvelope = \"flat\"\n", roomcast_profile());
    let (profile, _) = Profile::read(&text, "test.toml", &|_| None).expect("a profile");
    let (sender, mut asked) = mpsc::unbounded_channel();
    let program = Namespace::new()
        .on("say", async |socket: Socket, (said,): (Value,)| socket.everyone().emit("said", (said["a"].clone(),)))
        .on("ask", move |socket: Socket, ()| {
            let sender = sender.clone();
            async move {
                let _ = sender.send(socket.emit_with_ack("question", (), PATIENCE).await);
            }
        })
        .on("out", async |socket: Socket, ()| socket.disconnect());
    let server = Server::with_profile(profile).namespace("/", program).start().await.expect("a free port");
    let (socket, _) = connect_async(format!("ws://{}/plain", server.address())).await.expect("a WebSocket");
    let mut client = Client(socket);
    client.say(r#"{"type":"say","a":1}"#).await;
    let heard = client.packet().await;
    assert!(heard.contains("said") && heard.contains('1'), "{heard}");
    client.say(r#"{"type":"ask"}"#).await;
    assert_eq!(asked.recv().await, Some(Err(Error::Unasked)));
    client.say(r#"{"type":"out"}"#).await;
    client.is_closed().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_refreshed_by_the_profile_also_where_the_program_has_handlers() {
    let text = roomcast_profile()
        .replace("token = \"ignored\"", "secret = \"0123456789abcdef0123456789abcdef\"\nallow_anonymous = true");
    let (profile, _) = Profile::read(&text, "test.toml", &|_| None).expect("a profile");
    let program = Namespace::new().on_any(async |_: Socket, _: Event| ("the program's",));
    let server = Server::with_profile(profile).namespace("/", program).start().await.expect("a free port");
    let (mut client, _) = Client::enter(server.address(), "/").await;
    client.say(r#"420["refresh_token",{"token":"x"}]"#).await;
    let answer = client.packet().await;
    assert!(answer.contains(r#""code":"bad_token""#), "{answer}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_without_socket_io_takes_endpoints_below_it() {
    let text = roomcast_profile().replace("protocol = \"socket.io\"", "protocol = \"json\"\npath = \"/plain\"");
    let (profile, _) = Profile::read(&text, "test.toml", &|_| None).expect("a profile");
    let echo =
        || Messages::new().on_message(async |connection: Connection, message| connection.send(message).expect("room"));
    let server = Server::with_profile(profile).websocket("/raw", echo()).engine_io("/engine.io", echo());
    let server = server.start().await.expect("a free port");
    let (socket, _) = connect_async(format!("ws://{}/raw", server.address())).await.expect("a WebSocket");
    let mut client = Client(socket);
    client.say("x").await;
    client.hears("x").await;
    server.stop().await;
}
