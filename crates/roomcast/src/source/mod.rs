//! Stand-in.
#![allow(missing_docs)]
use bytes::Bytes;
#[derive(Clone)]
pub struct Publishing;
pub enum Published {
    Confirmed,
    NotConfigured,
    Unavailable,
    Unconfirmed,
}
impl Publishing {
    pub async fn publish(&self, _: Option<&str>, _: &str, _: Bytes, _: &str) -> Published {
        Published::NotConfigured
    }
}

pub struct Running;
impl Running {
    pub fn publishing(&self) -> Publishing {
        Publishing
    }
    pub async fn stop(self, _deadline: std::time::Instant) {}
}
pub fn start(_: &crate::gateway::Gateway, _: &crate::ops::Health) -> anyhow::Result<Running> {
    Ok(Running)
}
