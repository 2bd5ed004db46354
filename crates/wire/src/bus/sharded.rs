//! The sharded format of `@socket.io/redis-adapter` 8.x (`createShardedAdapter`): one kind of message, `{type, data, uid, nsp}`, for events, questions, orders
//! and answers alike, as JSON; as MessagePack where binary is in it. Each room has a channel of its own, which its members' nodes alone hear. Knows no
//! connection to Redis; what is said means the same as in the [classic](super::request) format.

use bytes::Bytes;

use super::broadcast::{NUMBER, Outgoing, Scope, write_options};
use super::decode::Decoded;
use super::encode::Writer;
use super::request::{Answer, Asked, Request, Who};
use super::server_side;
use crate::json::write_string;

mod read;

pub use read::{Said, read};

/// The numbers of the kinds, as they stand on the wire. Heartbeats and the like (1, 2, 13) are of other adapters.
mod kind {
    pub const BROADCAST: u8 = 3;
    pub const JOIN: u8 = 4;
    pub const LEAVE: u8 = 5;
    pub const DISCONNECT: u8 = 6;
    pub const FETCH: u8 = 7;
    pub const SOCKETS: u8 = 8;
    pub const SERVER_SIDE_EMIT: u8 = 9;
    pub const SERVER_SIDE_ANSWER: u8 = 10;
    pub const CLIENT_COUNT: u8 = 11;
    pub const ACK: u8 = 12;
}

/// The type of an event's packet; binary stays within it.
const EVENT: u64 = 2;

/// A room with a name of so many characters goes by the channel of all: Node's adapter takes it for a socket's own.
const SOCKET_ID_CHARACTERS: usize = 20;

/// Whether events for this room alone go by a channel of its own. Characters are JavaScript's.
pub fn has_channel(room: &str) -> bool {
    room.encode_utf16().count() != SOCKET_ID_CHARACTERS
}

/// The channel of one room, or of one member's answers, behind the [base channel](super::broadcast::base_channel) of the namespace.
pub fn channel_of(base: &str, name: &str) -> String {
    [base, name, "#"].concat()
}

/// The channel that an event is published on.
pub fn event_channel(base: &str, scope: &Scope) -> String {
    match scope.rooms.as_slice() {
        [room] if has_channel(room) => channel_of(base, room),
        _ => base.to_owned(),
    }
}

/// How the messages of one member in one namespace end, by which it knows its own when they come back.
#[derive(Debug, Clone)]
pub struct Ending {
    json: Vec<u8>,
    binary: Bytes,
}

impl Ending {
    /// Of this member's.
    pub fn of(uid: &str, namespace: &str) -> Self {
        let mut json = Vec::new();
        end_json(&mut json, uid, namespace);
        let mut binary = Writer::default();
        end_binary(&mut binary, uid, namespace);
        Self { json, binary: binary.into_bytes() }
    }

    /// Whether a message ends so. What stands in it cannot feign it: a text has its quotes escaped, and an object within has its own end.
    pub fn is_of(&self, message: &[u8]) -> bool {
        if is_json(message) { message.ends_with(&self.json) } else { message.ends_with(&self.binary) }
    }
}

fn is_json(message: &[u8]) -> bool {
    message.first() == Some(&b'{')
}

/// Whether a message is an event for clients, told by its first bytes. All others have to be read.
pub fn is_event(message: &[u8]) -> bool {
    message.starts_with(br#"{"type":3,"#) || message.starts_with(b"\x84\xa4type\x03")
}

/// The message of an event.
///
/// # Errors
/// The arguments lack an attachment.
pub fn event(outgoing: &Outgoing<'_>) -> Result<Bytes, serde_json::Error> {
    broadcast(outgoing, None)
}

fn broadcast(outgoing: &Outgoing<'_>, id: Option<&str>) -> Result<Bytes, serde_json::Error> {
    let Outgoing { uid, namespace, event, arguments, attachments, scope, volatile, number } = *outgoing;
    if !attachments.is_empty() {
        let mut out = Writer::default();
        begin_binary(&mut out, kind::BROADCAST, 2 + usize::from(id.is_some()));
        out.text("packet");
        out.map(2);
        out.text("type");
        out.unsigned(EVENT);
        out.text("data");
        out.event(event, arguments, attachments)?;
        if let Some(id) = id {
            out.text("requestId");
            out.text(id);
        }
        out.text("opts");
        write_options(&mut out, scope, |out| outgoing.write_flags(out));
        end_binary(&mut out, uid, namespace);
        return Ok(out.into_bytes());
    }
    let mut out = begin_json(kind::BROADCAST, arguments.len());
    out.extend_from_slice(br#""packet":{"type":2,"data":["#);
    write_string(event, &mut out);
    if !arguments.is_empty() {
        out.push(b',');
        out.extend_from_slice(arguments.as_bytes());
    }
    out.extend_from_slice(b"]}");
    if let Some(id) = id {
        out.extend_from_slice(br#","requestId":"#);
        write_string(id, &mut out);
    }
    out.push(b',');
    flagged_options_json(&mut out, scope, volatile, number);
    out.push(b'}');
    end_json(&mut out, uid, namespace);
    Ok(out.into())
}

/// The message of a question or an order of this member's; `None` for one that this format does not have.
///
/// # Errors
/// JSON in it is none.
pub fn request(asked: &Asked, namespace: &str) -> Result<Option<Bytes>, serde_json::Error> {
    let uid = asked.uid.as_deref().unwrap_or_default();
    let whole = |kind, write: &dyn Fn(&mut Vec<u8>)| {
        let mut out = begin_json(kind, 0);
        write(&mut out);
        out.push(b'}');
        end_json(&mut out, uid, namespace);
        Some(Bytes::from(out))
    };
    let scope_of = |who: &Who| match who {
        Who::Scope(scope) => scope.clone(),
        Who::Socket(id) => Scope { rooms: vec![id.clone()], except: Vec::new() },
    };
    let rooms_of = |kind, who: &Who, rooms: &[String]| {
        whole(kind, &|out| {
            options_json(out, &scope_of(who), false);
            out.extend_from_slice(br#","rooms":"#);
            names_json(out, rooms);
        })
    };
    Ok(match &asked.request {
        Request::Sockets { .. } | Request::AllRooms => None,
        Request::Join { who, rooms } => rooms_of(kind::JOIN, who, rooms),
        Request::Leave { who, rooms } => rooms_of(kind::LEAVE, who, rooms),
        Request::Disconnect { who, close } => whole(kind::DISCONNECT, &|out| {
            options_json(out, &scope_of(who), false);
            out.extend_from_slice(if *close { br#","close":true"# } else { br#","close":false"# });
        }),
        Request::Fetch { scope, peers_only } => whole(kind::FETCH, &|out| {
            options_json(out, scope, false);
            if *peers_only {
                out.extend_from_slice(br#","peersOnly":true"#);
            }
            if let Some(id) = &asked.id {
                out.extend_from_slice(br#","requestId":"#);
                write_string(id, out);
            }
        }),
        Request::ServerSideEmit { event, arguments } if !arguments.attachments.is_empty() => {
            let mut out = Writer::default();
            begin_binary(&mut out, kind::SERVER_SIDE_EMIT, 1 + usize::from(asked.id.is_some()));
            if let Some(id) = &asked.id {
                out.text("requestId");
                out.text(id);
            }
            out.text("packet");
            out.event(event, &String::from_utf8_lossy(&arguments.json), &arguments.attachments)?;
            end_binary(&mut out, uid, namespace);
            Some(out.into_bytes())
        }
        Request::ServerSideEmit { event, arguments } => {
            let data = server_side::array(event, &String::from_utf8_lossy(&arguments.json));
            crate::raw::check(&data)?;
            whole(kind::SERVER_SIDE_EMIT, &|out| {
                if let Some(id) = &asked.id {
                    out.extend_from_slice(br#""requestId":"#);
                    write_string(id, out);
                    out.push(b',');
                }
                out.extend_from_slice(br#""packet":"#);
                out.extend_from_slice(data.as_bytes());
            })
        }
        Request::Broadcast { event, arguments, scope } => {
            let json = String::from_utf8_lossy(&arguments.json);
            let attachments = &arguments.attachments;
            let outgoing =
                Outgoing { uid, namespace, event, arguments: &json, attachments, scope, volatile: false, number: None };
            Some(broadcast(&outgoing, asked.id.as_deref())?)
        }
    })
}

/// The message of an answer of this member's; `None` for one that this format does not have.
///
/// # Errors
/// JSON in it is none.
pub fn answer(uid: &str, namespace: &str, id: &str, answer: &Answer) -> Result<Option<Bytes>, serde_json::Error> {
    let whole = |kind, name: &str, value: &str| {
        let mut out = begin_json(kind, value.len());
        out.extend_from_slice(br#""requestId":"#);
        write_string(id, &mut out);
        out.push(b',');
        write_string(name, &mut out);
        out.push(b':');
        out.extend_from_slice(value.as_bytes());
        out.push(b'}');
        end_json(&mut out, uid, namespace);
        Some(Bytes::from(out))
    };
    let value = |kind, given: &Decoded| {
        let json = String::from_utf8_lossy(&given.json);
        if given.attachments.is_empty() {
            return Ok(whole(kind, "packet", &json));
        }
        let mut out = Writer::default();
        begin_binary(&mut out, kind, 2);
        out.text("requestId");
        out.text(id);
        out.text("packet");
        out.json(&json, &given.attachments)?;
        end_binary(&mut out, uid, namespace);
        Ok::<_, serde_json::Error>(Some(out.into_bytes()))
    };
    Ok(match answer {
        Answer::Done | Answer::Rooms(_) | Answer::SocketIds(_) => None,
        Answer::Sockets(sockets) => whole(kind::SOCKETS, "sockets", &format!("[{}]", sockets.join(","))),
        Answer::ClientCount(count) => whole(kind::CLIENT_COUNT, "clientCount", &count.to_string()),
        Answer::ServerSide(given) => value(kind::SERVER_SIDE_ANSWER, given)?,
        Answer::Ack(given) => value(kind::ACK, given)?,
    })
}

/// Up to the fields of `data`.
fn begin_json(kind: u8, expected_bytes: usize) -> Vec<u8> {
    /// What most messages take beside their arguments.
    const ENVELOPE_BYTES: usize = 192;
    let mut out = Vec::with_capacity(expected_bytes + ENVELOPE_BYTES);
    out.extend_from_slice(br#"{"type":"#);
    out.extend_from_slice(kind.to_string().as_bytes());
    out.extend_from_slice(br#","data":{"#);
    out
}

/// From behind `data`.
fn end_json(out: &mut Vec<u8>, uid: &str, namespace: &str) {
    out.extend_from_slice(br#","uid":"#);
    write_string(uid, out);
    out.extend_from_slice(br#","nsp":"#);
    write_string(namespace, out);
    out.push(b'}');
}

fn begin_binary(out: &mut Writer, kind: u8, fields: usize) {
    out.map(4);
    out.text("type");
    out.unsigned(kind.into());
    out.text("data");
    out.map(fields);
}

fn end_binary(out: &mut Writer, uid: &str, namespace: &str) {
    out.text("uid");
    out.text(uid);
    out.text("nsp");
    out.text(namespace);
}

fn options_json(out: &mut Vec<u8>, scope: &Scope, volatile: bool) {
    flagged_options_json(out, scope, volatile, None);
}

fn flagged_options_json(out: &mut Vec<u8>, scope: &Scope, volatile: bool, number: Option<u64>) {
    out.extend_from_slice(br#""opts":{"rooms":"#);
    names_json(out, &scope.rooms);
    out.extend_from_slice(br#","except":"#);
    names_json(out, &scope.except);
    out.extend_from_slice(br#","flags":{"#);
    if volatile {
        out.extend_from_slice(br#""volatile":true"#);
    }
    if let Some(number) = number {
        let comma = if volatile { "," } else { "" };
        out.extend_from_slice(format!(r#"{comma}"{NUMBER}":{number}"#).as_bytes());
    }
    out.extend_from_slice(b"}}");
}

fn names_json(out: &mut Vec<u8>, names: &[String]) {
    out.push(b'[');
    for (index, name) in names.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_string(name, out);
    }
    out.push(b']');
}

#[cfg(test)]
mod tests;
