//! Questions and orders among the members of a cluster, and their answers: JSON, but for events that are asked about and their answers, which are
//! MessagePack. The format of `@socket.io/redis-adapter` 8.x, with what `socket.io-redis` 6.x says otherwise.

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::broadcast::{Options, Packet, Scope, read_options, read_packet, write_options};
use super::decode::{Decoded, Malformed, Reader, malformed};
use super::encode::Writer;
use super::server_side;

/// The numbers of the kinds, as they stand on the wire.
mod kind {
    pub const SOCKETS: u8 = 0;
    pub const ALL_ROOMS: u8 = 1;
    pub const JOIN: u8 = 2;
    pub const LEAVE: u8 = 3;
    pub const DISCONNECT: u8 = 4;
    pub const FETCH: u8 = 5;
    pub const SERVER_SIDE_EMIT: u8 = 6;
    pub const BROADCAST: u8 = 7;
    pub const BROADCAST_CLIENT_COUNT: u8 = 8;
    pub const BROADCAST_ACK: u8 = 9;
}

/// What a member wants of the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// The ids of the sockets in these rooms, as `socket.io-redis` asks for them.
    Sockets {
        /// In any of them; all sockets where there is none.
        rooms: Vec<String>,
    },
    /// The names of all rooms.
    AllRooms,
    /// Sockets are to enter rooms.
    Join {
        /// Which sockets.
        who: Who,
        /// Which rooms.
        rooms: Vec<String>,
    },
    /// Sockets are to leave rooms.
    Leave {
        /// Which sockets.
        who: Who,
        /// Which rooms.
        rooms: Vec<String>,
    },
    /// Sockets are to be disconnected.
    Disconnect {
        /// Which.
        who: Who,
        /// And their connections with them.
        close: bool,
    },
    /// All that is known of sockets.
    Fetch {
        /// Which.
        scope: Scope,
        /// Of members that are no gateways: the others answer with none. Node servers do not know of this.
        peers_only: bool,
    },
    /// An event for the servers themselves.
    ServerSideEmit {
        /// Its name.
        event: String,
        /// Its arguments, joined by commas.
        arguments: Decoded,
    },
    /// An event that clients are to answer.
    Broadcast {
        /// Its name.
        event: String,
        /// Its arguments, joined by commas.
        arguments: Decoded,
        /// For whom it is.
        scope: Scope,
    },
}

/// Which sockets an order is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// Those in rooms. Nobody answers such an order.
    Scope(Scope),
    /// One, by its id. The member whose socket it is answers.
    Socket(String),
}

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Who asks; `socket.io-redis` and emitters do not say.
    pub uid: Option<String>,
    /// What the answer names; `None` where none is wanted.
    pub id: Option<String>,
    /// What is wanted.
    pub request: Request,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Json<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    #[serde(rename = "type")]
    kind: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    opts: Option<JsonScope>,
    #[serde(default, deserialize_with = "optional_names", skip_serializing_if = "Option::is_none")]
    rooms: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    close: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<String>,
    #[serde(default, deserialize_with = "optional_name", skip_serializing_if = "Option::is_none")]
    room: Option<String>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    peers_only: bool,
}

#[derive(Serialize, Deserialize)]
struct JsonScope {
    #[serde(default, deserialize_with = "names")]
    rooms: Vec<String>,
    #[serde(default, deserialize_with = "names")]
    except: Vec<String>,
}

/// A name of a room, which a program in JavaScript may have written as a number.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Name {
    Text(String),
    Number(serde_json::Number),
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        match name {
            Name::Text(text) => text,
            Name::Number(number) => number.to_string(),
        }
    }
}

pub(super) fn optional_names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    let names = Option::<Vec<Name>>::deserialize(deserializer)?;
    Ok(names.map(|names| names.into_iter().map(String::from).collect()))
}

pub(super) fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    optional_names(deserializer).map(Option::unwrap_or_default)
}

fn optional_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<Name>::deserialize(deserializer)?.map(String::from))
}

impl From<JsonScope> for Scope {
    fn from(JsonScope { rooms, except }: JsonScope) -> Self {
        Self { rooms, except }
    }
}

impl From<&Scope> for JsonScope {
    fn from(scope: &Scope) -> Self {
        Self { rooms: scope.rooms.clone(), except: scope.except.clone() }
    }
}

impl From<serde_json::Error> for Malformed {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}

/// Reads a message of the request channel; `None` for a kind that is not known, which members leave alone.
///
/// # Errors
/// It is no request.
pub fn read(message: &Bytes) -> Result<Option<Asked>, Malformed> {
    if message.first() == Some(&b'{') { read_json(message) } else { read_broadcast(message) }
}

fn read_json(message: &Bytes) -> Result<Option<Asked>, Malformed> {
    let Json { uid, request_id: id, kind, opts, rooms, close, sid, room, data, peers_only } =
        serde_json::from_slice(message)?;
    let who = match (opts, sid) {
        (Some(opts), _) => Some(Who::Scope(opts.into())),
        (None, Some(sid)) => Some(Who::Socket(sid)),
        (None, None) => None,
    };
    let rooms = rooms.unwrap_or_default().into_iter().chain(room).collect();
    let request = match (kind, who) {
        (kind::SOCKETS, _) => Request::Sockets { rooms },
        (kind::ALL_ROOMS, _) => Request::AllRooms,
        (kind::JOIN, Some(who)) => Request::Join { who, rooms },
        (kind::LEAVE, Some(who)) => Request::Leave { who, rooms },
        (kind::DISCONNECT, Some(who)) => Request::Disconnect { who, close: close.unwrap_or_default() },
        (kind::FETCH, Some(Who::Scope(scope))) => Request::Fetch { scope, peers_only },
        (kind::FETCH, _) => Request::Fetch { scope: Scope::default(), peers_only },
        (kind::SERVER_SIDE_EMIT, _) => match data {
            Some(data) => {
                let (event, arguments) = server_side::read(data.get(), Vec::new())?;
                Request::ServerSideEmit { event, arguments }
            }
            None => return malformed("a server-side event without data"),
        },
        (kind::JOIN | kind::LEAVE | kind::DISCONNECT, None) => return malformed("an order for nobody"),
        _ => return Ok(None),
    };
    Ok(Some(Asked { uid, id, request }))
}

fn read_broadcast(message: &Bytes) -> Result<Option<Asked>, Malformed> {
    let mut reader = Reader::new(message);
    let (mut uid, mut id, mut kind, mut packet, mut options) = (None, None, None, None, Options::default());
    for _ in 0..reader.map()? {
        match reader.text()?.as_str() {
            "uid" => uid = Some(reader.text()?),
            "requestId" => id = Some(reader.text()?),
            "type" => kind = reader.integer()?,
            "packet" => packet = Some(read_packet(&mut reader)?),
            "opts" => options = read_options(&mut reader)?,
            _ => reader.skip()?,
        }
    }
    reader.end()?;
    if kind != Some(kind::BROADCAST.into()) {
        return Ok(None);
    }
    let Some(Packet { event, arguments, .. }) = packet else { return malformed("an event without a packet") };
    Ok(Some(Asked { uid, id, request: Request::Broadcast { event, arguments, scope: options.scope } }))
}

impl Asked {
    /// The message for the request channel of the namespace.
    ///
    /// # Errors
    /// JSON in it is none.
    pub fn message(&self, namespace: &str) -> Result<Bytes, serde_json::Error> {
        let (uid, request_id) = (self.uid.clone(), self.id.clone());
        let empty = |kind| Json {
            uid: uid.clone(),
            request_id: request_id.clone(),
            kind,
            opts: None,
            rooms: None,
            close: None,
            sid: None,
            room: None,
            data: None,
            peers_only: false,
        };
        let to = |who: &Who, json: Json<'static>| match who {
            Who::Scope(scope) => Json { opts: Some(scope.into()), ..json },
            Who::Socket(sid) => Json { sid: Some(sid.clone()), ..json },
        };
        let rooms = |who: &Who, rooms: &[String], json: Json<'static>| match who {
            Who::Scope(_) => Json { rooms: Some(rooms.to_vec()), ..to(who, json) },
            Who::Socket(_) => Json { room: rooms.first().cloned(), ..to(who, json) },
        };
        let json = match &self.request {
            Request::Sockets { rooms } => Json { rooms: Some(rooms.clone()), ..empty(kind::SOCKETS) },
            Request::AllRooms => empty(kind::ALL_ROOMS),
            Request::Join { who, rooms: names } => rooms(who, names, empty(kind::JOIN)),
            Request::Leave { who, rooms: names } => rooms(who, names, empty(kind::LEAVE)),
            Request::Disconnect { who, close } => Json { close: Some(*close), ..to(who, empty(kind::DISCONNECT)) },
            Request::Fetch { scope, peers_only } => {
                Json { opts: Some(scope.into()), peers_only: *peers_only, ..empty(kind::FETCH) }
            }
            Request::ServerSideEmit { event, arguments } => {
                let data = server_side::array(event, &String::from_utf8_lossy(&arguments.json));
                let data = server_side::inline(&data, &arguments.attachments)?;
                let data: &RawValue = serde_json::from_str(&data)?;
                return serde_json::to_vec(&Json { data: Some(data), ..empty(kind::SERVER_SIDE_EMIT) })
                    .map(Bytes::from);
            }
            Request::Broadcast { event, arguments, scope } => {
                return self.broadcast(namespace, event, arguments, scope);
            }
        };
        serde_json::to_vec(&json).map(Bytes::from)
    }

    fn broadcast(
        &self,
        namespace: &str,
        event: &str,
        arguments: &Decoded,
        scope: &Scope,
    ) -> Result<Bytes, serde_json::Error> {
        let mut out = Writer::default();
        let texts = [("uid", &self.uid), ("requestId", &self.id)];
        out.map(3 + texts.iter().filter(|(_, text)| text.is_some()).count());
        for (name, text) in texts {
            if let Some(text) = text {
                out.text(name);
                out.text(text);
            }
        }
        out.text("type");
        out.unsigned(kind::BROADCAST.into());
        out.text("packet");
        out.map(3);
        out.text("type");
        out.unsigned(2);
        out.text("data");
        out.event(event, &String::from_utf8_lossy(&arguments.json), &arguments.attachments)?;
        out.text("nsp");
        out.text(namespace);
        out.text("opts");
        write_options(&mut out, scope, |out| out.map(0));
        Ok(out.into_bytes())
    }
}

/// An answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// An order was carried out, as `socket.io-redis` wants to know.
    Done,
    /// Names of rooms.
    Rooms(Vec<String>),
    /// Ids of sockets.
    SocketIds(Vec<String>),
    /// Sockets, each a JSON object `{id, handshake, rooms, data}`.
    Sockets(Vec<String>),
    /// What a server answers a server-side event with.
    ServerSide(Decoded),
    /// How many clients are asked to answer an event.
    ClientCount(u64),
    /// A client's answer to an event: its first argument alone.
    Ack(Decoded),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonAnswer<'a> {
    request_id: String,
    #[serde(rename = "type")]
    kind: Option<u8>,
    #[serde(default, deserialize_with = "optional_names")]
    rooms: Option<Vec<String>>,
    #[serde(borrow)]
    sockets: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    client_count: Option<u64>,
}

/// Reads a message of a response channel: the id of the request that it answers, and the answer.
///
/// # Errors
/// It is no answer.
pub fn read_answer(message: &Bytes) -> Result<(String, Answer), Malformed> {
    if message.first() != Some(&b'{') {
        return read_ack(message);
    }
    let answer: JsonAnswer<'_> = serde_json::from_slice(message)?;
    let JsonAnswer { request_id, kind, rooms, sockets, data, client_count } = answer;
    let answer = match (kind, client_count, rooms, sockets) {
        (Some(kind::SERVER_SIDE_EMIT), ..) => {
            let json = data.map_or("null", RawValue::get).into();
            Answer::ServerSide(Decoded { json, attachments: Vec::new() })
        }
        (Some(kind::BROADCAST_CLIENT_COUNT), Some(count), ..) => Answer::ClientCount(count),
        (None, _, _, Some(sockets)) => {
            let ids: Option<Vec<String>> =
                sockets.iter().map(|socket| serde_json::from_str(socket.get()).ok()).collect();
            match ids {
                Some(ids) if !ids.is_empty() => Answer::SocketIds(ids),
                _ => Answer::Sockets(sockets.iter().map(|socket| socket.get().to_owned()).collect()),
            }
        }
        (None, _, Some(rooms), None) => Answer::Rooms(rooms),
        (None, None, None, None) => Answer::Done,
        _ => return malformed("an answer of no kind that is known"),
    };
    Ok((request_id, answer))
}

fn read_ack(message: &Bytes) -> Result<(String, Answer), Malformed> {
    let mut reader = Reader::new(message);
    let (mut id, mut kind, mut answer) = (None, None, None);
    for _ in 0..reader.map()? {
        match reader.text()?.as_str() {
            "requestId" => id = Some(reader.text()?),
            "type" => kind = reader.integer()?,
            "packet" => {
                let mut decoded = Decoded::default();
                reader.json(&mut decoded)?;
                answer = Some(decoded);
            }
            _ => reader.skip()?,
        }
    }
    reader.end()?;
    match (id, kind) {
        (Some(id), Some(of)) if of == kind::BROADCAST_ACK.into() => {
            // Who answers with nothing leaves it out.
            let nothing = || Decoded { json: b"null".to_vec(), attachments: Vec::new() };
            Ok((id, Answer::Ack(answer.unwrap_or_else(nothing))))
        }
        _ => malformed("an answer of no kind that is known"),
    }
}

impl Answer {
    /// The message for the response channel.
    ///
    /// # Errors
    /// JSON in it is none.
    pub fn message(&self, id: &str) -> Result<Bytes, serde_json::Error> {
        let id = serde_json::to_string(id)?;
        let text = match self {
            Self::Done => format!(r#"{{"requestId":{id}}}"#),
            Self::Rooms(rooms) => format!(r#"{{"requestId":{id},"rooms":{}}}"#, serde_json::to_string(rooms)?),
            Self::SocketIds(ids) => format!(r#"{{"requestId":{id},"sockets":{}}}"#, serde_json::to_string(ids)?),
            Self::Sockets(sockets) => format!(r#"{{"requestId":{id},"sockets":[{}]}}"#, sockets.join(",")),
            Self::ServerSide(Decoded { json, attachments }) => {
                let json = String::from_utf8_lossy(json);
                let data = server_side::inline(&json, attachments)?;
                format!(r#"{{"type":{},"requestId":{id},"data":{data}}}"#, kind::SERVER_SIDE_EMIT)
            }
            Self::ClientCount(count) => {
                format!(r#"{{"type":{},"requestId":{id},"clientCount":{count}}}"#, kind::BROADCAST_CLIENT_COUNT)
            }
            Self::Ack(answer) => {
                let mut out = Writer::default();
                out.map(3);
                out.text("type");
                out.unsigned(kind::BROADCAST_ACK.into());
                out.text("requestId");
                out.text(&serde_json::from_str::<String>(&id)?);
                out.text("packet");
                out.json(&String::from_utf8_lossy(&answer.json), &answer.attachments)?;
                return Ok(out.into_bytes());
            }
        };
        Ok(text.into())
    }
}

#[cfg(test)]
mod tests;
