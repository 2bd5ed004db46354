//! What is told of those who are gone, whichever node they were on: of the sockets of a node that died, and of users who are on no node any more. It
//! is told at least once: who takes it on and dies has it told by another.

use std::collections::HashMap;

use hub::emission::Emission;
use hub::names::{RoomName, SocketId, UserId};
use hub::rules::{Effect, Facts, FreshId, NewId, Presence as PresenceFacts, User};
use redis::Pipeline;
use redis::aio::MultiplexedConnection;

use super::Shared;
use super::keys::{self, LEASE_MS, room_of, room_text};
use super::write::{Listed, user_gone};
use crate::redis_link::{lost, together};

/// Sockets, or users, that are told of at once.
const SLICE: usize = 256;

/// How long a node has for a slice, in ms; after that another takes the whole over.
const TAKEN_MS: u64 = 10_000;

/// How long it is known that others were told that a node is gone, in seconds.
const REAPED_SECS: u64 = 60 * 60;

/// How long those have to be found elsewhere who were on a node that died, in ms: they are long gone from there.
const MOVED_MS: u64 = 1_000;

/// The users of a slice, each with the rooms that presence follows.
type Users = HashMap<UserId, Vec<String>>;

/// Tells others what the sockets of a dead node left, where nobody else does, and cleans up.
pub(super) async fn node_gone(
    shared: &Shared,
    connection: &mut MultiplexedConnection,
    dead: &str,
) -> anyhow::Result<()> {
    let keys = &shared.directory.0.keys;
    let (mut cursor, mut sockets) = (0_u64, 0);
    loop {
        if !take_on(shared, connection, dead).await? {
            return Ok(());
        }
        let mut scan = redis::cmd("HSCAN");
        scan.arg(keys.sockets(dead)).arg(cursor).arg("COUNT").arg(SLICE);
        let slice: Vec<(String, String)>;
        (cursor, slice) = scan.query_async(connection).await.map_err(lost)?;
        sockets += slice.len();
        slice_gone(shared, connection, dead, slice).await?;
        if cursor == 0 {
            break;
        }
    }
    let mut pipe = redis::pipe();
    pipe.atomic().set_ex(keys.reaped(dead), 1, REAPED_SECS).ignore();
    pipe.hdel(keys.nodes(), dead).ignore();
    pipe.del(&[keys.sockets(dead), keys.kicks(dead), keys.reaper(dead)]).ignore();
    together::<()>(&pipe, connection).await?;
    shared.gateway.metrics.nodes_lost.inc();
    tracing::warn!(node = dead, sockets, "a node of the cluster is gone: what it left was told for it");
    Ok(())
}

/// Whether it is for this node to tell.
async fn take_on(shared: &Shared, connection: &mut MultiplexedConnection, dead: &str) -> anyhow::Result<bool> {
    let directory = &shared.directory.0;
    let mut take = keys::call(&directory.scripts.take_reaping, &directory.keys);
    take.arg(dead).arg(shared.directory.name()).arg(TAKEN_MS);
    take.query_async(connection).await.map_err(lost)
}

async fn slice_gone(
    shared: &Shared,
    connection: &mut MultiplexedConnection,
    dead: &str,
    slice: Vec<(String, String)>,
) -> anyhow::Result<()> {
    let keys = &shared.directory.0.keys;
    let mut users = Users::new();
    let mut pipe = redis::pipe();
    for (id, listed) in slice {
        if let (Some(socket), Ok(listed)) = (SocketId::parse(&id), serde_json::from_str(&listed)) {
            let emissions = socket_gone(shared, socket, &listed, &mut users, &mut pipe);
            shared.gateway.publisher.publish(emissions, None).await;
        }
        pipe.hdel(keys.sockets(dead), id).ignore();
    }
    let mut of_users = redis::pipe();
    for (id, rooms) in &users {
        of_users.add_command(user_gone(shared, dead, id, rooms, MOVED_MS, LEASE_MS)).ignore();
    }
    // Before their sockets are forgotten, so that whoever has to go on from here finds them once more.
    together::<()>(&of_users, connection).await?;
    together(&pipe, connection).await
}

/// What others are told of the end of a socket, which is taken out of its rooms.
fn socket_gone(
    shared: &Shared,
    socket: SocketId,
    listed: &Listed,
    users: &mut Users,
    pipe: &mut Pipeline,
) -> Vec<Emission> {
    let (gateway, keys) = (&shared.gateway, &shared.directory.0.keys);
    let rules = &gateway.profile.rules;
    pipe.del(keys.socket(socket)).ignore();
    let Some(namespace) = rules.namespace(&listed.namespace) else { return Vec::new() };
    let id = user_id(&listed.user_id);
    let claims = listed.claims.clone().unwrap_or_else(|| "{}".to_owned());
    let user = User { id: id.clone(), claims: claims.into() };
    let make = crate::shard::clock::new_id;
    let fresh = FreshId::new(&make);
    let facts =
        Facts { now_unix_ms: super::unix_ms(), new_id: NewId::Fresh(&fresh), socket: Some(socket), user: &user };
    let rooms: Vec<RoomName> = listed.rooms.iter().filter_map(|room| RoomName::parse(room).ok()).collect();
    let mut emissions = Vec::new();
    for room in &rooms {
        pipe.hdel(keys.room(&room_text(gateway, namespace, room)), socket.as_str()).ignore();
        emissions.extend(rules.on_leave(namespace, room, &facts).into_iter().filter_map(|effect| match effect {
            Effect::Emit(emission) => Some(emission),
            Effect::ToSelf { .. } | Effect::Ack { .. } | Effect::Failed { .. } => None,
        }));
    }
    if let Some(id) = id {
        let followed = rooms.iter().filter(|room| rules.remembers_room(namespace, room));
        users.entry(id).or_default().extend(followed.map(|room| room_text(gateway, namespace, room)));
    }
    emissions
}

pub(super) fn user_id(json: &serde_json::Value) -> Option<UserId> {
    match json {
        serde_json::Value::String(text) => UserId::from_text(text).ok(),
        serde_json::Value::Number(number) => number.as_i128().map(UserId::from_integer),
        _ => None,
    }
}

/// Tells others of users who are on no node any more.
pub(super) async fn users_gone(shared: &Shared, connection: &mut MultiplexedConnection) -> anyhow::Result<()> {
    let Shared { directory, gateway, .. } = shared;
    type Due = (String, String, HashMap<String, String>, String);
    loop {
        let mut settle = keys::call(&directory.0.scripts.settle, &directory.0.keys);
        settle.arg(SLICE).arg(u8::from(super::peers::are_there(shared)));
        let due: Vec<Due> = settle.query_async(connection).await.map_err(lost)?;
        let count = due.len();
        let mut pipe = redis::pipe();
        for (user, score, left, seen) in due {
            // Who is here again, and not written yet, will be taken off the list for that.
            if gateway.presence.rooms_of(&user).is_some() {
                continue;
            }
            let id = left.get("").and_then(|id| serde_json::from_str(id).ok()).and_then(|id| user_id(&id));
            if let Some(id) = id {
                let last_seen_unix_ms = seen.parse().unwrap_or_else(|_| super::unix_ms());
                tell_offline(shared, &id, &left, last_seen_unix_ms).await;
            }
            let mut settled = keys::call(&directory.0.scripts.settled, &directory.0.keys);
            settled.arg(user).arg(score);
            pipe.add_command(settled).ignore();
        }
        together::<()>(&pipe, connection).await?;
        if count < SLICE {
            return Ok(());
        }
    }
}

async fn tell_offline(shared: &Shared, id: &UserId, left: &HashMap<String, String>, last_seen_unix_ms: u64) {
    let gateway = &shared.gateway;
    let rules = &gateway.profile.rules;
    let grace_ms = rules.offline_grace().as_millis() as u64;
    let when = |at: &String| at.parse::<u64>().unwrap_or(last_seen_unix_ms);
    let rooms: Vec<_> = left
        .iter()
        .filter(|(room, at)| !room.is_empty() && when(at).saturating_add(grace_ms) >= last_seen_unix_ms)
        .filter_map(|(room, _)| room_of(gateway, room))
        .collect();
    let facts = PresenceFacts { id, rooms: &rooms, last_seen_unix_ms, now_unix_ms: super::unix_ms() };
    gateway.publisher.publish(rules.on_user_offline(&facts), None).await;
}
