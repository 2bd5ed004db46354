//! The connections and their rooms: who is sent what. The fast path is one `send` for each member and nothing else; a socket that takes no
//! more has the rest kept for it, so that nothing is lost. Does not know records.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown};

/// What is kept for a socket that takes no more; a connection that is further behind is ended.
const WAITING_BYTES: usize = 16 << 20;

/// One connection.
pub struct Connection {
    /// Its socket, non-blocking.
    pub socket: OwnedFd,
    /// Whether its handshake has been answered.
    pub is_open: bool,
    /// The beginning of a record whose end has not come yet.
    pub unfinished: Vec<u8>,
    /// What its socket did not take.
    waiting: Vec<u8>,
    rooms: Vec<u32>,
}

#[derive(Default)]
struct Room {
    members: Vec<u32>,
    /// What is due to the members when sends are coalesced: at most what one read brought.
    due: Vec<u8>,
}

/// All connections, by index, and all rooms, by number.
#[derive(Default)]
pub struct Crowd {
    connections: Vec<Option<Connection>>,
    free: Vec<u32>,
    rooms: Vec<Room>,
    /// The rooms with something due.
    due: Vec<u32>,
}

impl Crowd {
    /// The index that the next connection gets.
    pub fn next(&self) -> u32 {
        self.free.last().copied().unwrap_or(self.connections.len() as u32)
    }

    /// Takes a new connection in, as number `next`.
    pub fn add(&mut self, socket: OwnedFd) {
        let connection =
            Some(Connection { socket, is_open: false, unfinished: Vec::new(), waiting: Vec::new(), rooms: Vec::new() });
        match self.free.pop() {
            Some(index) => self.connections[index as usize] = connection,
            None => self.connections.push(connection),
        }
    }

    /// The connection of this index, unless it has ended.
    pub fn connection(&mut self, index: u32) -> Option<&mut Connection> {
        self.connections.get_mut(index as usize)?.as_mut()
    }

    /// Closes a connection; its rooms lose it.
    pub fn end(&mut self, index: u32) {
        let Some(connection) = self.connections[index as usize].take() else { return };
        for room in connection.rooms {
            remove(&mut self.rooms[room as usize].members, index);
        }
        self.free.push(index);
    }

    /// Makes a connection a member of a room.
    pub fn join(&mut self, index: u32, room: u32) {
        let Some(connection) = self.connection(index) else { return };
        if connection.rooms.contains(&room) {
            return;
        }
        connection.rooms.push(room);
        self.room(room).members.push(index);
    }

    /// Takes a connection out of a room.
    pub fn leave(&mut self, index: u32, room: u32) {
        let Some(connection) = self.connection(index) else { return };
        if remove(&mut connection.rooms, room) {
            remove(&mut self.room(room).members, index);
        }
    }

    /// Sends `bytes` to each member of a room.
    pub fn publish(&mut self, room: u32, bytes: &[u8]) {
        let Some(room) = self.rooms.get(room as usize) else { return };
        for &member in &room.members {
            if let Some(connection) = &mut self.connections[member as usize] {
                connection.send(bytes);
            }
        }
    }

    /// Keeps `bytes` for each member of a room, until `publish_due`.
    pub fn publish_later(&mut self, room: u32, bytes: &[u8]) {
        let entry = self.room(room);
        let is_first = entry.due.is_empty();
        entry.due.extend_from_slice(bytes);
        if is_first {
            self.due.push(room);
        }
    }

    /// Sends what is due, with one send for each member of a room.
    pub fn publish_due(&mut self) {
        while let Some(room) = self.due.pop() {
            let mut due = std::mem::take(&mut self.rooms[room as usize].due);
            self.publish(room, &due);
            due.clear();
            self.rooms[room as usize].due = due;
        }
    }

    fn room(&mut self, number: u32) -> &mut Room {
        let needed = number as usize + 1;
        if self.rooms.len() < needed {
            self.rooms.resize_with(needed, Room::default);
        }
        &mut self.rooms[number as usize]
    }
}

impl Connection {
    /// Sends `bytes`, now or when the socket has room again.
    pub fn send(&mut self, bytes: &[u8]) {
        if !self.waiting.is_empty() {
            return self.keep(bytes);
        }
        match rustix::net::send(&self.socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(sent) if sent == bytes.len() => {}
            Ok(sent) => self.keep(&bytes[sent..]),
            Err(Errno::AGAIN) => self.keep(bytes),
            // The connection is at its end, which epoll says, too.
            Err(_) => {}
        }
    }

    /// Sends what was kept: the socket has room again.
    pub fn send_waiting(&mut self) {
        if !self.waiting.is_empty() {
            let waiting = std::mem::take(&mut self.waiting);
            self.send(&waiting);
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.waiting.len() + bytes.len() > WAITING_BYTES {
            // Its end comes by epoll, like every other.
            let _ = rustix::net::shutdown(&self.socket, Shutdown::Both);
            return;
        }
        self.waiting.extend_from_slice(bytes);
    }
}

/// Returns whether it was there.
fn remove(list: &mut Vec<u32>, item: u32) -> bool {
    let place = list.iter().position(|other| *other == item);
    place.map(|place| list.swap_remove(place)).is_some()
}
