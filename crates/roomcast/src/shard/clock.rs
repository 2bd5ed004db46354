//! The time and the randomness of a shard: the only place where it looks at either.

use std::cell::{Cell, RefCell};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Random bytes fetched at once.
const POOL_BYTES: usize = 4096;

/// Time, read once for each turn of the shard's loop, and random bytes.
pub struct Clock {
    start: Instant,
    now_ms: Cell<u64>,
    unix_ms: Cell<u64>,
    pool: RefCell<(Vec<u8>, usize)>,
}

impl Clock {
    /// A clock that starts now.
    pub fn new() -> Self {
        let clock = Self {
            start: Instant::now(),
            now_ms: Cell::new(0),
            unix_ms: Cell::new(0),
            pool: RefCell::new((vec![0; POOL_BYTES], POOL_BYTES)),
        };
        clock.tick();
        clock
    }

    /// Reads the time.
    pub fn tick(&self) {
        // Not zero at the start, so that "a while ago" can be told.
        self.now_ms.set(self.start.elapsed().as_millis() as u64 + 3_600_000);
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.unix_ms.set(unix.as_millis() as u64);
    }

    /// Monotonic milliseconds, as of the last [`tick`](Self::tick).
    pub fn now_ms(&self) -> u64 {
        self.now_ms.get()
    }

    /// Milliseconds since 1970, as of the last [`tick`](Self::tick).
    pub fn unix_ms(&self) -> u64 {
        self.unix_ms.get()
    }

    /// When a monotonic time is, for the runtime's timer.
    pub fn instant(&self, at_ms: u64) -> Instant {
        self.start + std::time::Duration::from_millis(at_ms.saturating_sub(3_600_000))
    }

    /// Random bytes from the operating system.
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut pool = self.pool.borrow_mut();
        let (bytes, used) = &mut *pool;
        if *used + N > bytes.len() {
            getrandom::fill(bytes).expect("the operating system has randomness");
            *used = 0;
        }
        let taken = bytes[*used..*used + N].try_into().expect("N bytes");
        bytes[*used..*used + N].fill(0);
        *used += N;
        taken
    }

    /// A fresh id: a random UUID (RFC 9562, version 4).
    pub fn new_id(&self) -> String {
        uuid(self.random())
    }
}

/// A fresh id where there is no clock: as [`Clock::new_id`].
pub fn new_id() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system has randomness");
    uuid(bytes)
}

fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_version_4_and_differ() {
        let clock = Clock::new();
        let (one, two) = (clock.new_id(), clock.new_id());
        assert_ne!(one, two);
        assert_eq!((one.len(), &one[14..15]), (36, "4"));
    }
}
