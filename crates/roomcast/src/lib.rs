//! Roomcast: a self-hosted real-time gateway between backend services and their users.

mod acceptor;
pub mod access;
pub mod acks;
mod addresses;
pub mod app;
pub mod auth;
pub mod cluster;
pub mod embed;
pub mod environment;
pub mod fanout;
pub mod gateway;
mod http2;
pub mod kept;
mod memory;
pub mod metrics;
pub mod namespaces;
pub mod ops;
pub mod presence;
mod redis_link;
mod sampled;
pub mod shard;
pub mod source;
pub mod supervisor;
mod tls;
pub mod upstream;
