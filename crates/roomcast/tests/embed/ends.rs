//! Bugs of the program's, and the gateway's end: nobody is taken along, nothing is left.

use futures_util::SinkExt;
use roomcast::embed::{Binary, Namespace, Server, Socket};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message as Frame;

use crate::client::Client;
use crate::{PATIENCE, a_chat, serve};

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
async fn a_gateway_ends_with_the_last_of_its_handles() {
    let server = serve(1, a_chat()).await;
    let (mut client, _) = Client::enter(server.address(), "/").await;
    drop(server.clone());
    client.say(r#"420["rooms"]"#).await;
    client.hears("430[[]]").await;
    drop(server);
    client.is_closed().await;
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
    // One that has been waited for may still be in the list for a moment.
    let come_to = async |count: usize| {
        while last_shards() != count {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, come_to(1)).await.expect("only the one that runs is left");
    server.stop().await;
    tokio::time::timeout(PATIENCE, come_to(0)).await.expect("none is left");
}
