//! One client's side of the conversation: from the first byte of the handshake to events. Pure: bytes in; answers, news and checked events out.

use crate::check::{Checker, Memberships};
use crate::dialect::{Dialect, Heard};
use crate::frames;
use crate::polling::SEPARATOR;

/// The most that a server may say before its handshake ends.
const HEAD_BYTES: usize = 16 << 10;

/// How far a client has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It has asked for a WebSocket, or polled.
    Upgrading,
    /// It waits until it may say who it is, and then until it is in.
    Entering,
    /// It is in.
    In,
}

/// What happened to a client, apart from events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It is in.
    Entered,
    /// It is in a room.
    Joined,
    /// It is out of a room.
    Left,
    /// It has its answer back.
    Echoed,
    /// The server refused something.
    Refused(String),
    /// It has no connection any more.
    Gone(End),
}

/// Why a conversation cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The server answered the handshake with something else.
    Refused(String),
    /// It closed the WebSocket.
    Closed(String),
    /// It said what is not of the protocol.
    Garbled(String),
}

impl End {
    /// Why, in words.
    pub fn words(&self) -> String {
        match self {
            Self::Refused(words) | Self::Closed(words) => words.clone(),
            Self::Garbled(words) => format!("the server said what is not of the protocol: {words}"),
        }
    }
}

/// What all sessions share.
pub struct Common {
    /// The protocol.
    pub dialect: Dialect,
    /// Who got which event.
    pub checker: Checker,
    /// What happened since somebody looked.
    pub news: Vec<(usize, News)>,
    /// What is to be sent right after the input: frames and records, or the packets of a client that polls.
    pub out: Vec<u8>,
    /// A message being put together.
    scratch: Vec<u8>,
}

impl Common {
    /// For clients of one kind.
    pub fn new(dialect: Dialect, checker: Checker) -> Self {
        Self { dialect, checker, news: Vec::new(), out: Vec::new(), scratch: Vec::new() }
    }

    /// Adds a message to what is to be sent.
    pub fn say(&mut self, write: impl FnOnce(Dialect, &mut Vec<u8>)) {
        self.scratch.clear();
        write(self.dialect, &mut self.scratch);
        match self.dialect {
            Dialect::Bare => self.out.extend_from_slice(&self.scratch),
            Dialect::Polling => {
                if !self.out.is_empty() {
                    self.out.push(SEPARATOR);
                }
                self.out.extend_from_slice(&self.scratch);
            }
            Dialect::SocketIo | Dialect::HomeTrip | Dialect::Plain | Dialect::Centrifuge => {
                frames::write_masked(&mut self.out, frames::TEXT, &self.scratch);
            }
        }
    }
}

/// Which client a session is.
#[derive(Clone, Copy)]
pub struct Who<'a> {
    /// Its number.
    pub index: usize,
    /// What names its user.
    pub token: Option<&'a str>,
}

/// A client's state.
pub struct Session {
    /// How far it has come.
    pub stage: Stage,
    /// Its rooms.
    pub memberships: Memberships,
    /// The beginning of what has not come whole.
    partial: Vec<u8>,
}

impl Default for Session {
    fn default() -> Self {
        Self { stage: Stage::Upgrading, memberships: Memberships::new(), partial: Vec::new() }
    }
}

impl Session {
    /// Takes what the server sent, in whatever pieces.
    ///
    /// # Errors
    /// The conversation has ended.
    #[inline]
    pub fn take(&mut self, who: Who<'_>, bytes: &[u8], common: &mut Common, now: u64) -> Result<(), End> {
        if self.partial.is_empty() {
            let used = self.take_whole(who, bytes, common, now)?;
            if used < bytes.len() {
                self.partial = bytes[used..].to_vec();
            }
            return Ok(());
        }
        let mut gathered = std::mem::take(&mut self.partial);
        gathered.extend_from_slice(bytes);
        let used = self.take_whole(who, &gathered, common, now)?;
        if used < gathered.len() {
            gathered.drain(..used);
            self.partial = gathered;
        }
        Ok(())
    }

    /// Takes whole heads, frames and records; returns how many bytes they were.
    fn take_whole(&mut self, who: Who<'_>, bytes: &[u8], common: &mut Common, now: u64) -> Result<usize, End> {
        let mut used = 0;
        while used < bytes.len() {
            let rest = &bytes[used..];
            if self.stage == Stage::Upgrading {
                match self.take_head(who, rest, common)? {
                    Some(length) => used += length,
                    None => break,
                }
                continue;
            }
            if common.dialect == Dialect::Bare && matches!(rest[0], b'J' | b'L') {
                if rest.len() < 5 {
                    break;
                }
                let news = if rest[0] == b'J' { News::Joined } else { News::Left };
                common.news.push((who.index, news));
                used += 5;
                continue;
            }
            let Some(frame) = frames::first(rest).map_err(|broken| End::Garbled(broken.0.into()))? else { break };
            used += frame.payload.end;
            let payload = &rest[frame.payload];
            match frame.opcode {
                frames::TEXT => self.take_text(who, payload, common, now)?,
                frames::PING => frames::write_masked(&mut common.out, frames::PONG, payload),
                frames::PONG => {}
                frames::CLOSE => return Err(End::Closed(reason(payload))),
                other => return Err(End::Garbled(format!("a frame of kind {other}"))),
            }
        }
        Ok(used)
    }

    /// The answer to the handshake; `None` while it is not whole.
    fn take_head(&mut self, who: Who<'_>, bytes: &[u8], common: &mut Common) -> Result<Option<usize>, End> {
        let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
            let too_long = bytes.len() > HEAD_BYTES;
            return if too_long { Err(End::Garbled("a head without an end".into())) } else { Ok(None) };
        };
        let head = String::from_utf8_lossy(&bytes[..end]);
        let status = head.lines().next().unwrap_or_default();
        if status.split(' ').nth(1) != Some("101") {
            return Err(End::Refused(format!("the handshake was answered with `{status}`")));
        }
        self.stage = Stage::Entering;
        if common.dialect == Dialect::Bare {
            self.enter(who, common);
        } else if common.dialect.speaks_first() {
            common.say(|dialect, out| dialect.write_hello(out, who.token));
        }
        Ok(Some(end + 4))
    }

    fn enter(&mut self, who: Who<'_>, common: &mut Common) {
        self.stage = Stage::In;
        common.news.push((who.index, News::Entered));
    }

    #[inline]
    fn take_text(&mut self, who: Who<'_>, text: &[u8], common: &mut Common, now: u64) -> Result<(), End> {
        if common.dialect != Dialect::Centrifuge {
            return self.take_message(who, text, common, now);
        }
        // Several messages may come in one frame, a line each.
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            self.take_message(who, line, common, now)?;
        }
        Ok(())
    }

    /// Takes one message of the protocol's, without what it came in.
    #[inline]
    pub fn take_message(&mut self, who: Who<'_>, message: &[u8], common: &mut Common, now: u64) -> Result<(), End> {
        match common.dialect.hear(message) {
            Heard::Event => common.checker.receive(&mut self.memberships, message, now),
            Heard::Echoed => {
                common.checker.receive(&mut self.memberships, message, now);
                common.news.push((who.index, News::Echoed));
            }
            Heard::Ping => common.say(Dialect::write_pong),
            Heard::Open => common.say(|dialect, out| dialect.write_hello(out, who.token)),
            Heard::Entered if self.stage != Stage::In => self.enter(who, common),
            Heard::Joined => common.news.push((who.index, News::Joined)),
            Heard::Left => common.news.push((who.index, News::Left)),
            Heard::Refused => {
                let words = shortened(message);
                if self.stage != Stage::In {
                    return Err(End::Refused(words));
                }
                common.news.push((who.index, News::Refused(words)));
            }
            Heard::Entered | Heard::Other => {}
            Heard::Unknown => return Err(End::Garbled(shortened(message))),
        }
        Ok(())
    }
}

/// What a close frame says.
fn reason(payload: &[u8]) -> String {
    match payload {
        [high, low, words @ ..] => {
            format!("closed with {} {}", u16::from_be_bytes([*high, *low]), shortened(words)).trim_end().into()
        }
        [] | [_] => "closed without a code".into(),
    }
}

fn shortened(message: &[u8]) -> String {
    String::from_utf8_lossy(&message[..message.len().min(200)]).into_owned()
}

#[cfg(test)]
mod tests;
