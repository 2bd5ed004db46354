//! The rules of a profile and their one evaluator: for delivering, for `explain` and for `check` alike.
//! Raw JSON comes in and raw JSON goes out; payloads are never written again. Does nothing itself: decisions go out as values.

mod arguments;
mod build;
mod calls;
mod command;
mod condition;
mod describe;
mod document;
mod emit;
mod facts;
mod hook;
mod json;
mod kind;
mod latest;
mod method;
mod parts;
mod pattern;
mod reach;
mod route;
mod run;
mod scope;
mod shape;
mod template;

pub use document::{Fetch, GATEWAY_FIELDS};
pub use facts::{Arrival, Effect, Facts, FreshId, LeftOut, NewId, Origin, Outcome, Presence, Refreshed, User, Welcome};
pub use json::iso_8601;
pub use latest::Question;
pub use method::{Callee, HttpRequest, Message, Method, Verb};
pub(crate) use parts::raw_json;
pub(crate) use pattern::KeyPattern;
pub use run::{Join, Place, Progress, Reply, Request, Run};

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::names::{NamespaceId, RoomName};

/// A command of the profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CommandId(u32);

/// A document that the profile serves over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DocumentId(u32);

/// A kind of rooms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KindId(u32);

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
pub struct Rules {
    namespaces: Vec<Box<str>>,
    /// The most specific first.
    kinds: Vec<kind::Kind>,
    hooks: hook::Hooks,
    commands: Vec<command::Command>,
    commands_by_name: HashMap<Box<str>, u32>,
    routes: Vec<route::Route>,
    pages: Vec<document::Page>,
    conditions: condition::Conditions,
    claims: ClaimsUsed,
    /// Whether some room keeps a value or has a snapshot.
    has_latest: bool,
    methods: Vec<Arc<Method>>,
    messages: Vec<Message>,
    /// What could not be worked out, and how often; there are no more of them than the profile has conditions and hooks.
    errors: Mutex<BTreeMap<String, u64>>,
}

impl Rules {
    /// The namespace of this name, if the profile has it.
    pub fn namespace(&self, name: &str) -> Option<NamespaceId> {
        let index = self.namespaces.iter().position(|own| **own == *name)?;
        u32::try_from(index).ok().map(NamespaceId)
    }

    /// All namespaces of the profile.
    pub fn namespace_ids(&self) -> Vec<NamespaceId> {
        self.namespaces.iter().filter_map(|name| self.namespace(name)).collect()
    }

    /// The name of a namespace of the profile.
    pub fn namespace_name(&self, id: NamespaceId) -> &str {
        &self.namespaces[id.index()]
    }

    /// Whether a namespace is the profile's, so that its rules hold there.
    pub fn governs(&self, id: NamespaceId) -> bool {
        id.index() < self.namespaces.len()
    }

    /// The names of all namespaces, by their ids.
    pub fn namespaces(&self) -> &[Box<str>] {
        &self.namespaces
    }

    /// Which claims the rules read, beside `id`, `email` and `role`.
    pub fn claims_used(&self) -> &ClaimsUsed {
        &self.claims
    }

    /// The methods of services that rules call.
    pub fn methods(&self) -> &[Arc<Method>] {
        &self.methods
    }

    /// The messages that rules make for them.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// The conditions that could not be worked out, and the hooks' emits that could not be made, each with how often since the start.
    pub fn errors(&self) -> Vec<(String, u64)> {
        self.locked_errors().iter().map(|(what, times)| (what.clone(), *times)).collect()
    }

    /// What becomes of an event from a backend.
    pub fn route(&self, arrival: &Arrival<'_>) -> Outcome {
        self.decide(arrival, &mut route::Trace::off())
    }

    /// The same, with a line for each thing that was looked at, and why it was taken or not.
    pub fn explain(&self, arrival: &Arrival<'_>) -> (Outcome, Vec<String>) {
        let mut trace = route::Trace::on();
        let outcome = self.decide(arrival, &mut trace);
        (outcome, trace.lines())
    }

    /// The document at a path, with the parts of the path that it names, as they stand in it.
    pub fn document(&self, method: &str, path: &str) -> Option<(DocumentId, Vec<String>)> {
        self.pages.iter().zip(0..).find_map(|(page, index)| Some((DocumentId(index), page.matches(method, path)?)))
    }

    /// Whether a document is open to everyone, without the key of the server API.
    pub fn document_is_public(&self, document: DocumentId) -> bool {
        self.pages[document.0 as usize].public
    }

    /// What a document wants fetched before it is written, by name. `parts` are those of [`Rules::document`], decoded.
    pub fn document_fetches(&self, document: DocumentId, parts: &[String]) -> Vec<(&str, Fetch)> {
        self.pages[document.0 as usize].fetches(parts)
    }

    /// Writes a document. `parts` are those of [`Rules::document`], decoded; `fetched` what [`Rules::document_fetches`] asked for, as raw JSON;
    /// `gateway` gives the raw JSON of a field of [`GATEWAY_FIELDS`].
    pub fn write_document(
        &self,
        document: DocumentId,
        parts: &[String],
        fetched: &[(Box<str>, Box<str>)],
        now_unix_ms: u64,
        gateway: &dyn Fn(&str) -> Option<String>,
    ) -> String {
        self.pages[document.0 as usize].write(parts, fetched, now_unix_ms, gateway)
    }

    /// Whether a room is of this kind.
    pub fn is_of_kind(&self, kind: KindId, namespace: NamespaceId, room: &RoomName) -> bool {
        self.kind_of(namespace, room.as_str()).is_some_and(|(of, _)| *of.name == *self.kinds[kind.0 as usize].name)
    }

    fn decide(&self, arrival: &Arrival<'_>, trace: &mut route::Trace) -> Outcome {
        route::route(&self.routes, &self.conditions, arrival, &mut |condition| self.count_error(condition), trace)
    }

    /// Whether a condition holds; one that errs does not, and is counted.
    fn holds(&self, condition: &condition::Condition, scope: &scope::Scope<'_>) -> bool {
        condition.holds(&self.conditions, scope).unwrap_or_else(|_| {
            self.count_error(&condition.to_string());
            false
        })
    }

    fn count_error(&self, what: &str) {
        let mut errors = self.locked_errors();
        match errors.get_mut(what) {
            Some(times) => *times += 1,
            None => {
                errors.insert(what.to_owned(), 1);
            }
        }
    }

    fn locked_errors(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        // Counting cannot leave the map half changed.
        self.errors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
