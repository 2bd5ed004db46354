//! Events on their way to the other nodes: a queue between whoever publishes and the connection to Redis, and their form on the wire. An event stays in the
//! queue until Redis has answered its publishing, and with it its completion.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hub::emission::Target;
use hub::profile::Profile;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use wire::bus::broadcast::{Outgoing, Scope};

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

/// The way to the other nodes. Cheap to clone.
#[derive(Clone, Default)]
pub struct Bus(Arc<Inner>);

#[derive(Default)]
struct Inner {
    waiting: Mutex<VecDeque<Arc<Event>>>,
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

fn cost(event: &Event) -> usize {
    event.emission.payload.size() + OVERHEAD_BYTES
}

impl Bus {
    /// Hands an event over, whatever waits already.
    pub fn publish(&self, event: &Arc<Event>) {
        if self.0.is_given_up.load(Ordering::Relaxed) {
            self.0.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.0.bytes.fetch_add(cost(event), Ordering::AcqRel);
        self.0.waiting.lock().push_back(event.clone());
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

    /// The first events that wait, at most so many; waits for one. They go on waiting until they are [removed](Self::remove).
    pub(super) async fn first(&self, max: usize) -> Vec<Arc<Event>> {
        loop {
            let arrived = self.0.arrived.notified();
            let first: Vec<Arc<Event>> = self.0.waiting.lock().iter().take(max).cloned().collect();
            if !first.is_empty() {
                return first;
            }
            arrived.await;
        }
    }

    /// These, which were the first, are with Redis.
    pub(super) fn remove(&self, events: &[Arc<Event>]) {
        let mut waiting = self.0.waiting.lock();
        // What was given up meanwhile is not there any more.
        let still = events.iter().zip(waiting.iter()).take_while(|(event, first)| Arc::ptr_eq(event, first)).count();
        let removed: Vec<Arc<Event>> = waiting.drain(..still).collect();
        drop(waiting);
        self.free(&removed);
    }

    /// Nothing waits any longer; how many events did.
    fn clear(&self) -> usize {
        let removed: Vec<Arc<Event>> = self.0.waiting.lock().drain(..).collect();
        self.free(&removed);
        removed.len()
    }

    fn free(&self, removed: &[Arc<Event>]) {
        let before = self.0.bytes.fetch_sub(removed.iter().map(|event| cost(event)).sum(), Ordering::AcqRel);
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

/// An event on the wire: the channel and the message. `None` where it is for no namespace that other nodes know, or cannot be said.
pub(super) fn message(profile: &Profile, prefix: &str, uid: &str, event: &Event) -> Option<(String, Bytes)> {
    let emission = &event.emission;
    if !profile.rules.governs(emission.namespace) {
        return None;
    }
    let names = |names: &[hub::names::RoomName]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let rooms = match &emission.target {
        Target::Everyone => Vec::new(),
        Target::Rooms(rooms) => names(rooms.names()),
    };
    let mut except = names(&emission.except.rooms);
    except.extend(emission.except.sockets.iter().map(|id| id.as_str().to_owned()));
    let scope = Scope { rooms, except };
    let outgoing = Outgoing {
        uid,
        namespace: profile.rules.namespace_name(emission.namespace),
        event: emission.event.as_str(),
        arguments: std::str::from_utf8(&emission.payload.json).ok()?,
        attachments: &emission.payload.attachments,
        scope: &scope,
        volatile: emission.sending.volatile,
    };
    match outgoing.message() {
        Ok(message) => Some((outgoing.channel(prefix), message)),
        Err(error) => {
            tracing::warn!(event = outgoing.event, %error, "an event cannot be said to other nodes");
            None
        }
    }
}
