//! Socket.IO over long-polling, a client's side: one connection that always asks for packets, one that posts them. Pure.

use serde::Deserialize;

use crate::client::Which;
use crate::session::{Common, End, Session, Who};
use crate::target::Target;

/// Between two packets of a payload.
pub const SEPARATOR: u8 = 0x1e;

/// More headers than any server here sends.
const HEADERS: usize = 32;

/// The state of a client's two connections.
#[derive(Default)]
pub struct Polling {
    /// The session's id, once the server has named it.
    id: Option<String>,
    /// The beginnings of answers that have not come whole.
    partial: [Vec<u8>; 2],
    /// Packets that wait for the post before them to be answered; what a scenario has in flight at most.
    waiting: Vec<u8>,
    posting: bool,
    ask_again: bool,
}

#[derive(Deserialize)]
struct Open {
    sid: String,
}

impl Polling {
    /// Takes what came over one of the connections.
    ///
    /// # Errors
    /// The conversation has ended.
    pub fn take(
        &mut self,
        which: Which,
        session: &mut Session,
        who: Who<'_>,
        bytes: &[u8],
        common: &mut Common,
        now: u64,
    ) -> Result<(), End> {
        let mut gathered = std::mem::take(&mut self.partial[which as usize]);
        gathered.extend_from_slice(bytes);
        let mut used = 0;
        while let Some((length, body)) = answer(&gathered[used..])? {
            match which {
                Which::Main => {
                    for packet in body.split(|byte| *byte == SEPARATOR) {
                        if self.id.is_none() {
                            self.id = Some(session_id(packet)?);
                        }
                        session.take_message(who, packet, common, now)?;
                    }
                    self.ask_again = true;
                }
                Which::Post => self.posting = false,
            }
            used += length;
        }
        gathered.drain(..used);
        self.partial[which as usize] = gathered;
        Ok(())
    }

    /// Packets are to be posted, as soon as the post before them is answered.
    pub fn post(&mut self, packets: &[u8]) {
        if !self.waiting.is_empty() && !packets.is_empty() {
            self.waiting.push(SEPARATOR);
        }
        self.waiting.extend_from_slice(packets);
    }

    /// Whether a post is not answered yet.
    pub fn is_posting(&self) -> bool {
        self.posting
    }

    /// Whether there is something for the connection that posts.
    pub fn wants_to_post(&self) -> bool {
        !self.posting && !self.waiting.is_empty() && self.id.is_some()
    }

    /// The next request that asks for packets, if the last has been answered.
    pub fn next_poll(&mut self, target: &Target, query: &str) -> Option<String> {
        let id = self.id.as_deref().filter(|_| self.ask_again)?;
        self.ask_again = false;
        Some(target.poll(query, Some(id)))
    }

    /// The next post.
    pub fn next_post(&mut self, target: &Target, query: &str) -> Vec<u8> {
        self.posting = true;
        let request = target.post(query, self.id.as_deref().unwrap_or_default(), self.waiting.len());
        let mut bytes = request.into_bytes();
        bytes.append(&mut self.waiting);
        bytes
    }
}

fn session_id(packet: &[u8]) -> Result<String, End> {
    let open = packet.strip_prefix(b"0").and_then(|open| serde_json::from_slice::<Open>(open).ok());
    open.map(|open| open.sid).ok_or_else(|| End::Garbled("no packet that opens a session".into()))
}

/// The first answer's length and body; `None` while it is not whole.
fn answer(bytes: &[u8]) -> Result<Option<(usize, &[u8])>, End> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let start = match head.parse(bytes) {
        Ok(httparse::Status::Complete(start)) => start,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(End::Garbled(format!("no HTTP: {error}"))),
    };
    let length = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.parse::<usize>().ok());
    let length = length.ok_or_else(|| End::Garbled("an answer without a length".into()))?;
    let Some(body) = bytes.get(start..start + length) else { return Ok(None) };
    match head.code {
        Some(200) => Ok(Some((start + length, body))),
        code => Err(End::Refused(format!(
            "a request was answered with {}: {}",
            code.unwrap_or_default(),
            String::from_utf8_lossy(&body[..body.len().min(200)])
        ))),
    }
}

#[cfg(test)]
mod tests;
