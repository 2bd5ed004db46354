//! What holds for every parser, whatever the input: one function for each, shared by the seeded run of the tests and by the fuzz targets. Each takes bytes
//! apart into a script of its own, and panics where a property does not hold.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use wire::engine::{
    self, Context, Outbound, Output, Packet, Payload, Polls, Query, Received, Revision, Session, Settings,
};
use wire::json::{self, Envelope};
use wire::socketio::{self, Decoder, Kind};
use wire::{raw, ws};

/// What a check is for, and the check.
pub type Check = fn(&[u8]);

/// Every check, by the name of its seeds' folder and of its fuzz target.
#[allow(dead_code, reason = "a fuzz target names its check")]
pub const ALL: [(&str, Check); 4] =
    [("websocket", websocket), ("engine", engine), ("socket_io", socket_io), ("json", json)];

/// What a parser delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    Violation(u16),
}

/// WebSocket frames, compression included. The first byte says whether compression was agreed and how large a message may be,
/// the second how the rest is cut.
pub fn websocket(bytes: &[u8]) {
    let Some((&[how, cut], stream)) = bytes.split_first_chunk() else { return };
    let inflates = how & 1 != 0;
    let max_message = [0, 1, 125, 300, 1000, 4096, 65_536, 300_000][usize::from(how >> 5)];
    let whole = frames(inflates, max_message, stream, stream.len().max(1));
    let piece_len = 1 + usize::from(cut) % 64;
    assert_eq!(whole, frames(inflates, max_message, stream, piece_len), "cut into pieces of {piece_len}");
    assert_eq!(whole, frames(inflates, max_message, stream, 1), "cut into single bytes");

    let mut again = Vec::new();
    let mut deflated = Vec::new();
    let mut deflater = ws::Deflater::default();
    for seen in &whole {
        let frame = match seen {
            Seen::Text(text) => ws::text_frame(text.as_bytes()),
            Seen::Binary(data) => ws::binary_frame(data),
            Seen::Ping(data) => ws::ping_frame(data),
            Seen::Pong(data) => ws::pong_frame(data),
            Seen::Close(code, reason) => ws::close_frame(*code, reason),
            Seen::Violation(_) => continue,
        };
        again.extend(masked(&frame, cut));
        deflated.extend(masked(&deflater.frames(&frame, usize::from(cut)), cut));
    }
    let expected: Vec<Seen> = whole.iter().filter(|seen| !matches!(seen, Seen::Violation(_))).cloned().collect();
    assert_eq!(expected, frames(inflates, max_message, &again, piece_len), "what was read is written and read again");
    assert_eq!(expected, frames(true, max_message, &deflated, piece_len), "and compressed on the way");

    let text = String::from_utf8_lossy(stream);
    if let Some(agreed) = ws::Deflate::negotiate(&text) {
        assert_eq!(
            ws::Deflate::negotiate(&agreed.answer()),
            Some(agreed),
            "an answer is an offer that gets the same answer"
        );
    }
    let headers = ws::UpgradeHeaders {
        method: "GET",
        upgrade: Some("websocket"),
        connection: Some("upgrade"),
        version: Some("13"),
        key: Some(&text),
        protocols: None,
    };
    assert!(ws::check_upgrade(&headers).is_err() || text.trim().len() == 24, "a key is 16 bytes in base64");
}

fn frames(inflates: bool, max_message: usize, stream: &[u8], piece_len: usize) -> Vec<Seen> {
    let mut parser = if inflates { ws::Parser::inflating() } else { ws::Parser::default() };
    let mut feed = ws::Feed { max_message, inflater: &mut ws::Inflater::default() };
    let mut seen = Vec::new();
    for piece in stream.chunks(piece_len) {
        let fed = parser.feed(&mut piece.to_vec(), &mut feed, &mut |incoming| {
            let (item, len, max) = match incoming {
                ws::Incoming::Text(text) => (Seen::Text(text.to_owned()), text.len(), max_message),
                ws::Incoming::Binary(data) => (Seen::Binary(data.to_vec()), data.len(), max_message),
                ws::Incoming::Ping(data) => (Seen::Ping(data.to_vec()), data.len(), 125),
                ws::Incoming::Pong(data) => (Seen::Pong(data.to_vec()), data.len(), 125),
                ws::Incoming::Close { code, reason } => (Seen::Close(code, reason.to_owned()), reason.len(), 123),
            };
            assert!(len <= max, "{len} bytes are delivered where {max} are allowed");
            seen.push(item);
            ws::Flow::Continue
        });
        match fed {
            Ok(taken) => assert_eq!(taken, piece.len(), "everything is taken unless told to stop"),
            Err(violation) => {
                assert!([1002, 1007, 1009].contains(&violation.code), "{violation:?}");
                seen.push(Seen::Violation(violation.code));
                break;
            }
        }
    }
    assert!(seen.len() <= stream.len() / 6 + 1, "a client's frame has six bytes at least");
    seen
}

/// A frame of ours as a client would send it.
fn masked(frame: &[u8], seed: u8) -> Vec<u8> {
    let head = match frame[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    let mask = [seed, !seed, seed.rotate_left(3), 7];
    let mut out = frame[..head].to_vec();
    out[1] |= 0x80;
    out.extend(mask);
    out.extend(frame[head..].iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

/// Engine.IO packets, payloads and queries of both revisions, and sessions to which they come. The first byte says how the client polls.
pub fn engine(bytes: &[u8]) {
    let Some((how, bytes)) = bytes.split_first() else { return };
    let text = String::from_utf8_lossy(bytes);
    for parse in [Packet::parse, Packet::parse_3] {
        let Ok(packet) = parse(&text) else { continue };
        let mut written = Vec::new();
        packet.write(&mut written);
        let written = String::from_utf8(written).expect("packets are text");
        assert_eq!(Packet::parse(&written), Ok(packet), "what was read is written and read again");
    }
    for payload in [Payload::new(&text), Payload::counted(&text), Payload::bytes(bytes)] {
        let packets: Vec<_> = payload.collect();
        assert!(packets.len() <= text.len() + 1);
        assert!(packets.iter().rev().skip(1).all(Result::is_ok), "a reader stops at the first error");
        payload_again(&packets.into_iter().flatten().collect::<Vec<_>>());
    }
    assert!(Query::parse(&text).pairs().count() <= text.len());

    let settings = Settings { max_payload: 200, ..Settings::default() };
    let queries = ["EIO=4", "EIO=3", "EIO=3&b64=1", "EIO=3&j=0", "EIO=4&j=7"];
    let polls = Polls::of(&Query::parse(queries[usize::from(how >> 1) % queries.len()]));
    let binary = how & 1 != 0;
    let mut out = Vec::new();
    let whole = posted(&settings, polls.clone(), binary, [bytes].into_iter(), &mut out);
    if bytes.len() > settings.max_payload {
        assert!(whole.is_empty(), "a body over the bound is not looked at");
    } else if polls == Polls::default() && !binary && std::str::from_utf8(bytes).is_ok() {
        // A body that is no UTF-8 is refused as a whole, so only one that is may come in parts.
        let parts = bytes.split(|byte| *byte == engine::SEPARATOR as u8);
        let mut out_of_parts = Vec::new();
        assert_eq!(whole, posted(&settings, polls, false, parts, &mut out_of_parts), "a body in parts says the same");
        assert_eq!(out.contains(&Output::Forget), out_of_parts.contains(&Output::Forget));
    }

    for revision in [Revision::Three, Revision::Four] {
        let mut out = Vec::new();
        let mut context = Context { settings: &settings, now_ms: 0, out: &mut out };
        let mut session = Session::websocket(&settings, revision, 0);
        session.websocket_text(&text, &mut context);
        session.websocket_binary(bytes, &mut context);
        assert_eq!(out.contains(&Output::Forget), session.phase() == engine::Phase::Closed);
    }
}

/// Packets that were read are written, in each form that a client may have asked for, and read again as the same.
fn payload_again(packets: &[Packet<'_>]) {
    if packets.is_empty() {
        return;
    }
    let mut outbound = Vec::new();
    for packet in packets {
        let mut text = Vec::new();
        packet.write(&mut text);
        outbound.push(match packet {
            Packet::Binary(data) => Outbound::Binary(Bytes::copy_from_slice(data)),
            // Ours never hold the separator: it cannot stand in JSON.
            _ if text.contains(&(engine::SEPARATOR as u8)) => return,
            _ => Outbound::Text(text.into()),
        });
    }
    for query in ["EIO=4", "EIO=3", "EIO=3&b64=1"] {
        let polls = Polls::of(&Query::parse(query));
        let body = polls.body(&outbound);
        let read: Result<Vec<_>, _> = match body.binary {
            true => Payload::bytes(&body.bytes).collect(),
            false => polls.read(std::str::from_utf8(&body.bytes).expect("a payload of text is text")).collect(),
        };
        assert_eq!(read.as_deref(), Ok(packets), "a payload that is written is read again ({query})");
    }
}

/// The messages that come of these bodies, one POST each.
fn posted<'a>(
    settings: &Settings,
    polls: Polls,
    binary: bool,
    bodies: impl Iterator<Item = &'a [u8]>,
    out: &mut Vec<Output>,
) -> Vec<Vec<u8>> {
    let mut session = Session::polling(settings, polls, 0);
    let mut context = Context { settings, now_ms: 0, out };
    let mut messages = Vec::new();
    for body in bodies {
        if session.post_started(binary, &mut context).is_err() {
            break;
        }
        let Ok(mut post) = session.post_body(Bytes::copy_from_slice(body), binary, &context) else { break };
        while let Some(received) = session.next_message(&mut post, &mut context) {
            messages.push(match received {
                Received::Text(text) => [b"4", text.as_bytes()].concat(),
                Received::Binary(data) => [b"b", data.as_ref()].concat(),
            });
        }
    }
    let closed = session.phase() == engine::Phase::Closed;
    assert_eq!(context.out.contains(&Output::Forget), closed, "a session that is over is forgotten");
    messages
}

/// How large a Socket.IO packet with its attachments may be here.
const MAX_PACKET: usize = 300;

/// Socket.IO packets: texts and, where one begins with 0x01, attachments, with 0x1e in between.
pub fn socket_io(bytes: &[u8]) {
    let mut decoder = Decoder::default();
    let mut held = 0;
    for message in bytes.split(|byte| *byte == 0x1e) {
        let lossy = String::from_utf8_lossy(message);
        let decoded = match message.strip_prefix(b"\x01") {
            Some(data) => {
                held += data.len();
                decoder.binary(Cow::Borrowed(data), MAX_PACKET)
            }
            None => {
                held = lossy.len();
                decoder.text(&lossy, MAX_PACKET)
            }
        };
        match decoded {
            Ok(None) => assert!(held <= MAX_PACKET, "{held} bytes are held where {MAX_PACKET} are allowed"),
            Ok(Some(decoded)) => {
                assert!(held <= MAX_PACKET && decoded.attachments.len() == decoded.packet.attachments);
                assert!(decoded.packet.attachments <= socketio::MAX_ATTACHMENTS);
                written_again(&decoded.packet);
            }
            // A driver ends the session then.
            Err(error) => return assert!(!error.to_string().is_empty()),
        }
    }
}

/// What of a client's packet a server can say, it says in a way that is read as the same.
fn written_again(packet: &socketio::Packet<'_>) {
    let namespace = packet.namespace.as_ref();
    let event = packet.event();
    let outbound = match (packet.kind, &event, packet.ack_arguments()) {
        (Kind::Event | Kind::BinaryEvent, Some(event), _) => {
            assert!(event.iter().map(str::len).sum::<usize>() <= event.arguments.len());
            socketio::Outbound::Event {
                namespace,
                event: &event.name,
                arguments: event.arguments.as_bytes(),
                ack: packet.ack,
                attachments: packet.attachments,
                offset: None,
            }
        }
        (Kind::Ack | Kind::BinaryAck, _, Some(arguments)) => socketio::Outbound::Ack {
            namespace,
            ack: packet.ack.unwrap_or_default(),
            arguments: arguments.as_bytes(),
            attachments: packet.attachments,
        },
        (Kind::Disconnect, _, _) => socketio::Outbound::Disconnect { namespace },
        (Kind::Connect | Kind::ConnectError, _, _) => return,
        (Kind::Event | Kind::BinaryEvent | Kind::Ack | Kind::BinaryAck, _, _) => return,
    };
    let mut written = Vec::new();
    outbound.write(&mut written);
    let written = String::from_utf8(written).expect("packets are text");
    assert!(!written.contains('\u{1e}'), "nothing that we write breaks a polling payload: {written}");
    let read = socketio::parse(&written).expect("what we write can be read");
    assert_eq!((read.kind, &read.namespace, read.attachments), (packet.kind, &packet.namespace, packet.attachments));
    assert_eq!(read.event(), event);
    assert_eq!(read.ack_arguments(), packet.ack_arguments());
}

/// Messages of the plain JSON dialects, and the raw JSON below them and below rules.
pub fn json(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for envelope in [Envelope::Flat, Envelope::Data] {
        match json::parse(&text, envelope) {
            Ok(message) => {
                let data = message.data.unwrap_or_default();
                assert!(text.contains(data), "a payload is never written anew");
                let written = json::encode(envelope, &message.event, data.as_bytes());
                let written = std::str::from_utf8(&written).expect("text");
                let read = json::parse(written, envelope).expect("what we write can be read");
                assert_eq!(read.event, message.event);
                match envelope {
                    Envelope::Data => assert_eq!(read.data, message.data),
                    Envelope::Flat => assert_eq!(
                        json::encode(envelope, &read.event, read.data.unwrap_or_default().as_bytes()),
                        written,
                        "written twice is written once"
                    ),
                }
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        assert!(json::encode(envelope, &text, bytes).len() <= 32 + 7 * text.len() + bytes.len());
    }
    let within = |piece: &str| {
        let Range { start, end } = text.as_bytes().as_ptr_range();
        let piece = piece.as_bytes().as_ptr_range();
        start <= piece.start && piece.end <= end
    };
    assert!(raw::elements(&text).chain(raw::arguments(&text)).all(within), "elements are pieces of the text");
    assert!(raw::fields(&text).all(|field| within(field.key) && within(field.value)), "so are fields");
    if let Ok(checked) = raw::check(&text) {
        // A lone surrogate is JSON, and JavaScript writes it; a Rust string cannot hold it.
        let Ok(value) = serde_json::from_str::<serde_json::Value>(checked) else { return };
        match &value {
            serde_json::Value::Array(items) => {
                assert_eq!(raw::elements(checked).map(parsed).collect::<Vec<_>>(), *items);
            }
            serde_json::Value::Object(fields) => {
                // Of fields that came twice the last counts.
                for field in raw::fields(checked) {
                    let name = raw::unescape(field.key).map(Cow::into_owned);
                    assert!(name.is_none_or(|name| fields.contains_key(&name)));
                }
            }
            serde_json::Value::String(string) => assert_eq!(raw::unescape(checked).as_deref(), Some(string.as_str())),
            serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {}
        }
    }
}

fn parsed(text: &str) -> serde_json::Value {
    serde_json::from_str(text).expect("an element of checked JSON is JSON")
}
