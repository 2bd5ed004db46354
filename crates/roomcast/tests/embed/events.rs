//! What handlers get and answer, and whom an event reaches.

use std::sync::Arc;
use std::time::Duration;

use futures_util::SinkExt;
use roomcast::embed::{Args, Binary, Error, Event, Namespace, Socket};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message as Frame;

use crate::client::Client;
use crate::{PATIENCE, a_chat, serve};

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
        let mut answers: Vec<String> = replies.given.iter().map(|reply| reply.args.json().to_owned()).collect();
        answers.sort();
        assert_eq!((answers, replies.missing), (vec!["0".to_owned(), "1".to_owned(), "2".to_owned()], 1));
        let nobody = server.to("empty").emit_with_ack("who", (), PATIENCE).await.expect("replies");
        assert_eq!((nobody.given.len(), nobody.missing), (0, 0));
        server.stop().await;
    }
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
