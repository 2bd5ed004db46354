//! Routes: what becomes of an event from a backend. They are tried from the top down, by key, and then by what they say of leftovers; the first match
//! takes it.

use super::condition::{Condition, Conditions};
use super::emit::{Emit, PayloadRule};
use super::facts::{Arrival, Effect, Origin, Outcome};
use super::json::Document;
use super::pattern::KeyPattern;
use super::scope::{Named, Scope};
use super::shape::Shape;
use super::template::{Template, Unmet};
use crate::emission::Payload;
use crate::names::NamespaceId;

/// A route.
#[derive(Debug)]
pub(crate) struct Route {
    /// The line of the file where it stands.
    pub(crate) line: usize,
    pub(crate) from: Input,
    /// The keys that it takes; `None` for one that is for leftovers alone.
    pub(crate) key: Option<KeyPattern>,
    pub(crate) when: Condition,
    /// What is so of the events that it takes, too, where their key matches no route.
    pub(crate) fallback: Option<Condition>,
    /// What must be there, so that an event which names nobody is not taken for one that is through.
    pub(crate) needs: Vec<Template>,
    pub(crate) once: Option<Template>,
    pub(crate) locals: Vec<(Box<str>, Shape)>,
    pub(crate) action: Action,
}

/// The input that a route is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    Rabbitmq,
    /// A channel of Redis's.
    Redis(Box<str>),
}

impl Input {
    fn is(&self, origin: Origin<'_>) -> bool {
        match (self, origin) {
            (Self::Rabbitmq, Origin::Rabbitmq { .. }) => true,
            (Self::Redis(own), Origin::Redis { channel }) => **own == *channel,
            (Self::Rabbitmq, Origin::Redis { .. }) | (Self::Redis(_), Origin::Rabbitmq { .. }) => false,
        }
    }
}

/// What a route does with an event.
#[derive(Debug)]
pub(crate) enum Action {
    Drop(Box<str>),
    Emit {
        emits: Vec<Emit>,
        /// The payload of every emit that has none of its own, made once.
        payload: PayloadRule,
        /// For each emit, whether it takes that payload.
        shared: Vec<bool>,
    },
}

/// What was looked at, for `explain`; costs nothing where nobody asks.
pub(crate) struct Trace(Option<Vec<String>>);

impl Trace {
    pub(crate) fn off() -> Self {
        Self(None)
    }

    pub(crate) fn on() -> Self {
        Self(Some(Vec::new()))
    }

    pub(crate) fn lines(self) -> Vec<String> {
        self.0.unwrap_or_default()
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.0 {
            lines.push(line());
        }
    }
}

/// Decides. `erred` is told of each condition that could not be worked out.
pub(crate) fn route(
    routes: &[Route],
    conditions: &Conditions,
    arrival: &Arrival<'_>,
    erred: &mut dyn FnMut(&str),
    trace: &mut Trace,
) -> Outcome {
    let event = match Document::parse(arrival.body) {
        Ok(event) => event,
        Err(malformed) => {
            trace.note(|| format!("the body is {malformed}"));
            return Outcome::Poison { reason: malformed.to_string() };
        }
    };
    let scope = Scope {
        now_unix_ms: arrival.now_unix_ms,
        new_id: arrival.new_id,
        event: Some(&event),
        key: arrival.key,
        ..Scope::default()
    };
    let mut holds = |condition: &Condition, trace: &mut Trace| match condition.holds(conditions, &scope) {
        Ok(holds) => holds,
        Err(error) => {
            erred(&condition.to_string());
            trace.note(|| format!("  the condition errs and counts as a no: {error}"));
            false
        }
    };
    let mut key_matched = false;
    // Those for other inputs are as if they were not there.
    let origin = arrival.origin;
    let here = move || routes.iter().filter(move |route| route.from.is(origin));
    for route in here() {
        let Some(key) = &route.key else { continue };
        if !key.matches(arrival.key) {
            trace.note(|| format!("{} does not match the key", route.title()));
            continue;
        }
        key_matched = true;
        if holds(&route.when, trace) {
            return route.take(arrival, scope, trace);
        }
        trace.note(|| format!("{} matches the key, but not `when`: {}", route.title(), route.when));
    }
    for route in here().filter(|_| !key_matched) {
        let Some(fallback) = &route.fallback else { continue };
        if holds(fallback, trace) && holds(&route.when, trace) {
            trace.note(|| format!("no route matches the key, and this holds: {fallback}"));
            return route.take(arrival, scope, trace);
        }
        trace.note(|| format!("{} does not hold: {fallback}", route.title()));
    }
    let reason = match arrival.origin {
        Origin::Rabbitmq { .. } => format!("no route takes the key `{}`", arrival.key),
        Origin::Redis { channel } => format!("no route takes what comes by the channel `{channel}`"),
    };
    Outcome::Ignored { reason }
}

impl Route {
    fn title(&self) -> String {
        match (&self.from, &self.key) {
            (Input::Rabbitmq, Some(key)) => format!("the route in line {} (key `{}`)", self.line, key.as_str()),
            (Input::Rabbitmq, None) => format!("the route in line {} (for leftovers)", self.line),
            (Input::Redis(channel), _) => format!("the route in line {} (channel `{channel}`)", self.line),
        }
    }

    fn take(&self, arrival: &Arrival<'_>, scope: Scope<'_>, trace: &mut Trace) -> Outcome {
        trace.note(|| format!("{} takes the event", self.title()));
        match self.outcome(arrival, scope, trace) {
            Ok(outcome) => outcome,
            Err(Unmet::Needed(what)) => {
                let fate = match arrival.origin {
                    Origin::Rabbitmq { .. } => "a dead letter",
                    Origin::Redis { .. } => "dropped",
                };
                trace.note(|| format!("  it is {fate}: {what}"));
                Outcome::Poison { reason: format!("{what} ({})", self.title()) }
            }
            Err(Unmet::Optional) => Outcome::Sent { emissions: Vec::new(), once: None },
        }
    }

    fn outcome(&self, arrival: &Arrival<'_>, scope: Scope<'_>, trace: &mut Trace) -> Result<Outcome, Unmet> {
        let (emits, payload, shared) = match &self.action {
            Action::Drop(reason) => return Ok(Outcome::Ignored { reason: reason.to_string() }),
            Action::Emit { emits, payload, shared } => (emits, payload, shared),
        };
        for needed in &self.needs {
            if needed.names(&scope)?.is_empty() {
                return Err(Unmet::Needed("what it `needs` is empty".to_owned()));
            }
        }
        let locals = locals(&self.locals, &scope)?;
        let scope = Scope { locals: &locals, ..scope };
        let once = match &self.once {
            Some(once) => match once.name(&scope) {
                Ok(name) => Some(name),
                Err(Unmet::Optional) => None,
                Err(needed) => return Err(needed),
            },
            None => None,
        };
        let mut made: Option<Payload> = None;
        let mut effects = Vec::new();
        for (emit, shared) in emits.iter().zip(shared) {
            let before = effects.len();
            let payload = match (&made, shared) {
                (Some(payload), true) => Ok(payload.clone()),
                (None, true) => {
                    payload.make(&scope, Some(arrival.body)).inspect(|payload| made = Some(payload.clone()))
                }
                (_, false) => emit.payload.make(&scope, Some(arrival.body)),
            };
            let sent = payload.and_then(|payload| emit.run(&scope, NamespaceId(0), &payload, &mut effects));
            match sent {
                Err(Unmet::Needed(what)) => return Err(Unmet::Needed(what)),
                Err(Unmet::Optional) | Ok(()) if effects.len() == before => {
                    trace.note(|| format!("  `{}` is not sent: what it needs is optional and missing", emit.event));
                }
                Err(Unmet::Optional) | Ok(()) => {}
            }
        }
        let emissions = effects
            .into_iter()
            .filter_map(|effect| match effect {
                Effect::Emit(emission) => Some(emission),
                Effect::ToSelf { .. } | Effect::Ack { .. } | Effect::Failed { .. } => None,
            })
            .collect();
        Ok(Outcome::Sent { emissions, once })
    }
}

/// The values of a `let`, none of which sees another; one that is optional and missing is not there.
pub(crate) fn locals(shapes: &[(Box<str>, Shape)], scope: &Scope<'_>) -> Result<Named, Unmet> {
    let mut values = Named::new();
    for (name, shape) in shapes {
        match shape.render(scope) {
            Ok(value) => values.push((name.clone(), value.into_boxed_str())),
            Err(Unmet::Optional) => {}
            Err(needed) => return Err(needed),
        }
    }
    Ok(values)
}
