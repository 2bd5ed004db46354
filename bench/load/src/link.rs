//! One TCP connection of a client's, with TLS or without: never blocks, keeps what the socket does not take. Knows nothing of what it carries.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, sockopt};
use rustls::ClientConnection;

use crate::tls::Trust;

/// What a client may leave unsent, at a server that does not read.
const UNSENT_BYTES: usize = 16 << 20;

/// A connection.
pub struct Link {
    socket: Socket,
    unsent: Vec<u8>,
    tls: Option<Box<ClientConnection>>,
}

impl Link {
    /// Begins to connect, from a loopback address if one is given; it is done when the socket is writable.
    pub fn begin(server: SocketAddr, from: Option<Ipv4Addr>, trust: Option<&Trust>) -> io::Result<Self> {
        let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        if let Some(from) = from {
            rustix::net::bind(&socket, &SocketAddr::new(IpAddr::V4(from), 0))?;
        }
        match rustix::net::connect(&socket, &server) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let tls = trust.map(Trust::begin).transpose()?;
        Ok(Self { socket: Socket(socket), unsent: Vec::new(), tls })
    }

    /// Why it could not connect, if it could not.
    pub fn refusal(&self) -> io::Result<()> {
        Ok(sockopt::socket_error(&self.socket.0)??)
    }

    /// Reads once; 0 is the end.
    #[inline]
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.socket.read(buffer),
            Some(tls) => read_tls(&mut self.socket, tls, buffer),
        }
    }

    /// Whether a read that gave less than it was asked for says that there is no more.
    pub fn is_empty_after_less(&self) -> bool {
        self.tls.is_none()
    }

    /// Sends all of it, now or when the socket takes it.
    pub fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            tls.writer().write_all(bytes)?;
            return self.flush();
        }
        if self.unsent.is_empty() {
            bytes = &bytes[send(&mut self.socket, bytes)?..];
        }
        if self.unsent.len() + bytes.len() > UNSENT_BYTES {
            return Err(io::Error::other("the server does not read what it is sent"));
        }
        self.unsent.extend_from_slice(bytes);
        Ok(())
    }

    /// The socket is writable again.
    pub fn flush(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            return write_tls(&mut self.socket, tls);
        }
        if !self.unsent.is_empty() {
            let sent = send(&mut self.socket, &self.unsent)?;
            self.unsent.drain(..sent);
            if self.unsent.is_empty() {
                self.unsent = Vec::new();
            }
        }
        Ok(())
    }

    /// Ends it with a reset, so that a storm leaves no port in TIME_WAIT.
    pub fn reset(self) -> io::Result<()> {
        Ok(sockopt::set_socket_linger(&self.socket.0, Some(Duration::ZERO))?)
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.0.as_fd()
    }
}

/// A socket, as TLS wants it.
struct Socket(OwnedFd);

impl Read for Socket {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (read, _) = rustix::net::recv(&self.0, buffer, RecvFlags::empty())?;
        Ok(read)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(&self.0, bytes, SendFlags::NOSIGNAL)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How many bytes the socket takes now.
fn send(socket: &mut Socket, mut bytes: &[u8]) -> io::Result<usize> {
    let whole = bytes.len();
    while !bytes.is_empty() {
        match socket.write(bytes) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(whole - bytes.len())
}

fn read_tls(socket: &mut Socket, tls: &mut ClientConnection, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match tls.reader().read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
        if tls.read_tls(socket)? == 0 {
            return Ok(0);
        }
        let taken = tls.process_new_packets();
        // The handshake goes on, or an alert says what was wrong.
        write_tls(socket, tls)?;
        taken.map_err(io::Error::other)?;
    }
}

fn write_tls(socket: &mut Socket, tls: &mut ClientConnection) -> io::Result<()> {
    while tls.wants_write() {
        match tls.write_tls(socket) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
