//! A connection to Redis, for whoever needs one: how it is made, and how it is seen to be alive. A server that belongs to a Redis Cluster is recognised, and leads to
//! the others. Knows nothing of what a connection is used for.

mod canary;
mod place;
mod pushed;
mod topology;

use std::convert::Infallible;
use std::future::pending;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hub::profile::RedisAddress;
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::sentinel::{SentinelClient, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, ErrorKind, FromRedisValue, Pipeline, PushInfo, RedisError, Value,
};
use tokio::time::sleep;

use self::canary::patiently;
pub(crate) use self::canary::{Canary, ask};
use self::place::{Place, beside, host_of, name_of};
pub(crate) use self::pushed::{Ear, Pushed, Way};
pub(crate) use self::topology::{NodeAddress, Topology};
use crate::supervisor::Fault;

/// How long a connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// How long any other answer may take, whether it runs or not.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// Where several servers would do: how long one has before the next is tried as well.
const HEAD_START: Duration = Duration::from_secs(1);

/// Where Redis is.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    place: Place,
    known: Arc<Mutex<Known>>,
}

/// What is known of a Redis Cluster, for the time when the servers that were set are away.
#[derive(Debug, Default)]
struct Known {
    nodes: Vec<NodeAddress>,
    /// Whose turn it is to be asked first: what one of them says may be old, or nobody else's view.
    turn: usize,
}

/// Whom a connection is for, where there are several.
#[derive(Debug, Clone, Copy)]
pub(crate) enum To<'a> {
    /// The master that has this key.
    Owner(&'a str),
    /// Any master; that of this key, as long as it is there.
    Any(&'a str),
}

/// A connection, and what the server is part of.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) connection: MultiplexedConnection,
    /// The server's address, for people.
    pub(crate) name: String,
    /// `None` where the server stands alone.
    pub(crate) cluster: Option<Membership>,
}

/// A master's place in a Redis Cluster.
#[derive(Debug, Clone)]
pub(crate) struct Membership {
    pub(crate) topology: Topology,
    /// Its place among the masters.
    pub(crate) master: usize,
}

/// What takes what a server sends unasked.
type Take = Arc<dyn Fn(PushInfo) + Send + Sync>;

impl Server {
    /// From what a profile says.
    ///
    /// # Errors
    /// The address is none.
    pub(crate) fn of(address: &RedisAddress) -> anyhow::Result<Self> {
        Ok(Self { place: Place::of(address)?, known: Arc::default() })
    }

    /// The address at which the server sees this machine. Nothing is sent for it.
    ///
    /// # Errors
    /// The server's name is not known, or there is no way to it.
    pub(crate) async fn local_address(&self) -> anyhow::Result<IpAddr> {
        self.place.local_address().await
    }

    /// Connects. What the server sends unasked goes to `take`, which must not block and is dropped with the connection.
    ///
    /// # Errors
    /// The connection cannot be had; in a Redis Cluster also where no master has the key, or the one that has is away.
    pub(crate) async fn connect(
        &self,
        to: To<'_>,
        take: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> anyhow::Result<Connected> {
        let take: Take = Arc::new(take);
        let (seeds, must_be_cluster) = match &self.place {
            Place::Fixed { seeds, must_be_cluster } => (self.candidates(seeds), *must_be_cluster),
            Place::Sentinels { .. } => {
                let (connection, name) = (self.open_by_sentinels(&take).await?, self.place.name());
                return Ok(Connected { connection, name, cluster: None });
            }
        };
        let asking = seeds.into_iter().map(|seed| ask_for_topology(seed, take.clone()));
        let (seed, connection, topology) =
            first_of(HEAD_START, asking).await.context("no server of Redis is named")??;
        let name = name_of(seed.addr());
        let Some(topology) = topology else {
            if must_be_cluster {
                let what =
                    format!("Redis at {name} belongs to no Redis Cluster, or its user may not ask for CLUSTER SLOTS");
                return Err(Fault::Refused(what).into());
            }
            return Ok(Connected { connection, name, cluster: None });
        };
        drop(connection);
        if !topology.masters().is_empty() {
            self.known.lock().nodes = topology.nodes().cloned().collect();
        }
        connect_in(topology, &seed, to, &take).await
    }

    /// Connects to a server of the Redis Cluster.
    ///
    /// # Errors
    /// The connection cannot be had.
    pub(crate) async fn connect_to(
        &self,
        node: &NodeAddress,
        take: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> anyhow::Result<MultiplexedConnection> {
        let take: Take = Arc::new(take);
        match &self.place {
            Place::Fixed { seeds, .. } => open(&beside(node, &seeds[0]), &take).await,
            // Sentinels look after one server, which belongs to no cluster.
            Place::Sentinels { .. } => self.open_by_sentinels(&take).await,
        }
    }

    async fn open_by_sentinels(&self, take: &Take) -> anyhow::Result<MultiplexedConnection> {
        let Place::Sentinels { sentinels, name, node } = &self.place else {
            return Err(anyhow!("no Sentinel is named"));
        };
        // Made anew each time, since what a Sentinel said, and its connection, is as old as the last loss.
        let client = SentinelClient::build(sentinels.clone(), name, Some(node.clone()), SentinelServerType::Master);
        let connection = match client {
            Ok(mut client) => client.get_async_connection_with_config(&config(take)).await,
            Err(error) => Err(error),
        };
        connection.map_err(refused).with_context(|| format!("cannot connect to Redis at {}", self.place.name()))
    }

    /// Who may know where things are, in turn. Bound: those that were set, and the servers that a Redis Cluster named last.
    fn candidates(&self, seeds: &[ConnectionInfo]) -> Vec<ConnectionInfo> {
        let mut known = self.known.lock();
        let nodes = known.nodes.iter().map(|node| beside(node, &seeds[0]));
        let mut candidates: Vec<ConnectionInfo> = seeds.iter().cloned().chain(nodes).collect();
        let first = known.turn % candidates.len();
        known.turn = first + 1;
        candidates.rotate_left(first);
        candidates
    }
}

async fn ask_for_topology(
    seed: ConnectionInfo,
    take: Take,
) -> anyhow::Result<(ConnectionInfo, MultiplexedConnection, Option<Topology>)> {
    let mut connection = open(&seed, &take).await?;
    let topology = topology_at(&host_of(seed.addr()), &mut connection).await?;
    Ok((seed, connection, topology))
}

async fn connect_in(topology: Topology, seed: &ConnectionInfo, to: To<'_>, take: &Take) -> anyhow::Result<Connected> {
    let (To::Owner(key) | To::Any(key)) = to;
    let owner = topology.home(key);
    let others = (0..topology.masters().len()).filter(|master| matches!(to, To::Any(_)) && Some(*master) != owner);
    let connecting = owner.into_iter().chain(others).map(|master| {
        let node = &topology.masters()[master];
        let (info, name, take) = (beside(node, seed), node.to_string(), take.clone());
        async move { Ok((open(&info, &take).await?, name, master)) }
    });
    let nobody = || {
        let seed = name_of(seed.addr());
        Fault::Moved(format!("the Redis Cluster of {seed} has no master for the slot of {key:?}"))
    };
    let (connection, name, master) = first_of(HEAD_START, connecting).await.ok_or_else(nobody)??;
    Ok(Connected { connection, name, cluster: Some(Membership { topology, master }) })
}

/// How a Redis Cluster is made up, as the server sees it that is reached at `host`; `None` where it belongs to none.
///
/// # Errors
/// The connection was lost.
pub(crate) async fn topology_at(
    host: &str,
    connection: &mut MultiplexedConnection,
) -> anyhow::Result<Option<Topology>> {
    let mut slots = redis::cmd("CLUSTER");
    slots.arg("SLOTS");
    match patiently(slots.query_async::<Value>(connection)).await {
        Some(Ok(answer)) => Ok(Some(Topology::read(&answer, host))),
        // One without a cluster says so by an error. So does one whose user may not ask: there, the first key of another master tells.
        Some(Err(error)) if matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension) => Ok(None),
        Some(Err(error)) => Err(lost(error)),
        None => Err(canary::silent()),
    }
}

fn config(take: &Take) -> AsyncConnectionConfig {
    let take = take.clone();
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_MAX))
        .set_response_timeout(Some(ANSWER_MAX))
        .set_push_sender(move |push: PushInfo| -> Result<(), Infallible> {
            take(push);
            Ok(())
        })
}

async fn open(info: &ConnectionInfo, take: &Take) -> anyhow::Result<MultiplexedConnection> {
    let connection = match Client::open(info.clone()) {
        Ok(client) => client.get_multiplexed_async_connection_with_config(&config(take)).await,
        Err(error) => Err(error),
    };
    connection.map_err(refused).with_context(|| format!("cannot connect to Redis at {}", name_of(info.addr())))
}

/// The first of these that comes to something: each is begun when the one before failed, or had its head start. The first failure where none does; `None` of none.
async fn first_of<T>(
    head_start: Duration,
    attempts: impl Iterator<Item: Future<Output = anyhow::Result<T>>>,
) -> Option<anyhow::Result<T>> {
    let mut attempts = attempts.fuse();
    let mut under_way = FuturesUnordered::new();
    let mut failure = None;
    loop {
        let is_last = match attempts.next() {
            Some(attempt) => {
                under_way.push(attempt);
                false
            }
            None => true,
        };
        let next_is_due = async {
            match is_last {
                true => pending().await,
                false => sleep(head_start).await,
            }
        };
        tokio::select! {
            biased;
            done = under_way.next() => match done {
                Some(Ok(done)) => return Some(Ok(done)),
                Some(Err(error)) => failure = failure.or(Some(error)),
                None => return failure.map(Err),
            },
            () = next_is_due => {}
        }
    }
}

/// Runs commands together. Where there are none, nothing is asked, which the client of Redis takes for a mistake.
///
/// # Errors
/// The connection was lost, or Redis refuses one of them.
pub(crate) async fn together<T: FromRedisValue + Default>(
    pipe: &Pipeline,
    connection: &mut MultiplexedConnection,
) -> anyhow::Result<T> {
    if pipe.is_empty() {
        return Ok(T::default());
    }
    pipe.query_async(connection).await.map_err(lost)
}

/// What an error of a command says of the connection: silence is deafness.
pub(crate) fn lost(error: RedisError) -> anyhow::Error {
    if error.is_timeout() {
        return Fault::Deaf("Redis did not answer".to_owned()).into();
    }
    if matches!(error.code(), Some("MOVED" | "ASK" | "TRYAGAIN" | "CLUSTERDOWN" | "MASTERDOWN" | "READONLY")) {
        return Fault::Moved(format!("this server of Redis serves it no longer: {error}")).into();
    }
    refused(error).context("the connection to Redis was lost")
}

/// An error with the guilty side: what Redis says no to changes nothing if it is asked again soon.
pub(crate) fn refused(error: RedisError) -> anyhow::Error {
    let is_no = matches!(error.kind(), ErrorKind::AuthenticationFailed | ErrorKind::RESP3NotSupported)
        || matches!(error.code(), Some("NOPERM" | "NOAUTH" | "WRONGPASS" | "NOPROTO"))
        // What a script may not call is an error of the script's.
        || error.to_string().contains("user executing the script");
    if is_no { Fault::Refused(error.to_string()).into() } else { error.into() }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// Which attempts are begun, and what comes of them. Each gives its number, fails (`x`), or never ends (`-`).
    async fn tried(attempts: &str) -> (String, Option<Result<usize, String>>) {
        let begun = RefCell::new(String::new());
        let attempts = attempts.chars().enumerate().map(|(number, attempt)| {
            let begun = &begun;
            async move {
                begun.borrow_mut().push(attempt);
                match attempt {
                    'x' => Err(anyhow!("{number}")),
                    '-' => pending().await,
                    _ => Ok(number),
                }
            }
        });
        let found = first_of(Duration::ZERO, attempts).await.map(|found| found.map_err(|error| error.to_string()));
        (begun.into_inner(), found)
    }

    #[tokio::test]
    async fn who_is_away_or_says_nothing_holds_nobody_up() {
        for (attempts, begun, expected) in [
            ("", "", None),
            ("oo", "o", Some(Ok(0))),
            ("xxo", "xxo", Some(Ok(2))),
            ("-x-o", "-x-o", Some(Ok(3))),
            ("xx", "xx", Some(Err("0".to_owned()))),
        ] {
            assert_eq!(tried(attempts).await, (begun.to_owned(), expected), "{attempts}");
        }
    }
}
