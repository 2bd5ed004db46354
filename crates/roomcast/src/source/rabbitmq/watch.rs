//! Is anything still coming through? A canary on a queue of the node's own, over the channel that the real deliveries come by, and a look at
//! the queues: messages that wait while none is delivered. A connection that only looks alive is dropped within 15 seconds.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use futures_util::StreamExt;
use hub::profile::Consumers;
use lapin::options::{BasicConsumeOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, Consumer, Queue};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::acks::Due;
use super::consume::Tally;
use super::publish::{Message, Said};
use super::{Shared, topology};
use crate::supervisor::Fault;

/// The pause between two canaries, and between two looks at the queues.
const EVERY: Duration = Duration::from_secs(3);

/// How long a canary may take, and how long messages may wait while none is delivered.
const DEAF_AFTER: Duration = Duration::from_secs(10);

/// How long a queue has more consumers than the cluster has members before they are called strangers: members who come and go are in one count earlier than in
/// the other, and of a connection that was lost without a word RabbitMQ keeps the consumer for up to three heartbeats.
const STRANGER_AFTER: Duration = Duration::from_secs(45);

/// A canary's queue and what comes out of it.
pub(super) struct Canary {
    queue: ShortString,
    consumer: Consumer,
}

impl Canary {
    /// Makes the queue, which goes with the connection, and listens to it. `channel` is the one that the real deliveries come by.
    pub(super) async fn open(channel: &Channel) -> anyhow::Result<Self> {
        let options = QueueDeclareOptions::exclusive().auto_delete();
        let queue = channel.queue_declare(ShortString::default(), options, FieldTable::default()).await;
        let queue = queue.context("cannot make the canary's queue")?.name().clone();
        let options = BasicConsumeOptions { no_ack: true, exclusive: true, ..BasicConsumeOptions::default() };
        let consumer =
            channel.basic_consume(queue.clone(), ShortString::default(), options, FieldTable::default()).await;
        Ok(Self { queue, consumer: consumer.context("cannot consume the canary's queue")? })
    }

    /// Sends canaries for as long as they come back.
    ///
    /// # Errors
    /// [`Fault::Deaf`] once one does not.
    pub(super) async fn run(mut self, shared: Arc<Shared>, acks: mpsc::UnboundedSender<Due>) -> anyhow::Result<()> {
        let mut last_good = Instant::now();
        for number in 0_u64.. {
            sleep(EVERY).await;
            let text = number.to_string();
            let (exchange, key) = (ShortString::default(), self.queue.clone());
            let message = Message { exchange, key, body: text.as_bytes(), properties: BasicProperties::default() };
            let said = timeout(DEAF_AFTER, shared.publishing.send(message)).await.unwrap_or(Said::Nothing);
            match said {
                Said::Stored => {
                    self.hear(text.as_bytes(), &acks).await?;
                    last_good = Instant::now();
                }
                // It is short of memory or disk and takes nothing from anyone; health says so.
                Said::No | Said::Nothing if shared.publishing.blocked_reason().is_some() => last_good = Instant::now(),
                Said::No | Said::Nothing if last_good.elapsed() + EVERY < DEAF_AFTER => {}
                Said::Returned | Said::No | Said::Nothing => {
                    let reason = format!("RabbitMQ does not take a message to this node's own queue ({said:?})");
                    return Err(Fault::Deaf(reason).into());
                }
            }
        }
        Ok(())
    }

    async fn hear(&mut self, sent: &[u8], acks: &mpsc::UnboundedSender<Due>) -> anyhow::Result<()> {
        let heard = timeout(DEAF_AFTER, async {
            loop {
                match self.consumer.next().await {
                    Some(Ok(delivery)) => {
                        // It has a number on the channel, too, over which the acknowledgements of the others have to get.
                        let _ = acks.send(Due { tag: delivery.delivery_tag, in_hand: None });
                        if delivery.data == sent {
                            return Ok(());
                        }
                    }
                    Some(Err(error)) => return Err(error).context("the canary"),
                    None => anyhow::bail!("RabbitMQ cancelled the canary's consumer"),
                }
            }
        });
        let deaf =
            || Fault::Deaf(format!("a message to this node's own queue did not come back within {DEAF_AFTER:?}"));
        heard.await.map_err(|_| deaf())?
    }
}

/// Looks at the queues for as long as the connection stands: says who else consumes them, and whether messages wait while none is delivered.
///
/// # Errors
/// [`Fault::Deaf`] where they do; a queue that is gone.
pub(super) async fn look(
    shared: Arc<Shared>,
    connection: Arc<Connection>,
    tallies: Vec<Arc<Tally>>,
) -> anyhow::Result<()> {
    let channel = connection.create_channel().await?;
    let mut quiet: Vec<Quiet> = tallies.iter().map(|tally| Quiet::new(tally.received(), Instant::now())).collect();
    let mut strangers = vec![Strangers::default(); tallies.len()];
    loop {
        let mut concerns = Vec::new();
        for (tally, (quiet, strangers)) in tallies.iter().zip(quiet.iter_mut().zip(&mut strangers)) {
            let name = &tally.name;
            let queue = timeout(DEAF_AFTER, topology::inspect(&channel, name))
                .await
                .map_err(|_| Fault::Deaf(format!("RabbitMQ says nothing about queue {name}")))?
                .with_context(|| format!("cannot look at queue {name}"))?;
            let others = queue.consumer_count().saturating_sub(1);
            if shared.settings.consumers == Consumers::All {
                concerns.extend(strangers.look(&shared, &queue, Instant::now()));
            }
            let waiting = queue.message_count();
            let glance = Glance {
                received: tally.received(),
                waiting,
                stands_by: others > 0 && topology::is_anothers(name, &shared.warned),
                idle: tally.is_idle() && tally.in_hand() < usize::from(shared.settings.prefetch),
            };
            if quiet.is_deaf(&glance, Instant::now()) {
                return Err(
                    Fault::Deaf(format!("{waiting} messages wait in queue {name}, but none is delivered")).into()
                );
            }
        }
        if let Some(reason) = shared.publishing.blocked_reason() {
            concerns.push(format!("RabbitMQ takes no messages for now: {reason}"));
        }
        let stuck = shared.stuck_letters.load(Ordering::Relaxed);
        if stuck > 0 {
            let queue = &shared.settings.dead_letter;
            concerns.push(format!(
                "{stuck} message(s) wait unacknowledged, since the dead-letter queue {queue} does not take them"
            ));
        }
        shared.concerns.send_if_modified(|told| {
            let news = *told != concerns;
            *told = concerns;
            news
        });
        sleep(EVERY).await;
    }
}

/// A queue's consumers that are not of the cluster: what they take, none of its clients gets.
#[derive(Debug, Clone, Default)]
struct Strangers {
    /// Since when there are some.
    since: Option<Instant>,
}

impl Strangers {
    /// What is wrong where there are some.
    fn look(&mut self, shared: &Shared, queue: &Queue, now: Instant) -> Option<String> {
        let is_alone = shared.wiring.publisher.bus().is_none();
        let metrics = &shared.wiring.metrics;
        let members = match (is_alone, metrics.bus_up.get()) {
            (true, _) => 1,
            (false, 0) => 0,
            (false, _) => metrics.bus_members.get(),
        };
        // None are known while Redis is away, or where it does not let this node count them.
        let strangers = if members > 0 { i64::from(queue.consumer_count()) - members } else { 0 };
        if strangers <= 0 {
            self.since = None;
            return None;
        }
        let since = *self.since.get_or_insert(now);
        let (than, whose) =
            if is_alone { ("", "this node's") } else { (" than the cluster has members in reach", "the cluster's") };
        let name = queue.name();
        (is_alone || now.duration_since(since) >= STRANGER_AFTER).then(|| {
            format!("queue {name} has {strangers} more consumer(s){than}, which take their share of the events: {whose} clients do not get those")
        })
    }
}

/// What one look at a queue saw.
struct Glance {
    /// Deliveries so far.
    received: u64,
    /// Messages that wait at the broker.
    waiting: u32,
    /// Whether all that waits may be another consumer's: RabbitMQ gives each its share, unless the queue was declared to have a single active one, which we
    /// never do.
    stands_by: bool,
    /// Whether we would take a message, were one to come: shards without room and a full hand are back-pressure, not deafness.
    idle: bool,
}

/// Since when a queue has given nothing that it should have given.
struct Quiet {
    received: u64,
    since: Instant,
}

impl Quiet {
    fn new(received: u64, now: Instant) -> Self {
        Self { received, since: now }
    }

    /// Whether messages have been waiting for us for too long.
    fn is_deaf(&mut self, glance: &Glance, now: Instant) -> bool {
        let excused = glance.waiting == 0 || glance.stands_by || !glance.idle;
        if excused || glance.received != self.received {
            *self = Self::new(glance.received, now);
        }
        now.duration_since(self.since) >= DEAF_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_that_wait_for_nobody_are_deafness() {
        let start = Instant::now();
        // Each row: received, waiting, stands by, idle, and what follows after the time in which messages may wait.
        let check = |received, waiting, stands_by, idle, expected| {
            let mut quiet = Quiet::new(5, start);
            let glance = Glance { received, waiting, stands_by, idle };
            assert!(!quiet.is_deaf(&glance, start), "not at once");
            let what = format!("{received} received, {waiting} waiting, stands by: {stands_by}, idle: {idle}");
            assert_eq!(quiet.is_deaf(&glance, start + DEAF_AFTER), expected, "{what}");
        };
        check(5, 1, false, true, true);
        check(5, 0, false, true, false);
        check(5, 1, true, true, false);
        check(5, 1, false, false, false);
        let mut quiet = Quiet::new(5, start);
        let glance = Glance { received: 6, waiting: 1, stands_by: false, idle: true };
        assert!(!quiet.is_deaf(&glance, start + DEAF_AFTER), "one came meanwhile");
        assert!(quiet.is_deaf(&glance, start + DEAF_AFTER * 2), "and then none");
    }
}
