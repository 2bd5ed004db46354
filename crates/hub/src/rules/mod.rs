//! The rules of a profile and their one evaluator: for delivering, for `explain` and for `check` alike.
//! Raw JSON comes in and raw JSON goes out; payloads are never written again. Does nothing itself: decisions go out as values.

mod facts;
mod run;

pub use facts::{Arrival, Effect, Facts, Origin, Outcome, Presence, Refreshed, User, Welcome};
pub use run::{Join, Place, Progress, Reply, Request, Run};

use std::time::Duration;

use crate::emission::Emission;
use crate::names::{NamespaceId, RoomName};

/// A command of the profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CommandId(u32);

/// A document that the profile serves over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DocumentId(u32);

/// Which claims the rules read, so that a connection keeps no others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimsUsed {
    /// All of them: some rule takes the user as a whole.
    All,
    /// These, sorted.
    Named(Vec<String>),
}

/// The rules of a profile: rooms, hooks, commands, routes, documents. Shared by all threads.
#[derive(Debug)]
pub struct Rules {}

impl Rules {
    /// The namespace of this name, if the profile has it.
    pub fn namespace(&self, _name: &str) -> Option<NamespaceId> {
        todo!()
    }

    /// The name of a namespace.
    pub fn namespace_name(&self, _id: NamespaceId) -> &str {
        todo!()
    }

    /// The names of all namespaces, by their ids.
    pub fn namespaces(&self) -> &[Box<str>] {
        todo!()
    }

    /// Which claims the rules read.
    pub fn claims_used(&self) -> &ClaimsUsed {
        todo!()
    }

    /// What becomes of an event from a backend.
    pub fn route(&self, _arrival: &Arrival<'_>) -> Outcome {
        todo!()
    }

    /// The same, with a line for each thing that was looked at, and why it was taken or not.
    pub fn explain(&self, _arrival: &Arrival<'_>) -> (Outcome, Vec<String>) {
        todo!()
    }

    /// What a new connection gets: its rooms and what goes out.
    pub fn on_connect(&self, _namespace: NamespaceId, _facts: &Facts<'_>) -> Welcome {
        todo!()
    }

    /// What a refreshed token changes for a socket in these rooms; `facts` hold the new claims.
    pub fn on_refresh(&self, _namespace: NamespaceId, _rooms: &[RoomName], _facts: &Facts<'_>) -> Refreshed {
        todo!()
    }

    /// What is told when the socket has entered the room other than by a command.
    pub fn on_enter(&self, _namespace: NamespaceId, _room: &RoomName, _facts: &Facts<'_>) -> Vec<Effect> {
        todo!()
    }

    /// What is told when the socket has left the room other than by a command: by its end, above all.
    pub fn on_leave(&self, _namespace: NamespaceId, _room: &RoomName, _facts: &Facts<'_>) -> Vec<Effect> {
        todo!()
    }

    /// Whether anything is told when the first of a user's sockets enters the room.
    pub fn watches_user_enter(&self, _namespace: NamespaceId, _room: &RoomName) -> bool {
        todo!()
    }

    /// What is told when the first of a user's sockets, `facts.socket`, has entered the room.
    pub fn on_user_enter(&self, _namespace: NamespaceId, _room: &RoomName, _facts: &Facts<'_>) -> Vec<Effect> {
        todo!()
    }

    /// Whether the hooks of presence name rooms of this kind, so that they must be remembered for a user.
    pub fn remembers_room(&self, _namespace: NamespaceId, _room: &RoomName) -> bool {
        todo!()
    }

    /// What is told when a user's first socket came.
    pub fn on_user_online(&self, _presence: &Presence<'_>) -> Vec<Emission> {
        todo!()
    }

    /// What is told when a user's last socket has been gone for [`Rules::offline_grace`].
    pub fn on_user_offline(&self, _presence: &Presence<'_>) -> Vec<Emission> {
        todo!()
    }

    /// How long a user's last socket must be gone before the user is offline.
    pub fn offline_grace(&self) -> Duration {
        todo!()
    }

    /// The command of this name in the namespace.
    pub fn command(&self, _namespace: NamespaceId, _name: &str) -> Option<CommandId> {
        todo!()
    }

    /// Starts a command. `data` is the raw JSON of the client's first argument; `wants_ack` says whether the client asked for an answer.
    pub fn start(
        &self,
        _namespace: NamespaceId,
        _command: CommandId,
        _data: Option<&str>,
        _wants_ack: bool,
        _facts: &Facts<'_>,
    ) -> Run {
        todo!()
    }

    /// The document at a path, with the parts of the path that it names.
    pub fn document(&self, _method: &str, _path: &str) -> Option<(DocumentId, Vec<String>)> {
        todo!()
    }

    /// Writes a document. `parts` are those of [`Rules::document`]; `gateway` gives the raw JSON of a field of `{gateway.…}`.
    pub fn write_document(
        &self,
        _document: DocumentId,
        _parts: &[String],
        _now_unix_ms: u64,
        _gateway: &dyn Fn(&str) -> Option<String>,
    ) -> String {
        todo!()
    }
}
