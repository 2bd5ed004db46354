//! What changed on this node and is not written yet: the shards put it here, and the writer takes it. Where something changed twice, the last state
//! stands. Bound: the sockets of this node, and those that were written and are gone.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hub::names::{NamespaceId, RoomName, SocketId};
use hub::rooms::SocketKey;
use hub::rules::User;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::presence::{Gone, Place};

/// Questions that may wait to be written; more are answered by what this node knows alone.
const ASKS_MAX: usize = 65_536;

/// Places that wait to be given back while nobody can be asked; of more, the user's next connections take them.
const BACK_MAX: usize = 65_536;

/// How long users who went are remembered: the longest that it may take until others are told.
const GONE_LATELY: Duration = Duration::from_secs(30);

/// How many of them.
const GONE_LATELY_MAX: usize = 10_000;

/// A socket as the others are to know it.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its public id.
    pub id: SocketId,
    /// Its namespace.
    pub namespace: NamespaceId,
    /// Who it is.
    pub user: Arc<User>,
    /// The rooms that it is in.
    pub rooms: Vec<RoomName>,
    /// When it came, in ms since 1970.
    pub connected_unix_ms: u64,
}

/// Something that is told only where no other node has told it.
#[derive(Debug)]
pub enum Ask {
    /// A user's first socket on this node came.
    Online(Arc<User>),
    /// The first of a user's sockets on this node entered a room.
    Entered {
        /// Who.
        user: Arc<User>,
        /// In which namespace.
        namespace: NamespaceId,
        /// Which room.
        room: RoomName,
        /// The socket's shard.
        shard: usize,
        /// The socket there.
        key: SocketKey,
        /// Its public id.
        socket: SocketId,
    },
}

impl Ask {
    pub(super) fn user(&self) -> Option<&str> {
        let (Self::Online(user) | Self::Entered { user, .. }) = self;
        user.id.as_ref().map(|id| id.as_str())
    }
}

/// A connection takes a user's place, or gives it back.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    pub(super) user: Arc<str>,
    pub(super) place: Place,
    /// Since when it has it; `None` where it gives it back.
    pub(super) since: Option<Instant>,
}

/// What is to be written of a socket.
#[derive(Debug)]
pub(super) struct Change {
    /// The socket as it was last.
    pub(super) record: Arc<Record>,
    /// Whether it is gone.
    pub(super) is_gone: bool,
    pub(super) entered: Vec<RoomName>,
    pub(super) left: Vec<RoomName>,
}

impl Change {
    fn of(now: Option<Arc<Record>>, before: Option<&Written>) -> Option<Self> {
        let record = now.clone().or_else(|| before.map(|before| before.record.clone()))?;
        let rooms_now = now.as_ref().map_or(&[][..], |now| &now.rooms);
        let rooms_before = before.map_or(&[][..], |before| &before.record.rooms);
        let is_sure = before.is_some_and(|before| before.is_sure);
        let entered = rooms_now.iter().filter(|room| !is_sure || !rooms_before.contains(room)).cloned().collect();
        let left = rooms_before.iter().filter(|room| !rooms_now.contains(room)).cloned().collect();
        Some(Self { record, is_gone: now.is_none(), entered, left })
    }
}

/// What was written of a socket, or was to be: then it is not sure what of it stands there.
struct Written {
    record: Arc<Record>,
    is_sure: bool,
}

/// What is to be written together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) sockets: Vec<Change>,
    pub(super) users: HashSet<Arc<str>>,
    pub(super) asks: Vec<Ask>,
    pub(super) claims: Vec<Claim>,
}

/// News, and what was written.
#[derive(Default)]
pub(super) struct News {
    state: Mutex<State>,
    pub(super) arrived: Notify,
}

#[derive(Default)]
struct State {
    /// Whether others are asked at all.
    is_up: bool,
    changed: HashMap<SocketId, Option<Arc<Record>>>,
    written: HashMap<SocketId, Written>,
    users: HashSet<Arc<str>>,
    asks: Vec<Ask>,
    claims: Vec<Claim>,
    /// Users who went lately, and when that was written: where Redis forgot that others are to be told, it is written once more.
    gone_lately: VecDeque<(Instant, Gone)>,
    /// The places that this node's connections have, by when they came.
    places: HashMap<(Arc<str>, Place), Instant>,
}

impl State {
    fn known(&self, id: SocketId) -> Option<&Arc<Record>> {
        match self.changed.get(&id) {
            Some(change) => change.as_ref(),
            None => self.written.get(&id).map(|written| &written.record),
        }
    }

    /// All places, in the order in which they were taken; what is given back before.
    fn claim_again(&mut self) {
        self.claims.retain(|claim| claim.since.is_none());
        let again = |((user, place), since): (&(Arc<str>, Place), &Instant)| Claim {
            user: user.clone(),
            place: *place,
            since: Some(*since),
        };
        self.claims.extend(self.places.iter().map(again));
        self.claims.sort_by_key(|claim| claim.since);
    }

    /// Also while nobody can be asked: what stands there is taken for a connection that is.
    fn gives_back(&mut self, user: &Arc<str>, place: Place) {
        if self.places.remove(&(user.clone(), place)).is_some() && (self.is_up || self.claims.len() < BACK_MAX) {
            self.claims.push(Claim { user: user.clone(), place, since: None });
        }
    }
}

impl News {
    /// A socket came, or its rooms changed.
    pub(super) fn changed(&self, mut record: Record) {
        let mut state = self.state.lock();
        if let Some(known) = state.known(record.id) {
            record.connected_unix_ms = known.connected_unix_ms;
        }
        state.changed.insert(record.id, Some(Arc::new(record)));
        drop(state);
        self.arrived.notify_one();
    }

    /// A socket is gone.
    pub(super) fn gone(&self, id: SocketId) {
        let mut state = self.state.lock();
        if state.written.contains_key(&id) {
            state.changed.insert(id, None);
        } else {
            state.changed.remove(&id);
        }
        drop(state);
        self.arrived.notify_one();
    }

    /// Where a user is on this node changed.
    pub(super) fn user_changed(&self, user: &str) {
        let mut state = self.state.lock();
        if state.is_up && !state.users.contains(user) {
            state.users.insert(Arc::from(user));
            drop(state);
            self.arrived.notify_one();
        }
    }

    /// Something is told only where no other node has; given back where nobody can be asked.
    pub(super) fn ask(&self, ask: Ask) -> Result<(), Ask> {
        let mut state = self.state.lock();
        let Some(user) = ask.user().map(Arc::from).filter(|_| state.is_up && state.asks.len() < ASKS_MAX) else {
            return Err(ask);
        };
        state.users.insert(user);
        state.asks.push(ask);
        drop(state);
        self.arrived.notify_one();
        Ok(())
    }

    /// A connection takes a user's place; those of the user's here that go for it give theirs back before.
    pub(super) fn takes(&self, user: &str, place: Place, surplus: &[Place], now: Instant) {
        let mut state = self.state.lock();
        let user: Arc<str> = Arc::from(user);
        surplus.iter().for_each(|place| state.gives_back(&user, *place));
        if state.places.contains_key(&(user.clone(), place)) {
            return;
        }
        state.places.insert((user.clone(), place), now);
        if state.is_up {
            state.claims.push(Claim { user, place, since: Some(now) });
            drop(state);
            self.arrived.notify_one();
        }
    }

    /// It gives it back.
    pub(super) fn gives_back(&self, user: &str, place: Place) {
        self.state.lock().gives_back(&Arc::from(user), place);
        self.arrived.notify_one();
    }

    /// Others can be asked from now on. Where they know nothing of this node any more, everything is written anew; `users` are those who are here.
    pub(super) fn up(&self, anew: bool, users: Vec<Arc<str>>) {
        let mut state = self.state.lock();
        state.is_up = true;
        state.users.extend(users);
        state.claim_again();
        if anew {
            for (id, Written { record, .. }) in std::mem::take(&mut state.written) {
                state.changed.entry(id).or_insert(Some(record));
            }
            state.changed.retain(|_, change| change.is_some());
        }
        drop(state);
        self.arrived.notify_one();
    }

    /// Everything that was written is written once more, so that it does not run out.
    pub(super) fn write_again(&self, users: Vec<Arc<str>>) {
        let mut state = self.state.lock();
        let State { changed, written, .. } = &mut *state;
        for (id, written) in written.iter_mut() {
            written.is_sure = false;
            changed.entry(*id).or_insert_with(|| Some(written.record.clone()));
        }
        state.users.extend(users);
        state.claim_again();
        drop(state);
        self.arrived.notify_one();
    }

    /// Nobody can be asked; what is asked already is for this node to answer alone.
    pub(super) fn down(&self) -> Vec<Ask> {
        let mut state = self.state.lock();
        state.is_up = false;
        state.users.clear();
        std::mem::take(&mut state.asks)
    }

    /// It is written that these users went.
    pub(super) fn wrote_gone(&self, gone: Vec<Gone>, now: Instant) {
        let mut state = self.state.lock();
        let lately = &mut state.gone_lately;
        lately.extend(gone.into_iter().map(|gone| (now, gone)));
        let surplus = lately.len().saturating_sub(GONE_LATELY_MAX);
        let is_old = |(at, _): &&(Instant, Gone)| now.duration_since(*at) > GONE_LATELY;
        let old = lately.iter().take_while(is_old).count();
        lately.drain(..old.max(surplus));
    }

    /// Users of whom it may be forgotten that they went.
    pub(super) fn take_gone_lately(&self) -> Vec<Gone> {
        std::mem::take(&mut self.state.lock().gone_lately).into_iter().map(|(_, gone)| gone).collect()
    }

    /// The next that are to be written, at most so many of each kind; nothing where there is no news.
    pub(super) fn take(&self, max: usize) -> Option<Batch> {
        let mut state = self.state.lock();
        let ids: Vec<SocketId> = state.changed.keys().take(max).copied().collect();
        let mut batch = Batch::default();
        for id in ids {
            let now = state.changed.remove(&id).flatten();
            let before = match &now {
                Some(record) => state.written.insert(id, Written { record: record.clone(), is_sure: true }),
                None => state.written.remove(&id),
            };
            batch.sockets.extend(Change::of(now, before.as_ref()));
        }
        let asks = state.asks.len().min(max);
        batch.asks = state.asks.drain(..asks).collect();
        batch.users = state.users.iter().take(max).cloned().collect();
        batch.users.extend(batch.asks.iter().filter_map(|ask| ask.user().map(Arc::from)));
        for user in &batch.users {
            state.users.remove(user);
        }
        let claims = state.claims.len().min(max);
        batch.claims = state.claims.drain(..claims).collect();
        if state.changed.is_empty() && state.changed.capacity() > 4096 {
            state.changed.shrink_to(1024);
        }
        let Batch { sockets, users, asks, claims } = &batch;
        (!(sockets.is_empty() && users.is_empty() && asks.is_empty() && claims.is_empty())).then_some(batch)
    }

    /// A batch was not written, or not for sure: it is as if it had not been taken.
    pub(super) fn put_back(&self, batch: Batch) {
        let mut state = self.state.lock();
        for Change { record, is_gone, left, .. } in batch.sockets {
            let mut unsure = Record::clone(&record);
            if is_gone {
                unsure.rooms.clear();
            }
            unsure.rooms.extend(left);
            state.written.insert(record.id, Written { record: Arc::new(unsure), is_sure: false });
            state.changed.entry(record.id).or_insert((!is_gone).then_some(record));
        }
        state.users.extend(batch.users);
        state.asks.extend(batch.asks);
        // What has a place claims it again once others can be asked again.
        state.claims.splice(..0, batch.claims.into_iter().filter(|claim| claim.since.is_none()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> SocketId {
        SocketId::parse(&format!("{number:020}")).expect("20 characters")
    }

    fn record(number: u8, rooms: &[&str], at: u64) -> Record {
        Record {
            id: id(number),
            namespace: NamespaceId(0),
            user: Arc::new(User::anonymous()),
            rooms: rooms.iter().map(|room| RoomName::parse(room).expect("a name")).collect(),
            connected_unix_ms: at,
        }
    }

    /// Of each socket: its id, whether it is gone, the rooms that it entered and left.
    fn taken(news: &News) -> Vec<(SocketId, bool, usize, usize)> {
        let of = |change: &Change| (change.record.id, change.is_gone, change.entered.len(), change.left.len());
        let mut taken: Vec<_> = news.take(100).unwrap_or_default().sockets.iter().map(of).collect();
        taken.sort_by_key(|(id, ..)| id.to_string());
        taken
    }

    #[test]
    fn the_last_state_is_written_with_what_changed_since() {
        let news = News::default();
        news.changed(record(1, &[], 10));
        news.changed(record(1, &["a"], 20));
        news.changed(record(2, &[], 10));
        news.gone(id(2));
        assert_eq!(taken(&news), [(id(1), false, 1, 0)], "what came and went is no news");
        news.changed(record(1, &["a", "b"], 30));
        let batch = news.take(100).expect("news");
        assert_eq!((batch.sockets[0].record.connected_unix_ms, batch.sockets[0].entered.len()), (10, 1));
        assert!(news.take(100).is_none());
    }

    #[test]
    fn what_could_not_be_written_is_written_whole() {
        let news = News::default();
        news.changed(record(1, &["a", "b"], 1));
        news.changed(record(2, &["a"], 1));
        taken(&news);
        news.changed(record(1, &["b", "c"], 1));
        news.gone(id(2));
        news.put_back(news.take(100).expect("news"));
        news.changed(record(1, &["c", "d"], 1));
        assert_eq!(taken(&news), [(id(1), false, 2, 2), (id(2), true, 0, 1)]);
        news.changed(record(3, &["a"], 1));
        news.put_back(news.take(100).expect("news"));
        news.gone(id(3));
        assert_eq!(taken(&news), [(id(3), true, 0, 1)], "it may stand there");
    }

    #[test]
    fn all_is_written_anew_for_those_who_forgot_it() {
        let news = News::default();
        (1..=3).for_each(|number| news.changed(record(number, &["a"], 1)));
        assert_eq!(taken(&news).len(), 3);
        news.gone(id(2));
        news.changed(record(3, &[], 2));
        news.up(true, Vec::new());
        assert_eq!(taken(&news), [(id(1), false, 1, 0), (id(3), false, 0, 0)]);
        news.write_again(Vec::new());
        assert_eq!(taken(&news), [(id(1), false, 1, 0), (id(3), false, 0, 0)]);
    }

    #[test]
    fn places_are_claimed_again_where_nobody_could_be_asked() {
        let news = News::default();
        let place = |slot| (0, crate::shard::inbox::ConnectionKey { slot, generation: 0 });
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let claims = || {
            let claims = news.take(100).map(|batch| batch.claims).unwrap_or_default();
            claims.iter().map(|claim| (claim.place, claim.since)).collect::<Vec<_>>()
        };
        news.takes("a", place(1), &[], now);
        news.takes("a", place(2), &[place(1)], later);
        news.gives_back("a", place(1));
        news.up(false, Vec::new());
        assert_eq!(claims(), [(place(1), None), (place(2), Some(later))]);
        news.takes("a", place(2), &[], now);
        assert_eq!(claims(), [], "it has its place already");
        news.takes("a", place(3), &[place(2)], later);
        assert_eq!(
            claims(),
            [(place(2), None), (place(3), Some(later))],
            "an older one goes before the newer one comes"
        );
        news.down();
        news.gives_back("a", place(3));
        news.up(false, Vec::new());
        news.put_back(news.take(100).expect("news"));
        assert_eq!(claims(), [(place(3), None)]);
        news.takes("a", place(5), &[], later);
        news.takes("a", place(4), &[], now);
        assert_eq!(claims().len(), 2);
        news.write_again(Vec::new());
        assert_eq!(claims(), [(place(4), Some(now)), (place(5), Some(later))], "what is not written again runs out");
    }
}
