//! How fast new sessions are let in: a fleet that comes back at once is delayed, not refused, since clients count their attempts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// New sessions of one shard in a second; a session costs some 50 µs, so that established ones keep most of the core.
const SESSIONS_PER_SECOND: u64 = 4_000;

/// How far ahead of its pace a burst may run: some hundred handshakes at once.
const BURST: Duration = Duration::from_millis(25);

/// The longest that a handshake is delayed; whoever would wait longer is refused with `Retry-After`.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// The queue of handshakes of one process, as the time when the next one may pass.
#[derive(Debug)]
pub struct Admission {
    start: Instant,
    next_micros: AtomicU64,
    step_micros: u64,
}

impl Admission {
    /// For this number of shards.
    pub fn new(shards: usize) -> Self {
        let step_micros = (1_000_000 / (SESSIONS_PER_SECOND * shards as u64)).max(1);
        Self { start: Instant::now(), next_micros: AtomicU64::new(0), step_micros }
    }

    /// Takes the next place, as [`take`](Self::take) does; one that comes so soon that nobody would notice the wait is there at once.
    pub fn take_soon(&self, now: Instant) -> Option<Duration> {
        let wait = self.take(now)?;
        Some(if wait <= BURST { Duration::ZERO } else { wait })
    }

    /// Takes the next place: how long to wait for it, or `None` where that would be too long.
    pub fn take(&self, now: Instant) -> Option<Duration> {
        let now_micros = now.saturating_duration_since(self.start).as_micros() as u64;
        let mut next = self.next_micros.load(Ordering::Relaxed);
        loop {
            let mine = next.max(now_micros);
            let wait = Duration::from_micros(mine - now_micros);
            if wait > WAIT_MAX {
                return None;
            }
            match self.next_micros.compare_exchange_weak(
                next,
                mine + self.step_micros,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(wait),
                Err(newer) => next = newer,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_is_spread_and_only_its_far_end_refused() {
        let admission = Admission::new(1);
        let now = Instant::now();
        let waits: Vec<Option<Duration>> = (0..50_000).map(|_| admission.take(now)).collect();
        assert!(waits[0].is_some_and(|wait| wait < Duration::from_millis(1)), "a lone client does not wait");
        assert_eq!(waits[4_000].map(|wait| wait.as_secs()), Some(1), "a second's worth passes in a second");
        assert_eq!(waits.last(), Some(&None));
        assert!(
            admission.take(now + Duration::from_secs(60)).is_some_and(|wait| wait.is_zero()),
            "the queue runs empty"
        );
    }
}
