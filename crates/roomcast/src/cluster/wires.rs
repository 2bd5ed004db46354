//! The connections of one session with Redis, and which of them a channel belongs to: one, or in the sharded format one to each master of a Redis Cluster. The first doubt
//! about one of them is the end of all: what is listened to, and what is with Redis, is then known anew. Knows no message.

use std::sync::Arc;

use anyhow::Context;
use futures_util::future::{select_all, try_join_all};
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline};
use tokio::sync::watch;

use super::incoming::{Intake, Leaving};
use super::{Settings, new_uid};
use crate::redis_link::{Canary, Membership, To, Topology, together, topology_at};
use crate::supervisor::Fault;

/// The connections of a session. Cheap to clone.
#[derive(Clone)]
pub(super) struct Wires(Arc<Inner>);

struct Inner {
    wires: Vec<Wire>,
    /// `None` where Redis is one server.
    topology: Option<Topology>,
    leaving: Leaving,
}

struct Wire {
    connection: MultiplexedConnection,
    /// Where it leads, for people.
    name: String,
    own_channel: String,
    heard: watch::Receiver<u64>,
    state: watch::Receiver<State>,
}

/// What came by a connection beside messages. Whoever tells it ends with the connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum State {
    #[default]
    Sound,
    /// Redis unsubscribed it from a channel, unasked: another server has that by now. The client takes the news for an answer, so that no answer can be trusted any more.
    Moved,
}

impl Wires {
    /// Connects. `uid` is this member's.
    ///
    /// # Errors
    /// A connection cannot be had.
    pub(super) async fn connect(settings: &Settings, uid: &str, intake: Intake) -> anyhow::Result<Self> {
        let tap = || {
            let own_channel = format!("roomcast:canary:{uid}:{}", new_uid());
            let (heard, state) = (watch::Sender::new(0), watch::Sender::new(State::Sound));
            let ends = (own_channel.clone(), heard.subscribe(), state.subscribe());
            (intake.inlet(own_channel, heard, state), ends)
        };
        let wire = |connection, name, (own_channel, heard, state)| Wire { connection, name, own_channel, heard, state };
        let leaving = intake.leaving();
        let (inlet, ends) = tap();
        let found = settings.server.connect(To::Any(&settings.prefix), move |push| inlet.take(push)).await?;
        let first = wire(found.connection, found.name, ends);
        let is_sharded = settings.changes.is_some();
        let (topology, master) = match found.cluster {
            Some(Membership { topology, master }) if is_sharded => (topology, master),
            other => {
                let topology = other.map(|cluster| cluster.topology);
                return Ok(Self(Arc::new(Inner { wires: vec![first], topology, leaving })));
            }
        };
        let others = topology.masters().iter().enumerate().filter(|(other, _)| *other != master).map(|(_, node)| {
            let (inlet, ends) = tap();
            async move {
                let connection = settings.server.connect_to(node, move |push| inlet.take(push)).await?;
                anyhow::Ok(wire(connection, node.to_string(), ends))
            }
        });
        let mut wires = try_join_all(others).await?;
        wires.insert(master, first);
        Ok(Self(Arc::new(Inner { wires, topology: Some(topology), leaving })))
    }

    /// How the Redis Cluster is made up that they lead to; `None` where Redis is one server.
    pub(super) fn topology(&self) -> Option<&Topology> {
        self.0.topology.as_ref()
    }

    /// All connections, with where they lead.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, MultiplexedConnection)> {
        self.0.wires.iter().map(|wire| (wire.name.as_str(), wire.connection.clone()))
    }

    /// One of them, where it does not matter which.
    pub(super) fn any(&self) -> MultiplexedConnection {
        self.0.wires[0].connection.clone()
    }

    /// How the Redis Cluster is made up now, as one of its servers sees it; empty where that has left it.
    ///
    /// # Errors
    /// The connection was lost.
    pub(super) async fn topology_now(&self) -> anyhow::Result<Topology> {
        let Wire { connection, name, .. } = &self.0.wires[0];
        let host = name.rsplit_once(':').map_or(name.as_str(), |(host, _)| host);
        Ok(topology_at(host, &mut connection.clone()).await?.unwrap_or_default())
    }

    /// Commands to be run together.
    pub(super) fn pipes(&self) -> Pipes<'_> {
        Pipes { wires: self, pipes: vec![redis::pipe(); self.0.wires.len()] }
    }

    /// The connection that a channel belongs to.
    ///
    /// # Errors
    /// [`Fault::Moved`]: no server has the channel at present.
    pub(super) fn of(&self, channel: &str) -> anyhow::Result<MultiplexedConnection> {
        Ok(self.0.wires[self.home(channel)?].connection.clone())
    }

    fn home(&self, channel: &str) -> anyhow::Result<usize> {
        match &self.0.topology {
            Some(topology) if self.0.wires.len() > 1 => {
                let nobody = || Fault::Moved(format!("no master of the Redis Cluster has the slot of {channel:?}"));
                Ok(topology.home(channel).ok_or_else(nobody)?)
            }
            _ => Ok(0),
        }
    }

    /// What shows that each connection lives.
    ///
    /// # Errors
    /// A connection was lost.
    pub(super) async fn canaries(&self) -> anyhow::Result<Canaries> {
        let canaries = self.0.wires.iter().map(|wire| async {
            let mut connection = wire.connection.clone();
            let canary = Canary::subscribe(&mut connection, wire.own_channel.clone(), wire.heard.clone()).await?;
            anyhow::Ok((canary, connection, self.clone(), wire.name.clone()))
        });
        Ok(Canaries(try_join_all(canaries).await?))
    }

    /// Waits until one of them ends, or is not to be trusted any more.
    ///
    /// # Errors
    /// Always.
    pub(super) async fn end(&self) -> anyhow::Result<()> {
        let ends = self.0.wires.iter().map(|wire| {
            let mut state = wire.state.clone();
            Box::pin(async move {
                // Whoever tells it is gone with the connection.
                let _ = state.wait_for(|state| *state != State::Sound).await;
            })
        });
        let ((), which, _) = select_all(ends).await;
        self.0.wires[which].check()?;
        anyhow::bail!("the connection to Redis at {} was lost", self.0.wires[which].name)
    }
}

impl Wire {
    /// Whether its answers can be trusted.
    fn check(&self) -> anyhow::Result<()> {
        match *self.state.borrow() {
            State::Sound => Ok(()),
            State::Moved => Err(Fault::Moved(format!("Redis at {} gave channels away", self.name)).into()),
        }
    }
}

/// What shows that connections live.
pub(super) struct Canaries(Vec<(Canary, MultiplexedConnection, Wires, String)>);

impl Canaries {
    /// What is wrong with them, a sentence each.
    pub(super) fn concerns(&self) -> Vec<String> {
        self.0.first().map(|(canary, ..)| canary.concerns()).unwrap_or_default()
    }

    /// Sends canaries for as long as all of them come back.
    ///
    /// # Errors
    /// A connection was lost, or is [`Fault::Deaf`].
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let runs = self.0.into_iter().map(|(canary, mut connection, _wires, name)| async move {
            canary.run(&mut connection).await.with_context(|| format!("Redis at {name}"))
        });
        try_join_all(runs).await.map(drop)
    }
}

/// Commands on their way to the connections that their channels belong to, those of one connection in order.
pub(super) struct Pipes<'a> {
    wires: &'a Wires,
    pipes: Vec<Pipeline>,
}

impl Pipes<'_> {
    /// Listens to a shard's channel, or no longer.
    ///
    /// # Errors
    /// [`Fault::Moved`]: no server has the channel at present.
    pub(super) fn listen(&mut self, channel: &str, is_wanted: bool) -> anyhow::Result<()> {
        if !is_wanted {
            self.wires.0.leaving.lock().insert(channel.to_owned());
        }
        self.add(channel, &[if is_wanted { "SSUBSCRIBE" } else { "SUNSUBSCRIBE" }.as_bytes(), channel.as_bytes()])
    }

    /// Publishes to a channel, by this command.
    ///
    /// # Errors
    /// [`Fault::Moved`]: no server has the channel at present.
    pub(super) fn publish(&mut self, command: &str, channel: &str, message: &[u8]) -> anyhow::Result<()> {
        self.add(channel, &[command.as_bytes(), channel.as_bytes(), message])
    }

    fn add(&mut self, channel: &str, words: &[&[u8]]) -> anyhow::Result<()> {
        let home = self.wires.home(channel)?;
        let mut command = Cmd::with_capacity(words.len(), words.iter().map(|word| word.len()).sum());
        for word in words {
            command.arg(*word);
        }
        self.pipes[home].add_command(command);
        Ok(())
    }

    /// Runs the commands; all of them are answered then.
    ///
    /// # Errors
    /// A connection was lost, or Redis refuses one of them.
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let runs = self.wires.0.wires.iter().zip(&self.pipes).filter(|(_, pipe)| !pipe.is_empty());
        let runs = runs.map(|(wire, pipe)| {
            let mut connection = wire.connection.clone();
            async move {
                together::<()>(pipe, &mut connection).await?;
                wire.check()
            }
        });
        try_join_all(runs).await.map(drop)
    }
}
