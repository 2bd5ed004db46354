//! Roomcast: a self-hosted real-time gateway between backend services and their users.

pub mod auth;
pub mod metrics;
