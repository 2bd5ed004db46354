//! One timer wheel for all deadlines of a shard's connections. Knows neither clocks nor what a deadline is for.
//!
//! A connection has one entry: its nearest deadline. An entry that was overtaken by an earlier one stays and is dropped when its time comes,
//! as its owner then sees that nothing is due.

use super::inbox::ConnectionKey;

/// How long a bucket lasts. What is in it comes by in its own millisecond: clients, and the suites that stand for them, count to the
/// deadline themselves and come back right after it.
const BUCKET_MS: u64 = 16;
/// Buckets of one turn: 65 seconds. A later deadline comes by once a turn.
const BUCKETS: usize = 4096;

#[derive(Debug, Clone, Copy)]
struct Entry {
    key: ConnectionKey,
    at_ms: u64,
}

/// The wheel. Bound: one current entry for each connection, and one overtaken one for each time its deadline moved forward.
#[derive(Debug)]
pub struct Wheel {
    buckets: Vec<Vec<Entry>>,
    occupied: [u64; BUCKETS / 64],
    /// The next bucket to look at, counted from time 0.
    next_bucket: u64,
    /// Nothing is due before: known, so that a turn of the shard costs no walk.
    look_ms: u64,
}

impl Wheel {
    /// An empty wheel at this time.
    pub fn new(now_ms: u64) -> Self {
        let buckets = (0..BUCKETS).map(|_| Vec::new()).collect();
        Self { buckets, occupied: [0; BUCKETS / 64], next_bucket: now_ms / BUCKET_MS, look_ms: u64::MAX }
    }

    /// Adds a deadline. One that is past comes by at the next look.
    pub fn insert(&mut self, key: ConnectionKey, at_ms: u64) {
        let bucket = (at_ms / BUCKET_MS).max(self.next_bucket);
        let index = (bucket % BUCKETS as u64) as usize;
        self.buckets[index].push(Entry { key, at_ms });
        self.occupied[index / 64] |= 1 << (index % 64);
        self.look_ms = self.look_ms.min(at_ms);
    }

    /// Takes out what is due at `now_ms`.
    pub fn expire(&mut self, now_ms: u64, due: &mut Vec<ConnectionKey>) {
        if now_ms < self.look_ms {
            return;
        }
        let end = (now_ms / BUCKET_MS).max(self.next_bucket);
        let first = self.next_bucket.max(end.saturating_sub(BUCKETS as u64));
        for bucket in first..=end {
            let index = (bucket % BUCKETS as u64) as usize;
            if self.occupied[index / 64] >> (index % 64) & 1 == 0 {
                continue;
            }
            let entries = &mut self.buckets[index];
            entries.retain(|entry| {
                let is_due = entry.at_ms <= now_ms;
                if is_due {
                    due.push(entry.key);
                }
                !is_due
            });
            if entries.is_empty() {
                self.occupied[index / 64] &= !(1 << (index % 64));
                if entries.capacity() > 64 {
                    *entries = Vec::new();
                }
            }
        }
        self.next_bucket = self.next_bucket.max(end);
        self.look_ms = self.find_look_ms().unwrap_or(u64::MAX);
    }

    /// When to look again: at the nearest deadline, or, where the next bucket that holds something holds later turns' alone, when it is
    /// over. `None` for an empty wheel.
    pub fn next_look_ms(&self) -> Option<u64> {
        (self.look_ms < u64::MAX).then_some(self.look_ms)
    }

    fn find_look_ms(&self) -> Option<u64> {
        let start = (self.next_bucket % BUCKETS as u64) as usize;
        // 64 buckets at a time, the first word from `start` on and, last, again up to it.
        for step in 0..=BUCKETS / 64 {
            let word = (start / 64 + step) % (BUCKETS / 64);
            let mut bits = self.occupied[word];
            if step == 0 {
                bits &= u64::MAX << (start % 64);
            } else if step == BUCKETS / 64 {
                bits &= !(u64::MAX << (start % 64));
            }
            if bits != 0 {
                let index = word * 64 + bits.trailing_zeros() as usize;
                let ahead = (index + BUCKETS - start) % BUCKETS;
                let over_ms = (self.next_bucket + ahead as u64 + 1) * BUCKET_MS;
                let nearest = self.buckets[index].iter().map(|entry| entry.at_ms).min();
                return nearest.map(|nearest| nearest.min(over_ms));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(slot: u32) -> ConnectionKey {
        ConnectionKey { slot, generation: 0 }
    }

    /// Walks along `next_look_ms` as the shard does, and notes when each deadline came by.
    fn walk(wheel: &mut Wheel) -> Vec<(u32, u64)> {
        let mut seen = Vec::new();
        while let Some(now) = wheel.next_look_ms() {
            let mut due = Vec::new();
            wheel.expire(now, &mut due);
            seen.extend(due.iter().map(|key| (key.slot, now)));
        }
        seen
    }

    #[test]
    fn deadlines_come_by_in_their_millisecond() {
        let start = 1_000_003;
        let mut wheel = Wheel::new(start);
        let delays = [0, 1, 31, 32, 33, 500, 25_000, 65_535, 65_536, 65_537, 70_000, 300_000, 3_600_000];
        for (slot, delay) in delays.iter().enumerate() {
            wheel.insert(key(slot as u32), start + delay);
        }
        let seen = walk(&mut wheel);
        assert_eq!(seen.len(), delays.len());
        for (slot, at) in seen {
            let deadline = start + delays[slot as usize];
            assert_eq!(at, deadline, "slot {slot}");
        }
    }

    #[test]
    fn a_deadline_in_the_past_comes_by_next() {
        let mut wheel = Wheel::new(10_000);
        wheel.insert(key(1), 0);
        assert_eq!(walk(&mut wheel).len(), 1);
    }

    #[test]
    fn a_long_pause_loses_nothing() {
        let mut wheel = Wheel::new(0);
        for slot in 0..3000 {
            wheel.insert(key(slot), u64::from(slot) * 50);
        }
        let mut due = Vec::new();
        wheel.expire(10_000_000, &mut due);
        assert_eq!(due.len(), 3000);
        assert_eq!(wheel.next_look_ms(), None);
    }
}
