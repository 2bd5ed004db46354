//! Roomcast: a self-hosted real-time gateway between backend services and their users.

pub mod access;
pub mod auth;
pub mod environment;
pub mod metrics;
pub mod ops;
