//! The connections of one session with Redis, and which of them a channel belongs to. Knows no message.

use std::sync::Arc;

use futures_util::future::try_join_all;
use redis::Pipeline;
use redis::aio::MultiplexedConnection;

use crate::redis_link::lost;

/// The connections of a session. Cheap to clone.
#[derive(Clone)]
pub(super) struct Wires(Arc<[MultiplexedConnection]>);

impl Wires {
    /// One connection, by which everything goes.
    pub(super) fn alone(connection: MultiplexedConnection) -> Self {
        Self([connection].into())
    }

    /// Commands to be run together.
    pub(super) fn pipes(&self) -> Pipes<'_> {
        Pipes { wires: self, pipes: vec![redis::pipe(); self.0.len()] }
    }

    /// The connection that a channel belongs to.
    pub(super) fn of(&self, channel: &str) -> MultiplexedConnection {
        self.0[self.home(channel)].clone()
    }

    fn home(&self, _channel: &str) -> usize {
        0
    }
}

/// Commands on their way to the connections that their channels belong to, those of one connection in order.
pub(super) struct Pipes<'a> {
    wires: &'a Wires,
    pipes: Vec<Pipeline>,
}

impl Pipes<'_> {
    /// Adds a command about a channel, whose further arguments may be added to what this gives.
    pub(super) fn cmd(&mut self, name: &str, channel: &str) -> &mut Pipeline {
        self.pipes[self.wires.home(channel)].cmd(name).arg(channel).ignore()
    }

    /// Runs the commands; all of them are answered then.
    ///
    /// # Errors
    /// A connection was lost, or Redis refuses one of them.
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let runs =
            self.wires.0.iter().zip(&self.pipes).filter(|(_, pipe)| !pipe.is_empty()).map(|(connection, pipe)| {
                let mut connection = connection.clone();
                async move { pipe.query_async::<()>(&mut connection).await.map_err(lost) }
            });
        try_join_all(runs).await.map(drop)
    }
}
