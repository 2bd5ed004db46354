//! Roomcast: a self-hosted real-time gateway between backend services and their users.

mod acceptor;
pub mod access;
mod addresses;
pub mod app;
pub mod auth;
pub mod environment;
pub mod fanout;
pub mod gateway;
pub mod metrics;
pub mod ops;
pub mod presence;
pub mod shard;
pub mod source;
pub mod supervisor;
