//! Documents that a profile serves over HTTP: which one is at a path, and what it says. Knows no HTTP but methods and paths.

use super::KindId;
use super::scope::{Branch, Scope};
use super::shape::Shape;
use super::template::Template;
use crate::names::NamespaceId;

/// What the gateway tells of itself in `{gateway.…}`, with what it is. Each is raw JSON.
pub const GATEWAY_FIELDS: &[(&str, &str)] = &[
    ("status", "`ok` (or `service.healthy`), or `degraded` while something that is set up is away"),
    ("reasons", "why it is degraded, as a list of texts"),
    ("service", "the service's name"),
    ("version", "its version"),
    ("redis", "`connected`, `disconnected` or `disabled`"),
    ("rabbitmq", "`connected`, `disconnected` or `disabled`"),
    ("uptime", "seconds since the start"),
    ("openConnections", "connections of this node"),
    ("sockets", "sockets of this node: a connection has one for each namespace that it is in"),
    ("connections", "connections since the start"),
    ("users", "the ids of the users who are online"),
    ("totalUsers", "the number of users who are online"),
    ("rooms", "rooms with their members' numbers, at most 1,000 of them"),
    ("totalRooms", "the number of rooms"),
];

/// A document.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) method: Box<str>,
    pub(crate) steps: Vec<Step>,
    pub(crate) calls: Vec<(Box<str>, Call)>,
    pub(crate) body: Shape,
    pub(crate) public: bool,
}

/// Something that is fetched for a document, as the profile says it.
#[derive(Debug)]
pub(crate) enum Call {
    Online(Template),
    Presence(Template),
    Sockets(NamespaceId),
    Rooms(KindId),
    Members(KindId),
}

/// Something to be fetched for a document that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetch {
    /// Whether this user is online.
    Online(String),
    /// The presence of these users.
    Presence(Vec<String>),
    /// The number of sockets in this namespace.
    Sockets(NamespaceId),
    /// The number of rooms of this kind.
    Rooms(KindId),
    /// The number of sockets in rooms of this kind, each counted once.
    Members(KindId),
}

/// A part of a path between slashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Exactly(Box<str>),
    Part(Box<str>),
}

impl Page {
    /// Parses `GET /user-status/{userId}` into a method and the steps of the path.
    pub(crate) fn parse(title: &str) -> Result<(Box<str>, Vec<Step>), String> {
        let (method, path) = title.split_once(' ').ok_or("is no method and path, such as `GET /health`")?;
        let path = path.strip_prefix('/').ok_or("has a path that does not begin with `/`")?;
        if !matches!(method, "GET") {
            return Err("has a method other than GET: documents are read".to_owned());
        }
        let steps = path
            .split('/')
            .map(|step| match step.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                Some(name) if super::pattern::is_identifier(name) => Ok(Step::Part(Box::from(name))),
                Some(name) => Err(format!("has `{{{name}}}`, which is no name for a part")),
                None => Ok(Step::Exactly(Box::from(step))),
            })
            .collect::<Result<_, String>>()?;
        Ok((Box::from(method), steps))
    }

    /// What its templates may name in `path`.
    pub(crate) fn parts(steps: &[Step]) -> Branch {
        let names = steps.iter().filter_map(|step| match step {
            Step::Part(name) => Some((name.to_string(), Branch::Value)),
            Step::Exactly(_) => None,
        });
        Branch::Only(names.collect())
    }

    /// The parts of a path that matches.
    pub(crate) fn matches(&self, method: &str, path: &str) -> Option<Vec<String>> {
        let path = path.strip_prefix('/')?;
        let path = if path.len() > 1 { path.trim_end_matches('/') } else { path };
        let given: Vec<&str> = path.split('/').collect();
        if method != &*self.method || given.len() != self.steps.len() {
            return None;
        }
        let mut parts = Vec::new();
        for (step, given) in self.steps.iter().zip(given) {
            match step {
                Step::Exactly(text) if **text == *given => {}
                Step::Exactly(_) => return None,
                Step::Part(_) if given.is_empty() => return None,
                Step::Part(_) => parts.push(given.to_owned()),
            }
        }
        Some(parts)
    }

    /// What it wants fetched. Who has an id that no user can have is nobody, and so not online.
    pub(crate) fn fetches(&self, parts: &[String]) -> Vec<(&str, Fetch)> {
        let texts = self.texts(parts);
        let scope = Scope { texts: &texts, ..Scope::default() };
        let fetch = |call: &Call| {
            Some(match call {
                Call::Online(user) => Fetch::Online(user.name(&scope).unwrap_or_default()),
                Call::Presence(users) => Fetch::Presence(users.names(&scope).ok()?),
                Call::Sockets(namespace) => Fetch::Sockets(*namespace),
                Call::Rooms(kind) => Fetch::Rooms(*kind),
                Call::Members(kind) => Fetch::Members(*kind),
            })
        };
        self.calls.iter().filter_map(|(name, call)| Some((&**name, fetch(call)?))).collect()
    }

    /// Writes it, with what was fetched. What is missing is `null`.
    pub(crate) fn write(
        &self,
        parts: &[String],
        fetched: &[(Box<str>, Box<str>)],
        now_unix_ms: u64,
        gateway: &dyn Fn(&str) -> Option<String>,
    ) -> String {
        let texts = self.texts(parts);
        let scope = Scope { now_unix_ms, texts: &texts, locals: fetched, gateway: Some(gateway), ..Scope::default() };
        self.body.render(&scope).unwrap_or_else(|_| "null".to_owned())
    }

    fn texts<'a>(&'a self, parts: &'a [String]) -> Vec<(&'a str, &'a str)> {
        let names = self.steps.iter().filter_map(|step| match step {
            Step::Part(name) => Some(&**name),
            Step::Exactly(_) => None,
        });
        names.zip(parts.iter().map(String::as_str)).collect()
    }
}
