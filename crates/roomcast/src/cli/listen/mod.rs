//! `roomcast listen`: a test client that prints what comes. Knows no profile: what is to be sent first is told by --emit.

mod address;
mod socket_io;

use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use futures_util::{SinkExt, StreamExt};
use serde_json::value::RawValue;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::arguments::{duration, now_unix_ms};
use super::{Outcome, block_on, say};

/// Connect as a client and print the events that come, a line each: time, name, data
///
/// Events go to standard output; answers and everything else go to standard error. The exit code is 0 when --count events have come, at
/// Ctrl-C, and at the end of --timeout where no --count is given.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  roomcast listen --emit 'join {\"room\":\"lobby\"}'
  roomcast listen --url http://127.0.0.1:3002 --token \"$(roomcast token --user alice)\" \\
      --emit 'join_room {\"roomType\":\"conversation\",\"roomId\":\"42\"}'
  roomcast listen --protocol json --emit 'join {\"room\":\"lobby\"}' --count 1 --timeout 10s")]
pub(crate) struct Options {
    /// Where the gateway listens
    #[arg(long, default_value = "http://127.0.0.1:3000")]
    url: String,
    /// What to speak
    #[arg(long, value_enum, default_value_t = Protocol::SocketIo)]
    protocol: Protocol,
    /// The path [default: /socket.io/, or /ws with --protocol json]
    #[arg(long)]
    path: Option<String>,
    /// The Socket.IO namespace
    #[arg(long, default_value = "/")]
    namespace: String,
    /// Where the fields of a plain JSON message stand: beside `type`, or in `data`
    #[arg(long, value_enum, default_value_t = Envelope::Flat)]
    envelope: Envelope,
    /// The token to connect with: see `roomcast token`
    #[arg(long)]
    token: Option<String>,
    /// An event to send after connecting: its name and, after a space, its JSON. Repeatable
    #[arg(long = "emit", value_name = "EVENT JSON", value_parser = emission)]
    emissions: Vec<Emission>,
    /// End after so many events
    #[arg(long, value_name = "N")]
    count: Option<usize>,
    /// End after this time; with --count, a failure
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Protocol {
    /// Socket.IO, over WebSocket
    #[value(name = "socket.io")]
    SocketIo,
    /// Plain JSON messages with a `type`
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Envelope {
    /// `{"type": …, fields …}`
    Flat,
    /// `{"type": …, "data": …}`
    Data,
}

/// An event that the user wants sent: its JSON is valid, and kept as it was written.
#[derive(Debug, Clone)]
struct Emission {
    event: String,
    json: Option<String>,
}

fn emission(text: &str) -> Result<Emission, String> {
    let (event, json) = match text.trim().split_once(char::is_whitespace) {
        Some((event, json)) => (event, Some(json.trim().to_owned())),
        None => (text.trim(), None),
    };
    if event.is_empty() {
        return Err("write the event's name, a space, and its JSON".to_owned());
    }
    if let Some(json) = &json {
        serde_json::from_str::<&RawValue>(json)
            .map_err(|problem| format!("the data of `{event}` is not JSON: {problem}"))?;
    }
    Ok(Emission { event: event.to_owned(), json })
}

/// What a message from the gateway means to a listener.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    /// Nothing to tell.
    Nothing,
    /// The connection is up: what is to be sent can be sent.
    Ready,
    /// Answer at once with this message.
    Reply(String),
    /// An event came, with its raw JSON.
    Event { name: String, json: String },
    /// The answer to something that was sent.
    Answer { to: String, json: String },
    /// The gateway does not want us.
    Refused(String),
}

/// What is spoken, and how far it got.
#[derive(Debug)]
enum Dialect {
    SocketIo(socket_io::Client),
    Json(wire::json::Envelope),
}

impl Dialect {
    /// What it means that the WebSocket is open.
    fn opened(&self) -> Heard {
        match self {
            Self::SocketIo(_) => Heard::Nothing,
            Self::Json(_) => Heard::Ready,
        }
    }

    fn message(&mut self, message: &Message) -> anyhow::Result<Heard> {
        match (message, self) {
            (Message::Text(text), Self::SocketIo(client)) => client.text(text),
            (Message::Text(text), Self::Json(envelope)) => {
                let message = wire::json::parse(text, *envelope).with_context(|| format!("a bad message: {text}"))?;
                let json = message.data.unwrap_or_default().to_owned();
                Ok(Heard::Event { name: message.event.into_owned(), json })
            }
            (Message::Binary(_), Self::SocketIo(client)) => client.binary(),
            (Message::Binary(_), Self::Json(_)) => Ok(Heard::Nothing),
            (Message::Close(Some(frame)), _) => {
                bail!("the gateway closed the connection: {} {}", u16::from(frame.code), frame.reason)
            }
            (Message::Close(None), _) => bail!("the gateway closed the connection"),
            // The library answers pings by itself.
            (Message::Ping(_) | Message::Pong(_) | Message::Frame(_), _) => Ok(Heard::Nothing),
        }
    }

    fn write(&mut self, emission: &Emission) -> String {
        match self {
            Self::SocketIo(client) => client.write(emission),
            Self::Json(envelope) => {
                let json = emission.json.as_deref().unwrap_or_default();
                let message = wire::json::encode(*envelope, &emission.event, json.as_bytes());
                String::from_utf8(message.into()).expect("made of texts")
            }
        }
    }

    /// After how long without a message the connection is as good as dead, where the protocol says so.
    fn silence(&self) -> Option<Duration> {
        match self {
            Self::SocketIo(client) => client.silence(),
            Self::Json(_) => None,
        }
    }
}

/// Listens until there is a reason to end.
pub(crate) fn run(options: Options) -> Outcome {
    Ok(block_on(listen(&options))?)
}

async fn listen(options: &Options) -> anyhow::Result<()> {
    let mut events = 0;
    tokio::select! {
        ended = listen_on(options, &mut events) => return ended,
        () = after(options.timeout) => {}
        _ = tokio::signal::ctrl_c() => return Ok(()),
    }
    match options.count {
        Some(count) => bail!("{events} of {count} events came within {:?}", options.timeout.unwrap_or_default()),
        None => Ok(()),
    }
}

async fn listen_on(options: &Options, events: &mut usize) -> anyhow::Result<()> {
    let (mut dialect, mut socket) = connect(options).await?;
    let mut heard = dialect.opened();
    loop {
        match heard {
            Heard::Nothing => {}
            Heard::Ready => {
                for emission in &options.emissions {
                    send(&mut socket, dialect.write(emission)).await?;
                }
            }
            Heard::Reply(text) => send(&mut socket, text).await?,
            Heard::Event { name, json } => {
                *events += 1;
                say!("{}  {name}  {json}", now());
                if Some(*events) == options.count {
                    return Ok(());
                }
            }
            Heard::Answer { to, json } => eprintln!("{}  answer to {to}  {json}", now()),
            Heard::Refused(reason) => bail!("refused: {reason}"),
        }
        heard = dialect.message(&next(&mut socket, dialect.silence()).await?)?;
    }
}

type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

async fn connect(options: &Options) -> anyhow::Result<(Dialect, Socket)> {
    let dialect = match options.protocol {
        Protocol::SocketIo => Dialect::SocketIo(socket_io::Client::new(&options.namespace, options.token.as_deref())),
        Protocol::Json => Dialect::Json(match options.envelope {
            Envelope::Flat => wire::json::Envelope::Flat,
            Envelope::Data => wire::json::Envelope::Data,
        }),
    };
    let address = address::of(&options.url, options.protocol, options.path.as_deref())?;
    let mut request = address.as_str().into_client_request().with_context(|| format!("{address} is no address"))?;
    if let (Protocol::Json, Some(token)) = (options.protocol, &options.token) {
        let value = format!("Bearer {token}").parse().context("the token holds characters that no token has")?;
        request.headers_mut().insert("authorization", value);
    }
    let connected = connect_async(request).await;
    let (socket, _) = connected.map_err(|problem| match problem {
        Error::Http(answer) => {
            let body = answer.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            anyhow::anyhow!("{address} answered {} {}", answer.status(), body.trim())
        }
        // The library's text holds its cause already.
        other => anyhow::anyhow!("cannot connect to {address}: {other}"),
    })?;
    eprintln!("connected to {address}; Ctrl-C ends");
    Ok((dialect, socket))
}

async fn send(socket: &mut Socket, text: String) -> anyhow::Result<()> {
    socket.send(Message::text(text)).await.context("the connection broke off")
}

async fn next(socket: &mut Socket, silence: Option<Duration>) -> anyhow::Result<Message> {
    tokio::select! {
        message = socket.next() => message.context("the connection broke off")?.context("the connection broke off"),
        () = after(silence) => bail!("nothing came for {:?}, not even a ping: the connection is dead", silence.unwrap_or_default()),
    }
}

/// Waits for a time; for ever where there is none.
async fn after(time: Option<Duration>) {
    match time.and_then(|time| Instant::now().checked_add(time)) {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}

/// The time as it stands on the wire.
fn now() -> String {
    hub::rules::iso_8601(now_unix_ms())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_message_is_told_as_it_came() {
        let text = r#"{"type":"message","data":{"n":1.0}}"#;
        for (envelope, json) in [(wire::json::Envelope::Flat, text), (wire::json::Envelope::Data, r#"{"n":1.0}"#)] {
            let heard = Dialect::Json(envelope).message(&Message::text(text)).expect("a message");
            assert_eq!(heard, Heard::Event { name: "message".to_owned(), json: json.to_owned() });
        }
        let close = Dialect::Json(wire::json::Envelope::Flat).message(&Message::Close(None));
        assert_eq!(close.expect_err("the end").to_string(), "the gateway closed the connection");
    }

    #[test]
    fn what_is_sent_must_be_json() {
        let sent = emission(r#"join  {"room": "a b"} "#).expect("a name and JSON");
        assert_eq!((sent.event.as_str(), sent.json.as_deref()), ("join", Some(r#"{"room": "a b"}"#)));
        assert_eq!(emission("ping").expect("a name alone").json, None);
        assert!(emission("").is_err());
        assert!(emission("join {room}").expect_err("no JSON").starts_with("the data of `join` is not JSON"));
    }
}
