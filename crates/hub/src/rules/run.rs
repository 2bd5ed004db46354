//! One command on its way through its phases: args, require, call, let, publish, join and leave, answer, emit. What it is stands in `command`.
//! A phase that fails stops the rest. Does nothing itself: what needs the world is a request to the driver, and comes back as a reply.

use bytes::Bytes;

use super::arguments;
use super::command::{Answer, Call, Command, Publication, Test};
use super::facts::{Effect, Facts, NewId};
use super::json::{self, Document, Malformed};
use super::kind::{Moment, Verdict};
use super::method::Callee;
use super::route::locals;
use super::scope::{Named, RoomView, Scope};
use super::shape::Shape;
use super::template::Unmet;
use super::{CommandId, Rules};
use crate::codes::ErrorCode;
use crate::emission::Payload;
use crate::names::{NamespaceId, RoomName};

/// Where the acting socket is; implemented by who keeps the rooms.
pub trait Place {
    /// Whether the socket is in the room.
    fn is_member(&self, room: &RoomName) -> bool;
    /// Puts the socket into the room.
    fn join(&mut self, room: &RoomName) -> Join;
    /// Takes the socket out of the room. Returns whether it was in it.
    fn leave(&mut self, room: &RoomName) -> bool;
}

pub use crate::rooms::Join;

/// What a command needs from the world before it can go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// The presence of users, as [`Reply::Json`] `{id: {online, lastSeen}}`.
    Presence {
        /// The ids, as texts.
        user_ids: Vec<String>,
    },
    /// A call of a service: [`Reply::Json`], [`Reply::NotConfigured`] or [`Reply::Failed`].
    Call {
        /// What is called.
        callee: Callee,
        /// The message, as raw JSON; empty where none goes along.
        message: String,
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
    command: CommandId,
    namespace: NamespaceId,
    wants_ack: bool,
    /// The id that it goes by, once it has waited: an id is the same before a wait and after it.
    new_id: Option<Box<str>>,
    args: Named,
    locals: Named,
    /// The rooms to enter and those to leave, once they are known.
    entering: Vec<RoomName>,
    leaving: Vec<RoomName>,
    step: Step,
}

/// Where a run is. `Awaiting…` steps go on with a reply.
#[derive(Debug)]
enum Step {
    Begin { args: Result<Named, Failure> },
    Call(usize),
    AwaitingCall(usize),
    Publish,
    AwaitingPublish,
    Rooms,
    Enter(usize),
    AwaitingAsk(usize),
    Move,
    Over,
}

/// Why a command ends early.
#[derive(Debug)]
struct Failure {
    code: ErrorCode,
    message: String,
    message_id: Option<String>,
}

impl Failure {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), message_id: None }
    }
}

impl Rules {
    /// Starts a command. `data` is the raw JSON of the client's first argument; `wants_ack` says whether the client asked for an answer.
    pub fn start(&self, namespace: NamespaceId, command: CommandId, data: Option<&str>, wants_ack: bool) -> Run {
        Run {
            command,
            namespace,
            wants_ack,
            new_id: None,
            args: Named::new(),
            locals: Named::new(),
            entering: Vec::new(),
            leaving: Vec::new(),
            step: Step::Begin { args: read_arguments(&self.commands[command.0 as usize], data) },
        }
    }
}

impl Run {
    /// What it holds of its arguments and of the answers to its questions, in bytes.
    pub(crate) fn held_bytes(&self) -> usize {
        self.args.iter().chain(&self.locals).map(|(name, value)| name.len() + value.len()).sum()
    }

    /// Goes on as far as it can: first with `None`, then, after each [`Progress::Wait`], with the reply. The facts may be newer at each call;
    /// the new id is the one it started with.
    pub fn advance(
        &mut self,
        rules: &Rules,
        facts: &Facts<'_>,
        place: &mut dyn Place,
        reply: Option<Reply>,
        effects: &mut Vec<Effect>,
    ) -> Progress {
        let kept = self.new_id.take();
        let facts = Facts { new_id: kept.as_deref().map_or(facts.new_id, NewId::Known), ..*facts };
        match self.go_on(rules, &facts, place, reply, effects) {
            Ok(Progress::Wait(request)) => {
                self.new_id = Some(Box::from(facts.new_id.as_str()));
                Progress::Wait(request)
            }
            Ok(Progress::Done) => Progress::Done,
            Err(Failure { code, message, message_id }) => {
                self.step = Step::Over;
                effects.push(Effect::Failed { code, message, message_id });
                Progress::Done
            }
        }
    }

    fn go_on(
        &mut self,
        rules: &Rules,
        facts: &Facts<'_>,
        place: &mut dyn Place,
        mut reply: Option<Reply>,
        effects: &mut Vec<Effect>,
    ) -> Result<Progress, Failure> {
        let command = &rules.commands[self.command.0 as usize];
        loop {
            match std::mem::replace(&mut self.step, Step::Over) {
                Step::Begin { args } => {
                    self.args = args?;
                    self.require(rules, command, facts, place)?;
                    self.step = Step::Call(0);
                }
                Step::Call(index) => match command.calls.get(index) {
                    Some((_, Call::Service(call))) => {
                        let (callee, message) = call.ask(&self.scope(rules, facts)).map_err(unmet)?;
                        self.step = Step::AwaitingCall(index);
                        return Ok(Progress::Wait(Request::Call { callee, message }));
                    }
                    Some((name, Call::Presence(presence))) => {
                        let user_ids = presence.names(&self.scope(rules, facts)).map_err(unmet)?;
                        if !user_ids.is_empty() {
                            self.step = Step::AwaitingCall(index);
                            return Ok(Progress::Wait(Request::Presence { user_ids }));
                        }
                        self.locals.push((name.clone(), Box::from("{}")));
                        self.step = Step::Call(index + 1);
                    }
                    None => {
                        let made = locals(&command.locals, &self.scope(rules, facts)).map_err(unmet)?;
                        self.locals.extend(made);
                        self.step = Step::Publish;
                    }
                },
                Step::AwaitingCall(index) => {
                    let value = match reply.take() {
                        Some(Reply::Json(value)) => value,
                        Some(Reply::NotConfigured) => Bytes::from_static(b"null"),
                        other => return Err(unexpected(other)),
                    };
                    let value = Document::parse(&value)
                        .map_err(|error| Failure::new(ErrorCode::Internal, error.to_string()))?
                        .raw
                        .into();
                    self.locals.push((command.calls[index].0.clone(), value));
                    // The socket may have been taken out of its rooms in the meantime.
                    self.require(rules, command, facts, place)?;
                    self.step = Step::Call(index + 1);
                }
                Step::Publish => match &command.publish {
                    Some(publication) => {
                        let request = self.publication(rules, publication, facts)?;
                        self.step = Step::AwaitingPublish;
                        return Ok(Progress::Wait(request));
                    }
                    None => self.step = Step::Rooms,
                },
                Step::AwaitingPublish => match reply.take() {
                    Some(Reply::Published | Reply::NotConfigured) => self.step = Step::Rooms,
                    Some(Reply::Failed { code: ErrorCode::Unknown, message }) => {
                        let message_id = Some(facts.new_id.as_str().to_owned());
                        return Err(Failure { code: ErrorCode::Unknown, message, message_id });
                    }
                    other => return Err(unexpected(other)),
                },
                Step::Rooms => {
                    let (entering, leaving) = {
                        let scope = self.scope(rules, facts);
                        (
                            super::emit::rooms(&command.join, &scope).map_err(unmet)?,
                            super::emit::rooms(&command.leave, &scope).map_err(unmet)?,
                        )
                    };
                    if entering.is_empty()
                        && leaving.is_empty()
                        && !(command.join.is_empty() && command.leave.is_empty())
                    {
                        return Err(Failure::new(ErrorCode::BadField, "the message names no room"));
                    }
                    (self.entering, self.leaving) = (entering, leaving);
                    self.step = Step::Enter(0);
                }
                Step::Enter(index) => match self.entering.get(index) {
                    // Who is in already is in: the rule was asked when it entered.
                    Some(room) if place.is_member(room) => self.step = Step::Enter(index + 1),
                    Some(room) => match rules.may_enter(self.namespace, room, facts) {
                        Verdict::Yes => self.step = Step::Enter(index + 1),
                        Verdict::Ask { url, timeout_ms } => {
                            self.step = Step::AwaitingAsk(index);
                            return Ok(Progress::Wait(Request::Ask { url, timeout_ms }));
                        }
                        Verdict::No(code, message) => return Err(Failure::new(code, message)),
                    },
                    None => self.step = Step::Move,
                },
                Step::AwaitingAsk(index) => match reply.take() {
                    Some(Reply::Allowed | Reply::NotConfigured) => self.step = Step::Enter(index + 1),
                    Some(Reply::Refused) => {
                        return Err(Failure::new(
                            ErrorCode::Forbidden,
                            format!("you may not enter `{}`", self.entering[index]),
                        ));
                    }
                    other => return Err(unexpected(other)),
                },
                Step::Move => {
                    self.move_rooms(rules, facts, place, effects)?;
                    self.finish(rules, command, facts, effects)?;
                    return Ok(Progress::Done);
                }
                Step::Over => return Ok(Progress::Done),
            }
        }
    }

    fn require(&self, rules: &Rules, command: &Command, facts: &Facts<'_>, place: &dyn Place) -> Result<(), Failure> {
        let scope = self.scope(rules, facts);
        for require in &command.require {
            let (holds, otherwise) = match &require.test {
                Test::That(condition) => (rules.holds(condition, &scope), "this is not allowed".to_owned()),
                Test::Member(template) => {
                    let rooms = super::emit::rooms(std::slice::from_ref(template), &scope).map_err(unmet)?;
                    let stranger = rooms.iter().find(|room| !place.is_member(room));
                    let otherwise =
                        stranger.map_or_else(String::new, |room| format!("you are not a member of `{room}`"));
                    (stranger.is_none() && !rooms.is_empty(), otherwise)
                }
            };
            if !holds {
                let said = require.message.as_ref().and_then(|message| message.plain(&scope).ok());
                return Err(Failure::new(require.code, said.unwrap_or(otherwise)));
            }
        }
        Ok(())
    }

    fn publication(&self, rules: &Rules, publication: &Publication, facts: &Facts<'_>) -> Result<Request, Failure> {
        let scope = self.scope(rules, facts);
        Ok(Request::Publish {
            exchange: publication.exchange.clone(),
            key: publication.key.name(&scope).map_err(unmet)?,
            body: Bytes::from(publication.body.render(&scope).map_err(unmet)?),
            message_id: facts.new_id.as_str().to_owned(),
        })
    }

    /// Enters and leaves, and tells the others of what changed: joining twice, or leaving what one is not in, changes nothing.
    fn move_rooms(
        &self,
        rules: &Rules,
        facts: &Facts<'_>,
        place: &mut dyn Place,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Failure> {
        if let Some(room) = self.leaving.iter().find(|room| !rules.may_leave(self.namespace, room)) {
            return Err(Failure::new(ErrorCode::Forbidden, format!("you may not leave `{room}`")));
        }
        let mut entered: Vec<&RoomName> = Vec::new();
        for room in &self.entering {
            match place.join(room) {
                Join::Newly => entered.push(room),
                Join::Already => {}
                Join::TooMany => {
                    for room in entered {
                        place.leave(room);
                    }
                    return Err(Failure::new(
                        ErrorCode::TooManyRooms,
                        format!("you are in too many rooms to enter `{room}`"),
                    ));
                }
            }
        }
        for room in entered {
            rules.room_hook(Moment::Enter, self.namespace, room, facts, effects);
        }
        for room in &self.leaving {
            if place.leave(room) {
                rules.room_hook(Moment::Leave, self.namespace, room, facts, effects);
            }
        }
        Ok(())
    }

    /// Answers, then tells the others. `{room}` is the first room that was entered, or left.
    fn finish(
        &self,
        rules: &Rules,
        command: &Command,
        facts: &Facts<'_>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Failure> {
        let room = self.entering.first().or(self.leaving.first()).map(RoomName::as_str);
        let of_kind = room.and_then(|name| rules.kind_of(self.namespace, name));
        let parts = of_kind.as_ref().map(|(kind, captures)| kind.parts(captures)).unwrap_or_default();
        let kind = of_kind.as_ref().map_or("", |(kind, _)| &kind.name);
        let scope = Scope { room: room.map(|name| RoomView { name, kind, parts: &parts }), ..self.scope(rules, facts) };
        self.answer(&command.answer, &scope, effects)?;
        rules.run_emits(&command.emit, &scope, self.namespace, effects);
        Ok(())
    }

    fn answer(&self, answer: &Answer, scope: &Scope<'_>, effects: &mut Vec<Effect>) -> Result<(), Failure> {
        let render = |shape: &Option<Shape>| match shape {
            Some(shape) => shape.render(scope).map(Payload::json).map_err(unmet),
            None => Ok(Payload::json("")),
        };
        if self.wants_ack {
            let payload = match (&answer.ack, &answer.data) {
                (Some(_), _) => render(&answer.ack)?,
                (None, Some(_)) => render(&answer.data)?,
                // Who asks for an answer gets one, so that it need not wait for its time-out.
                (None, None) => Payload::json(r#"{"success":true}"#),
            };
            effects.push(Effect::Ack { payload });
        } else if let Some(event) = &answer.event {
            effects.push(Effect::ToSelf { event: event.clone(), payload: render(&answer.data)? });
        }
        Ok(())
    }

    fn scope<'a>(&'a self, rules: &Rules, facts: &'a Facts<'a>) -> Scope<'a> {
        Scope { args: &self.args, locals: &self.locals, ..rules.scope_in(facts, None) }
    }
}

fn read_arguments(command: &Command, data: Option<&str>) -> Result<Named, Failure> {
    let bad_message = |error: Malformed| Failure::new(ErrorCode::BadMessage, error.to_string());
    let read = |message: &Document<'_>| {
        arguments::read(&command.args, message).map_err(|what| Failure::new(ErrorCode::BadField, what))
    };
    let message = Document::of_text(data.unwrap_or("{}")).map_err(bad_message)?;
    match &command.bare {
        // A bare text or number stands for its field.
        Some(field)
            if message.raw.starts_with(|first: char| first == '"' || first == '-' || first.is_ascii_digit()) =>
        {
            let object = format!("{{{}:{}}}", json::quoted(field), message.raw);
            read(&Document::of_text(&object).map_err(bad_message)?)
        }
        Some(_) | None if command.args.is_empty() => Ok(Named::new()),
        Some(_) | None => read(&message),
    }
}

fn unmet(unmet: Unmet) -> Failure {
    match unmet {
        Unmet::Needed(what) => Failure::new(ErrorCode::BadField, what),
        Unmet::Optional => Failure::new(ErrorCode::BadField, "something that is needed here is missing"),
    }
}

/// A failure goes to the client as it is; a reply that fits no question is the driver's mistake.
fn unexpected(reply: Option<Reply>) -> Failure {
    match reply {
        Some(Reply::Failed { code, message }) => Failure::new(code, message),
        Some(Reply::Json(_) | Reply::Allowed | Reply::Refused | Reply::Published | Reply::NotConfigured) | None => {
            Failure::new(ErrorCode::Internal, "the gateway lost track of this command")
        }
    }
}
