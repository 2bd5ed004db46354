//! The command line, and nothing of what is done with it.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::dialect::Dialect;

/// What the clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Clients connect and stay: what does one cost in memory?
    Idle,
    /// Clients connect: what does it cost, from the handshake until they are in?
    Connect,
    /// A publisher says something in rooms: what does a delivery cost, and how long does it take?
    FanOut,
    /// Clients ask and are answered: what does a round trip cost?
    Ack,
    /// Clients drop and come back at once: how long until all are in, and what do those who stayed notice?
    Storm,
    /// Clients come and go, or join and leave rooms, again and again: what stays behind?
    Churn,
    /// A service publishes to RabbitMQ, and the gateway brings it to rooms: how many, and how long do they take?
    Source,
}

/// What comes and goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Churn {
    /// Clients connect and go
    Connections,
    /// Clients join all ROOMS and leave them
    Rooms,
}

impl Scenario {
    /// What a run's results call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Connect => "connect",
            Self::FanOut => "fan-out",
            Self::Ack => "ack",
            Self::Churn => "churn",
            Self::Storm => "storm",
            Self::Source => "source",
        }
    }
}

/// Loads a real-time gateway with thousands of checking clients, in one thread
///
/// Every client checks every event: one that is lost, doubled, out of order or in the wrong room is counted, and makes the run a failure.
/// The server must know the commands `join` {room}, `leave` {room}, `say` {room, data} (sent as `message` to everyone in the room)
/// and `echo` {data}; bench/roomcast.toml is a profile that does.
///
/// Exit status: 0; 1 if anything was lost, doubled, disordered, misdirected, closed or refused; 2 if the run could not be done.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:
  One event at a time to 1,000 clients of one room, with the server's CPU time:
    roomcast-load fan-out --url http://127.0.0.1:3000 --secret \"$JWT_SECRET\" --members 1000 --pid \"$(pidof roomcast)\"
  1,000 rooms of 10 clients each, 500 events a second for 20 seconds, whatever has come back:
    roomcast-load fan-out --url http://127.0.0.1:3000 --secret \"$JWT_SECRET\" --rooms 1000 --members 10 --rate 500 --seconds 20
  The memory of 10,000 idle plain WebSocket clients:
    roomcast-load idle --url ws://127.0.0.1:3000 --dialect plain --secret \"$JWT_SECRET\" --connections 10000 --pid \"$(pidof roomcast)\"
  10,000 round trips of 100 clients, 8 at a time, as JSON:
    roomcast-load ack --url http://127.0.0.1:3000 --secret \"$JWT_SECRET\" --connections 100 --window 8 --json
  5,000 events a second from RabbitMQ into 100 conversations of `roomcast serve --profile hometrip`:
    roomcast-load source --url http://127.0.0.1:3002 --dialect hometrip --secret \"$JWT_SECRET\" --amqp \"$RABBITMQ_URL\" --rooms 100 --rate 5000"
)]
pub struct Arguments {
    /// What the clients do
    pub scenario: Scenario,
    /// The server: http://, https://, ws:// or wss://; without a path it is the dialect's usual one
    #[arg(long)]
    pub url: String,
    /// The protocol that the clients speak
    #[arg(long, value_enum, default_value = "socket.io")]
    pub dialect: Dialect,
    /// Clients; fan-out has a publisher beside them [default: idle, connect, churn 1000; ack 100; storm, those who drop, 10000; fan-out ROOMS x MEMBERS]
    ///
    /// With more than ROOMS x MEMBERS the rest is in no room, with fewer a client is in several.
    #[arg(long, value_name = "N")]
    pub connections: Option<usize>,
    /// Rooms that events go to, in turn
    #[arg(long, value_name = "R", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub rooms: u32,
    /// Members of each room [default: 1000]
    #[arg(long, value_name = "M")]
    pub members: Option<usize>,
    /// Events of the measured part [default: fan-out 200 or as many as fit into --seconds, ack 10000]
    #[arg(long, value_name = "E")]
    pub events: Option<u64>,
    /// How many at a time [default: 1; clients that connect: 16]
    ///
    /// fan-out: W events are sent in one piece, and the next W when every member has all of them. ack: W clients wait for their answers.
    /// idle, connect, churn, storm: W clients connect at the same time; those of a storm without it all at once.
    #[arg(long, value_name = "W", conflicts_with = "rate", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub window: Option<u32>,
    /// fan-out: events a second, whatever has come back; latency is counted from the moment when an event was due
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    pub rate: Option<f64>,
    /// The bytes of an event's Socket.IO frame, its head included; other dialects carry the same data
    #[arg(long, value_name = "B", default_value_t = 102, value_parser = clap::value_parser!(u32).range(1..=65_000))]
    pub frame_bytes: u32,
    /// Makes a token (JWT, HS256, `sub`) for each client with this secret
    #[arg(long, conflicts_with = "token")]
    pub secret: Option<String>,
    /// One token for all clients
    #[arg(long)]
    pub token: Option<String>,
    /// A process of the server's, whose CPU time, memory and open files are read from /proc; repeatable
    #[arg(long, value_name = "PID")]
    pub pid: Vec<u32>,
    /// Connects from so many loopback addresses, 127.0.0.2 and up: each is good for 28,000 clients
    #[arg(long, value_name = "K", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=250))]
    pub addresses: u8,
    /// Runs on this core alone
    #[arg(long, value_name = "N")]
    pub cpu: Option<usize>,
    /// How long: idle clients stay, and churn waits between cycles (default 1); fan-out with --rate goes on (default 10), storm is waited for (default 5)
    #[arg(long, value_name = "S")]
    pub seconds: Option<f64>,
    /// churn: what comes and goes
    #[arg(long, value_enum, default_value = "connections")]
    pub of: Churn,
    /// churn: how often
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub cycles: u32,
    /// storm: clients that stay, and receive --rate events a second (default 100)
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub stayers: usize,
    /// The certificate authorities (PEM) that a server's certificate is checked with [default: the system's]
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// source: the gateway's RabbitMQ, amqp://user:password@host:port
    #[arg(long, value_name = "URL")]
    pub amqp: Option<String>,
    /// source: the topic exchange that is published to
    #[arg(long, value_name = "NAME", default_value = "hometrip_events")]
    pub exchange: String,
    /// source: with this routing key
    #[arg(long, value_name = "KEY", default_value = "message.sent")]
    pub key: String,
    /// Gives up what is due when nothing at all has come for so long
    #[arg(long, value_name = "S", default_value_t = 10)]
    pub patience: u64,
    /// Prints the results as one JSON object
    #[arg(long)]
    pub json: bool,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "it must be a number".to_owned())?;
    if rate.is_finite() && rate > 0.0 { Ok(rate) } else { Err("it must be above 0".into()) }
}
