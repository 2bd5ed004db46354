//! The first bytes of a TCP connection: a WebSocket handshake that is there at once, and needs no asking around, is answered here and now;
//! everything else, refusals included, is HTTP's. Nothing is taken from a socket before it is known whose it is.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::connection::Protocol;
use super::front::{Direct, Front, HEAD_MAX_BYTES};
use super::inbox::ConnectionKey;
use super::poll::{Adopted, Role};
use super::slots::{Encoding, Way};
use super::{Doom, Shard};

/// What becomes of a connection after a look at what it has sent.
enum Look {
    /// It has become a WebSocket.
    Upgraded {
        /// What came with the handshake already.
        leftover: Bytes,
        /// Compression, where it was agreed upon.
        deflate: Option<wire::ws::Deflate>,
        /// What is to be spoken.
        role: Role,
    },
    /// Nothing came yet.
    Nothing,
    /// HTTP is to serve it.
    Http,
    /// It is gone.
    Gone,
}

impl Shard {
    /// A TCP connection that the acceptor took.
    pub(super) fn greet(&mut self, stream: TcpStream, peer: SocketAddr, front: &Rc<Front>) {
        if stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true)).is_err() {
            return;
        }
        if front.speaks_tls() {
            return front.clone().start(stream, peer, Duration::ZERO);
        }
        let socket = OwnedFd::from(stream);
        match self.look(&socket, peer, front) {
            Look::Upgraded { leftover, deflate, role } => {
                self.adopt(Adopted { socket, tls: None, leftover, deflate, role });
            }
            Look::Http => front.clone().start(socket.into(), peer, Duration::ZERO),
            Look::Gone => {}
            Look::Nothing => {
                let key = self.slots.open(Encoding::Flat);
                let until_ms =
                    self.clock.now_ms() + self.outside.gateway.profile.limits.timeouts.head.as_millis() as u64;
                let connection =
                    self.new_connection(Protocol::Greeting { peer, until_ms }, Box::default(), peer.ip(), 0);
                self.open(key, connection);
                if self.slots.attach(key, socket, Encoding::Flat).is_err() {
                    return self.doomed.push((key, Doom::Broken));
                }
                self.slots.set_way(key.slot, Way::Closed);
                self.arm(key.slot);
            }
        }
    }

    /// A connection of which nothing had come has something now.
    pub(super) fn greet_again(&mut self, key: ConnectionKey, peer: SocketAddr, until_ms: u64, front: &Rc<Front>) {
        let left = Duration::from_millis(until_ms.saturating_sub(self.clock.now_ms()));
        let waited = self.outside.gateway.profile.limits.timeouts.head.saturating_sub(left);
        let Some(socket) = self.slots.detach(key.slot) else { return };
        let look = self.look(&socket, peer, front);
        // Whatever it is now, it is no greeting any more.
        self.end(key.slot, "greeted");
        match look {
            Look::Upgraded { leftover, deflate, role } => {
                self.adopt(Adopted { socket, tls: None, leftover, deflate, role });
            }
            Look::Http | Look::Nothing => front.clone().start(socket.into(), peer, waited),
            Look::Gone => {}
        }
    }

    fn look(&mut self, socket: &OwnedFd, peer: SocketAddr, front: &Front) -> Look {
        let buffer = &mut self.scratch[..HEAD_MAX_BYTES];
        let seen = match rustix::net::recv(socket, &mut *buffer, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((0, _)) => return Look::Gone,
            Ok((seen, _)) => seen,
            Err(Errno::AGAIN) => return Look::Nothing,
            Err(_) => return Look::Gone,
        };
        let Some(Direct { head_bytes, response, deflate, role }) = front.direct(&buffer[..seen], peer.ip()) else {
            return Look::Http;
        };
        let sent = rustix::net::send(socket, &response, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        let taken = rustix::net::recv(socket, &mut buffer[..seen], RecvFlags::DONTWAIT);
        if sent != Ok(response.len()) || taken.map(|(taken, _)| taken) != Ok(seen) {
            return Look::Gone;
        }
        self.slots.sent_bytes += response.len() as u64;
        self.slots.sends += 1;
        let leftover = Bytes::copy_from_slice(&self.scratch[head_bytes..seen]);
        Look::Upgraded { leftover, deflate, role }
    }
}
