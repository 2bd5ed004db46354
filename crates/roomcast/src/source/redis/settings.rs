//! Which channels of which Redis bring events.

use hub::profile::{Profile, RedisAddress, RedisChannels};

use crate::redis_link::Server;

/// The settings of the source.
#[derive(Debug, Clone)]
pub struct Settings {
    pub(super) server: Server,
    pub(super) channels: Vec<String>,
    pub(super) event_max_bytes: u64,
}

impl Settings {
    /// Those of a profile; `None` where it has no such source, or no variable names a Redis.
    ///
    /// # Errors
    /// The address is none.
    pub fn of(profile: &Profile) -> anyhow::Result<Option<Self>> {
        let (Some(address), Some(channels)) = (&profile.redis, &profile.redis_channels) else { return Ok(None) };
        Self::new(address, channels, profile.limits.event_bytes).map(Some)
    }

    /// From their parts.
    ///
    /// # Errors
    /// The address is none.
    pub fn new(address: &RedisAddress, channels: &RedisChannels, event_max_bytes: u64) -> anyhow::Result<Self> {
        Ok(Self { server: Server::of(address)?, channels: channels.channels.clone(), event_max_bytes })
    }
}
