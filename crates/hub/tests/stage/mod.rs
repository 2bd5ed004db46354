//! A stage for a profile's rules: one profile, sockets that are in rooms, commands and events that are told as lines of text.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "shared by several tests, none of which uses all of it; tests unwrap"
)]

use bytes::Bytes;
use hub::emission::{Emission, Payload, Target};
use hub::names::{NamespaceId, RoomName, SocketId, UserId};
use hub::profile::{Profile, Warning};
use hub::rules::{Arrival, Effect, Facts, Join, NewId, Origin, Outcome, Place, Progress, Reply, Request, User};

/// 2026-11-20T21:44:00.000Z.
pub(crate) const NOW_UNIX_MS: u64 = 1_795_211_040_000;
pub(crate) const MAIN: NamespaceId = NamespaceId(0);

pub(crate) struct Stage {
    pub(crate) profile: Profile,
    pub(crate) warnings: Vec<Warning>,
    pub(crate) user: User,
    pub(crate) rooms: Vec<RoomName>,
    pub(crate) rooms_max: usize,
}

impl Stage {
    pub(crate) fn new(text: &str, variables: &[(&str, &str)]) -> Self {
        let environment =
            |name: &str| variables.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned());
        let (profile, warnings) = Profile::read(text, "test.toml", &environment).unwrap_or_else(|problems| {
            panic!("{}", problems.iter().map(|problem| format!("{problem}\n")).collect::<String>())
        });
        Self { profile, warnings, user: user("42"), rooms: Vec::new(), rooms_max: 1_000 }
    }

    pub(crate) fn builtin(name: &str, variables: &[(&str, &str)]) -> Self {
        Self::new(hub::profile::builtin(name).unwrap(), variables)
    }

    pub(crate) fn of(mut self, user: User) -> Self {
        self.user = user;
        self
    }

    pub(crate) fn inside(mut self, rooms: &[&str]) -> Self {
        self.rooms = rooms.iter().map(|room| RoomName::parse(room).unwrap()).collect();
        self
    }

    pub(crate) fn facts(&self) -> Facts<'_> {
        Facts { now_unix_ms: NOW_UNIX_MS, new_id: NewId::Known("fresh"), socket: Some(socket()), user: &self.user }
    }

    /// What a new connection gets: its rooms, then what goes out.
    pub(crate) fn connect(&self) -> Vec<String> {
        let welcome = self.profile.rules.on_connect(MAIN, &self.facts(), self.rooms_max);
        let rooms = welcome.rooms.iter().map(|room| format!("in {room}"));
        rooms.chain(welcome.effects.iter().map(line)).collect()
    }

    /// Runs a command with the replies that it asks for, in order; the questions stand among its effects.
    pub(crate) fn command(&mut self, name: &str, data: &str, wants_ack: bool, replies: Vec<Reply>) -> Vec<String> {
        let user = self.user.clone();
        let facts =
            Facts { now_unix_ms: NOW_UNIX_MS, new_id: NewId::Known("fresh"), socket: Some(socket()), user: &user };
        let command = self.profile.rules.command(MAIN, name).unwrap_or_else(|| panic!("no command {name}"));
        let data = (!data.is_empty()).then_some(data);
        let mut run = self.profile.rules.start(MAIN, command, data, wants_ack);
        let mut inside = Inside { rooms: &mut self.rooms, max: self.rooms_max };
        let (mut lines, mut replies, mut reply) = (Vec::new(), replies.into_iter(), None);
        loop {
            let mut effects = Vec::new();
            let progress = run.advance(&self.profile.rules, &facts, &mut inside, reply.take(), &mut effects);
            lines.extend(effects.iter().map(line));
            match progress {
                Progress::Done => return lines,
                Progress::Wait(request) => {
                    lines.push(asked(&request));
                    reply = replies.next();
                    assert!(reply.is_some(), "no reply is left for {request:?}");
                }
            }
        }
    }

    pub(crate) fn route(&self, key: &str, body: &str) -> Vec<String> {
        self.decide(Origin::Rabbitmq { exchange: "events", queue: "queue" }, key, body)
    }

    pub(crate) fn route_from(&self, channel: &str, body: &str) -> Vec<String> {
        self.decide(Origin::Redis { channel }, channel, body)
    }

    fn decide(&self, origin: Origin<'_>, key: &str, body: &str) -> Vec<String> {
        let body = Bytes::copy_from_slice(body.as_bytes());
        let arrival = Arrival { origin, key, body: &body, now_unix_ms: NOW_UNIX_MS, new_id: NewId::Known("fresh") };
        let outcome = self.profile.rules.route(&arrival);
        assert_eq!(self.profile.rules.explain(&arrival).0, outcome, "explaining is deciding");
        match outcome {
            Outcome::Sent { emissions, once } => {
                let once = once.map(|once| format!("once {once}"));
                once.into_iter().chain(emissions.iter().map(emission)).collect()
            }
            Outcome::Ignored { reason } => vec![format!("ignored: {reason}")],
            Outcome::Poison { reason } => vec![format!("poison: {reason}")],
        }
    }
}

struct Inside<'a> {
    rooms: &'a mut Vec<RoomName>,
    max: usize,
}

impl Place for Inside<'_> {
    fn is_member(&self, room: &RoomName) -> bool {
        self.rooms.contains(room)
    }

    fn join(&mut self, room: &RoomName) -> Join {
        if self.rooms.contains(room) {
            Join::Already
        } else if self.rooms.len() >= self.max {
            Join::TooMany
        } else {
            self.rooms.push(room.clone());
            Join::Newly
        }
    }

    fn leave(&mut self, room: &RoomName) -> bool {
        let before = self.rooms.len();
        self.rooms.retain(|own| own != room);
        self.rooms.len() < before
    }
}

pub(crate) fn socket() -> SocketId {
    SocketId::parse("socket-0000000000001").unwrap()
}

pub(crate) fn user(id: &str) -> User {
    let id = UserId::from_text(id).unwrap();
    let claims = format!(r#"{{"id":{},"email":"guest@example.com","role":"guest"}}"#, id.to_json());
    User { id: Some(id), claims: claims.into() }
}

pub(crate) fn with_claims(id: &str, claims: &str) -> User {
    User { id: Some(UserId::from_text(id).unwrap()), claims: claims.into() }
}

pub(crate) fn json(text: &str) -> Reply {
    Reply::Json(Bytes::copy_from_slice(text.as_bytes()))
}

pub(crate) fn line(effect: &Effect) -> String {
    match effect {
        Effect::ToSelf { event, payload } => format!("self {event} {}", text(payload)),
        Effect::Ack { payload } => format!("ack {}", text(payload)),
        Effect::Failed { code, message, message_id } => {
            let id = message_id.as_ref().map(|id| format!(" ({id})")).unwrap_or_default();
            format!("failed {}: {message}{id}", code.as_str())
        }
        Effect::Emit(sent) => emission(sent),
    }
}

pub(crate) fn emission(sent: &Emission) -> String {
    let target = match &sent.target {
        Target::Everyone => "everyone".to_owned(),
        Target::Rooms(rooms) => rooms.names().iter().map(RoomName::as_str).collect::<Vec<_>>().join("+"),
    };
    let itself = if sent.except.sockets == [socket()] { " but self" } else { "" };
    let rooms: String = sent.except.rooms.iter().map(|room| format!(" but {room}")).collect();
    let namespace = if sent.namespace == MAIN { String::new() } else { format!("[{}] ", sent.namespace.0) };
    format!("{namespace}{target}{itself}{rooms} <- {} {}", sent.event, text(&sent.payload))
}

fn asked(request: &Request) -> String {
    match request {
        Request::Presence { user_ids } => format!("presence of {}", user_ids.join(",")),
        Request::Call { callee, message } => format!("call {} {callee} {message}", callee.upstream()),
        Request::Ask { url, timeout_ms } => format!("ask {url} within {timeout_ms} ms"),
        Request::Publish { exchange, key, body, message_id } => {
            let exchange = exchange.as_deref().unwrap_or("-");
            format!("publish {exchange} {key} {message_id} {}", String::from_utf8_lossy(body))
        }
    }
}

fn text(payload: &Payload) -> String {
    String::from_utf8(payload.json.to_vec()).unwrap()
}
