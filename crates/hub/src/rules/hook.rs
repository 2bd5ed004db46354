//! What is done when connections and users come and go: the hooks of `[on]`, and what a refreshed token changes. Keeps no state.

use std::time::Duration;

use super::Rules;
use super::condition::Condition;
use super::emit::Emit;
use super::facts::{Effect, Facts, LeftOut, Presence, Refreshed, Welcome};
use super::kind::Moment;
use super::scope::{Scope, Who};
use super::template::{Template, Unmet};
use crate::emission::Emission;
use crate::names::{NamespaceId, RoomName};

/// The hooks of a profile.
#[derive(Debug, Default)]
pub(crate) struct Hooks {
    pub(crate) connect: Connect,
    pub(crate) user_online: Vec<Emit>,
    pub(crate) user_offline: Vec<Emit>,
    pub(crate) grace: Duration,
    /// The kinds of rooms that presence hooks name.
    pub(crate) remembered: Vec<Box<str>>,
}

/// What a new socket gets.
#[derive(Debug, Default)]
pub(crate) struct Connect {
    /// The namespaces that are meant; `None` for all.
    pub(crate) namespaces: Option<Vec<NamespaceId>>,
    pub(crate) join: Vec<(Template, Condition)>,
    pub(crate) emit: Vec<Emit>,
}

impl Rules {
    /// What a new connection gets: its rooms, at most `rooms_max` of them, and what goes out.
    pub fn on_connect(&self, namespace: NamespaceId, facts: &Facts<'_>, rooms_max: usize) -> Welcome {
        let (rooms, left_out) = self.own_rooms(namespace, facts, rooms_max);
        let mut effects = Vec::new();
        if self.connects(namespace) {
            let scope = Scope { socket_rooms: &rooms, ..self.scope_in(facts, None) };
            self.run_emits(&self.hooks.connect.emit, &scope, namespace, &mut effects);
        }
        Welcome { rooms, left_out, effects }
    }

    /// What a refreshed token changes for a socket in these rooms; `facts` hold the new claims. A room is left where the new claims neither give
    /// it nor let the client enter it. `rooms_max` is what the socket may be in.
    pub fn on_refresh(
        &self,
        namespace: NamespaceId,
        rooms: &[RoomName],
        facts: &Facts<'_>,
        rooms_max: usize,
    ) -> Refreshed {
        let (own, left_out) = self.own_rooms(namespace, facts, rooms_max);
        let stays = |room: &RoomName| {
            self.kind_of(namespace, room.as_str()).is_some_and(|(kind, captures)| {
                let parts = kind.parts(&captures);
                let view = super::scope::RoomView { name: room.as_str(), kind: &kind.name, parts: &parts };
                self.holds(&kind.enter, &Scope { texts: &parts, ..self.scope_in(facts, Some(view)) })
            })
        };
        Refreshed {
            leave: rooms.iter().filter(|room| !own.contains(room) && !stays(room)).cloned().collect(),
            join: own.into_iter().filter(|room| !rooms.contains(room)).collect(),
            left_out,
        }
    }

    /// What is told when the socket has entered the room other than by a command.
    pub fn on_enter(&self, namespace: NamespaceId, room: &RoomName, facts: &Facts<'_>) -> Vec<Effect> {
        self.hook(Moment::Enter, namespace, room, facts)
    }

    /// What is told when the socket has left the room other than by a command: by its end, above all.
    pub fn on_leave(&self, namespace: NamespaceId, room: &RoomName, facts: &Facts<'_>) -> Vec<Effect> {
        self.hook(Moment::Leave, namespace, room, facts)
    }

    /// Whether anything is told when the first of a user's sockets enters the room.
    pub fn watches_user_enter(&self, namespace: NamespaceId, room: &RoomName) -> bool {
        self.kind_of(namespace, room.as_str()).is_some_and(|(kind, _)| !kind.on_user_enter.is_empty())
    }

    /// What is told when the first of a user's sockets, `facts.socket`, has entered the room. Nothing for an anonymous client.
    pub fn on_user_enter(&self, namespace: NamespaceId, room: &RoomName, facts: &Facts<'_>) -> Vec<Effect> {
        if facts.user.id.is_some() { self.hook(Moment::UserEnter, namespace, room, facts) } else { Vec::new() }
    }

    /// Whether the hooks of presence name rooms of this kind, so that they must be remembered for a user.
    pub fn remembers_room(&self, namespace: NamespaceId, room: &RoomName) -> bool {
        self.kind_of(namespace, room.as_str()).is_some_and(|(kind, _)| self.hooks.remembered.contains(&kind.name))
    }

    /// What is told when a user's first socket came.
    pub fn on_user_online(&self, presence: &Presence<'_>) -> Vec<Emission> {
        self.presence(&self.hooks.user_online, presence)
    }

    /// What is told when a user's last socket has been gone for [`Rules::offline_grace`].
    pub fn on_user_offline(&self, presence: &Presence<'_>) -> Vec<Emission> {
        self.presence(&self.hooks.user_offline, presence)
    }

    /// How long a user's last socket must be gone before the user is offline.
    pub fn offline_grace(&self) -> Duration {
        self.hooks.grace
    }

    fn connects(&self, namespace: NamespaceId) -> bool {
        let namespaces = self.hooks.connect.namespaces.as_ref();
        self.governs(namespace) && namespaces.is_none_or(|namespaces| namespaces.contains(&namespace))
    }

    /// The rooms that a socket is in from the start: its user's own, and those of the hook. What is wrong with one costs none of the others.
    fn own_rooms(&self, namespace: NamespaceId, facts: &Facts<'_>, rooms_max: usize) -> (Vec<RoomName>, LeftOut) {
        let mut left_out = LeftOut::default();
        let mut names = Vec::new();
        if let Some(id) = &facts.user.id {
            names.push(format!("user:{}", id.as_str()));
        }
        if self.connects(namespace) {
            let scope = self.scope_in(facts, None);
            for (template, when) in &self.hooks.connect.join {
                if self.holds(when, &scope) {
                    names.extend(template.names_in_spite(&scope, &mut |what| left_out.note(|| what)));
                }
            }
        }
        let mut rooms: Vec<RoomName> = Vec::new();
        for name in names {
            match RoomName::parse(&name) {
                Ok(room) if rooms.contains(&room) => {}
                Ok(_) if rooms.len() >= rooms_max => {
                    left_out.note(|| format!("a socket is in {rooms_max} rooms at most"))
                }
                Ok(room) => rooms.push(room),
                Err(error) => left_out.note(|| format!("a room's name {error}")),
            }
        }
        for _ in 0..left_out.count {
            self.count_error("on.connect.join");
        }
        (rooms, left_out)
    }

    fn hook(&self, moment: Moment, namespace: NamespaceId, room: &RoomName, facts: &Facts<'_>) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.room_hook(moment, namespace, room, facts, &mut effects);
        effects
    }

    /// Presence belongs to no namespace: each emit runs in every namespace that it means, with the user's rooms there.
    fn presence(&self, emits: &[Emit], presence: &Presence<'_>) -> Vec<Emission> {
        let mut effects = Vec::new();
        for index in 0..self.namespaces.len() {
            let namespace = NamespaceId(u32::try_from(index).expect("namespaces are counted in 32 bits"));
            let in_namespace = presence.rooms.iter().filter(|(own, _)| *own == namespace);
            let rooms: Vec<(&str, &RoomName)> = in_namespace
                .filter_map(|(_, room)| self.kind_of(namespace, room.as_str()).map(|(kind, _)| (&*kind.name, room)))
                .collect();
            let scope = Scope {
                now_unix_ms: presence.now_unix_ms,
                who: Some(Who::Changed(presence, &rooms)),
                ..Scope::default()
            };
            for emit in emits.iter().filter(|emit| emit.namespaces.as_ref().is_none_or(|own| own.contains(&namespace)))
            {
                let here = Emit { namespaces: None, ..emit.clone() };
                self.run_emits(&[here], &scope, namespace, &mut effects);
            }
        }
        effects
            .into_iter()
            .filter_map(|effect| match effect {
                Effect::Emit(emission) => Some(emission),
                Effect::ToSelf { .. } | Effect::Ack { .. } | Effect::Failed { .. } => None,
            })
            .collect()
    }

    /// Runs emits one after the other. One that cannot be made is left out and counted: a hook has nobody to answer.
    pub(crate) fn run_emits(
        &self,
        emits: &[Emit],
        scope: &Scope<'_>,
        namespace: NamespaceId,
        effects: &mut Vec<Effect>,
    ) {
        for emit in emits {
            let payload = emit.payload.make(scope, None);
            match payload.and_then(|payload| emit.run(scope, namespace, &payload, effects)) {
                Ok(()) | Err(Unmet::Optional) => {}
                Err(Unmet::Needed(_)) => self.count_error(&format!("emit of {}", emit.event)),
            }
        }
    }
}
