//! What a connection's bytes travel on: the socket itself, or TLS over it. First as a stream for HTTP, then, taken back from it, driven by the
//! shard: plaintext in and out, what the socket does not take waits within bounds. Knows neither requests nor frames.

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use rustls::ServerConnection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// Bytes of ciphertext that wait in a connection while its socket is full; plaintext beyond stays in its queue.
const CIPHERTEXT_MAX_BYTES: usize = 64 * 1024;

/// A connection while it speaks HTTP.
pub enum Transport {
    /// TCP.
    Plain(TcpStream),
    /// TLS over it.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    /// The same connection on the runtime that this is called on, wherever it was driven before.
    ///
    /// # Errors
    /// The runtime does not take the socket, or there is no descriptor left.
    pub fn moved_here(self) -> io::Result<Self> {
        match self {
            Self::Plain(stream) => Ok(Self::Plain(TcpStream::from_std(stream.into_std()?)?)),
            Self::Tls(mut stream) => {
                // A session cannot be put into another stream, but its socket can be changed under it: for itself, by another descriptor.
                let (socket, _) = stream.get_mut();
                let same = socket.as_fd().try_clone_to_owned()?;
                *socket = TcpStream::from_std(same.into())?;
                Ok(Self::Tls(stream))
            }
        }
    }

    /// Whether the TLS handshake agreed upon HTTP/2; `None` without TLS, where the first bytes tell.
    pub fn agreed_on_http2(&self) -> Option<bool> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => Some(stream.get_ref().1.alpn_protocol() == Some(b"h2".as_slice())),
        }
    }

    /// The socket, and the TLS over it, for the shard to drive.
    ///
    /// # Errors
    /// The runtime does not let the socket go.
    pub fn into_parts(self) -> io::Result<(OwnedFd, Option<Tls>)> {
        match self {
            Self::Plain(stream) => Ok((stream.into_std()?.into(), None)),
            Self::Tls(stream) => {
                let (stream, mut session) = stream.into_inner();
                session.set_buffer_limit(Some(CIPHERTEXT_MAX_BYTES));
                Ok((stream.into_std()?.into(), Some(Tls(Box::new(session)))))
            }
        }
    }
}

/// TLS on a connection of the shard's.
#[derive(Debug)]
pub struct Tls(Box<ServerConnection>);

/// What became of bytes from the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deciphered {
    /// More may come.
    Open,
    /// The client has ended its side.
    Ended,
}

impl Tls {
    /// Takes bytes from the socket, and appends what they say.
    ///
    /// # Errors
    /// They are not TLS; an alert waits to be written.
    pub fn decipher(&mut self, mut bytes: &[u8], plain: &mut Vec<u8>) -> io::Result<Deciphered> {
        loop {
            if !bytes.is_empty() {
                self.0.read_tls(&mut bytes)?;
            }
            let state =
                self.0.process_new_packets().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            let waiting = state.plaintext_bytes_to_read();
            if waiting > 0 {
                let start = plain.len();
                plain.resize(start + waiting, 0);
                self.0.reader().read_exact(&mut plain[start..])?;
            }
            if state.peer_has_closed() {
                return Ok(Deciphered::Ended);
            }
            if bytes.is_empty() {
                return Ok(Deciphered::Open);
            }
        }
    }

    /// Whether the client has said that nothing more will come from it.
    pub fn has_ended(&mut self) -> bool {
        self.0.process_new_packets().is_ok_and(|state| state.peer_has_closed())
    }

    /// Whether ciphertext waits for the socket.
    pub fn has_waiting(&self) -> bool {
        self.0.wants_write()
    }

    /// Enciphers what fits and writes what the socket takes: how many bytes of the parts are done with, 0 while the socket is full.
    /// `write` gives 0 for a full socket.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn write(
        &mut self,
        parts: &[IoSlice<'_>],
        mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if !self.write_waiting(&mut write)? {
            return Ok(0);
        }
        let taken = self.0.writer().write_vectored(parts)?;
        self.write_waiting(&mut write)?;
        Ok(taken)
    }

    /// Says that nothing more will come, as far as the socket takes it.
    pub fn end(&mut self, mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>) {
        self.0.send_close_notify();
        // A client that is gone needs no goodbye.
        let _ = self.write_waiting(&mut write);
    }

    /// Returns whether all of it went out.
    fn write_waiting(&mut self, write: &mut impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>) -> io::Result<bool> {
        while self.0.wants_write() {
            match self.0.write_tls(&mut Socket(&mut *write)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// The socket as rustls writes to one.
struct Socket<W>(W);

impl<W: FnMut(&[IoSlice<'_>]) -> io::Result<usize>> Write for Socket<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match (self.0)(parts)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            written => Ok(written),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, parts),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, parts),
        }
    }
}
