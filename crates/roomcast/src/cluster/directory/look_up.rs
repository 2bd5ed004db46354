//! What the directory says of the other nodes. Asks Redis, and no node; where Redis is away or silent, nothing is known of them.

use std::collections::HashMap;
use std::time::Duration;

use hub::names::{NamespaceId, RoomName, SocketId, UserId};
use redis::aio::MultiplexedConnection;
use tokio::time::timeout;

use super::Directory;
use super::keys::{self, room_text};
use super::peers::PEERS;
use super::tell::user_id;
use super::write::Listed;
use crate::gateway::Gateway;
use crate::presence::Seen;
use crate::shard::inbox::Member;

/// How long whoever asks waits for Redis.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Sockets that are read at once.
const SLICE: usize = 1_000;

impl Directory {
    /// A connection to ask, and the names of the other nodes; `None` while there is none of them or Redis is away.
    fn others(&self) -> Option<(MultiplexedConnection, Vec<String>)> {
        let connection = self.0.connection.read().clone()?;
        let own = self.name();
        let others: Vec<String> = self.0.nodes.names().into_iter().filter(|name| *name != own).collect();
        Some((connection, others))
    }

    /// What the other nodes know of these users, in their order.
    pub async fn seen(&self, users: &[String]) -> Vec<Seen> {
        let nothing = || vec![Seen::default(); users.len()];
        let Some(mut connection) = self.0.connection.read().clone() else { return nothing() };
        let mut ask = keys::call(&self.0.scripts.seen, &self.0.keys);
        ask.arg(self.name()).arg(users);
        let asking = ask.query_async::<Vec<(u8, String)>>(&mut connection);
        let Ok(Ok(answers)) = timeout(ANSWER_MAX, asking).await else { return nothing() };
        let of = |(is_there, at): (u8, String)| {
            let online = is_there == 1;
            Seen { online, last_seen_unix_ms: at.parse().ok().filter(|_| !online) }
        };
        answers.into_iter().map(of).collect()
    }

    /// The members of a room on the other nodes.
    pub async fn members(&self, gateway: &Gateway, namespace: NamespaceId, room: &RoomName) -> Vec<Member> {
        let Some((mut connection, others)) = self.others() else { return Vec::new() };
        let mut found = Vec::new();
        let peers = self.0.keys.sockets(PEERS);
        let name = gateway.profile.rules.namespace_name(namespace);
        let is_in = |socket: &Listed| socket.namespace == name && socket.rooms.iter().any(|of| of == room.as_str());
        walk_over(&mut connection, &peers, &mut |socket| {
            if let Some(socket_id) = SocketId::parse(&socket.socket_id).filter(|_| is_in(socket)) {
                found.push(Member { socket_id, user_id: user_id(&socket.user_id) });
            }
        })
        .await;
        let mut all = redis::cmd("HGETALL");
        all.arg(self.0.keys.room(&room_text(gateway, namespace, room)));
        let asking = all.query_async::<HashMap<String, String>>(&mut connection);
        let Ok(Ok(members)) = timeout(ANSWER_MAX, asking).await else { return found };
        let member = |(id, of): (String, String)| {
            let (node, user): (String, serde_json::Value) = serde_json::from_str(&of).ok()?;
            let socket_id = SocketId::parse(&id).filter(|_| others.contains(&node))?;
            Some(Member { socket_id, user_id: user_id(&user) })
        };
        found.extend(members.into_iter().filter_map(member));
        found
    }

    /// Walks over the sockets of the other nodes.
    pub async fn walk(&self, mut each: impl FnMut(Elsewhere<'_>)) {
        let Some((mut connection, others)) = self.others() else { return };
        for node in others.iter().map(String::as_str).chain([PEERS]) {
            let mut each = |socket: &Listed| {
                each(Elsewhere { user: user_id(&socket.user_id), namespace: &socket.namespace, rooms: &socket.rooms });
            };
            walk_over(&mut connection, &self.0.keys.sockets(node), &mut each).await;
        }
    }
}

/// Walks over the sockets of a node that stand at this key, as far as Redis answers.
async fn walk_over(connection: &mut MultiplexedConnection, key: &str, each: &mut impl FnMut(&Listed)) {
    let mut cursor = 0_u64;
    loop {
        let mut scan = redis::cmd("HSCAN");
        scan.arg(key).arg(cursor).arg("COUNT").arg(SLICE);
        let asking = scan.query_async::<(u64, Vec<(String, String)>)>(connection);
        let Ok(Ok((next, slice))) = timeout(ANSWER_MAX, asking).await else { return };
        for (_, listed) in &slice {
            if let Ok(listed) = serde_json::from_str(listed) {
                each(&listed);
            }
        }
        cursor = next;
        if cursor == 0 {
            return;
        }
    }
}

/// A socket of another node.
#[derive(Debug)]
pub struct Elsewhere<'a> {
    /// Who it is, unless anonymous.
    pub user: Option<UserId>,
    /// Its namespace.
    pub namespace: &'a str,
    /// The rooms that it is in.
    pub rooms: &'a [String],
}
