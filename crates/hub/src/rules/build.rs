//! The second stage of reading a profile, for its rules: what was written becomes what the evaluator runs.
//! Checks that every name means something; what can never happen is for `reach` to find. Rooms and commands have a file each.

mod commands;
mod kinds;

use std::collections::HashMap;
use std::sync::Mutex;

use super::arguments::Field;
use super::calls::Upstream;
use super::condition::{Condition, Conditions};
use super::document::{Call, GATEWAY_FIELDS, Page, Step};
use super::emit::PayloadRule;
use super::hook::{Connect, Hooks};
use super::kind::Kind;
use super::parts::{Parts, Stand};
use super::pattern::KeyPattern;
use super::reach::{self, Entry as Door};
use super::route::{Action, Input, Route};
use super::scope::{Branch, Vocabulary};
use super::shape::Shape;
use super::template::Template;
use super::{ClaimsUsed, KindId, Rules};
use crate::names::NamespaceId;
use crate::profile::{Findings, Section, Written, did_you_mean};

impl Rules {
    /// Builds the rules of a profile's root table.
    pub(crate) fn build(root: &Section, namespaces: &[Box<str>], findings: &mut Findings<'_>) -> Self {
        let mut parts = Parts {
            findings,
            namespaces,
            claims: ClaimsUsed::Named(Vec::new()),
            upstreams: root.named("upstream").iter().map(Upstream::of).collect(),
            methods: Vec::new(),
            messages: Vec::new(),
            has_broker: root.section("source").is_some_and(|source| source.find("rabbitmq").is_some()),
            kinds_known: true,
        };
        let kinds = kinds::build(root, &mut parts);
        check_hooks(root, &kinds, &mut parts);
        let hooks = hooks(root, &kinds, &mut parts);
        let mut commands = Vec::new();
        let mut commands_by_name = HashMap::new();
        for (entry, index) in root.named("command").iter().zip(0..) {
            commands.push(commands::build(entry, &kinds, &mut parts));
            commands_by_name.insert(Box::from(entry.name.as_str()), index);
        }
        let routes = routes(root, &kinds, &mut parts);
        let pages = pages(root, &kinds, &mut parts);
        let (methods, messages) = (std::mem::take(&mut parts.methods), std::mem::take(&mut parts.messages));
        let mut claims = parts.claims;
        if let ClaimsUsed::Named(names) = &mut claims {
            names.sort_unstable();
        }
        Self {
            namespaces: namespaces.to_vec(),
            has_latest: kinds.iter().any(|kind| kind.keep.is_some() || kind.snapshot.is_some()),
            methods,
            messages,
            kinds,
            hooks,
            commands,
            commands_by_name,
            routes,
            pages,
            conditions: Conditions::new(),
            claims,
            errors: Mutex::default(),
        }
    }
}

fn hooks(root: &Section, kinds: &[Kind], parts: &mut Parts<'_, '_>) -> Hooks {
    let Some(on) = root.section("on") else { return Hooks::default() };
    let mut hooks = Hooks::default();
    if let Some(section) = on.section("connect") {
        hooks.connect = connect(section, kinds, parts);
    }
    let of_kinds: Vec<(String, Branch)> = kinds.iter().map(|kind| (kind.name.to_string(), Branch::Open)).collect();
    let user = vec![
        ("id".to_owned(), Branch::Value),
        ("lastSeen".to_owned(), Branch::Value),
        ("rooms".to_owned(), Branch::Only(of_kinds)),
    ];
    let vocabulary = Vocabulary::default().with("now", Branch::Value).with("user", Branch::Only(user));
    let claims = parts.claims.clone();
    if let Some(section) = on.section("user_online") {
        hooks.user_online = parts.emits(section, "emit", Stand::Presence, &vocabulary);
        check_targets(section, "emit", &hooks.user_online, &[], kinds, parts);
    }
    if let Some(section) = on.section("user_offline") {
        hooks.user_offline = parts.emits(section, "emit", Stand::Presence, &vocabulary);
        check_targets(section, "emit", &hooks.user_offline, &[], kinds, parts);
        hooks.grace = section.time("grace");
    }
    // What these templates know of the user comes from presence, not from claims.
    parts.claims = claims;
    for emit in hooks.user_online.iter().chain(&hooks.user_offline) {
        let mut note = |template: &Template| {
            for kind in template.paths().filter_map(|path| path.rooms_of_user()) {
                if !hooks.remembered.iter().any(|known| **known == *kind) {
                    hooks.remembered.push(Box::from(kind));
                }
            }
        };
        emit.each_template(&mut note);
    }
    hooks
}

fn connect(section: &Section, kinds: &[Kind], parts: &mut Parts<'_, '_>) -> Connect {
    let vocabulary = Vocabulary::of_socket();
    let mut join = Vec::new();
    for item in section.list("join") {
        let (written, when) = match item.section() {
            Some(conditional) => {
                let when = parts.condition_of(conditional, "when", &vocabulary).unwrap_or(Condition::Never);
                (conditional.find("room"), when)
            }
            None => (Some(item), Condition::Always),
        };
        let Some(written) = written else { continue };
        if let Some(template) = written.text().and_then(|text| parts.template(text, &written.span, &vocabulary)) {
            parts.check_room(&template, written, &[], kinds, Door::Rule);
            join.push((template, when));
        }
    }
    let with_rooms = vocabulary.with("socket", Branch::only(&["id", "rooms"]));
    let emit = parts.emits(section, "emit", Stand::Socket, &with_rooms);
    check_targets(section, "emit", &emit, &[], kinds, parts);
    Connect { namespaces: parts.namespaces_of(section), join, emit }
}

/// Checks the rooms that the hooks of rooms name, now that all kinds are known.
fn check_hooks(root: &Section, kinds: &[Kind], parts: &mut Parts<'_, '_>) {
    for entry in root.named("room") {
        let kind = kinds.iter().find(|kind| *kind.name == *entry.name);
        let Some((section, kind)) = entry.written.section().zip(kind) else { continue };
        for (key, emits) in
            [("on_enter", &kind.on_enter), ("on_leave", &kind.on_leave), ("on_user_enter", &kind.on_user_enter)]
        {
            check_targets(section, key, emits, &[], kinds, parts);
        }
    }
}

/// Checks that the rooms of emits can exist.
fn check_targets(
    section: &Section,
    key: &str,
    emits: &[super::emit::Emit],
    args: &[Field],
    kinds: &[Kind],
    parts: &mut Parts<'_, '_>,
) {
    // An emit that could not be built left a problem, after which the pairs would be wrong.
    if section.list(key).len() != emits.len() {
        return;
    }
    for (written, emit) in section.sections(key).zip(emits) {
        for (template, item) in emit.room_templates().zip(written.list("to")) {
            parts.check_room(template, item, args, kinds, Door::Rule);
        }
        let except = written.list("except").iter().filter(|item| item.text() != Some("self"));
        for (template, item) in emit.except_rooms.iter().zip(except) {
            parts.check_room(template, item, args, kinds, Door::Rule);
        }
    }
}

/// What stands below a value that a rule made.
fn shape_branch(shape: &Shape) -> Branch {
    match shape {
        Shape::Constant(_) => Branch::Value,
        Shape::Template(_) | Shape::List(_) => Branch::Open,
        Shape::Object(fields) => Branch::ValueWith(
            fields
                .iter()
                .filter_map(|(name, field)| Some((super::json::text(name)?.into_owned(), shape_branch(field))))
                .collect(),
        ),
    }
}

fn routes(root: &Section, kinds: &[Kind], parts: &mut Parts<'_, '_>) -> Vec<Route> {
    let base = Vocabulary::everywhere().with("event", Branch::Open).with("key", key_branch());
    let mut routes = Vec::new();
    for section in root.sections("route") {
        let line = parts.findings.line(&section.span);
        let Some(from) = route_from(section, root, parts) else { continue };
        parts.local_names(section, "let", &base);
        let locals = parts.shapes(section, "let", &base);
        let full =
            locals.iter().fold(base.clone(), |vocabulary, (name, shape)| vocabulary.with(name, shape_branch(shape)));
        let action = match (section.text("drop"), section.find("emit")) {
            (Some(reason), None) => Action::Drop(Box::from(reason)),
            (None, Some(_)) => {
                let emits = parts.emits(section, "emit", Stand::Route, &full);
                check_targets(section, "emit", &emits, &[], kinds, parts);
                let own = |emit: &Section| emit.find("data").is_some() || emit.find("add").is_some();
                let shared = section.sections("emit").map(|emit| !own(emit)).collect();
                Action::Emit { emits, payload: parts.payload(section, &full).unwrap_or(PayloadRule::AsItCame), shared }
            }
            (Some(_), Some(_)) | (None, None) => {
                parts.findings.problem(&section.span, "a route needs one of `emit` and `drop`");
                continue;
            }
        };
        let fallback = parts.condition_of(section, "fallback", &base);
        routes.push(Route {
            line,
            from,
            // One that says neither takes every key.
            key: section.text("key").or(fallback.is_none().then_some("#")).map(KeyPattern::parse),
            when: parts.condition_of(section, "when", &base).unwrap_or(Condition::Always),
            fallback,
            needs: parts.templates(section.list("needs"), &base),
            once: parts.template_of(section, "once", &full),
            locals,
            action,
        });
    }
    let written: Vec<&Section> = root.sections("route").collect();
    if written.len() == routes.len() {
        let queues = root.section("source").and_then(|source| source.section("rabbitmq"));
        reach::routes(&routes, &written, queues, parts.findings);
    }
    routes
}

/// The input that a route is for. `None` where a problem was noted.
fn route_from(section: &Section, root: &Section, parts: &mut Parts<'_, '_>) -> Option<Input> {
    let text = section.text("from").unwrap_or("rabbitmq");
    let place = section.place("from");
    let Some(channel) = text.strip_prefix("redis:") else {
        if text == "rabbitmq" {
            return Some(Input::Rabbitmq);
        }
        let suggestion = Some("there is `rabbitmq`, and `redis:CHANNEL`".to_owned());
        parts.findings.problem_with(&place, format!("`{text}` is no source of events"), suggestion);
        return None;
    };
    if section.find("key").is_some() {
        parts.findings.problem(
            &section.place("key"),
            "`key` is for events of RabbitMQ: what a channel of Redis brings has the channel's name as its key",
        );
        return None;
    }
    let channels =
        root.section("source").and_then(|source| source.section("redis")).map(|redis| redis.texts("channels"));
    let channels = channels.unwrap_or_default();
    if !channels.iter().any(|known| known == channel) {
        let suggestion = did_you_mean(channel, channels.iter().map(String::as_str))
            .or_else(|| Some(format!("write `[source.redis]` with `channels = [\"{channel}\"]`")));
        let what = format!("no event reaches this route: `[source.redis]` has no channel `{channel}`");
        parts.findings.problem_with(&place, what, suggestion);
        return None;
    }
    Some(Input::Redis(Box::from(channel)))
}

/// A routing key: itself, its last word, and its words by number.
fn key_branch() -> Branch {
    let numbers = (0..16).map(|index| (index.to_string(), Branch::Value));
    Branch::ValueWith([("last".to_owned(), Branch::Value)].into_iter().chain(numbers).collect())
}

fn pages(root: &Section, kinds: &[Kind], parts: &mut Parts<'_, '_>) -> Vec<Page> {
    let fields = GATEWAY_FIELDS.iter().map(|(name, _)| ((*name).to_owned(), Branch::Open)).collect();
    let base = Vocabulary::default().with("now", Branch::Value).with("gateway", Branch::Only(fields));
    let mut pages: Vec<Page> = Vec::new();
    for entry in root.named("http") {
        let Some(section) = entry.written.section() else { continue };
        match Page::parse(&entry.name) {
            Ok((method, steps)) => {
                let vocabulary = base.clone().with("path", Page::parts(&steps));
                parts.local_names(section, "call", &vocabulary);
                let mut calls = Vec::new();
                let mut full = vocabulary.clone();
                for written in section.named("call") {
                    let call = written.written.section().and_then(|call| page_call(call, &vocabulary, kinds, parts));
                    calls.extend(call.map(|call| (Box::from(written.name.as_str()), call)));
                    full = full.with(&written.name, Branch::Open);
                }
                let body = parts.shape_of(section, "body", &full);
                pages.extend(body.map(|body| Page { method, steps, calls, body, public: section.switch("public") }));
            }
            Err(what) => parts.findings.problem(&entry.name_span, format!("`{}` {what}", entry.name)),
        }
    }
    // The most specific path first, whatever the order of the file.
    pages.sort_by_key(|page| page.steps.iter().map(|step| matches!(step, Step::Part(_))).collect::<Vec<_>>());
    pages
}

/// Something that is fetched for a document. `None` where a problem was noted.
fn page_call(section: &Section, vocabulary: &Vocabulary, kinds: &[Kind], parts: &mut Parts<'_, '_>) -> Option<Call> {
    let [entry] = section.entries.as_slice() else {
        parts
            .findings
            .problem(&section.span, "a `call` of a document needs one thing to fetch; several have a name each");
        return None;
    };
    let written = &entry.written;
    let text = written.text()?;
    match entry.name.as_str() {
        "online" => Some(Call::Online(parts.template(text, &written.span, vocabulary)?)),
        "presence" => Some(Call::Presence(parts.template(text, &written.span, vocabulary)?)),
        "sockets" => namespace_named(text, written, parts).map(Call::Sockets),
        "rooms" => kind_named(text, written, kinds, parts).map(Call::Rooms),
        _ => kind_named(text, written, kinds, parts).map(Call::Members),
    }
}

fn namespace_named(name: &str, written: &Written, parts: &mut Parts<'_, '_>) -> Option<NamespaceId> {
    let known = parts.namespaces.iter().position(|own| **own == *name).and_then(|index| u32::try_from(index).ok());
    if known.is_none() {
        let suggestion = did_you_mean(name, parts.namespaces.iter().map(|own| &**own));
        parts.findings.problem_with(&written.span, format!("no endpoint has the namespace `{name}`"), suggestion);
    }
    known.map(NamespaceId)
}

fn kind_named(name: &str, written: &Written, kinds: &[Kind], parts: &mut Parts<'_, '_>) -> Option<KindId> {
    let known = kinds.iter().position(|kind| *kind.name == *name).and_then(|index| u32::try_from(index).ok());
    if known.is_none() && parts.kinds_known {
        let suggestion = did_you_mean(name, kinds.iter().map(|kind| &*kind.name));
        parts.findings.problem_with(&written.span, format!("there is no kind of rooms `{name}`"), suggestion);
    }
    known.map(KindId)
}
