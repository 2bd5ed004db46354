//! Who is online in this process, where, and when a user was last seen. Pure bookkeeping under one lock:
//! knows nothing of how it is told to others, and takes the time as an argument.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use hub::names::{NamespaceId, RoomName};
use hub::rules::{User, iso_8601};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::shard::inbox::ConnectionKey;

/// Users that are offline and still remembered; the oldest goes first.
pub const REMEMBERED_MAX: usize = 50_000;

/// Rooms of sockets that went, remembered for a user who has others.
pub const LEFT_MAX: usize = 100;

/// What is known of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// Whether at least one socket is connected.
    pub online: bool,
    /// When the user's last socket went, in ms since the Unix epoch; `None` while online, and for a user never seen here.
    pub last_seen_unix_ms: Option<u64>,
}

/// A connection of this process: its shard, and its key there.
pub type Place = (usize, ConnectionKey);

/// A user who has been gone for the whole grace.
#[derive(Debug, Clone)]
pub struct Gone {
    /// Who.
    pub user: Arc<User>,
    /// When the last socket went, in ms since the Unix epoch.
    pub last_seen_unix_ms: u64,
    /// The rooms that the last socket was in, and those of sockets that went within the grace before it.
    pub rooms: Vec<(NamespaceId, RoomName)>,
}

/// Who is online. Bounds: one entry for each user with a socket, and [`REMEMBERED_MAX`] of users that were here, as of those whose grace runs.
#[derive(Debug, Default)]
pub struct Presence {
    state: Mutex<State>,
    grace_ms: u64,
}

#[derive(Debug, Default)]
struct State {
    online: HashMap<Arc<str>, Online>,
    /// By the hash of the user's id, keyed anew in each process: that two of those remembered share one is less likely than one in ten
    /// billion. The ids themselves, allocated among connections that are gone, would keep the memory of all these from being given back.
    last_seen: HashMap<u64, u64>,
    /// The users of `last_seen` in the order in which they went; one who came back and went again stands here more than once.
    order: VecDeque<(u64, u64)>,
    hasher: RandomState,
    /// Users whose grace runs, in the order in which they went.
    leaving: VecDeque<Leaving>,
}

#[derive(Debug, Default)]
struct Online {
    sockets: u32,
    rooms: Vec<(NamespaceId, RoomName, u32)>,
    /// The user's connections, the oldest first, each with its sockets; kept only where their number is limited.
    places: Vec<(Place, u32)>,
    /// Rooms of the user's sockets that went lately, and when: those within the grace of the last one's end are told with its own.
    /// Bound: [`LEFT_MAX`], the oldest out first.
    left: VecDeque<(NamespaceId, RoomName, u64)>,
}

#[derive(Debug)]
struct Leaving {
    id: Arc<str>,
    gone: Gone,
}

impl Presence {
    /// Nobody is online yet; a user whose last socket has been gone for `grace_ms` is offline.
    pub fn new(grace_ms: u64) -> Self {
        Self { grace_ms, ..Self::default() }
    }

    /// A socket of the user connected. Returns whether it is the user's first.
    pub fn connected(&self, user_id: &str) -> bool {
        let mut state = self.state.lock();
        let online = state.online.entry(Arc::from(user_id)).or_default();
        online.sockets += 1;
        online.sockets == 1
    }

    /// A connected socket of the user's claims a place among so many connections; the last claim wins. Returns those that must go, the oldest first. `note`
    /// is told of them, too: of one claim after the other, in the order in which they count.
    pub fn claim(&self, user_id: &str, place: Place, connections: usize, note: impl FnOnce(&[Place])) -> Vec<Place> {
        let mut state = self.state.lock();
        let Some(online) = state.online.get_mut(user_id) else { return Vec::new() };
        match online.places.iter_mut().find(|(of, _)| *of == place) {
            Some((_, sockets)) => *sockets += 1,
            None => online.places.push((place, 1)),
        }
        let surplus = online.places.len().saturating_sub(connections);
        let surplus: Vec<Place> = online.places.drain(..surplus).map(|(place, _)| place).collect();
        note(&surplus);
        surplus
    }

    /// A socket of the user entered a room. Returns whether it is the first of the user's sockets there.
    pub fn entered(&self, user_id: &str, namespace: NamespaceId, room: &RoomName) -> bool {
        let mut state = self.state.lock();
        let Some(online) = state.online.get_mut(user_id) else { return false };
        match online.rooms.iter_mut().find(|(of, name, _)| *of == namespace && name == room) {
            Some((_, _, sockets)) => {
                *sockets += 1;
                false
            }
            None => {
                online.rooms.push((namespace, room.clone(), 1));
                true
            }
        }
    }

    /// A socket of the user left a room.
    pub fn left(&self, user_id: &str, namespace: NamespaceId, room: &RoomName) {
        if let Some(online) = self.state.lock().online.get_mut(user_id) {
            online.leave(namespace, room);
        }
    }

    /// A socket of the user is gone from `place`; `rooms` are those that it had entered. Returns whether it was the user's last: the grace starts.
    pub fn disconnected(
        &self,
        user: &Arc<User>,
        user_id: &str,
        place: Place,
        rooms: &[(NamespaceId, RoomName)],
        now_unix_ms: u64,
    ) -> bool {
        let mut state = self.state.lock();
        let Some(online) = state.online.get_mut(user_id) else { return false };
        for (namespace, room) in rooms {
            online.leave(*namespace, room);
        }
        online.sockets -= 1;
        if let Some(index) = online.places.iter().position(|(of, _)| *of == place) {
            online.places[index].1 -= 1;
            if online.places[index].1 == 0 {
                online.places.remove(index);
            }
        }
        if online.sockets > 0 {
            online.left.extend(rooms.iter().map(|(namespace, room)| (*namespace, room.clone(), now_unix_ms)));
            let surplus = online.left.len().saturating_sub(LEFT_MAX);
            online.left.drain(..surplus);
            return false;
        }
        let mut all = rooms.to_vec();
        for (namespace, room, at_unix_ms) in std::mem::take(&mut online.left) {
            let known = all.iter().any(|(of, name)| *of == namespace && *name == room);
            if at_unix_ms + self.grace_ms >= now_unix_ms && !known {
                all.push((namespace, room));
            }
        }
        let (id, _) = state.online.remove_entry(user_id).expect("it was found above");
        if state.online.capacity() > 1024 && state.online.len() * 4 < state.online.capacity() {
            let keep = state.online.len() * 2;
            state.online.shrink_to(keep);
        }
        state.remember(&id, now_unix_ms);
        let gone = Gone { user: user.clone(), last_seen_unix_ms: now_unix_ms, rooms: all };
        state.leaving.push_back(Leaving { id, gone });
        if state.leaving.len() > REMEMBERED_MAX {
            state.leaving.pop_front();
        }
        true
    }

    /// Takes the users whose grace is over and who did not come back, and tells when to look again.
    pub fn take_gone(&self, now_unix_ms: u64) -> (Vec<Gone>, Option<u64>) {
        let mut state = self.state.lock();
        let mut gone = Vec::new();
        while let Some(first) = state.leaving.front() {
            let due = first.gone.last_seen_unix_ms + self.grace_ms;
            if due > now_unix_ms {
                return (gone, Some(due));
            }
            let Some(leaving) = state.leaving.pop_front() else { break };
            // Whoever went a second time meanwhile has a later entry.
            let last = state.last_seen(&leaving.id) == Some(leaving.gone.last_seen_unix_ms);
            if last && !state.online.contains_key(&leaving.id) {
                gone.push(leaving.gone);
            }
        }
        (gone, None)
    }

    /// Takes users whose last socket here went and who did not come back, whether their grace is over or not: for a cluster, where they may be elsewhere.
    pub fn take_left(&self, max: usize) -> Vec<Gone> {
        let mut state = self.state.lock();
        let mut left = Vec::new();
        while left.len() < max
            && let Some(leaving) = state.leaving.pop_front()
        {
            if !state.online.contains_key(&leaving.id) {
                left.push(leaving.gone);
            }
        }
        left
    }

    /// Takes these back, which could not be told of.
    pub fn put_back_left(&self, left: Vec<Gone>) {
        let mut state = self.state.lock();
        for gone in left.into_iter().rev() {
            let Some(id) = gone.user.id.as_ref().map(|id| Arc::from(id.as_str())) else { continue };
            state.leaving.push_front(Leaving { id, gone });
        }
    }

    /// The rooms of a user's sockets here; `None` where there is no socket.
    pub fn rooms_of(&self, user_id: &str) -> Option<Vec<(NamespaceId, RoomName)>> {
        let state = self.state.lock();
        let online = state.online.get(user_id)?;
        Some(online.rooms.iter().map(|(namespace, room, _)| (*namespace, room.clone())).collect())
    }

    /// Everybody who is here.
    pub fn users(&self) -> Vec<Arc<str>> {
        self.state.lock().online.keys().cloned().collect()
    }

    /// What is known of a user.
    pub fn seen(&self, user_id: &str) -> Seen {
        let state = self.state.lock();
        if state.online.contains_key(user_id) {
            return Seen { online: true, last_seen_unix_ms: None };
        }
        Seen { online: false, last_seen_unix_ms: state.last_seen(user_id) }
    }
}

impl Seen {
    /// What two nodes know of a user.
    pub fn or(self, other: Self) -> Self {
        let online = self.online || other.online;
        let last_seen = self.last_seen_unix_ms.max(other.last_seen_unix_ms);
        Self { online, last_seen_unix_ms: last_seen.filter(|_| !online) }
    }

    /// `{online, lastSeen}`; who is online was seen last now.
    pub fn document(&self, now_unix_ms: u64) -> Value {
        let last_seen = if self.online { Some(now_unix_ms) } else { self.last_seen_unix_ms };
        json!({ "online": self.online, "lastSeen": last_seen.map(iso_8601) })
    }
}

impl Online {
    fn leave(&mut self, namespace: NamespaceId, room: &RoomName) {
        let Some(index) = self.rooms.iter().position(|(of, name, _)| *of == namespace && name == room) else { return };
        self.rooms[index].2 -= 1;
        if self.rooms[index].2 == 0 {
            self.rooms.swap_remove(index);
        }
    }
}

impl State {
    fn last_seen(&self, user_id: &str) -> Option<u64> {
        self.last_seen.get(&self.hasher.hash_one(user_id)).copied()
    }

    fn remember(&mut self, user_id: &str, now_unix_ms: u64) {
        let user = self.hasher.hash_one(user_id);
        self.last_seen.insert(user, now_unix_ms);
        self.order.push_back((user, now_unix_ms));
        while self.order.len() > REMEMBERED_MAX {
            let Some((oldest, at)) = self.order.pop_front() else { break };
            if self.last_seen.get(&oldest) == Some(&at) {
                self.last_seen.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use hub::names::UserId;

    use super::*;

    const NAMESPACE: NamespaceId = NamespaceId(0);

    fn room(name: &str) -> RoomName {
        RoomName::parse(name).expect("a name")
    }

    fn place(slot: u32) -> Place {
        (0, ConnectionKey { slot, generation: 0 })
    }

    fn user() -> Arc<User> {
        Arc::new(User::anonymous())
    }

    #[test]
    fn the_first_socket_enters_and_the_last_one_leaves() {
        let presence = Presence::default();
        assert!(presence.connected("a"));
        assert!(!presence.connected("a"));
        assert!(presence.entered("a", NAMESPACE, &room("r")));
        assert!(!presence.entered("a", NAMESPACE, &room("r")), "the second socket of the user");
        assert!(!presence.disconnected(&user(), "a", place(1), &[(NAMESPACE, room("r"))], 10));
        assert_eq!(presence.seen("a"), Seen { online: true, last_seen_unix_ms: None });
        assert!(presence.disconnected(&user(), "a", place(1), &[(NAMESPACE, room("r"))], 20));
        assert_eq!(presence.seen("a"), Seen { online: false, last_seen_unix_ms: Some(20) });
    }

    #[test]
    fn the_grace_forgives_a_short_absence() {
        let presence = Presence::new(3_000);
        presence.connected("a");
        presence.disconnected(&user(), "a", place(1), &[(NAMESPACE, room("r"))], 1_000);
        assert_eq!(presence.take_gone(2_000).1, Some(4_000));
        presence.connected("a");
        assert!(presence.take_gone(4_000).0.is_empty(), "the user came back");
        presence.disconnected(&user(), "a", place(1), &[(NAMESPACE, room("r"))], 5_000);
        let (gone, next) = presence.take_gone(8_000);
        assert_eq!((gone.len(), next), (1, None));
        assert_eq!((gone[0].last_seen_unix_ms, &gone[0].rooms), (5_000, &vec![(NAMESPACE, room("r"))]));
    }

    #[test]
    fn who_left_is_taken_at_once_for_a_cluster_and_given_back() {
        let presence = Presence::new(3_000);
        let user = Arc::new(User { id: UserId::from_text("a").ok(), ..User::anonymous() });
        let go = |room_name, at| {
            presence.connected("a");
            presence.entered("a", NAMESPACE, &room(room_name));
            presence.disconnected(&user, "a", place(1), &[(NAMESPACE, room(room_name))], at);
        };
        go("r", 1_000);
        let left = presence.take_left(10);
        assert_eq!((left.len(), &left[0].rooms), (1, &vec![(NAMESPACE, room("r"))]));
        go("s", 2_000);
        presence.put_back_left(left);
        let order: Vec<_> = presence.take_left(10).into_iter().map(|gone| gone.last_seen_unix_ms).collect();
        assert_eq!(order, [1_000, 2_000]);
        go("r", 3_000);
        presence.connected("a");
        presence.entered("a", NAMESPACE, &room("t"));
        assert!(presence.take_left(10).is_empty(), "the user is back");
        assert_eq!(presence.rooms_of("a"), Some(vec![(NAMESPACE, room("t"))]));
        assert_eq!((presence.rooms_of("b"), presence.users()), (None, vec![Arc::from("a")]));
    }

    #[test]
    fn rooms_of_sockets_that_went_shortly_before_the_last_one_are_told_too() {
        let presence = Presence::new(3_000);
        assert!(presence.connected("a"));
        assert!(!presence.connected("a") && !presence.connected("a"));
        presence.disconnected(&user(), "a", place(1), &[(NAMESPACE, room("long ago"))], 1_000);
        presence.disconnected(&user(), "a", place(2), &[(NAMESPACE, room("just before"))], 9_000);
        presence.disconnected(&user(), "a", place(3), &[(NAMESPACE, room("last"))], 10_000);
        let (gone, _) = presence.take_gone(13_000);
        assert_eq!(gone[0].rooms, [(NAMESPACE, room("last")), (NAMESPACE, room("just before"))]);
    }

    #[test]
    fn the_last_claim_wins() {
        let presence = Presence::default();
        let connect = |slot| {
            presence.connected("a");
            let mut noted = Vec::new();
            let surplus = presence.claim("a", place(slot), 2, |places| noted.extend_from_slice(places));
            assert_eq!(noted, surplus);
            surplus
        };
        assert_eq!(
            [connect(1), connect(2), connect(2)],
            [vec![], vec![], vec![]],
            "two sockets of one connection are one place"
        );
        assert_eq!(connect(3), [place(1)]);
        presence.disconnected(&user(), "a", place(1), &[], 1);
        presence.disconnected(&user(), "a", place(2), &[], 1);
        assert_eq!(connect(4), [place(2)], "its other socket is still there");
        presence.disconnected(&user(), "a", place(3), &[], 1);
        assert_eq!(connect(5), [], "a place is free");
    }
}
