//! What clients send, frame by frame, into whole messages. Knows nothing of sockets or of what a message means.

/// A whole message or control frame of the client's. Borrowed from the input where the frame was whole in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// A ping, to be answered by a pong with the same payload.
    Ping(&'a [u8]),
    /// A pong.
    Pong(&'a [u8]),
    /// The closing handshake: the last thing that a parser delivers. Answer it with a close frame of the same code.
    Close {
        /// The client's code; none if its frame was empty.
        code: Option<u16>,
        /// The client's reason.
        reason: &'a str,
    },
}

/// What the receiver of a message says to the parser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on with the input.
    Continue,
    /// Leave the rest of the input alone: `feed` returns, and tells how much of it was taken.
    Stop,
}

/// What a client did that RFC 6455 forbids or our bounds refuse: close the connection with this code and reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// 1002 protocol error, 1007 not UTF-8, 1009 too big.
    pub code: u16,
    /// What was wrong.
    pub reason: &'static str,
}

/// The parser of one connection. Between messages it holds no memory beside itself.
#[derive(Debug, Default)]
pub struct Parser {}

impl Parser {
    /// Takes bytes from the socket, unmasks them in place, and delivers every message that they complete.
    ///
    /// Returns how many bytes of `input` were taken: all of them, unless `out` said [`Flow::Stop`]; then the rest is as it
    /// came and may be fed again, here or to another owner's parser. After a close frame everything is taken and ignored.
    /// A message larger than `max_message` bytes is a violation as soon as a header announces it.
    /// After a violation the parser must not be fed again.
    pub fn feed(
        &mut self,
        input: &mut [u8],
        max_message: usize,
        out: &mut dyn FnMut(Incoming<'_>) -> Flow,
    ) -> Result<usize, Violation> {
        let _ = (input, max_message, out);
        todo!()
    }
}
