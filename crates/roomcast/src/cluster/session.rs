//! One connection to the cluster's Redis, from its beginning to its end: subscribed, publishing, watched by a canary, and given up on the first doubt.

use std::sync::Arc;

use anyhow::Context;
use redis::aio::MultiplexedConnection;

use super::incoming::intake;
use super::{Shared, outgoing, requests};
use crate::redis_link::{Canary, lost, refused};
use crate::supervisor::{Link, Stop};

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
    let prefix = &shared.settings.prefix;
    for name in shared.gateway.profile.rules.namespaces() {
        let pattern = format!("{}*", escaped(&format!("{prefix}#{name}#")));
        let subscribed = connection.psubscribe(&pattern).await.map_err(refused);
        subscribed.with_context(|| format!("cannot subscribe to {pattern}"))?;
        // Who listens to requests counts as a member, and others wait for its answers: so it is listened to once, and last.
        let channel = requests::channel(prefix, name);
        let subscribed = connection.subscribe(&channel).await.map_err(refused);
        subscribed.with_context(|| format!("cannot subscribe to {channel}"))?;
    }
    let canary = Canary::subscribe(&mut connection, own_channel, heard).await?;
    shared.concerns.send_replace(canary.concerns());
    shared.link.send_replace(Link::Connected);
    let taking = queue.run(shared.clone(), connection.clone());
    let publishing = publish(shared, connection.clone());
    tokio::select! {
        biased;
        _ = stop.requested() => Ok(()),
        result = taking => result,
        result = publishing => result,
        result = canary.run(&mut connection) => result,
    }
}

/// Publishes what waits, for as long as Redis answers.
async fn publish(shared: &Shared, mut connection: MultiplexedConnection) -> anyhow::Result<()> {
    loop {
        let waiting = shared.bus.first(BATCH).await;
        let mut pipe = redis::pipe();
        let mut count = 0;
        for item in &waiting {
            if let Some((channel, message)) = outgoing::message(shared, item) {
                pipe.cmd("PUBLISH").arg(channel).arg(&message[..]).ignore();
                count += 1;
            }
        }
        if count > 0 {
            pipe.query_async::<()>(&mut connection).await.map_err(lost)?;
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
