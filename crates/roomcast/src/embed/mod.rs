//! A gateway within a Rust program: namespaces with handlers of the program's own, beside or instead of a profile's rules.
//!
//! ```no_run
//! use roomcast::embed::{Namespace, Server, Socket};
//!
//! # async fn run() -> anyhow::Result<()> {
//! let chat = Namespace::new()
//!     .on_connect(async |socket: Socket| {
//!         let _ = socket.join("lobby");
//!     })
//!     .on("say", async |socket: Socket, (room, text): (String, String)| {
//!         socket.to(&room).emit("said", (socket.id(), text))?;
//!         Ok::<_, roomcast::embed::Error>("sent")
//!     });
//! let server = Server::builder().listen("127.0.0.1:3000")?.namespace("/", chat).start().await?;
//! server.to("lobby").emit("news", "the gateway is open")?;
//! # Ok(())
//! # }
//! ```
//!
//! A handler and a rule of a profile come to the same: what they decide is carried out by the shard that holds the client, in order.

mod args;
mod broadcast;
mod cluster;
mod handshake;
mod messages;
mod namespace;
mod program;
mod server;
mod servers;
mod socket;

pub use args::{Args, ArgsError, Binary, FromArgs, IntoArgs};
pub use broadcast::{Broadcast, Replies, Reply};
pub use cluster::{Found, FoundSocket};
pub use handshake::{Handshake, Request};
pub use hub::profile::{Origins, Profile, RedisMode};
pub(crate) use messages::Link;
pub use messages::{Connection, Message, Messages};
pub(crate) use namespace::Reaction;
pub use namespace::{Event, FromEvent, IntoReply, Namespace, Refused};
pub use program::Program;
pub use server::{Builder, Server};
pub use servers::ServerReplies;
pub use socket::{Answer, Error, Socket};
pub(crate) use socket::{Inner, REACTIONS_MAX};
