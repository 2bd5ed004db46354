//! Events, orders, questions and answers on their way to the other nodes: a queue between whoever publishes and the connection to Redis. An event stays in it until
//! Redis has answered its publishing, and with it its completion. How it is said is for `saying`.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hub::emission::Payload;
use hub::names::{EventName, NamespaceId};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use wire::bus::broadcast::Scope;
use wire::bus::request::{Request, Who};

use super::Shared;
use super::asking::Asking;
use super::outage::Way;
use super::saying::{Answer, Item, Order, decoded, names};
use crate::fanout::Event;
use crate::sampled::Sampled;
use crate::shard::inbox;

/// Bytes of events that may wait. At the bound sources wait and clients are told `busy`.
const WAITING_MAX_BYTES: usize = 16 * 1024 * 1024;

/// Bytes beyond which no event waits any more, whoever publishes it: what hooks and handlers say does not ask for room.
const BEYOND_MAX_BYTES: usize = 4 * WAITING_MAX_BYTES;

/// The least that a batch is, in bytes, where so much waits: Redis must take it within the time that every answer has, on a slow line, too.
const BATCH_BYTES: usize = 1024 * 1024;

/// How often a connection may be lost with an event that was alone on its way, before that event is taken for the reason.
const LOST_WITH_MAX: u32 = 3;

/// How often something was dropped, for the log.
static REFUSED: Sampled = Sampled::new();

/// Something in the queue.
#[derive(Clone)]
pub(super) struct Entry {
    /// Its number on this node, by which others know a repeat.
    pub(super) number: u64,
    pub(super) item: Item,
    /// What it takes of the queue's bound.
    cost: usize,
    since: Instant,
    /// It was on its way when a connection ended, so that it may have arrived.
    pub(super) is_tried: bool,
}

/// The way to the other nodes. Cheap to clone.
#[derive(Clone, Default)]
pub struct Bus(Arc<Inner>);

#[derive(Default)]
struct Inner {
    waiting: Mutex<Waiting>,
    way: watch::Sender<Way>,
    bytes: AtomicUsize,
    arrived: Notify,
    freed: Notify,
    asking: Asking,
    /// Sockets in answers that could not be read, until they are counted.
    unreadable: AtomicUsize,
}

#[derive(Default)]
struct Waiting {
    entries: VecDeque<Entry>,
    last_number: u64,
    /// Since when the first of them has been the first.
    first_since: Option<Instant>,
    /// So many of the first ones are on their way.
    on_their_way: usize,
    /// How often a connection was lost while the first of them alone was on its way.
    lost_with_first: u32,
    /// So many of the first ones go one by one: a connection was lost with them, and one of them may be why.
    one_by_one: usize,
    /// How many did not get to the other nodes, until they are counted.
    dropped: usize,
}

impl Waiting {
    fn remove_first(&mut self, count: usize) -> Vec<Entry> {
        let removed: Vec<Entry> = self.entries.drain(..count).collect();
        if count > 0 {
            self.first_since = (!self.entries.is_empty()).then(Instant::now);
            self.lost_with_first = 0;
            self.one_by_one = self.one_by_one.saturating_sub(count);
            self.on_their_way = self.on_their_way.saturating_sub(count);
        }
        removed
    }

    /// How many of these, which were the first, still are: what was given up meanwhile is not there any more.
    fn still_first(&self, entries: &[Entry]) -> usize {
        entries.iter().zip(&self.entries).take_while(|(entry, first)| entry.number == first.number).count()
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

    /// Has the other nodes do this with their sockets.
    pub fn order(&self, namespace: NamespaceId, scope: Scope, order: &inbox::Order) {
        let who = Who::Scope(scope);
        let request = match order {
            inbox::Order::Join(rooms) => Request::Join { who, rooms: names(rooms) },
            inbox::Order::Leave(rooms) => Request::Leave { who, rooms: names(rooms) },
            inbox::Order::Disconnect { close } => Request::Disconnect { who, close: *close },
        };
        self.put(Item::Order(Arc::new(Order { namespace, request })));
    }

    /// Tells the other servers of an event of theirs. Returns whether it waits now to be told: there may be no way to them.
    pub fn server_side_emit(&self, namespace: NamespaceId, event: &EventName, payload: &Payload) -> bool {
        let request = Request::ServerSideEmit { event: event.to_string(), arguments: decoded(payload) };
        self.put(Item::Order(Arc::new(Order { namespace, request })))
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
        if self.way() == Way::GivenUp || self.0.bytes.load(Ordering::Relaxed) >= BEYOND_MAX_BYTES {
            waiting.dropped += 1;
            return false;
        }
        let cost = item.cost();
        self.0.bytes.fetch_add(cost, Ordering::AcqRel);
        let since = Instant::now();
        waiting.first_since.get_or_insert(since);
        waiting.last_number += 1;
        let number = waiting.last_number;
        waiting.entries.push_back(Entry { number, item, cost, since, is_tried: false });
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

    /// Whether whoever can be told has to try again: the bus is away, and nothing is to be said to this node's members alone.
    pub fn is_held(&self) -> bool {
        self.way() == Way::Held
    }

    /// Waits while sources are to take nothing.
    pub async fn until_open(&self) {
        let mut way = self.0.way.subscribe();
        // The sender lives as long as this.
        let _ = way.wait_for(|way| !matches!(way, Way::Paused | Way::Held)).await;
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

    /// Waits for one; gives how many wait.
    pub(super) async fn until_waiting(&self) -> usize {
        loop {
            let arrived = self.0.arrived.notified();
            let count = self.0.waiting.lock().entries.len();
            if count > 0 {
                return count;
            }
            arrived.await;
        }
    }

    /// The first that wait, at most so many; waits for one. They go on waiting until they are [removed](Self::remove).
    pub(super) async fn first(&self, max: usize) -> Vec<Entry> {
        loop {
            self.until_waiting().await;
            let mut bytes = 0;
            let fits = |entry: &&Entry| {
                let before = bytes;
                bytes += entry.cost;
                before < BATCH_BYTES
            };
            let first: Vec<Entry> = {
                let mut waiting = self.0.waiting.lock();
                let max = if waiting.one_by_one > 0 { 1 } else { max };
                let mut first = Vec::with_capacity(max.min(waiting.entries.len()));
                first.extend(waiting.entries.iter().take(max).take_while(fits).cloned());
                waiting.on_their_way = first.len();
                first
            };
            // They may have been given up meanwhile.
            if !first.is_empty() {
                return first;
            }
        }
    }

    /// These, which were the first, are with Redis.
    pub(super) fn remove(&self, entries: &[Entry]) {
        let mut waiting = self.0.waiting.lock();
        let still = waiting.still_first(entries);
        let removed = waiting.remove_first(still);
        drop(waiting);
        self.free(&removed);
    }

    /// The connection is gone. What was on its way waits for the next one; but for an event that was alone, again and again: Redis hangs up on what is too
    /// large for it, and what is behind that must not go with it. That event is given back then. Where the end `says_nothing` of what was on its way, as silence does, none is.
    pub(super) fn lost(&self, says_nothing: bool) -> Option<Entry> {
        let mut waiting = self.0.waiting.lock();
        let count = std::mem::take(&mut waiting.on_their_way);
        waiting.entries.iter_mut().take(count).for_each(|entry| entry.is_tried = true);
        if says_nothing || count == 0 {
            return None;
        }
        if count > 1 {
            waiting.one_by_one = waiting.one_by_one.max(count);
            return None;
        }
        waiting.lost_with_first += 1;
        if waiting.lost_with_first < LOST_WITH_MAX {
            return None;
        }
        let removed = waiting.remove_first(1);
        drop(waiting);
        self.free(&removed);
        removed.into_iter().next()
    }

    /// Since when the first has been the first.
    pub(super) fn first_since(&self) -> Option<Instant> {
        self.0.waiting.lock().first_since
    }

    /// What becomes of what comes from here on. Where nothing waits any longer, nothing that waits already does.
    pub(super) fn set_way(&self, way: Way) {
        self.0.way.send_if_modified(|now| std::mem::replace(now, way) != way);
        if way == Way::GivenUp {
            self.give_up(|_| true);
        }
    }

    /// Where nothing waited any longer, it does again: whoever reads that the bus is well, publishes to all.
    pub(super) fn take_again(&self) {
        self.0.way.send_if_modified(|way| {
            let is_given_up = *way == Way::GivenUp;
            if is_given_up {
                *way = Way::Open;
            }
            is_given_up
        });
    }

    fn way(&self) -> Way {
        *self.0.way.borrow()
    }

    /// Those that have waited for so long stay on this node.
    pub(super) fn give_up_older_than(&self, age: Duration, now: Instant) {
        self.give_up(|entry| now.duration_since(entry.since) >= age);
    }

    fn give_up(&self, is_over: impl Fn(&Entry) -> bool) {
        let mut waiting = self.0.waiting.lock();
        let count = waiting.entries.iter().take_while(|entry| is_over(entry)).count();
        let removed = waiting.remove_first(count);
        waiting.dropped += count;
        drop(waiting);
        self.free(&removed);
    }

    /// How many did not get to the other nodes since this was asked last.
    pub(super) fn take_dropped(&self) -> usize {
        std::mem::take(&mut self.0.waiting.lock().dropped)
    }

    /// Something in an answer could not be read.
    pub(super) fn count_unreadable(&self) {
        self.0.unreadable.fetch_add(1, Ordering::Relaxed);
    }

    /// How often that was since this was asked last.
    pub(super) fn take_unreadable(&self) -> usize {
        self.0.unreadable.swap(0, Ordering::Relaxed)
    }

    fn free(&self, removed: &[Entry]) {
        let bytes = removed.iter().map(|entry| entry.cost).sum();
        let before = self.0.bytes.fetch_sub(bytes, Ordering::AcqRel);
        if before >= WAITING_MAX_BYTES || before == bytes {
            self.0.freed.notify_waiters();
        }
    }

    /// Nothing waits any longer, and nothing will.
    pub(super) fn close(&self) {
        self.set_way(Way::GivenUp);
    }
}

/// Counts an event that Redis does not take.
pub(super) fn refused(shared: &Shared, entry: &Entry) {
    shared.gateway.metrics.bus_dropped.inc("refused");
    if let Some(times) = REFUSED.due() {
        let bytes = entry.cost;
        let what = "an event reached this node's members alone: Redis hangs up when it comes; is it too large for its proto-max-bulk-len?";
        tracing::warn!(bytes, times, "{what}");
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::FutureExt;
    use hub::emission::{Emission, Except, Payload, Sending, Target};
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
        bus.0.waiting.lock().entries.len()
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
        bus.give_up(|_| true);
        bus.publish(&event(1));
        bus.remove(&first);
        assert_eq!((waiting(&bus), bus.0.bytes.load(Ordering::Relaxed)), (1, Item::Event(event(1)).cost()));
    }

    #[tokio::test]
    async fn one_that_the_bus_never_takes_goes_alone() {
        let bus = Bus::default();
        (0..5).for_each(|_| bus.publish(&event(1)));
        let numbers = |entries: Vec<Entry>| entries.iter().map(|entry| entry.number).collect::<Vec<_>>();
        let batch = bus.first(3).await;
        assert!(batch.len() == 3 && bus.lost(false).is_none(), "any of them may be why");
        for expected in [1, 2] {
            let first = bus.first(9).await;
            bus.remove(&first);
            assert_eq!(numbers(first), [expected]);
        }
        for times in 1..=LOST_WITH_MAX {
            let first = bus.first(9).await;
            assert!(bus.lost(true).is_none() && !bus.first(9).await.is_empty(), "silence is no refusal");
            assert_eq!(bus.lost(false).is_some(), times == LOST_WITH_MAX);
            assert_eq!(numbers(first), [3]);
            assert!(bus.lost(false).is_none(), "nothing was on its way");
        }
        assert_eq!(numbers(bus.first(9).await), [4, 5]);
    }

    #[test]
    fn those_that_come_later_have_their_own_time() {
        let bus = Bus::default();
        bus.publish(&event(1));
        let now = Instant::now();
        bus.publish(&event(1));
        let age = now.duration_since(bus.first_since().expect("one waits"));
        bus.give_up_older_than(age, now);
        assert_eq!((waiting(&bus), bus.take_dropped()), (1, 1));
    }

    #[tokio::test]
    async fn nothing_waits_for_a_bus_that_is_given_up_and_all_does_for_one_that_holds() {
        let bus = Bus::default();
        bus.publish(&event(1));
        for way in [Way::Paused, Way::Held] {
            bus.set_way(way);
            bus.publish(&event(1));
            assert!(bus.until_open().now_or_never().is_none(), "sources wait");
        }
        assert_eq!((waiting(&bus), bus.is_held()), (3, true));
        bus.set_way(Way::GivenUp);
        bus.publish(&event(1));
        assert_eq!((waiting(&bus), bus.take_dropped(), bus.is_held()), (0, 4, false));
        bus.set_way(Way::Open);
        bus.until_open().await;
        bus.publish(&event(1));
        assert_eq!((waiting(&bus), bus.take_dropped()), (1, 0));
    }
}
