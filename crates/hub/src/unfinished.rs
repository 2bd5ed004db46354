//! Commands whose socket is gone: the one that was waiting for the world, and those that waited for it. What was asked of the world may have
//! happened already, and what a client said before it went is not lost with it. Nobody is there any more to be answered: only what goes to
//! others is left.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::emission::Emission;
use crate::names::{NamespaceId, RoomName, SocketId};
use crate::profile::Profile;
use crate::rooms::Join;
use crate::rules::{CommandId, Effect, Facts, FreshId, NewId, Place, Progress, Reply, Request, Run, User};
use crate::sockets::Moment;

/// Sockets of one shard that are gone and have commands under way; those of one more are dropped.
pub(crate) const UNFINISHED_MAX: usize = 1_000;

/// What all their commands may hold, in bytes.
pub(crate) const UNFINISHED_MAX_BYTES: usize = 16 * 1024 * 1024;

/// A command that waits for its turn.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) command: CommandId,
    pub(crate) data: Option<Box<str>>,
    pub(crate) ack: Option<u64>,
}

/// What a socket that is gone has left.
#[derive(Debug)]
pub(crate) struct Unfinished {
    pub(crate) id: SocketId,
    pub(crate) namespace: NamespaceId,
    pub(crate) user: Arc<User>,
    /// The rooms that it was in: it speaks as their member still.
    pub(crate) rooms: Vec<RoomName>,
    pub(crate) run: Run,
    pub(crate) waiting: VecDeque<Waiting>,
    /// What it [holds](Self::held_bytes), as far as it was counted.
    pub(crate) bytes: usize,
}

impl Unfinished {
    /// What its commands hold, in bytes: that of the one under way, and the data of those that wait.
    pub(crate) fn held_bytes(&self) -> usize {
        let waiting = self.waiting.iter().filter_map(|waiting| waiting.data.as_deref());
        self.run.held_bytes() + waiting.map(str::len).sum::<usize>()
    }

    /// Goes on with the reply, and with what waits, as far as that goes. Returns what is asked of the world next, or `None` when all is over.
    pub(crate) fn go_on(
        &mut self,
        profile: &Profile,
        mut reply: Option<Reply>,
        moment: &Moment<'_>,
        out: &mut Vec<Emission>,
    ) -> Option<Request> {
        loop {
            let new_id = FreshId::new(moment.new_id);
            let facts = Facts {
                now_unix_ms: moment.now_unix_ms,
                new_id: NewId::Fresh(&new_id),
                socket: Some(self.id),
                user: &self.user,
            };
            let mut effects = Vec::new();
            let mut place = Absent(&mut self.rooms);
            let progress = self.run.advance(&profile.rules, &facts, &mut place, reply.take(), &mut effects);
            out.extend(effects.into_iter().filter_map(|effect| match effect {
                Effect::Emit(emission) => Some(emission),
                Effect::ToSelf { .. } | Effect::Ack { .. } | Effect::Failed { .. } => None,
            }));
            if let Progress::Wait(request) = progress {
                return Some(request);
            }
            let Waiting { command, data, ack } = self.waiting.pop_front()?;
            self.run = profile.rules.start(self.namespace, command, data.as_deref(), ack.is_some());
        }
    }
}

/// The rooms of who is gone: they may change for what it said later, and nobody is told that it came or went.
struct Absent<'a>(&'a mut Vec<RoomName>);

impl Place for Absent<'_> {
    fn is_member(&self, room: &RoomName) -> bool {
        self.0.contains(room)
    }

    fn join(&mut self, room: &RoomName) -> Join {
        if !self.is_member(room) {
            self.0.push(room.clone());
        }
        Join::Already
    }

    fn leave(&mut self, room: &RoomName) -> bool {
        self.0.retain(|other| other != room);
        false
    }
}
