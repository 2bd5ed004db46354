//! The commands of clients: what each phase needs, in the order of the phases, since each knows what those before it made.

use super::kinds::room_branch;
use super::{check_targets, shape_branch};
use crate::codes::ErrorCode;
use crate::names::EventName;
use crate::profile::{Entry, Section, did_you_mean, error_code};
use crate::rules::arguments::{self, Field};
use crate::rules::command::{self, Answer, Command, Publication, Require, Test};
use crate::rules::kind::Kind;
use crate::rules::parts::{Parts, Stand};
use crate::rules::reach::Entry as Door;
use crate::rules::scope::{Branch, Vocabulary};
use crate::rules::template::Template;

/// Names that the protocol or the gateway itself gives a meaning, so that no command can have them.
const RESERVED_COMMANDS: [&str; 7] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener", "refresh_token"];

pub(super) fn build(entry: &Entry, kinds: &[Kind], parts: &mut Parts<'_, '_>) -> Command {
    if RESERVED_COMMANDS.contains(&entry.name.as_str()) {
        let what = format!("`{}` has a meaning of its own, so that no command can be called so", entry.name);
        parts.findings.problem(&entry.name_span, what);
    }
    let nothing = Section::default();
    let section = entry.written.section().unwrap_or(&nothing);
    let args = section.section("args").map(|written| parts.fields(written)).unwrap_or_default();
    let base = Vocabulary::of_socket().with("args", Branch::ValueWith(arguments::branches(&args)));
    let bare = section.text("bare").map(Box::from);
    if let Some(name) = section.text("bare").filter(|name| !args.iter().any(|field| *field.name == **name)) {
        let suggestion = did_you_mean(name, args.iter().map(|field| &*field.name));
        parts.findings.problem_with(&section.place("bare"), format!("`args` has no field `{name}`"), suggestion);
    }
    let require =
        section.sections("require").filter_map(|written| require(written, &args, kinds, &base, parts)).collect();
    parts.local_names(section, "call", &base);
    let mut calls = Vec::new();
    let mut with_calls = base.clone();
    for call in section.named("call") {
        let built = call.written.section().and_then(|written| self::call(written, &base, parts));
        calls.extend(built.map(|built| (Box::from(call.name.as_str()), built)));
        with_calls = with_calls.with(&call.name, Branch::Open);
    }
    parts.local_names(section, "let", &with_calls);
    let locals = parts.shapes(section, "let", &with_calls);
    let full = locals.iter().fold(with_calls, |vocabulary, (name, shape)| vocabulary.with(name, shape_branch(shape)));
    if let (Some(written), false) = (section.section("publish"), parts.has_broker) {
        let what = "nothing is published: the profile has no broker; write `[source.rabbitmq]`, with `queue = []` where nothing comes from it";
        parts.findings.warning(&written.span, what);
    }
    let publish = section.section("publish").and_then(|written| {
        Some(Publication {
            exchange: written.text("exchange").map(str::to_owned),
            key: parts.template_of(written, "key", &full)?,
            body: parts.shape_of(written, "body", &full)?,
        })
    });
    let join = doors(section, "join", &args, kinds, &full, parts);
    let leave = doors(section, "leave", &args, kinds, &full, parts);
    let after = if section.find("join").is_some() || section.find("leave").is_some() {
        full.with("room", room_branch(kinds.iter().flat_map(|kind| kind.pattern.parts())))
    } else {
        full
    };
    let answer = section.section("answer").map(|written| answer(written, &after, parts)).unwrap_or_default();
    let emit = parts.emits(section, "emit", Stand::Socket, &after);
    check_targets(section, "emit", &emit, &args, kinds, parts);
    let namespaces = parts.namespaces_of(section);
    Command {
        name: Box::from(entry.name.as_str()),
        namespaces,
        args,
        bare,
        require,
        calls,
        locals,
        publish,
        join,
        leave,
        answer,
        emit,
    }
}

fn call(section: &Section, vocabulary: &Vocabulary, parts: &mut Parts<'_, '_>) -> Option<command::Call> {
    match (section.find("presence"), section.find("call")) {
        (Some(_), None) => Some(command::Call::Presence(parts.template_of(section, "presence", vocabulary)?)),
        (None, Some(_)) => parts.service_call(section, vocabulary).map(command::Call::Service),
        (Some(_), Some(_)) | (None, None) => {
            parts.findings.problem(&section.span, "a call needs one of `presence` and `call`");
            None
        }
    }
}

/// The rooms that clients enter or leave by a command.
fn doors(
    section: &Section,
    key: &str,
    args: &[Field],
    kinds: &[Kind],
    vocabulary: &Vocabulary,
    parts: &mut Parts<'_, '_>,
) -> Vec<Template> {
    let mut templates = Vec::new();
    for written in section.list(key) {
        if let Some(template) = written.text().and_then(|text| parts.template(text, &written.span, vocabulary)) {
            parts.check_room(&template, written, args, kinds, Door::Client);
            templates.push(template);
        }
    }
    templates
}

fn require(
    section: &Section,
    args: &[Field],
    kinds: &[Kind],
    vocabulary: &Vocabulary,
    parts: &mut Parts<'_, '_>,
) -> Option<Require> {
    let (test, default) = match (section.find("member"), section.find("that")) {
        (Some(written), None) => {
            let template = parts.template(written.text()?, &written.span, vocabulary)?;
            parts.check_room(&template, written, args, kinds, Door::Rule);
            (Test::Member(template), ErrorCode::NotAMember)
        }
        (None, Some(written)) => (Test::That(parts.condition(written, vocabulary)), ErrorCode::Forbidden),
        (Some(_), Some(_)) | (None, None) => {
            parts.findings.problem(&section.span, "`require` needs one of `member` and `that`; several are a list");
            return None;
        }
    };
    let code = error_code(section, "code", parts.findings).unwrap_or(default);
    Some(Require { test, code, message: parts.template_of(section, "message", vocabulary) })
}

fn answer(section: &Section, vocabulary: &Vocabulary, parts: &mut Parts<'_, '_>) -> Answer {
    let event = section.text("event").and_then(|name| EventName::parse(name).ok());
    if event.is_none() && section.find("data").is_some() {
        parts.findings.problem_with(
            &section.place("data"),
            "`data` is the payload of an event, and no `event` is named",
            Some("write `ack`".to_owned()),
        );
    }
    Answer { ack: parts.shape_of(section, "ack", vocabulary), event, data: parts.shape_of(section, "data", vocabulary) }
}
