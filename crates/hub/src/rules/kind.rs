//! Kinds of rooms: which rule a room's name comes under, who may enter, and what is told on entering and leaving. Keeps no members.

use smallvec::SmallVec;

use super::Rules;
use super::condition::Condition;
use super::emit::Emit;
use super::facts::{Effect, Facts};
use super::latest::{Keep, Snapshot};
use super::pattern::{Captures, RoomPattern};
use super::scope::{Named, RoomView, Scope, Who};
use super::template::Template;
use crate::codes::ErrorCode;
use crate::names::{NamespaceId, RoomName, SocketId};

/// A kind of rooms.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) name: Box<str>,
    pub(crate) pattern: RoomPattern,
    /// The namespaces that have rooms of this kind; `None` for all.
    pub(crate) namespaces: Option<Vec<NamespaceId>>,
    pub(crate) enter: Condition,
    pub(crate) ask: Option<Ask>,
    pub(crate) keep: Option<Keep>,
    pub(crate) snapshot: Option<Snapshot>,
    pub(crate) on_enter: Vec<Emit>,
    pub(crate) on_leave: Vec<Emit>,
    pub(crate) on_user_enter: Vec<Emit>,
}

/// An access service.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) get: Template,
    pub(crate) with: Vec<(Box<str>, Template)>,
    pub(crate) timeout_ms: u64,
}

/// Whether a client may enter a room.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Yes,
    /// If the access service says so.
    Ask {
        url: String,
        timeout_ms: u64,
    },
    No(ErrorCode, String),
}

/// Which moment of a room's life a hook is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Moment {
    Enter,
    Leave,
    UserEnter,
}

impl Kind {
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.enter, Condition::Never)
    }

    pub(crate) fn emits(&self, moment: Moment) -> &[Emit] {
        match moment {
            Moment::Enter => &self.on_enter,
            Moment::Leave => &self.on_leave,
            Moment::UserEnter => &self.on_user_enter,
        }
    }

    /// The pattern's parts with what they captured.
    pub(crate) fn parts<'a>(&'a self, captures: &Captures<'a>) -> SmallVec<[(&'a str, &'a str); 2]> {
        self.pattern.parts().zip(captures.iter().copied()).collect()
    }
}

impl Rules {
    /// The kind that a room's name comes under: the most specific pattern that matches.
    pub(crate) fn kind_of<'a>(&self, namespace: NamespaceId, room: &'a str) -> Option<(&Kind, Captures<'a>)> {
        // Where a program has opened a namespace, the rules of the profile have no say.
        if !self.governs(namespace) {
            return None;
        }
        self.kinds.iter().find_map(|kind| {
            let here = kind.namespaces.as_ref().is_none_or(|namespaces| namespaces.contains(&namespace));
            if here { Some((kind, kind.pattern.captures(room)?)) } else { None }
        })
    }

    /// Whether the client may enter the room, by the room's own rule.
    pub(crate) fn may_enter(&self, namespace: NamespaceId, room: &RoomName, facts: &Facts<'_>) -> Verdict {
        let name = room.as_str();
        if SocketId::parse(SocketId::part_of(name)).is_some() {
            return Verdict::No(ErrorCode::Forbidden, "a room must not be named like a socket".to_owned());
        }
        let Some((kind, captures)) = self.kind_of(namespace, name) else {
            return Verdict::No(ErrorCode::Forbidden, format!("there are no rooms like `{name}`"));
        };
        let parts = kind.parts(&captures);
        let scope =
            Scope { texts: &parts, ..self.scope_in(facts, Some(RoomView { name, kind: &kind.name, parts: &parts })) };
        let refused = || Verdict::No(ErrorCode::Forbidden, format!("you may not enter `{name}`"));
        if !self.holds(&kind.enter, &scope) {
            return refused();
        }
        let Some(ask) = &kind.ask else { return Verdict::Yes };
        let mut with = Named::new();
        for (name, template) in &ask.with {
            let mut value = String::new();
            if template.push_json(&scope, &mut value).is_ok() {
                // In an address these two would climb to another path (RFC 3986, section 5.2.4), encoded or not.
                if matches!(value.as_str(), r#"".""# | r#""..""#) {
                    return refused();
                }
                with.push((name.clone(), value.into_boxed_str()));
            }
        }
        // What the service must know and is not there, an anonymous client's id above all, is a no: the service could not tell.
        match ask.get.address(&Scope { locals: &with, ..scope }) {
            Ok(url) => Verdict::Ask { url, timeout_ms: ask.timeout_ms },
            Err(_) => refused(),
        }
    }

    /// Whether clients may leave rooms of this kind by themselves.
    pub(crate) fn may_leave(&self, namespace: NamespaceId, room: &RoomName) -> bool {
        self.kind_of(namespace, room.as_str()).is_some_and(|(kind, _)| !kind.is_closed())
    }

    /// What a room's hook sends.
    pub(crate) fn room_hook(
        &self,
        moment: Moment,
        namespace: NamespaceId,
        room: &RoomName,
        facts: &Facts<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let Some((kind, captures)) = self.kind_of(namespace, room.as_str()) else { return };
        let emits = kind.emits(moment);
        if !emits.is_empty() {
            let parts = kind.parts(&captures);
            let scope = self.scope_in(facts, Some(RoomView { name: room.as_str(), kind: &kind.name, parts: &parts }));
            self.run_emits(emits, &scope, namespace, effects);
        }
    }

    /// The scope of a rule that a socket runs, in a room or not.
    pub(crate) fn scope_in<'a>(&self, facts: &'a Facts<'a>, room: Option<RoomView<'a>>) -> Scope<'a> {
        Scope {
            now_unix_ms: facts.now_unix_ms,
            new_id: facts.new_id,
            socket: facts.socket.as_ref(),
            who: Some(Who::Here(facts.user)),
            room,
            ..Scope::default()
        }
    }
}
