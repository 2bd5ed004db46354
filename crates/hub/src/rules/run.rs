//! One command on its way through its phases: args, require, call, let, publish, join and leave, answer, emit.
//! A phase that fails stops the rest. Does nothing itself: what needs the world is a request to the driver, and comes back as a reply.

use bytes::Bytes;

use super::facts::{Effect, Facts};
use super::{CommandId, Rules};
use crate::codes::ErrorCode;
use crate::names::RoomName;

/// Where the acting socket is; implemented by who keeps the rooms.
pub trait Place {
    /// Whether the socket is in the room.
    fn is_member(&self, room: &RoomName) -> bool;
    /// Puts the socket into the room.
    fn join(&mut self, room: &RoomName) -> Join;
    /// Takes the socket out of the room. Returns whether it was in it.
    fn leave(&mut self, room: &RoomName) -> bool;
}

/// What became of a join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// The socket is in the room now.
    Newly,
    /// It was in it before.
    Already,
    /// It is in as many rooms as it may be.
    TooMany,
}

/// What a command needs from the world before it can go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// The presence of users, as [`Reply::Json`] `{id: {online, lastSeen}}`.
    Presence {
        /// The ids, as texts.
        user_ids: Vec<String>,
    },
    /// A question to an access service: [`Reply::Allowed`], [`Reply::Refused`] or [`Reply::Failed`].
    Ask {
        /// What to `GET`, complete.
        url: String,
        /// How long it may take.
        timeout_ms: u64,
    },
    /// A message to the broker: [`Reply::Published`], [`Reply::NotConfigured`] or [`Reply::Failed`].
    Publish {
        /// The exchange; `None` for the profile's.
        exchange: Option<String>,
        /// The routing key.
        key: String,
        /// The body.
        body: Bytes,
        /// The message's identity, which a repeat carries again.
        message_id: String,
    },
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// A value, as raw JSON.
    Json(Bytes),
    /// The access service says yes.
    Allowed,
    /// The access service says no.
    Refused,
    /// The broker confirmed.
    Published,
    /// Nothing of the kind is set up: the phase is skipped.
    NotConfigured,
    /// It went wrong; the command ends with this.
    Failed {
        /// The code.
        code: ErrorCode,
        /// What went wrong, for the client.
        message: String,
    },
}

/// Whether a command is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// It is; its effects are in the list.
    Done,
    /// It goes on when the reply is there. Effects noted so far are to be carried out now.
    Wait(Request),
}

/// A command under way. Owns what it needs, so that it can wait.
#[derive(Debug)]
pub struct Run {
    _command: CommandId,
}

impl Run {
    /// Goes on as far as it can: first with `None`, then, after each [`Progress::Wait`], with the reply. The facts may be newer at each call;
    /// the new id is the first call's.
    pub fn advance(
        &mut self,
        _rules: &Rules,
        _facts: &Facts<'_>,
        _place: &mut dyn Place,
        _reply: Option<Reply>,
        _effects: &mut Vec<Effect>,
    ) -> Progress {
        todo!()
    }
}
