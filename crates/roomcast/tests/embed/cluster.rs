//! Two programs on one Redis: what one does with sockets is done with those of the other, too.

use roomcast::embed::{Broadcast, Found, RedisMode, Server};

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
