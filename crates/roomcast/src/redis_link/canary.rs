//! How a connection to Redis is seen to be alive: what is published to a channel of its own comes back.

use std::time::Duration;

use anyhow::Context;
use redis::aio::MultiplexedConnection;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::lost;
use crate::supervisor::Fault;

/// The pause between two canaries.
const EVERY: Duration = Duration::from_secs(3);

/// How long what shows that a connection lives may take, while this process runs.
const DEAF_AFTER: Duration = Duration::from_secs(10);

/// How a connection is seen to be alive.
#[derive(Debug)]
pub(crate) enum Canary {
    /// By what is published to a channel of our own.
    Heard {
        /// The channel.
        channel: String,
        /// The number that came last.
        heard: watch::Receiver<u64>,
    },
    /// By answers to `PING` alone: that messages come, too, is not seen.
    Answered,
}

impl Canary {
    /// The channel of this name, which nobody else has, is listened to; `heard` says what came by it.
    ///
    /// # Errors
    /// The connection was lost.
    pub(crate) async fn subscribe(
        connection: &mut MultiplexedConnection,
        channel: String,
        heard: watch::Receiver<u64>,
    ) -> anyhow::Result<Self> {
        match connection.subscribe(channel.as_str()).await {
            Ok(()) => {}
            // A user who may use the channels of the profile alone is no reason to go without.
            Err(error) if error.code() == Some("NOPERM") => return Ok(Self::Answered),
            Err(error) => return Err(error).context("cannot subscribe to the canary's channel"),
        }
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(channel.as_str()).arg(0);
        match publish.query_async::<u64>(connection).await {
            Ok(_) => Ok(Self::Heard { channel, heard }),
            // Nor is one who may only listen.
            Err(error) if error.code() == Some("NOPERM") => Ok(Self::Answered),
            Err(error) => Err(error).context("cannot publish to the canary's channel"),
        }
    }

    /// What is wrong with it, a sentence each.
    pub(crate) fn concerns(&self) -> Vec<String> {
        match self {
            Self::Heard { .. } => Vec::new(),
            Self::Answered => vec![
                "this user may not subscribe and publish to the channels `roomcast:canary:*`, so that a subscription which has gone silent is not noticed".to_owned(),
            ],
        }
    }

    /// Sends canaries for as long as they come back.
    ///
    /// # Errors
    /// The connection was lost, or is [`Fault::Deaf`].
    pub(crate) async fn run(mut self, connection: &mut MultiplexedConnection) -> anyhow::Result<()> {
        for number in 1_u64.. {
            sleep(EVERY).await;
            match &mut self {
                Self::Answered => ask::<String>(connection, &redis::cmd("PING")).await.map(drop)?,
                Self::Heard { channel, heard } => {
                    let mut publish = redis::cmd("PUBLISH");
                    publish.arg(channel.as_str()).arg(number);
                    let receivers = ask::<u64>(connection, &publish).await?;
                    if receivers == 0 {
                        return Err(Fault::Deaf("Redis has forgotten the subscriptions".to_owned()).into());
                    }
                    let hearing = async { heard.wait_for(|latest| *latest >= number).await.map(drop) };
                    let back = patiently(hearing).await;
                    let silent = || {
                        let what = "a message to this node's own channel did not come back within";
                        Fault::Deaf(format!("{what} {DEAF_AFTER:?}"))
                    };
                    back.ok_or_else(silent)?.context("the connection to Redis was lost")?;
                }
            }
        }
        Ok(())
    }
}

/// Asks, and takes silence for deafness.
pub(crate) async fn ask<T: redis::FromRedisValue>(
    connection: &mut MultiplexedConnection,
    command: &redis::Cmd,
) -> anyhow::Result<T> {
    let answer = patiently(command.query_async(connection)).await;
    answer.ok_or_else(silent)?.map_err(lost)
}

/// What silence is.
pub(super) fn silent() -> anyhow::Error {
    Fault::Deaf(format!("Redis did not answer within {DEAF_AFTER:?}")).into()
}

/// Waits for [`DEAF_AFTER`], of which no second counts in which this process was held up: what it missed may be waiting at its door.
pub(super) async fn patiently<T>(what: impl Future<Output = T>) -> Option<T> {
    let mut what = std::pin::pin!(what);
    for _ in 0..DEAF_AFTER.as_secs() {
        if let Ok(done) = timeout(Duration::from_secs(1), &mut what).await {
            return Some(done);
        }
    }
    None
}
