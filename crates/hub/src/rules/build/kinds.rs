//! The kinds of rooms: their names, who may enter, what they keep and what they ask for.

use crate::names::EventName;
use crate::profile::Section;
use crate::rules::condition::Condition;
use crate::rules::kind::{Ask, Kind};
use crate::rules::latest::{Keep, Snapshot};
use crate::rules::parts::{Parts, Stand};
use crate::rules::pattern::RoomPattern;
use crate::rules::scope::{Branch, Vocabulary};
use crate::rules::template::Template;

/// The kinds of a profile, the most specific name first.
pub(super) fn build(root: &Section, parts: &mut Parts<'_, '_>) -> Vec<Kind> {
    let mut kinds = Vec::new();
    for entry in root.named("room") {
        let Some(section) = entry.written.section() else { continue };
        let Some(kind) = kind(&entry.name, section, parts) else {
            parts.kinds_known = false;
            continue;
        };
        if let Some(other) =
            kinds.iter().find(|other: &&Kind| other.pattern.same_names(&kind.pattern) && overlap(other, &kind))
        {
            let what =
                format!("the rooms of kind `{}` have the same names as those of kind `{}`", kind.name, other.name);
            parts.findings.problem(&section.place("name"), what);
        }
        kinds.push(kind);
    }
    let user = RoomPattern::parse("user:{id}").expect("the pattern is well formed");
    match kinds.iter().find(|kind| &*kind.name == "user") {
        Some(own) if !own.pattern.same_names(&user) => {
            let place = root.section("room").map_or(0..0, |rooms| rooms.place("user"));
            parts.findings.problem_with(
                &place,
                "rooms of kind `user` have names of their own, since every user's sockets are in one",
                Some("write `name = \"user:{id}\"`, or take another name for this kind".to_owned()),
            );
        }
        Some(_) => {}
        None => kinds.push(Kind {
            name: Box::from("user"),
            pattern: user,
            namespaces: None,
            enter: Condition::Never,
            ask: None,
            keep: None,
            snapshot: None,
            on_enter: Vec::new(),
            on_leave: Vec::new(),
            on_user_enter: Vec::new(),
        }),
    }
    // By name where they are equally specific, so that the order of the file never counts.
    kinds.sort_by(|one, other| (one.pattern.rank(), &one.name).cmp(&(other.pattern.rank(), &other.name)));
    kinds
}

fn kind(name: &str, section: &Section, parts: &mut Parts<'_, '_>) -> Option<Kind> {
    let pattern = match RoomPattern::parse(section.text("name")?) {
        Ok(pattern) => pattern,
        Err(what) => {
            parts.findings.problem(
                &section.place("name"),
                format!("the name pattern `{}`: {what}", section.text_or_empty("name")),
            );
            return None;
        }
    };
    let room = room_branch(pattern.parts());
    let room_alone = Vocabulary::default().with("now", Branch::Value).with("room", room.clone());
    let vocabulary = Vocabulary::of_socket().with("room", room);
    let for_condition =
        pattern.parts().fold(vocabulary.clone(), |vocabulary, part| vocabulary.with(part, Branch::Value));
    let enter = parts.condition_of(section, "enter", &for_condition).unwrap_or(Condition::Never);
    let ask = section.section("ask").and_then(|written| ask(name, written, &vocabulary, parts));
    let keep = section.section("keep").and_then(keep);
    let snapshot = section.section("snapshot").and_then(|written| snapshot(written, &room_alone, parts));
    if let (Some(keep), Some(snapshot)) = (&keep, &snapshot)
        && keep.event != snapshot.event
    {
        let what = format!(
            "`keep` and `snapshot` are about one value, so their events have one name, and not `{}` and `{}`",
            keep.event, snapshot.event
        );
        parts.findings.problem(&section.place("snapshot"), what);
    }
    Some(Kind {
        name: Box::from(name),
        namespaces: parts.namespaces_of(section),
        enter,
        ask,
        keep,
        snapshot,
        on_enter: parts.emits(section, "on_enter", Stand::Room, &vocabulary),
        on_leave: parts.emits(section, "on_leave", Stand::Room, &vocabulary),
        on_user_enter: parts.emits(section, "on_user_enter", Stand::Room, &vocabulary),
        pattern,
    })
}

fn overlap(one: &Kind, other: &Kind) -> bool {
    match (&one.namespaces, &other.namespaces) {
        (Some(one), Some(other)) => one.iter().any(|namespace| other.contains(namespace)),
        (None, _) | (_, None) => true,
    }
}

fn ask(kind: &str, section: &Section, vocabulary: &Vocabulary, parts: &mut Parts<'_, '_>) -> Option<Ask> {
    let with: Vec<(Box<str>, Template)> = section
        .named("with")
        .iter()
        .filter_map(|entry| {
            let template = parts.template(entry.written.text()?, &entry.written.span, vocabulary)?;
            Some((Box::from(entry.name.as_str()), template))
        })
        .collect();
    let Some(address) = section.text("get") else {
        let what = format!(
            "no access service is set for rooms of kind `{kind}`: everyone whom `enter` lets in may enter them"
        );
        parts.findings.warning(&section.place("get"), what);
        return None;
    };
    let names = with.iter().fold(Vocabulary::default(), |vocabulary, (name, _)| vocabulary.with(name, Branch::Value));
    let get = parts.template(address, &section.place("get"), &names)?;
    if !(address.starts_with("http://") || address.starts_with("https://")) {
        let what = format!("the access service's address `{address}` does not begin with `http://` or `https://`");
        parts.findings.problem(&section.place("get"), what);
    }
    let timeout_ms = u64::try_from(section.time("timeout").as_millis()).unwrap_or(u64::MAX);
    Some(Ask { get, with, timeout_ms })
}

fn keep(section: &Section) -> Option<Keep> {
    let event = EventName::parse(section.text("event")?).ok()?;
    Some(Keep { event, for_ms: u64::try_from(section.time("for").as_millis()).unwrap_or(u64::MAX) })
}

fn snapshot(section: &Section, vocabulary: &Vocabulary, parts: &mut Parts<'_, '_>) -> Option<Snapshot> {
    let call = parts.service_call(section, vocabulary);
    let with_reply = vocabulary.clone().with("reply", Branch::Open);
    let data = parts.shape_of(section, "data", &with_reply);
    Some(Snapshot { call: call?, event: EventName::parse(section.text("event")?).ok()?, data })
}

/// What a room is in templates: its name, its kind, and the parts of the pattern.
pub(super) fn room_branch<'k>(parts: impl Iterator<Item = &'k str>) -> Branch {
    let mut below = vec![("kind".to_owned(), Branch::Value)];
    for part in parts {
        if !below.iter().any(|(name, _)| name == part) {
            below.push((part.to_owned(), Branch::Value));
        }
    }
    Branch::ValueWith(below)
}
