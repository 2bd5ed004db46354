//! One TCP connection of a client's: never blocks, keeps what the socket does not take. Knows nothing of what it carries.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, sockopt};

/// What a client may leave unsent, at a server that does not read.
const UNSENT_BYTES: usize = 16 << 20;

/// A connection.
pub struct Link {
    socket: OwnedFd,
    unsent: Vec<u8>,
}

impl Link {
    /// Begins to connect, from a loopback address if one is given; it is done when the socket is writable.
    pub fn begin(server: SocketAddr, from: Option<Ipv4Addr>) -> io::Result<Self> {
        let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        if let Some(from) = from {
            sockopt::set_socket_reuseaddr(&socket, true)?;
            rustix::net::bind(&socket, &SocketAddr::new(IpAddr::V4(from), 0))?;
        }
        match rustix::net::connect(&socket, &server) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(Self { socket, unsent: Vec::new() }),
            Err(error) => Err(error.into()),
        }
    }

    /// Why it could not connect, if it could not.
    pub fn refusal(&self) -> io::Result<()> {
        Ok(sockopt::socket_error(&self.socket)??)
    }

    /// Reads once; 0 is the end.
    #[inline]
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (read, _) = rustix::net::recv(&self.socket, buffer, RecvFlags::empty())?;
        Ok(read)
    }

    /// Sends all of it, now or when the socket takes it.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.unsent.is_empty() {
            return self.keep(bytes);
        }
        let sent = send(&self.socket, bytes)?;
        self.keep(&bytes[sent..])
    }

    fn keep(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.unsent.len() + bytes.len() > UNSENT_BYTES {
            return Err(io::Error::other("the server does not read what it is sent"));
        }
        self.unsent.extend_from_slice(bytes);
        Ok(())
    }

    /// The socket is writable again.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        let sent = send(&self.socket, &self.unsent)?;
        self.unsent.drain(..sent);
        if self.unsent.is_empty() {
            self.unsent = Vec::new();
        }
        Ok(())
    }

    /// Ends it with a reset, so that a storm leaves no port in TIME_WAIT.
    pub fn reset(self) -> io::Result<()> {
        Ok(sockopt::set_socket_linger(&self.socket, Some(std::time::Duration::ZERO))?)
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// How many bytes the socket takes now.
fn send(socket: &OwnedFd, mut bytes: &[u8]) -> io::Result<usize> {
    let whole = bytes.len();
    while !bytes.is_empty() {
        match rustix::net::send(socket, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(rustix::io::Errno::AGAIN) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(whole - bytes.len())
}
