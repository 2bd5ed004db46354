//! Accepting: a shard takes its connections from a listener of its own, between looking at its other sockets. Knows nothing of what is said on
//! them: that is `greet`.

use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;

use rustix::io::Errno;
use rustix::net::SocketFlags;

use super::Shard;
use super::front::Front;
use super::inbox::Message;
use crate::acceptor::Listener;

/// Connections accepted in one turn.
const ACCEPTS_PER_TURN: usize = 64;

/// How long to wait when there is no descriptor left, or no memory to watch one: connections wait in the backlog meanwhile.
const EXHAUSTED_PAUSE_MS: u64 = 50;

/// A listener in the hands of its shard.
pub(super) struct Accepting {
    listener: Listener,
    /// When to go on, where it is not watched at present.
    paused_until_ms: Option<u64>,
}

impl Shard {
    /// From now on connections come in.
    pub(super) fn listen(&mut self, listener: Listener) {
        let paused_until_ms = match self.slots.watch_listener(&listener.socket) {
            Ok(()) => None,
            // The system has no more to give for watching: as with descriptors, connections wait in the backlog.
            Err(error) => {
                tracing::error!(%error, "cannot watch for connections; trying again");
                Some(self.clock.now_ms() + EXHAUSTED_PAUSE_MS)
            }
        };
        self.accepting = Some(Accepting { listener, paused_until_ms });
    }

    /// Takes the connections that wait.
    pub(super) fn accept(&mut self, front: &Rc<Front>) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(accepting) = &self.accepting else { return };
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            match rustix::net::acceptfrom_with(&*accepting.listener.socket, flags) {
                Ok((socket, peer)) => {
                    // A peer without an address is one that has gone already.
                    let Some(peer) = peer.and_then(|peer| SocketAddr::try_from(peer).ok()) else { continue };
                    let stream = TcpStream::from(socket);
                    match accepting.listener.turns.take(self.index) {
                        own if own == self.index => self.greet(stream, peer, front),
                        other => {
                            let inboxes = self.outside.gateway.publisher.inboxes();
                            inboxes[other].send(Message::Accepted(stream, peer));
                        }
                    }
                }
                Err(Errno::AGAIN) => return,
                // The client went away between the kernel's handshake and us.
                Err(Errno::CONNABORTED | Errno::INTR) => {}
                Err(Errno::INVAL) => {
                    self.slots.unwatch_listener(&accepting.listener.socket);
                    self.accepting = None;
                }
                Err(error) => {
                    tracing::error!(%error, "cannot accept connections; trying again");
                    return self.pause();
                }
            }
        }
        // The runtime hears of a new edge alone, and those that are left make none.
        self.more_ready = true;
    }

    fn pause(&mut self) {
        let until_ms = self.clock.now_ms() + EXHAUSTED_PAUSE_MS;
        if let Some(accepting) = &mut self.accepting {
            self.slots.unwatch_listener(&accepting.listener.socket);
            accepting.paused_until_ms = Some(until_ms);
        }
    }

    /// When a listener that is not watched is to be looked at again.
    pub(super) fn accepts_again_ms(&self) -> Option<u64> {
        self.accepting.as_ref()?.paused_until_ms
    }

    /// Goes on accepting, where a pause is over.
    pub(super) fn accept_again(&mut self) {
        let now_ms = self.clock.now_ms();
        if self.accepts_again_ms().is_some_and(|until| until <= now_ms)
            && let Some(Accepting { listener, .. }) = self.accepting.take()
        {
            self.listen(listener);
        }
    }
}
