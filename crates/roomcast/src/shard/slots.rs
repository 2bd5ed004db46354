//! The dense array of sockets and the write path: frames noted by index, flushed with one send for each touched slot.
//! Knows nothing of sessions, rooms or dialects: a slot has a descriptor, an encoding and what is due to it.
//!
//! A frame stands once in the arena of the tick; a slot that is due it holds two bytes. A fan-out therefore touches one cache line
//! for each member and the kernel, nothing else.

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::time::Duration;

use bytes::Bytes;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::inbox::ConnectionKey;

/// Frames that a slot can be due before it must be flushed.
const DUE_MAX: usize = 20;

/// Frames of one tick: indices are 16 bits wide.
pub const ARENA_MAX_FRAMES: usize = u16::MAX as usize;

/// Bytes of one tick's frames, after which the tick is flushed before more is noted.
pub const ARENA_MAX_BYTES: usize = 16 * 1024 * 1024;

/// Above this, several frames go out by `writev` from where they are instead of being gathered.
const GATHER_MAX_BYTES: usize = 32 * 1024;

/// What stands for the listener among the keys: no slot has this number.
pub const LISTENER: ConnectionKey = ConnectionKey { slot: u32::MAX, generation: u32::MAX };

/// What stands for the inbox's bell in the epoll set: the key of no slot.
const BELL: u64 = u32::MAX as u64;

/// Sockets told of by one look at the epoll set.
pub const READY_MAX: usize = 256;

/// How a slot takes its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Straight to the socket.
    Direct,
    /// Through the connection: it is polling, or its socket is full.
    Queue,
    /// Nowhere: the connection is ending.
    Closed,
}

/// Which form of an event the connection wants; each is encoded at most once an event, and compressed at most once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Socket.IO in WebSocket frames.
    SocketIo,
    /// The same for Engine.IO 3, where binary frames begin with their type.
    SocketIo3,
    /// Socket.IO packets for a polling session.
    Polling,
    /// `{type, …}` in WebSocket frames.
    Flat,
    /// `{type, data}` in WebSocket frames.
    Data,
    /// [`Self::SocketIo`], compressed from a threshold on.
    SocketIoDeflated,
    /// [`Self::Flat`], compressed from a threshold on.
    FlatDeflated,
    /// [`Self::Data`], compressed from a threshold on.
    DataDeflated,
}

impl Encoding {
    /// How many there are.
    pub const COUNT: usize = 8;

    /// What is compressed for this one: itself where nothing is.
    pub fn plain(self) -> Self {
        match self {
            Self::SocketIo | Self::SocketIoDeflated => Self::SocketIo,
            Self::SocketIo3 => Self::SocketIo3,
            Self::Polling => Self::Polling,
            Self::Flat | Self::FlatDeflated => Self::Flat,
            Self::Data | Self::DataDeflated => Self::Data,
        }
    }

    /// The same, compressed.
    pub fn deflated(self) -> Self {
        match self {
            Self::SocketIo | Self::SocketIoDeflated => Self::SocketIoDeflated,
            // Old clients offer it and need it not.
            Self::SocketIo3 => Self::SocketIo3,
            // HTTP has a compression of its own.
            Self::Polling => Self::Polling,
            Self::Flat | Self::FlatDeflated => Self::FlatDeflated,
            Self::Data | Self::DataDeflated => Self::DataDeflated,
        }
    }

    /// Whether its frames are compressed.
    pub fn is_deflated(self) -> bool {
        self != self.plain()
    }
}

/// One connection's place: 64 bytes, one cache line.
#[derive(Debug)]
#[repr(align(64))]
struct Slot {
    socket: Option<OwnedFd>,
    generation: u32,
    /// The last event that came by; see [`Slots::visit`].
    visited: u32,
    way: Way,
    encoding: Encoding,
    in_use: bool,
    due_count: u8,
    due: [u16; DUE_MAX],
}

/// What a flush did with a slot's frames.
#[derive(Debug, PartialEq, Eq)]
pub enum Flushed {
    /// All went out, or nothing was due.
    Sent,
    /// The socket is full: these frames are left, the first from the given byte on. The slot's way is [`Way::Queue`] now.
    Blocked {
        /// What is left.
        frames: Vec<Bytes>,
        /// Bytes of the first that went out.
        sent_of_first: usize,
    },
    /// The slot's way is [`Way::Queue`]: these frames are the connection's to send.
    Queue(Vec<Bytes>),
    /// The socket is broken.
    Broken,
}

/// A socket that has something to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readiness {
    /// Whose.
    pub key: ConnectionKey,
    /// There is something to read, the end of the stream included.
    pub readable: bool,
    /// There may be room to write.
    pub writable: bool,
    /// The client has ended its side, or the socket is broken: it is to be read to its end, of which no edge will tell again.
    pub ended: bool,
}

/// A new epoll set, for a shard's sockets.
///
/// # Errors
/// The process has no descriptor left.
pub fn epoll_set() -> io::Result<OwnedFd> {
    Ok(epoll::create(epoll::CreateFlags::CLOEXEC)?)
}

/// Watches the bell of a shard's inbox, which stands for no slot: all it does is to end a [`Slots::poll`] that waits.
///
/// # Errors
/// The descriptor cannot be watched.
pub fn watch_bell(epoll: &OwnedFd, bell: &OwnedFd) -> io::Result<()> {
    let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
    Ok(epoll::add(epoll, bell, epoll::EventData::new_u64(BELL), flags)?)
}

/// The slots of one shard, their descriptors' epoll set and the arena of the tick.
pub struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
    epoll: OwnedFd,
    ready: Vec<epoll::Event>,
    arena: Vec<Bytes>,
    arena_bytes: usize,
    epoch: u32,
    /// Slots with frames due, in the order in which they became so; a slot may stand here without being due any more.
    dirty: Vec<u32>,
    /// The part of `dirty` that is flushed already.
    flushed: usize,
    /// Slots that are due a reply: flushed before the sweep goes on.
    urgent: Vec<u32>,
    gather: Gather,
    /// Bytes that went out, to be taken by the metrics.
    pub sent_bytes: u64,
    /// System calls that offered bytes to a socket, to be taken by the metrics.
    pub sends: u64,
}

/// The last gather: members of one room share their list of frames, so its bytes are put together once.
#[derive(Default)]
struct Gather {
    list: Vec<u16>,
    bytes: Vec<u8>,
}

impl Slots {
    /// No slots, and an epoll set of their own.
    pub fn new(epoll: OwnedFd) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            epoll,
            ready: Vec::with_capacity(READY_MAX),
            arena: Vec::new(),
            arena_bytes: 0,
            epoch: 0,
            dirty: Vec::new(),
            flushed: 0,
            urgent: Vec::new(),
            gather: Gather::default(),
            sent_bytes: 0,
            sends: 0,
        }
    }

    /// A new slot, without a socket.
    pub fn open(&mut self, encoding: Encoding) -> ConnectionKey {
        let way = Way::Queue;
        if let Some(slot) = self.free.pop() {
            let place = &mut self.slots[slot as usize];
            place.way = way;
            place.encoding = encoding;
            place.in_use = true;
            place.due_count = 0;
            return ConnectionKey { slot, generation: place.generation };
        }
        let slot = self.slots.len() as u32;
        self.slots.push(Slot {
            socket: None,
            generation: 0,
            visited: 0,
            way,
            encoding,
            in_use: true,
            due_count: 0,
            due: [0; DUE_MAX],
        });
        ConnectionKey { slot, generation: 0 }
    }

    /// Gives the slot its socket; frames go straight to it from now on.
    ///
    /// # Errors
    /// The descriptor cannot be watched.
    pub fn attach(&mut self, key: ConnectionKey, socket: OwnedFd, encoding: Encoding) -> io::Result<()> {
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        let data = u64::from(key.slot) | u64::from(key.generation) << 32;
        epoll::add(&self.epoll, &socket, epoll::EventData::new_u64(data), flags)?;
        let slot = &mut self.slots[key.slot as usize];
        slot.socket = Some(socket);
        slot.way = Way::Direct;
        slot.encoding = encoding;
        Ok(())
    }

    /// Watches a listener, which is told of as [`LISTENER`] for as long as a connection waits there.
    ///
    /// # Errors
    /// The descriptor cannot be watched.
    pub fn watch_listener(&self, listener: &OwnedFd) -> io::Result<()> {
        let data = u64::from(LISTENER.slot) | u64::from(LISTENER.generation) << 32;
        Ok(epoll::add(&self.epoll, listener, epoll::EventData::new_u64(data), epoll::EventFlags::IN)?)
    }

    /// Looks at a listener no more.
    pub fn unwatch_listener(&self, listener: &OwnedFd) {
        // One that is not watched needs no more than that.
        let _ = epoll::delete(&self.epoll, listener);
    }

    /// Gives one slot's socket to another.
    ///
    /// # Errors
    /// There is no socket, or it cannot be watched.
    pub fn move_socket(&mut self, from: ConnectionKey, to: ConnectionKey, encoding: Encoding) -> io::Result<()> {
        let socket = self.slots[from.slot as usize].socket.take().ok_or(io::ErrorKind::NotConnected)?;
        let way = self.slots[from.slot as usize].way;
        epoll::delete(&self.epoll, &socket)?;
        self.attach(to, socket, encoding)?;
        self.slots[to.slot as usize].way = way;
        Ok(())
    }

    /// Takes the slot's socket out, to be used elsewhere.
    pub fn detach(&mut self, slot: u32) -> Option<OwnedFd> {
        let socket = self.slots[slot as usize].socket.take()?;
        // One that cannot be unwatched tells of a slot that is free by then, which nobody listens to.
        let _ = epoll::delete(&self.epoll, &socket);
        Some(socket)
    }

    /// Frees the slot; the socket is closed, which takes it out of the epoll set. What was due is dropped.
    pub fn close(&mut self, slot: u32) {
        let place = &mut self.slots[slot as usize];
        place.socket = None;
        place.generation = place.generation.wrapping_add(1);
        place.way = Way::Closed;
        place.in_use = false;
        place.due_count = 0;
        self.free.push(slot);
    }

    /// Whether the key's connection is still there.
    pub fn is_current(&self, key: ConnectionKey) -> bool {
        self.slots.get(key.slot as usize).is_some_and(|slot| slot.in_use && slot.generation == key.generation)
    }

    /// The key of the connection that is in the slot now.
    pub fn key(&self, slot: u32) -> ConnectionKey {
        ConnectionKey { slot, generation: self.slots[slot as usize].generation }
    }

    /// What the slot wants.
    pub fn encoding(&self, slot: u32) -> Encoding {
        self.slots[slot as usize].encoding
    }

    /// Changes what the slot wants.
    pub fn set_encoding(&mut self, slot: u32, encoding: Encoding) {
        self.slots[slot as usize].encoding = encoding;
    }

    /// The slot's socket, if it has one.
    pub fn socket(&self, slot: u32) -> Option<&OwnedFd> {
        self.slots[slot as usize].socket.as_ref()
    }

    /// How the slot takes its bytes.
    pub fn way(&self, slot: u32) -> Way {
        self.slots[slot as usize].way
    }

    /// Changes how the slot takes its bytes.
    pub fn set_way(&mut self, slot: u32, way: Way) {
        self.slots[slot as usize].way = way;
    }

    /// Starts a new round of [`visit`](Self::visit).
    pub fn start_round(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
        if self.epoch == 0 {
            // Once in four billion events: old marks could be mistaken for new ones.
            self.slots.iter_mut().for_each(|slot| slot.visited = 0);
            self.epoch = 1;
        }
    }

    /// Marks the slot in this round. Returns whether it was not marked yet.
    pub fn visit(&mut self, slot: u32) -> bool {
        let place = &mut self.slots[slot as usize];
        let first = place.visited != self.epoch;
        place.visited = self.epoch;
        first
    }

    /// Puts a frame into the arena.
    pub fn add_frame(&mut self, frame: Bytes) -> u16 {
        debug_assert!(self.arena.len() < ARENA_MAX_FRAMES, "callers check `is_arena_full`");
        self.arena_bytes += frame.len();
        self.arena.push(frame);
        (self.arena.len() - 1) as u16
    }

    /// A frame of the arena.
    pub fn frame(&self, frame: u16) -> &Bytes {
        &self.arena[usize::from(frame)]
    }

    /// Whether the tick must be flushed before more is noted. Leaves room for one event in every encoding.
    pub fn is_arena_full(&self) -> bool {
        self.arena.len() + 2 * Encoding::COUNT >= ARENA_MAX_FRAMES || self.arena_bytes >= ARENA_MAX_BYTES
    }

    /// Notes that the slot is due the frame. Returns `false` where it holds no more: flush it, then note again.
    #[must_use]
    pub fn note(&mut self, slot: u32, frame: u16) -> bool {
        let place = &mut self.slots[slot as usize];
        let count = usize::from(place.due_count);
        if count == DUE_MAX {
            return false;
        }
        place.due[count] = frame;
        place.due_count += 1;
        if count == 0 {
            self.dirty.push(slot);
        }
        true
    }

    /// Notes a reply: as [`note`](Self::note), but flushed before any sweep goes on.
    #[must_use]
    pub fn note_urgent(&mut self, slot: u32, frame: u16) -> bool {
        self.urgent.push(slot);
        self.note(slot, frame)
    }

    /// The next slot that waits for a reply to be flushed.
    pub fn next_urgent(&mut self) -> Option<u32> {
        self.urgent.pop()
    }

    /// The next slot of the sweep; `None` once the tick is flushed, after which [`end_tick`](Self::end_tick) empties the arena.
    pub fn next_dirty(&mut self) -> Option<u32> {
        let slot = self.dirty.get(self.flushed).copied()?;
        self.flushed += 1;
        Some(slot)
    }

    /// Whether something is noted and not flushed yet.
    pub fn is_dirty(&self) -> bool {
        self.flushed < self.dirty.len() || !self.urgent.is_empty()
    }

    /// Empties the arena. Nothing may be due any more.
    pub fn end_tick(&mut self) {
        debug_assert!(!self.is_dirty(), "frames of the arena are still due");
        self.arena.clear();
        self.arena_bytes = 0;
        self.gather.list.clear();
        self.dirty.clear();
        self.flushed = 0;
        if self.gather.bytes.capacity() > 4 * GATHER_MAX_BYTES {
            self.gather.bytes = Vec::new();
        }
        if self.dirty.capacity() > 1024 && self.dirty.capacity() > 4 * self.slots.len() {
            self.dirty.shrink_to(self.slots.len());
        }
    }

    /// Sends what is due to the slot, all of it at once.
    pub fn flush(&mut self, slot: u32) -> Flushed {
        let place = &mut self.slots[slot as usize];
        let count = usize::from(std::mem::take(&mut place.due_count));
        if count == 0 {
            return Flushed::Sent;
        }
        let due = &place.due[..count];
        match (place.way, &place.socket) {
            (Way::Direct, Some(socket)) => {
                self.sends += 1;
                let (written, total) = match *due {
                    [only] => {
                        let frame = &self.arena[usize::from(only)];
                        (rustix::net::send(socket, frame, SendFlags::NOSIGNAL | SendFlags::DONTWAIT), frame.len())
                    }
                    _ => send_several(socket, due, &self.arena, &mut self.gather),
                };
                match written {
                    Ok(written) if written == total => {
                        self.sent_bytes += total as u64;
                        Flushed::Sent
                    }
                    Ok(written) => {
                        self.sent_bytes += written as u64;
                        place.way = Way::Queue;
                        rest(due, &self.arena, written)
                    }
                    Err(Errno::AGAIN) => {
                        place.way = Way::Queue;
                        rest(due, &self.arena, 0)
                    }
                    Err(_) => Flushed::Broken,
                }
            }
            (Way::Direct | Way::Queue, _) => {
                Flushed::Queue(due.iter().map(|index| self.arena[usize::from(*index)].clone()).collect())
            }
            (Way::Closed, _) => Flushed::Sent,
        }
    }

    /// Writes queued frames to the slot's socket: how many bytes it took, 0 where it is full.
    ///
    /// # Errors
    /// The socket is broken, or there is none.
    pub fn write(&mut self, slot: u32, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let socket = self.slots[slot as usize].socket.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        self.sends += 1;
        match rustix::io::writev(socket, parts) {
            Ok(written) => {
                self.sent_bytes += written as u64;
                Ok(written)
            }
            Err(Errno::AGAIN) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads from the slot's socket into `buffer`: `Some(0)` is the end of the stream, `None` that nothing is there.
    ///
    /// # Errors
    /// The socket is broken, or there is none.
    pub fn read(&self, slot: u32, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let socket = self.slots[slot as usize].socket.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        match rustix::net::recv(socket, buffer, RecvFlags::DONTWAIT) {
            Ok((read, _)) => Ok(Some(read)),
            Err(Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends the sending direction, so that the client reads everything up to here and then the end.
    pub fn shutdown_write(&mut self, slot: u32) {
        if let Some(socket) = &self.slots[slot as usize].socket {
            // A socket that the client reset already is shut down as far as it can be.
            let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Write);
        }
    }

    /// The sockets that have something to tell, [`READY_MAX`] at most; waits so long for the first. Returns whether there may be more,
    /// which no edge will tell again.
    ///
    /// # Errors
    /// The epoll set itself fails.
    pub fn poll(&mut self, wait: Duration, out: &mut Vec<Readiness>) -> io::Result<bool> {
        out.clear();
        self.ready.clear();
        let wait = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() };
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.ready), Some(&wait)) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
        for event in &self.ready {
            let (flags, data) = (event.flags, event.data.u64());
            let key = ConnectionKey { slot: data as u32, generation: (data >> 32) as u32 };
            let ended = epoll::EventFlags::HUP | epoll::EventFlags::ERR | epoll::EventFlags::RDHUP;
            out.push(Readiness {
                key,
                readable: flags.intersects(epoll::EventFlags::IN | ended),
                writable: flags.contains(epoll::EventFlags::OUT),
                ended: flags.intersects(ended),
            });
        }
        Ok(self.ready.len() == self.ready.capacity())
    }
}

fn send_several(socket: &OwnedFd, due: &[u16], arena: &[Bytes], gather: &mut Gather) -> (Result<usize, Errno>, usize) {
    if gather.list != due {
        let total: usize = due.iter().map(|index| arena[usize::from(*index)].len()).sum();
        if total > GATHER_MAX_BYTES {
            let mut parts = [IoSlice::new(&[]); DUE_MAX];
            for (part, index) in parts.iter_mut().zip(due) {
                *part = IoSlice::new(&arena[usize::from(*index)]);
            }
            return (rustix::io::writev(socket, &parts[..due.len()]), total);
        }
        gather.list.clear();
        gather.list.extend_from_slice(due);
        gather.bytes.clear();
        for index in due {
            gather.bytes.extend_from_slice(&arena[usize::from(*index)]);
        }
    }
    let total = gather.bytes.len();
    (rustix::net::send(socket, &gather.bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT), total)
}

/// The frames that are left after `written` bytes.
fn rest(due: &[u16], arena: &[Bytes], mut written: usize) -> Flushed {
    let mut frames = due.iter().map(|index| &arena[usize::from(*index)]).peekable();
    while let Some(frame) = frames.peek() {
        if written < frame.len() {
            break;
        }
        written -= frame.len();
        frames.next();
    }
    Flushed::Blocked { frames: frames.cloned().collect(), sent_of_first: written }
}
