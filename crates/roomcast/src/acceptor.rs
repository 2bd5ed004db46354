//! The listening sockets: one for each shard, all at one address, so that the kernel spreads connections over the shards and none changes its
//! thread on the way. Knows nothing of what they speak.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::shard::inbox::{Inbox, Message};

/// Connections that the kernel keeps for a shard until they are accepted: a whole fleet may come back at once.
const BACKLOG: i32 = 4096;

/// How many connections more than the one that took the fewest a shard may take, before it hands what it takes to that one.
const AHEAD_MAX: u64 = 8;

/// What a shard accepts from. Cheap to clone.
#[derive(Clone)]
pub struct Listener {
    /// The listening socket, non-blocking.
    pub socket: Arc<OwnedFd>,
    /// Whose turn it is.
    pub turns: Arc<Turns>,
}

/// How many connections each shard took: the kernel spreads them by chance, and this evens it out.
#[derive(Debug)]
pub struct Turns(Box<[AtomicU64]>);

impl Turns {
    fn new(shards: usize) -> Self {
        Self((0..shards).map(|_| AtomicU64::new(0)).collect())
    }

    /// The shard that is to have a connection which came to this one: itself, unless it is ahead of another by too many.
    pub fn take(&self, shard: usize) -> usize {
        let of = |shard: usize| self.0[shard].load(Ordering::Relaxed);
        let least = (0..self.0.len()).min_by_key(|shard| of(*shard)).unwrap_or(shard);
        let taker = if of(shard) - of(least).min(of(shard)) < AHEAD_MAX { shard } else { least };
        self.0[taker].fetch_add(1, Ordering::Relaxed);
        taker
    }
}

/// Bound listeners, each in the hands of its shard.
pub struct Acceptor {
    listeners: Vec<Listener>,
    /// Where they listen; the port is the real one where port 0 was asked for.
    pub address: SocketAddr,
}

impl Acceptor {
    /// Binds, and has the shards accept.
    ///
    /// # Errors
    /// The address is not ours or in use.
    pub fn start(address: &str, inboxes: &[Inbox]) -> anyhow::Result<Self> {
        let (sockets, address) =
            listen(address, inboxes.len()).with_context(|| format!("cannot listen on {address}"))?;
        let turns = Arc::new(Turns::new(inboxes.len()));
        let mut listeners = Vec::new();
        for (socket, inbox) in sockets.into_iter().zip(inboxes) {
            let listener = Listener { socket: Arc::new(socket), turns: turns.clone() };
            inbox.send(Message::Listen(listener.clone()));
            listeners.push(listener);
        }
        Ok(Self { listeners, address })
    }

    /// Closes the listeners: connecting is refused from now on.
    pub fn stop(self) {
        for listener in &self.listeners {
            // The shard holds it, too; what it finds there from now on is the end.
            let _ = rustix::net::shutdown(&*listener.socket, rustix::net::Shutdown::Both);
        }
    }
}

/// So many sockets that listen at the first of the names' addresses that can be had.
fn listen(address: &str, count: usize) -> io::Result<(Vec<OwnedFd>, SocketAddr)> {
    let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for candidate in address.to_socket_addrs()? {
        match listen_at(candidate, count) {
            Ok(listening) => return Ok(listening),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn listen_at(address: SocketAddr, count: usize) -> io::Result<(Vec<OwnedFd>, SocketAddr)> {
    // It listens before it shares, so that an address which another process has is refused, even to two that begin at once.
    let first = begin(bind(address, false)?)?;
    let address = SocketAddr::try_from(rustix::net::getsockname(&first)?)?;
    let mut sockets = vec![first];
    if count > 1 {
        sockopt::set_socket_reuseport(&sockets[0], true)?;
        for _ in 1..count {
            sockets.push(begin(bind(address, true)?)?);
        }
    }
    Ok((sockets, address))
}

fn begin(socket: OwnedFd) -> io::Result<OwnedFd> {
    // What is accepted inherits it: a system call less for each.
    sockopt::set_tcp_nodelay(&socket, true)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if shared {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn shards_share_an_address_that_others_are_refused() {
        for shards in [1, 3] {
            let (sockets, address) = listen("127.0.0.1:0", shards).expect("a free port");
            assert_eq!(sockets.len(), shards);
            for count in [1, 2] {
                let kind = listen_at(address, count).map_err(|error| error.kind()).map(|(_, address)| address);
                assert_eq!(kind, Err(io::ErrorKind::AddrInUse), "{shards} shards");
            }
        }
    }

    #[test]
    fn of_two_that_begin_at_once_one_is_refused() {
        let first = bind("127.0.0.1:0".parse().expect("an address"), false).expect("a free port");
        let address = SocketAddr::try_from(rustix::net::getsockname(&first).expect("an address")).expect("of TCP");
        let _others = listen_at(address, 2).expect("nobody listens there yet");
        assert_eq!(begin(first).map_err(|error| error.kind()).err(), Some(io::ErrorKind::AddrInUse));
    }

    #[test]
    fn the_kernel_spreads_connections_over_the_shards() {
        let (sockets, address) = listen("127.0.0.1:0", 2).expect("a free port");
        let clients: Vec<TcpStream> = (0..64).map(|_| TcpStream::connect(address).expect("a listener")).collect();
        let accepted = sockets.iter().map(|socket| std::iter::from_fn(|| rustix::net::accept(socket).ok()).count());
        let accepted: Vec<usize> = accepted.collect();
        assert_eq!(accepted.iter().sum::<usize>(), clients.len());
        assert!(accepted.iter().all(|count| *count > 0), "{accepted:?}");
    }

    #[test]
    fn what_is_accepted_sends_without_delay() {
        let (sockets, address) = listen("127.0.0.1:0", 1).expect("a free port");
        let _client = TcpStream::connect(address).expect("a listener");
        let accepted = rustix::net::accept(&sockets[0]).expect("a connection");
        assert_eq!(sockopt::tcp_nodelay(&accepted), Ok(true));
    }

    #[test]
    fn no_shard_takes_many_more_than_another() {
        let turns = Turns::new(3);
        let takers: Vec<usize> = (0..1000).map(|_| turns.take(1)).collect();
        assert_eq!(takers[..8], [1; 8], "chance is let be");
        let counts = [0, 1, 2].map(|shard| takers.iter().filter(|taker| **taker == shard).count());
        assert!(counts.iter().all(|count| counts[1] - count <= 8), "{counts:?}");
    }
}
