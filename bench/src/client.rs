//! A crowd of clients in one thread: they connect, join one room, and count the bytes that come.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, bail};
use rustix::event::epoll;

/// How a client comes in.
#[derive(Clone, Copy)]
pub struct Handshake {
    request: &'static str,
    /// What it waits for, in order; each text may be anywhere in what comes.
    expect: &'static [&'static str],
    /// What it sends after the first of them, as a masked frame.
    hello: Option<&'static str>,
}

const UPGRADE: &str = "Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A plain WebSocket of the demo.
pub const PLAIN: Handshake =
    Handshake { request: "GET /ws HTTP/1.1\r\n", expect: &["101 Switching", "\"connected\""], hello: None };

/// A Socket.IO WebSocket of the demo.
pub const SOCKET_IO: Handshake = Handshake {
    request: "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n",
    expect: &["101 Switching", "0{\"sid\"", "\"connected\""],
    hello: Some("40"),
};

/// The floor.
pub const BARE: Handshake = Handshake { request: "GET / HTTP/1.1\r\n", expect: &["101 Switching"], hello: None };

/// Many clients of one server.
pub struct Crowd {
    sockets: Vec<TcpStream>,
    set: rustix::fd::OwnedFd,
    events: Vec<epoll::Event>,
}

impl Crowd {
    /// Connects them, sixteen at a time.
    pub fn connect(port: u16, count: usize, handshake: Handshake) -> anyhow::Result<Self> {
        let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut sockets = Vec::with_capacity(count);
        while sockets.len() < count {
            let batch = (count - sockets.len()).min(16);
            let mut opened = Vec::new();
            for _ in 0..batch {
                let mut socket = TcpStream::connect(("127.0.0.1", port))?;
                socket.set_nodelay(true)?;
                socket.write_all(format!("{}{UPGRADE}", handshake.request).as_bytes())?;
                opened.push(socket);
            }
            for socket in &mut opened {
                let mut seen = Vec::new();
                for (index, expected) in handshake.expect.iter().enumerate() {
                    read_until(socket, &mut seen, expected)?;
                    if index == 1
                        && let Some(hello) = handshake.hello
                    {
                        socket.write_all(&masked(hello))?;
                    }
                }
            }
            sockets.append(&mut opened);
        }
        for (index, socket) in sockets.iter().enumerate() {
            socket.set_nonblocking(true)?;
            epoll::add(&set, socket, epoll::EventData::new_u64(index as u64), epoll::EventFlags::IN)?;
        }
        Ok(Self { sockets, set, events: Vec::with_capacity(1024) })
    }

    /// Everyone joins the room.
    pub fn join(&mut self) -> anyhow::Result<()> {
        for index in 0..self.sockets.len() {
            self.sockets[index].write_all(&masked(r#"{"type":"join","room":"bench"}"#))?;
            let mut seen = Vec::new();
            self.sockets[index].set_nonblocking(false)?;
            read_until(&mut self.sockets[index], &mut seen, "\"joined\"")?;
            self.sockets[index].set_nonblocking(true)?;
        }
        Ok(())
    }

    fn say(&mut self, times: usize) -> anyhow::Result<()> {
        let message = masked(r#"{"type":"say","room":"bench","data":"0123456789012345678901234567890"}"#);
        Ok(self.sockets[0].write_all(&message.repeat(times))?)
    }

    /// One event; the bytes of its frame.
    pub fn one_event(&mut self) -> anyhow::Result<usize> {
        self.say(1)?;
        let mut total = 0;
        let mut buffer = [0; 4096];
        for socket in &mut self.sockets {
            socket.set_nonblocking(false)?;
            total += socket.read(&mut buffer)?;
            socket.set_nonblocking(true)?;
        }
        if total % self.sockets.len() != 0 {
            bail!("members got different frames: {total} bytes for {} of them", self.sockets.len());
        }
        Ok(total / self.sockets.len())
    }

    /// So many events, with so many in flight at once; waits until every member has every byte.
    pub fn events(&mut self, events: usize, in_flight: usize, frame_bytes: usize) -> anyhow::Result<()> {
        for _ in 0..events / in_flight {
            self.say(in_flight)?;
            self.drain(in_flight * frame_bytes * self.sockets.len())?;
        }
        Ok(())
    }

    /// Tells the floor how long its frames are.
    pub fn frame_bytes(&mut self, frame_bytes: usize) -> anyhow::Result<()> {
        Ok(self.sockets[0].write_all(format!("F{frame_bytes}").as_bytes())?)
    }

    /// The same as [`events`](Self::events) for the floor.
    pub fn triggers(&mut self, events: usize, in_flight: usize, frame_bytes: usize) -> anyhow::Result<()> {
        for _ in 0..events / in_flight {
            self.sockets[0].write_all(&b"T".repeat(in_flight))?;
            self.drain(in_flight * frame_bytes * self.sockets.len())?;
        }
        Ok(())
    }

    fn drain(&mut self, mut expected: usize) -> anyhow::Result<()> {
        let mut buffer = [0; 16384];
        while expected > 0 {
            self.events.clear();
            epoll::wait(&self.set, rustix::buffer::spare_capacity(&mut self.events), None)?;
            for event in &self.events {
                let read = self.sockets[event.data.u64() as usize].read(&mut buffer)?;
                if read == 0 {
                    bail!("the server closed a connection");
                }
                expected = expected.checked_sub(read).context("more came than was due: something was doubled")?;
            }
        }
        Ok(())
    }
}

fn read_until(socket: &mut TcpStream, seen: &mut Vec<u8>, expected: &str) -> anyhow::Result<()> {
    let mut buffer = [0; 4096];
    while !seen.windows(expected.len()).any(|window| window == expected.as_bytes()) {
        let read = socket.read(&mut buffer)?;
        if read == 0 {
            bail!("closed before {expected:?} came: {}", String::from_utf8_lossy(seen));
        }
        seen.extend_from_slice(&buffer[..read]);
    }
    Ok(())
}

/// A client's text frame; the mask is zero, which masks nothing.
fn masked(text: &str) -> Vec<u8> {
    assert!(text.len() < 126, "short messages alone");
    let mut frame = vec![0x81, 0x80 | text.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(text.as_bytes());
    frame
}
