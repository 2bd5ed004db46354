//! One connection to Redis, from its beginning to its end: subscribed, watched by a canary, and given up on the first doubt. A connection that
//! only looks alive is dropped within 15 seconds.

use std::pin::pin;
use std::sync::Arc;

use anyhow::Context;

use super::Shared;
use super::intake::{Intake, intake};
use crate::redis_link::{Canary, To, refused};
use crate::source::new_id;
use crate::supervisor::{Link, Stop};

/// Connects, subscribes, and takes what comes until told to stop.
///
/// # Errors
/// The connection cannot be had, or was lost; it is deaf where nothing comes through it.
pub(super) async fn run(shared: &Arc<Shared>, mut stop: Stop) -> anyhow::Result<()> {
    let settings = &shared.settings;
    let own_channel = format!("roomcast:canary:{}", new_id());
    let (inlet, Intake { queue, heard }) = intake(shared, own_channel.clone());
    let channels = settings.channels.as_slice();
    // In a Redis Cluster every server hears of what is published at any.
    let near = To::Any(channels.first().map_or("", String::as_str));
    let mut connection = settings.server.connect(near, move |push| inlet.take(push)).await?.connection;
    let subscribed = connection.subscribe(channels).await.map_err(refused);
    subscribed.with_context(|| format!("cannot subscribe to {}", channels.join(", ")))?;
    let canary = Canary::subscribe(&mut connection, own_channel, heard).await?;
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
