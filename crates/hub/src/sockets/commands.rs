//! The commands of sockets: one of a connection after the other, and each goes on when the world has answered. What is left of a socket that
//! goes while one waits is handed to `unfinished`.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Moment, Output, Socket, Sockets, THERE};
use crate::codes::ErrorCode;
use crate::names::RoomName;
use crate::rooms::{Join, Rooms, SocketKey, Watch};
use crate::rules::{CommandId, Facts, FreshId, NewId, Place, Progress, Reply, Request, Run, User};
use crate::unfinished::{UNFINISHED_MAX, UNFINISHED_MAX_BYTES, Unfinished, Waiting};

/// A command that waits for the world, and those that wait for it.
#[derive(Debug)]
pub(super) struct Commands {
    run: Run,
    ack: Option<u64>,
    ticket: u32,
    /// Bound: `limits.commands_waiting` commands and `limits.message_bytes` bytes; then `busy`.
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
}

/// Whose command waits for the world.
#[derive(Debug)]
pub(super) enum Asker {
    /// A socket's.
    Socket(SocketKey),
    /// That of one that is gone.
    Gone(Box<Unfinished>),
}

impl Sockets {
    /// A client's command. `data` is the raw JSON of its first argument.
    #[allow(
        clippy::too_many_arguments,
        reason = "one call for each message: a struct would only name the same things again"
    )]
    pub fn command(
        &mut self,
        key: SocketKey,
        name: &str,
        data: Option<&str>,
        ack: Option<u64>,
        moment: &Moment<'_>,
        watch: &mut dyn Watch,
        out: &mut Vec<Output>,
    ) {
        let Some(command) = self.profile.rules.command(self.get(key).namespace, name) else {
            return out.push(Output::Failed {
                key,
                ack,
                code: ErrorCode::UnknownCommand,
                message: format!("unknown command {name:?}"),
                message_id: None,
            });
        };
        let limits = &self.profile.limits;
        let (waiting_max, bytes_max) = (limits.commands_waiting as usize, limits.message_bytes);
        if let Some(commands) = &mut self.get_mut(key).commands {
            let bytes = commands.waiting_bytes + data.map_or(0, str::len);
            if commands.waiting.len() >= waiting_max || bytes as u64 > bytes_max {
                let message = "too many commands wait; try again".to_owned();
                return out.push(Output::Failed { key, ack, code: ErrorCode::Busy, message, message_id: None });
            }
            commands.waiting_bytes = bytes;
            return commands.waiting.push_back(Waiting { command, data: data.map(Box::from), ack });
        }
        if let Some((run, ticket)) = self.start(key, command, data, ack, moment, watch, out) {
            let commands = Commands { run, ack, ticket, waiting: VecDeque::new(), waiting_bytes: 0 };
            self.get_mut(key).commands = Some(Box::new(commands));
        }
    }

    /// The answer to a [`Output::Wait`]. One that nobody waits for is dropped.
    pub fn resume(
        &mut self,
        ticket: u32,
        reply: Reply,
        moment: &Moment<'_>,
        watch: &mut dyn Watch,
        out: &mut Vec<Output>,
    ) {
        let key = match self.askers.remove(&ticket) {
            Some(Asker::Socket(key)) => key,
            Some(Asker::Gone(unfinished)) => return self.finish(unfinished, reply, moment, out),
            None => return,
        };
        let Some(mut commands) = self.get_mut(key).commands.take() else { return };
        if let Some(next) = self.advance(key, &mut commands.run, commands.ack, Some(reply), moment, watch, out) {
            commands.ticket = next;
            self.get_mut(key).commands = Some(commands);
            return;
        }
        while let Some(Waiting { command, data, ack }) = commands.waiting.pop_front() {
            commands.waiting_bytes -= data.as_ref().map_or(0, |data| data.len());
            if let Some((run, ticket)) = self.start(key, command, data.as_deref(), ack, moment, watch, out) {
                commands.run = run;
                commands.ack = ack;
                commands.ticket = ticket;
                self.get_mut(key).commands = Some(commands);
                return;
            }
        }
    }

    /// Goes on with the commands of a socket that is gone.
    fn finish(&mut self, mut unfinished: Box<Unfinished>, reply: Reply, moment: &Moment<'_>, out: &mut Vec<Output>) {
        let mut emissions = Vec::new();
        let request = unfinished.go_on(&self.profile, Some(reply), moment, &mut emissions);
        out.extend(emissions.into_iter().map(Output::Emit));
        match request {
            Some(request) => {
                let user = unfinished.user.clone();
                self.gone_bytes -= unfinished.bytes;
                unfinished.bytes = unfinished.held_bytes();
                self.gone_bytes += unfinished.bytes;
                self.wait(Asker::Gone(unfinished), user, request, out);
            }
            None => {
                self.gone -= 1;
                self.gone_bytes -= unfinished.bytes;
            }
        }
    }

    /// Has the world asked; the ticket of the question.
    fn wait(&mut self, asker: Asker, user: Arc<User>, request: Request, out: &mut Vec<Output>) -> u32 {
        self.last_ticket = self.last_ticket.wrapping_add(1);
        let ticket = self.last_ticket;
        self.askers.insert(ticket, asker);
        out.push(Output::Wait { user, ticket, request });
        ticket
    }

    /// Starts a command; the run and its ticket if it has to wait.
    #[allow(clippy::too_many_arguments, reason = "as for `command`")]
    fn start(
        &mut self,
        key: SocketKey,
        command: CommandId,
        data: Option<&str>,
        ack: Option<u64>,
        moment: &Moment<'_>,
        watch: &mut dyn Watch,
        out: &mut Vec<Output>,
    ) -> Option<(Run, u32)> {
        let mut run = self.profile.rules.start(self.get(key).namespace, command, data, ack.is_some());
        let ticket = self.advance(key, &mut run, ack, None, moment, watch, out)?;
        Some((run, ticket))
    }

    /// Takes a run as far as it goes. Returns the ticket of its wait, or `None` when it is over.
    #[allow(clippy::too_many_arguments, reason = "as for `command`")]
    fn advance(
        &mut self,
        key: SocketKey,
        run: &mut Run,
        ack: Option<u64>,
        reply: Option<Reply>,
        moment: &Moment<'_>,
        watch: &mut dyn Watch,
        out: &mut Vec<Output>,
    ) -> Option<u32> {
        let new_id = FreshId::new(moment.new_id);
        // Field by field: the counts of what all shards share are not touched for each message.
        let socket = self.sockets[key.index()].as_deref().expect(THERE);
        let facts = Facts {
            now_unix_ms: moment.now_unix_ms,
            new_id: NewId::Fresh(&new_id),
            socket: Some(socket.id),
            user: &socket.user,
        };
        let gives_latest = self.profile.rules.gives_latest();
        let (asked, entered, left) = (gives_latest.then(Vec::new), Vec::new(), Vec::new());
        let mut seat = Seat { rooms: &mut self.rooms, key, watch, asked, entered, left };
        let mut effects = Vec::new();
        let progress = run.advance(&self.profile.rules, &facts, &mut seat, reply, &mut effects);
        let Seat { asked, entered, left, .. } = seat;
        self.carry_out(key, ack, effects, out);
        left.iter().for_each(|room| self.left(key, room, out));
        entered.iter().for_each(|room| self.entered(key, room, out));
        asked.iter().flatten().for_each(|room| self.latest(key, room, out));
        match progress {
            Progress::Done => None,
            Progress::Wait(request) => {
                let user = self.get(key).user.clone();
                Some(self.wait(Asker::Socket(key), user, request, out))
            }
        }
    }

    /// The commands of a socket that goes. Returns how many of them are dropped.
    pub(super) fn leave_behind(&mut self, key: SocketKey, commands: Commands) -> usize {
        let Commands { run, ticket, waiting, waiting_bytes, .. } = commands;
        let Socket { namespace, user, id, .. } = self.get(key);
        let bytes = waiting_bytes + run.held_bytes();
        if self.gone >= UNFINISHED_MAX || self.gone_bytes + bytes > UNFINISHED_MAX_BYTES {
            self.askers.remove(&ticket);
            return waiting.len() + 1;
        }
        let (id, namespace, user) = (*id, *namespace, user.clone());
        let rooms = self.rooms.of(key).cloned().collect();
        let unfinished = Unfinished { id, namespace, user, rooms, run, waiting, bytes };
        self.askers.insert(ticket, Asker::Gone(Box::new(unfinished)));
        self.gone += 1;
        self.gone_bytes += bytes;
        0
    }
}

/// Where the acting socket is, as the rules see it.
struct Seat<'a> {
    rooms: &'a mut Rooms,
    key: SocketKey,
    watch: &'a mut dyn Watch,
    /// The rooms that it wants to be in, whether or not it was already; where no room has a latest value, nobody wants to know.
    asked: Option<Vec<RoomName>>,
    entered: Vec<RoomName>,
    left: Vec<RoomName>,
}

impl Place for Seat<'_> {
    fn is_member(&self, room: &RoomName) -> bool {
        self.rooms.is_member(self.key, room)
    }

    fn join(&mut self, room: &RoomName) -> Join {
        let join = self.rooms.join(self.key, room, self.watch);
        if let Some(asked) = &mut self.asked {
            asked.push(room.clone());
        }
        if join == Join::Newly {
            self.entered.push(room.clone());
        }
        join
    }

    fn leave(&mut self, room: &RoomName) -> bool {
        let left = self.rooms.leave(self.key, room, self.watch);
        if left {
            self.left.push(room.clone());
        }
        left
    }
}
