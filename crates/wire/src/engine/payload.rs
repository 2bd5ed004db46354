//! The bodies of polls, in each way that a session may have asked for: packets joined by 0x1e (revision 4), behind their lengths
//! (revision 3), or either within a script (JSONP). Knows no session.

use std::borrow::Cow;

use bytes::Bytes;

use super::packet::write_binary;
use super::{Outbound, Packet, PacketError, Query, Revision, counted, jsonp};

/// Stands between the packets of a polling payload of revision 4.
pub const SEPARATOR: char = '\u{1e}';

/// How a session's polls are written and read. Fixed by the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Polls {
    form: Form,
    /// The number of the callback, where polls are scripts.
    callback: Option<Box<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Separated,
    /// Revision 3. A payload with a binary packet is bytes, unless the client can take text alone.
    Counted {
        text_alone: bool,
    },
}

/// The body of an answer to a GET.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PollBody {
    /// The bytes.
    pub bytes: Bytes,
    /// Whether they are `application/octet-stream`, else `text/plain; charset=UTF-8`.
    pub binary: bool,
}

/// Revision 4, as the clients of today poll.
impl Default for Polls {
    fn default() -> Self {
        Self { form: Form::Separated, callback: None }
    }
}

impl Polls {
    /// As the parameters of a handshake ask for it: `EIO`, `b64` and `j`.
    pub fn of(query: &Query<'_>) -> Self {
        let callback = jsonp::callback(query);
        let form = match query.revision() {
            Revision::Four => Form::Separated,
            Revision::Three => Form::Counted {
                text_alone: callback.is_some() || query.value("b64").is_some_and(|value| !value.is_empty()),
            },
        };
        Self { form, callback }
    }

    /// The revision of these polls.
    pub fn revision(&self) -> Revision {
        match self.form {
            Form::Separated => Revision::Four,
            Form::Counted { .. } => Revision::Three,
        }
    }

    /// The body that carries these packets.
    pub fn body<'a>(&self, packets: impl IntoIterator<Item = &'a Outbound, IntoIter: Clone>) -> PollBody {
        let packets = packets.into_iter();
        let mut out = Vec::with_capacity(packets.clone().map(|packet| 1 + self.len_at_most(packet)).sum());
        let mut binary = false;
        match self.form {
            Form::Separated => write_separated(packets, &mut out),
            Form::Counted { text_alone } => {
                binary = !text_alone && packets.clone().any(|packet| matches!(packet, Outbound::Binary(_)));
                if binary { counted::write_bytes(packets, &mut out) } else { counted::write_text(packets, &mut out) }
            }
        }
        if let Some(callback) = &self.callback {
            out = jsonp::script(callback, &out);
        }
        PollBody { bytes: out.into(), binary }
    }

    /// The body that carries packets of our own, which are text.
    pub fn control(&self, packets: &[&'static str]) -> PollBody {
        let packets: Vec<Outbound> =
            packets.iter().map(|packet| Outbound::Text(Bytes::from_static(packet.as_bytes()))).collect();
        self.body(&packets)
    }

    /// The most bytes that a packet takes in a payload, without a separator and what a script adds.
    pub(super) fn len_at_most(&self, packet: &Outbound) -> usize {
        match self.form {
            Form::Separated => packet.polling_len(),
            Form::Counted { .. } => counted::len_at_most(packet),
        }
    }

    /// The payload in the body of a POST: the body itself, or the field of a form. Nothing where a form has no such field.
    pub fn posted<'a>(&self, body: &'a str) -> Option<Cow<'a, str>> {
        match &self.callback {
            Some(_) => jsonp::form_payload(body).map(Cow::Owned),
            None => Some(Cow::Borrowed(body)),
        }
    }

    /// Reads a payload of text.
    pub fn read<'a>(&self, payload: &'a str) -> Payload<'a> {
        match self.form {
            Form::Separated => Payload::new(payload),
            Form::Counted { .. } => Payload::counted(payload),
        }
    }
}

/// The packets of a polling payload, one after the other. The reader stops at the first error. An empty payload of text is an error, and so
/// is a separator at its end.
///
/// A payload has no more packets than bytes, so the bound on the body is the bound on their number.
#[derive(Clone, Debug)]
pub struct Payload<'a> {
    rest: Rest<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Rest<'a> {
    Separated(&'a str),
    Counted(&'a str),
    Bytes(&'a [u8]),
    None,
}

impl<'a> Payload<'a> {
    /// A reader of a payload of revision 4.
    pub fn new(text: &'a str) -> Self {
        Self { rest: Rest::Separated(text) }
    }

    /// A reader of a payload of revision 3 that is text.
    pub fn counted(text: &'a str) -> Self {
        Self { rest: Rest::Counted(text) }
    }

    /// A reader of a payload of revision 3 that is bytes.
    pub fn bytes(bytes: &'a [u8]) -> Self {
        Self { rest: if bytes.is_empty() { Rest::None } else { Rest::Bytes(bytes) } }
    }

    /// How many bytes at the end of the payload are not read yet; none once it is used up.
    pub fn unread(&self) -> Option<usize> {
        match self.rest {
            Rest::Separated(text) | Rest::Counted(text) => Some(text.len()),
            Rest::Bytes(bytes) => Some(bytes.len()),
            Rest::None => None,
        }
    }
}

impl<'a> Iterator for Payload<'a> {
    type Item = Result<Packet<'a>, PacketError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            return match std::mem::replace(&mut self.rest, Rest::None) {
                Rest::None => None,
                Rest::Separated(text) => {
                    let (first, rest) = match text.split_once(SEPARATOR) {
                        Some((first, rest)) => (first, Rest::Separated(rest)),
                        None => (text, Rest::None),
                    };
                    let packet = Packet::parse(first);
                    if packet.is_ok() {
                        self.rest = rest;
                    }
                    Some(packet)
                }
                Rest::Counted(text) => match counted::split_text(text) {
                    Ok((packet, rest)) => {
                        self.rest = if rest.is_empty() { Rest::None } else { Rest::Counted(rest) };
                        match packet {
                            Some(packet) => Some(Ok(packet)),
                            None => continue,
                        }
                    }
                    Err(error) => Some(Err(error)),
                },
                Rest::Bytes(bytes) => match counted::split_bytes(bytes) {
                    Ok((packet, rest)) => {
                        self.rest = if rest.is_empty() { Rest::None } else { Rest::Bytes(rest) };
                        Some(Ok(packet))
                    }
                    Err(error) => Some(Err(error)),
                },
            };
        }
    }
}

fn write_separated<'a>(packets: impl Iterator<Item = &'a Outbound>, out: &mut Vec<u8>) {
    for (index, packet) in packets.enumerate() {
        if index > 0 {
            out.push(SEPARATOR as u8);
        }
        match packet {
            Outbound::Text(text) => out.extend_from_slice(text),
            Outbound::Binary(data) => write_binary(data, out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(text: &'static str) -> Outbound {
        Outbound::Text(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn a_payload_is_packets_and_separators() {
        let read = |text| Payload::new(text).collect::<Vec<_>>();
        assert_eq!(
            read("4a\u{1e}2\u{1e}bAQ=="),
            [Ok(Packet::Message("a")), Ok(Packet::Ping("")), Ok(Packet::Binary(vec![1].into()))]
        );
        assert_eq!(read(""), [Err(PacketError::Empty)]);
        assert_eq!(read("4a\u{1e}"), [Ok(Packet::Message("a")), Err(PacketError::Empty)]);
        assert_eq!(read("4a\u{1e}7\u{1e}4b"), [Ok(Packet::Message("a")), Err(PacketError::UnknownType)]);
    }

    #[test]
    fn a_body_is_written_as_the_handshake_asked() {
        let check = |query, expected: &[u8], binary| {
            let packets = [text("4é"), Outbound::Binary(Bytes::from_static(&[1])), text("2")];
            let body = Polls::of(&Query::parse(query)).body(&packets);
            assert_eq!((body.bytes.as_ref(), body.binary), (expected, binary), "{query}");
        };
        check("EIO=4", "4é\u{1e}bAQ==\u{1e}2".as_bytes(), false);
        check("EIO=4&b64=1", "4é\u{1e}bAQ==\u{1e}2".as_bytes(), false);
        check("EIO=3&b64=1", "2:4é6:b4AQ==1:2".as_bytes(), false);
        check("EIO=3", b"\x00\x03\xff4\xc3\xa9\x01\x02\xff\x04\x01\x00\x01\xff2", true);
        check("", b"\x00\x03\xff4\xc3\xa9\x01\x02\xff\x04\x01\x00\x01\xff2", true);
        check("EIO=3&j=2", "___eio[2](\"2:4é6:b4AQ==1:2\");".as_bytes(), false);
        check("EIO=4&j=2", "___eio[2](\"4é\\u001ebAQ==\\u001e2\");".as_bytes(), false);
        assert_eq!(Polls::of(&Query::parse("EIO=3")).control(&["6", "1"]).bytes, "1:61:1");
        assert_eq!(Polls::default().control(&["6", "1"]).bytes, "6\u{1e}1");
    }

    #[test]
    fn a_form_is_read_where_polls_are_scripts() {
        let posted = |query, body| Polls::of(&Query::parse(query)).posted(body).map(Cow::into_owned);
        assert_eq!(posted("EIO=4&j=0", "d=4a%1e4b"), Some("4a\u{1e}4b".to_owned()));
        assert_eq!(posted("EIO=4&j=0", "4a"), None);
        assert_eq!(posted("EIO=4", "d=4a"), Some("d=4a".to_owned()));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(messages in prop::collection::vec((any::<bool>(), "[^\u{1e}]{0,20}"), 1..6)) {
            let packets: Vec<Outbound> = messages.iter().map(|(text, data)| match text {
                true => Outbound::Text(format!("4{data}").into()),
                false => Outbound::Binary(data.clone().into()),
            }).collect();
            let payload = Polls::default().body(&packets).bytes;
            let text = std::str::from_utf8(&payload).expect("UTF-8");
            prop_assert_eq!(text.len(), packets.iter().map(Outbound::polling_len).sum::<usize>() + packets.len() - 1);
            let expected: Vec<_> = messages.iter().map(|(text, data)| Ok(match text {
                true => Packet::Message(data),
                false => Packet::Binary(data.as_bytes().into()),
            })).collect();
            prop_assert_eq!(Payload::new(text).collect::<Vec<_>>(), expected);
        }

        #[test]
        fn no_payload_panics(text in "[0-9b\u{1e}A=é]{0,40}|.{0,40}") {
            prop_assert!(Payload::new(&text).count() <= text.len() + 1);
        }
    }
}
