//! Events, orders, questions and answers on their way to the other nodes: a queue between whoever publishes and the connection to Redis, and their form
//! on the wire. An event stays in the queue until Redis has answered its publishing, and with it its completion.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hub::emission::Target;
use hub::names::{NamespaceId, RoomName};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use wire::bus::broadcast::{Outgoing, Scope};
use wire::bus::request::{Asked, Request, Who};

use super::Shared;
use super::asking::{Asking, Question};
use super::dialect::{self, Saying};
use crate::fanout::Event;
use crate::metrics::Metrics;
use crate::sampled::Sampled;
use crate::supervisor::Link;

/// Bytes of events that may wait. At the bound sources wait and clients are told `busy`.
const WAITING_MAX_BYTES: usize = 16 * 1024 * 1024;

/// Bytes beyond which no event waits any more, whoever publishes it: what hooks and handlers say does not ask for room.
const BEYOND_MAX_BYTES: usize = 4 * WAITING_MAX_BYTES;

/// What an event costs beside its payload.
const OVERHEAD_BYTES: usize = 256;

/// How long events wait: for a bus that is away, and for one that comes back again and again, and never takes what is the first of them. Then they
/// stay on this node; where the bus is away, so do those that come later, until it is back.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often it is looked whether the patience is at its end.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The least that a batch is, in bytes, where so much waits: Redis must take it within the time that every answer has, on a slow line, too.
const BATCH_BYTES: usize = 1024 * 1024;

/// How often something was dropped, for the log.
static AWAY: Sampled = Sampled::new();
static UNSAYABLE: Sampled = Sampled::new();

/// What waits.
#[derive(Clone)]
pub(super) enum Item {
    Event(Arc<Event>),
    Order(Arc<Order>),
    Question(Arc<Question>),
    Answer(Arc<Answer>),
}

/// What the other nodes are to do.
pub(super) struct Order {
    namespace: NamespaceId,
    request: Request,
}

/// What somebody asked.
pub(super) struct Answer {
    channel: String,
    message: Bytes,
}

impl Item {
    fn cost(&self) -> usize {
        match self {
            Self::Event(event) => event.emission.payload.size() + OVERHEAD_BYTES,
            Self::Order(_) | Self::Question(_) => OVERHEAD_BYTES,
            Self::Answer(answer) => answer.message.len() + OVERHEAD_BYTES,
        }
    }

    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Event(one), Self::Event(two)) => Arc::ptr_eq(one, two),
            (Self::Order(one), Self::Order(two)) => Arc::ptr_eq(one, two),
            (Self::Question(one), Self::Question(two)) => Arc::ptr_eq(one, two),
            (Self::Answer(one), Self::Answer(two)) => Arc::ptr_eq(one, two),
            (Self::Event(_) | Self::Order(_) | Self::Question(_) | Self::Answer(_), _) => false,
        }
    }
}

/// The way to the other nodes. Cheap to clone.
#[derive(Clone, Default)]
pub struct Bus(Arc<Inner>);

#[derive(Default)]
struct Inner {
    waiting: Mutex<Waiting>,
    bytes: AtomicUsize,
    arrived: Notify,
    freed: Notify,
    asking: Asking,
}

#[derive(Default)]
struct Waiting {
    items: VecDeque<Item>,
    /// Since when the first of them has been the first.
    first_since: Option<Instant>,
    /// The bus has been away for too long, or the node leaves: nothing waits any longer.
    is_given_up: bool,
    /// How many did not get to the other nodes, until they are counted.
    dropped: usize,
}

impl Waiting {
    fn remove_first(&mut self, count: usize) -> Vec<Item> {
        let removed: Vec<Item> = self.items.drain(..count).collect();
        if count > 0 {
            self.first_since = (!self.items.is_empty()).then(Instant::now);
        }
        removed
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus").field("bytes", &self.0.bytes).finish_non_exhaustive()
    }
}

impl Bus {
    /// Hands an event over, whatever waits already; beyond the last bound it stays on this node.
    pub fn publish(&self, event: &Arc<Event>) {
        self.put(Item::Event(event.clone()));
    }

    /// Has the other nodes disconnect sockets for good, with their connections.
    pub fn disconnect(&self, namespace: NamespaceId, rooms: Vec<String>) {
        let who = Who::Scope(Scope { rooms, except: Vec::new() });
        self.put(Item::Order(Arc::new(Order { namespace, request: Request::Disconnect { who, close: true } })));
    }

    /// Answers somebody's question.
    pub(super) fn answer(&self, channel: String, message: Bytes) {
        self.put(Item::Answer(Arc::new(Answer { channel, message })));
    }

    /// What is asked of the others.
    pub(super) fn asking(&self) -> &Asking {
        &self.0.asking
    }

    /// Returns whether it waits now: what is given up, or beyond the last bound, does not.
    pub(super) fn put(&self, item: Item) -> bool {
        let mut waiting = self.0.waiting.lock();
        if waiting.is_given_up || self.0.bytes.load(Ordering::Relaxed) >= BEYOND_MAX_BYTES {
            waiting.dropped += 1;
            return false;
        }
        self.0.bytes.fetch_add(item.cost(), Ordering::AcqRel);
        waiting.first_since.get_or_insert_with(Instant::now);
        waiting.items.push_back(item);
        drop(waiting);
        self.0.arrived.notify_one();
        true
    }

    /// Whether the bound is reached.
    pub fn is_full(&self) -> bool {
        self.0.bytes.load(Ordering::Relaxed) >= WAITING_MAX_BYTES
    }

    /// Waits while the bound is reached.
    pub async fn until_room(&self) {
        loop {
            let freed = self.0.freed.notified();
            if !self.is_full() {
                return;
            }
            freed.await;
        }
    }

    /// Waits until nothing waits.
    pub(super) async fn until_empty(&self) {
        loop {
            let freed = self.0.freed.notified();
            if self.0.bytes.load(Ordering::Acquire) == 0 {
                return;
            }
            freed.await;
        }
    }

    /// The first that wait, at most so many; waits for one. They go on waiting until they are [removed](Self::remove).
    pub(super) async fn first(&self, max: usize) -> Vec<Item> {
        loop {
            let arrived = self.0.arrived.notified();
            let mut bytes = 0;
            let fits = |item: &&Item| {
                let before = bytes;
                bytes += item.cost();
                before < BATCH_BYTES
            };
            let first: Vec<Item> = self.0.waiting.lock().items.iter().take(max).take_while(fits).cloned().collect();
            if !first.is_empty() {
                return first;
            }
            arrived.await;
        }
    }

    /// These, which were the first, are with Redis.
    pub(super) fn remove(&self, items: &[Item]) {
        let mut waiting = self.0.waiting.lock();
        // What was given up meanwhile is not there any more.
        let still = items.iter().zip(&waiting.items).take_while(|(item, first)| item.is(first)).count();
        let removed = waiting.remove_first(still);
        drop(waiting);
        self.free(&removed);
    }

    /// Nothing waits any longer, nor does what comes later, where it `stays` so.
    fn give_up(&self, stays: bool) {
        let mut waiting = self.0.waiting.lock();
        let count = waiting.items.len();
        let removed = waiting.remove_first(count);
        waiting.dropped += count;
        waiting.is_given_up = stays;
        drop(waiting);
        self.free(&removed);
    }

    fn free(&self, removed: &[Item]) {
        let bytes = removed.iter().map(Item::cost).sum();
        let before = self.0.bytes.fetch_sub(bytes, Ordering::AcqRel);
        if before >= WAITING_MAX_BYTES || before == bytes {
            self.0.freed.notify_waiters();
        }
    }

    /// Nothing waits any longer, and nothing will.
    pub(super) fn close(&self) {
        self.give_up(true);
    }

    /// Gives up what has waited for too long, and takes events again when the bus is back.
    pub(super) async fn look_after(self, mut link: watch::Receiver<Link>, metrics: Arc<Metrics>) {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut away_since = None;
        loop {
            tokio::select! {
                _ = looks.tick() => {}
                changed = link.changed() => if changed.is_err() { return },
            }
            let now = Instant::now();
            let is_up = *link.borrow_and_update() == Link::Connected;
            away_since = if is_up { None } else { away_since.or(Some(now)) };
            self.look(away_since, now);
            let dropped = std::mem::take(&mut self.0.waiting.lock().dropped);
            metrics.bus_dropped.add("away", dropped as u64);
            if dropped > 0
                && let Some(times) = AWAY.due()
            {
                tracing::warn!(
                    dropped,
                    times,
                    "events reached this node's members alone: the cluster's bus is away, or does not take them"
                );
            }
        }
    }

    fn look(&self, away_since: Option<Instant>, now: Instant) {
        let is_too_long = |since: Option<Instant>| since.is_some_and(|since| now.duration_since(since) >= PATIENCE);
        let is_stuck = is_too_long(self.0.waiting.lock().first_since);
        if is_stuck || is_too_long(away_since) {
            self.give_up(away_since.is_some());
        } else if away_since.is_none() {
            self.0.waiting.lock().is_given_up = false;
        }
    }
}

/// What is published: the channel and the message. `None` where it is for no namespace that other nodes know, or cannot be said.
pub(super) fn message(shared: &Shared, item: &Item) -> Option<(String, Bytes)> {
    let said = match item {
        Item::Event(event) => event_message(shared, event),
        Item::Order(order) => request_message(shared, order.namespace, None, &order.request),
        Item::Question(question) => {
            request_message(shared, question.namespace, Some(question.id.clone()), &question.request)
        }
        Item::Answer(answer) => Ok(Some((answer.channel.clone(), answer.message.clone()))),
    };
    match said {
        Ok(said) => said,
        Err(error) => {
            shared.gateway.metrics.bus_dropped.inc("unsayable");
            if let Some(times) = UNSAYABLE.due() {
                tracing::warn!(%error, times, "what cannot be said to other nodes reached this node's members alone");
            }
            None
        }
    }
}

fn request_message(shared: &Shared, namespace: NamespaceId, id: Option<String>, request: &Request) -> Saying {
    let asked = Asked { uid: Some(shared.uid.clone()), id, request: request.clone() };
    dialect::request(shared, namespace, &asked)
}

fn event_message(shared: &Shared, event: &Event) -> Saying {
    let emission = &event.emission;
    let channels = shared.channels_of(emission.namespace);
    let (Some(channels), Ok(arguments)) = (channels, std::str::from_utf8(&emission.payload.json)) else {
        return Ok(None);
    };
    let names = |names: &[RoomName]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let rooms = match &emission.target {
        Target::Everyone => Vec::new(),
        Target::Rooms(rooms) => names(rooms.names()),
    };
    let mut except = names(&emission.except.rooms);
    except.extend(emission.except.sockets.iter().map(|id| id.as_str().to_owned()));
    let scope = Scope { rooms, except };
    let outgoing = Outgoing {
        uid: &shared.uid,
        namespace: &channels.name,
        event: emission.event.as_str(),
        arguments,
        attachments: &emission.payload.attachments,
        scope: &scope,
        volatile: emission.sending.volatile,
    };
    dialect::event(shared, channels, &outgoing)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hub::emission::{Emission, Except, Payload, Sending};
    use hub::names::{EventName, NamespaceId};

    use super::*;

    fn event(bytes: usize) -> Arc<Event> {
        let emission = Emission {
            namespace: NamespaceId(0),
            target: Target::Everyone,
            except: Except::default(),
            event: EventName::parse("e").expect("a name"),
            payload: Payload { json: Bytes::from(vec![b'0'; bytes]), attachments: [].into() },
            sending: Sending::default(),
        };
        Arc::new(Event { emission, done: None, version: None })
    }

    fn waiting(bus: &Bus) -> usize {
        bus.0.waiting.lock().items.len()
    }

    #[tokio::test]
    async fn batches_are_bounded_in_bytes_and_have_one_event_at_least() {
        let bus = Bus::default();
        (0..3).for_each(|_| bus.publish(&event(BATCH_BYTES)));
        (0..9).for_each(|_| bus.publish(&event(1)));
        for expected in [1, 1, 1, 5, 4] {
            let first = bus.first(5).await;
            assert_eq!(first.len(), expected);
            bus.remove(&first);
        }
        bus.until_empty().await;
    }

    #[tokio::test]
    async fn what_was_given_up_is_not_removed_again() {
        let bus = Bus::default();
        (0..2).for_each(|_| bus.publish(&event(1)));
        let first = bus.first(5).await;
        bus.give_up(false);
        bus.publish(&event(1));
        bus.remove(&first);
        assert_eq!((waiting(&bus), bus.0.bytes.load(Ordering::Relaxed)), (1, Item::Event(event(1)).cost()));
    }

    #[test]
    fn an_event_that_the_bus_never_takes_is_given_up_though_the_bus_is_there() {
        let bus = Bus::default();
        bus.publish(&event(1));
        let now = Instant::now();
        bus.look(None, now);
        assert_eq!(waiting(&bus), 1);
        bus.look(None, now + PATIENCE);
        assert_eq!(waiting(&bus), 0);
        bus.publish(&event(1));
        assert_eq!(waiting(&bus), 1, "those that come later have their own time");
    }

    #[test]
    fn nothing_waits_for_a_bus_that_is_away_for_long() {
        let bus = Bus::default();
        let now = Instant::now();
        bus.look(Some(now), now);
        bus.publish(&event(1));
        assert_eq!(waiting(&bus), 1);
        bus.look(Some(now), now + PATIENCE);
        bus.publish(&event(1));
        assert_eq!((waiting(&bus), bus.0.waiting.lock().dropped), (0, 2));
        bus.look(None, now + PATIENCE);
        bus.publish(&event(1));
        assert_eq!((waiting(&bus), bus.0.waiting.lock().dropped), (1, 2));
    }
}
