//! Two programs on one Redis: what one does with sockets is done with those of the other, too.

use std::time::Duration;

use roomcast::embed::{Broadcast, Error, Found, RedisMode, Replies, Server, ServerReplies};

use crate::PATIENCE;
use crate::a_chat;
use crate::client::Client;
use crate::support::redis::Redis;

async fn node(redis: &Redis, mode: RedisMode) -> Server {
    let url = format!("redis://127.0.0.1:{}", redis.port);
    let builder = Server::builder().shards(2).namespace("/", a_chat()).namespace("/chat", a_chat());
    builder.redis(&url, mode).start().await.expect("a free port")
}

/// Each listens when its bus is there.
async fn until_found(whom: Broadcast, count: usize) {
    let finding = async { while whom.fetch_sockets().await.expect("no name").sockets.len() < count {} };
    tokio::time::timeout(PATIENCE, finding).await.expect("in time");
}

/// The ids of what is found, in order, once there are so many.
async fn ids(server: &Server, room: &str, count: usize) -> Vec<String> {
    let finding = async {
        loop {
            let Found { sockets, missing } = server.to(room).fetch_sockets().await.expect("a good name");
            if missing.is_none() && sockets.len() == count {
                break sockets;
            }
            tokio::task::yield_now().await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, finding).await.expect("in time");
    let mut ids: Vec<String> = found.into_iter().map(|socket| socket.id).collect();
    ids.sort();
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_are_found_and_told_what_to_do_wherever_they_are() {
    let redis = Redis::started(&[]);
    let (one, two) = (node(&redis, RedisMode::Classic).await, node(&redis, RedisMode::Classic).await);
    let (mut here, here_id) = Client::enter(one.address(), "/").await;
    let (mut there, there_id) = Client::enter(two.address(), "/").await;
    let mut both = vec![here_id.clone(), there_id.clone()];
    both.sort();
    until_found(one.of("/"), 2).await;

    assert_eq!(one.of("/").sockets_join("r").await, Ok(1), "one is on this node");
    assert_eq!(ids(&one, "r", 2).await, both);
    assert_eq!(ids(&two, "r", 2).await, both);
    one.to("r").emit("e", (1,)).expect("room");
    here.hears(r#"42["e",1]"#).await;
    there.hears(r#"42["e",1]"#).await;

    let found = one.to(&there_id).fetch_sockets().await.expect("a good name");
    let [socket] = &found.sockets[..] else { panic!("{found:?}") };
    let mut rooms = socket.rooms.clone();
    rooms.sort();
    let mut expected = vec![there_id.clone(), "r".to_owned()];
    expected.sort();
    assert_eq!((rooms, socket.data.as_str()), (expected, r#"{"userId":null}"#));

    assert_eq!(two.to(&here_id).sockets_leave("r").await, Ok(0), "nobody is on that node");
    assert_eq!(ids(&two, "r", 1).await, [there_id]);
    assert_eq!(one.to("r").disconnect_sockets(false).await, Ok(0));
    there.hears("41").await;
    assert_eq!(ids(&one, "r", 0).await, [] as [String; 0]);
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_that_a_program_names_are_one_over_all_nodes() {
    let redis = Redis::started(&[]);
    for mode in [RedisMode::Classic, RedisMode::Sharded] {
        let (one, two) = (node(&redis, mode).await, node(&redis, mode).await);
        let (mut elsewhere, _) = Client::enter(two.address(), "/").await;
        let (mut there, there_id) = Client::enter(two.address(), "/chat").await;
        until_found(one.of("/chat"), 1).await;
        one.of("/chat").emit("e", ("all",)).expect("room");
        there.hears(r#"42/chat,["e","all"]"#).await;
        one.of("/chat").to(&there_id).emit("e", ("by id",)).expect("room");
        there.hears(r#"42/chat,["e","by id"]"#).await;

        let (mut here, _) = Client::enter(one.address(), "/chat").await;
        assert_eq!(one.of("/chat").sockets_join("r").await, Ok(1), "one is on this node");
        until_found(two.of("/chat").to("r"), 2).await;
        here.say(r#"42/chat,["join","s"]"#).await;
        until_found(two.of("/chat").to("s"), 1).await;
        two.of("/chat").except("s").emit("e", ("not s",)).expect("room");
        there.hears(r#"42/chat,["e","not s"]"#).await;
        assert_eq!(two.of("/chat").to("s").disconnect_sockets(false).await, Ok(0));
        here.hears("41/chat,").await;
        two.of("/").emit("e", ("the other namespace",)).expect("room");
        elsewhere.hears(r#"42["e","the other namespace"]"#).await;
        one.stop().await;
        two.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_away_nobody_waits_longer_than_he_said_and_what_is_here_is_there() {
    let mut redis = Redis::started(&[]);
    let one = node(&redis, RedisMode::Classic).await;
    let (mut here, _) = Client::enter(one.address(), "/chat").await;
    let nobody = one.server_side_emit_with_ack("load", (), PATIENCE).await;
    assert_eq!(nobody, Ok(ServerReplies::default()), "there is no other server");
    assert!(matches!(one.server_side_emit("connection", ()), Err(Error::Name(_))), "that is a server's own event");

    redis.kill();
    let wait = Duration::from_millis(100);
    assert_eq!(one.server_side_emit_with_ack("load", (), wait).await, Err(Error::Unreachable));
    let chat = one.of("/chat");
    let asking = tokio::spawn(async move { chat.emit_with_ack("q", (), Duration::from_secs(5)).await });
    let asked = here.packet().await;
    let number = asked.trim_start_matches("42/chat,").trim_end_matches(r#"["q"]"#).to_owned();
    here.say(&format!("43/chat,{number}[7]")).await;
    let Replies { given, missing, missing_nodes } = asking.await.expect("no panic").expect("what is here");
    let answers: Vec<(bool, &str)> = given.iter().map(|reply| (reply.socket.is_some(), reply.args.json())).collect();
    assert_eq!((answers, missing), (vec![(true, "7")], 0));
    assert_eq!(missing_nodes.as_deref(), Some("the other members of the cluster could not be asked"));
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_whose_handles_are_dropped_is_gone_from_the_cluster() {
    let redis = Redis::started(&[]);
    let (one, two) = (node(&redis, RedisMode::Classic).await, node(&redis, RedisMode::Classic).await);
    let client = redis::Client::open(format!("redis://127.0.0.1:{}", redis.port)).expect("an address");
    let connection = client.get_multiplexed_async_connection().await.expect("Redis is up");
    let until_there = async |count: usize| {
        let counting = async {
            let mut connection = connection.clone();
            loop {
                let mut count_nodes = redis::cmd("HLEN");
                count_nodes.arg("roomcast:{socket.io}:nodes");
                if count_nodes.query_async::<usize>(&mut connection).await == Ok(count) {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, counting).await.expect("in time");
    };
    until_there(2).await;
    drop(one);
    until_there(1).await;
    two.stop().await;
    until_there(0).await;
}
