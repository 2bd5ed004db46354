//! What comes from the sockets: a helping for each in turn, out of TLS where it is in between, and taken apart into messages. Knows no dialect.

use std::rc::Rc;
use std::time::Duration;

use wire::ws::{Feed, Flow, Incoming};

use super::connection::Protocol;
use super::front::Front;
use super::inbox::ConnectionKey;
use super::slots::{LISTENER, Readiness, Way};
use super::transport::{Deciphered, Tls};
use super::{Doom, MESSAGES_PER_READ, Shard};

impl Shard {
    /// Goes on with the sockets that had more than one turn took.
    pub(super) fn read_unread(&mut self) {
        for _ in 0..self.unread.len() {
            let Some(key) = self.unread.pop_front() else { break };
            if self.slots.is_current(key) {
                self.connection(key.slot).is_unread = false;
                self.read(key);
            }
        }
    }

    /// Reads what the sockets have, as far as one turn goes. Waits so long for the first of them to have something.
    pub(super) fn read_ready(&mut self, wait: Duration, ready: &mut Vec<Readiness>, front: &Rc<Front>) {
        match self.slots.poll(wait, ready) {
            Ok(more) => self.more_ready = more,
            Err(error) => panic!("the epoll set of a shard is broken: {error}"),
        }
        self.inbox.wake_up();
        if !wait.is_zero() {
            self.clock.tick();
        }
        for Readiness { key, readable, writable, ended } in ready.drain(..) {
            if key == LISTENER {
                self.accept(front);
                continue;
            }
            if !self.slots.is_current(key) {
                continue;
            }
            if let Protocol::Greeting { peer, until_ms, .. } = self.connection(key.slot).protocol {
                if readable {
                    self.greet_again(key, peer, until_ms, ended, front);
                }
                continue;
            }
            if writable {
                self.write_outbox(key.slot);
            }
            if readable && self.slots.is_current(key) {
                let connection = self.connection(key.slot);
                connection.ended |= ended;
                // Whoever waits for its turn anyway gets one helping, not two.
                if !connection.is_unread {
                    self.read(key);
                }
            }
        }
    }

    /// Reads from a socket once, or goes on with what the last read left.
    pub(super) fn read(&mut self, key: ConnectionKey) {
        if let Some(mut unfed) = self.connection(key.slot).unfed.take() {
            // Whatever is in the socket waits its turn: nobody takes more than one helping.
            self.read_later(key);
            return self.feed(key, &mut unfed);
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        match self.slots.read(key.slot, &mut scratch) {
            // TLS ended while messages from before its end waited for their turn.
            Ok(None) if self.connection(key.slot).tls.as_mut().is_some_and(Tls::has_ended) => {
                self.doomed.push((key, Doom::Broken));
            }
            Ok(None) => {}
            Ok(Some(0)) | Err(_) => self.doomed.push((key, Doom::Broken)),
            Ok(Some(read)) if self.connection(key.slot).tls.is_some() => {
                if read == scratch.len() || self.connection(key.slot).ended {
                    self.read_later(key);
                }
                self.feed_ciphertext(key, &scratch[..read]);
            }
            Ok(Some(read)) => {
                // Edge-triggered: nobody tells us again about what is left, be it bytes or the end.
                if read == scratch.len() || self.connection(key.slot).ended {
                    self.read_later(key);
                }
                self.feed(key, &mut scratch[..read]);
            }
        }
        self.scratch = scratch;
    }

    /// Deciphers what came, and feeds what it says.
    fn feed_ciphertext(&mut self, key: ConnectionKey, bytes: &[u8]) {
        let Some(mut tls) = self.connection(key.slot).tls.take() else { return };
        let mut plain = Vec::new();
        let deciphered = tls.decipher(bytes, &mut plain);
        if tls.has_waiting() {
            // An alert, or a change of keys; what the socket does not take goes with the next frame.
            let _ = tls.write(&[], |parts| self.slots.write(key.slot, parts));
        }
        self.connection(key.slot).tls = Some(tls);
        if !plain.is_empty() {
            self.feed(key, &mut plain);
        }
        let has_unfed = self.slots.is_current(key) && self.connection(key.slot).unfed.is_some();
        match deciphered {
            Ok(Deciphered::Open) => {}
            // What came before the end has its turn first.
            Ok(Deciphered::Ended) if has_unfed => {}
            Ok(Deciphered::Ended) | Err(_) => self.doomed.push((key, Doom::Broken)),
        }
    }

    /// There is more to read than this turn takes.
    pub(super) fn read_later(&mut self, key: ConnectionKey) {
        if !std::mem::replace(&mut self.connection(key.slot).is_unread, true) {
            self.unread.push_back(key);
        }
    }

    /// Takes bytes of a WebSocket apart and hands its messages to its dialect.
    pub(super) fn feed(&mut self, key: ConnectionKey, input: &mut [u8]) {
        let now_ms = self.clock.now_ms();
        let connection = self.connection(key.slot);
        // A byte is a sign of life, whatever it is a part of.
        if let Protocol::Json(json) = &mut connection.protocol {
            json.heard_ms = now_ms;
        }
        if connection.closing_until_ms.is_some() && self.slots.way(key.slot) == Way::Closed {
            return;
        }
        let mut parser = std::mem::take(&mut self.connection(key.slot).parser);
        let mut helping = MESSAGES_PER_READ;
        let mut finished = false;
        let mut inflater = std::mem::take(&mut self.inflater);
        let max_message = self.outside.gateway.profile.limits.message_bytes as usize;
        let mut feed = Feed { max_message, inflater: &mut inflater };
        let result = parser.feed(input, &mut feed, &mut |incoming| {
            helping -= 1;
            finished |= matches!(incoming, Incoming::Text(_) | Incoming::Binary(_));
            match self.incoming(key, incoming) {
                Flow::Continue if helping > 0 => Flow::Continue,
                Flow::Continue | Flow::Stop => Flow::Stop,
            }
        });
        self.inflater = inflater;
        let mut owner = key;
        if let Some((probe, main)) = self.migrated.take() {
            self.end(probe.slot, "upgraded");
            owner = main;
        }
        if !self.slots.is_current(owner) {
            return;
        }
        let is_within_message = parser.is_within_message();
        self.connection(owner.slot).parser = parser;
        self.await_message(owner.slot, is_within_message, finished);
        match result {
            Ok(taken) if taken < input.len() => {
                self.connection(owner.slot).unfed = Some(input[taken..].into());
                self.read_later(owner);
            }
            Ok(_) => {}
            Err(violation) => self.violated(owner.slot, &violation),
        }
    }

    /// A message that has begun must end within the time that a client has for it. `finished`: the one before it just did.
    fn await_message(&mut self, slot: u32, is_within_message: bool, finished: bool) {
        let within_ms = self.outside.gateway.profile.limits.timeouts.message.as_millis() as u64;
        let until_ms = self.clock.now_ms().saturating_add(within_ms);
        let connection = self.connection(slot);
        if !is_within_message {
            connection.message_until_ms = None;
        } else if finished || connection.message_until_ms.is_none() {
            connection.message_until_ms = Some(until_ms);
            self.arm(slot);
        }
    }
}
