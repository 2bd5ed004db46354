//! The gateway as the rest of the process sees it: publish, ask, disconnect. Knows neither HTTP nor brokers.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hub::emission::Emission;
use hub::names::{NamespaceId, RoomName, UserId};
use hub::profile::Profile;
use hub::rules::KindId;
use hub::sockets::user_room;
use serde_json::{Map, Value};
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use crate::acks::Acks;
use crate::cluster::Directory;
use crate::cluster::directory::Elsewhere;
use crate::fanout::{Done, Publisher};
use crate::metrics::Metrics;
use crate::namespaces::Namespaces;
use crate::presence::{Presence, Seen};
use crate::shard::inbox::{Member, Message, Numbers, Query, Whom};

/// How long whoever publishes waits for the way to the other nodes, once this node's members have the event.
const ELSEWHERE_MAX: Duration = Duration::from_secs(1);

/// A handle to the running gateway. Cheap to clone; usable from any runtime.
#[derive(Clone)]
pub struct Gateway {
    /// What the gateway runs.
    pub profile: Arc<Profile>,
    /// The way to the shards.
    pub publisher: Publisher,
    /// Who is online.
    pub presence: Arc<Presence>,
    /// The process's metrics.
    pub metrics: Arc<Metrics>,
    /// Answers that clients owe to the program.
    pub acks: Arc<Acks>,
    /// Namespaces that the program has opened.
    pub namespaces: Arc<Namespaces>,
    /// Who is here in the whole cluster, where there is one.
    pub directory: Option<Directory>,
    /// Rung when a user's last socket went, for whoever tells others once the grace is over.
    pub left: Arc<Notify>,
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("profile", &self.profile.service.name).finish_non_exhaustive()
    }
}

impl Gateway {
    /// Publishes and waits until every local member has it sent or queued; the number of members reached in this process. The way to the other nodes is waited
    /// for, too, but not for long: what is on it stays on it.
    pub async fn publish(&self, emissions: Vec<Emission>) -> usize {
        // Whoever asked may have gone; the event is delivered all the same.
        let (sender, elsewhere) = oneshot::channel();
        let taken = Done::new(move |_| sender.send(()).unwrap_or_default());
        let (sender, here) = oneshot::channel();
        let done = Done::here(
            move |delivered| {
                let _ = sender.send(delivered);
            },
            taken,
        );
        self.publisher.publish(emissions, Some(done)).await;
        let delivered = here.await.unwrap_or(0);
        let _ = timeout(ELSEWHERE_MAX, elsewhere).await;
        delivered
    }

    /// Every room of these namespaces in the whole cluster with its number of members, those of one name counted together.
    pub async fn rooms(&self, namespaces: &[NamespaceId]) -> BTreeMap<String, usize> {
        let mut rooms = BTreeMap::new();
        for part in self.ask(Query::Rooms).await {
            for (of, room, members) in part {
                if namespaces.contains(&of) {
                    *rooms.entry(room.to_string()).or_default() += members;
                }
            }
        }
        if let Some(directory) = &self.directory {
            let elsewhere = |socket: Elsewhere<'_>| {
                let is_meant =
                    self.profile.rules.namespace(socket.namespace).is_some_and(|of| namespaces.contains(&of));
                for room in socket.rooms.iter().filter(|_| is_meant) {
                    *rooms.entry(room.clone()).or_default() += 1;
                }
            };
            directory.walk(elsewhere).await;
        }
        rooms
    }

    /// The members of a room, in the whole cluster.
    pub async fn room(&self, namespace: NamespaceId, room: &RoomName) -> Vec<Member> {
        let mut members = self.ask(|reply| Query::Room(namespace, room.clone(), reply)).await.concat();
        if let Some(directory) = &self.directory {
            members.extend(directory.members(self, namespace, room).await);
        }
        members
    }

    /// The numbers of all shards together.
    pub async fn numbers(&self) -> Numbers {
        self.ask(Query::Numbers).await.into_iter().fold(Numbers::default(), |sum, part| Numbers {
            connections: sum.connections + part.connections,
            sockets: sum.sockets + part.sockets,
            queued_bytes: sum.queued_bytes + part.queued_bytes,
            to_drain: sum.to_drain + part.to_drain,
            farewells: sum.farewells + part.farewells,
        })
    }

    /// Brings the gauges that nobody keeps up while events pass up to date.
    pub async fn refresh_gauges(&self) {
        let numbers = self.numbers().await;
        self.metrics.rooms.set(self.publisher.interest().rooms() as i64);
        self.metrics.queued_bytes.set(numbers.queued_bytes as i64);
        for (condition, times) in self.profile.rules.errors() {
            self.metrics.condition_errors.raise_to(&condition, times);
        }
        let waiting: usize = self.publisher.inboxes().iter().map(crate::shard::inbox::Inbox::used_bytes).sum();
        self.metrics.inbox_bytes.set(waiting as i64);
    }

    /// The users that are connected to any node, each once: an id is the same as text and as integer.
    pub async fn users(&self) -> Vec<UserId> {
        let mut users = self.ask(Query::Users).await.concat();
        if let Some(directory) = &self.directory {
            directory.walk(|socket| users.extend(socket.user)).await;
        }
        users.sort();
        users.dedup_by(|one, other| one.as_str() == other.as_str());
        users
    }

    /// The number of sockets in a namespace.
    pub async fn sockets_in(&self, namespace: NamespaceId) -> usize {
        self.ask(|reply| Query::InNamespace(namespace, reply)).await.into_iter().sum()
    }

    /// How many rooms of a kind there are, and how many sockets in them, each counted once.
    pub async fn of_kind(&self, kind: KindId) -> (usize, usize) {
        let (mut rooms, mut members) = (HashSet::new(), 0);
        for (of_shard, in_shard) in self.ask(|reply| Query::OfKind(kind, reply)).await {
            rooms.extend(of_shard);
            members += in_shard;
        }
        (rooms.len(), members)
    }

    /// Whether a user is online on any node, and when last seen.
    pub async fn seen(&self, user_id: &str) -> Seen {
        self.all_seen(&[user_id.to_owned()]).await.pop().unwrap_or_default()
    }

    /// The same of several, in their order.
    pub async fn all_seen(&self, user_ids: &[String]) -> Vec<Seen> {
        let here: Vec<Seen> = user_ids.iter().map(|id| self.presence.seen(id)).collect();
        let Some(directory) = &self.directory else { return here };
        if here.iter().all(|seen| seen.online) {
            return here;
        }
        let elsewhere = directory.seen(user_ids).await;
        here.into_iter().zip(elsewhere).map(|(here, elsewhere)| here.or(elsewhere)).collect()
    }

    /// `{id: {online, lastSeen}}`, each user once.
    pub async fn presence_of(&self, user_ids: &[String], now_unix_ms: u64) -> Value {
        let seen = self.all_seen(user_ids).await;
        user_ids
            .iter()
            .cloned()
            .zip(seen)
            .map(|(id, seen)| (id, seen.document(now_unix_ms)))
            .collect::<Map<_, _>>()
            .into()
    }

    /// Disconnects for good, on the other nodes of the cluster, too; the number of connections that were ended on this one.
    pub async fn disconnect(&self, whom: Whom) -> usize {
        if let Some(bus) = self.publisher.bus() {
            let room = match &whom {
                Whom::User(id) => UserId::from_text(id).ok().and_then(|id| user_room(&id)).map(|room| room.to_string()),
                Whom::Socket(id) => Some(id.to_string()),
            };
            if let Some(room) = room {
                for (namespace, _) in self.namespaces.lasting() {
                    bus.disconnect(namespace, vec![room.clone()]);
                }
            }
        }
        self.ask(|reply| Query::Disconnect(whom.clone(), reply)).await.into_iter().sum()
    }

    /// Asks every shard. A shard that is gone (the process is ending) gives no answer.
    pub(crate) async fn ask<T>(&self, query: impl Fn(oneshot::Sender<T>) -> Query) -> Vec<T> {
        let mut answers = Vec::new();
        for inbox in self.publisher.inboxes() {
            let (sender, receiver) = oneshot::channel();
            inbox.send(Message::Query(query(sender)));
            answers.push(receiver);
        }
        futures_util::future::join_all(answers).await.into_iter().filter_map(Result::ok).collect()
    }
}
