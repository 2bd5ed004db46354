//! Whether a service is worth a call: after several in a row without an answer it is left alone for a while, then tried with one call at a time.
//! Pure: the time comes in.

use std::time::{Duration, Instant};

/// So many calls in a row without an answer are enough.
const FAILURES_MAX: u32 = 5;

/// The first pause, and the longest; each is twice the one before. A service that is back is in use again after the longest.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(4);

/// Counts calls without an answer.
#[derive(Debug)]
pub(super) struct Breaker {
    failures: u32,
    pause: Duration,
    closed_until: Instant,
}

impl Breaker {
    pub(super) fn new(now: Instant) -> Self {
        Self { failures: 0, pause: PAUSE_MIN, closed_until: now }
    }

    /// Whether a call may go out. Where the service is left alone, one may after each pause.
    pub(super) fn admits(&mut self, now: Instant) -> bool {
        if self.failures < FAILURES_MAX {
            return true;
        }
        if now < self.closed_until {
            return false;
        }
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        self.closed_until = now + self.pause;
        true
    }

    /// The service answered. Returns whether it had been left alone.
    pub(super) fn answered(&mut self) -> bool {
        std::mem::take(&mut self.failures) >= FAILURES_MAX
    }

    /// The service did not answer. Returns whether it is left alone from now on.
    pub(super) fn failed(&mut self, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        // What fails later was under way before, or is the one call after a pause, whose next pause has begun.
        if self.failures == FAILURES_MAX {
            self.pause = PAUSE_MIN;
            self.closed_until = now + PAUSE_MIN;
        }
        self.failures == FAILURES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_does_not_answer_is_left_alone_and_tried_with_single_calls() {
        let start = Instant::now();
        let at = |secs: u64| start + Duration::from_secs(secs);
        let mut breaker = Breaker::new(start);
        for failure in 1..FAILURES_MAX {
            assert!(breaker.admits(start) && !breaker.failed(start), "{failure} are not enough");
        }
        assert!(breaker.failed(start));
        assert!(!breaker.failed(start), "those that were under way change nothing");
        assert!(!breaker.admits(start));
        for (tried, next) in [(1, 3), (3, 7), (7, 11), (11, 15)] {
            assert!(breaker.admits(at(tried)));
            assert!(!breaker.admits(at(tried)), "one call alone");
            assert!(!breaker.failed(at(tried)));
            assert!(!breaker.admits(at(next) - Duration::from_millis(1)));
        }
        assert!(breaker.answered());
        assert!(breaker.admits(at(11)) && breaker.admits(at(11)));
        assert!(!breaker.answered());
    }
}
