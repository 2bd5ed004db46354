//! From an emission to the shards that hold a member: the interest map, the completion of an event, and the publisher, which gives
//! all events that reach more than one shard one order. Knows nothing of connections or encodings.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use hub::emission::{Emission, Target};
use hub::names::{NamespaceId, RoomName};
use parking_lot::{Mutex, RwLock};

use crate::cluster::{Bus, Changes};
use crate::kept::Kept;
use crate::shard::ids;
use crate::shard::inbox::{Full, Inbox};

/// The most shards of a process: the width of a [`ShardSet`].
pub const SHARDS_MAX: usize = 64;

/// A set of shards, one bit each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShardSet(u64);

impl ShardSet {
    /// The first `count` shards.
    pub fn first(count: usize) -> Self {
        Self(if count >= SHARDS_MAX { u64::MAX } else { (1 << count) - 1 })
    }

    /// The shards in it, in order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..SHARDS_MAX).filter(move |shard| self.contains(*shard))
    }

    /// Whether no shard is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether more than one shard is in it.
    fn is_several(self) -> bool {
        self.0.count_ones() > 1
    }

    fn contains(self, shard: usize) -> bool {
        self.0 >> shard & 1 == 1
    }

    fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Locks of the interest map for each namespace: joins in different rooms rarely meet.
const STRIPES: usize = 16;

type Stripe = RwLock<HashMap<RoomName, ShardSet>>;

/// Which shards hold a member of which room; read once for each event, changed before a join is answered.
/// Bound: one entry for each room with a member in this process.
pub struct Interest {
    namespaces: Vec<[Stripe; STRIPES]>,
    /// The rooms of namespaces that come and go.
    others: RwLock<HashMap<NamespaceId, HashMap<RoomName, ShardSet>>>,
    hasher: RandomState,
    /// Who has to know which rooms of lasting namespaces have a member at all.
    changes: Option<Changes>,
}

impl fmt::Debug for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interest").field("namespaces", &self.namespaces.len()).finish_non_exhaustive()
    }
}

impl Interest {
    /// An empty map for this number of [lasting](crate::namespaces::Namespaces::lasting) namespaces.
    pub fn new(namespaces: usize) -> Self {
        let namespaces = (0..namespaces).map(|_| std::array::from_fn(|_| Stripe::default())).collect();
        Self { namespaces, others: RwLock::default(), hasher: RandomState::new(), changes: None }
    }

    /// The same, which notes there when a room of a lasting namespace gets its first member, and when its last one goes.
    pub fn noting(self, changes: Option<Changes>) -> Self {
        Self { changes, ..self }
    }

    fn is_lasting(&self, namespace: NamespaceId) -> bool {
        namespace.index() < self.namespaces.len()
    }

    fn stripe(&self, namespace: NamespaceId, room: &RoomName) -> Option<&Stripe> {
        let stripes = self.namespaces.get(namespace.index())?;
        Some(&stripes[self.hasher.hash_one(room) as usize % STRIPES])
    }

    /// The shard has its first member of the room.
    pub fn add(&self, namespace: NamespaceId, room: &RoomName, shard: usize) {
        let set = |rooms: &mut HashMap<RoomName, ShardSet>| {
            let shards = rooms.entry(room.clone()).or_default();
            let is_first = shards.is_empty();
            shards.0 |= 1 << shard;
            is_first
        };
        match self.stripe(namespace, room) {
            Some(stripe) => {
                let is_first = set(&mut stripe.write());
                self.note(is_first, namespace, room);
            }
            None => drop(set(self.others.write().entry(namespace).or_default())),
        }
    }

    /// Notes a change once the map has it: who is told looks there.
    fn note(&self, has_changed: bool, namespace: NamespaceId, room: &RoomName) {
        if has_changed && let Some(changes) = &self.changes {
            changes.note(namespace, room);
        }
    }

    /// The shard's last member of the room is gone.
    pub fn remove(&self, namespace: NamespaceId, room: &RoomName, shard: usize) {
        match self.stripe(namespace, room) {
            Some(stripe) => {
                let is_gone = remove_from(&mut stripe.write(), room, shard);
                self.note(is_gone, namespace, room);
            }
            None => {
                let mut others = self.others.write();
                if let Some(rooms) = others.get_mut(&namespace) {
                    let _ = remove_from(rooms, room, shard);
                    if rooms.is_empty() {
                        others.remove(&namespace);
                    }
                }
            }
        }
    }

    /// How many rooms have a member in this process.
    pub fn rooms(&self) -> usize {
        let others: usize = self.others.read().values().map(HashMap::len).sum();
        self.namespaces.iter().flatten().map(|stripe| stripe.read().len()).sum::<usize>() + others
    }

    /// The rooms of lasting namespaces that have a member in this process.
    pub fn lasting_rooms(&self) -> Vec<(NamespaceId, RoomName)> {
        let of = |(index, stripes): (usize, &[Stripe; STRIPES])| {
            let namespace = NamespaceId(index as u32);
            let names = |stripe: &Stripe| stripe.read().keys().cloned().collect::<Vec<_>>();
            stripes.iter().flat_map(names).map(move |room| (namespace, room)).collect::<Vec<_>>()
        };
        self.namespaces.iter().enumerate().flat_map(of).collect()
    }

    /// The shards that hold a member of at least one of the rooms.
    pub fn shards(&self, namespace: NamespaceId, rooms: &[RoomName]) -> ShardSet {
        rooms.iter().fold(ShardSet::default(), |set, room| {
            let of_room = match self.stripe(namespace, room) {
                Some(stripe) => stripe.read().get(room).copied(),
                None => self.others.read().get(&namespace).and_then(|rooms| rooms.get(room).copied()),
            };
            set.union(of_room.unwrap_or_default())
        })
    }
}

/// Returns whether nobody is left in the room, in any shard.
fn remove_from(rooms: &mut HashMap<RoomName, ShardSet>, room: &RoomName, shard: usize) -> bool {
    let Some(set) = rooms.get_mut(room) else { return false };
    set.0 &= !(1 << shard);
    if !set.is_empty() {
        return false;
    }
    rooms.remove(room);
    if rooms.capacity() > 64 && rooms.len() * 4 < rooms.capacity() {
        rooms.shrink_to_fit();
    }
    true
}

/// The completion of an event. Its last clone fires it when dropped, so that no path can forget it: a shard
/// keeps its clone until the event is flushed or queued for every local member.
#[derive(Clone)]
pub struct Done(Arc<DoneInner>);

type Fire = Box<dyn FnOnce(usize) + Send + Sync>;

struct DoneInner {
    id: u64,
    delivered: AtomicUsize,
    fire: Option<Fire>,
    /// Kept by the other nodes' part of the event, which this one then does not wait for.
    elsewhere: Option<Done>,
}

impl Done {
    /// `fire` gets the number of members reached in this process.
    pub fn new(fire: impl FnOnce(usize) + Send + Sync + 'static) -> Self {
        Self::with(Box::new(fire), None)
    }

    /// The same for this process alone: `elsewhere` is the event's completion on its way to the other nodes.
    pub fn here(fire: impl FnOnce(usize) + Send + Sync + 'static, elsewhere: Self) -> Self {
        Self::with(Box::new(fire), Some(elsewhere))
    }

    fn with(fire: Fire, elsewhere: Option<Self>) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let id = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        Self(Arc::new(DoneInner { id, delivered: AtomicUsize::new(0), fire: Some(fire), elsewhere }))
    }

    fn elsewhere(&self) -> Option<&Self> {
        self.0.elsewhere.as_ref()
    }

    /// The event's number in this process, by which its lines in the log are found at TRACE.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// Counts members that were reached.
    pub fn add_delivered(&self, members: usize) {
        self.0.delivered.fetch_add(members, Ordering::Relaxed);
    }
}

impl Drop for DoneInner {
    fn drop(&mut self) {
        tracing::trace!(event_id = self.id, delivered = *self.delivered.get_mut(), "complete");
        if let Some(fire) = self.fire.take() {
            fire(*self.delivered.get_mut());
        }
    }
}

impl fmt::Debug for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Done").field(&self.0.delivered).finish()
    }
}

/// An emission on its way through the shards.
#[derive(Debug)]
pub struct Event {
    /// What goes to whom.
    pub emission: Emission,
    /// Fires when the last shard is through with it.
    pub done: Option<Done>,
    /// The version that it has among kept values, if a room keeps it.
    pub version: Option<u64>,
}

/// What becomes of a client's own event in the client's shard.
#[derive(Debug)]
pub enum Own {
    /// Nothing: none of its members is there.
    Nobody,
    /// It is the next one: nothing waits in the inbox before it.
    Next(Arc<Event>),
    /// It waits in the inbox, behind others.
    Waits,
}

/// Hands emissions to the shards. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Publisher {
    inboxes: Arc<[Inbox]>,
    interest: Arc<Interest>,
    kept: Option<Arc<Kept>>,
    /// The way to the other nodes, where there may be some.
    bus: Option<Bus>,
    /// Held while an event is put into several inboxes, so that two of them are in the same order in each.
    order: Arc<Mutex<()>>,
}

impl Publisher {
    /// A publisher to these shards.
    pub fn new(inboxes: Arc<[Inbox]>, interest: Arc<Interest>) -> Self {
        assert!(inboxes.len() <= SHARDS_MAX, "at most {SHARDS_MAX} shards");
        Self { inboxes, interest, kept: None, bus: None, order: Arc::default() }
    }

    /// The same, which keeps what rooms keep.
    pub fn keeping(self, kept: Option<Arc<Kept>>) -> Self {
        Self { kept, ..self }
    }

    /// The same, which hands everything that is not [local](hub::emission::Sending::local) to the cluster, too.
    pub fn in_cluster(self, bus: Option<Bus>) -> Self {
        Self { bus, ..self }
    }

    /// The way to the other nodes, where there may be some.
    pub fn bus(&self) -> Option<&Bus> {
        self.bus.as_ref()
    }

    /// The same for what is in this namespace: one that comes and goes is known to this node alone.
    pub fn bus_of(&self, namespace: NamespaceId) -> Option<&Bus> {
        self.bus.as_ref().filter(|_| self.interest.is_lasting(namespace))
    }

    /// Whether a client's own fan-out would find no room.
    pub fn is_full(&self) -> bool {
        self.inboxes.iter().any(Inbox::is_full) || self.bus.as_ref().is_some_and(Bus::is_full)
    }

    /// Whether the way to the other nodes is away, so that what is for them has to be said again.
    pub fn is_held(&self) -> bool {
        self.bus.as_ref().is_some_and(Bus::is_held)
    }

    /// Waits while the way to the other nodes is away: for sources alone, which keep what they do not take.
    pub async fn until_open(&self) {
        if let Some(bus) = &self.bus {
            bus.until_open().await;
        }
    }

    /// The values that rooms keep, where some do.
    pub fn kept(&self) -> Option<&Kept> {
        self.kept.as_deref()
    }

    /// The interest map.
    pub fn interest(&self) -> &Interest {
        &self.interest
    }

    /// The shards' inboxes, by shard.
    pub fn inboxes(&self) -> &[Inbox] {
        &self.inboxes
    }

    fn shards(&self, emission: &Emission) -> ShardSet {
        match &emission.target {
            Target::Everyone => ShardSet::first(self.inboxes.len()),
            Target::Rooms(rooms) => {
                let owners = rooms.names().iter().filter_map(|room| ids::place_of(room.as_str()));
                // A socket's own id is a room of one: its shard stands in the id.
                let owners = owners.map(|(shard, _)| shard).filter(|shard| *shard < self.inboxes.len());
                let owners = owners.fold(ShardSet::default(), |set, shard| set.union(ShardSet(1 << shard)));
                self.interest.shards(emission.namespace, rooms.names()).union(owners)
            }
        }
    }

    /// Hands each emission to the shards that hold a member, in order, and waits while an inbox is full: for sources alone, whose back-pressure
    /// this is. `done` fires when every shard has flushed or queued everything, at once if nobody is there.
    pub async fn publish(&self, emissions: Vec<Emission>, done: Option<Done>) {
        for emission in emissions {
            let shards = self.until_room_for(&emission).await;
            self.hand_out(emission, done.clone(), shards, None);
        }
    }

    /// Waits while an inbox is full that these are for, or the way to the other nodes.
    pub async fn until_room(&self, emissions: &[Emission]) {
        for emission in emissions {
            self.until_room_for(emission).await;
        }
    }

    async fn until_room_for(&self, emission: &Emission) -> ShardSet {
        let shards = self.shards(emission);
        for shard in shards.iter() {
            self.inboxes[shard].until_room().await;
        }
        if let Some(bus) = self.bus_for(emission) {
            bus.until_room().await;
        }
        shards
    }

    /// Hands an emission to the shards that hold a member, all or none, and waits for nothing.
    ///
    /// # Errors
    /// An inbox has no room, or the way to the other nodes; nobody got it.
    pub fn try_publish(&self, emission: Emission, done: Option<Done>) -> Result<(), Full> {
        let shards = self.shards(&emission);
        let is_shut = |bus: &Bus| bus.is_full() || bus.is_held();
        if shards.iter().any(|shard| self.inboxes[shard].is_full()) || self.bus_for(&emission).is_some_and(is_shut) {
            return Err(Full);
        }
        self.hand_out(emission, done, shards, None);
        Ok(())
    }

    /// Hands an emission of a client's to the shards that hold a member, all or none; says what becomes of it in the client's own.
    ///
    /// # Errors
    /// The inbox of another shard has no room; nobody got the event.
    pub fn try_publish_from(&self, own: usize, emission: Emission, done: Option<Done>) -> Result<Own, Full> {
        let shards = self.shards(&emission);
        if shards.iter().any(|shard| shard != own && self.inboxes[shard].is_full()) {
            return Err(Full);
        }
        Ok(self.hand_out(emission, done, shards, Some(own)))
    }

    fn bus_for(&self, emission: &Emission) -> Option<&Bus> {
        self.bus_of(emission.namespace).filter(|_| !emission.sending.local)
    }

    /// Puts an event into the inboxes, and on the bus. All that are put into more than one are in one order, and that of their kept versions is the same.
    fn hand_out(&self, emission: Emission, done: Option<Done>, shards: ShardSet, own: Option<usize>) -> Own {
        let order = (shards.is_several() || self.kept.is_some() || self.bus.is_some()).then(|| self.order.lock());
        let version = self.kept.as_ref().and_then(|kept| kept.keep(&emission, Instant::now()));
        // Who joins from here on finds the value kept, so the shards that hold a member are looked up once more.
        let shards = if version.is_some() { self.shards(&emission) } else { shards };
        let event = Arc::new(Event { emission, done, version });
        let is_next = |shard| own == Some(shard) && self.inboxes[shard].used_bytes() == 0;
        let mut outcome = Own::Nobody;
        for shard in shards.iter() {
            if is_next(shard) {
                outcome = Own::Next(event.clone());
            } else {
                self.inboxes[shard].put(event.clone());
                if own == Some(shard) {
                    outcome = Own::Waits;
                }
            }
        }
        if let Some(bus) = self.bus_for(&event.emission) {
            match event.done.as_ref().and_then(Done::elsewhere) {
                None => bus.publish(&event),
                Some(elsewhere) => {
                    let (emission, done) = (event.emission.clone(), Some(elsewhere.clone()));
                    bus.publish(&Arc::new(Event { emission, done, version }));
                }
            }
        }
        drop(order);
        // A shard that sleeps is woken by a system call, for which nobody else has to wait.
        shards.iter().for_each(|shard| self.inboxes[shard].wake());
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interest_follows_the_members() {
        let interest = Interest::new(1);
        for namespace in [NamespaceId(0), NamespaceId(70_000)] {
            follows_the_members(&interest, namespace);
        }
        assert_eq!(interest.rooms(), 2);
    }

    fn follows_the_members(interest: &Interest, namespace: NamespaceId) {
        let room = RoomName::parse("a").expect("a name");
        assert!(interest.shards(namespace, std::slice::from_ref(&room)).is_empty());
        interest.add(namespace, &room, 0);
        interest.add(namespace, &room, 63);
        assert_eq!(interest.shards(namespace, std::slice::from_ref(&room)).iter().collect::<Vec<_>>(), [0, 63]);
        interest.remove(namespace, &room, 0);
        assert_eq!(interest.shards(namespace, std::slice::from_ref(&room)).iter().collect::<Vec<_>>(), [63]);
    }

    #[test]
    fn done_fires_once_with_the_last_clone() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let done = Done::new(move |delivered| sender.send(delivered).expect("the receiver lives"));
        let other = done.clone();
        done.add_delivered(2);
        drop(done);
        assert!(receiver.try_recv().is_err(), "one clone is left");
        other.add_delivered(3);
        drop(other);
        assert_eq!(receiver.try_recv(), Ok(5));
    }
}
