//! The fan-out: events are noted in the slots of their members, then flushed in slices. Knows no dialect: `encode` gives the frames.

use std::sync::Arc;

use bytes::Bytes;
use hub::emission::{Emission, Target};
use hub::names::{NamespaceId, SocketId};
use hub::sockets::Sockets;
use wire::ws::Deflater;

use super::connection::Connection;
use super::inbox::Message;
use super::outbox::Outbox;
use super::program::is_socket_io;
use super::slots::{Encoding, Flushed, Slots, Way};
use super::transport::Tls;
use super::{Doom, SLICE, Shard, encode, ids};
use crate::fanout::{Done, Event, Own};

/// Memberships noted in one tick, after which it is flushed: a quarter of a second's sends at most.
const NOTED_MAX: usize = 64 * 1024;

impl Shard {
    /// One step of the delivery: replies, then a slice of the sweep; a new tick once the last one is flushed.
    pub(super) fn deliver(&mut self) {
        self.flush_urgent();
        if !self.slots.is_dirty() {
            self.end_tick();
            self.note_events();
        }
        for _ in 0..SLICE {
            let Some(slot) = self.slots.next_dirty() else { break };
            self.flush(slot);
        }
        if !self.slots.is_dirty() {
            self.end_tick();
        }
    }

    fn end_tick(&mut self) {
        self.slots.end_tick();
        self.noted = 0;
        // Completes the events: their last local member has them sent or queued.
        self.in_tick.clear();
    }

    pub(super) fn flush_urgent(&mut self) {
        while let Some(slot) = self.slots.next_urgent() {
            self.flush(slot);
        }
    }

    fn note_events(&mut self) {
        while self.noted < NOTED_MAX && !self.slots.is_arena_full() {
            let Some(event) = self.events.pop_front() else { return };
            self.inbox.release(&event);
            self.noted += self.note(event);
        }
    }

    /// Notes what waits already, so that an event of a client's own finds nothing before it; no more than a tick takes.
    fn catch_up(&mut self) {
        if self.own.used_bytes() == 0 || self.noted >= NOTED_MAX {
            return;
        }
        while let Some(message) = self.inbox.try_recv() {
            match message {
                Message::Event(event) => self.events.push_back(event),
                other => self.aside.push_back(other),
            }
        }
        self.note_events();
    }

    /// Notes all events that came before what is to be done now, and flushes where a tick cannot hold them: who is told to leave gets them still.
    pub(super) fn note_what_came_before(&mut self) {
        self.note_events();
        while !self.events.is_empty() {
            self.flush_all();
            self.note_events();
        }
    }

    /// Notes an event for this tick; for how many members.
    fn note(&mut self, event: Arc<Event>) -> usize {
        let members = self.note_event(&event);
        if let Some(done) = &event.done {
            done.add_delivered(members);
        }
        self.delivered += members as u64;
        let event_id = event.done.as_ref().map(Done::id);
        tracing::trace!(event_id, event = %event.emission.event, target = ?event.emission.target, members, shard = self.index, "noted");
        self.in_tick.push(event);
        members
    }

    /// Notes an event in the slot of each of its members, once; how many they are.
    fn note_event(&mut self, event: &Event) -> usize {
        let emission = &event.emission;
        let namespace = emission.namespace;
        self.slots.start_round();
        self.leave_out_who_has_it(event);
        for room in &emission.except.rooms {
            for slot in self.sockets.rooms().members(namespace, room) {
                self.slots.visit(*slot);
            }
            if let Some(slot) = self.slot_of_socket(namespace, room.as_str()) {
                self.slots.visit(slot);
            }
        }
        for id in &emission.except.sockets {
            if let Some(slot) = self.slot_of_socket(namespace, id.as_str()) {
                self.slots.visit(slot);
            }
        }
        let mut noted = 0;
        let mut notes = Notes {
            slots: &mut self.slots,
            overflow: &mut self.overflow,
            deflater: &mut self.deflater,
            deflate_threshold_bytes: self.outside.gateway.profile.limits.deflate_threshold_bytes as usize,
            frames: [None; Encoding::COUNT],
            namespace: self.namespaces.name(namespace),
            connections: &self.connections,
            asked: emission.sending.ack.map(|_| Vec::new()),
            emission,
        };
        match &emission.target {
            Target::Everyone => noted += notes.note_all(self.sockets.rooms().everyone(namespace)),
            Target::Rooms(rooms) => {
                for room in rooms.names() {
                    noted += notes.note_all(self.sockets.rooms().members(namespace, room));
                    // A socket's own id is a room of one, which stands in no list.
                    if let Some(slot) = slot_of_socket(&self.sockets, self.index, namespace, room.as_str()) {
                        noted += notes.note_all(&[slot]);
                    }
                }
            }
        }
        let asked = notes.asked.unwrap_or_default();
        for (slot, flushed) in std::mem::take(&mut self.overflow) {
            self.flushed(slot, flushed);
        }
        self.ask_all(&asked, namespace, emission.sending);
        noted
    }

    /// The slot of the socket with this id, if it is ours and in the namespace.
    pub(super) fn slot_of_socket(&self, namespace: NamespaceId, id: &str) -> Option<u32> {
        slot_of_socket(&self.sockets, self.index, namespace, id)
    }

    /// Sends a frame of the slot's own encoding, before any sweep goes on.
    pub(super) fn send(&mut self, slot: u32, frame: Bytes) {
        if self.slots.way(slot) == Way::Closed {
            return;
        }
        if self.slots.is_arena_full() {
            self.flush_all();
        }
        let frame = if self.slots.encoding(slot).is_deflated() {
            let threshold_bytes = self.outside.gateway.profile.limits.deflate_threshold_bytes as usize;
            self.deflater.frames(&frame, threshold_bytes)
        } else {
            frame
        };
        let frame = self.slots.add_frame(frame);
        if !self.slots.note_urgent(slot, frame) {
            self.flush(slot);
            if self.slots.way(slot) == Way::Closed {
                return;
            }
            let noted = self.slots.note_urgent(slot, frame);
            debug_assert!(noted, "a flushed slot holds a frame");
        }
    }

    /// Flushes everything that is noted: for the rare moment when the arena is full of replies.
    fn flush_all(&mut self) {
        self.flush_urgent();
        while let Some(slot) = self.slots.next_dirty() {
            self.flush(slot);
        }
        self.end_tick();
    }

    /// Flushes one slot, and sees to what its socket does not take.
    pub(super) fn flush(&mut self, slot: u32) {
        let flushed = self.slots.flush(slot);
        self.flushed(slot, flushed);
    }

    fn flushed(&mut self, slot: u32, flushed: Flushed) {
        match flushed {
            Flushed::Sent => {}
            Flushed::Broken => {
                self.slots.set_way(slot, Way::Closed);
                self.doomed.push((self.slots.key(slot), Doom::Broken));
            }
            Flushed::Blocked { frames, sent_of_first } => {
                let outbox = Outbox::new(frames, sent_of_first);
                self.queued_bytes += outbox.bytes();
                self.connection(slot).outbox = Some(Box::new(outbox));
                self.await_writing(slot);
                self.check_queue(slot);
            }
            Flushed::Queue(frames) => self.queue(slot, frames),
        }
    }

    /// Queues frames of a connection whose socket is full, or which polls.
    fn queue(&mut self, slot: u32, frames: Vec<Bytes>) {
        if self.slots.encoding(slot) == Encoding::Polling {
            return self.queue_packets(slot, frames);
        }
        let added: usize = frames.iter().map(Bytes::len).sum();
        let outbox = self.connection(slot).outbox.get_or_insert_default();
        frames.into_iter().for_each(|frame| outbox.push(frame));
        self.queued_bytes += added;
        if self.connection(slot).tls.is_some() {
            // What is due goes out at once, as it would without TLS.
            self.write_outbox(slot);
            if self.connection(slot).outbox.as_ref().is_some_and(|outbox| outbox.until_ms.is_none()) {
                self.await_writing(slot);
            }
        }
        self.check_queue(slot);
    }

    fn check_queue(&mut self, slot: u32) {
        let limit = self.outside.gateway.profile.limits.send_queue_bytes as usize;
        if self.connection(slot).outbox.as_ref().is_some_and(|outbox| outbox.bytes() > limit) {
            self.slots.set_way(slot, Way::Closed);
            self.doomed.push((self.slots.key(slot), Doom::Slow));
        }
    }

    /// What waits must move within the time that a client has for it.
    fn await_writing(&mut self, slot: u32) {
        let within_ms = self.outside.gateway.profile.limits.timeouts.write.as_millis() as u64;
        let until_ms = self.clock.now_ms().saturating_add(within_ms);
        if let Some(outbox) = &mut self.connection(slot).outbox {
            outbox.until_ms = Some(until_ms);
            self.arm(slot);
        }
    }

    /// The socket may have room again: writes what waits.
    pub(super) fn write_outbox(&mut self, slot: u32) {
        let Some(mut outbox) = self.connection(slot).outbox.take() else { return };
        let mut tls = self.connection(slot).tls.take();
        let mut has_moved = false;
        while !outbox.is_empty() || tls.as_ref().is_some_and(Tls::has_waiting) {
            let slots = &mut self.slots;
            let written = match &mut tls {
                None => slots.write(slot, &outbox.parts()),
                Some(tls) => tls.write(&outbox.parts(), |parts| slots.write(slot, parts)),
            };
            match written {
                // Nothing is left but ciphertext, and all of it is out.
                Ok(0) if outbox.is_empty() && tls.as_ref().is_some_and(|tls| !tls.has_waiting()) => {}
                Ok(0) => {
                    self.connection(slot).tls = tls;
                    self.connection(slot).outbox = Some(outbox);
                    if has_moved {
                        self.await_writing(slot);
                    }
                    return;
                }
                Ok(written) => {
                    has_moved = true;
                    outbox.advance(written);
                    self.queued_bytes -= written;
                }
                Err(_) => {
                    self.connection(slot).tls = tls;
                    self.queued_bytes -= outbox.bytes();
                    self.slots.set_way(slot, Way::Closed);
                    return self.doomed.push((self.slots.key(slot), Doom::Broken));
                }
            }
        }
        let is_plain = tls.is_none();
        self.connection(slot).tls = tls;
        if self.connection(slot).closing_until_ms.is_some() {
            self.end_writing(slot);
        } else if self.slots.way(slot) == Way::Queue && is_plain {
            self.slots.set_way(slot, Way::Direct);
        }
    }

    /// Everything is out: ends our side of the socket.
    pub(super) fn end_writing(&mut self, slot: u32) {
        if let Some(mut tls) = self.connection(slot).tls.take() {
            tls.end(|parts| self.slots.write(slot, parts));
            self.connection(slot).tls = Some(tls);
        }
        self.slots.shutdown_write(slot);
    }

    /// Hands an emission of one of our sockets to everyone who is to get it. Returns whether there was room everywhere.
    /// `done` fires when they have it.
    pub(super) fn emit(&mut self, emission: Emission, done: Option<Done>) -> bool {
        self.catch_up();
        match self.outside.gateway.publisher.try_publish_from(self.index, emission, done) {
            Ok(Own::Next(event)) => {
                // At once, so that it goes to those who are members now, whatever the next command does.
                if self.slots.is_arena_full() {
                    self.flush_all();
                }
                self.note(event);
                true
            }
            Ok(Own::Waits | Own::Nobody) => true,
            Err(_) => false,
        }
    }
}

/// One event being noted: the part of the shard that this needs, so that a room's members can be walked along where they stand.
struct Notes<'a> {
    slots: &'a mut Slots,
    overflow: &'a mut Vec<(u32, Flushed)>,
    deflater: &'a mut Deflater,
    deflate_threshold_bytes: usize,
    frames: [Option<u16>; Encoding::COUNT],
    namespace: &'a str,
    connections: &'a [Option<Box<Connection>>],
    /// Who is asked for an answer, where the event wants one.
    asked: Option<Vec<u32>>,
    emission: &'a Emission,
}

impl Notes<'_> {
    fn note_all(&mut self, members: &[u32]) -> usize {
        let mut noted = 0;
        for slot in members.iter().copied() {
            if !self.slots.visit(slot) || self.slots.way(slot) == Way::Closed {
                continue;
            }
            let encoding = self.slots.encoding(slot);
            if self.emission.sending.volatile && !self.can_take(slot) {
                continue;
            }
            if let Some(asked) = &mut self.asked
                && is_socket_io(encoding)
            {
                asked.push(slot);
            }
            let frame = match self.frames[encoding as usize] {
                Some(frame) => frame,
                None => self.encode(encoding),
            };
            if !self.slots.note(slot, frame) {
                let flushed = self.slots.flush(slot);
                if flushed != Flushed::Sent {
                    self.overflow.push((slot, flushed));
                }
                let again = self.slots.note(slot, frame);
                debug_assert!(again, "a flushed slot holds a frame");
            }
            noted += 1;
        }
        noted
    }

    /// As [`Shard::can_take`].
    fn can_take(&self, slot: u32) -> bool {
        self.slots.way(slot) == Way::Direct
            || self.connections[slot as usize].as_ref().is_some_and(|connection| connection.takes_at_once())
    }

    fn encode(&mut self, encoding: Encoding) -> u16 {
        let frame = if encoding.is_deflated() {
            let plain = match self.frames[encoding.plain() as usize] {
                Some(plain) => plain,
                None => self.encode(encoding.plain()),
            };
            let bytes = self.slots.frame(plain);
            let deflated = self.deflater.frames(bytes, self.deflate_threshold_bytes);
            // Compressing makes a frame smaller or leaves it alone.
            if deflated.len() < bytes.len() { self.slots.add_frame(deflated) } else { plain }
        } else {
            let Emission { event, payload, sending, .. } = self.emission;
            let frame = encode::event(encoding, self.namespace, event, payload, sending.ack);
            self.slots.add_frame(frame)
        };
        self.frames[encoding as usize] = Some(frame);
        frame
    }
}

/// The slot of the socket with this id, if it is of this shard and in the namespace.
fn slot_of_socket(sockets: &Sockets, shard: usize, namespace: NamespaceId, id: &str) -> Option<u32> {
    let (of, slot) = ids::place_of(id)?;
    if of != shard {
        return None;
    }
    let key = sockets.find(slot, namespace)?;
    (sockets.get(key).id.as_str() == SocketId::part_of(id)).then_some(slot)
}

#[cfg(test)]
mod tests {
    use hub::emission::{Except, Payload, Sending};
    use hub::names::EventName;

    use super::*;

    const THRESHOLD: usize = 100;

    /// Notes an event with so many bytes for members of these encodings. Gives each member's frame, and how many frames there are.
    fn noted(encodings: &[Encoding], payload_len: usize) -> (Vec<Bytes>, usize) {
        let mut slots = Slots::new(super::super::slots::epoll_set().expect("a descriptor"));
        let members: Vec<u32> = encodings.iter().map(|encoding| slots.open(*encoding).slot).collect();
        let emission = Emission {
            namespace: NamespaceId(0),
            target: Target::Everyone,
            except: Except::default(),
            event: EventName::parse("e").expect("a name"),
            payload: Payload::json(format!("\"{}\"", "a".repeat(payload_len))),
            sending: Sending::default(),
        };
        let mut notes = Notes {
            slots: &mut slots,
            overflow: &mut Vec::new(),
            deflater: &mut Deflater::default(),
            deflate_threshold_bytes: THRESHOLD,
            frames: [None; Encoding::COUNT],
            namespace: "/",
            connections: &[],
            asked: None,
            emission: &emission,
        };
        notes.slots.start_round();
        assert_eq!(notes.note_all(&members), encodings.len());
        let frames = encodings.iter().map(|encoding| notes.frames[*encoding as usize].expect("it was noted"));
        let frames: Vec<u16> = frames.collect();
        let count = frames.iter().max().map_or(0, |last| usize::from(*last) + 1);
        (frames.into_iter().map(|frame| slots.frame(frame).clone()).collect(), count)
    }

    #[test]
    fn an_event_is_compressed_once_however_many_want_it_so() {
        let members = [
            Encoding::SocketIoDeflated,
            Encoding::SocketIoDeflated,
            Encoding::SocketIo,
            Encoding::SocketIoDeflated,
            Encoding::FlatDeflated,
            Encoding::FlatDeflated,
        ];
        let (frames, count) = noted(&members, 1_000);
        assert_eq!(count, 4, "two dialects, each as it is and compressed");
        assert_eq!([frames[0][0], frames[2][0], frames[4][0]], [0xc1, 0x81, 0xc1]);
        assert_eq!(frames[0].as_ptr(), frames[3].as_ptr(), "members share the bytes");
        assert!(frames[0].len() < 100 && frames[2].len() > 1_000);
    }

    #[test]
    fn below_the_threshold_everyone_shares_one_frame() {
        let (frames, count) = noted(&[Encoding::DataDeflated, Encoding::Data, Encoding::DataDeflated], 10);
        assert_eq!((count, frames[0][0]), (1, 0x81));
        assert!(frames.iter().all(|frame| frame.as_ptr() == frames[0].as_ptr()));
    }
}
