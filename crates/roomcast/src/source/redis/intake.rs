//! What Redis brings, in order: from the connection into a bounded queue, and from there to the shards. Redis cuts subscribers that do not keep
//! up, and holds nothing for them: so the connection is always read, and what finds the queue full is dropped and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::bail;
use bytes::Bytes;
use hub::rules::{Arrival, FreshId, NewId, Origin, Outcome};
use redis::PushInfo;
use tokio::sync::{mpsc, watch};

use super::Shared;
use crate::metrics::Metrics;
use crate::redis_link::{Ear, Pushed};
use crate::sampled::Sampled;
use crate::source::recent::{Identity, Seen};
use crate::source::{new_id, unix_ms};

/// Messages that may wait.
const WAITING_MAX: usize = 8_192;

/// Their bytes together.
const WAITING_MAX_BYTES: usize = 16 * 1024 * 1024;

/// How often something was dropped, for the log.
static FULL: Sampled = Sampled::new();
static TOO_LARGE: Sampled = Sampled::new();
static POISON: Sampled = Sampled::new();

/// A message of one of the channels.
struct Message {
    /// The channel, by its place in the settings.
    channel: usize,
    body: Bytes,
}

/// The connection's side: must not block.
pub(super) struct Inlet {
    shared: Arc<Shared>,
    ear: Ear,
    queue: mpsc::Sender<Message>,
    waiting_bytes: Arc<AtomicUsize>,
}

/// The other side.
pub(super) struct Intake {
    /// What came by the channels.
    pub(super) queue: Queue,
    /// The canary that came last.
    pub(super) heard: watch::Receiver<u64>,
}

/// What waits; ends with the connection.
pub(super) struct Queue {
    messages: mpsc::Receiver<Message>,
    waiting_bytes: Arc<AtomicUsize>,
}

/// Both sides for one connection.
pub(super) fn intake(shared: &Arc<Shared>, own_channel: String) -> (Inlet, Intake) {
    let (queue, messages) = mpsc::channel(WAITING_MAX);
    let (tell, heard) = watch::channel(0);
    let waiting_bytes = Arc::new(AtomicUsize::new(0));
    let inlet =
        Inlet { shared: shared.clone(), ear: Ear::at(own_channel, tell), queue, waiting_bytes: waiting_bytes.clone() };
    (inlet, Intake { queue: Queue { messages, waiting_bytes }, heard })
}

impl Inlet {
    /// Takes what the connection brings by itself; only messages mean something here.
    pub(super) fn take(&self, push: PushInfo) {
        let Some(Pushed { channel, body, .. }) = Pushed::of(push).and_then(|message| self.ear.pass(message)) else {
            return;
        };
        let settings = &self.shared.settings;
        let Some(channel) = settings.channels.iter().position(|own| own.as_bytes() == channel) else { return };
        let (name, metrics) = (&settings.channels[channel], &self.shared.wiring.metrics);
        metrics.redis_messages.inc();
        tracing::trace!(channel = name, bytes = body.len(), "a message of Redis");
        if body.len() as u64 > settings.event_max_bytes {
            let (bytes, limit) = (body.len(), settings.event_max_bytes);
            return dropped(
                metrics,
                "too_large",
                &TOO_LARGE,
                name,
                &format!("{bytes} bytes are more than the {limit} of the limit"),
            );
        }
        let size = body.len();
        let before = self.waiting_bytes.fetch_add(size, Ordering::AcqRel);
        let message = Message { channel, body };
        if before + size > WAITING_MAX_BYTES || self.queue.try_send(message).is_err() {
            self.waiting_bytes.fetch_sub(size, Ordering::AcqRel);
            dropped(metrics, "full", &FULL, name, "the shards do not keep up");
        }
    }
}

impl Queue {
    /// Hands what comes to the shards, until the connection ends.
    ///
    /// # Errors
    /// It has.
    pub(super) async fn run(mut self, shared: Arc<Shared>) -> anyhow::Result<()> {
        while let Some(Message { channel, body }) = self.messages.recv().await {
            let size = body.len();
            hand_over(&shared, &shared.settings.channels[channel], &body).await;
            self.waiting_bytes.fetch_sub(size, Ordering::AcqRel);
        }
        bail!("the connection to Redis was lost")
    }
}

/// Finds out what becomes of a message, and hands it to the shards as fast as they take it.
async fn hand_over(shared: &Shared, channel: &str, body: &Bytes) {
    let wiring = &shared.wiring;
    let outcome = (wiring.route)(&Arrival {
        origin: Origin::Redis { channel },
        key: channel,
        body,
        now_unix_ms: unix_ms(),
        new_id: NewId::Fresh(&FreshId::new(&new_id)),
    });
    match outcome {
        Outcome::Sent { mut emissions, once } => {
            let identity = once.map(|id| Identity::Once(id.into()));
            if let Some(identity) = &identity
                && shared.recent.begin(identity, (), Instant::now()) != Seen::New(())
            {
                return tracing::debug!(channel, "a repeat: it was sent lately");
            }
            // Every node of a cluster listens to the channels.
            emissions.iter_mut().for_each(|emission| emission.sending.local = true);
            wiring.publisher.publish(emissions, None).await;
            if let Some(identity) = &identity {
                shared.recent.through(identity);
            }
        }
        Outcome::Ignored { reason } => {
            tracing::debug!(channel, reason, "ignored");
            // The profile's channels are few, and there are no others.
            wiring.metrics.events_ignored.inc(channel);
        }
        Outcome::Poison { reason } => dropped(&wiring.metrics, "poison", &POISON, channel, &reason),
    }
}

fn dropped(metrics: &Metrics, why: &str, sampled: &Sampled, channel: &str, reason: &str) {
    metrics.redis_dropped.inc(why);
    if let Some(times) = sampled.due() {
        tracing::warn!(channel, reason, times, "an event of Redis was dropped");
    }
}
