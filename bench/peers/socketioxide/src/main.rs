//! The benchmark's rooms as a team writes them with socketioxide and axum.

use std::env;

use axum::serve::ListenerExt;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use socketioxide::SocketIo;
use socketioxide::extract::{AckSender, Data, Extension, SocketRef, State};
use socketioxide::handler::ConnectHandler;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Deserialize)]
struct Auth {
    token: String,
}

#[derive(Clone, Deserialize)]
struct User {
    sub: String,
}

#[derive(Deserialize)]
struct Room {
    room: String,
}

#[derive(Deserialize, Serialize)]
struct Message {
    room: String,
    data: Value,
}

#[derive(Deserialize, Serialize)]
struct Echo {
    data: Value,
}

#[derive(Clone)]
struct Tokens {
    key: DecodingKey,
    validation: Validation,
}

async fn authenticate(
    socket: SocketRef,
    Data(auth): Data<Auth>,
    State(tokens): State<Tokens>,
) -> Result<(), jsonwebtoken::errors::Error> {
    let user = decode::<User>(&auth.token, &tokens.key, &tokens.validation)?.claims;
    socket.extensions.insert(user);
    Ok(())
}

async fn connected(socket: SocketRef, Extension(user): Extension<User>) {
    socket.join(format!("user:{}", user.sub));
    socket.emit("connected", &json!({ "userId": user.sub })).ok();

    socket.on("join", async |socket: SocketRef, Data(Room { room }): Data<Room>, ack: AckSender| {
        socket.join(room.clone());
        ack.send(&json!({ "success": true, "room": room })).ok();
    });
    socket.on("leave", async |socket: SocketRef, Data(Room { room }): Data<Room>, ack: AckSender| {
        socket.leave(room.clone());
        ack.send(&json!({ "success": true, "room": room })).ok();
    });
    socket.on("say", async |io: SocketIo, Data(message): Data<Message>| {
        io.to(message.room.clone()).emit("message", &message).await.ok();
    });
    socket.on("echo", async |Data(echo): Data<Echo>, ack: AckSender| {
        ack.send(&echo).ok();
    });
}

#[tokio::main(worker_threads = 1)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let secret = env::var("JWT_SECRET")?;
    let tokens =
        Tokens { key: DecodingKey::from_secret(secret.as_bytes()), validation: Validation::new(Algorithm::HS256) };
    let (layer, io) = SocketIo::builder().with_state(tokens).build_layer();
    io.ns("/", connected.with(authenticate));

    let app = axum::Router::new().layer(layer);
    let port = env::var("PORT")?.parse::<u16>()?;
    let listener = TcpListener::bind(("127.0.0.1", port)).await?.tap_io(|stream| {
        stream.set_nodelay(true).ok();
    });
    let mut ending = signal(SignalKind::terminate())?;
    tokio::select! {
        served = axum::serve(listener, app) => served?,
        _ = ending.recv() => {}
    }
    Ok(())
}
