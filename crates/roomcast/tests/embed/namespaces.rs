//! Who is let in, where to, and how clients go.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use roomcast::embed::{Namespace, Refused, Server, Socket};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_tungstenite::connect_async;

use crate::client::Client;
use crate::{a_chat, serve};

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
