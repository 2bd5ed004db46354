//! Who is online in this process, and when a user was last seen. Knows nothing of how it is told to others.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;

/// Users that are offline and still remembered; the oldest goes first.
pub const REMEMBERED_MAX: usize = 100_000;

/// What is known of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// Whether at least one socket is connected.
    pub online: bool,
    /// When the user's last socket went, in ms since the Unix epoch; `None` while online, and for a user never seen here.
    pub last_seen_unix_ms: Option<u64>,
}
