//! The floor: accepts, answers one request with one, and sends one frame to every socket for each trigger byte, with nothing but system calls.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;

use rustix::event::epoll;
use rustix::net::SendFlags;

/// Serves until its parent ends it.
pub fn serve() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    rustix::net::listen(&listener, 4096)?;
    listener.set_nonblocking(true)?;
    println!("{}", listener.local_addr()?.port());
    let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&set, listener.as_fd(), epoll::EventData::new_u64(u64::MAX), epoll::EventFlags::IN)?;
    let mut sockets: Vec<Option<TcpStream>> = Vec::new();
    let mut events: Vec<epoll::Event> = Vec::with_capacity(256);
    let mut frame = vec![b'x'; 102];
    let mut buffer = [0; 4096];
    loop {
        events.clear();
        epoll::wait(&set, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in &events {
            let index = event.data.u64();
            if index == u64::MAX {
                while let Ok((socket, _)) = listener.accept() {
                    socket.set_nonblocking(true)?;
                    socket.set_nodelay(true)?;
                    let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
                    epoll::add(&set, &socket, epoll::EventData::new_u64(sockets.len() as u64), flags)?;
                    sockets.push(Some(socket));
                }
                continue;
            }
            let Some(socket) = &mut sockets[index as usize] else { continue };
            match socket.read(&mut buffer) {
                Ok(0) | Err(_) => sockets[index as usize] = None,
                // A command: `F` and a length sets the frame's, each `T` is a trigger.
                Ok(read) if buffer[0] == b'F' => {
                    let text = std::str::from_utf8(&buffer[1..read])?;
                    frame = vec![b'x'; text.trim().parse()?];
                }
                Ok(read) if buffer[0] == b'T' => {
                    // What is due at once goes out at once: the floor coalesces, too.
                    let due = frame.repeat(read);
                    for socket in sockets.iter().flatten() {
                        rustix::net::send(socket, &due, SendFlags::NOSIGNAL)?;
                    }
                }
                Ok(_) => socket.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")?,
            }
        }
    }
}
