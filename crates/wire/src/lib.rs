//! Bytes to meaning and back: for one connection WebSocket frames, Engine.IO, Socket.IO and the plain JSON dialects; for a cluster its bus.
//!
//! Nothing here does IO, reads a clock or draws a random number: time, ids and bytes come in as arguments and go out as values.
//! Nothing here knows rooms, users or other connections.
//!
//! What a malformed peer sends is an error that names what is wrong; no input panics.

pub mod bus;
pub mod engine;
pub mod json;
pub mod raw;
pub mod socketio;
pub mod ws;
