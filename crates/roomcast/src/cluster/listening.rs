//! Which rooms' channels this node listens to, where each room has one: those that have a member here. The interest map notes what changes, and the
//! channels follow, many at a time; a room that came and went meanwhile costs nothing. Knows no message.

use std::collections::HashSet;
use std::sync::Arc;

use hub::names::{NamespaceId, RoomName};
use parking_lot::Mutex;
use tokio::sync::Notify;
use wire::bus::sharded;

use super::Shared;
use super::wires::Wires;

/// Rooms whose changes are noted one by one; where there are more, all are looked at.
const NOTED_MAX: usize = 65_536;

/// Subscriptions that are asked for at once.
const BATCH: usize = 512;

/// A room of a namespace.
type Place = (NamespaceId, RoomName);

/// Rooms whose first member came or whose last one went, until their channels have followed. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Changes(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    noted: Mutex<Noted>,
    arrived: Notify,
}

#[derive(Debug, Default)]
enum Noted {
    /// Nobody follows: whoever comes to do so looks at all rooms first.
    #[default]
    Nothing,
    These(HashSet<Place>),
    /// Too many to be named.
    All,
}

impl Changes {
    /// A room has its first member in this process, or its last one is gone.
    pub fn note(&self, namespace: NamespaceId, room: &RoomName) {
        if !sharded::has_channel(room.as_str()) {
            return;
        }
        let mut noted = self.0.noted.lock();
        match &mut *noted {
            Noted::Nothing | Noted::All => return,
            Noted::These(rooms) if rooms.len() < NOTED_MAX => {
                rooms.insert((namespace, room.clone()));
            }
            Noted::These(_) => *noted = Noted::All,
        }
        drop(noted);
        self.0.arrived.notify_one();
    }

    /// From here on changes are noted.
    fn follow(&self) {
        *self.0.noted.lock() = Noted::These(HashSet::new());
    }

    /// What has changed since this was asked last; waits for something. `None` for more than was noted.
    async fn next(&self) -> Option<HashSet<Place>> {
        loop {
            let arrived = self.0.arrived.notified();
            {
                let mut noted = self.0.noted.lock();
                match std::mem::replace(&mut *noted, Noted::These(HashSet::new())) {
                    Noted::These(rooms) if rooms.is_empty() => {}
                    Noted::These(rooms) => return Some(rooms),
                    Noted::Nothing | Noted::All => return None,
                }
            }
            arrived.await;
        }
    }

    /// Nobody follows any more.
    fn forget(&self) {
        *self.0.noted.lock() = Noted::Nothing;
    }
}

/// What a connection listens to of its rooms' channels. Bound: one for each room with a member here.
pub(super) struct Listening<'a> {
    shared: &'a Shared,
    changes: &'a Changes,
    wires: Wires,
    listened: HashSet<Place>,
}

impl<'a> Listening<'a> {
    /// Listens to the channels of all rooms that have a member here.
    ///
    /// # Errors
    /// The connection was lost, or its user may not listen.
    pub(super) async fn begin(shared: &'a Shared, changes: &'a Changes, wires: Wires) -> anyhow::Result<Self> {
        changes.follow();
        let mut listening = Self { shared, changes, wires, listened: HashSet::new() };
        listening.follow_all().await?;
        Ok(listening)
    }

    /// Follows the rooms, until the connection is lost.
    ///
    /// # Errors
    /// It was.
    pub(super) async fn run(mut self) -> anyhow::Result<()> {
        loop {
            match self.changes.next().await {
                Some(rooms) => self.follow(rooms).await?,
                None => self.follow_all().await?,
            }
        }
    }

    async fn follow_all(&mut self) -> anyhow::Result<()> {
        let mut rooms = self.listened.clone();
        let there = self.shared.gateway.publisher.interest().lasting_rooms().into_iter();
        rooms.extend(there.filter(|(_, room)| sharded::has_channel(room.as_str())));
        self.follow(rooms).await
    }

    async fn follow(&mut self, rooms: HashSet<Place>) -> anyhow::Result<()> {
        // What changes from here on is noted again.
        let interest = self.shared.gateway.publisher.interest();
        let is_wanted = |(namespace, room): &Place| !interest.shards(*namespace, std::slice::from_ref(room)).is_empty();
        let changed = rooms.into_iter().map(|place| (is_wanted(&place), place));
        let changed: Vec<_> = changed.filter(|(wanted, place)| *wanted != self.listened.contains(place)).collect();
        for batch in changed.chunks(BATCH) {
            let mut pipes = self.wires.pipes();
            for (wanted, (namespace, room)) in batch {
                let Some(of) = self.shared.channels_of(*namespace) else { continue };
                let channel = sharded::channel_of(&of.events, room.as_str());
                pipes.listen(&channel, *wanted)?;
            }
            pipes.run().await?;
            for (wanted, place) in batch {
                if *wanted {
                    self.listened.insert(place.clone());
                } else {
                    self.listened.remove(place);
                }
            }
        }
        self.count();
        if self.listened.capacity() > 1_024 && self.listened.len() * 4 < self.listened.capacity() {
            self.listened.shrink_to_fit();
        }
        Ok(())
    }
}

impl Listening<'_> {
    fn count(&self) {
        self.shared.gateway.metrics.bus_rooms.set(self.listened.len() as i64);
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.listened.clear();
        self.count();
        self.changes.forget();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn room(name: &str) -> RoomName {
        RoomName::parse(name).expect("a name")
    }

    #[test]
    fn changes_are_noted_once_and_only_for_somebody() {
        let changes = Changes::default();
        let namespace = NamespaceId(0);
        changes.note(namespace, &room("before"));
        changes.follow();
        assert_eq!(changes.next().now_or_never(), None);
        for name in ["a", "b", "a", "12345678901234567890"] {
            changes.note(namespace, &room(name));
        }
        let noted = changes.next().now_or_never().expect("something").expect("not too many");
        assert_eq!(noted, [(namespace, room("a")), (namespace, room("b"))].into());
        assert_eq!(changes.next().now_or_never(), None);
    }

    #[test]
    fn too_many_changes_are_all_of_them() {
        let changes = Changes::default();
        changes.follow();
        for number in 0..=NOTED_MAX {
            changes.note(NamespaceId(0), &room(&number.to_string()));
        }
        assert_eq!(changes.next().now_or_never(), Some(None));
        changes.note(NamespaceId(0), &room("a"));
        assert_eq!(changes.next().now_or_never(), Some(Some([(NamespaceId(0), room("a"))].into())));
    }
}
