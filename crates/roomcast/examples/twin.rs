//! The server that the black-box tests and the differential run talk to, on the embedding API. Its twin on the Node server stands in
//! `tests/differential/twin.mjs`; what one does, the other does.
//!
//! ```text
//! cargo run --example twin -- --port 3000 [--shards 4] [--message-bytes 1000000] [--connect-timeout-ms 45000] [--answer-timeout-ms 1000] [--eio3]
//! ```

use std::time::Duration;

use clap::Parser;
use roomcast::embed::{Args, Connection, Error, Event, Messages, Namespace, Origins, Refused, Server, Socket};
use serde_json::{Value, json};

#[derive(Debug, Parser)]
struct Options {
    /// The port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// How many threads hold the connections
    #[arg(long, default_value_t = 1)]
    shards: usize,
    /// The largest message of a client
    #[arg(long, default_value_t = 1_000_000)]
    message_bytes: u64,
    /// How long a client may stay without a namespace
    #[arg(long, default_value_t = 45_000)]
    connect_timeout_ms: u64,
    /// How long a client may take to answer a question
    #[arg(long, default_value_t = 1_000)]
    answer_timeout_ms: u64,
    /// Let clients of revision 3 of Engine.IO in, too
    #[arg(long)]
    eio3: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let answer_timeout = Duration::from_millis(options.answer_timeout_ms);
    let builder = Server::builder();
    let builder = if options.eio3 { builder.allow_eio3() } else { builder };
    let builder = builder
        .listen(&format!("127.0.0.1:{}", options.port))?
        .shards(options.shards)
        .message_bytes(options.message_bytes)
        .connect_timeout(Duration::from_millis(options.connect_timeout_ms))
        .origins(Origins::Any)
        .namespace("/", talk(answer_timeout))
        .namespace("/custom", talk(answer_timeout))
        .namespace(
            "/deny",
            Namespace::new().admit(async |_| Err(Refused::new("not authorized").with_data(json!({ "code": 42 })))),
        )
        .namespace("/refuse", Namespace::new().admit(async |_| Err(Refused::new("go away"))))
        .namespaces_matching(|name| name.strip_prefix("/dynamic-").is_some_and(is_number), talk(answer_timeout))
        .engine_io("/engine.io", echo());
    let server = builder.start().await?;
    println!("listening on {}", server.address());
    tokio::signal::ctrl_c().await?;
    server.stop().await;
    Ok(())
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Sends every message back.
fn echo() -> Messages {
    Messages::new().on_message(async |connection: Connection, message| {
        // A client that is gone needs no echo.
        let _ = connection.send(message);
    })
}

/// All that a Socket.IO server does with its clients.
fn talk(answer_timeout: Duration) -> Namespace {
    Namespace::new()
        .on_connect(async |socket: Socket| {
            let auth: Value = socket.handshake().auth().unwrap_or_default();
            let _ = socket.emit("auth", (auth,));
        })
        .on("echo", async |socket: Socket, mut event: Event| match event.answer.take() {
            Some(answer) => answer.send(event.args),
            None => socket.emit("echo", event.args),
        })
        .on("volatile", async |socket: Socket, args: Args| socket.emit_volatile("volatile", args))
        .on("ask", move |socket: Socket, args: Args| ask(socket, args, answer_timeout))
        .on("ask all", move |socket: Socket, asked: (String, Value)| ask_all(socket, asked, answer_timeout))
        .on("join", async |socket: Socket, event: Event| {
            let (room,): (String,) = event.read().unwrap_or_default();
            socket.join(&room)?;
            event.answer(room)
        })
        .on("leave", async |socket: Socket, event: Event| {
            let (room,): (String,) = event.read().unwrap_or_default();
            socket.leave(&room)?;
            event.answer(room)
        })
        .on("to", async |socket: Socket, (room, data): (String, Value)| socket.to(&room).emit("said", (data,)))
        .on("broadcast", async |socket: Socket, args: Args| socket.broadcast().emit("said", args))
        .on("bye", async |socket: Socket, ()| socket.disconnect())
        .on("bye all", async |socket: Socket, ()| socket.disconnect_connection())
}

/// Asks the client itself, and tells it what it answered.
async fn ask(socket: Socket, args: Args, timeout: Duration) -> Result<(), Error> {
    match socket.emit_with_ack("question", args, timeout).await {
        Ok(answer) => socket.emit("answered", answer),
        Err(_) => socket.emit("unanswered", ()),
    }
}

/// Asks everyone in a room, and tells the client how many answered.
async fn ask_all(socket: Socket, (room, data): (String, Value), timeout: Duration) -> Result<(), Error> {
    let replies = socket.everyone().to(&room).emit_with_ack("question", (data,), timeout).await?;
    socket.emit("answers", (replies.given.len(), replies.missing))
}
