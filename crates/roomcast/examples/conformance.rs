//! The servers that the official test suites of Engine.IO and Socket.IO, those of their clients, and Autobahn expect, on the embedding API.
//!
//! ```text
//! cargo run --example conformance -- socket-io --port 3000 [--shards 4]
//! ```

use std::time::Duration;

use clap::{Parser, ValueEnum};
use roomcast::embed::{
    Args, Binary, Builder, Connection, Event, Handshake, Message, Messages, Namespace, Origins, Profile, Refused,
    Server, Socket,
};
use serde_json::{Value, json};

/// Which suite's server to be.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Suite {
    /// The official suites of Engine.IO, revisions 3 (with `--eio3`) and 4: an echo at `/engine.io/`
    EngineIo,
    /// The official suite of Socket.IO, revision 5
    SocketIo,
    /// The tests of engine.io-client
    EngineIoClient,
    /// The tests of socket.io-client
    SocketIoClient,
    /// The tests of engine.io-client-java
    JavaEngineIo,
    /// The tests of socket.io-client-java
    JavaSocketIo,
    /// Autobahn: an echo over plain WebSockets at `/`
    Autobahn,
}

#[derive(Debug, Parser)]
struct Options {
    suite: Suite,
    /// The port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// How many threads hold the connections
    #[arg(long, default_value_t = 1)]
    shards: usize,
    /// Let in clients of Engine.IO 3; the suite of revision 3 wants it, that of revision 4 wants them refused
    #[arg(long)]
    eio3: bool,
    /// How long a client of the official suites may take to answer a ping; they themselves expect 200
    #[arg(long, default_value_t = 200)]
    ping_timeout_ms: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let builder = Server::builder().listen(&format!("127.0.0.1:{}", options.port))?.shards(options.shards);
    // Suites connect and drop as fast as they can, which is no crowd to be spread over time.
    let builder = builder.origins(Origins::Any);
    let builder = if options.eio3 { builder.allow_eio3() } else { builder };
    let hasty = |builder: Builder| {
        builder.heartbeat(Duration::from_millis(300), Duration::from_millis(options.ping_timeout_ms))
    };
    let server = match options.suite {
        Suite::EngineIo => hasty(builder).engine_io("/engine.io", echo()),
        Suite::SocketIo => hasty(builder)
            .connect_timeout(Duration::from_secs(1))
            .namespace("/", official())
            .namespace("/custom", greeting()),
        Suite::EngineIoClient => engine_io_client::server(builder),
        Suite::SocketIoClient => socket_io_client::server(builder),
        Suite::JavaEngineIo => java::engine_io(builder),
        Suite::JavaSocketIo => java::socket_io(builder),
        Suite::Autobahn => builder
            .deflate(0)
            .message_bytes(32 << 20)
            .configure(|profile: &mut Profile| profile.limits.send_queue_bytes = 64 << 20)
            .websocket("/", echo()),
    };
    let server = server.start().await?;
    println!("listening on {}", server.address());
    tokio::signal::ctrl_c().await?;
    server.stop().await;
    Ok(())
}

/// Sends every message back.
fn echo() -> Messages {
    Messages::new().on_message(async |connection: Connection, message| {
        let _ = connection.send(message);
    })
}

/// Tells a client what it said of itself.
fn greeting() -> Namespace {
    Namespace::new().on_connect(async |socket: Socket| {
        let auth: Value = socket.handshake().auth().unwrap_or_default();
        let _ = socket.emit("auth", (auth,));
    })
}

fn official() -> Namespace {
    greeting()
        .on("message", async |socket: Socket, args: Args| socket.emit("message-back", args))
        .on("message-with-ack", async |_: Socket, args: Args| args)
}

/// A moment, as a date of JavaScript's stands in JSON.
const DATE: &str = "2026-01-02T03:04:05.678Z";

/// What a client said of itself, as a Node server shows it.
fn handshake_json(handshake: &Handshake) -> Value {
    let request = handshake.request();
    let headers = request.headers.iter();
    let headers: serde_json::Map<String, Value> =
        headers.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into())).collect();
    let query: serde_json::Map<String, Value> =
        request.query().into_iter().map(|(name, value)| (name, value.into())).collect();
    json!({
        "headers": headers,
        "time": DATE,
        "address": request.address.to_string(),
        "xdomain": headers.contains_key("origin"),
        "secure": false,
        "issued": request.issued_unix_ms,
        "url": request.uri.to_string(),
        "query": query,
        "auth": handshake.auth::<Value>().unwrap_or_default(),
    })
}

/// Tells a client all that it said of itself.
async fn show_handshake(socket: Socket) {
    let _ = socket.emit("handshake", (handshake_json(socket.handshake()),));
}

mod engine_io_client {
    use std::sync::{Arc, Mutex};

    use http::HeaderValue;
    use http::header::SET_COOKIE;
    use roomcast::embed::Request;

    use super::*;

    /// Two to keep and two that are over as soon as they come.
    const COOKIES: [&str; 4] = [
        "1=1; Max-Age=86400",
        "2=2; Path=/; HttpOnly; Secure; SameSite=Strict",
        "3=3; Max-Age=0",
        "4=4; Expires=Thu, 01 Jan 2026 00:00:00 GMT",
    ];

    /// Longer than it takes to answer a POST.
    const ANSWER_TIME: Duration = Duration::from_millis(50);

    /// The headers of the last POST: the suite runs one test after the other.
    type LastPost = Arc<Mutex<Value>>;

    pub fn server(builder: Builder) -> Builder {
        let posted = LastPost::default();
        let seen = posted.clone();
        builder
            .heartbeat(Duration::from_millis(500), Duration::from_secs(20))
            .message_bytes(100)
            .allow_request(|request| match request.query_value("deny") {
                Some(_) => Err("deny".to_owned()),
                None => Ok(()),
            })
            .response_headers(move |method, request: &Request, headers| match request.query_value("sid") {
                None => COOKIES.iter().for_each(|cookie| {
                    headers.append(SET_COOKIE, HeaderValue::from_static(cookie));
                }),
                Some(_) if method == http::Method::POST => *seen.lock().expect("nobody panics") = headers_json(request),
                Some(_) => {}
            })
            .engine_io("/engine.io", messages(posted))
    }

    fn headers_json(request: &Request) -> Value {
        let headers = request.headers.iter();
        headers
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect()
    }

    fn messages(posted: LastPost) -> Messages {
        Messages::new()
            .on_open(async |connection: Connection| {
                let _ = connection.send(Message::Text("hi".to_owned()));
            })
            .on_message(move |connection: Connection, message| {
                let posted = posted.clone();
                async move {
                    let answer = match &message {
                        Message::Text(text) if text == "give binary" => Message::Binary(vec![0, 1, 2, 3, 4].into()),
                        Message::Text(text) if text == "give utf8" => {
                            Message::Text("пойду спать всем спокойной ночи".to_owned())
                        }
                        Message::Text(text) if text == "sendHeaders" => {
                            // They are noted when the POST that brought this message is answered, which is after its messages.
                            tokio::time::sleep(ANSWER_TIME).await;
                            Message::Text(posted.lock().expect("nobody panics").to_string())
                        }
                        Message::Text(_) | Message::Binary(_) => message,
                    };
                    let _ = connection.send(answer);
                }
            })
    }
}

mod socket_io_client {
    use super::*;

    const SENTENCES: [&str; 5] = ["てすと", "Я Б Г Д Ж Й", "Ä ä Ü ü ß", "utf8 — string", "utf8 — string"];

    /// Longer than the time-out of 0 ms after which some of the tests give up; a faster server would let them in.
    const HANDSHAKE_TIME: Duration = Duration::from_millis(10);

    pub fn server(builder: Builder) -> Builder {
        builder
            .heartbeat(Duration::from_secs(2), Duration::from_secs(20))
            .allow_request(|_| {
                std::thread::sleep(HANDSHAKE_TIME);
                Ok(())
            })
            .namespace("/", main())
            .namespace("/foo", Namespace::new().on("getId", async |socket: Socket, ()| (socket.id().to_owned(),)))
            .namespace("/timeout_socket", Namespace::new())
            .namespace("/valid", Namespace::new())
            .namespace("/asd", Namespace::new())
            .namespace("/abc", Namespace::new().on_connect(show_handshake))
            .namespace("/no", Namespace::new().admit(async |_| Err(Refused::new("Auth failed (custom namespace)"))))
    }

    fn main() -> Namespace {
        Namespace::new()
            .admit(async |handshake| match handshake.request().query_value("fail") {
                Some(_) => Err(Refused::new("Auth failed (main namespace)")),
                None => Ok(()),
            })
            .on("hi", async |socket: Socket, ()| socket.emit("hi", ()))
            .on("echo", async |_: Socket, (value,): (Value,)| (value,))
            .on("ack", ask)
            .on("getAckDate", async |_: Socket, ()| (DATE,))
            .on("getDate", async |socket: Socket, ()| socket.emit("takeDate", DATE))
            .on("getDateObj", async |socket: Socket, ()| socket.emit("takeDateObj", (json!({ "date": DATE }),)))
            .on("getUtf8", async |socket: Socket, ()| {
                SENTENCES.iter().try_for_each(|sentence| socket.emit("takeUtf8", *sentence))
            })
            .on("false", async |socket: Socket, ()| socket.emit("false", false))
            .on("doge", async |socket: Socket, ()| socket.emit("doge", Binary::from(&b"asdfasdf"[..])))
            .on("buffa", async |socket: Socket, (data,): (Binary,)| socket.emit("buffack", data))
            .on("jsonbuff", async |socket: Socket, args: Args| socket.emit("jsonbuff-ack", args))
            .on("abuff1", async |_: Socket, _: Args| {})
            .on("abuff2", async |socket: Socket, args: Args| socket.emit("abuff2-ack", args))
            .on("blob", async |socket: Socket, args: Args| socket.emit("back", args))
            .on("jsonblob", async |socket: Socket, args: Args| socket.emit("jsonblob-ack", args))
            .on("blob3", async |socket: Socket, args: Args| socket.emit("blob3-ack", args))
            .on("getbin", async |socket: Socket, ()| socket.emit("takebin", Binary::from(&b"asdfasdf"[..])))
            .on("getHandshake", async |socket: Socket, ()| (handshake_json(socket.handshake()),))
            .on("getId", async |socket: Socket, ()| (socket.id().to_owned(),))
    }

    /// Asks the client, and says whether its answer was right.
    async fn ask(socket: Socket, (): ()) {
        let answer = socket.emit_with_ack("ack", (), Duration::from_secs(5)).await;
        let is_right = |args: Args| {
            let (a, b) = args.read::<(Value, Value)>().unwrap_or_default();
            a == 5 && b["test"] == true
        };
        if answer.is_ok_and(is_right) {
            let _ = socket.emit("got it", ());
        }
    }
}

mod java {
    use super::*;
    use http::HeaderValue;

    /// As long as the Node server keeps an idle connection: some tests wait until the client's pool has lost its connections.
    const KEEP_ALIVE: Duration = Duration::from_secs(5);

    pub fn engine_io(builder: Builder) -> Builder {
        builder
            .configure(|profile: &mut Profile| profile.limits.timeouts.keep_alive = KEEP_ALIVE)
            .heartbeat(Duration::from_millis(500), Duration::from_secs(20))
            .response_headers(|_, request, headers| {
                if let Some(value) = request.headers.get("x-engineio") {
                    headers.append("x-engineio", HeaderValue::from_static("hi"));
                    headers.append("x-engineio", value.clone());
                }
            })
            .engine_io(
                "/engine.io",
                echo().on_open(async |connection: Connection| {
                    let _ = connection.send(Message::Text("hi".to_owned()));
                }),
            )
    }

    pub fn socket_io(builder: Builder) -> Builder {
        builder
            .configure(|profile: &mut Profile| profile.limits.timeouts.keep_alive = KEEP_ALIVE)
            .heartbeat(Duration::from_secs(2), Duration::from_secs(20))
            .response_headers(|_, request, headers| {
                if let Some(value) = request.headers.get("x-socketio") {
                    headers.insert("x-socketio", value.clone());
                }
            })
            .namespace("/", chat())
            .namespace("/foo", chat())
            .namespace("/timeout_socket", Namespace::new())
            .namespace("/valid", Namespace::new())
            .namespace("/asd", Namespace::new())
            .namespace("/abc", Namespace::new().on_connect(show_handshake))
            .namespace(
                "/no",
                Namespace::new()
                    .admit(async |_| Err(Refused::new("auth failed").with_data(json!({ "a": "b", "c": 3 })))),
            )
    }

    fn chat() -> Namespace {
        Namespace::new()
            .on_connect(async |socket: Socket| {
                let _ = socket.emit("message", "hello client");
            })
            .on("message", async |socket: Socket, args: Args| socket.emit("message", args))
            .on("echo", async |socket: Socket, args: Args| socket.emit("echoBack", args))
            .on("ack", async |_: Socket, args: Args| args)
            .on("callAck", ask)
            .on("callAckBinary", ask)
            .on("getAckBinary", async |_: Socket, _: Args| Binary::from(&b"huehue"[..]))
            .on("getAckDate", async |_: Socket, _: Args| (DATE,))
            .on("broadcast", async |socket: Socket, args: Args| socket.broadcast().emit("broadcastBack", args))
            // A socket's id is the name of a room that it alone is in.
            .on("room", async |socket: Socket, args: Args| socket.everyone().to(socket.id()).emit("roomBack", args))
            .on("requestDisconnect", async |socket: Socket, _: Event| socket.disconnect())
            .on("getHandshake", async |socket: Socket, _: Event| (handshake_json(socket.handshake()),))
    }

    async fn ask(socket: Socket, (): ()) {
        if let Ok(answer) = socket.emit_with_ack("ack", (), Duration::from_secs(5)).await {
            let _ = socket.emit("ackBack", answer);
        }
    }
}
