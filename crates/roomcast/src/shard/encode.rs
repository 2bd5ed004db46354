//! Events, answers and errors as the bytes of each encoding. Pure; the only place where the hub's words meet the wire's. What is
//! compressed is encoded here as what is not: the write path makes frames smaller.

use bytes::Bytes;
use hub::codes::ErrorCode;
use hub::emission::Payload;
use hub::names::EventName;
use wire::engine::{MESSAGE_BYTE, Outbound as EnginePacket};
use wire::json::Envelope;
use wire::socketio::Outbound;
use wire::ws;

use super::slots::Encoding;
use crate::embed::Message;

/// An event.
pub fn event(encoding: Encoding, namespace: &str, event: &EventName, payload: &Payload, ack: Option<u64>) -> Bytes {
    named_event(encoding, namespace, event.as_str(), payload, ack)
}

/// A message of a program's, on Engine.IO.
pub fn message(encoding: Encoding, message: Message) -> Bytes {
    match (encoding, message) {
        (Encoding::Polling, Message::Text(text)) => [b"4", text.as_bytes()].concat().into(),
        (Encoding::Polling, Message::Binary(data)) => pack(Bytes::new(), &[data]),
        (
            Encoding::SocketIo
            | Encoding::SocketIo3
            | Encoding::Flat
            | Encoding::Data
            | Encoding::SocketIoDeflated
            | Encoding::FlatDeflated
            | Encoding::DataDeflated,
            message,
        ) => match message {
            Message::Text(text) => ws::text_frame(&[b"4", text.as_bytes()].concat()),
            Message::Binary(data) if encoding == Encoding::SocketIo3 => ws::binary_frame(&typed(&data)),
            Message::Binary(data) => ws::binary_frame(&data),
        },
    }
}

/// An event of the gateway's own.
pub fn own_event(encoding: Encoding, namespace: &str, event: &str, json: String) -> Bytes {
    named_event(encoding, namespace, event, &Payload::json(json), None)
}

fn named_event(encoding: Encoding, namespace: &str, event: &str, payload: &Payload, ack: Option<u64>) -> Bytes {
    let attachments = payload.attachments.len();
    let packet = Outbound::Event { namespace, event, arguments: &payload.json, ack, attachments, offset: None };
    match encoding {
        Encoding::SocketIo | Encoding::SocketIo3 | Encoding::SocketIoDeflated | Encoding::Polling => {
            socket_io(encoding, &packet, &payload.attachments)
        }
        Encoding::Flat | Encoding::FlatDeflated => {
            ws::text_frame(&wire::json::encode(Envelope::Flat, event, &payload.json))
        }
        Encoding::Data | Encoding::DataDeflated => {
            ws::text_frame(&wire::json::encode(Envelope::Data, event, &payload.json))
        }
    }
}

/// A Socket.IO packet with its attachments.
pub fn socket_io(encoding: Encoding, packet: &Outbound<'_>, attachments: &[Bytes]) -> Bytes {
    match encoding {
        Encoding::Polling => pack(packet.message(), attachments),
        Encoding::SocketIo3 if !attachments.is_empty() => {
            let typed: Vec<Bytes> = attachments.iter().map(|attachment| typed(attachment)).collect();
            ws::event_frames(&packet.message(), &typed)
        }
        Encoding::SocketIo
        | Encoding::SocketIo3
        | Encoding::Flat
        | Encoding::Data
        | Encoding::SocketIoDeflated
        | Encoding::FlatDeflated
        | Encoding::DataDeflated => match attachments {
            [] => ws::text_frame_of(packet.size_hint(), |out| packet.write_message(out)),
            attachments => ws::event_frames(&packet.message(), attachments),
        },
    }
}

/// A packet of a polling session as a WebSocket frame, for the session that moves to one.
pub fn packet_frame(encoding: Encoding, packet: &EnginePacket) -> Bytes {
    match packet {
        EnginePacket::Text(text) => ws::text_frame(text),
        EnginePacket::Binary(data) if encoding == Encoding::SocketIo3 => ws::binary_frame(&typed(data)),
        EnginePacket::Binary(data) => ws::binary_frame(data),
    }
}

/// A binary message of Engine.IO 3 behind the byte of its type.
fn typed(data: &[u8]) -> Bytes {
    [&[MESSAGE_BYTE], data].concat().into()
}

/// What stands in an answer that says what went wrong.
pub fn ack_error(code: ErrorCode, message: &str, message_id: Option<&str>) -> String {
    error_object("error", code, message, message_id)
}

/// What stands in an `error` event.
pub fn error_event(code: ErrorCode, message: &str, message_id: Option<&str>) -> String {
    error_object("message", code, message, message_id)
}

fn error_object(key: &str, code: ErrorCode, message: &str, message_id: Option<&str>) -> String {
    let mut object = serde_json::Map::new();
    object.insert(key.to_owned(), message.into());
    object.insert("code".to_owned(), code.as_str().into());
    if let Some(id) = message_id {
        object.insert("messageId".to_owned(), id.into());
    }
    serde_json::Value::Object(object).to_string()
}

/// Marks a packet with attachments among the frames of polling sessions: no packet begins with it.
const PACKED: u8 = 0;

/// A packet for a polling session as one frame, since an event is one entry wherever it waits: the packet's text or, with attachments,
/// a mark and each part behind its length; an empty text stands for none.
fn pack(text: Bytes, attachments: &[Bytes]) -> Bytes {
    if attachments.is_empty() {
        return text;
    }
    let mut packed = vec![PACKED];
    for part in std::iter::once(&text).chain(attachments) {
        packed.extend_from_slice(&(part.len() as u32).to_be_bytes());
        packed.extend_from_slice(part);
    }
    packed.into()
}

/// The packets of such a frame.
pub fn unpack(frame: Bytes) -> Vec<EnginePacket> {
    if frame.first() != Some(&PACKED) {
        return vec![EnginePacket::Text(frame)];
    }
    let mut packets = Vec::new();
    let mut at = 1;
    while let Some(length) = frame.get(at..at + 4) {
        let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
        let part = frame.slice(at + 4..at + 4 + length);
        match at {
            1 if part.is_empty() => {}
            1 => packets.push(EnginePacket::Text(part)),
            _ => packets.push(EnginePacket::Binary(part)),
        }
        at += 4 + length;
    }
    packets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_frames_of_engine_io_3_begin_with_their_type() {
        let payload = Payload { json: Bytes::from_static(b"{}"), attachments: [Bytes::from_static(b"ab")].into() };
        let event = EventName::parse("e").expect("a name");
        let frames = |encoding| super::event(encoding, "/", &event, &payload, None);
        assert!(frames(Encoding::SocketIo).ends_with(b"\x82\x02ab"));
        assert!(frames(Encoding::SocketIo3).ends_with(b"\x82\x03\x04ab"));
        let packet = EnginePacket::Binary(Bytes::from_static(b"ab"));
        assert_eq!(packet_frame(Encoding::SocketIo3, &packet), b"\x82\x03\x04ab".as_slice());
        assert_eq!(packet_frame(Encoding::SocketIo, &packet), b"\x82\x02ab".as_slice());
    }

    #[test]
    fn a_packet_with_attachments_is_one_frame_on_its_way_to_a_poll() {
        let attachments = [Bytes::from_static(b"\x00\x01"), Bytes::new()];
        let text =
            Bytes::from_static(b"452-[\"e\",{\"_placeholder\":true,\"num\":0},{\"_placeholder\":true,\"num\":1}]");
        let expected = [
            EnginePacket::Text(text.clone()),
            EnginePacket::Binary(attachments[0].clone()),
            EnginePacket::Binary(Bytes::new()),
        ];
        assert_eq!(unpack(pack(text.clone(), &attachments)), expected);
        assert_eq!(unpack(pack(text.clone(), &[])), [EnginePacket::Text(text)]);
    }

    proptest::proptest! {
        #[test]
        fn what_is_packed_is_unpacked(text in "4[^\0]{0,40}", attachments: Vec<Vec<u8>>) {
            let attachments: Vec<Bytes> = attachments.into_iter().map(Bytes::from).collect();
            let text = Bytes::from(text);
            let mut expected = vec![EnginePacket::Text(text.clone())];
            expected.extend(attachments.iter().cloned().map(EnginePacket::Binary));
            proptest::prop_assert_eq!(unpack(pack(text, &attachments)), expected);
        }
    }
}
