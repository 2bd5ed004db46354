//! What who enters a room gets of the past: the last event that the room keeps, else a service's snapshot. Says what to ask and what to make
//! of the answer; keeps and asks nothing itself.

use super::Rules;
use super::json::Document;
use super::method::{Callee, ServiceCall};
use super::scope::{RoomView, Scope};
use super::shape::Shape;
use super::template::Unmet;
use crate::emission::Payload;
use crate::names::{EventName, NamespaceId, RoomName};

/// The last event of a name is kept.
#[derive(Debug)]
pub(crate) struct Keep {
    pub(crate) event: EventName,
    pub(crate) for_ms: u64,
}

/// A service is asked for the latest value.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) call: ServiceCall,
    pub(crate) event: EventName,
    /// `None` for the reply itself.
    pub(crate) data: Option<Shape>,
}

/// A question for a room's latest value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// What to call.
    pub callee: Callee,
    /// With which message, as JSON; empty where none goes along.
    pub message: String,
    /// The event under which the value goes out.
    pub event: EventName,
}

impl Rules {
    /// Whether some room gives a value to who enters it.
    pub(crate) fn gives_latest(&self) -> bool {
        self.has_latest
    }

    /// Whether who enters the room gets a value.
    pub fn has_latest(&self, namespace: NamespaceId, room: &RoomName) -> bool {
        self.has_latest
            && self
                .kind_of(namespace, room.as_str())
                .is_some_and(|(kind, _)| kind.keep.is_some() || kind.snapshot.is_some())
    }

    /// The names of all events that some room keeps, each once.
    pub fn kept_events(&self) -> Vec<EventName> {
        let mut names: Vec<EventName> = Vec::new();
        for keep in self.kinds.iter().filter_map(|kind| kind.keep.as_ref()) {
            if !names.contains(&keep.event) {
                names.push(keep.event.clone());
            }
        }
        names
    }

    /// The event that the room keeps, and for how long, in milliseconds.
    pub fn keeps(&self, namespace: NamespaceId, room: &RoomName) -> Option<(&EventName, u64)> {
        let keep = self.kind_of(namespace, room.as_str())?.0.keep.as_ref()?;
        Some((&keep.event, keep.for_ms))
    }

    /// What to ask for the room's latest value, where a service is.
    ///
    /// # Errors
    /// The message cannot be made of the room's name.
    pub fn snapshot(
        &self,
        namespace: NamespaceId,
        room: &RoomName,
        now_unix_ms: u64,
    ) -> Result<Option<Question>, String> {
        let Some((kind, captures)) = self.kind_of(namespace, room.as_str()) else { return Ok(None) };
        let Some(snapshot) = &kind.snapshot else { return Ok(None) };
        let parts = kind.parts(&captures);
        let view = RoomView { name: room.as_str(), kind: &kind.name, parts: &parts };
        let scope = Scope { now_unix_ms, room: Some(view), ..Scope::default() };
        let (callee, message) = snapshot.call.ask(&scope).map_err(told)?;
        Ok(Some(Question { callee, message, event: snapshot.event.clone() }))
    }

    /// What goes out for a service's reply.
    ///
    /// # Errors
    /// The reply holds no value.
    pub fn snapshot_payload(
        &self,
        namespace: NamespaceId,
        room: &RoomName,
        now_unix_ms: u64,
        reply: &[u8],
    ) -> Result<Payload, String> {
        let gone = || "the room has no snapshot".to_owned();
        let (kind, captures) = self.kind_of(namespace, room.as_str()).ok_or_else(gone)?;
        let snapshot = kind.snapshot.as_ref().ok_or_else(gone)?;
        let reply = Document::parse(reply).map_err(|error| error.to_string())?;
        let parts = kind.parts(&captures);
        let view = RoomView { name: room.as_str(), kind: &kind.name, parts: &parts };
        let scope = Scope { now_unix_ms, room: Some(view), reply: Some(&reply), ..Scope::default() };
        match &snapshot.data {
            Some(data) => Ok(Payload::json(data.render(&scope).map_err(told)?)),
            None if reply.raw == "null" => Err("the reply is empty".to_owned()),
            None => Ok(Payload::json(reply.raw.to_owned())),
        }
    }
}

fn told(unmet: Unmet) -> String {
    match unmet {
        Unmet::Needed(what) => what,
        Unmet::Optional => "something that is needed is missing".to_owned(),
    }
}
