//! One connection to the cluster's Redis, from its beginning to its end: subscribed, publishing, watched by a canary, and given up on the first doubt.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use redis::Value;
use redis::aio::MultiplexedConnection;
use tokio::time::{Instant, sleep};

use super::dialect::Channels;
use super::incoming::intake;
use super::listening::Listening;
use super::outgoing::Item;
use super::wires::Wires;
use super::{Shared, dialect, outgoing};
use crate::redis_link::{Canary, lost, refused};
use crate::supervisor::{Fault, Link, Stop};

/// How often the members of the cluster are counted.
const COUNT_EVERY: Duration = Duration::from_secs(3);

/// How long a member that was there before an outage is waited for after it, and how often it is looked for.
const BACK_MAX: Duration = Duration::from_secs(3);
const BACK_EVERY: Duration = Duration::from_millis(50);

/// Messages that are published at once.
const BATCH: usize = 256;

/// Connects, subscribes, and passes events on, both ways, until told to stop.
///
/// # Errors
/// The connection cannot be had, or was lost; it is deaf where nothing comes through it.
pub(super) async fn run(shared: &Arc<Shared>, mut stop: Stop) -> anyhow::Result<()> {
    let own_channel = format!("roomcast:canary:{}:{}", shared.uid, super::new_uid());
    let (inlet, queue, heard) = intake(shared, own_channel.clone());
    let mut connection = shared.settings.server.connect(move |push| inlet.take(push)).await?;
    let wires = Wires::alone(connection.clone());
    let listening = subscribe(shared, &mut connection, &wires).await?;
    let canary = Canary::subscribe(&mut connection, own_channel, heard).await?;
    let concerns = canary.concerns();
    shared.concerns.send_replace(concerns.clone());
    shared.link.send_replace(Link::Connected);
    let taking = queue.run(shared.clone());
    let publishing = publish(shared, connection.clone(), wires);
    let counting = count(shared, connection.clone(), concerns);
    let following = async {
        match listening {
            Some(listening) => listening.run().await,
            None => pending().await,
        }
    };
    tokio::select! {
        biased;
        _ = stop.requested() => Ok(()),
        result = taking => result,
        result = publishing => result,
        result = counting => result,
        result = following => result,
        result = canary.run(&mut connection) => result,
    }
}

/// Listens to everything that others say; gives what listens to single rooms, where these have channels of their own.
async fn subscribe<'a>(
    shared: &'a Shared,
    connection: &mut MultiplexedConnection,
    wires: &Wires,
) -> anyhow::Result<Option<Listening<'a>>> {
    let Some(changes) = &shared.settings.changes else {
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
    let subscribed = command.query_async::<Value>(&mut wires.of(channel)).await.map_err(|error| {
        if error.to_string().contains("unknown command") {
            return Fault::Refused("this Redis has no sharded channels: `redis.mode` (REDIS_ADAPTER_MODE) `sharded` needs version 7 or newer".to_owned()).into();
        }
        refused(error)
    });
    subscribed.map(drop).with_context(|| format!("cannot subscribe to {channel}"))
}

/// The members that listen, this one included.
async fn members(shared: &Shared, connection: &mut MultiplexedConnection) -> anyhow::Result<usize> {
    let Some(Channels { requests, .. }) = shared.channels.first() else { return Ok(1) };
    members_of(shared, requests, connection).await
}

/// Those that listen to the requests of a namespace.
async fn members_of(shared: &Shared, requests: &str, connection: &mut MultiplexedConnection) -> anyhow::Result<usize> {
    let mut numsub = redis::cmd("PUBSUB");
    numsub.arg(dialect::count_of(shared.mode())).arg(requests);
    match numsub.query_async::<(String, usize)>(connection).await {
        Ok((_, members)) => Ok(members),
        // A user who may not ask knows of itself alone.
        Err(error) if error.code() == Some("NOPERM") => Ok(1),
        Err(error) => Err(lost(error)),
    }
}

/// Knows how many members there are.
async fn count(shared: &Shared, mut connection: MultiplexedConnection, concerns: Vec<String>) -> anyhow::Result<()> {
    // Right after an outage others are on their way back.
    let mut at_least = shared.members.load(Ordering::Relaxed);
    loop {
        let members = members(shared, &mut connection).await?.max(std::mem::take(&mut at_least));
        shared.members.store(members, Ordering::Relaxed);
        shared.gateway.metrics.bus_members.set(members as i64);
        let mut concerns = concerns.clone();
        concerns.extend(strangers(shared, &mut connection).await);
        shared.concerns.send_if_modified(|told| {
            let has_changed = *told != concerns;
            *told = concerns;
            has_changed
        });
        sleep(COUNT_EVERY).await;
    }
}

/// What is wrong where somebody in this cluster speaks the other format.
async fn strangers(shared: &Shared, connection: &mut MultiplexedConnection) -> Option<String> {
    let (mode, channel) = dialect::other(shared)?;
    let mut numsub = redis::cmd("PUBSUB");
    numsub.arg(dialect::count_of(mode)).arg(channel);
    // A Redis that knows of no such channels has nobody there, and who may not ask is not told.
    let (_, members) = numsub.query_async::<(String, usize)>(connection).await.ok()?;
    (members > 0).then(|| dialect::stranger(mode).to_owned())
}

/// After an outage others are on their way back, too, and Redis keeps nothing for them.
async fn wait_for_others(shared: &Shared, connection: &mut MultiplexedConnection) -> anyhow::Result<()> {
    let before = shared.members();
    let until = Instant::now() + BACK_MAX;
    while members(shared, connection).await? < before && Instant::now() < until {
        sleep(BACK_EVERY).await;
    }
    Ok(())
}

/// Publishes what waits, for as long as Redis answers.
async fn publish(shared: &Shared, mut connection: MultiplexedConnection, wires: Wires) -> anyhow::Result<()> {
    wait_for_others(shared, &mut connection).await?;
    loop {
        let waiting = shared.bus.first(BATCH).await;
        let mut pipes = wires.pipes();
        let mut count = 0;
        for entry in &waiting {
            if let Some((channel, message)) = outgoing::message(shared, entry) {
                if let Item::Question(question) = &entry.item {
                    if !shared.bus.asking().is_waiting(question) {
                        continue;
                    }
                    let members = members_of(shared, &channel, &mut connection).await?;
                    question.is_asked_of(members.saturating_sub(1));
                }
                pipes.cmd(dialect::publish(shared.mode()), &channel).arg(&message[..]);
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
