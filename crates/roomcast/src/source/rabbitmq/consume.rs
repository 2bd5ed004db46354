//! Deliveries of one queue, in order: asked what becomes of them, handed to the shards, acknowledged on completion. What has come already
//! is handed over together, so that a shard is woken once for it; nothing waits for what has yet to come.
//! The prefetch is the back-pressure: an event that is not through is not acknowledged, and the broker sends no more than that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, bail};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use hub::emission::Emission;
use hub::rules::{Arrival, FreshId, NewId, Origin, Outcome};

use lapin::message::Delivery;
use lapin::types::ShortString;
use lapin::{BasicProperties, Consumer};
use tokio::sync::{Notify, mpsc};

use super::acks::Due;
use super::dead_letter::DeadLetter;
use super::{Sampled, Shared, unix_ms};
use crate::fanout::Done;
use crate::source::new_id;
use crate::source::recent::{Identity, Recent, Seen};
use crate::supervisor::Stop;

/// What is going on with one queue on one connection.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) name: ShortString,
    received: AtomicU64,
    in_hand: AtomicUsize,
    /// Set while the next delivery is awaited: what waits at the broker then has no business to.
    idle: AtomicBool,
    empty: Notify,
}

impl Tally {
    pub(super) fn new(name: ShortString) -> Arc<Self> {
        Arc::new(Self {
            name,
            received: AtomicU64::new(0),
            in_hand: AtomicUsize::new(0),
            idle: AtomicBool::new(false),
            empty: Notify::new(),
        })
    }

    /// Deliveries so far.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Deliveries that are not acknowledged yet, but for those that wait unread.
    pub(super) fn in_hand(&self) -> usize {
        self.in_hand.load(Ordering::Acquire)
    }

    /// Whether the next delivery is awaited.
    pub(super) fn is_idle(&self) -> bool {
        self.idle.load(Ordering::Relaxed)
    }

    /// Waits until nothing is in hand.
    pub(super) async fn emptied(&self) {
        loop {
            let emptied = self.empty.notified();
            if self.in_hand() == 0 {
                return;
            }
            emptied.await;
        }
    }
}

/// Counts as in hand for as long as it lives.
#[derive(Debug)]
pub(super) struct InHand(Arc<Tally>);

impl InHand {
    fn new(tally: &Arc<Tally>) -> Self {
        tally.in_hand.fetch_add(1, Ordering::AcqRel);
        Self(tally.clone())
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        if self.0.in_hand.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.empty.notify_waiters();
        }
    }
}

/// A delivery's way back to the broker. Dropped without [`Receipt::settle`], the delivery stays unacknowledged.
#[derive(Debug)]
pub(super) struct Receipt {
    due: Due,
    acks: mpsc::UnboundedSender<Due>,
}

impl Receipt {
    /// The delivery is dealt with.
    pub(super) fn settle(self) {
        // A connection that is gone takes no acknowledgement; the broker delivers again.
        let _ = self.acks.send(self.due);
    }
}

/// How often a redelivery was seen, for the log.
static REDELIVERED: Sampled = Sampled::new();

/// Deliveries that are looked at before the shards get them: a fraction of a millisecond's work.
const DELIVERIES_AT_A_TIME: usize = 64;

/// Consumes one queue.
pub(super) struct Intake {
    pub(super) shared: Arc<Shared>,
    pub(super) tally: Arc<Tally>,
    pub(super) acks: mpsc::UnboundedSender<Due>,
    pub(super) letters: mpsc::Sender<DeadLetter>,
}

/// A delivery on its way to the shards. Cut off before they have all of it, it was not delivered: it is not acknowledged then, and its identity
/// is forgotten, so that the broker's next delivery of it goes out.
struct Handover {
    recent: Arc<Recent<Receipt>>,
    identity: Option<Identity>,
    complete: Arc<AtomicBool>,
    emissions: Vec<Emission>,
    done: Done,
}

impl Drop for Handover {
    fn drop(&mut self) {
        if !self.complete.load(Ordering::Acquire)
            && let Some(identity) = &self.identity
        {
            self.recent.forget(identity);
        }
    }
}

impl Intake {
    /// Takes deliveries until told to stop.
    ///
    /// # Errors
    /// The consumer has ended: the connection is lost, or the broker has cancelled it.
    pub(super) async fn run(self, mut consumer: Consumer, mut stop: Stop) -> anyhow::Result<()> {
        let mut handovers = Vec::with_capacity(DELIVERIES_AT_A_TIME);
        loop {
            self.tally.idle.store(true, Ordering::Relaxed);
            let mut delivery = tokio::select! {
                biased;
                _ = stop.requested() => return Ok(()),
                delivery = consumer.next() => delivery,
            };
            self.tally.idle.store(false, Ordering::Relaxed);
            for more in (0..DELIVERIES_AT_A_TIME).rev() {
                if let Some(letter) = self.take(self.delivery(delivery)?, &mut handovers) {
                    // The dead letters may be stuck: what came before this one does not wait for them.
                    self.hand_over(&mut handovers).await;
                    self.letters.send(letter).await.ok().context("dead letters are not taken any more")?;
                }
                if more == 0 {
                    break;
                }
                match consumer.next().now_or_never() {
                    Some(next) => delivery = next,
                    None => break,
                }
            }
            self.hand_over(&mut handovers).await;
        }
    }

    fn delivery(&self, next: Option<lapin::Result<Delivery>>) -> anyhow::Result<Delivery> {
        match next {
            Some(delivery) => delivery.with_context(|| format!("queue {}", self.tally.name)),
            None => bail!("RabbitMQ cancelled the consumer of queue {}: was the queue deleted?", self.tally.name),
        }
    }

    /// Finds out what becomes of a delivery: a handover, a dead letter, or nothing.
    fn take(&self, delivery: Delivery, handovers: &mut Vec<Handover>) -> Option<DeadLetter> {
        let Delivery { delivery_tag, exchange, routing_key: key, redelivered, properties, data, .. } = delivery;
        let (began, now_unix_ms) = (Instant::now(), unix_ms());
        let metrics = &self.shared.wiring.metrics;
        let queue = &self.tally.name;
        let due = Due { tag: delivery_tag, in_hand: Some(InHand::new(&self.tally)) };
        let receipt = Receipt { due, acks: self.acks.clone() };
        self.tally.received.fetch_add(1, Ordering::Relaxed);
        metrics.rabbitmq_deliveries.inc();
        if redelivered {
            metrics.rabbitmq_redelivered.inc();
            if let Some(times) = REDELIVERED.due() {
                tracing::warn!(%queue, %key, times, "RabbitMQ delivers again what it had delivered before: events may repeat");
            }
        }
        tracing::trace!(%queue, %exchange, %key, redelivered, bytes = data.len(), "a delivery");
        let body = Bytes::from(data);
        let outcome = if body.len() as u64 > self.shared.settings.event_max_bytes {
            let reason =
                format!("{} bytes are more than the {} of the limit", body.len(), self.shared.settings.event_max_bytes);
            Outcome::Poison { reason }
        } else {
            (self.shared.wiring.route)(&Arrival {
                origin: Origin::Rabbitmq { exchange: exchange.as_str(), queue: queue.as_str() },
                key: key.as_str(),
                body: &body,
                now_unix_ms,
                new_id: NewId::Fresh(&FreshId::new(&new_id)),
            })
        };
        match outcome {
            Outcome::Sent { emissions, once } => {
                let identity = identity(once, queue, &key, &properties);
                handovers.extend(self.handover(emissions, identity, receipt, began));
                None
            }
            Outcome::Ignored { reason } => {
                tracing::debug!(%queue, %key, reason, "ignored");
                self.shared.count_ignored(key.as_str());
                receipt.settle();
                None
            }
            Outcome::Poison { reason } => {
                let queue = queue.clone();
                Some(DeadLetter { queue, exchange, key, body, properties, reason, receipt })
            }
        }
    }

    /// Prepares an event for the shards; it is acknowledged when the last of them is through with it. Nothing where it is a repeat.
    fn handover(
        &self,
        emissions: Vec<Emission>,
        identity: Option<Identity>,
        receipt: Receipt,
        began: Instant,
    ) -> Option<Handover> {
        let metrics = self.shared.wiring.metrics.clone();
        let receipt = match &identity {
            None => receipt,
            Some(identity) => match self.shared.recent.begin(identity, receipt, began) {
                Seen::New(receipt) => receipt,
                Seen::Underway => {
                    metrics.rabbitmq_repeats.inc();
                    return None;
                }
                Seen::Sent(receipt) => {
                    metrics.rabbitmq_repeats.inc();
                    receipt.settle();
                    return None;
                }
            },
        };
        let complete = Arc::new(AtomicBool::new(false));
        let (recent, id, completed) = (self.shared.recent.clone(), identity.clone(), complete.clone());
        let done = Done::new(move |_| {
            if !completed.load(Ordering::Acquire) {
                return;
            }
            metrics.rabbitmq_to_socket_seconds.observe(began.elapsed().as_secs_f64());
            let repeats = id.map(|id| recent.through(&id)).unwrap_or_default();
            receipt.settle();
            repeats.into_iter().for_each(Receipt::settle);
        });
        tracing::trace!(event_id = done.id(), queue = %self.tally.name, emissions = emissions.len(), "routed");
        Some(Handover { recent: self.shared.recent.clone(), identity, complete, emissions, done })
    }

    /// Hands events to the shards, in order, as fast as they take them.
    async fn hand_over(&self, handovers: &mut Vec<Handover>) {
        for mut handover in handovers.drain(..) {
            self.shared.wiring.publisher.until_open().await;
            // The handover holds on to the completion until the flag stands, so that it cannot fire before.
            let (emissions, done) = (std::mem::take(&mut handover.emissions), handover.done.clone());
            self.shared.wiring.publisher.publish(emissions, Some(done)).await;
            handover.complete.store(true, Ordering::Release);
        }
    }
}

/// What makes a delivery the same event as another: the route's own word, or the message id.
fn identity(
    once: Option<String>,
    queue: &ShortString,
    key: &ShortString,
    properties: &BasicProperties,
) -> Option<Identity> {
    let message = || {
        let id = properties.message_id().as_ref().filter(|id| !id.as_str().is_empty())?;
        let [queue, key, id] = [queue, key, id].map(|text| text.as_str().into());
        Some(Identity::Message { queue, key, id })
    };
    once.map(|id| Identity::Once(id.into())).or_else(message)
}
