//! Something that happens often and is logged now and then, with the number of times.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How often it is logged.
const EVERY: Duration = Duration::from_secs(10);

/// Counts what was not logged.
pub(crate) struct Sampled(Mutex<(Option<Instant>, u64)>);

impl Sampled {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new((None, 0)))
    }

    /// Counts one; how many there were since the last line, if one is due.
    pub(crate) fn due(&self) -> Option<u64> {
        let mut state = self.0.lock();
        state.1 += 1;
        let now = Instant::now();
        if state.0.is_some_and(|last| now.duration_since(last) < EVERY) {
            return None;
        }
        state.0 = Some(now);
        Some(std::mem::take(&mut state.1))
    }
}
