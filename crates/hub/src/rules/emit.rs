//! What goes out of a rule: one `emit`, with its rooms and its payload. Evaluates templates; sends nothing.

use std::fmt;

use bytes::Bytes;

use super::facts::Effect;
use super::scope::Scope;
use super::shape::Shape;
use super::template::{Template, Unmet};
use crate::emission::{Emission, Except, Payload, Rooms, Sending, Target};
use crate::names::{EventName, NamespaceId, RoomName};

/// One event that a rule sends.
#[derive(Debug, Clone)]
pub(crate) struct Emit {
    pub(crate) to: To,
    pub(crate) except_self: bool,
    pub(crate) except_rooms: Vec<Template>,
    pub(crate) event: Called,
    pub(crate) payload: PayloadRule,
    /// The namespaces that are meant; `None` for the one where the rule runs.
    pub(crate) namespaces: Option<Vec<NamespaceId>>,
}

/// Under which name.
#[derive(Debug, Clone)]
pub(crate) enum Called {
    /// The one that was written.
    Fixed(EventName),
    /// One that is made each time.
    Made(Template),
}

/// For whom.
#[derive(Debug, Clone)]
pub(crate) enum To {
    /// The acting socket.
    Itself,
    Everyone,
    Rooms(Vec<Template>),
    /// The room whose hook this is.
    ThisRoom,
}

/// With what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PayloadRule {
    /// The event's own bytes.
    AsItCame,
    /// A value made for it.
    Data(Shape),
    /// The event's own bytes with fields set.
    Add(Vec<(Box<str>, Shape)>),
}

/// An event's body, for payloads that are its own bytes.
pub(crate) type Body<'a> = Option<&'a Bytes>;

impl Emit {
    /// Appends the effects of this emit, one for each namespace. Nothing where no room is left or something optional is missing.
    pub(crate) fn run(
        &self,
        scope: &Scope<'_>,
        here: NamespaceId,
        payload: &Payload,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Unmet> {
        let event = self.event.name(scope)?;
        let target = match &self.to {
            To::Itself => {
                effects.push(Effect::ToSelf { event, payload: payload.clone() });
                return Ok(());
            }
            To::Everyone => Target::Everyone,
            To::ThisRoom => {
                let room = scope.room.and_then(|room| RoomName::parse(room.name).ok());
                Target::Rooms(Rooms::new(room).ok_or(Unmet::Optional)?)
            }
            To::Rooms(templates) => match Rooms::new(rooms(templates, scope)?) {
                Some(rooms) => Target::Rooms(rooms),
                None => return Ok(()),
            },
        };
        let except = Except {
            rooms: rooms(&self.except_rooms, scope)?,
            sockets: if self.except_self { scope.socket.copied().into_iter().collect() } else { Vec::new() },
        };
        for namespace in self.namespaces.as_deref().unwrap_or(&[here]) {
            effects.push(Effect::Emit(Emission {
                namespace: *namespace,
                target: target.clone(),
                except: except.clone(),
                event: event.clone(),
                payload: payload.clone(),
                sending: Sending::default(),
            }));
        }
        Ok(())
    }
}

impl Emit {
    /// The templates of the rooms that it goes to, in the order of the file.
    pub(crate) fn room_templates(&self) -> impl Iterator<Item = &Template> {
        match &self.to {
            To::Rooms(templates) => templates.as_slice(),
            To::Itself | To::Everyone | To::ThisRoom => &[],
        }
        .iter()
    }

    /// Visits every template in it.
    pub(crate) fn each_template(&self, visit: &mut dyn FnMut(&Template)) {
        self.room_templates().chain(&self.except_rooms).for_each(&mut *visit);
        if let Called::Made(template) = &self.event {
            visit(template);
        }
        match &self.payload {
            PayloadRule::AsItCame => {}
            PayloadRule::Data(shape) => shape.each_template(visit),
            PayloadRule::Add(fields) => fields.iter().for_each(|(_, shape)| shape.each_template(visit)),
        }
    }
}

impl Called {
    fn name(&self, scope: &Scope<'_>) -> Result<EventName, Unmet> {
        match self {
            Self::Fixed(name) => Ok(name.clone()),
            Self::Made(template) => {
                let name = template.name(scope)?;
                EventName::parse(&name).map_err(|error| Unmet::Needed(format!("the event's name `{name}` {error}")))
            }
        }
    }
}

impl fmt::Display for Called {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(name) => name.fmt(f),
            Self::Made(template) => f.write_str(&template.written()),
        }
    }
}

impl PayloadRule {
    /// Makes the payload.
    pub(crate) fn make(&self, scope: &Scope<'_>, body: Body<'_>) -> Result<Payload, Unmet> {
        match (self, scope.event, body) {
            (Self::Data(shape), _, _) => Ok(Payload::json(shape.render(scope)?)),
            (Self::AsItCame, Some(event), Some(body)) => Ok(Payload::json(body.slice_ref(event.raw.as_bytes()))),
            (Self::Add(fields), Some(event), Some(_)) => {
                let mut set = Vec::with_capacity(fields.len());
                for (name, shape) in fields {
                    match shape.render(scope) {
                        Ok(value) => set.push((name.clone(), value)),
                        Err(Unmet::Optional) => {}
                        Err(needed) => return Err(needed),
                    }
                }
                let text = event.with_fields(&set);
                Ok(Payload::json(
                    text.ok_or_else(|| {
                        Unmet::Needed("the event is no object that fields could be added to".to_owned())
                    })?,
                ))
            }
            (Self::AsItCame | Self::Add(_), _, _) => Ok(Payload::json("")),
        }
    }
}

/// The rooms that templates give, those that are optional and missing left out.
pub(crate) fn rooms(templates: &[Template], scope: &Scope<'_>) -> Result<Vec<RoomName>, Unmet> {
    let mut rooms = Vec::new();
    for template in templates {
        for name in template.names(scope)? {
            rooms.push(RoomName::parse(&name).map_err(|error| Unmet::Needed(format!("the room `{name}` {error}")))?);
        }
    }
    Ok(rooms)
}
