//! Who is measured, and how each is started: program, arguments, environment. Knows no rows and no figures.
//!
//! The contract that all of them keep stands in `bench/peers/README.md`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A server's program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Server {
    /// The gateway.
    Roomcast,
    /// The bare loop: a send for each frame and member.
    Limit,
    /// The bare loop that sends what came together as one.
    CoalescingLimit,
    /// Node with `socket.io`.
    Node,
    /// socketioxide on axum.
    Socketioxide,
    /// Centrifugo's engine.
    Centrifuge,
    /// The gateway between RabbitMQ and sockets, by its profile for HomeTrip.
    RoomcastHomeTrip,
    /// The Node gateway that does the same.
    HomeTrip,
    /// A consumer that only acknowledges.
    BareConsumer,
}

/// How clients speak to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dialect {
    /// Socket.IO over WebSocket.
    SocketIo,
    /// Socket.IO over long-polling.
    Polling,
    /// Plain JSON over WebSocket.
    Plain,
    /// Centrifuge's JSON protocol.
    Centrifuge,
    /// The limit's records.
    Bare,
    /// Socket.IO with HomeTrip's commands.
    HomeTrip,
}

/// A server in one of the ways in which it is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Contender {
    /// The program.
    pub server: Server,
    /// How clients speak to it.
    pub dialect: Dialect,
    /// Whether over TLS.
    pub tls: bool,
    /// Its threads, where it can be told; each has a core.
    pub shards: usize,
}

impl Contender {
    /// A server as it is measured mostly: one thread, in clear.
    pub const fn new(server: Server, dialect: Dialect) -> Self {
        Self { server, dialect, tls: false, shards: 1 }
    }

    /// Its name in results.
    pub fn key(&self) -> String {
        let mut key = self.server.key().to_owned();
        match self.dialect {
            Dialect::Polling => key.push_str(" polling"),
            Dialect::Plain => key.push_str(" plain"),
            Dialect::SocketIo | Dialect::Centrifuge | Dialect::Bare | Dialect::HomeTrip => {}
        }
        if self.tls {
            key.push_str(" tls");
        }
        if self.shards > 1 {
            key.push_str(&format!(" {} shards", self.shards));
        }
        key
    }

    /// Its name in tables and charts.
    pub fn label(&self) -> String {
        let mut label = self.server.label().to_owned();
        match self.dialect {
            Dialect::Polling => label.push_str(", polling"),
            Dialect::Plain => label.push_str(", plain JSON"),
            Dialect::SocketIo | Dialect::Centrifuge | Dialect::Bare | Dialect::HomeTrip => {}
        }
        if self.tls {
            label.push_str(", TLS");
        }
        if self.shards > 1 {
            label.push_str(&format!(", {} shards", self.shards));
        }
        label
    }

    /// Where clients find it.
    pub fn url(&self, port: u16) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{port}")
    }
}

impl Server {
    /// All of them, in the order of tables.
    pub const ALL: [Self; 9] = [
        Self::Limit,
        Self::CoalescingLimit,
        Self::Roomcast,
        Self::Socketioxide,
        Self::Centrifuge,
        Self::Node,
        Self::BareConsumer,
        Self::RoomcastHomeTrip,
        Self::HomeTrip,
    ];

    /// Its name in results and on the command line.
    pub fn key(self) -> &'static str {
        match self {
            Self::Roomcast => "roomcast",
            Self::Limit => "limit",
            Self::CoalescingLimit => "limit-coalescing",
            Self::Node => "node",
            Self::Socketioxide => "socketioxide",
            Self::Centrifuge => "centrifuge",
            Self::RoomcastHomeTrip => "roomcast-hometrip",
            Self::HomeTrip => "hometrip",
            Self::BareConsumer => "bare-consumer",
        }
    }

    /// Its name in tables and charts.
    pub fn label(self) -> &'static str {
        match self {
            Self::Roomcast | Self::RoomcastHomeTrip => "Roomcast",
            Self::Limit | Self::CoalescingLimit => "the limit",
            Self::Node => "Node socket.io",
            Self::Socketioxide => "socketioxide",
            Self::Centrifuge => "Centrifugo's engine",
            Self::HomeTrip => "Node gateway",
            Self::BareConsumer => "a consumer that only acknowledges",
        }
    }

    /// The gateway itself, in whatever role.
    pub fn is_gateway(self) -> bool {
        matches!(self, Self::Roomcast | Self::RoomcastHomeTrip)
    }

    /// What it is compared with rather than a rival.
    pub fn is_limit(self) -> bool {
        matches!(self, Self::Limit | Self::CoalescingLimit | Self::BareConsumer)
    }

    /// What must have been built for it.
    pub fn program(self, root: &Path) -> PathBuf {
        root.join(match self {
            Self::Roomcast | Self::RoomcastHomeTrip => "target/release/roomcast",
            Self::Limit | Self::CoalescingLimit | Self::BareConsumer => "target/release/roomcast-limit",
            Self::Node => "bench/peers/node/server.mjs",
            Self::Socketioxide => "bench/peers/socketioxide/target/release/socketioxide-peer",
            Self::Centrifuge => "bench/peers/centrifuge/centrifuge",
            Self::HomeTrip => "bench/peers/hometrip/gateway.mjs",
        })
    }

    /// The command that starts it; port and secret come by the environment.
    pub fn command(self, root: &Path, port: u16, shards: usize) -> Command {
        let program = self.program(root);
        let mut command = match self {
            Self::Node | Self::HomeTrip => {
                let mut command = Command::new("node");
                command.arg(program);
                command
            }
            Self::Roomcast
            | Self::RoomcastHomeTrip
            | Self::Limit
            | Self::CoalescingLimit
            | Self::Socketioxide
            | Self::Centrifuge
            | Self::BareConsumer => Command::new(program),
        };
        match self {
            Self::Roomcast => {
                command.args(["serve", "--config"]).arg(root.join("bench/roomcast.toml"));
                command.args(["--shards", &shards.to_string()]);
            }
            Self::RoomcastHomeTrip => {
                command.args(["serve", "--profile", "hometrip", "--host", "127.0.0.1"]);
                command.args(["--shards", &shards.to_string()]);
            }
            Self::Limit => {
                command.args(["serve", "--port", &port.to_string()]);
            }
            Self::CoalescingLimit => {
                command.args(["serve", "--coalesce", "--port", &port.to_string()]);
            }
            Self::BareConsumer => {
                command.arg("consumer");
            }
            Self::Node | Self::Socketioxide | Self::Centrifuge | Self::HomeTrip => {}
        }
        command
            .env("PORT", port.to_string())
            .env("NODE_ENV", "production")
            .env("LOG_LEVEL", "error")
            .env("GOMAXPROCS", "1");
        command
    }
}

impl Dialect {
    /// As the load generator calls it.
    pub fn argument(self) -> &'static str {
        match self {
            Self::SocketIo => "socket.io",
            Self::Polling => "polling",
            Self::Plain => "plain",
            Self::Centrifuge => "centrifuge",
            Self::Bare => "bare",
            Self::HomeTrip => "hometrip",
        }
    }
}
