//! One connection to Redis, from its beginning to its end: subscribed, watched by a canary, and given up on the first doubt. A connection that
//! only looks alive is dropped within 15 seconds.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ErrorKind, PushInfo, RedisError};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::Shared;
use super::intake::{Intake, intake};
use crate::source::new_id;
use crate::supervisor::{Fault, Link, Stop};

/// How long a connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// The pause between two canaries.
const EVERY: Duration = Duration::from_secs(3);

/// How long a canary may take, and every answer.
const DEAF_AFTER: Duration = Duration::from_secs(10);

/// Connects, subscribes, and takes what comes until told to stop.
///
/// # Errors
/// The connection cannot be had, or was lost; [`Fault::Deaf`] where nothing comes through it.
pub(super) async fn run(shared: &Arc<Shared>, mut stop: Stop) -> anyhow::Result<()> {
    let settings = &shared.settings;
    let own_channel = format!("roomcast:canary:{}", new_id());
    let (inlet, Intake { queue, heard }) = intake(shared, own_channel.clone());
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_MAX))
        .set_response_timeout(Some(DEAF_AFTER))
        .set_push_sender(move |push: PushInfo| -> Result<(), Infallible> {
            inlet.take(push);
            Ok(())
        });
    let connection = settings.client.get_multiplexed_async_connection_with_config(&config).await;
    // The inlet then is the connection's alone: the queue ends with it.
    drop(config);
    let mut connection =
        connection.map_err(refused).with_context(|| format!("cannot connect to Redis at {}", settings.server))?;
    let channels = settings.channels.as_slice();
    let subscribed = connection.subscribe(channels).await.map_err(refused);
    subscribed.with_context(|| format!("cannot subscribe to {}", channels.join(", ")))?;
    let subscribed = connection.subscribe(own_channel.as_str()).await;
    let canary = match subscribed {
        Ok(()) => Canary::Heard { channel: own_channel, heard },
        // A user who may use the channels of the profile alone is no reason to go without.
        Err(error) if error.code() == Some("NOPERM") => Canary::Answered,
        Err(error) => return Err(error).context("cannot subscribe to the canary's channel"),
    };
    shared.concerns.send_replace(canary.concerns());
    shared.link.send_replace(Link::Connected);
    let mut taking = pin!(queue.run(shared.clone()));
    tokio::select! {
        biased;
        _ = stop.requested() => {}
        result = &mut taking => return result,
        result = canary.run(&mut connection) => return result,
    }
    // What has come already still goes out; the queue ends after it.
    drop(connection);
    let _ = taking.await;
    Ok(())
}

/// How the connection is seen to be alive.
enum Canary {
    /// By what is published to a channel of our own.
    Heard { channel: String, heard: watch::Receiver<u64> },
    /// By answers to `PING` alone: that messages come, too, is not seen.
    Answered,
}

impl Canary {
    fn concerns(&self) -> Vec<String> {
        match self {
            Self::Heard { .. } => Vec::new(),
            Self::Answered => vec![
                "this user may not use the channels `roomcast:canary:*`, so that a subscription which has gone silent is not noticed".to_owned(),
            ],
        }
    }

    /// Sends canaries for as long as they come back.
    async fn run(mut self, connection: &mut MultiplexedConnection) -> anyhow::Result<()> {
        for number in 1_u64.. {
            sleep(EVERY).await;
            match &mut self {
                Self::Answered => ask::<String>(connection, redis::cmd("PING")).await.map(drop)?,
                Self::Heard { channel, heard } => {
                    let mut publish = redis::cmd("PUBLISH");
                    publish.arg(channel.as_str()).arg(number);
                    let receivers = ask::<u64>(connection, publish).await?;
                    if receivers == 0 {
                        return Err(Fault::Deaf("Redis has forgotten the subscriptions".to_owned()).into());
                    }
                    let hearing = async { heard.wait_for(|latest| *latest >= number).await.map(drop) };
                    let back = timeout(DEAF_AFTER, hearing).await;
                    let silent = || {
                        let what = "a message to this node's own channel did not come back within";
                        Fault::Deaf(format!("{what} {DEAF_AFTER:?}"))
                    };
                    back.map_err(|_| silent())?.context("the connection to Redis was lost")?;
                }
            }
        }
        Ok(())
    }
}

/// Asks, and takes silence for deafness.
async fn ask<T: redis::FromRedisValue>(
    connection: &mut MultiplexedConnection,
    command: redis::Cmd,
) -> anyhow::Result<T> {
    match command.query_async(connection).await {
        Ok(answer) => Ok(answer),
        Err(error) if error.is_timeout() => {
            Err(Fault::Deaf(format!("Redis did not answer within {DEAF_AFTER:?}")).into())
        }
        Err(error) => Err(error).context("the connection to Redis was lost"),
    }
}

/// An error with the guilty side: what Redis says no to changes nothing if it is asked again soon.
fn refused(error: RedisError) -> anyhow::Error {
    let is_no = matches!(error.kind(), ErrorKind::AuthenticationFailed | ErrorKind::RESP3NotSupported)
        || matches!(error.code(), Some("NOPERM" | "NOAUTH" | "WRONGPASS" | "NOPROTO"));
    if is_no { Fault::Refused(error.to_string()).into() } else { error.into() }
}
