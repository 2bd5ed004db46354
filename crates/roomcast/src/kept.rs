//! The last values of rooms: what their profile says is to be kept, for those who enter later. Fed by everything that is published, in this
//! process alone. Knows no connection.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hub::emission::{Emission, Payload, Target};
use hub::names::{EventName, NamespaceId, RoomName};
use hub::profile::Profile;
use parking_lot::Mutex;

/// What a value costs beside its payload.
const OVERHEAD_BYTES: usize = 256;

/// The values that rooms keep. Bound: `limits.kept` in bytes, all together; at the bound the oldest are forgotten.
pub struct Kept {
    profile: Arc<Profile>,
    /// Of all rooms together, so that most events are told by their name.
    events: Vec<EventName>,
    values: Mutex<Values>,
}

/// A value that a room keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// The event under which it goes out.
    pub event: EventName,
    /// The event's arguments.
    pub payload: Payload,
    /// Grows with each value that is kept: of two values the one with the greater version is the newer.
    pub version: u64,
}

type Place = (NamespaceId, RoomName);

struct Values {
    max_bytes: usize,
    bytes: usize,
    last_version: u64,
    by_place: HashMap<Place, Entry>,
    /// One event may be for several rooms: the second number tells them apart.
    by_age: BTreeMap<(u64, usize), Place>,
}

struct Entry {
    payload: Payload,
    age: (u64, usize),
    until: Instant,
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("events", &self.events).finish_non_exhaustive()
    }
}

impl Kept {
    /// A store for the rooms of a profile; `None` where none of them keeps anything.
    pub fn of(profile: &Arc<Profile>) -> Option<Arc<Self>> {
        let events = profile.rules.kept_events();
        let max_bytes = usize::try_from(profile.limits.kept_bytes).unwrap_or(usize::MAX);
        (!events.is_empty())
            .then(|| Arc::new(Self { profile: profile.clone(), events, values: Mutex::new(Values::new(max_bytes)) }))
    }

    /// Keeps an event in those of its rooms that keep it. Gives its version, if there is one.
    pub fn keep(&self, emission: &Emission, now: Instant) -> Option<u64> {
        if !self.events.contains(&emission.event) {
            return None;
        }
        let Target::Rooms(rooms) = &emission.target else { return None };
        let keeping = rooms.names().iter().filter_map(|room| {
            let (event, for_ms) = self.profile.rules.keeps(emission.namespace, room)?;
            (*event == emission.event).then_some((room, Duration::from_millis(for_ms)))
        });
        let keeping: Vec<(&RoomName, Duration)> = keeping.collect();
        if keeping.is_empty() {
            return None;
        }
        let mut values = self.values.lock();
        values.last_version += 1;
        let version = values.last_version;
        for (index, (room, good_for)) in keeping.into_iter().enumerate() {
            let entry = Entry { payload: emission.payload.clone(), age: (version, index), until: now + good_for };
            values.insert((emission.namespace, room.clone()), entry);
        }
        Some(version)
    }

    /// The value of a room, if there is one that is still good.
    pub fn find(&self, namespace: NamespaceId, room: &RoomName, now: Instant) -> Option<Value> {
        let (event, _) = self.profile.rules.keeps(namespace, room)?;
        let place = (namespace, room.clone());
        let mut values = self.values.lock();
        let entry = values.by_place.get(&place)?;
        if entry.until <= now {
            values.remove(&place);
            return None;
        }
        Some(Value { event: event.clone(), payload: entry.payload.clone(), version: entry.age.0 })
    }
}

impl Values {
    fn new(max_bytes: usize) -> Self {
        Self { max_bytes, bytes: 0, last_version: 0, by_place: HashMap::new(), by_age: BTreeMap::new() }
    }

    fn insert(&mut self, place: Place, entry: Entry) {
        self.remove(&place);
        self.bytes += cost(&place, &entry);
        self.by_age.insert(entry.age, place.clone());
        self.by_place.insert(place, entry);
        while self.bytes > self.max_bytes
            && let Some((_, oldest)) = self.by_age.first_key_value()
        {
            let oldest = oldest.clone();
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, place: &Place) {
        if let Some(entry) = self.by_place.remove(place) {
            self.bytes -= cost(place, &entry);
            self.by_age.remove(&entry.age);
        }
    }
}

fn cost(place: &Place, entry: &Entry) -> usize {
    entry.payload.size() + place.1.as_str().len() + OVERHEAD_BYTES
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what a test cannot go on without")]
mod tests {
    use hub::emission::{Except, Rooms, Sending};

    use super::*;

    const HERE: NamespaceId = NamespaceId(0);

    fn kept(limit: &str) -> Arc<Kept> {
        let text = format!(
            "[auth]\ntoken = 'ignored'\n[[endpoint]]\nprotocol = 'json'\n[limits]\nkept = '{limit}'\n\
             [room.place]\nname = 'place:{{id}}'\nkeep = {{ event = 'moved', for = '10s' }}\n[room.other]\nname = 'other:{{id}}'\n"
        );
        let (profile, _) = Profile::read(&text, "test.toml", &|_| None).unwrap();
        Kept::of(&Arc::new(profile)).unwrap()
    }

    fn emission(rooms: &[&str], event: &str, json: &str) -> Emission {
        Emission {
            namespace: HERE,
            target: Target::Rooms(Rooms::new(rooms.iter().map(|room| RoomName::parse(room).unwrap())).unwrap()),
            except: Except::default(),
            event: EventName::parse(event).unwrap(),
            payload: Payload::json(json.to_owned()),
            sending: Sending::default(),
        }
    }

    fn found(kept: &Kept, room: &str, now: Instant) -> Option<String> {
        let value = kept.find(HERE, &RoomName::parse(room).unwrap(), now)?;
        assert_eq!(value.event.as_str(), "moved");
        Some(String::from_utf8(value.payload.json.to_vec()).unwrap())
    }

    #[test]
    fn the_last_event_of_the_name_is_kept_for_its_time() {
        let (kept, now) = (kept("1MB"), Instant::now());
        assert_eq!(found(&kept, "place:1", now), None);
        let first = kept.keep(&emission(&["place:1", "other:1", "place:2"], "moved", "1"), now);
        let second = kept.keep(&emission(&["place:1"], "moved", "2"), now);
        assert!(first < second && first.is_some());
        for (rooms, event) in [(["place:1"], "seen"), (["other:1"], "moved")] {
            assert_eq!(kept.keep(&emission(&rooms, event, "3"), now), None);
        }
        let to_all = Emission { target: Target::Everyone, ..emission(&["place:1"], "moved", "4") };
        assert_eq!(kept.keep(&to_all, now), None);
        let last = now + Duration::from_millis(9_999);
        assert_eq!(found(&kept, "place:1", last).as_deref(), Some("2"));
        assert_eq!(found(&kept, "place:2", last).as_deref(), Some("1"));
        assert_eq!(found(&kept, "other:1", last), None);
        assert_eq!(found(&kept, "place:1", now + Duration::from_secs(10)), None);
    }

    #[test]
    fn at_the_bound_the_oldest_are_forgotten() {
        let (kept, now) = (kept("10KB"), Instant::now());
        let value = "x".repeat(1_000);
        for number in 0..100 {
            kept.keep(&emission(&[&format!("place:{number}"), "place:always"], "moved", &value), now);
            assert!(kept.values.lock().bytes <= 10_000);
        }
        assert_eq!(found(&kept, "place:1", now), None);
        assert!(found(&kept, "place:99", now).is_some() && found(&kept, "place:always", now).is_some());
        kept.keep(&emission(&["place:always"], "moved", &"x".repeat(10_000)), now);
        assert_eq!(
            found(&kept, "place:always", now),
            None,
            "what is larger than the bound is not kept, nor what it replaces"
        );
        let values = kept.values.lock();
        assert_eq!((values.bytes, values.by_age.len()), (0, 0));
        assert!(values.by_place.is_empty());
    }
}
