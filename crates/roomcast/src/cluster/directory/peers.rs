//! The sockets of members of the cluster that are no gateways, and hold no lease: Node's Socket.IO servers. One node asks them now and then, and writes
//! what they say for all.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use hub::names::UserId;
use redis::aio::MultiplexedConnection;
use serde_json::Value;
use tokio::time::{Instant, sleep};
use wire::bus::RemoteSocket;
use wire::bus::broadcast::Scope;

use super::Shared;
use super::tell::user_id;
use super::write::Listed;
use crate::cluster::Whose;
use crate::redis_link::{lost, together};

/// How often they are asked.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// How often it is looked whether they have to be asked before that: somebody is to be told offline, and may be with them by now.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// For how long a node has taken it on to ask, in ms: over two rounds and one that nobody answers.
const TAKEN_MS: u64 = 15_000;

/// How long what they said is good, in seconds.
const GOOD_SECS: i64 = 20;

/// So many rounds in a row may miss an answer until a socket that nobody speaks of is taken for gone: who does not answer may be held up.
const MISSED_MAX: u32 = 3;

/// Rounds in a row that miss an answer, after which health says it: who ends while it is asked makes for one.
const SILENT_AFTER: u32 = 2;

/// What health says of them, after their number.
const SILENT: &str = "of the cluster's members do not answer who is with them, and their users are soon taken for gone";

/// What stands in the place of a node's name.
pub(super) const PEERS: &str = "peers";

/// How long it is believed that there are some: a node that comes is in the directory before it is counted among those who listen.
const BELIEVED: Duration = Duration::from_secs(10);

/// Whether there are some, as far as is known: members that listen, and are no nodes.
pub(super) fn are_there(shared: &Shared) -> bool {
    let members = usize::try_from(shared.gateway.metrics.bus_members.get()).unwrap_or_default();
    let mut seen_at = shared.peers_seen_at.lock();
    if members > shared.directory.0.nodes.names().len() {
        *seen_at = Some(Instant::now());
    }
    seen_at.is_some_and(|at| at.elapsed() < BELIEVED)
}

/// Asks them for as long as there are some: now and then, and when somebody is to be told offline and no round has begun since that is due.
pub(super) async fn ask_on(shared: &Shared, mut connection: MultiplexedConnection) -> anyhow::Result<()> {
    let keys = &shared.directory.0.keys;
    let mut known = Known::default();
    let mut asked_at: Option<Instant> = None;
    tell(shared, None);
    loop {
        sleep(LOOK_EVERY).await;
        if !are_there(shared) {
            (known, asked_at) = (Known::default(), None);
            tell(shared, None);
            continue;
        }
        let own = shared.directory.name();
        let mut pipe = redis::pipe();
        pipe.cmd("SET").arg(keys.peers_asker()).arg(&own).arg("NX").arg("PX").arg(TAKEN_MS).ignore();
        pipe.get(keys.peers_asker());
        pipe.get(keys.peers_asked());
        pipe.cmd("TIME");
        type Answer = (Option<String>, Option<u64>, (u64, u64));
        let (asker, last, (secs, micros)): Answer = pipe.query_async(&mut connection).await.map_err(lost)?;
        if asker.as_deref() != Some(&own) {
            (known, asked_at) = (Known::default(), None);
            tell(shared, None);
            continue;
        }
        let now = secs * 1_000 + micros / 1_000;
        if asked_at.is_some_and(|at| at.elapsed() < ASK_EVERY) {
            let mut due = redis::cmd("ZCOUNT");
            due.arg(keys.owed()).arg(format!("({}", last.unwrap_or_default())).arg(now);
            let due: usize = due.query_async(&mut connection).await.map_err(lost)?;
            if due == 0 {
                continue;
            }
        }
        asked_at = Some(Instant::now());
        ask(shared, &mut connection, &mut known, now).await?;
        // Whoever is still owed is told of now.
        shared.directory.0.nodes.look_now();
    }
}

/// Asks once, and writes what they say. The round began at `now`, by the clock of Redis in ms.
async fn ask(
    shared: &Shared,
    connection: &mut MultiplexedConnection,
    known: &mut Known,
    now: u64,
) -> anyhow::Result<()> {
    let (keys, gateway) = (&shared.directory.0.keys, &shared.gateway);
    let Some(bus) = gateway.publisher.bus() else { return Ok(()) };
    // All at once: where somebody does not answer, each takes as long as an answer may.
    let asking = gateway.profile.rules.namespace_ids().into_iter().map(|namespace| async move {
        (namespace, bus.fetch_sockets(namespace, Scope::default(), Whose::Peers).await)
    });
    let (mut found, mut silent) = (BTreeMap::new(), 0);
    for (namespace, answer) in join_all(asking).await {
        let sockets = match answer {
            Ok(sockets) => sockets,
            Err(unanswered) => {
                // Nobody could be asked: what they said last is good for its time.
                let Some(others) = unanswered.others else { return Ok(()) };
                silent = silent.max(others.saturating_sub(unanswered.answered));
                unanswered.so_far
            }
        };
        for socket in sockets {
            let listed = listed(&socket, gateway.profile.rules.namespace_name(namespace));
            let user = user_id(&listed.user_id).map(|id| id.as_str().to_owned());
            found.insert(socket.id, Peer { user, listed: serde_json::to_string(&listed)?, missed: 0 });
        }
    }
    known.hear(found, silent);
    tell(shared, (known.silent_rounds >= SILENT_AFTER).then_some(silent));
    let users: BTreeSet<&String> = known.sockets.values().filter_map(|peer| peer.user.as_ref()).collect();
    let mut pipe = redis::pipe();
    pipe.atomic().del(&[keys.sockets(PEERS), keys.peers_users()]).ignore();
    if !known.sockets.is_empty() {
        let fields: Vec<(&String, &String)> = known.sockets.iter().map(|(id, peer)| (id, &peer.listed)).collect();
        pipe.hset_multiple(keys.sockets(PEERS), &fields).ignore();
        pipe.expire(keys.sockets(PEERS), GOOD_SECS).ignore();
    }
    if !users.is_empty() {
        pipe.sadd(keys.peers_users(), users.into_iter().collect::<Vec<_>>()).ignore();
        pipe.expire(keys.peers_users(), GOOD_SECS).ignore();
    }
    pipe.set_ex(keys.peers_asked(), now, GOOD_SECS as u64).ignore();
    pipe.pexpire(keys.peers_asker(), TAKEN_MS as i64).ignore();
    together(&pipe, connection).await
}

/// What they said. Bound: what the answers of one round may be, and of those before it that are not yet forgotten.
#[derive(Default)]
struct Known {
    sockets: BTreeMap<String, Peer>,
    /// Rounds in a row that missed an answer.
    silent_rounds: u32,
}

/// A socket of theirs.
struct Peer {
    user: Option<String>,
    /// As it stands in the directory.
    listed: String,
    /// Rounds in a row in which nobody spoke of it.
    missed: u32,
}

impl Known {
    /// A round is over, in which so many were silent. Whose a socket was is not told: while somebody is silent, one that is not spoken of may be theirs.
    fn hear(&mut self, found: BTreeMap<String, Peer>, silent: usize) {
        let before = std::mem::replace(&mut self.sockets, found);
        if silent == 0 {
            self.silent_rounds = 0;
            return;
        }
        self.silent_rounds += 1;
        for (id, peer) in before {
            let missed = peer.missed + 1;
            if missed <= MISSED_MAX {
                self.sockets.entry(id).or_insert(Peer { missed, ..peer });
            }
        }
    }
}

/// Has health say how many are silent.
fn tell(shared: &Shared, silent: Option<usize>) {
    let concern = silent.map(|silent| format!("{silent} {SILENT}"));
    let is_news = shared.concerns.send_if_modified(|told| {
        let (mine, mut now): (Vec<String>, Vec<String>) = told.drain(..).partition(|told| told.ends_with(SILENT));
        now.extend(concern.clone());
        *told = now;
        mine.first() != concern.as_ref()
    });
    if let Some(concern) = concern.filter(|_| is_news) {
        tracing::warn!("{concern}");
    }
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
    fn who_is_silent_for_a_while_is_still_there() {
        let mut known = Known::default();
        let mut check = |heard: &[&str], silent, expected: &[&str]| {
            let peer = || Peer { user: None, listed: String::new(), missed: 0 };
            known.hear(heard.iter().map(|id| ((*id).to_owned(), peer())).collect(), silent);
            assert_eq!(known.sockets.keys().collect::<Vec<_>>(), expected);
        };
        check(&["a", "b"], 0, &["a", "b"]);
        (0..MISSED_MAX).for_each(|_| check(&["b"], 1, &["a", "b"]));
        check(&["b"], 1, &["b"]);
        check(&["a", "b"], 0, &["a", "b"]);
        check(&["b"], 1, &["a", "b"]);
        check(&["a", "b"], 1, &["a", "b"]);
        (0..MISSED_MAX).for_each(|_| check(&[], 1, &["a", "b"]));
        check(&["c"], 0, &["c"]);
        assert_eq!(known.silent_rounds, 0);
    }

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
