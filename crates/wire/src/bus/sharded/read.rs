//! Messages of the sharded format, read: JSON and MessagePack come to the same parts, and these to what is said.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::broadcast::{Incoming, Options, Packet, Scope, read_options, read_packet};
use super::super::decode::{Decoded, Malformed, Reader, malformed};
use super::super::request::{Answer, Asked, Request, Who, names, optional_names};
use super::super::server_side;
use super::{EVENT, is_json, kind};

/// What another member says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// An event for clients.
    Event(Incoming),
    /// A question or an order.
    Asked(Asked),
    /// An answer to a question.
    Answered {
        /// Who answers.
        uid: String,
        /// The question's id.
        id: String,
        /// The answer.
        answer: Answer,
    },
}

/// Reads a message of any channel of this namespace; `None` for one of our own, for one of another namespace, and for a kind that is not known, which members
/// leave alone.
///
/// # Errors
/// It is no message of a member.
pub fn read(message: &Bytes, own_uid: &str, namespace: &str) -> Result<Option<Said>, Malformed> {
    let parts = if is_json(message) { Parts::of_json(message)? } else { Parts::of_binary(message)? };
    if parts.uid.as_deref() == Some(own_uid) || parts.namespace.as_deref().unwrap_or("/") != namespace {
        return Ok(None);
    }
    parts.said()
}

/// What any message may have.
#[derive(Default)]
struct Parts {
    kind: u8,
    uid: Option<String>,
    namespace: Option<String>,
    /// Of an event for clients: its name and arguments.
    event: Option<(String, Decoded)>,
    /// Of everything else: a value, for servers.
    value: Option<Decoded>,
    options: Option<Options>,
    id: Option<String>,
    rooms: Vec<String>,
    close: bool,
    sockets: Option<Vec<String>>,
    client_count: Option<u64>,
    peers_only: bool,
}

#[derive(Deserialize)]
struct Json<'a> {
    #[serde(rename = "type")]
    kind: u8,
    uid: Option<String>,
    nsp: Option<String>,
    #[serde(borrow)]
    data: Option<JsonData<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonData<'a> {
    #[serde(borrow)]
    packet: Option<&'a RawValue>,
    opts: Option<JsonOptions>,
    request_id: Option<String>,
    #[serde(default, deserialize_with = "optional_names")]
    rooms: Option<Vec<String>>,
    close: Option<bool>,
    #[serde(borrow)]
    sockets: Option<Vec<&'a RawValue>>,
    client_count: Option<u64>,
    #[serde(default)]
    peers_only: bool,
}

#[derive(Deserialize)]
struct JsonOptions {
    #[serde(default, deserialize_with = "names")]
    rooms: Vec<String>,
    #[serde(default, deserialize_with = "names")]
    except: Vec<String>,
    flags: Option<JsonFlags>,
}

#[derive(Deserialize)]
struct JsonFlags {
    volatile: Option<bool>,
    number: Option<u64>,
}

#[derive(Deserialize)]
struct JsonPacket<'a> {
    #[serde(rename = "type")]
    kind: u64,
    #[serde(borrow)]
    data: &'a RawValue,
}

impl Parts {
    fn of_json(message: &Bytes) -> Result<Self, Malformed> {
        let Json { kind, uid, nsp: namespace, data } = serde_json::from_slice(message)?;
        let base = Self { kind, uid, namespace, ..Self::default() };
        let Some(JsonData { packet, opts, request_id: id, rooms, close, sockets, client_count, peers_only }) = data
        else {
            return Ok(base);
        };
        let (mut event, mut value) = (None, None);
        match packet {
            Some(packet) if kind == kind::BROADCAST => event = Some(json_event(packet)?),
            Some(packet) => value = Some(Decoded { json: packet.get().into(), attachments: Vec::new() }),
            None => {}
        }
        let options = opts.map(|JsonOptions { rooms, except, flags }| {
            let (volatile, number) = flags.map(|flags| (flags.volatile, flags.number)).unwrap_or_default();
            Options { scope: Scope { rooms, except }, volatile: volatile.unwrap_or_default(), number }
        });
        let sockets = sockets.map(|sockets| sockets.into_iter().map(|socket| socket.get().to_owned()).collect());
        let (rooms, close) = (rooms.unwrap_or_default(), close.unwrap_or_default());
        Ok(Self { event, value, options, id, rooms, close, sockets, client_count, peers_only, ..base })
    }

    fn of_binary(message: &Bytes) -> Result<Self, Malformed> {
        // What the data is hangs on the type, wherever that stands.
        let mut parts = Self { kind: kind_of(message)?, ..Self::default() };
        let mut reader = Reader::new(message);
        for _ in 0..reader.map()? {
            match reader.text()?.as_str() {
                "uid" => parts.uid = Some(reader.text()?),
                "nsp" => parts.namespace = Some(reader.text()?),
                "data" => parts.take_binary_data(&mut reader)?,
                _ => reader.skip()?,
            }
        }
        reader.end()?;
        Ok(parts)
    }

    fn take_binary_data(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        let value = |reader: &mut Reader<'_>| {
            let mut decoded = Decoded::default();
            reader.json(&mut decoded).map(|()| decoded)
        };
        for _ in 0..reader.map()? {
            match reader.text()?.as_str() {
                "packet" if self.kind == kind::BROADCAST => {
                    let Packet { event, arguments, .. } = read_packet(reader)?;
                    self.event = Some((event, arguments));
                }
                "packet" => self.value = Some(value(reader)?),
                "opts" => self.options = Some(read_options(reader)?),
                "requestId" => self.id = Some(reader.text()?),
                "rooms" => self.rooms = reader.names()?,
                "close" => self.close = reader.is_true()?,
                "clientCount" => self.client_count = reader.integer()?.and_then(|count| count.try_into().ok()),
                "sockets" => {
                    let len = reader.array()?;
                    let sockets: Result<Vec<Decoded>, Malformed> = (0..len).map(|_| value(reader)).collect();
                    let texts = sockets?.into_iter().map(|socket| String::from_utf8_lossy(&socket.json).into_owned());
                    self.sockets = Some(texts.collect());
                }
                _ => reader.skip()?,
            }
        }
        Ok(())
    }

    fn said(self) -> Result<Option<Said>, Malformed> {
        let Self { kind, uid, namespace, event, value, options, id, rooms, close, sockets, client_count, peers_only } =
            self;
        let order = |request: fn(Who, Vec<String>, bool) -> Request| match options.clone() {
            Some(Options { scope, .. }) => Ok(request(Who::Scope(scope), rooms.clone(), close)),
            None => malformed("an order for nobody"),
        };
        let request = match kind {
            kind::BROADCAST => {
                let Some((event, arguments)) = event else { return malformed("an event without a packet") };
                let Some(Options { scope, volatile, number }) = options else {
                    return malformed("an event for nobody");
                };
                if id.is_none() {
                    let (uid, namespace) = (uid.unwrap_or_default(), namespace.unwrap_or_else(|| "/".to_owned()));
                    let incoming = Incoming { uid, namespace, event, arguments, scope, volatile, number };
                    return Ok(Some(Said::Event(incoming)));
                }
                Request::Broadcast { event, arguments, scope }
            }
            kind::JOIN => order(|who, rooms, _| Request::Join { who, rooms })?,
            kind::LEAVE => order(|who, rooms, _| Request::Leave { who, rooms })?,
            kind::DISCONNECT => order(|who, _, close| Request::Disconnect { who, close })?,
            kind::FETCH => {
                Request::Fetch { scope: options.map(|options| options.scope).unwrap_or_default(), peers_only }
            }
            kind::SERVER_SIDE_EMIT => match value {
                Some(Decoded { json, attachments }) => {
                    let (event, arguments) = server_side::read(&String::from_utf8_lossy(&json), attachments)?;
                    Request::ServerSideEmit { event, arguments }
                }
                None => return malformed("a server-side event without data"),
            },
            kind::SOCKETS | kind::SERVER_SIDE_ANSWER | kind::CLIENT_COUNT | kind::ACK => {
                let Some(id) = id else { return malformed("an answer to nothing") };
                // Who answers with nothing leaves it out.
                let value = value.unwrap_or_else(|| Decoded { json: b"null".to_vec(), attachments: Vec::new() });
                let answer = match kind {
                    kind::SOCKETS => Answer::Sockets(sockets.unwrap_or_default()),
                    kind::SERVER_SIDE_ANSWER => Answer::ServerSide(value),
                    kind::CLIENT_COUNT => Answer::ClientCount(client_count.unwrap_or_default()),
                    _ => Answer::Ack(value),
                };
                return Ok(Some(Said::Answered { uid: uid.unwrap_or_default(), id, answer }));
            }
            _ => return Ok(None),
        };
        Ok(Some(Said::Asked(Asked { uid, id, request })))
    }
}

fn json_event(packet: &RawValue) -> Result<(String, Decoded), Malformed> {
    let JsonPacket { kind, data } = serde_json::from_str(packet.get())?;
    if kind != EVENT {
        return malformed("a packet that is no event");
    }
    server_side::read(data.get(), Vec::new())
}

fn kind_of(message: &Bytes) -> Result<u8, Malformed> {
    let mut reader = Reader::new(message);
    for _ in 0..reader.map()? {
        if reader.text()? == "type" {
            let kind = reader.integer()?.and_then(|kind| u8::try_from(kind).ok());
            return kind.map_or_else(|| malformed("a type that is none"), Ok);
        }
        reader.skip()?;
    }
    malformed("a message without a type")
}
