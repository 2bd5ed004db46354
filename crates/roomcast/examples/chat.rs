//! A chat on the embedding API: rooms, names, answers, and a word from the program itself.
//!
//! ```text
//! cargo run --example chat [ADDRESS]
//! roomcast listen --url http://127.0.0.1:3000 --emit 'name "ann"' --emit 'join "lobby"' --emit 'say {"room":"lobby","text":"hello"}'
//! ```

use std::time::Duration;

use roomcast::embed::{Error, Namespace, Refused, Server, Socket};
use serde::{Deserialize, Serialize};

/// What a client says.
#[derive(Deserialize)]
struct Say {
    room: String,
    text: String,
}

/// What the others hear.
#[derive(Serialize)]
struct Said {
    room: String,
    from: Name,
    text: String,
}

/// Who a client is; kept with its socket.
#[derive(Clone, Serialize)]
struct Name(String);

fn name_of(socket: &Socket) -> Name {
    socket.handshake().kept().unwrap_or_else(|| Name("somebody".to_owned()))
}

fn chat() -> Namespace {
    Namespace::new()
        .admit(async |handshake| match handshake.request().query_value("banned") {
            Some(_) => Err(Refused::new("go away")),
            None => Ok(()),
        })
        .on_connect(async |socket: Socket| {
            let welcome = socket.emit("welcome", (socket.id(),));
            if let Err(error) = welcome {
                eprintln!("{}: {error}", socket.id());
            }
        })
        .on("name", async |socket: Socket, (name,): (String,)| {
            socket.handshake().keep(Name(name));
        })
        // What a handler returns is the client's answer; an error is told, too.
        .on("join", async |socket: Socket, (room,): (String,)| {
            socket.join(&room)?;
            socket.to(&room).emit("joined", (room.as_str(), name_of(&socket)))?;
            Ok::<_, Error>((socket.rooms().await,))
        })
        .on("say", async |socket: Socket, (say,): (Say,)| {
            let Say { room, text } = say;
            let said = Said { from: name_of(&socket), room: room.clone(), text };
            socket.everyone().to(&room).emit("said", (said,))
        })
        .on_disconnect(async |socket: Socket, reason| println!("{} is gone: {reason}", socket.id()))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let server = Server::builder().listen(&address)?.namespace("/", chat()).start().await?;
    println!("listening on {}; Ctrl-C ends", server.address());
    let mut minute = tokio::time::interval(Duration::from_secs(60));
    minute.reset();
    loop {
        tokio::select! {
            _ = minute.tick() => {
                let heard = server.of("/").emit_with_ack("still there?", (), Duration::from_secs(5)).await?;
                println!("{} are still there, {} say nothing", heard.given.len(), heard.missing);
            }
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    server.stop().await;
    Ok(())
}
