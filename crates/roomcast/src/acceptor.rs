//! Takes TCP connections and hands them to the shards in turn. Knows nothing of what they speak.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;

use crate::shard::inbox::{Inbox, Message};

/// Connections that the kernel keeps for us until they are accepted: a whole fleet may come back at once.
const BACKLOG: i32 = 4096;

/// How long to wait when the process has no descriptor left: connections wait in the backlog meanwhile.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// A bound listener and the thread that accepts from it.
pub struct Acceptor {
    listener: Arc<TcpListener>,
    thread: JoinHandle<()>,
    /// Where it listens; the port is the real one where port 0 was asked for.
    pub address: SocketAddr,
}

impl Acceptor {
    /// Binds and starts to accept.
    ///
    /// # Errors
    /// The address is not ours or in use.
    pub fn start(address: &str, inboxes: Arc<[Inbox]>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
        rustix::net::listen(&listener, BACKLOG).context("cannot widen the backlog")?;
        let address = listener.local_addr()?;
        let listener = Arc::new(listener);
        let accepting = listener.clone();
        let thread =
            std::thread::Builder::new().name("acceptor".to_owned()).spawn(move || accept(&accepting, &inboxes))?;
        Ok(Self { listener, thread, address })
    }

    /// Closes the listener: connecting is refused from now on.
    pub fn stop(self) {
        // `shutdown` wakes the thread out of `accept`, which then fails with EINVAL.
        let _ = rustix::net::shutdown(&*self.listener, rustix::net::Shutdown::Both);
        if self.thread.join().is_err() {
            tracing::error!("the acceptor panicked");
        }
    }
}

fn accept(listener: &TcpListener, inboxes: &[Inbox]) {
    for shard in (0..inboxes.len()).cycle() {
        match listener.accept() {
            Ok((stream, peer)) => inboxes[shard].send(Message::Accepted(stream, peer)),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
            Err(error) => match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
                // The client went away between the kernel's handshake and us.
                Some(rustix::io::Errno::CONNABORTED | rustix::io::Errno::INTR) => {}
                _ => {
                    tracing::error!(%error, "cannot accept connections; trying again");
                    std::thread::sleep(EXHAUSTED_PAUSE);
                }
            },
        }
    }
}
