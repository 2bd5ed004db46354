//! What clients of each kind say, and what they make of what they hear. Pure: messages in, messages out; knows no frames and no sockets.
//!
//! The commands `join`, `leave`, `say` and `echo` are those of the benchmark servers in `bench/`; any gateway that offers the same can be loaded.

use std::io::Write;

use clap::ValueEnum;

use crate::check::{PLAIN_SHAPE, ROOM_PREFIX, Shape};
use crate::{frames, source};

/// The protocol that the clients speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Dialect {
    /// Socket.IO over WebSocket
    #[value(name = "socket.io")]
    SocketIo,
    /// Socket.IO over WebSocket, as the clients of the profile `hometrip` speak it: conversations and new messages
    #[value(name = "hometrip")]
    HomeTrip,
    /// Socket.IO over long-polling
    Polling,
    /// Plain JSON over WebSocket: {"type":"join","room":"r0"}
    Plain,
    /// Centrifuge's JSON protocol over WebSocket
    Centrifuge,
    /// The records of `roomcast-limit serve`
    Bare,
}

/// What a message of the server's means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// The transport is there: the client may say who it is.
    Open,
    /// The client is in.
    Entered,
    /// The server does not let it in, or refuses what it asked for.
    Refused,
    /// To be answered at once.
    Ping,
    /// The answer to a join.
    Joined,
    /// The answer to a leave.
    Left,
    /// The answer to an echo: to be checked.
    Echoed,
    /// An event of a room: to be checked.
    Event,
    /// Of no interest.
    Other,
    /// None of the protocol's.
    Unknown,
}

impl Dialect {
    /// What a run's results call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::SocketIo => "socket.io",
            Self::HomeTrip => "hometrip",
            Self::Polling => "polling",
            Self::Plain => "plain",
            Self::Centrifuge => "centrifuge",
            Self::Bare => "bare",
        }
    }

    /// Where its events carry what is checked.
    pub fn shape(self) -> Shape {
        match self {
            Self::HomeTrip => source::SHAPE,
            Self::SocketIo | Self::Polling | Self::Plain | Self::Centrifuge | Self::Bare => PLAIN_SHAPE,
        }
    }

    /// Where its servers answer, if the URL does not say.
    pub fn path(self) -> &'static str {
        match self {
            Self::SocketIo | Self::HomeTrip | Self::Polling => "/socket.io/",
            Self::Plain => "/ws",
            Self::Centrifuge => "/connection/websocket",
            Self::Bare => "/",
        }
    }

    /// The query of the handshake.
    pub fn query(self, token: Option<&str>) -> String {
        match (self, token) {
            (Self::SocketIo | Self::HomeTrip, _) => "?EIO=4&transport=websocket".into(),
            (Self::Polling, _) => "?EIO=4&transport=polling".into(),
            (Self::Plain, Some(token)) => format!("?token={token}"),
            (Self::Plain, None) | (Self::Centrifuge | Self::Bare, _) => String::new(),
        }
    }

    /// Whether the client speaks first once the transport is there; else it waits for `Heard::Open`.
    pub fn speaks_first(self) -> bool {
        match self {
            Self::Centrifuge => true,
            Self::SocketIo | Self::HomeTrip | Self::Polling | Self::Plain | Self::Bare => false,
        }
    }

    /// Says who the client is.
    pub fn write_hello(self, out: &mut Vec<u8>, token: Option<&str>) {
        match (self, token) {
            (Self::SocketIo | Self::HomeTrip | Self::Polling, Some(token)) => {
                put(out, format_args!(r#"40{{"token":"{token}"}}"#))
            }
            (Self::SocketIo | Self::HomeTrip | Self::Polling, None) => put(out, format_args!("40")),
            (Self::Centrifuge, Some(token)) => put(out, format_args!(r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#)),
            (Self::Centrifuge, None) => put(out, format_args!(r#"{{"id":1,"connect":{{}}}}"#)),
            (Self::Plain | Self::Bare, _) => {}
        }
    }

    /// Answers a ping.
    pub fn write_pong(self, out: &mut Vec<u8>) {
        match self {
            Self::SocketIo | Self::HomeTrip | Self::Polling => out.push(b'3'),
            Self::Centrifuge => out.extend_from_slice(b"{}"),
            Self::Plain | Self::Bare => {}
        }
    }

    /// Asks to be let into a room.
    pub fn write_join(self, out: &mut Vec<u8>, room: u32) {
        let name = format_args!("{ROOM_PREFIX}{room}");
        match self {
            Self::HomeTrip => {
                put(out, format_args!(r#"421["join_room",{{"roomType":"conversation","roomId":"{name}"}}]"#));
            }
            Self::SocketIo | Self::Polling => put(out, format_args!(r#"421["join",{{"room":"{name}"}}]"#)),
            Self::Plain => put(out, format_args!(r#"{{"type":"join","room":"{name}"}}"#)),
            Self::Centrifuge => put(out, format_args!(r#"{{"id":2,"subscribe":{{"channel":"{name}"}}}}"#)),
            Self::Bare => {
                out.push(b'J');
                out.extend_from_slice(&room.to_le_bytes());
            }
        }
    }

    /// Asks to be let out of it.
    pub fn write_leave(self, out: &mut Vec<u8>, room: u32) {
        let name = format_args!("{ROOM_PREFIX}{room}");
        match self {
            Self::HomeTrip => {
                put(out, format_args!(r#"422["leave_room",{{"roomType":"conversation","roomId":"{name}"}}]"#));
            }
            Self::SocketIo | Self::Polling => put(out, format_args!(r#"422["leave",{{"room":"{name}"}}]"#)),
            Self::Plain => put(out, format_args!(r#"{{"type":"leave","room":"{name}"}}"#)),
            Self::Centrifuge => put(out, format_args!(r#"{{"id":3,"unsubscribe":{{"channel":"{name}"}}}}"#)),
            Self::Bare => {
                out.push(b'L');
                out.extend_from_slice(&room.to_le_bytes());
            }
        }
    }

    /// Says something to everyone in a room.
    pub fn write_say(self, out: &mut Vec<u8>, room: u32, data: &str) {
        let name = format_args!("{ROOM_PREFIX}{room}");
        match self {
            Self::SocketIo | Self::HomeTrip | Self::Polling => {
                put(out, format_args!(r#"42["say",{{"room":"{name}","data":"{data}"}}]"#));
            }
            Self::Plain => put(out, format_args!(r#"{{"type":"say","room":"{name}","data":"{data}"}}"#)),
            Self::Centrifuge => put(
                out,
                format_args!(
                    r#"{{"id":5,"publish":{{"channel":"{name}","data":{{"room":"{name}","data":"{data}"}}}}}}"#
                ),
            ),
            Self::Bare => {
                out.push(b'S');
                out.extend_from_slice(&room.to_le_bytes());
                write_record(out, &format!(r#"42["message",{{"room":"{name}","data":"{data}"}}]"#));
            }
        }
    }

    /// Asks for the same back. The answer is checked as an event of the client's own.
    pub fn write_echo(self, out: &mut Vec<u8>, data: &str) {
        match self {
            Self::SocketIo | Self::HomeTrip | Self::Polling => {
                put(out, format_args!(r#"423["echo",{{"data":"{data}"}}]"#))
            }
            Self::Plain => put(out, format_args!(r#"{{"type":"echo","data":"{data}"}}"#)),
            Self::Centrifuge => {
                put(out, format_args!(r#"{{"id":4,"rpc":{{"method":"echo","data":{{"data":"{data}"}}}}}}"#));
            }
            Self::Bare => {
                out.push(b'E');
                write_record(out, &format!(r#"433[{{"data":"{data}"}}]"#));
            }
        }
    }

    /// What a message means.
    #[inline]
    pub fn hear(self, message: &[u8]) -> Heard {
        match self {
            Self::SocketIo | Self::HomeTrip | Self::Polling | Self::Bare => socket_io(message),
            Self::Plain => plain(message),
            Self::Centrifuge => centrifuge(message),
        }
    }
}

fn socket_io(message: &[u8]) -> Heard {
    match message {
        [b'4', b'2', rest @ ..] if rest.starts_with(b"[\"message\"") => Heard::Event,
        [b'4', b'2', rest @ ..] if rest.starts_with(b"[\"new_message\"") => Heard::Event,
        [b'4', b'2', rest @ ..] if rest.starts_with(b"[\"connected\"") => Heard::Entered,
        [b'4', b'3', b'1', b'[', rest @ ..] if succeeded(rest) => Heard::Joined,
        [b'4', b'3', b'2', b'[', rest @ ..] if succeeded(rest) => Heard::Left,
        [b'4', b'3', b'1' | b'2', b'[', ..] | [b'4', b'4', ..] | [b'4', b'1', ..] => Heard::Refused,
        [b'4', b'3', b'3', b'[', ..] => Heard::Echoed,
        [b'2'] => Heard::Ping,
        [b'0', b'{', ..] => Heard::Open,
        [b'4', b'0' | b'2', ..] | [b'6', ..] => Heard::Other,
        _ => Heard::Unknown,
    }
}

fn succeeded(answer: &[u8]) -> bool {
    memchr::memmem::find(answer, br#""success":true"#).is_some()
}

fn plain(message: &[u8]) -> Heard {
    let Some(kind) = message.strip_prefix(br#"{"type":""#) else { return Heard::Unknown };
    let kind = kind.split(|byte| *byte == b'"').next().unwrap_or_default();
    match kind {
        b"message" => Heard::Event,
        b"echoed" => Heard::Echoed,
        b"connected" => Heard::Entered,
        b"joined" => Heard::Joined,
        b"left" => Heard::Left,
        b"error" => Heard::Refused,
        _ => Heard::Other,
    }
}

fn centrifuge(message: &[u8]) -> Heard {
    if message == b"{}" {
        return Heard::Ping;
    }
    if message.starts_with(br#"{"push":"#) {
        let publication = memchr::memmem::find(message, br#""pub":"#).is_some();
        return if publication { Heard::Event } else { Heard::Other };
    }
    let Some(answer) = message.strip_prefix(br#"{"id":"#) else { return Heard::Unknown };
    match answer {
        [_, rest @ ..] if rest.starts_with(br#","error":"#) => Heard::Refused,
        [b'1', ..] => Heard::Entered,
        [b'2', ..] => Heard::Joined,
        [b'3', ..] => Heard::Left,
        [b'4', ..] => Heard::Echoed,
        _ => Heard::Other,
    }
}

fn write_record(out: &mut Vec<u8>, text: &str) {
    let mut frame = Vec::with_capacity(text.len() + 4);
    frames::write_unmasked(&mut frame, frames::TEXT, text.as_bytes());
    let length = u16::try_from(frame.len()).expect("`--frame-bytes` is bounded below this");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&frame);
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("memory takes what is written");
}

/// Writes stamps whose Socket.IO frame has a fixed length.
#[derive(Debug, Clone, Copy)]
pub struct Stamper {
    /// The bytes of the frame of a Socket.IO event; other dialects carry the same data.
    pub frame_bytes: usize,
}

impl Stamper {
    /// `ROOM:SEQUENCE:NANOS:PADDING`; longer than asked if the stamp alone is.
    pub fn stamp(self, room: u32, sequence: u32, nanos: u64) -> String {
        let mut text = format!("{ROOM_PREFIX}{room}:{sequence}:{nanos}:");
        let name = text.find(':').unwrap_or_default();
        let around = r#"42["message",{"room":"","data":""}]"#.len() + name;
        let payload =
            (0..=self.frame_bytes).rev().find(|payload| payload + frames::head_bytes(*payload) <= self.frame_bytes);
        let wanted = payload.unwrap_or_default().saturating_sub(around);
        text.extend(std::iter::repeat_n('x', wanted.saturating_sub(text.len())));
        text
    }
}
