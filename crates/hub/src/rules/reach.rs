//! Checks for what can never happen: rooms of no kind, doors that are always shut, routes that no event can reach.
//! Where it cannot be sure it says nothing.

use super::arguments::{Field, Spec};
use super::condition::Condition;
use super::kind::Kind;
use super::pattern::KeyPattern;
use super::route::{Input, Route};
use super::scope::Path;
use super::template::Template;
use crate::profile::{Findings, Section, Written, nearest};

/// Stands in sample names for what only a message or a claim can tell.
const UNKNOWN: &str = "\u{fffc}";

/// Who uses a room's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A rule of the profile, which goes round `enter`.
    Rule,
    /// A client, which does not.
    Client,
}

/// Checks that rooms of this name can exist, and that clients can enter them where they are asked to.
pub(crate) fn room_has_kind(
    template: &Template,
    written: &Written,
    args: &[Field],
    kinds: &[Kind],
    entry: Entry,
    findings: &mut Findings<'_>,
) {
    let words = |path: &Path| match path.argument().and_then(|name| args.iter().find(|field| *field.name == *name)) {
        Some(Field { spec: Spec::Word(words), .. }) => words.iter().map(|word| word.to_string()).collect(),
        Some(_) | None => vec![UNKNOWN.to_owned()],
    };
    for sample in template.samples(&words) {
        // Nothing can be said of a name whose beginning is not known, nor of the rooms of a user.
        if sample.starts_with(UNKNOWN) || template.paths().any(|path| path.rooms_of_user().is_some()) {
            continue;
        }
        let shown = sample.replace(UNKNOWN, "…");
        match kinds.iter().find(|kind| kind.pattern.captures(&sample).is_some()) {
            None => {
                let near = nearest_prefix(&sample, kinds).map(|prefix| format!("did you mean `{prefix}…`?"));
                let suggestion = near.or_else(|| Some("describe it in a `[room.KIND]` with this name".to_owned()));
                findings.problem_with(&written.span, format!("rooms like `{shown}` are of no kind"), suggestion);
            }
            Some(kind) if kind.is_closed() && entry == Entry::Client => {
                findings.problem_with(
                    &written.span,
                    format!(
                        "clients can neither enter nor leave rooms like `{shown}`: those of kind `{}` are closed",
                        kind.name
                    ),
                    Some(format!("give `[room.{}]` an `enter`", kind.name)),
                );
            }
            Some(_) => {}
        }
    }
}

fn nearest_prefix<'k>(sample: &str, kinds: &'k [Kind]) -> Option<&'k str> {
    let begin = sample.find(UNKNOWN).map_or(sample, |at| &sample[..at]);
    nearest(begin, kinds.iter().map(|kind| kind.pattern.prefix()).filter(|prefix| !prefix.is_empty()))
}

/// Checks that every route can be reached: no earlier one takes all of its events, and some queue brings its key.
pub(crate) fn routes(routes: &[Route], written: &[&Section], rabbitmq: Option<&Section>, findings: &mut Findings<'_>) {
    for (index, (route, section)) in routes.iter().zip(written).enumerate() {
        let same_input = |other: &&Route| other.from == route.from;
        let earlier = || routes[..index].iter().filter(same_input);
        let every = KeyPattern::parse("#");
        let takes = |other: &&Route, key: &KeyPattern| other.key.as_ref().is_some_and(|other| other.covers(key));
        let by_key = match (&route.key, &route.fallback) {
            (Some(key), None) => earlier().find(|other| takes_all(&other.when) && takes(other, key)),
            // A leftover's is only tried where no key matches, whatever the routes of those do.
            (None, Some(_)) => routes.iter().filter(same_input).find(|other| takes(other, &every)),
            // What does not reach it by its key may do so as a leftover.
            (Some(_), Some(_)) | (None, None) => None,
        };
        let as_leftover = match (&route.key, &route.fallback) {
            (None, Some(_)) => {
                earlier().find(|other| takes_all(&other.when) && other.fallback.as_ref().is_some_and(takes_all))
            }
            (Some(_), Some(_)) | (_, None) => None,
        };
        let (place, what) = match (by_key, as_leftover) {
            (Some(other), _) => match &other.from {
                Input::Rabbitmq => {
                    let key = other.key.as_ref().map_or("#", KeyPattern::as_str);
                    ("key", format!("the one in line {} takes all of its keys (`{key}`)", other.line))
                }
                Input::Redis(channel) => {
                    ("from", format!("the one in line {} takes all of its events (channel `{channel}`)", other.line))
                }
            },
            (None, Some(other)) => ("key", format!("the one in line {} takes all leftovers", other.line)),
            (None, None) => continue,
        };
        findings.problem(&section.place(place), format!("no event reaches this route: {what}"));
    }
    let Some(rabbitmq) = rabbitmq else {
        let of_rabbitmq = routes.iter().zip(written).find(|(route, _)| route.from == Input::Rabbitmq);
        if let Some((_, section)) = of_rabbitmq {
            findings.problem_with(
                &section.span,
                "no event reaches the routes: the profile has no source",
                Some("write `[source.rabbitmq]`".to_owned()),
            );
        }
        return;
    };
    if rabbitmq.text("type") != Some("topic") {
        return;
    }
    let bindings: Vec<KeyPattern> = rabbitmq
        .sections("queue")
        .flat_map(|queue| queue.texts("bind"))
        .map(|binding| KeyPattern::parse(&binding))
        .collect();
    for (route, section) in routes.iter().zip(written).filter(|(route, _)| route.from == Input::Rabbitmq) {
        let Some(key) = &route.key else { continue };
        if !bindings.is_empty() && !bindings.iter().any(|binding| binding.meets(key)) {
            let near = nearest(key.as_str(), bindings.iter().map(KeyPattern::as_str));
            findings.problem_with(
                &section.place("key"),
                format!("no event reaches this route: no queue is bound to a key that fits `{}`", key.as_str()),
                near.map(|near| format!("did you mean `{near}`?")),
            );
        }
    }
}

fn takes_all(condition: &Condition) -> bool {
    matches!(condition, Condition::Always)
}
