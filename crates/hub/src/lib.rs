//! Who is here, who may, who gets it: namespaces, sockets, rooms, limits and the rules of a profile.
//! Pure: time, ids and bytes come in as arguments, decisions go out as values. Knows no wire format, no socket, no clock.

pub mod codes;
pub mod emission;
pub mod names;
pub mod per_namespace;
pub mod profile;
pub mod rooms;
pub mod rules;
pub mod sockets;
mod unfinished;
