//! What changed on this node, on its way into the directory; and the answers to what is told only where no other node has told it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use hub::names::{NamespaceId, RoomName, UserId};
use redis::Pipeline;
use redis::aio::MultiplexedConnection;
use serde::{Deserialize, Serialize};

use super::keys::{self, KEPT_SECS, room_text};
use super::news::{Batch, Change, Claim};
use super::{Ask, Shared};
use crate::presence::Gone;
use crate::redis_link::together;
use crate::supervisor::Stop;

/// News of each kind that are written at once.
const BATCH: usize = 256;

/// A room that presence follows.
type Followed = (NamespaceId, RoomName);

/// A socket as it stands in the directory, and, without what is our own business, at `ws:socket:ID` for operators.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Listed {
    pub(super) socket_id: String,
    /// As JSON of its own type; `null` where it is nobody's.
    pub(super) user_id: serde_json::Value,
    pub(super) node: String,
    /// ISO 8601.
    pub(super) connected_at: String,
    pub(super) rooms: Vec<String>,
    pub(super) namespace: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) claims: Option<String>,
}

/// Writes news for as long as Redis takes them; told to stop, what is left of them.
pub(super) async fn run(
    shared: &Arc<Shared>,
    mut connection: MultiplexedConnection,
    mut stop: Stop,
) -> anyhow::Result<()> {
    let news = &shared.directory.0.news;
    loop {
        let arrived = news.arrived.notified();
        let left = shared.gateway.left.notified();
        if write_next(shared, &mut connection).await? {
            continue;
        }
        if stop.is_requested() {
            return Ok(());
        }
        tokio::select! {
            () = arrived => {}
            () = left => {}
            _ = stop.requested() => {}
        }
    }
}

/// What was taken to be written, and is taken back where that fails or is broken off.
struct Taken<'a> {
    shared: &'a Shared,
    batch: Batch,
    gone: Vec<Gone>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.shared.gateway.presence.put_back_left(std::mem::take(&mut self.gone));
        self.shared.directory.0.news.put_back(std::mem::take(&mut self.batch));
    }
}

/// Writes what comes next. Returns whether there was something.
async fn write_next(shared: &Arc<Shared>, connection: &mut MultiplexedConnection) -> anyhow::Result<bool> {
    let batch = shared.directory.0.news.take(BATCH);
    let gone = shared.gateway.presence.take_left(BATCH);
    if gone.is_empty() && batch.is_none() {
        return Ok(false);
    }
    let mut taken = Taken { shared, batch: batch.unwrap_or_default(), gone };
    let elsewhere = write(shared, connection, &taken.batch, &taken.gone).await?;
    shared.directory.0.news.wrote_gone(std::mem::take(&mut taken.gone), Instant::now());
    let Batch { asks, .. } = std::mem::take(&mut taken.batch);
    for ask in asks {
        if !is_told(shared, &ask, &elsewhere) {
            shared.tell(ask).await;
        }
    }
    Ok(true)
}

/// Writes a batch. Gives what other nodes have written of the users in it: each one's rooms there, of every node that is alive.
async fn write(
    shared: &Shared,
    connection: &mut MultiplexedConnection,
    batch: &Batch,
    gone: &[Gone],
) -> anyhow::Result<HashMap<String, Vec<String>>> {
    let Shared { directory, gateway, .. } = shared;
    let (keys, scripts, name) = (&directory.0.keys, &directory.0.scripts, directory.name());
    let mut pipe = redis::pipe();
    batch.sockets.iter().for_each(|change| write_socket(shared, &name, change, &mut pipe));
    for Claim { user, place: (shard, key), since } in &batch.claims {
        let place = format!("{shard}.{}.{}", key.slot, key.generation);
        match gateway.profile.user.connections.zip(*since) {
            Some((connections, since)) => {
                let mut claim = keys::call(&scripts.claim, keys);
                claim.arg(&**user).arg(&name).arg(place).arg(connections);
                claim.arg(since.elapsed().as_micros() as u64).arg(KEPT_SECS);
                pipe.add_command(claim).ignore();
            }
            None => {
                pipe.zrem(keys.claims(user), format!("{name} {place}")).ignore();
            }
        }
    }
    if !batch.sockets.is_empty() {
        pipe.expire(keys.sockets(&name), KEPT_SECS as i64).ignore();
    }
    let gone_with_rooms = gone.iter().filter_map(|gone| Some((gone.user.id.as_ref()?, gone.rooms.clone())));
    let mut users_gone: HashMap<&UserId, Vec<Followed>> = gone_with_rooms.collect();
    // Where an outage was so long that not everybody who went was remembered, their sockets are.
    for Change { record, .. } in batch.sockets.iter().filter(|change| change.is_gone) {
        let followed = |room: &&RoomName| gateway.profile.rules.remembers_room(record.namespace, room);
        let rooms = record.rooms.iter().filter(followed).map(|room| (record.namespace, room.clone()));
        if let Some(id) = &record.user.id {
            users_gone.entry(id).or_insert_with(|| rooms.collect());
        }
    }
    let grace_ms = gateway.profile.rules.offline_grace().as_millis() as u64;
    for (id, rooms) in users_gone {
        if gateway.presence.rooms_of(id.as_str()).is_none() {
            let rooms: Vec<String> =
                rooms.iter().map(|(namespace, room)| room_text(gateway, *namespace, room)).collect();
            pipe.add_command(user_gone(shared, &name, id, &rooms, grace_ms, 0)).ignore();
        }
    }
    let mut asked: Vec<&str> = Vec::new();
    for user in &batch.users {
        // Who is gone meanwhile stands among those who went.
        let Some(rooms) = gateway.presence.rooms_of(user) else { continue };
        let rooms: Vec<String> = rooms.iter().map(|(namespace, room)| room_text(gateway, *namespace, room)).collect();
        let mut cmd = keys::call(&scripts.write_user, keys);
        cmd.arg(&**user).arg(&name).arg(serde_json::to_string(&rooms)?).arg(KEPT_SECS).arg(0).arg("").arg(0);
        pipe.add_command(cmd);
        asked.push(user);
    }
    let elsewhere: Vec<Vec<String>> = together(&pipe, connection).await?;
    let rooms = |of: Vec<String>| {
        let rooms = of.iter().flat_map(|rooms| serde_json::from_str::<Vec<String>>(rooms).unwrap_or_default());
        (!of.is_empty()).then(|| rooms.collect())
    };
    Ok(asked.into_iter().zip(elsewhere).filter_map(|(user, of)| Some((user.to_owned(), rooms(of)?))).collect())
}

/// Whether another node has told it: the user is there, or is in that room there.
fn is_told(shared: &Shared, ask: &Ask, elsewhere: &HashMap<String, Vec<String>>) -> bool {
    let Some(rooms) = ask.user().and_then(|user| elsewhere.get(user)) else { return false };
    match ask {
        Ask::Online(_) => true,
        Ask::Entered { namespace, room, .. } => rooms.contains(&room_text(&shared.gateway, *namespace, room)),
    }
}

/// A user's last socket on a node went, so long ago: others are told once that is so on all nodes, and has been for `grace_ms` from now.
pub(super) fn user_gone(
    shared: &Shared,
    node: &str,
    id: &UserId,
    rooms: &[String],
    grace_ms: u64,
    ago_ms: u64,
) -> redis::Cmd {
    let directory = &shared.directory.0;
    let mut cmd = keys::call(&directory.scripts.write_user, &directory.keys);
    cmd.arg(id.as_str()).arg(node).arg("").arg(KEPT_SECS).arg(grace_ms).arg(id.to_json()).arg(ago_ms).arg(rooms);
    cmd
}

fn write_socket(shared: &Shared, node: &str, change: &Change, pipe: &mut Pipeline) {
    let (keys, gateway) = (&shared.directory.0.keys, &shared.gateway);
    let Change { record, is_gone, entered, left } = change;
    let id = record.id;
    let of = |room| keys.room(&room_text(gateway, record.namespace, room));
    for room in left {
        pipe.hdel(of(room), id.as_str()).ignore();
    }
    if *is_gone {
        pipe.hdel(keys.sockets(node), id.as_str()).ignore();
        pipe.del(keys.socket(id)).ignore();
        return;
    }
    let user_id = record.user.id.as_ref().map_or_else(|| "null".to_owned(), UserId::to_json);
    for room in entered {
        pipe.hset(of(room), id.as_str(), format!(r#"["{node}",{user_id}]"#)).ignore();
        pipe.expire(of(room), KEPT_SECS as i64).ignore();
    }
    let mut listed = Listed {
        socket_id: id.to_string(),
        user_id: serde_json::from_str(&user_id).unwrap_or_default(),
        node: node.to_owned(),
        connected_at: hub::rules::iso_8601(record.connected_unix_ms),
        rooms: record.rooms.iter().map(ToString::to_string).collect(),
        namespace: gateway.profile.rules.namespace_name(record.namespace).to_owned(),
        claims: None,
    };
    let json = |listed: &Listed| serde_json::to_string(listed).expect("texts and names are JSON");
    pipe.set_ex(keys.socket(id), json(&listed), KEPT_SECS).ignore();
    listed.claims = Some(record.user.claims.to_string());
    pipe.hset(keys.sockets(node), id.as_str(), json(&listed)).ignore();
}
