//! Deliveries of one queue, one at a time and in order: asked what becomes of them, handed to the shards, acknowledged on completion.
//! The prefetch is the back-pressure: an event that is not through is not acknowledged, and the broker sends no more than that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, bail};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::join_all;
use hub::emission::Emission;
use hub::rules::{Arrival, FreshId, NewId, Origin, Outcome};

use lapin::message::Delivery;
use lapin::options::BasicAckOptions;
use lapin::types::ShortString;
use lapin::{Acker, BasicProperties, Consumer};
use tokio::sync::{Notify, mpsc};

use super::dead_letter::DeadLetter;
use super::{Sampled, Shared, unix_ms};
use crate::fanout::Done;
use crate::source::recent::{Identity, Seen};
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
struct InHand(Arc<Tally>);

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

/// An acknowledgement that is due.
#[derive(Debug)]
pub(super) struct Due {
    acker: Acker,
    _in_hand: InHand,
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

/// Acknowledgements that are written at a time.
const ACKS_AT_A_TIME: usize = 256;

/// Acknowledges what is due, in the order in which it comes, for as long as anything may come. What waits is bounded by the prefetch.
pub(super) async fn acknowledge(shared: Arc<Shared>, mut due: mpsc::UnboundedReceiver<Due>) -> anyhow::Result<()> {
    let mut batch = Vec::with_capacity(ACKS_AT_A_TIME);
    while due.recv_many(&mut batch, ACKS_AT_A_TIME).await > 0 {
        for result in join_all(batch.iter().map(|due| due.acker.ack(BasicAckOptions::default()))).await {
            if result.context("cannot acknowledge a delivery")? {
                shared.wiring.metrics.rabbitmq_acked.inc();
            }
        }
        batch.clear();
    }
    Ok(())
}

/// How often a redelivery was seen, for the log.
static REDELIVERED: Sampled = Sampled::new();

/// Consumes one queue.
pub(super) struct Intake {
    pub(super) shared: Arc<Shared>,
    pub(super) tally: Arc<Tally>,
    pub(super) acks: mpsc::UnboundedSender<Due>,
    pub(super) letters: mpsc::Sender<DeadLetter>,
}

/// A delivery on its way to the shards. Cut off before they have all of it, it was not delivered: it is not acknowledged then, and its identity
/// is forgotten, so that the broker's next delivery of it goes out.
struct Handover<'a> {
    shared: &'a Shared,
    identity: Option<&'a Identity>,
    complete: Arc<AtomicBool>,
}

impl Drop for Handover<'_> {
    fn drop(&mut self) {
        if !self.complete.load(Ordering::Acquire)
            && let Some(identity) = self.identity
        {
            self.shared.recent.forget(identity);
        }
    }
}

impl Intake {
    /// Takes deliveries until told to stop.
    ///
    /// # Errors
    /// The consumer has ended: the connection is lost, or the broker has cancelled it.
    pub(super) async fn run(self, mut consumer: Consumer, mut stop: Stop) -> anyhow::Result<()> {
        loop {
            self.tally.idle.store(true, Ordering::Relaxed);
            let delivery = tokio::select! {
                biased;
                _ = stop.requested() => return Ok(()),
                delivery = consumer.next() => delivery,
            };
            self.tally.idle.store(false, Ordering::Relaxed);
            match delivery {
                Some(Ok(delivery)) => self.take(delivery).await?,
                Some(Err(error)) => return Err(error).with_context(|| format!("queue {}", self.tally.name)),
                None => bail!("RabbitMQ cancelled the consumer of queue {}: was the queue deleted?", self.tally.name),
            }
        }
    }

    async fn take(&self, delivery: Delivery) -> anyhow::Result<()> {
        let Delivery { exchange, routing_key: key, redelivered, properties, data, acker, .. } = delivery;
        let (began, now_unix_ms) = (Instant::now(), unix_ms());
        let metrics = &self.shared.wiring.metrics;
        let queue = &self.tally.name;
        let receipt = Receipt { due: Due { acker, _in_hand: InHand::new(&self.tally) }, acks: self.acks.clone() };
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
                self.send(emissions, identity, receipt, began).await;
            }
            Outcome::Ignored { reason } => {
                tracing::debug!(%queue, %key, reason, "ignored");
                self.shared.count_ignored(key.as_str());
                receipt.settle();
            }
            Outcome::Poison { reason } => {
                let queue = queue.clone();
                let letter = DeadLetter { queue, exchange, key, body, properties, reason, receipt };
                self.letters.send(letter).await.ok().context("dead letters are not taken any more")?;
            }
        }
        Ok(())
    }

    /// Hands an event to the shards; it is acknowledged when the last of them is through with it.
    async fn send(&self, emissions: Vec<Emission>, identity: Option<Identity>, receipt: Receipt, began: Instant) {
        let metrics = self.shared.wiring.metrics.clone();
        let receipt = match &identity {
            None => receipt,
            Some(identity) => match self.shared.recent.begin(identity, receipt, began) {
                Seen::New(receipt) => receipt,
                Seen::Underway => {
                    metrics.rabbitmq_repeats.inc();
                    return;
                }
                Seen::Sent(receipt) => {
                    metrics.rabbitmq_repeats.inc();
                    receipt.settle();
                    return;
                }
            },
        };
        let complete = Arc::new(AtomicBool::new(false));
        let handover = Handover { shared: &self.shared, identity: identity.as_ref(), complete: complete.clone() };
        let (recent, id) = (self.shared.recent.clone(), identity.clone());
        let done = Done::new(move |_| {
            if !complete.load(Ordering::Acquire) {
                return;
            }
            metrics.rabbitmq_to_socket_seconds.observe(began.elapsed().as_secs_f64());
            let repeats = id.map(|id| recent.through(&id)).unwrap_or_default();
            receipt.settle();
            repeats.into_iter().for_each(Receipt::settle);
        });
        tracing::trace!(event_id = done.id(), queue = %self.tally.name, emissions = emissions.len(), "routed");
        // Held until the flag stands, so that it cannot fire before.
        let held = done.clone();
        self.shared.wiring.publisher.publish(emissions, Some(done)).await;
        handover.complete.store(true, Ordering::Release);
        drop(held);
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

/// An id that nobody else has: 15 random bytes in 20 characters.
fn new_id() -> String {
    use base64::Engine;
    let mut bytes = [0; 15];
    getrandom::fill(&mut bytes).expect("the operating system had randomness at the start");
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}
