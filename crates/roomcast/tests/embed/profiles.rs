//! A profile beside the program's handlers, and what there is below Socket.IO.

use futures_util::SinkExt;
use roomcast::embed::{Connection, Error, Event, Message, Messages, Namespace, Profile, Server, Socket};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message as Frame;

use crate::PATIENCE;
use crate::client::Client;

fn profile_text() -> String {
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
async fn a_profile_s_commands_come_before_the_program_s_handlers() {
    let text = profile_text();
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

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_client_meets_rules_and_handlers() {
    let text =
        format!("{}\n[[endpoint]]\nprotocol = \"json\"\npath = \"/plain\"\nenvelope = \"flat\"\n", profile_text());
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
    let text = profile_text()
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
async fn a_profile_without_socket_io_takes_endpoints_below_it() {
    let text = profile_text().replace("protocol = \"socket.io\"", "protocol = \"json\"\npath = \"/plain\"");
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
