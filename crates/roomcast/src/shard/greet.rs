//! The first bytes of a TCP connection: a WebSocket handshake that is there whole, and needs no asking around, is answered here and now;
//! everything else, refusals included, is HTTP's, together with what was read of it.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::Shard;
use super::connection::Protocol;
use super::front::{Direct, Front, HEAD_MAX_BYTES};
use super::inbox::ConnectionKey;
use super::poll::Beginning;
use super::slots::{Encoding, Way};

/// What becomes of a connection after a look at what it has sent.
enum Look {
    /// It becomes a WebSocket.
    Upgraded {
        /// The answer to its handshake.
        response: Bytes,
        /// How it begins.
        beginning: Beginning,
        /// There may be more in the socket.
        more: bool,
    },
    /// Nothing came yet.
    Nothing,
    /// HTTP is to serve it; what it has sent so far.
    Http(Bytes),
    /// It is gone.
    Gone,
}

impl Shard {
    /// A new TCP connection, non-blocking and without delay.
    pub(super) fn greet(&mut self, stream: TcpStream, peer: SocketAddr, front: &Rc<Front>) {
        if front.speaks_tls() {
            return front.clone().start(stream, peer, Bytes::new(), Duration::ZERO);
        }
        let socket = OwnedFd::from(stream);
        match Self::look(&mut self.scratch, &socket, peer, front) {
            Look::Upgraded { response, beginning, .. } => {
                let key = self.slots.open(Encoding::Flat);
                match self.slots.attach(key, socket, Encoding::Flat) {
                    Ok(()) => self.answer_handshake(key, response, beginning),
                    Err(_) => self.slots.close(key.slot),
                }
            }
            Look::Http(head) => front.clone().start(socket.into(), peer, head, Duration::ZERO),
            Look::Gone => {}
            Look::Nothing => {
                let key = self.slots.open(Encoding::Flat);
                if self.slots.attach(key, socket, Encoding::Flat).is_err() {
                    return self.slots.close(key.slot);
                }
                self.slots.set_way(key.slot, Way::Closed);
                let until_ms =
                    self.clock.now_ms() + self.outside.gateway.profile.limits.timeouts.head.as_millis() as u64;
                let connection =
                    self.new_connection(Protocol::Greeting { peer, until_ms }, Box::default(), peer.ip(), 0);
                self.open(key, connection);
                self.arm(key.slot);
            }
        }
    }

    /// A connection of which nothing had come has something now. `ended`: its client sends nothing more.
    pub(super) fn greet_again(
        &mut self,
        key: ConnectionKey,
        peer: SocketAddr,
        until_ms: u64,
        ended: bool,
        front: &Rc<Front>,
    ) {
        let Some(socket) = self.slots.socket(key.slot) else { return };
        match Self::look(&mut self.scratch, socket, peer, front) {
            Look::Upgraded { response, beginning, more } => {
                // The slot goes on as it is watched already, so that no edge will tell of what is in the socket still.
                self.slots.set_way(key.slot, Way::Direct);
                self.answer_handshake(key, response, beginning);
                if (more || ended) && self.slots.is_current(key) {
                    self.connection(key.slot).ended |= ended;
                    self.read_later(key);
                }
            }
            Look::Http(head) => {
                let left = Duration::from_millis(until_ms.saturating_sub(self.clock.now_ms()));
                let waited = self.outside.gateway.profile.limits.timeouts.head.saturating_sub(left);
                let socket = self.slots.detach(key.slot);
                self.end(key.slot, "greeted");
                if let Some(socket) = socket {
                    front.clone().start(socket.into(), peer, head, waited);
                }
            }
            Look::Gone => self.end(key.slot, "nothing came"),
            Look::Nothing => {}
        }
    }

    /// Answers a handshake; the answer and the first words of what is spoken from now on go out in one send.
    fn answer_handshake(&mut self, key: ConnectionKey, response: Bytes, beginning: Beginning) {
        // Before the encoding is known: the answer is no frame, and is not to be compressed.
        self.send(key.slot, response);
        self.begin(key, beginning);
    }

    fn look(scratch: &mut [u8], socket: &OwnedFd, peer: SocketAddr, front: &Front) -> Look {
        let buffer = &mut scratch[..HEAD_MAX_BYTES];
        let seen = match rustix::net::recv(socket, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((0, _)) => return Look::Gone,
            Ok((seen, _)) => &buffer[..seen],
            Err(Errno::AGAIN) => return Look::Nothing,
            Err(_) => return Look::Gone,
        };
        match front.direct(seen, peer.ip()) {
            Some(Direct { head_bytes, response, deflate, role }) => Look::Upgraded {
                response: Bytes::from(response),
                beginning: Beginning {
                    tls: None,
                    leftover: Bytes::copy_from_slice(&seen[head_bytes..]),
                    deflate,
                    role,
                },
                more: seen.len() == HEAD_MAX_BYTES,
            },
            None => Look::Http(Bytes::copy_from_slice(seen)),
        }
    }
}
