//! Ports for servers of the tests.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Ports that nobody listens on, below those that the system gives to clients: one of these could take its port before its user does.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = std::process::id() as u16;
    let free = || loop {
        let port = 12_000 + first.wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    };
    std::array::from_fn(|_| free())
}
