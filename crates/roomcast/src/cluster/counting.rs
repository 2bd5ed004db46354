//! How many members the cluster has, and whether all of them speak alike: each server of Redis knows of its own connections alone, so that in a Redis Cluster all are asked.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use hub::profile::RedisMode;
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use tokio::time::{Instant, sleep, timeout};

use super::Shared;
use super::dialect::{self, Channels};
use super::wires::Wires;
use crate::redis_link::{NodeAddress, Topology, lost};
use crate::supervisor::Fault;

/// How often the members of the cluster are counted.
const COUNT_EVERY: Duration = Duration::from_secs(3);

/// How long a member that was there before an outage is waited for after it, and how often it is looked for.
const BACK_MAX: Duration = Duration::from_secs(3);
const BACK_EVERY: Duration = Duration::from_millis(50);

/// How long a server of a Redis Cluster that no event depends on may take to connect, or to answer.
const OTHER_MAX: Duration = Duration::from_secs(1);

/// Counts for one session.
pub(super) struct Counting<'a> {
    shared: &'a Shared,
    wires: Wires,
    /// The servers of a Redis Cluster to which no wire leads: members may be there, too.
    others: Mutex<HashMap<NodeAddress, MultiplexedConnection>>,
    /// Redis does not let this node count.
    is_refused: AtomicBool,
}

impl<'a> Counting<'a> {
    pub(super) fn new(shared: &'a Shared, wires: Wires) -> Self {
        Self { shared, wires, others: Mutex::default(), is_refused: AtomicBool::new(false) }
    }

    /// Connects to the servers of a Redis Cluster to which no wire leads, as far as they are there.
    pub(super) async fn find_others(&self) {
        if let Some(topology) = self.wires.topology() {
            self.follow(topology).await;
        }
    }

    /// Knows how many members there are, and whether the Redis Cluster is as it was.
    ///
    /// # Errors
    /// The connection was lost, or the channels are elsewhere by now.
    pub(super) async fn run(&self, concerns: Vec<String>) -> anyhow::Result<()> {
        // Right after an outage others are on their way back.
        let mut at_least = self.shared.members.load(Ordering::Relaxed);
        loop {
            let mut concerns = concerns.clone();
            concerns.extend(self.look().await?);
            let members = self.members().await?.max(std::mem::take(&mut at_least));
            self.shared.members.store(members, Ordering::Relaxed);
            let is_refused = self.is_refused.load(Ordering::Relaxed);
            self.shared.gateway.metrics.bus_members.set(if is_refused { 0 } else { members as i64 });
            if is_refused {
                concerns.push(dialect::uncounted(self.shared.mode()).to_owned());
            }
            concerns.extend(self.strangers().await);
            self.shared.concerns.send_if_modified(|told| {
                let has_changed = *told != concerns;
                *told = concerns;
                has_changed
            });
            sleep(COUNT_EVERY).await;
        }
    }

    /// After an outage others are on their way back, too, and Redis keeps nothing for them.
    ///
    /// # Errors
    /// The connection was lost.
    pub(super) async fn wait_for_others(&self) -> anyhow::Result<()> {
        let before = self.shared.members();
        let until = Instant::now() + BACK_MAX;
        while self.members().await? < before && Instant::now() < until {
            sleep(BACK_EVERY).await;
        }
        Ok(())
    }

    /// Those that listen to the requests of a namespace.
    ///
    /// # Errors
    /// The connection was lost.
    pub(super) async fn members_of(&self, requests: &str) -> anyhow::Result<usize> {
        self.listeners(self.shared.mode(), requests).await
    }

    /// The members that listen, this one included: in whichever namespace most do, since a Node server may have only some of ours.
    async fn members(&self) -> anyhow::Result<usize> {
        let mut members = 1;
        for Channels { requests, .. } in &self.shared.channels {
            members = members.max(self.members_of(requests).await?);
        }
        Ok(members)
    }

    /// What is wrong where somebody in this cluster speaks the other format.
    async fn strangers(&self) -> Option<String> {
        let (mode, channel) = dialect::other(self.shared)?;
        // A Redis that knows of no such channels has nobody there, and who may not ask is not told.
        let strangers = self.listeners(mode, &channel).await.ok()?;
        (strangers > 0).then(|| dialect::stranger(mode).to_owned())
    }

    /// How many listen to a channel of this format, on whichever server.
    async fn listeners(&self, mode: RedisMode, channel: &str) -> anyhow::Result<usize> {
        let mut numsub = redis::cmd("PUBSUB");
        numsub.arg(dialect::count_of(mode)).arg(channel);
        let mut listeners = 0;
        for (_, mut connection) in self.wires.all() {
            listeners += match numsub.query_async::<(String, usize)>(&mut connection).await {
                Ok((_, listeners)) => listeners,
                // A user who may not ask knows of itself alone.
                Err(error) if error.code() == Some("NOPERM") => {
                    let is_own = mode == self.shared.mode();
                    self.is_refused.fetch_or(is_own, Ordering::Relaxed);
                    return Ok(is_own.into());
                }
                Err(error) => return Err(lost(error)),
            };
        }
        let others: Vec<_> = self.others.lock().iter().map(|(node, other)| (node.clone(), other.clone())).collect();
        let asked = others.into_iter().map(|(node, mut connection)| {
            let numsub = &numsub;
            async move {
                let asking = numsub.query_async::<(String, usize)>(&mut connection);
                let Ok(Ok((_, listeners))) = timeout(OTHER_MAX, asking).await else {
                    // It is looked for again at the next count.
                    self.others.lock().remove(&node);
                    return 0;
                };
                listeners
            }
        });
        Ok(listeners + join_all(asked).await.into_iter().sum::<usize>())
    }

    /// Sees whether the Redis Cluster is as it was. Gives what is wrong with it.
    async fn look(&self) -> anyhow::Result<Option<String>> {
        let Some(before) = self.wires.topology() else { return Ok(None) };
        let seen = self.wires.topology_now().await?;
        if seen.masters().is_empty() {
            let what = "this server of Redis has left its Redis Cluster";
            return Err(Fault::Moved(what.to_owned()).into());
        }
        if self.shared.mode() == RedisMode::Sharded && !seen.has_slots_as(before) {
            let what = "the Redis Cluster has other masters by now, or slots are with another of them";
            return Err(Fault::Moved(what.to_owned()).into());
        }
        self.follow(&seen).await;
        let mut info = redis::cmd("CLUSTER");
        info.arg("INFO");
        // Who may not ask is not told.
        let info = info.query_async::<String>(&mut self.wires.any()).await.unwrap_or_default();
        let is_down = info.lines().any(|line| line.trim() == "cluster_state:fail");
        Ok(is_down.then(|| "the Redis Cluster says that it is down (cluster_state:fail)".to_owned()))
    }

    /// Connects to those of its servers to which no wire leads, and forgets those that are gone.
    async fn follow(&self, topology: &Topology) {
        let wires: Vec<String> = self.wires.all().map(|(name, _)| name.to_owned()).collect();
        let wanted: Vec<&NodeAddress> = topology.nodes().filter(|node| !wires.contains(&node.to_string())).collect();
        self.others.lock().retain(|node, _| wanted.contains(&node));
        let missing: Vec<_> = wanted.into_iter().filter(|node| !self.others.lock().contains_key(node)).collect();
        let connecting = missing.into_iter().map(|node| async move {
            let server = &self.shared.settings.server;
            match timeout(OTHER_MAX, server.connect_to(node, |_| {})).await {
                Ok(Ok(connection)) => drop(self.others.lock().insert(node.clone(), connection)),
                // Those who listen there are not counted.
                _ => tracing::debug!(%node, "a server of the Redis Cluster is away"),
            }
        });
        join_all(connecting).await;
    }
}
