//! The bare loop: accepts, answers a handshake with fixed bytes, and does what the records say. One thread, one epoll set, no protocol.

use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};

use anyhow::Context;
use clap::Args;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::sockopt::set_tcp_nodelay;
use rustix::net::{RecvFlags, SocketFlags};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::crowd::Crowd;
use crate::records::{self, RECORD_BYTES, Record};

/// How the bare loop is started.
#[derive(Args)]
pub struct Options {
    /// The port of 127.0.0.1 to listen on; 0 takes a free one
    #[arg(long, env = "PORT", default_value_t = 0)]
    port: u16,
    /// What one read brought for a room goes out as one send for each member
    #[arg(long)]
    coalesce: bool,
}

/// As long as a server's usual answer. The key is that of RFC 6455's example, 1.3: nobody looks at it.
const HANDSHAKE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const BACKLOG: i32 = 4096;
const LISTENER: u64 = u64::MAX;

/// Serves until a signal ends the process.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
        .context("cannot raise the limit of open files")?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port))
        .with_context(|| format!("cannot listen on 127.0.0.1:{}", options.port))?;
    // What is accepted inherits it: a system call less for each.
    set_tcp_nodelay(&listener, true)?;
    rustix::net::listen(&listener, BACKLOG)?;
    listener.set_nonblocking(true)?;
    let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&set, listener.as_fd(), EventData::new_u64(LISTENER), EventFlags::IN)?;
    println!("listening on {}", listener.local_addr()?);

    let mut crowd = Crowd::default();
    let mut events = Vec::with_capacity(256);
    // No unfinished record is longer, so that every read has room.
    let mut buffer = vec![0; 2 * RECORD_BYTES];
    loop {
        events.clear();
        match epoll::wait(&set, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for events"),
        }
        for event in &events {
            let flags = event.flags;
            if event.data.u64() == LISTENER {
                accept(&listener, &set, &mut crowd)?;
                continue;
            }
            let index = event.data.u64() as u32;
            if flags.contains(EventFlags::OUT)
                && let Some(connection) = crowd.connection(index)
            {
                connection.send_waiting();
            }
            if flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR) {
                let is_ending = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
                read(&mut crowd, index, is_ending, &mut buffer, options.coalesce);
            }
        }
    }
}

fn accept(listener: &TcpListener, set: &OwnedFd, crowd: &mut Crowd) -> anyhow::Result<()> {
    loop {
        match rustix::net::accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(socket) => {
                // Edge-triggered for both ways at once: a blocked socket costs no call to wait for.
                let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
                epoll::add(set, &socket, EventData::new_u64(u64::from(crowd.next())), flags)?;
                crowd.add(socket);
            }
            Err(Errno::AGAIN) => return Ok(()),
            Err(Errno::INTR | Errno::CONNABORTED) => {}
            Err(error) => return Err(error).context("cannot accept"),
        }
    }
}

/// Reads what is there and does it. Less than there was room for is all there was, so that one read is enough, but at a connection's end.
fn read(crowd: &mut Crowd, index: u32, is_ending: bool, buffer: &mut [u8], coalesce: bool) {
    loop {
        let Some(connection) = crowd.connection(index) else { return };
        let kept = connection.unfinished.len();
        buffer[..kept].copy_from_slice(&connection.unfinished);
        connection.unfinished.clear();
        let read = match rustix::net::recv(&connection.socket, &mut buffer[kept..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => return crowd.end(index),
            Ok((read, _)) => read,
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => 0,
            Err(_) => return crowd.end(index),
        };
        let mut input = &buffer[..kept + read];
        if !connection.is_open && read > 0 {
            if input[0] != b'G' {
                return crowd.end(index);
            }
            connection.is_open = true;
            connection.send(HANDSHAKE);
            input = &[];
        }
        if let Err(error) = obey(crowd, index, &mut input, coalesce) {
            eprintln!("a connection is ended: {error}");
            return crowd.end(index);
        }
        if !input.is_empty()
            && let Some(connection) = crowd.connection(index)
        {
            connection.unfinished.extend_from_slice(input);
        }
        if read == 0 || (kept + read < buffer.len() && !is_ending) {
            return;
        }
    }
}

fn obey(crowd: &mut Crowd, index: u32, input: &mut &[u8], coalesce: bool) -> anyhow::Result<()> {
    loop {
        let before = *input;
        let record = records::take(input)?;
        // Sends go out together, but pass nothing that the connection said after them.
        match record {
            Some(Record::Send(room, bytes)) if coalesce => {
                crowd.publish_later(room, bytes);
                continue;
            }
            _ => crowd.publish_due(),
        }
        match record {
            Some(Record::Send(room, bytes)) => crowd.publish(room, bytes),
            Some(Record::Join(room)) => crowd.join(index, room),
            Some(Record::Leave(room)) => crowd.leave(index, room),
            Some(Record::Echo(bytes)) => answer(crowd, index, bytes),
            None => return Ok(()),
        }
        if matches!(record, Some(Record::Join(_) | Record::Leave(_))) {
            answer(crowd, index, &before[..before.len() - input.len()]);
        }
    }
}

fn answer(crowd: &mut Crowd, index: u32, bytes: &[u8]) {
    if let Some(connection) = crowd.connection(index) {
        connection.send(bytes);
    }
}
