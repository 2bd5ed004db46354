//! Events and orders on their way to the other nodes: a queue between whoever publishes and the connection to Redis, and their form on the wire. An event stays
//! in the queue until Redis has answered its publishing, and with it its completion.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hub::emission::Target;
use hub::names::{NamespaceId, RoomName};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use wire::bus::broadcast::{Outgoing, Scope};
use wire::bus::request::{Asked, Request, Who};

use super::{Shared, requests};
use crate::fanout::Event;
use crate::metrics::Metrics;
use crate::sampled::Sampled;
use crate::supervisor::Link;

/// Bytes of events that may wait. At the bound sources wait and clients are told `busy`.
const WAITING_MAX_BYTES: usize = 16 * 1024 * 1024;

/// What an event costs beside its payload.
const OVERHEAD_BYTES: usize = 256;

/// How long events wait for a bus that is away. Then this node serves its own members alone, until it is back.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often something was dropped, for the log.
static AWAY: Sampled = Sampled::new();

/// What waits.
#[derive(Clone)]
pub(super) enum Item {
    Event(Arc<Event>),
    Order(Arc<Order>),
}

/// What the other nodes are to do.
pub(super) struct Order {
    namespace: NamespaceId,
    request: Request,
}

impl Item {
    fn cost(&self) -> usize {
        match self {
            Self::Event(event) => event.emission.payload.size() + OVERHEAD_BYTES,
            Self::Order(_) => OVERHEAD_BYTES,
        }
    }

    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Event(one), Self::Event(two)) => Arc::ptr_eq(one, two),
            (Self::Order(one), Self::Order(two)) => Arc::ptr_eq(one, two),
            (Self::Event(_), Self::Order(_)) | (Self::Order(_), Self::Event(_)) => false,
        }
    }
}

/// The way to the other nodes. Cheap to clone.
#[derive(Clone, Default)]
pub struct Bus(Arc<Inner>);

#[derive(Default)]
struct Inner {
    waiting: Mutex<VecDeque<Item>>,
    bytes: AtomicUsize,
    /// The bus has been away for too long, or the node leaves.
    is_given_up: AtomicBool,
    dropped: AtomicUsize,
    arrived: Notify,
    freed: Notify,
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus").field("bytes", &self.0.bytes).finish_non_exhaustive()
    }
}

impl Bus {
    /// Hands an event over, whatever waits already.
    pub fn publish(&self, event: &Arc<Event>) {
        self.put(Item::Event(event.clone()));
    }

    /// Has the other nodes disconnect sockets for good, with their connections.
    pub fn disconnect(&self, namespace: NamespaceId, rooms: Vec<String>) {
        let who = Who::Scope(Scope { rooms, except: Vec::new() });
        self.put(Item::Order(Arc::new(Order { namespace, request: Request::Disconnect { who, close: true } })));
    }

    fn put(&self, item: Item) {
        if self.0.is_given_up.load(Ordering::Relaxed) {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.0.bytes.fetch_add(item.cost(), Ordering::AcqRel);
        self.0.waiting.lock().push_back(item);
        self.0.arrived.notify_one();
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

    /// The first that wait, at most so many; waits for one. They go on waiting until they are [removed](Self::remove).
    pub(super) async fn first(&self, max: usize) -> Vec<Item> {
        loop {
            let arrived = self.0.arrived.notified();
            let first: Vec<Item> = self.0.waiting.lock().iter().take(max).cloned().collect();
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
        let still = items.iter().zip(waiting.iter()).take_while(|(item, first)| item.is(first)).count();
        let removed: Vec<Item> = waiting.drain(..still).collect();
        drop(waiting);
        self.free(&removed);
    }

    /// Nothing waits any longer; how many events did.
    fn clear(&self) -> usize {
        let removed: Vec<Item> = self.0.waiting.lock().drain(..).collect();
        self.free(&removed);
        removed.len()
    }

    fn free(&self, removed: &[Item]) {
        let before = self.0.bytes.fetch_sub(removed.iter().map(Item::cost).sum(), Ordering::AcqRel);
        if before >= WAITING_MAX_BYTES {
            self.0.freed.notify_waiters();
        }
    }

    /// Nothing waits any longer, and nothing will.
    pub(super) fn close(&self) {
        self.0.is_given_up.store(true, Ordering::Relaxed);
        self.clear();
    }

    /// Gives up what waits once the bus has been away for too long, and takes events again when it is back.
    pub(super) async fn wait_while_away(self, mut link: watch::Receiver<Link>, metrics: Arc<Metrics>) {
        loop {
            let away = link.wait_for(|link| *link != Link::Connected);
            if away.await.is_err() {
                return;
            }
            let back = tokio::time::timeout(PATIENCE, link.wait_for(|link| *link == Link::Connected));
            if back.await.is_ok() {
                continue;
            }
            self.0.is_given_up.store(true, Ordering::Relaxed);
            self.0.dropped.fetch_add(self.clear(), Ordering::Relaxed);
            loop {
                let dropped = self.0.dropped.swap(0, Ordering::Relaxed);
                metrics.bus_dropped.add("away", dropped as u64);
                if dropped > 0
                    && let Some(times) = AWAY.due()
                {
                    tracing::warn!(
                        dropped,
                        times,
                        "events reached this node's members alone: the cluster's bus is away"
                    );
                }
                let back = tokio::time::timeout(Duration::from_secs(1), link.wait_for(|link| *link == Link::Connected));
                match back.await {
                    Ok(Ok(_)) => break,
                    Ok(Err(_)) => return,
                    Err(_) => {}
                }
            }
            self.0.is_given_up.store(false, Ordering::Relaxed);
        }
    }
}

/// What is published: the channel and the message. `None` where it is for no namespace that other nodes know, or cannot be said.
pub(super) fn message(shared: &Shared, item: &Item) -> Option<(String, Bytes)> {
    let said = match item {
        Item::Event(event) => event_message(shared, event)?,
        Item::Order(order) => {
            let asked = Asked { uid: Some(shared.uid.clone()), id: None, request: order.request.clone() };
            let name = name_of(shared, order.namespace)?;
            asked.message(name).map(|message| (requests::channel(&shared.settings.prefix, name), message))
        }
    };
    said.inspect_err(|error| tracing::warn!(%error, "something cannot be said to other nodes")).ok()
}

fn name_of(shared: &Shared, namespace: NamespaceId) -> Option<&str> {
    let rules = &shared.gateway.profile.rules;
    rules.governs(namespace).then(|| rules.namespace_name(namespace))
}

fn event_message(shared: &Shared, event: &Event) -> Option<Result<(String, Bytes), serde_json::Error>> {
    let emission = &event.emission;
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
        namespace: name_of(shared, emission.namespace)?,
        event: emission.event.as_str(),
        arguments: std::str::from_utf8(&emission.payload.json).ok()?,
        attachments: &emission.payload.attachments,
        scope: &scope,
        volatile: emission.sending.volatile,
    };
    Some(outgoing.message().map(|message| (outgoing.channel(&shared.settings.prefix), message)))
}
