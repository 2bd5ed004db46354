//! One time with the cluster's Redis, from its beginning to its end: connected, subscribed, publishing, watched by canaries, and given up on the first doubt.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use redis::Value;
use tokio::time::{Instant, sleep_until, timeout};

use super::counting::Counting;
use super::dialect::Channels;
use super::incoming::intake;
use super::listening::Listening;
use super::saying::Item;
use super::wires::Wires;
use super::{Shared, dialect, saying};
use crate::redis_link::refused;
use crate::supervisor::{Fault, Link, Stop};

/// Messages that are published at once.
const BATCH: usize = 256;

/// The least time between two batches' beginnings: events in quick succession share a way to Redis and back, and one that comes alone does not wait.
const BATCH_EVERY: Duration = Duration::from_millis(1);

/// How long what came before an end has to get to the shards.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// Connects, subscribes, and passes events on, both ways, until told to stop.
///
/// # Errors
/// The connection cannot be had, or was lost; it is deaf where nothing comes through it.
pub(super) async fn run(shared: &Arc<Shared>, mut stop: Stop) -> anyhow::Result<()> {
    let (intake, queue) = intake(shared);
    let wires = Wires::connect(&shared.settings, &shared.uid, intake).await?;
    let listening = subscribe(shared, &wires).await?;
    let canaries = wires.canaries().await?;
    let concerns = canaries.concerns();
    shared.concerns.send_replace(concerns.clone());
    let counting = Counting::new(shared, wires.clone());
    counting.find_others().await;
    shared.bus.take_again();
    shared.link.send_replace(Link::Connected);
    let mut taking = pin!(queue.run(shared.clone()));
    let result = {
        let following = async {
            match listening {
                Some(listening) => listening.run().await,
                None => pending().await,
            }
        };
        // Each is looked at when it is its own turn: what comes at a high rate does not have the others looked at.
        let mut working = FuturesUnordered::from_iter([
            publish(shared, &counting, &wires).boxed(),
            counting.run(concerns).boxed(),
            following.boxed(),
            canaries.run().boxed(),
            wires.end().boxed(),
        ]);
        tokio::select! {
            biased;
            _ = stop.requested() => return Ok(()),
            // Before what takes: at a rate that leaves no time for both, nothing is to look deaf.
            result = working.next() => result.unwrap_or(Ok(())),
            result = &mut taking => return result,
        }
    };
    drop((counting, wires));
    // What has come already still goes out; the queue ends after it.
    let _ = timeout(DRAIN_MAX, taking).await;
    result
}

/// Listens to everything that others say; gives what listens to single rooms, where these have channels of their own.
async fn subscribe<'a>(shared: &'a Shared, wires: &Wires) -> anyhow::Result<Option<Listening<'a>>> {
    let Some(changes) = &shared.settings.changes else {
        let mut connection = wires.any();
        for Channels { events, requests, responses, .. } in &shared.channels {
            let pattern = format!("{}*", escaped(events));
            let subscribed = connection.psubscribe(&pattern).await.map_err(refused);
            subscribed.with_context(|| format!("cannot subscribe to {pattern}"))?;
            let subscribed = connection.subscribe(responses.as_slice()).await.map_err(refused);
            subscribed.with_context(|| format!("cannot subscribe to {}", responses.join(", ")))?;
            // Who listens to requests counts as a member, and others wait for its answers: so it is listened to once, and last.
            let subscribed = connection.subscribe(requests).await.map_err(refused);
            subscribed.with_context(|| format!("cannot subscribe to {requests}"))?;
        }
        return Ok(None);
    };
    let channels = || shared.channels.iter();
    for channel in channels().flat_map(|of| &of.responses) {
        ssubscribe(wires, channel).await?;
    }
    let listening = Listening::begin(shared, changes, wires.clone()).await?;
    // As above. After an outage others wait for this, too: every room is listened to by then.
    for channel in channels().map(|of| &of.requests) {
        ssubscribe(wires, channel).await?;
    }
    Ok(Some(listening))
}

/// Listens to one channel of a shard's.
async fn ssubscribe(wires: &Wires, channel: &str) -> anyhow::Result<()> {
    let mut command = redis::cmd("SSUBSCRIBE");
    command.arg(channel);
    let subscribed = command.query_async::<Value>(&mut wires.of(channel)?).await.map_err(|error| {
        if error.to_string().contains("unknown command") {
            return Fault::Refused("this Redis has no sharded channels: `redis.mode` (REDIS_ADAPTER_MODE) `sharded` needs version 7 or newer".to_owned()).into();
        }
        refused(error)
    });
    subscribed.map(drop).with_context(|| format!("cannot subscribe to {channel}"))
}

/// Publishes what waits, for as long as Redis answers.
async fn publish(shared: &Shared, counting: &Counting<'_>, wires: &Wires) -> anyhow::Result<()> {
    counting.wait_for_others().await?;
    let mut next = Instant::now();
    loop {
        if shared.bus.until_waiting().await < BATCH {
            sleep_until(next).await;
        }
        next = Instant::now() + BATCH_EVERY;
        let waiting = shared.bus.first(BATCH).await;
        let mut pipes = wires.pipes();
        let mut count = 0;
        for entry in &waiting {
            if let Some((channel, message)) = saying::message(shared, entry) {
                if let Item::Question(question) = &entry.item {
                    if !shared.bus.asking().is_waiting(question) {
                        continue;
                    }
                    let members = counting.members_of(&channel).await?;
                    question.is_asked_of(members.saturating_sub(1));
                }
                pipes.publish(dialect::publish(shared.mode()), &channel, &message)?;
                count += 1;
            }
        }
        if count > 0 {
            pipes.run().await?;
            shared.gateway.metrics.bus_published.inc_by(count);
        }
        shared.bus.remove(&waiting);
    }
}

/// A text in a pattern of Redis: as it is.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '\\' | '^' | '-') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_take_namespaces_as_they_are() {
        assert_eq!(escaped("socket.io#/a*b[c]#"), r"socket.io#/a\*b\[c\]#");
    }
}
