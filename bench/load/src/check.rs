//! Who got which event, and what is wrong with it: lost, doubled, out of order, in the wrong room. Pure: knows no socket, no clock, no protocol.
//!
//! Every delivery of every member is checked. The first copy of an event is read in full; other members' copies are compared with it,
//! byte by byte, which is all that most deliveries cost.

use std::ops::{Add, Range};

use hdrhistogram::Histogram;
use memchr::memmem;
use serde::Serialize;
use smallvec::SmallVec;

/// Events that are remembered for comparison: more than are ever in flight at once in one room.
const REMEMBERED: usize = 256;

/// Longer latencies are counted as this: ten minutes.
const LONGEST_NANOS: u64 = 600_000_000_000;

/// What must never happen; any of them makes a run a failure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Faults {
    /// Deliveries that never came.
    pub lost: u64,
    /// Deliveries that came again.
    pub doubled: u64,
    /// Deliveries that came after a later one of their room.
    pub disordered: u64,
    /// Deliveries to somebody who is not in the room, or whose two names of the room differ.
    pub wrong_room: u64,
    /// Connections that the server ended.
    pub closed: u64,
    /// Connections, joins and other requests that the server refused.
    pub refused: u64,
    /// Messages that are none of the protocol's, or carry no stamp of an event that was sent.
    pub garbled: u64,
}

impl Faults {
    /// Whether there is none.
    pub fn none(&self) -> bool {
        *self == Self::default()
    }
}

impl Add for Faults {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            lost: self.lost + other.lost,
            doubled: self.doubled + other.doubled,
            disordered: self.disordered + other.disordered,
            wrong_room: self.wrong_room + other.wrong_room,
            closed: self.closed + other.closed,
            refused: self.refused + other.refused,
            garbled: self.garbled + other.garbled,
        }
    }
}

/// A client's place in the sequence of one room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    room: u32,
    next: u32,
    /// What was passed over and may still come; boxed, since it is a fault when there is any.
    #[expect(clippy::box_collection, reason = "a pointer in each of a million memberships, not a vector")]
    missing: Option<Box<Vec<Range<u32>>>>,
}

/// A client's rooms, sorted by their number.
pub type Memberships = SmallVec<[Membership; 1]>;

enum Place {
    Next,
    AfterGap,
    Late,
    Doubled,
}

impl Membership {
    fn take(&mut self, sequence: u32) -> Place {
        if sequence == self.next {
            self.next += 1;
            return Place::Next;
        }
        if sequence > self.next {
            self.missing.get_or_insert_default().push(self.next..sequence);
            self.next = sequence + 1;
            return Place::AfterGap;
        }
        let Some(missing) = &mut self.missing else { return Place::Doubled };
        let Some(index) = missing.iter().position(|range| range.contains(&sequence)) else { return Place::Doubled };
        let range = missing.swap_remove(index);
        missing.extend([range.start..sequence, sequence + 1..range.end].into_iter().filter(|range| !range.is_empty()));
        Place::Late
    }

    fn lost(&self, sent: u32) -> u64 {
        let passed_over: usize = self.missing.iter().flat_map(|missing| missing.iter()).map(Range::len).sum();
        passed_over as u64 + u64::from(sent.saturating_sub(self.next))
    }
}

/// What an event says of itself: `ROOM:SEQUENCE:NANOS:PADDING`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The room's number.
    pub room: u32,
    /// Which event of the room it is, from 0.
    pub sequence: u32,
    /// When it was sent, on the monotonic clock.
    pub nanos: u64,
}

/// An event as its first copy was. Others share its place, so that it says which one it is.
#[derive(Default)]
struct Known {
    message: Vec<u8>,
    room: u32,
    sequence: u32,
    nanos: u64,
}

/// Where messages carry what is checked.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// What stands before the name of the room, as the message's own field; it need not be there.
    pub before_room: &'static str,
    /// What stands before the stamp.
    pub before_stamp: &'static str,
}

/// `{"room":ROOM,"data":STAMP}`, as benchmark servers send it.
pub const PLAIN_SHAPE: Shape = Shape { before_room: r#""room":""#, before_stamp: r#""data":""# };

/// The rooms' names before their number.
pub const ROOM_PREFIX: &str = "r";

/// Checks what all clients receive.
pub struct Checker {
    /// What went wrong so far; lost events are counted at the end.
    pub faults: Faults,
    /// Deliveries so far, each once.
    pub received: u64,
    /// Sent to received, in nanoseconds.
    pub latency: Histogram<u64>,
    /// Events sent to each room so far.
    sent: Vec<u32>,
    known: Vec<Known>,
    room_finder: memmem::Finder<'static>,
    stamp_finder: memmem::Finder<'static>,
}

impl Checker {
    /// For messages of this shape.
    pub fn new(shape: Shape) -> Self {
        Self {
            faults: Faults::default(),
            received: 0,
            latency: Histogram::new_with_bounds(1, LONGEST_NANOS, 3)
                .expect("bounds and precision that a histogram has"),
            sent: Vec::new(),
            known: (0..REMEMBERED).map(|_| Known::default()).collect(),
            room_finder: memmem::Finder::new(shape.before_room),
            stamp_finder: memmem::Finder::new(shape.before_stamp),
        }
    }

    /// Takes the next sequence number of a room: the event is about to be sent.
    pub fn next_of(&mut self, room: u32) -> u32 {
        let index = room as usize;
        if self.sent.len() <= index {
            self.sent.resize(index + 1, 0);
        }
        self.sent[index] += 1;
        self.sent[index] - 1
    }

    /// So many events more are sent by somebody else, round the rooms from where the last ones ended; gives how many there are altogether.
    pub fn expect(&mut self, events: u64, rooms: u32) -> u64 {
        let before: u64 = self.sent.iter().map(|sent| u64::from(*sent)).sum();
        for event in before..before + events {
            self.next_of((event % u64::from(rooms)) as u32);
        }
        before + events
    }

    /// Events sent to a room so far.
    pub fn sent(&self, room: u32) -> u32 {
        self.sent.get(room as usize).copied().unwrap_or(0)
    }

    /// From now on the client must get every event of the room.
    pub fn join(&self, memberships: &mut Memberships, room: u32) {
        if let Err(place) = memberships.binary_search_by_key(&room, |membership| membership.room) {
            memberships.insert(place, Membership { room, next: self.sent(room), missing: None });
        }
    }

    /// From now on it must get none.
    pub fn leave(&mut self, memberships: &mut Memberships, room: u32) {
        if let Ok(place) = memberships.binary_search_by_key(&room, |membership| membership.room) {
            let membership = memberships.remove(place);
            self.faults.lost += membership.lost(self.sent(room));
        }
    }

    /// A client received an event.
    #[inline]
    pub fn receive(&mut self, memberships: &mut Memberships, message: &[u8], now: u64) {
        if let [membership] = &mut memberships[..] {
            let known = &self.known[slot(membership.room, membership.next)];
            if (known.room, known.sequence) == (membership.room, membership.next) && known.message == message {
                membership.next += 1;
                self.received += 1;
                self.latency.saturating_record(now.saturating_sub(known.nanos));
                return;
            }
        }
        self.receive_unknown(memberships, message, now);
    }

    fn receive_unknown(&mut self, memberships: &mut Memberships, message: &[u8], now: u64) {
        let Some((stamp, rooms_agree)) = self.read(message) else {
            self.faults.garbled += 1;
            return;
        };
        let place = memberships.binary_search_by_key(&stamp.room, |membership| membership.room);
        let (Ok(place), true) = (place, rooms_agree) else {
            self.faults.wrong_room += 1;
            return;
        };
        if stamp.sequence >= self.sent(stamp.room) {
            // Nobody has said it.
            self.faults.garbled += 1;
            return;
        }
        match memberships[place].take(stamp.sequence) {
            Place::Next | Place::AfterGap => {}
            Place::Late => self.faults.disordered += 1,
            Place::Doubled => {
                self.faults.doubled += 1;
                return;
            }
        }
        self.received += 1;
        self.latency.saturating_record(now.saturating_sub(stamp.nanos));
        let known = &mut self.known[slot(stamp.room, stamp.sequence)];
        (known.room, known.sequence, known.nanos) = (stamp.room, stamp.sequence, stamp.nanos);
        known.message.clear();
        known.message.extend_from_slice(message);
    }

    /// The stamp, and whether the message's own field names the same room.
    fn read(&self, message: &[u8]) -> Option<(Stamp, bool)> {
        let stamp = after(&self.stamp_finder, message)?;
        let mut parts = stamp.splitn(4, |byte| *byte == b':');
        let name = parts.next()?;
        let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse().ok();
        let room = u32::try_from(number(name.strip_prefix(ROOM_PREFIX.as_bytes())?)?).ok()?;
        let sequence = u32::try_from(number(parts.next()?)?).ok()?;
        let nanos: u64 = number(parts.next()?)?;
        parts.next()?;
        let rooms_agree = after(&self.room_finder, message)
            .is_none_or(|field| field.strip_prefix(name).is_some_and(|rest| rest.starts_with(b"\"")));
        Some((Stamp { room, sequence, nanos }, rooms_agree))
    }

    /// Counts what a client waits for in vain, once nothing more can come.
    pub fn count_lost(&mut self, memberships: &Memberships) {
        let lost = memberships.iter().map(|membership| membership.lost(self.sent(membership.room)));
        self.faults.lost += lost.sum::<u64>();
    }
}

/// Neighbours in a room and the same event of neighbouring rooms must not share a place.
fn slot(room: u32, sequence: u32) -> usize {
    room.wrapping_mul(37).wrapping_add(sequence) as usize % REMEMBERED
}

fn after<'a>(finder: &memmem::Finder<'_>, message: &'a [u8]) -> Option<&'a [u8]> {
    Some(&message[finder.find(message)? + finder.needle().len()..])
}
