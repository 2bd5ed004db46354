//! The Socket.IO session of a client beside a naive model of it: random scripts of packets, one after the other, and after each the same answers from
//! both. The gateway is a real one with a client over a real socket.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use proptest::prelude::*;
use roomcast::embed::{Args, Namespace, Server, Socket};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// The longest that anything is waited for: only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A namespace that is not part of the script: its answer to a question says that everything before it has been answered.
const WITNESS: &str = "/witness";

/// The namespaces of scripts; the last one is not served.
const NAMESPACES: [&str; 3] = ["/", "/other", "/nowhere"];

/// What a client does next.
#[derive(Debug, Clone)]
enum Step {
    Enter {
        namespace: usize,
        payload: &'static str,
    },
    Exit {
        namespace: usize,
    },
    /// Asks for its own arguments as the answer, where it asks with a number.
    Echo {
        namespace: usize,
        ack: Option<u64>,
        attachments: Vec<Vec<u8>>,
    },
    /// Has its own arguments sent back as an event.
    Back {
        namespace: usize,
        attachments: Vec<Vec<u8>>,
    },
    Join {
        namespace: usize,
        room: u8,
    },
    Leave {
        namespace: usize,
        room: u8,
    },
    /// A word to a room, the speaker included.
    Say {
        namespace: usize,
        room: u8,
        word: u8,
    },
    /// Asks to be disconnected from the namespace.
    Bye {
        namespace: usize,
    },
    /// Announces attachments and sends too few of them.
    Announce {
        namespace: usize,
        attachments: usize,
    },
    /// A pong that nobody asked for.
    Pong,
    /// A packet to `/` that nothing comes of.
    Tolerated(&'static str),
    /// A packet that is none, or one that ends the session.
    Malformed(&'static str),
    /// Bytes that belong to no packet.
    Stray,
}

/// The session as a newcomer would write it down: which rooms the client is in, in each namespace that it is in.
#[derive(Debug, Default)]
struct Model {
    entered: BTreeMap<usize, BTreeSet<u8>>,
}

/// What comes of a step: these frames, in this order, or the end of the session.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Frames(Vec<Heard>),
    Closed,
}

#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Text(String),
    Bytes(Vec<u8>),
}

impl Model {
    fn step(&mut self, step: &Step) -> Outcome {
        let Some(namespace) = step.namespace() else {
            return match step {
                Step::Pong => Outcome::Frames(Vec::new()),
                Step::Tolerated(_) if self.entered.contains_key(&0) => Outcome::Frames(Vec::new()),
                _ => Outcome::Closed,
            };
        };
        let prefix = prefix(namespace);
        if let Step::Enter { payload, .. } = step {
            let is_object = payload.is_empty() || payload.starts_with('{');
            return match NAMESPACES[namespace] {
                _ if !is_object || self.entered.contains_key(&namespace) => Outcome::Closed,
                "/nowhere" => text(format!(r#"44{prefix}{{"message":"Invalid namespace"}}"#)),
                _ => {
                    self.entered.insert(namespace, BTreeSet::new());
                    text(format!("40{prefix}{{SID}}"))
                }
            };
        }
        // Whoever speaks where it is not breaks the protocol.
        let Some(rooms) = self.entered.get_mut(&namespace) else { return Outcome::Closed };
        match step {
            Step::Echo { ack: Some(ack), attachments, .. } => {
                packet("43", "46", &format!("{prefix}{ack}"), None, attachments)
            }
            Step::Back { attachments, .. } => packet("42", "45", &prefix, Some("back"), attachments),
            Step::Say { room, word, .. } if rooms.contains(room) => text(format!(r#"42{prefix}["said",{word}]"#)),
            Step::Bye { .. } => {
                self.entered.remove(&namespace);
                text(format!("41{}", prefix))
            }
            Step::Exit { .. } => {
                self.entered.remove(&namespace);
                Outcome::Frames(Vec::new())
            }
            Step::Join { room, .. } => {
                rooms.insert(*room);
                Outcome::Frames(Vec::new())
            }
            Step::Leave { room, .. } => {
                rooms.remove(room);
                Outcome::Frames(Vec::new())
            }
            Step::Echo { ack: None, .. } | Step::Say { .. } => Outcome::Frames(Vec::new()),
            Step::Enter { .. }
            | Step::Announce { .. }
            | Step::Pong
            | Step::Tolerated(_)
            | Step::Malformed(_)
            | Step::Stray => Outcome::Closed,
        }
    }
}

impl Step {
    fn namespace(&self) -> Option<usize> {
        match self {
            Self::Enter { namespace, .. }
            | Self::Exit { namespace }
            | Self::Echo { namespace, .. }
            | Self::Back { namespace, .. }
            | Self::Join { namespace, .. }
            | Self::Leave { namespace, .. }
            | Self::Say { namespace, .. }
            | Self::Bye { namespace }
            | Self::Announce { namespace, .. } => Some(*namespace),
            Self::Pong | Self::Tolerated(_) | Self::Malformed(_) | Self::Stray => None,
        }
    }

    /// The frames that a client sends. Rooms are the connection's own, as scripts run beside each other.
    fn frames(&self, own: u64) -> Vec<Frame> {
        let event = |namespace: usize, ack: Option<u64>, arguments: String| {
            let ack = ack.map(|ack| ack.to_string()).unwrap_or_default();
            vec![Frame::text(format!("42{}{ack}[{arguments}]", prefix(namespace)))]
        };
        let binary = |name: &str, namespace: usize, ack: Option<u64>, attachments: &[Vec<u8>]| {
            if attachments.is_empty() {
                return event(namespace, ack, format!(r#""{name}","none""#));
            }
            let ack = ack.map(|ack| ack.to_string()).unwrap_or_default();
            let head = format!(
                r#"45{}-{}{ack}["{name}",{}]"#,
                attachments.len(),
                prefix(namespace),
                placeholders(attachments.len())
            );
            let attachments = attachments.iter().map(|data| Frame::binary(data.clone()));
            std::iter::once(Frame::text(head)).chain(attachments).collect()
        };
        match self {
            Self::Enter { namespace, payload } => vec![Frame::text(format!("40{}{payload}", prefix(*namespace)))],
            Self::Exit { namespace } => vec![Frame::text(format!("41{}", prefix(*namespace)))],
            Self::Echo { namespace, ack, attachments } => binary("echo", *namespace, *ack, attachments),
            Self::Back { namespace, attachments } => binary("back", *namespace, None, attachments),
            Self::Join { namespace, room } => event(*namespace, None, format!(r#""join","{own}-{room}""#)),
            Self::Leave { namespace, room } => event(*namespace, None, format!(r#""leave","{own}-{room}""#)),
            Self::Say { namespace, room, word } => event(*namespace, None, format!(r#""say","{own}-{room}",{word}"#)),
            Self::Bye { namespace } => event(*namespace, None, r#""bye""#.to_owned()),
            Self::Announce { namespace, attachments } => {
                let mut frames = binary("echo", *namespace, None, &vec![vec![7]; *attachments]);
                frames.pop();
                frames
            }
            Self::Tolerated(packet) | Self::Malformed(packet) => vec![Frame::text(*packet)],
            Self::Pong => vec![Frame::text("3")],
            Self::Stray => vec![Frame::binary(vec![1, 2, 3])],
        }
    }
}

fn prefix(namespace: usize) -> String {
    if namespace == 0 { String::new() } else { format!("{},", NAMESPACES[namespace]) }
}

fn placeholders(count: usize) -> String {
    let each = (0..count).map(|number| format!(r#"{{"_placeholder":true,"num":{number}}}"#));
    each.collect::<Vec<_>>().join(",")
}

fn text(text: String) -> Outcome {
    Outcome::Frames(vec![Heard::Text(text)])
}

/// A packet with the arguments that went in, and what belongs to it.
fn packet(plain: &str, binary: &str, middle: &str, event: Option<&str>, attachments: &[Vec<u8>]) -> Outcome {
    let event = event.map(|event| format!(r#""{event}","#)).unwrap_or_default();
    if attachments.is_empty() {
        return text(format!(r#"{plain}{middle}[{event}"none"]"#));
    }
    let head = format!("{binary}{}-{middle}[{event}{}]", attachments.len(), placeholders(attachments.len()));
    Outcome::Frames(std::iter::once(Heard::Text(head)).chain(attachments.iter().cloned().map(Heard::Bytes)).collect())
}

/// The real thing: one gateway for all scripts.
fn gateway() -> &'static (Runtime, Server) {
    static GATEWAY: OnceLock<(Runtime, Server)> = OnceLock::new();
    GATEWAY.get_or_init(|| {
        let runtime = Runtime::new().expect("threads");
        let namespace = || {
            Namespace::new()
                .on("echo", async |_: Socket, args: Args| args)
                .on("back", async |socket: Socket, args: Args| socket.emit("back", args))
                .on("join", async |socket: Socket, (room,): (String,)| socket.join(&room))
                .on("leave", async |socket: Socket, (room,): (String,)| socket.leave(&room))
                .on("say", async |socket: Socket, (room, word): (String, u8)| {
                    socket.everyone().to(&room).emit("said", (word,))
                })
                .on("bye", async |socket: Socket, ()| socket.disconnect())
        };
        let server = Server::builder()
            .shards(2)
            .namespace("/", namespace())
            .namespace("/other", namespace())
            .namespace(WITNESS, namespace());
        let server = runtime.block_on(server.start()).expect("a free port");
        (runtime, server)
    })
}

struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    questions: u64,
}

impl Client {
    async fn open(server: &Server) -> Self {
        let url = format!("ws://{}/socket.io/?EIO=4&transport=websocket", server.address());
        let (socket, _) = connect_async(url).await.expect("the gateway takes WebSockets");
        let mut client = Self { socket, questions: 0 };
        assert!(matches!(client.frame().await, Some(Heard::Text(open)) if open.starts_with("0{")));
        client.say(vec![Frame::text(format!("40{WITNESS},"))]).await;
        assert!(matches!(client.frame().await, Some(Heard::Text(entered)) if entered.starts_with("40/witness,")));
        client
    }

    /// A session that has ended already takes nothing, which is seen by what it answers.
    async fn say(&mut self, frames: Vec<Frame>) {
        for frame in frames {
            let _ = self.socket.send(frame).await;
        }
    }

    /// The next frame; none at the end.
    async fn frame(&mut self) -> Option<Heard> {
        loop {
            match tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("in time") {
                Some(Ok(Frame::Text(text))) if text.as_str() == "2" => self.say(vec![Frame::text("3")]).await,
                Some(Ok(Frame::Text(text))) => return Some(Heard::Text(text.to_string())),
                Some(Ok(Frame::Binary(data))) => return Some(Heard::Bytes(data.to_vec())),
                Some(Ok(Frame::Close(_)) | Err(_)) | None => return None,
                Some(Ok(Frame::Ping(_) | Frame::Pong(_) | Frame::Frame(_))) => {}
            }
        }
    }

    /// Everything that comes of these frames.
    async fn outcome(&mut self, frames: Vec<Frame>) -> Outcome {
        self.questions += 1;
        let question = self.questions;
        self.say(frames).await;
        self.say(vec![Frame::text(format!(r#"42{WITNESS},{question}["echo"]"#))]).await;
        let mut heard = Vec::new();
        loop {
            match self.frame().await {
                None => return Outcome::Closed,
                Some(Heard::Text(text)) if text == format!("43{WITNESS},{question}[]") => {
                    return Outcome::Frames(heard);
                }
                Some(Heard::Text(text)) => heard.push(Heard::Text(without_id(text))),
                Some(bytes) => heard.push(bytes),
            }
        }
    }
}

/// Ids are random: of them counts that they are there.
fn without_id(text: String) -> String {
    match text.split_once(r#"{"sid":""#) {
        Some((head, id)) if text.starts_with("40") && id.len() == 22 && id.ends_with(r#""}"#) => {
            format!("{head}{{SID}}")
        }
        Some(_) | None => text,
    }
}

fn step() -> impl Strategy<Value = Step> {
    let namespace = || prop_oneof![6 => Just(0_usize), 4 => Just(1), 1 => Just(2)];
    let attachments = || prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..4);
    let payload = prop_oneof![6 => Just(""), 4 => Just(r#"{"token":"x"}"#), 1 => Just("[1]"), 1 => Just("null")];
    let malformed = prop::sample::select(vec![
        "4",
        "47",
        "48[]",
        "42[]",
        "42{}",
        "42[null]",
        "42[{}]",
        "42[",
        r#"42["connect"]"#,
        r#"42["disconnecting"]"#,
        "431{}",
        r#"450-["e"]"#,
        r#"451["e",{"_placeholder":true,"num":0}]"#,
        r#"4511-["e",{"_placeholder":true,"num":0}]"#,
        r#"451-["e",{"_placeholder":true,"num":1}]"#,
        r#"451-["e",{"_placeholder":true,"num":"0"}]"#,
        r#"44{"message":"x"}"#,
        "9",
        "",
        "x",
        "2",
    ]);
    let tolerated = prop::sample::select(vec!["42", "43999[]", "43999[1,{}]"]);
    prop_oneof![
        10 => (namespace(), payload).prop_map(|(namespace, payload)| Step::Enter { namespace, payload }),
        3 => namespace().prop_map(|namespace| Step::Exit { namespace }),
        8 => (namespace(), prop::option::of(0..5_000_000_000_u64), attachments())
            .prop_map(|(namespace, ack, attachments)| Step::Echo { namespace, ack, attachments }),
        5 => (namespace(), attachments()).prop_map(|(namespace, attachments)| Step::Back { namespace, attachments }),
        6 => (namespace(), 0..3_u8).prop_map(|(namespace, room)| Step::Join { namespace, room }),
        3 => (namespace(), 0..3_u8).prop_map(|(namespace, room)| Step::Leave { namespace, room }),
        6 => (namespace(), 0..3_u8, any::<u8>()).prop_map(|(namespace, room, word)| Step::Say { namespace, room, word }),
        2 => namespace().prop_map(|namespace| Step::Bye { namespace }),
        1 => (namespace(), 1..5_usize).prop_map(|(namespace, attachments)| Step::Announce { namespace, attachments }),
        1 => Just(Step::Pong),
        2 => tolerated.prop_map(Step::Tolerated),
        1 => malformed.prop_map(Step::Malformed),
        1 => Just(Step::Stray),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_session_answers_as_its_model_does(steps in prop::collection::vec(step(), 1..30)) {
        static SCRIPTS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let own = SCRIPTS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (runtime, server) = gateway();
        runtime.block_on(async {
            let mut model = Model::default();
            let mut client = Client::open(server).await;
            // Most of what there is to see is seen from within.
            let first = Step::Enter { namespace: 0, payload: "" };
            for (index, step) in std::iter::once(&first).chain(&steps).enumerate() {
                let expected = model.step(step);
                let seen = client.outcome(step.frames(own)).await;
                prop_assert_eq!(&seen, &expected, "step {}: {:?}", index, step);
                if seen == Outcome::Closed {
                    break;
                }
            }
            Ok(())
        })?;
    }
}
