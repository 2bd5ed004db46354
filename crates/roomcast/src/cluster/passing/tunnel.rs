//! A WebSocket whose session lives on another node: bytes both ways between its client and a connection to that node, as they come. Knows no frames.

use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use hub::profile::Timeouts;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::super::nodes::NodeInfo;
use super::{Counted, Place, leaving};
use crate::shard::ids::SessionId;
use crate::shard::patience::Timer;
use crate::shard::poll;
use crate::shard::transport::Transport;

/// Bytes that are read at once; what the other side does not take of them waits, and nothing more is read meanwhile.
const READ_BYTES: usize = 16 * 1024;

/// A connection to a session's node, on which nothing was asked yet.
pub struct Tunnel {
    /// The connection.
    pub stream: TcpStream,
    /// What goes through it.
    pub passage: Passage,
}

/// What goes through a tunnel.
pub struct Passage {
    passing: Counted,
    node: Arc<NodeInfo>,
    sid: SessionId,
    _place: Place,
}

impl Passage {
    pub(super) fn new(passing: Counted, node: Arc<NodeInfo>, sid: SessionId, place: Place) -> Self {
        Self { passing, node, sid, _place: place }
    }

    /// Passes bytes on, both ways, until one side ends; each side comes with what was read of it before. The session is told when this node goes.
    pub async fn pump(self, client: (Transport, Bytes), owner: (TcpStream, Bytes), timeouts: &Timeouts) {
        let Self { passing: Counted(passing), node, sid, _place } = &self;
        let tell = || async move {
            let link = passing.link(node);
            if link.sender(node, &passing.nodes, &passing.backend).await.is_some() {
                link.tell(leaving(*sid, poll::Passage::WebSocket)).await;
            }
        };
        let ended = tokio::select! {
            biased;
            ended = pump(client, owner, timeouts) => ended,
            ended = passing.keep_telling(tell) => ended,
        };
        if let Err(error) = ended {
            tracing::trace!(%error, address = ?node.address, "a WebSocket's way to its node was lost");
        }
    }
}

async fn pump(
    (client, from_client): (impl AsyncRead + AsyncWrite, Bytes),
    (owner, from_owner): (impl AsyncRead + AsyncWrite, Bytes),
    timeouts: &Timeouts,
) -> io::Result<()> {
    let (mut client, mut owner) = (pin!(client), pin!(owner));
    let mut there = Flow::new(from_client);
    let mut back = Flow::new(from_owner);
    // Whoever ends, the other has little left to say.
    let mut farewell = Timer::default();
    std::future::poll_fn(|context| {
        if !there.is_over && there.poll(client.as_mut(), owner.as_mut(), timeouts.write, context)?.is_ready() {
            there.is_over = true;
        }
        if !back.is_over && back.poll(owner.as_mut(), client.as_mut(), timeouts.write, context)?.is_ready() {
            back.is_over = true;
        }
        match (there.is_over, back.is_over) {
            (true, true) => Poll::Ready(Ok(())),
            (false, false) => Poll::Pending,
            (true, false) | (false, true) => farewell.run(timeouts.close, context).map(Err),
        }
    })
    .await
}

/// One direction.
struct Flow {
    /// What was read, and is not taken yet.
    waiting: Bytes,
    /// The one who sends has ended.
    has_ended: bool,
    /// So has this.
    is_over: bool,
    stalled: Timer,
}

impl Flow {
    fn new(waiting: Bytes) -> Self {
        Self { waiting, has_ended: false, is_over: false, stalled: Timer::default() }
    }

    /// Ready when the one side has ended, and the other has all of it. Who takes nothing for this long is given up.
    fn poll(
        &mut self,
        mut from: Pin<&mut impl AsyncRead>,
        mut to: Pin<&mut impl AsyncWrite>,
        within: Duration,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            while !self.waiting.is_empty() {
                let Poll::Ready(written) = to.as_mut().poll_write(context, &self.waiting) else {
                    return self.stalled.run(within, context).map(Err);
                };
                self.stalled.stop();
                match written? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    written => self.waiting.advance(written),
                }
            }
            if self.has_ended {
                let Poll::Ready(shut) = to.poll_shutdown(context) else {
                    return self.stalled.run(within, context).map(Err);
                };
                return Poll::Ready(shut);
            }
            // An idle connection holds no buffer.
            let mut space = [MaybeUninit::uninit(); READ_BYTES];
            let mut read = ReadBuf::uninit(&mut space);
            if from.as_mut().poll_read(context, &mut read)?.is_pending() {
                // TLS takes more than its socket does, and has the rest to flush.
                let Poll::Ready(flushed) = to.poll_flush(context) else {
                    return self.stalled.run(within, context).map(Err);
                };
                flushed?;
                self.stalled.stop();
                return Poll::Pending;
            }
            let read = read.filled();
            self.has_ended = read.is_empty();
            let written = match read.is_empty() {
                true => Poll::Pending,
                false => to.as_mut().poll_write(context, read),
            };
            let written = match written {
                Poll::Ready(written) => written?,
                Poll::Pending => 0,
            };
            self.waiting = Bytes::copy_from_slice(&read[written..]);
        }
    }
}
