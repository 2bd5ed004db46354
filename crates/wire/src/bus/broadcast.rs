//! Events on the bus: one message for everyone who has a member of the event's rooms, in the classic format `[uid, packet, opts]`
//! of `@socket.io/redis-adapter`, which `socket.io-redis` and the emitters share.

use bytes::Bytes;

use super::decode::{Decoded, Malformed, Reader, malformed};
use super::encode::Writer;
/// The type of an event's packet; binary stays within it.
const EVENT: u64 = 2;

/// The flag that has an event's number.
pub(super) const NUMBER: &str = "number";

/// For whom something is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// Members of one of these rooms; everyone where there is none.
    pub rooms: Vec<String>,
    /// But for members of these.
    pub except: Vec<String>,
}

/// An event to be published.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// The member of the cluster that publishes it.
    pub uid: &'a str,
    /// The namespace.
    pub namespace: &'a str,
    /// Its name.
    pub event: &'a str,
    /// The JSON of the arguments, checked, joined by commas.
    pub arguments: &'a str,
    /// What placeholders in them stand for.
    pub attachments: &'a [Bytes],
    /// For whom it is.
    pub scope: &'a Scope,
    /// Who cannot take it at once need not get it.
    pub volatile: bool,
    /// Its number among the events of this member, by which others know a repeat. Node's adapters pass over flags that they do not know.
    pub number: Option<u64>,
}

impl Outgoing<'_> {
    /// The channel that it is published on, behind the prefix: that of its room where there is one alone.
    pub fn channel(&self, prefix: &str) -> String {
        match self.scope.rooms.as_slice() {
            [room] => [prefix, "#", self.namespace, "#", room, "#"].concat(),
            _ => base_channel(prefix, self.namespace),
        }
    }

    /// The message.
    ///
    /// # Errors
    /// The arguments are nested too deeply, or lack an attachment.
    pub fn message(&self) -> Result<Bytes, serde_json::Error> {
        let mut out = Writer::with_room_for(self.size());
        out.array(3);
        out.text(self.uid);
        out.map(3);
        out.text("type");
        out.unsigned(EVENT);
        out.text("data");
        out.event(self.event, self.arguments, self.attachments)?;
        out.text("nsp");
        out.text(self.namespace);
        write_options(&mut out, self.scope, |out| self.write_flags(out));
        Ok(out.into_bytes())
    }

    /// Bytes that the message has, about.
    fn size(&self) -> usize {
        let Scope { rooms, except } = self.scope;
        let names = rooms.iter().chain(except).map(String::len).sum::<usize>();
        self.arguments.len() + self.attachments.iter().map(Bytes::len).sum::<usize>() + names + self.event.len()
    }

    pub(super) fn write_flags(&self, out: &mut Writer) {
        out.map(usize::from(self.volatile) + usize::from(self.number.is_some()));
        if self.volatile {
            out.text("volatile");
            out.boolean(true);
        }
        if let Some(number) = self.number {
            out.text(NUMBER);
            out.unsigned(number);
        }
    }
}

pub(super) fn write_options(out: &mut Writer, scope: &Scope, flags: impl FnOnce(&mut Writer)) {
    out.map(3);
    out.text("rooms");
    out.texts(scope.rooms.iter().map(String::as_str));
    out.text("except");
    out.texts(scope.except.iter().map(String::as_str));
    out.text("flags");
    flags(out);
}

/// An event of another member's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// Who published it.
    pub uid: String,
    /// The namespace.
    pub namespace: String,
    /// Its name.
    pub event: String,
    /// Its arguments, joined by commas.
    pub arguments: Decoded,
    /// For whom it is.
    pub scope: Scope,
    /// Who cannot take it at once need not get it.
    pub volatile: bool,
    /// Its number among the events of the member that published it, where that is a gateway.
    pub number: Option<u64>,
}

/// Reads a message of a broadcast channel; `None` for one of our own, which is not read to its end.
///
/// # Errors
/// It is no event.
pub fn read(message: &Bytes, own_uid: &str) -> Result<Option<Incoming>, Malformed> {
    let mut reader = Reader::new(message);
    let parts = reader.array()?;
    if parts < 2 {
        return malformed("no packet");
    }
    let uid = reader.text()?;
    if uid == own_uid {
        return Ok(None);
    }
    let packet = read_packet(&mut reader)?;
    let options = if parts > 2 { read_options(&mut reader)? } else { Options::default() };
    (3..parts).try_for_each(|_| reader.skip())?;
    reader.end()?;
    let Options { scope, volatile, number } = options;
    let Packet { namespace, event, arguments } = packet;
    Ok(Some(Incoming { uid, namespace, event, arguments, scope, volatile, number }))
}

/// An event's packet.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) namespace: String,
    pub(super) event: String,
    pub(super) arguments: Decoded,
}

pub(super) fn read_packet(reader: &mut Reader<'_>) -> Result<Packet, Malformed> {
    let (mut kind, mut namespace, mut data) = (None, None, None);
    for _ in 0..reader.map()? {
        match reader.text()?.as_str() {
            "type" => kind = reader.integer()?,
            "nsp" => namespace = Some(reader.text()?),
            "data" => data = Some(read_event(reader)?),
            _ => reader.skip()?,
        }
    }
    if kind != Some(EVENT.into()) {
        return malformed("a packet that is no event");
    }
    let Some((event, arguments)) = data else { return malformed("an event without data") };
    Ok(Packet { namespace: namespace.unwrap_or_else(|| "/".to_owned()), event, arguments })
}

/// `[name, ...arguments]`.
pub(super) fn read_event(reader: &mut Reader<'_>) -> Result<(String, Decoded), Malformed> {
    let len = reader.array()?;
    if len == 0 {
        return malformed("an event without a name");
    }
    let event = reader.name()?;
    let mut arguments = Decoded::default();
    for index in 1..len {
        if index > 1 {
            arguments.json.push(b',');
        }
        reader.json(&mut arguments)?;
    }
    Ok((event, arguments))
}

#[derive(Debug, Clone, Default)]
pub(super) struct Options {
    pub(super) scope: Scope,
    pub(super) volatile: bool,
    pub(super) number: Option<u64>,
}

pub(super) fn read_options(reader: &mut Reader<'_>) -> Result<Options, Malformed> {
    let mut options = Options::default();
    for _ in 0..reader.map()? {
        match reader.text()?.as_str() {
            "rooms" => options.scope.rooms = reader.names()?,
            "except" => options.scope.except = reader.names()?,
            "flags" => {
                for _ in 0..reader.map()? {
                    match reader.text()?.as_str() {
                        "volatile" => options.volatile = reader.is_true()?,
                        NUMBER => options.number = reader.integer()?.and_then(|number| number.try_into().ok()),
                        _ => reader.skip()?,
                    }
                }
            }
            _ => reader.skip()?,
        }
    }
    Ok(options)
}

/// The channel for everyone in a namespace. Those of its rooms begin with it.
pub fn base_channel(prefix: &str, namespace: &str) -> String {
    [prefix, "#", namespace, "#"].concat()
}

/// The room that a channel of this base is for, where it is for one alone; told without a look at the message. `None` for a channel of another base.
pub fn room_of<'a>(channel: &'a str, base: &str) -> Option<Option<&'a str>> {
    let rest = channel.strip_prefix(base)?;
    Some(rest.strip_suffix('#'))
}

/// Whether a message is this member's own, told by its first bytes: the format has each member hear what it publishes.
pub fn is_own(message: &[u8], uid: &str) -> bool {
    // An array of three, which begins with a short text.
    let head = [0x93, 0xa0 | uid.len() as u8];
    uid.len() < 32 && message.strip_prefix(&head).is_some_and(|rest| rest.starts_with(uid.as_bytes()))
}

#[cfg(test)]
mod tests;
