//! A program that is one of several servers on one Redis, others like it and Node's Socket.IO servers among them: its clients say things to everybody's
//! clients, ask them, and have the servers talk to each other.
//!
//! ```text
//! cargo run --example cluster -- --redis redis://127.0.0.1:6379 --name one --port 3000
//! cargo run --example cluster -- --redis redis://127.0.0.1:6379 --name two --port 3001
//! roomcast listen --url http://127.0.0.1:3000 --emit 'say {"room":"lobby","data":"hello"}' --emit 'tell servers "hello"'
//! ```

use std::time::Duration;

use clap::Parser;
use roomcast::embed::{Args, Broadcast, Error, Event, Namespace, RedisMode, Server, Socket};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Debug, Parser)]
struct Options {
    /// Where the servers meet
    #[arg(long)]
    redis: String,
    /// Speak the sharded format; all servers speak the same one
    #[arg(long)]
    sharded: bool,
    /// What the others call this one
    #[arg(long, default_value = "one")]
    name: String,
    /// The port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// How many threads hold the connections
    #[arg(long, default_value_t = 1)]
    shards: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Options { redis, sharded, name, port, shards } = Options::parse();
    let mode = if sharded { RedisMode::Sharded } else { RedisMode::Classic };
    let builder = Server::builder().listen(&format!("127.0.0.1:{port}"))?.shards(shards).redis(&redis, mode);
    let server = builder.namespace("/", talk(&name)).namespace("/chat", talk(&name)).start().await?;
    println!("listening on {}", server.address());
    tokio::signal::ctrl_c().await?;
    server.stop().await;
    Ok(())
}

/// What is asked of whom, and for how long.
#[derive(Deserialize)]
struct Question {
    /// The event.
    event: String,
    /// A room; everybody where there is none.
    room: Option<String>,
    data: Value,
    timeout_ms: u64,
}

fn talk(name: &str) -> Namespace {
    hearing(name)
        .on_connect(async |socket: Socket| {
            let _ = socket.emit("connected", (json!({ "socketId": socket.id() }),));
        })
        .on("join", async |socket: Socket, (room,): (String,)| {
            socket.join(&room)?;
            Ok::<_, Error>(room)
        })
        .on("say", async |socket: Socket, (said,): (Value,)| {
            let room = said["room"].as_str().unwrap_or_default();
            socket.everyone().to(room).emit("said", (&said["data"],))
        })
        .on("ask", ask_clients)
        .on("order", order)
        .on("tell servers", async |socket: Socket, event: Event| {
            socket.everyone().server_side_emit("hello", event.args.clone())?;
            event.answer(true)
        })
        .on("ask servers", ask_servers)
}

/// Asks clients, wherever they are.
async fn ask_clients(socket: Socket, (question,): (Question,)) -> Result<Value, Error> {
    let everyone = socket.everyone();
    let whom = question.room.iter().fold(everyone, |whom, room| whom.to(room));
    let timeout = Duration::from_millis(question.timeout_ms);
    let replies = whom.emit_with_ack(&question.event, (question.data,), timeout).await?;
    let answers: Vec<Value> = replies.given.iter().filter_map(|reply| first(&reply.args)).collect();
    Ok(json!({ "answers": answers, "missing": replies.missing, "missingNodes": replies.missing_nodes }))
}

/// What those in a room have to do, wherever they are.
#[derive(Deserialize)]
#[serde(tag = "order", rename_all = "lowercase")]
enum Order {
    Join { of: String, room: String },
    Leave { of: String, room: String },
    Disconnect { of: String },
}

/// Has sockets enter or leave a room, or go; says how many of them are this server's.
async fn order(socket: Socket, (order,): (Order,)) -> Result<Value, Error> {
    let everyone = socket.everyone();
    let here = match order {
        Order::Join { of, room } => everyone.to(&of).sockets_join(&room).await?,
        Order::Leave { of, room } => everyone.to(&of).sockets_leave(&room).await?,
        Order::Disconnect { of } => everyone.to(&of).disconnect_sockets(false).await?,
    };
    Ok(here.into())
}

/// Asks the other servers.
async fn ask_servers(socket: Socket, (question,): (Question,)) -> Result<Value, Error> {
    let timeout = Duration::from_millis(question.timeout_ms);
    let servers = socket.everyone();
    let replies = servers.server_side_emit_with_ack(&question.event, (question.data,), timeout).await?;
    let answers: Vec<Value> = replies.given.iter().filter_map(first).collect();
    Ok(json!({ "answers": answers, "missing": replies.missing }))
}

fn first(args: &Args) -> Option<Value> {
    args.read().ok().map(|(value,)| value)
}

/// What this server makes of what others tell and ask it.
fn hearing(name: &str) -> Namespace {
    let (told, pinged, silent) = (name.to_owned(), name.to_owned(), name.to_owned());
    Namespace::new()
        .on_server_side_emit("hello", move |everyone: Broadcast, args: Args| tell(everyone, told.clone(), args))
        .on_server_side_emit("ping", move |_, (number,): (i64,)| {
            let from = pinged.clone();
            async move { (json!({ "from": from, "number": number }),) }
        })
        .on_server_side_emit("fail", async |_, ()| Err::<(), _>("no such thing"))
        .on_server_side_emit("never", move |everyone: Broadcast, args: Args| {
            let telling = tell(everyone, silent.clone(), args);
            async move {
                telling.await?;
                std::future::pending::<Result<(), Error>>().await
            }
        })
}

/// Tells all clients what this server heard.
async fn tell(everyone: Broadcast, name: String, args: Args) -> Result<(), Error> {
    let (what,): (Value,) = args.read().unwrap_or_default();
    everyone.emit("heard", (json!({ "by": name, "what": what }),))
}
