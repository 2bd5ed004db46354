//! What clients send, frame by frame, into whole messages. Knows nothing of sockets or of what a message means.
//!
//! A frame that is whole in the input is delivered out of it; only what is cut, by the network or into fragments, is copied. Text is
//! checked as it comes, so that a message that is no UTF-8 is refused at its first bad byte.

use super::deflate::Inflater;
use super::encode::Opcode;
use super::frame::{Header, MAX_HEADER, unmask};

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
    /// What was wrong. Good for a log and for plain clients; Node's close frames have no reason, and its client's tests look for that.
    pub reason: &'static str,
}

impl Violation {
    /// An error in the use of the protocol.
    pub(super) fn protocol(reason: &'static str) -> Self {
        Self { code: 1002, reason }
    }

    fn not_utf8() -> Self {
        Self { code: 1007, reason: "text is not UTF-8" }
    }

    pub(super) fn too_big() -> Self {
        Self { code: 1009, reason: "message too big" }
    }

    pub(super) fn not_deflate() -> Self {
        Self { code: 1007, reason: "compressed data is damaged" }
    }
}

/// The parser of one connection.
///
/// Between messages it holds no memory beside itself. A message that came in pieces is kept until it is whole: at most
/// `max_message` bytes of it, in a buffer that grows with what has come (so at most twice that), never with what a header announces.
/// A compressed one is kept as it came, and inflated when it is whole.
#[derive(Debug, Default)]
pub struct Parser {
    state: State,
    inflates: bool,
}

/// What a parser borrows from its owner while it is fed.
#[derive(Debug)]
pub struct Feed<'a> {
    /// The largest message, in bytes, inflated.
    pub max_message: usize,
    /// Inflates compressed messages; idle where none was agreed upon.
    pub inflater: &'a mut Inflater,
}

#[derive(Debug, Default)]
enum State {
    /// Between two messages.
    #[default]
    Idle,
    /// Within a frame or a fragmented message.
    Partial(Box<Partial>),
    /// A close frame came; nothing after it counts.
    Closed,
}

/// What is kept of a frame or message that is not whole yet.
#[derive(Debug, Default)]
struct Partial {
    frame: PartialFrame,
    /// The data so far of a message in pieces, or of a single frame in pieces.
    message: Option<Message>,
}

#[derive(Debug, Default)]
enum PartialFrame {
    #[default]
    None,
    /// The first bytes of a header.
    Header { bytes: [u8; MAX_HEADER], len: usize },
    /// A data frame, of whose payload `received` bytes have gone into the message.
    Data { header: Header, received: u64 },
    /// A control frame's payload so far, at most 125 bytes.
    Control { header: Header, payload: Vec<u8> },
}

#[derive(Debug)]
struct Message {
    text: bool,
    compressed: bool,
    data: Vec<u8>,
    /// How many bytes of an uncompressed text are known to be UTF-8; behind them is at most the beginning of one character.
    checked: usize,
}

/// What one step of the parser took from the input, and what the receiver of a message said.
struct Step {
    taken: usize,
    flow: Flow,
}

impl Parser {
    /// The parser of a connection for which permessage-deflate was agreed.
    pub fn inflating() -> Self {
        Self { state: State::Idle, inflates: true }
    }

    /// Whether it is within a frame or a fragmented message, of which more must come.
    pub fn is_within_message(&self) -> bool {
        match self.state {
            State::Partial(_) => true,
            State::Idle | State::Closed => false,
        }
    }

    /// Takes bytes from the socket, unmasks them in place, and delivers every message that they complete.
    ///
    /// Returns how many bytes of `input` were taken: all of them, unless `out` said [`Flow::Stop`]; then the rest is as it
    /// came and may be fed again, here or to another owner's parser. After a close frame everything is taken and ignored.
    /// A message larger than `feed.max_message` bytes is a violation as soon as a header announces it, or it comes out of the inflater.
    /// After a violation the parser must not be fed again.
    pub fn feed(
        &mut self,
        input: &mut [u8],
        feed: &mut Feed<'_>,
        out: &mut dyn FnMut(Incoming<'_>) -> Flow,
    ) -> Result<usize, Violation> {
        let mut taken = 0;
        while taken < input.len() {
            let step = self.step(&mut input[taken..], feed, out)?;
            taken += step.taken;
            if step.flow == Flow::Stop {
                break;
            }
        }
        Ok(taken)
    }

    /// Takes one frame, or what there is of it. Takes at least one byte.
    fn step(
        &mut self,
        input: &mut [u8],
        feed: &mut Feed<'_>,
        out: &mut dyn FnMut(Incoming<'_>) -> Flow,
    ) -> Result<Step, Violation> {
        let mut partial = match std::mem::take(&mut self.state) {
            State::Idle => None,
            State::Partial(partial) => Some(partial),
            State::Closed => {
                self.state = State::Closed;
                return Ok(Step { taken: input.len(), flow: Flow::Continue });
            }
        };
        let frame = partial.as_mut().map(|partial| std::mem::take(&mut partial.frame)).unwrap_or_default();
        let step = match frame {
            PartialFrame::None => self.begin_frame(input, 0, &[], &mut partial, feed, out)?,
            PartialFrame::Header { mut bytes, len } => {
                let fresh = input.len().min(MAX_HEADER - len);
                bytes[len..len + fresh].copy_from_slice(&input[..fresh]);
                self.begin_frame(input, len, &bytes[..len + fresh], &mut partial, feed, out)?
            }
            PartialFrame::Data { header, received } => {
                self.continue_data(header, received, input, &mut partial, feed, out)?
            }
            PartialFrame::Control { header, payload } => {
                self.continue_control(header, payload, input, &mut partial, out)?
            }
        };
        if let (State::Idle, Some(partial)) = (&self.state, partial)
            && !(partial.message.is_none() && matches!(partial.frame, PartialFrame::None))
        {
            self.state = State::Partial(partial);
        }
        Ok(step)
    }

    /// A frame begins: its header stands in `input`, or in `head`, of which the first `saved` bytes came before this input.
    fn begin_frame(
        &mut self,
        input: &mut [u8],
        saved: usize,
        head: &[u8],
        partial: &mut Option<Box<Partial>>,
        feed: &mut Feed<'_>,
        out: &mut dyn FnMut(Incoming<'_>) -> Flow,
    ) -> Result<Step, Violation> {
        let head = if saved == 0 { &input[..input.len().min(MAX_HEADER)] } else { head };
        let Some((header, header_len)) = Header::read(head, self.inflates)? else {
            // A header that is not whole is shorter than the longest one, so it has used up the input.
            let mut bytes = [0; MAX_HEADER];
            bytes[..head.len()].copy_from_slice(head);
            let len = head.len();
            partial.get_or_insert_default().frame = PartialFrame::Header { bytes, len };
            return Ok(Step { taken: len - saved, flow: Flow::Continue });
        };
        let message = partial.as_ref().and_then(|partial| partial.message.as_ref());
        check_sequence(&header, message, feed.max_message)?;
        let header_len = header_len - saved;
        let rest = &mut input[header_len..];
        if (rest.len() as u64) < header.payload_len {
            let partial = partial.get_or_insert_default();
            let taken = rest.len();
            unmask(rest, header.mask, 0);
            if header.opcode.is_control() {
                partial.frame = PartialFrame::Control { header, payload: rest.to_vec() };
            } else {
                message_of(partial, &header).append(rest)?;
                partial.frame = PartialFrame::Data { header, received: taken as u64 };
            }
            return Ok(Step { taken: header_len + taken, flow: Flow::Continue });
        }
        let payload = &mut rest[..header.payload_len as usize];
        unmask(payload, header.mask, 0);
        let taken = header_len + payload.len();
        let flow = match header.opcode {
            Opcode::Close | Opcode::Ping | Opcode::Pong => self.deliver_control(header.opcode, payload, out)?,
            Opcode::Text | Opcode::Binary if header.last && header.compressed => {
                deliver_inflated(header.opcode == Opcode::Text, payload, feed, out)?
            }
            Opcode::Text if header.last => {
                out(Incoming::Text(simdutf8::basic::from_utf8(payload).map_err(|_| Violation::not_utf8())?))
            }
            Opcode::Binary if header.last => out(Incoming::Binary(payload)),
            Opcode::Text | Opcode::Binary | Opcode::Continuation => {
                let partial = partial.get_or_insert_default();
                message_of(partial, &header).append(payload)?;
                if header.last { deliver_message(partial, feed, out)? } else { Flow::Continue }
            }
        };
        Ok(Step { taken, flow })
    }

    /// More of a data frame's payload.
    fn continue_data(
        &mut self,
        header: Header,
        received: u64,
        input: &mut [u8],
        partial: &mut Option<Box<Partial>>,
        feed: &mut Feed<'_>,
        out: &mut dyn FnMut(Incoming<'_>) -> Flow,
    ) -> Result<Step, Violation> {
        let partial = partial.get_or_insert_default();
        let piece = piece_of(input, header.payload_len - received);
        let taken = piece.len();
        unmask(piece, header.mask, received);
        message_of(partial, &header).append(piece)?;
        let received = received + taken as u64;
        let flow = if received < header.payload_len {
            partial.frame = PartialFrame::Data { header, received };
            Flow::Continue
        } else if header.last {
            deliver_message(partial, feed, out)?
        } else {
            Flow::Continue
        };
        Ok(Step { taken, flow })
    }

    /// More of a control frame's payload.
    fn continue_control(
        &mut self,
        header: Header,
        mut payload: Vec<u8>,
        input: &mut [u8],
        partial: &mut Option<Box<Partial>>,
        out: &mut dyn FnMut(Incoming<'_>) -> Flow,
    ) -> Result<Step, Violation> {
        let piece = piece_of(input, header.payload_len - payload.len() as u64);
        let taken = piece.len();
        unmask(piece, header.mask, payload.len() as u64);
        payload.extend_from_slice(piece);
        let flow = if (payload.len() as u64) < header.payload_len {
            partial.get_or_insert_default().frame = PartialFrame::Control { header, payload };
            Flow::Continue
        } else {
            self.deliver_control(header.opcode, &payload, out)?
        };
        Ok(Step { taken, flow })
    }

    fn deliver_control(
        &mut self,
        opcode: Opcode,
        payload: &[u8],
        out: &mut dyn FnMut(Incoming<'_>) -> Flow,
    ) -> Result<Flow, Violation> {
        match opcode {
            Opcode::Ping => Ok(out(Incoming::Ping(payload))),
            Opcode::Pong => Ok(out(Incoming::Pong(payload))),
            Opcode::Close => {
                let (code, reason) = close_payload(payload)?;
                self.state = State::Closed;
                Ok(out(Incoming::Close { code, reason }))
            }
            Opcode::Continuation | Opcode::Text | Opcode::Binary => {
                unreachable!("callers pass control frames alone")
            }
        }
    }
}

impl Message {
    fn append(&mut self, piece: &[u8]) -> Result<(), Violation> {
        self.data.extend_from_slice(piece);
        if !self.text || self.compressed {
            return Ok(());
        }
        match simdutf8::compat::from_utf8(&self.data[self.checked..]) {
            Ok(_) => self.checked = self.data.len(),
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(Violation::not_utf8()),
        }
        Ok(())
    }
}

/// Whether a frame may come now: fragments in order, and the message within its bound.
fn check_sequence(header: &Header, message: Option<&Message>, max_message: usize) -> Result<(), Violation> {
    let so_far = match (header.opcode, message) {
        (Opcode::Close | Opcode::Ping | Opcode::Pong, Some(_) | None) => return Ok(()),
        (Opcode::Continuation, Some(message)) => message.data.len() as u64,
        (Opcode::Continuation, None) => return Err(Violation::protocol("continuation of nothing")),
        (Opcode::Text | Opcode::Binary, None) => 0,
        (Opcode::Text | Opcode::Binary, Some(_)) => {
            return Err(Violation::protocol("new message within a fragmented one"));
        }
    };
    // What cannot be compressed gets a little longer by the attempt; more than a quarter it never does.
    let compressed = header.compressed || message.is_some_and(|message| message.compressed);
    let allowance = if compressed { max_message / 4 + 64 } else { 0 };
    // The length's first bit is clear and a message is no longer than memory, so the sums fit.
    if so_far + header.payload_len > max_message as u64 + allowance as u64 {
        return Err(Violation::too_big());
    }
    Ok(())
}

/// The message that a data frame belongs to; the first frame's opcode says what it is.
fn message_of<'a>(partial: &'a mut Partial, header: &Header) -> &'a mut Message {
    partial.message.get_or_insert_with(|| Message {
        text: header.opcode == Opcode::Text,
        compressed: header.compressed,
        data: Vec::new(),
        checked: 0,
    })
}

fn deliver_message(
    partial: &mut Partial,
    feed: &mut Feed<'_>,
    out: &mut dyn FnMut(Incoming<'_>) -> Flow,
) -> Result<Flow, Violation> {
    let message = partial.message.take().expect("the frame that ends a message has just been added to it");
    if message.compressed {
        return deliver_inflated(message.text, &message.data, feed, out);
    }
    if !message.text {
        return Ok(out(Incoming::Binary(&message.data)));
    }
    // The second look at checked text costs little beside its copying, and catches a character that was cut at the end.
    Ok(out(Incoming::Text(simdutf8::basic::from_utf8(&message.data).map_err(|_| Violation::not_utf8())?)))
}

fn deliver_inflated(
    text: bool,
    compressed: &[u8],
    feed: &mut Feed<'_>,
    out: &mut dyn FnMut(Incoming<'_>) -> Flow,
) -> Result<Flow, Violation> {
    let data = feed.inflater.inflate(compressed, feed.max_message)?;
    if !text {
        return Ok(out(Incoming::Binary(data)));
    }
    Ok(out(Incoming::Text(simdutf8::basic::from_utf8(data).map_err(|_| Violation::not_utf8())?)))
}

fn piece_of(input: &mut [u8], wanted: u64) -> &mut [u8] {
    let len = usize::try_from(wanted).map_or(input.len(), |wanted| wanted.min(input.len()));
    &mut input[..len]
}

/// The code and reason of a close frame (RFC 6455, sections 5.5.1 and 7.4).
fn close_payload(payload: &[u8]) -> Result<(Option<u16>, &str), Violation> {
    let (code, reason) = match payload.split_first_chunk::<2>() {
        Some((code, reason)) => (u16::from_be_bytes(*code), reason),
        None if payload.is_empty() => return Ok((None, "")),
        None => return Err(Violation::protocol("close frame of one byte")),
    };
    match code {
        1000..=1003 | 1007..=1014 | 3000..=4999 => {}
        _ => return Err(Violation::protocol("close code not allowed")),
    }
    let reason = simdutf8::basic::from_utf8(reason).map_err(|_| Violation::not_utf8())?;
    Ok((Some(code), reason))
}

#[cfg(test)]
mod tests;
