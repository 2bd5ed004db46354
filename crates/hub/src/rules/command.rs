//! A command of the profile as it was built: what each of its phases does, and which clients may send it. Its way through them is `run`'s.

use super::arguments::Field;
use super::condition::Condition;
use super::emit::Emit;
use super::method::ServiceCall;
use super::shape::Shape;
use super::template::Template;
use super::{CommandId, Rules};
use crate::codes::ErrorCode;
use crate::names::{EventName, NamespaceId};

/// A command of the profile, compiled.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) name: Box<str>,
    pub(crate) namespaces: Option<Vec<NamespaceId>>,
    pub(crate) args: Vec<Field>,
    pub(crate) bare: Option<Box<str>>,
    pub(crate) require: Vec<Require>,
    pub(crate) calls: Vec<(Box<str>, Call)>,
    pub(crate) locals: Vec<(Box<str>, Shape)>,
    pub(crate) publish: Option<Publication>,
    pub(crate) join: Vec<Template>,
    pub(crate) leave: Vec<Template>,
    pub(crate) answer: Answer,
    pub(crate) emit: Vec<Emit>,
}

/// A value that is fetched.
#[derive(Debug)]
pub(crate) enum Call {
    /// The presence of these users.
    Presence(Template),
    /// A service's reply.
    Service(ServiceCall),
}

/// Something that must hold.
#[derive(Debug)]
pub(crate) struct Require {
    pub(crate) test: Test,
    pub(crate) code: ErrorCode,
    pub(crate) message: Option<Template>,
}

#[derive(Debug)]
pub(crate) enum Test {
    Member(Template),
    That(Condition),
}

#[derive(Debug)]
pub(crate) struct Publication {
    pub(crate) exchange: Option<String>,
    pub(crate) key: Template,
    pub(crate) body: Shape,
}

#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) ack: Option<Shape>,
    pub(crate) event: Option<EventName>,
    pub(crate) data: Option<Shape>,
}

impl Rules {
    /// The command of this name in the namespace.
    pub fn command(&self, namespace: NamespaceId, name: &str) -> Option<CommandId> {
        let index = *self.commands_by_name.get(name)?;
        let command = &self.commands[index as usize];
        if !self.governs(namespace) {
            return None;
        }
        command.namespaces.as_ref().is_none_or(|own| own.contains(&namespace)).then_some(CommandId(index))
    }

    /// Whether a command says something to others.
    pub fn emits(&self, command: CommandId) -> bool {
        !self.commands[command.0 as usize].emit.is_empty()
    }

    /// The name of a command.
    pub fn command_name(&self, command: CommandId) -> &str {
        &self.commands[command.0 as usize].name
    }
}
