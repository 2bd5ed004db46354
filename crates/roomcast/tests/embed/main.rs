//! A gateway within a program, from outside: clients are WebSockets that speak Socket.IO by hand, so that every packet is seen.

mod client;
mod cluster;
mod ends;
mod events;
mod namespaces;
mod profiles;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use roomcast::embed::{Error, Namespace, Server, Socket};

/// The longest that anything is waited for: only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

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
