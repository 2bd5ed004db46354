//! A Socket.IO client of one namespace over one WebSocket (Engine.IO 4, Socket.IO 5). Does no IO: messages come in, what they mean goes out.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;
use wire::engine;
use wire::socketio::{self, Kind, Outbound};

use super::{Emission, Heard};

/// Where the conversation with the gateway stands.
#[derive(Debug)]
pub(super) struct Client {
    namespace: String,
    token: Option<String>,
    silence: Option<Duration>,
    /// What was sent and is not answered yet, with the ids of the acknowledgements. Bound: what --emit names.
    asked: VecDeque<(u64, String)>,
    next_ack: u64,
    /// An event whose attachments are still to come, and their number.
    partial: Option<(Heard, usize)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Opening {
    ping_interval: u64,
    ping_timeout: u64,
}

impl Client {
    pub(super) fn new(namespace: &str, token: Option<&str>) -> Self {
        let slash = if namespace.starts_with('/') { "" } else { "/" };
        Self {
            namespace: format!("{slash}{namespace}"),
            token: token.map(str::to_owned),
            silence: None,
            asked: VecDeque::new(),
            next_ack: 0,
            partial: None,
        }
    }

    /// The server pings; after this time without a message the connection is dead.
    pub(super) fn silence(&self) -> Option<Duration> {
        self.silence
    }

    /// What a text message means.
    pub(super) fn text(&mut self, text: &str) -> anyhow::Result<Heard> {
        match engine::Packet::parse(text).with_context(|| format!("no Engine.IO: {text}"))? {
            engine::Packet::Open(json) => {
                let opening: Opening = serde_json::from_str(json).context("no Engine.IO server: bad opening")?;
                self.silence = Some(Duration::from_millis(opening.ping_interval.saturating_add(opening.ping_timeout)));
                Ok(Heard::Reply(self.connect()))
            }
            engine::Packet::Close => bail!("the gateway closed the session"),
            engine::Packet::Ping(payload) => Ok(Heard::Reply(format!("3{payload}"))),
            engine::Packet::Message(packet) => self.packet(packet),
            engine::Packet::Binary(_) => self.binary(),
            engine::Packet::Pong(_) | engine::Packet::Upgrade | engine::Packet::Noop => Ok(Heard::Nothing),
        }
    }

    /// A binary message is an attachment of the event before it.
    pub(super) fn binary(&mut self) -> anyhow::Result<Heard> {
        match self.partial.take() {
            Some((heard, 1)) => Ok(heard),
            Some((heard, more)) => {
                self.partial = Some((heard, more - 1));
                Ok(Heard::Nothing)
            }
            None => bail!("an attachment without an event"),
        }
    }

    /// The message that says an event and asks for an answer.
    pub(super) fn write(&mut self, emission: &Emission) -> String {
        let id = self.next_ack;
        self.next_ack += 1;
        self.asked.push_back((id, emission.event.clone()));
        let message = Outbound::Event {
            namespace: &self.namespace,
            event: &emission.event,
            arguments: emission.json.as_deref().unwrap_or_default().as_bytes(),
            ack: Some(id),
            attachments: 0,
            offset: None,
        }
        .message();
        String::from_utf8(message.into()).expect("made of texts")
    }

    /// The packet that asks for the namespace: only clients write it.
    fn connect(&self) -> String {
        let namespace = if self.namespace == "/" { String::new() } else { format!("{},", self.namespace) };
        let token = self.token.as_ref().map(|token| serde_json::json!({ "token": token }).to_string());
        format!("40{namespace}{}", token.unwrap_or_default())
    }

    fn packet(&mut self, text: &str) -> anyhow::Result<Heard> {
        let packet = socketio::parse(text).with_context(|| format!("a bad packet: {text}"))?;
        if packet.namespace != self.namespace {
            return Ok(Heard::Nothing);
        }
        let data = packet.data.as_deref().unwrap_or_default();
        let heard = match packet.kind {
            Kind::Connect => Heard::Ready,
            Kind::Disconnect => bail!("the gateway disconnected us"),
            Kind::ConnectError => Heard::Refused(data.to_owned()),
            Kind::Event | Kind::BinaryEvent => match packet.event() {
                Some(event) => Heard::Event { name: event.name.clone().into_owned(), json: event.arguments.to_owned() },
                None => Heard::Nothing,
            },
            Kind::Ack | Kind::BinaryAck => self.answer(packet.ack, packet.ack_arguments().unwrap_or_default()),
        };
        if packet.attachments == 0 {
            return Ok(heard);
        }
        self.partial = Some((heard, packet.attachments));
        Ok(Heard::Nothing)
    }

    fn answer(&mut self, id: Option<u64>, json: &str) -> Heard {
        let place = self.asked.iter().position(|(asked, _)| Some(*asked) == id);
        match place.and_then(|place| self.asked.remove(place)) {
            Some((_, to)) => Heard::Answer { to, json: json.to_owned() },
            None => Heard::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each line is a message from the gateway, or what is sent where it begins with `>`; then what is heard, or sent.
    fn check(namespace: &str, script: &[(&str, Heard)]) {
        let mut client = Client::new(namespace, Some("t"));
        for (line, expected) in script {
            let heard = match line.strip_prefix('>') {
                Some(name) => {
                    let emission = Emission { event: name.to_owned(), json: Some("1.0".to_owned()) };
                    Heard::Reply(client.write(&emission))
                }
                None if *line == "<binary>" => client.binary().expect("an attachment"),
                None => client.text(line).expect("a good message"),
            };
            assert_eq!(heard, *expected, "{line}");
        }
    }

    fn reply(text: &str) -> Heard {
        Heard::Reply(text.to_owned())
    }

    fn heard(name: &str, json: &str) -> Heard {
        Heard::Event { name: name.to_owned(), json: json.to_owned() }
    }

    const OPENING: &str = r#"0{"sid":"a","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;

    #[test]
    fn a_conversation_in_the_main_namespace() {
        let answer = Heard::Answer { to: "join".to_owned(), json: r#"{"success":true}"#.to_owned() };
        check(
            "/",
            &[
                (OPENING, reply(r#"40{"token":"t"}"#)),
                (r#"40{"sid":"b"}"#, Heard::Ready),
                (">join", reply(r#"420["join",1.0]"#)),
                ("2", reply("3")),
                (r#"42["message",{"n":1.0},"x"]"#, heard("message", r#"{"n":1.0},"x""#)),
                (r#"430[{"success":true}]"#, answer),
                (r#"430[{"success":true}]"#, Heard::Nothing),
                (r#"452-["pic",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#, Heard::Nothing),
                ("<binary>", Heard::Nothing),
                ("<binary>", heard("pic", r#"{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}"#)),
                (r#"44{"message":"no"}"#, Heard::Refused(r#"{"message":"no"}"#.to_owned())),
            ],
        );
    }

    #[test]
    fn another_namespace_is_not_heard() {
        check(
            "/chat",
            &[
                (OPENING, reply(r#"40/chat,{"token":"t"}"#)),
                (r#"40/chat,{"sid":"b"}"#, Heard::Ready),
                (">join", reply(r#"42/chat,0["join",1.0]"#)),
                (r#"42["message",1]"#, Heard::Nothing),
                (r#"42/chat,["message",1]"#, heard("message", "1")),
            ],
        );
    }

    #[test]
    fn the_end_is_told() {
        let mut client = Client::new("/", None);
        assert!(client.text(OPENING).is_ok());
        assert_eq!(client.silence(), Some(Duration::from_secs(45)));
        for message in ["1", "41", "4", "45x[]", "42{}", "42[]", "49"] {
            assert!(client.text(message).is_err(), "{message}");
        }
        assert!(client.binary().is_err());
    }
}
