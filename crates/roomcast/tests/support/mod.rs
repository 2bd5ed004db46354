//! Helpers of the tests: other people's servers, started for real, and the gateway's side of a source.

#![allow(dead_code, reason = "each test takes the servers that it needs")]

pub mod gateway;
pub mod ports;
pub mod rabbit;
pub mod redis;
