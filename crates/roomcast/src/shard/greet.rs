//! The first bytes of a TCP connection: a WebSocket handshake that is there whole, and needs no asking around, is answered here and now;
//! everything else, refusals included, is HTTP's, together with what was read of it. One whose turn is to come waits in its slot, and costs nothing
//! meanwhile.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::Shard;
use super::connection::{Protocol, Waiting};
use super::front::{Direct, Front, HEAD_MAX_BYTES, NoSeat};
use super::inbox::ConnectionKey;
use super::poll::Beginning;
use super::slots::{Encoding, Way};

/// Handshakes that waited and are answered in one turn: a millisecond or two, so that deliveries go on in between.
const LET_IN_PER_TURN: usize = 32;

/// What becomes of a connection after a look at what it has sent.
enum Look {
    /// It becomes a WebSocket now.
    Upgraded(Waiting),
    /// It becomes a WebSocket once its turn has come, which is so far away.
    Waits(Waiting, Duration),
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
        match Self::look(&mut self.scratch, &socket, peer, front, !self.waiting.is_empty()) {
            Look::Upgraded(handshake) => {
                let key = self.slots.open(Encoding::Flat);
                match self.slots.attach(key, socket, Encoding::Flat) {
                    Ok(()) => self.answer_handshake(key, handshake.response, handshake.beginning),
                    Err(_) => self.slots.close(key.slot),
                }
            }
            Look::Waits(handshake, wait) => {
                if let Some(key) = self.keep(socket, peer, u64::MAX) {
                    self.wait(key, handshake, wait);
                }
            }
            Look::Http(head) => front.clone().start(socket.into(), peer, head, Duration::ZERO),
            Look::Gone => {}
            Look::Nothing => {
                let within_ms = self.outside.gateway.profile.limits.timeouts.head.as_millis() as u64;
                self.keep(socket, peer, self.clock.now_ms() + within_ms);
            }
        }
    }

    /// Gives a connection that cannot be answered yet a slot, which takes no frames.
    fn keep(&mut self, socket: OwnedFd, peer: SocketAddr, until_ms: u64) -> Option<ConnectionKey> {
        let key = self.slots.open(Encoding::Flat);
        if self.slots.attach(key, socket, Encoding::Flat).is_err() {
            self.slots.close(key.slot);
            return None;
        }
        self.slots.set_way(key.slot, Way::Closed);
        let greeting = Protocol::Greeting { peer, until_ms, waiting: None };
        let connection = self.new_connection(greeting, Box::default(), peer.ip(), 0);
        self.open(key, connection);
        self.arm(key.slot);
        Some(key)
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
        if let Protocol::Greeting { waiting: Some(waiting), .. } = &mut self.connection(key.slot).protocol {
            waiting.more = true;
            // Nobody is there any more to be answered.
            if ended {
                self.end(key.slot, "gone before its turn");
            }
            return;
        }
        let Some(socket) = self.slots.socket(key.slot) else { return };
        match Self::look(&mut self.scratch, socket, peer, front, !self.waiting.is_empty()) {
            Look::Upgraded(handshake) => self.answer_later(key, handshake, ended),
            Look::Waits(..) if ended => self.end(key.slot, "gone before its turn"),
            Look::Waits(handshake, wait) => self.wait(key, handshake, wait),
            Look::Http(head) => {
                let left = Duration::from_millis(until_ms.saturating_sub(self.clock.now_ms()));
                let waited = self.outside.gateway.profile.limits.timeouts.head.saturating_sub(left);
                self.leave_to_http(key, peer, head, waited, front);
            }
            Look::Gone => self.end(key.slot, "nothing came"),
            Look::Nothing => {}
        }
    }

    fn leave_to_http(
        &mut self,
        key: ConnectionKey,
        peer: SocketAddr,
        head: Bytes,
        waited: Duration,
        front: &Rc<Front>,
    ) {
        let socket = self.slots.detach(key.slot);
        self.end(key.slot, "greeted");
        if let Some(socket) = socket {
            front.clone().start(socket.into(), peer, head, waited);
        }
    }

    fn wait(&mut self, key: ConnectionKey, handshake: Waiting, wait: Duration) {
        self.waiting.push_back((self.clock.now_ms() + wait.as_millis() as u64, key));
        if let Protocol::Greeting { until_ms, waiting, .. } = &mut self.connection(key.slot).protocol {
            // It has come, and is not to be ended for that.
            *until_ms = u64::MAX;
            *waiting = Some(Box::new(handshake));
        }
    }

    /// When the turn of the first who waits comes.
    pub(super) fn next_turn_ms(&self) -> Option<u64> {
        self.waiting.front().map(|(at_ms, _)| *at_ms)
    }

    /// Whether somebody who waits is to be looked at. A shard that drains keeps nobody waiting.
    pub(super) fn is_turn_of_waiting(&self) -> bool {
        self.next_turn_ms().is_some_and(|at_ms| self.is_draining || at_ms <= self.clock.now_ms())
    }

    /// Answers those whose turn has come, some of them: deliveries go first.
    pub(super) fn let_in(&mut self, front: &Rc<Front>) {
        for _ in 0..LET_IN_PER_TURN {
            if !self.is_turn_of_waiting() {
                return;
            }
            let Some((_, key)) = self.waiting.pop_front() else { return };
            if !self.slots.is_current(key) {
                continue;
            }
            let Protocol::Greeting { peer, waiting, .. } = &mut self.connection(key.slot).protocol else { continue };
            let (peer, Some(handshake)) = (*peer, waiting.take()) else { continue };
            match front.lets_in() {
                Ok(seat) => {
                    let mut handshake = *handshake;
                    handshake.beginning.seat = seat;
                    self.answer_later(key, handshake, false);
                }
                Err(NoSeat) => self.leave_to_http(key, peer, handshake.head, Duration::ZERO, front),
            }
        }
    }

    /// Answers a handshake of a connection that had a slot before. It goes on as it is watched already, so that no edge will tell of what is in
    /// the socket still. `ended`: its client sends nothing more.
    fn answer_later(&mut self, key: ConnectionKey, handshake: Waiting, ended: bool) {
        self.slots.set_way(key.slot, Way::Direct);
        self.answer_handshake(key, handshake.response, handshake.beginning);
        if (handshake.more || ended) && self.slots.is_current(key) {
            self.connection(key.slot).ended |= ended;
            self.read_later(key);
        }
    }

    /// Answers a handshake; the answer and the first words of what is spoken from now on go out in one send.
    fn answer_handshake(&mut self, key: ConnectionKey, response: Bytes, beginning: Beginning) {
        // Before the encoding is known: the answer is no frame, and is not to be compressed.
        self.send(key.slot, response);
        self.begin(key, beginning);
    }

    /// Looks at what a connection has sent. `others_wait`: there are handshakes before it.
    fn look(scratch: &mut [u8], socket: &OwnedFd, peer: SocketAddr, front: &Front, others_wait: bool) -> Look {
        let buffer = &mut scratch[..HEAD_MAX_BYTES];
        let seen = match rustix::net::recv(socket, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((0, _)) => return Look::Gone,
            Ok((seen, _)) => Bytes::copy_from_slice(&buffer[..seen]),
            Err(Errno::AGAIN) => return Look::Nothing,
            Err(_) => return Look::Gone,
        };
        match front.direct(&seen, peer.ip()) {
            Some(Direct { head_bytes, response, deflate, role, wait, seat }) => {
                let leftover = seen.slice(head_bytes..);
                // Nobody passes those who wait, even where the shard is behind its own pace.
                let at_once = wait.is_zero() && !others_wait;
                // Who waits takes a seat when its turn has come.
                let beginning = Beginning { tls: None, leftover, deflate, role, seat: seat.filter(|_| at_once) };
                let (response, more) = (Bytes::from(response), seen.len() == HEAD_MAX_BYTES);
                match at_once {
                    true => Look::Upgraded(Waiting { response, beginning, head: Bytes::new(), more }),
                    false => Look::Waits(Waiting { response, beginning, head: seen, more }, wait),
                }
            }
            None => Look::Http(seen),
        }
    }
}
