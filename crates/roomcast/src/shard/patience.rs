//! A TCP connection that loses its patience: the next request, its head and the reading of an answer have their time, however few bytes
//! a client sends or takes to look alive. Knows nothing of requests but when one begins and ends; bodies are timed by who reads them.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hub::profile::Timeouts;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use smallvec::SmallVec;
use tokio::time::{Instant, Sleep};

use super::transport::Transport;

/// The largest answer that goes out of one buffer: to copy so little costs less than to have the kernel gather it.
const GATHER_MAX_BYTES: usize = 4 * 1024;

/// The connection, for hyper.
pub struct Patient {
    stream: TokioIo<Transport>,
    /// What was read of it before.
    read_before: Bytes,
    stage: Stage,
    /// For the next request, and for its head.
    read: Timer,
    /// The stage that it runs for.
    timed: u8,
    /// How long the present head may take.
    head: Duration,
    /// The same of heads after the first.
    later_head: Duration,
    /// How long the next request may be waited for.
    keep_alive: Duration,
    write: Timer,
    /// How long the client may take nothing.
    write_within: Duration,
}

/// What is expected of the client at present; shared with the service that answers it.
#[derive(Clone)]
pub struct Stage(Arc<AtomicU8>);

/// The rest of a head: its time runs.
const HEAD: u8 = 0;
/// An answer is on its way; what the client sends meanwhile is timed elsewhere.
const ANSWER: u8 = 1;
/// The first byte of the next request.
const IDLE: u8 = 2;

impl Stage {
    /// The head of a request is whole.
    pub fn head_is_whole(&self) {
        self.0.store(ANSWER, Ordering::Relaxed);
    }

    /// The answer is there: what comes now is the next request.
    pub fn answered(&self) {
        self.0.store(IDLE, Ordering::Relaxed);
    }
}

impl Patient {
    /// A connection of which this was read before, whose first head must be whole within `first_head` from now on; and its stage.
    pub fn new(stream: Transport, read_before: Bytes, first_head: Duration, timeouts: &Timeouts) -> (Self, Stage) {
        let stage = Stage(Arc::new(AtomicU8::new(HEAD)));
        let patient = Self {
            stream: TokioIo::new(stream),
            read_before,
            stage: stage.clone(),
            read: Timer::default(),
            timed: HEAD,
            head: first_head,
            later_head: timeouts.head,
            keep_alive: timeouts.keep_alive,
            write: Timer::default(),
            write_within: timeouts.write,
        };
        (patient, stage)
    }

    /// The connection itself, and what was read of it before and by nobody since.
    pub fn into_inner(self) -> (Transport, Bytes) {
        (self.stream.into_inner(), self.read_before)
    }

    /// Writes, and waits for the client to take something for so long.
    fn write<T>(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut TokioIo<Transport>>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match write(Pin::new(&mut self.stream), context) {
            Poll::Ready(written) => {
                self.write.stop();
                Poll::Ready(written)
            }
            Poll::Pending => self.write.run(self.write_within, context).map(Err),
        }
    }
}

impl Read for Patient {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let patient = self.get_mut();
        if !patient.read_before.is_empty() {
            let taken = patient.read_before.len().min(buffer.remaining());
            buffer.put_slice(&patient.read_before.split_to(taken));
            return Poll::Ready(Ok(()));
        }
        match Pin::new(&mut patient.stream).poll_read(context, buffer) {
            Poll::Ready(read) => {
                if patient.stage.0.compare_exchange(IDLE, HEAD, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                    patient.head = patient.later_head;
                    patient.read.stop();
                }
                Poll::Ready(read)
            }
            Poll::Pending => {
                let stage = patient.stage.0.load(Ordering::Relaxed);
                if stage != patient.timed {
                    patient.timed = stage;
                    patient.read.stop();
                }
                let within = match stage {
                    HEAD => patient.head,
                    IDLE => patient.keep_alive,
                    _ => return Poll::Pending,
                };
                patient.read.run(within, context).map(Err)
            }
        }
    }
}

impl Write for Patient {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().write(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // TLS takes more than its socket does, and has the rest to flush.
        self.get_mut().write(context, |stream, context| stream.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().write(context, |stream, context| stream.poll_shutdown(context))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        if total > GATHER_MAX_BYTES {
            return self.get_mut().write(context, |stream, context| stream.poll_write_vectored(context, parts));
        }
        let mut gathered = SmallVec::<[u8; GATHER_MAX_BYTES]>::new();
        parts.iter().for_each(|part| gathered.extend_from_slice(part));
        self.get_mut().write(context, |stream, context| stream.poll_write(context, &gathered))
    }
}

/// A time that runs from when it is first waited for until it is stopped.
///
/// What sleeps in the runtime stays when it stops, and is moved only once it wakes too early: most times are stopped within microseconds, for
/// each request anew, and cost the runtime's timers nothing.
#[derive(Default)]
pub(crate) struct Timer {
    until: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    /// It begins anew when it is next waited for.
    pub(crate) fn stop(&mut self) {
        self.until = None;
    }

    /// Ready once it has run for so long.
    pub(crate) fn run(&mut self, within: Duration, context: &mut Context<'_>) -> Poll<io::Error> {
        let until = *self.until.get_or_insert_with(|| Instant::now() + within);
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if sleep.deadline() > until {
            sleep.as_mut().reset(until);
        }
        loop {
            ready!(sleep.as_mut().poll(context));
            if sleep.deadline() >= until {
                return Poll::Ready(io::ErrorKind::TimedOut.into());
            }
            sleep.as_mut().reset(until);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// Longer than the test is waited for.
    const LONG: Duration = Duration::from_secs(3_600);

    #[tokio::test]
    async fn a_first_head_has_only_the_time_that_is_left_to_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (_client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (stream, _) = accepted.expect("a connection");
        let timeouts = Timeouts { head: LONG, body: LONG, keep_alive: LONG, message: LONG, write: LONG, close: LONG };
        let (mut patient, _stage) = Patient::new(Transport::Plain(stream), Bytes::new(), Duration::ZERO, &timeouts);
        let mut byte = [0];
        let read = std::future::poll_fn(|context| {
            let mut buffer = hyper::rt::ReadBuf::new(&mut byte);
            Pin::new(&mut patient).poll_read(context, buffer.unfilled())
        });
        let read = tokio::time::timeout(Duration::from_secs(20), read).await.expect("in time");
        assert_eq!(read.map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut));
    }
}
