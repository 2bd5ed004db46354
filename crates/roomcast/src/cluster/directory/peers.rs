//! The sockets of members of the cluster that are no gateways, and hold no lease: Node's Socket.IO servers. One node asks them now and then, and writes
//! what they say for all.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hub::names::UserId;
use redis::aio::MultiplexedConnection;
use serde_json::Value;
use tokio::time::sleep;
use wire::bus::RemoteSocket;
use wire::bus::broadcast::Scope;

use super::Shared;
use super::tell::user_id;
use super::write::Listed;
use crate::cluster::Whose;
use crate::redis_link::lost;

/// How often they are asked.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// For how long a node has taken it on to ask, in ms: over two rounds and one that nobody answers.
const TAKEN_MS: u64 = 15_000;

/// How long what they said is good, in seconds.
const GOOD_SECS: i64 = 20;

/// What stands in the place of a node's name.
pub(super) const PEERS: &str = "peers";

/// Asks them for as long as there are some.
pub(super) async fn ask_on(shared: &Shared, mut connection: MultiplexedConnection) -> anyhow::Result<()> {
    let keys = &shared.directory.0.keys;
    loop {
        sleep(ASK_EVERY).await;
        let members = usize::try_from(shared.gateway.metrics.bus_members.get()).unwrap_or_default();
        if members <= shared.directory.0.nodes.names().len() {
            continue;
        }
        let own = shared.directory.name();
        let mut pipe = redis::pipe();
        pipe.cmd("SET").arg(keys.peers_asker()).arg(&own).arg("NX").arg("PX").arg(TAKEN_MS).ignore();
        pipe.get(keys.peers_asker());
        let (asker,): (Option<String>,) = pipe.query_async(&mut connection).await.map_err(lost)?;
        if asker.as_deref() == Some(&own) {
            ask(shared, &mut connection).await?;
        }
    }
}

async fn ask(shared: &Shared, connection: &mut MultiplexedConnection) -> anyhow::Result<()> {
    let (keys, gateway) = (&shared.directory.0.keys, &shared.gateway);
    let Some(bus) = gateway.publisher.bus() else { return Ok(()) };
    let (mut sockets, mut users) = (BTreeMap::new(), BTreeSet::new());
    for namespace in gateway.profile.rules.namespace_ids() {
        let answer = bus.fetch_sockets(namespace, Scope::default(), Whose::Peers).await;
        // Who does not answer is left out: what the others say is still right.
        let found = answer.unwrap_or_else(|unanswered| unanswered.so_far);
        for socket in found {
            let listed = listed(&socket, gateway.profile.rules.namespace_name(namespace));
            if let Some(id) = user_id(&listed.user_id) {
                users.insert(id.as_str().to_owned());
            }
            sockets.insert(socket.id, serde_json::to_string(&listed)?);
        }
    }
    let mut pipe = redis::pipe();
    pipe.atomic().del(&[keys.sockets(PEERS), keys.peers_users()]).ignore();
    if !sockets.is_empty() {
        let fields: Vec<(&String, &String)> = sockets.iter().collect();
        pipe.hset_multiple(keys.sockets(PEERS), &fields).ignore();
        pipe.expire(keys.sockets(PEERS), GOOD_SECS).ignore();
    }
    if !users.is_empty() {
        pipe.sadd(keys.peers_users(), users.iter().collect::<Vec<_>>()).ignore();
        pipe.expire(keys.peers_users(), GOOD_SECS).ignore();
    }
    pipe.pexpire(keys.peers_asker(), TAKEN_MS as i64).ignore();
    pipe.query_async::<()>(connection).await.map_err(lost)
}

/// A socket as it stands in the directory. Its user is what its server has put into its `data`, or whose room it is in.
fn listed(socket: &RemoteSocket, namespace: &str) -> Listed {
    let data: Value = serde_json::from_str(&socket.data).unwrap_or_default();
    let said = ["/userId", "/user/id", "/user/userId"].iter().find_map(|path| data.pointer(path));
    let of_room = || {
        let id = socket.rooms.iter().find_map(|room| room.strip_prefix("user:"))?;
        UserId::from_text(id).ok()
    };
    let user = said.and_then(user_id).or_else(of_room);
    Listed {
        socket_id: socket.id.clone(),
        user_id: user.and_then(|id| serde_json::from_str(&id.to_json()).ok()).unwrap_or_default(),
        node: PEERS.to_owned(),
        connected_at: String::new(),
        rooms: socket.rooms.iter().filter(|room| **room != socket.id).cloned().collect(),
        namespace: namespace.to_owned(),
        claims: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_is_in_the_data_or_in_the_rooms() {
        let of = |data: &str, rooms: &[&str]| {
            let rooms = rooms.iter().map(ToString::to_string).collect();
            let socket = RemoteSocket { id: "id".to_owned(), rooms, data: data.to_owned(), handshake: "{}".to_owned() };
            let Listed { user_id, rooms, .. } = listed(&socket, "/");
            (user_id.to_string(), rooms)
        };
        let rooms = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(of(r#"{"userId":7}"#, &["id", "a"]), ("7".to_owned(), rooms(&["a"])));
        assert_eq!(of(r#"{"user":{"id":"x"}}"#, &["user:y"]), (r#""x""#.to_owned(), rooms(&["user:y"])));
        assert_eq!(of("{}", &["id", "user:y"]), (r#""y""#.to_owned(), rooms(&["user:y"])));
        assert_eq!(of("no JSON", &["id"]), ("null".to_owned(), rooms(&[])));
    }
}
