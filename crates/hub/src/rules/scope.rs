//! What a template or a condition may name, and what stands behind the names while one thing is decided.
//! The vocabulary is checked when a profile is read; the scope is asked when it runs.

use std::borrow::Cow;

use super::facts::{NewId, Presence, User};
use super::json::{self, Document};
use crate::names::{RoomName, SocketId};

/// The names that may be used somewhere, as a tree. Built for each place of the language from what is there in it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Vocabulary {
    words: Vec<(String, Branch)>,
}

/// What may follow a name.
#[derive(Debug, Clone)]
pub(crate) enum Branch {
    /// Nothing: it is a value.
    Value,
    /// Anything: it is JSON from outside.
    Open,
    /// These, and it is no value itself.
    Only(Vec<(String, Branch)>),
    /// These, and it is a value itself.
    ValueWith(Vec<(String, Branch)>),
}

impl Branch {
    /// A branch with these values below it.
    pub(crate) fn only(names: &[&str]) -> Self {
        Self::Only(names.iter().map(|name| ((*name).to_owned(), Self::Value)).collect())
    }

    fn children(&self) -> &[(String, Branch)] {
        match self {
            Self::Value | Self::Open => &[],
            Self::Only(children) | Self::ValueWith(children) => children,
        }
    }
}

/// Why a path means nothing here.
#[derive(Debug)]
pub(crate) struct Unknown {
    pub(crate) what: String,
    pub(crate) suggestion: Option<String>,
}

impl Vocabulary {
    /// What is known everywhere: the time, and a fresh id.
    pub(crate) fn everywhere() -> Self {
        Self::default().with("now", Branch::Value).with("new", Branch::only(&["id"]))
    }

    /// What is known where a socket acts.
    pub(crate) fn of_socket() -> Self {
        Self::everywhere().with("socket", Branch::only(&["id"])).with("user", Branch::Open)
    }

    /// The same with one more name.
    pub(crate) fn with(mut self, name: &str, branch: Branch) -> Self {
        self.words.retain(|(word, _)| word != name);
        self.words.push((name.to_owned(), branch));
        self
    }

    /// The names at its root.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.words.iter().map(|(word, _)| word.as_str())
    }

    /// Checks a path. `as_value` says that the path must be a value itself, as in templates.
    pub(crate) fn check(&self, path: &[impl AsRef<str>], as_value: bool) -> Result<(), Unknown> {
        let mut children = self.words.as_slice();
        let mut walked = String::new();
        let mut branch: Option<&Branch> = None;
        for step in path {
            let step = step.as_ref();
            if let Some(Branch::Open) = branch {
                return Ok(());
            }
            let Some((_, next)) = children.iter().find(|(word, _)| word == step) else {
                let mut unknown = unknown(step, &walked, children);
                if unknown.suggestion.is_none() && walked.is_empty() {
                    unknown.suggestion = below(step, children);
                }
                return Err(unknown);
            };
            walked = if walked.is_empty() { step.to_owned() } else { format!("{walked}.{step}") };
            children = next.children();
            branch = Some(next);
        }
        match branch {
            Some(Branch::Only(_)) if as_value => Err(Unknown {
                what: format!("`{walked}` is no value by itself; {}", listing(&walked, children)),
                suggestion: None,
            }),
            Some(Branch::Only(_) | Branch::Value | Branch::Open | Branch::ValueWith(_)) | None => Ok(()),
        }
    }
}

fn unknown(step: &str, walked: &str, children: &[(String, Branch)]) -> Unknown {
    let near = crate::profile::nearest(step, children.iter().map(|(word, _)| word.as_str()));
    let suggestion = near.map(|near| {
        let dot = if walked.is_empty() { "" } else { "." };
        format!("did you mean `{walked}{dot}{near}`?")
    });
    let what = if walked.is_empty() {
        format!("nothing is called `{step}` here; {}", listing("", children))
    } else {
        format!("`{walked}` has no `{step}`; {}", listing(walked, children))
    };
    Unknown { what, suggestion }
}

/// A name that stands one step below, as `{id}` for `{args.id}`: what is known in one place alone comes last, and is meant first.
fn below(step: &str, children: &[(String, Branch)]) -> Option<String> {
    let has_it = |branch: &Branch| branch.children().iter().any(|(word, _)| word == step);
    let (above, _) = children.iter().rev().find(|(_, branch)| has_it(branch))?;
    Some(format!("did you mean `{above}.{step}`?"))
}

fn listing(walked: &str, children: &[(String, Branch)]) -> String {
    if children.is_empty() {
        return format!("nothing stands below `{walked}`");
    }
    let names: Vec<String> = children.iter().map(|(word, _)| format!("`{word}`")).collect();
    format!("there is {}", names.join(", "))
}

/// What a path begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Root {
    Now,
    New,
    Socket,
    User,
    Args,
    Room,
    Event,
    Key,
    Gateway,
    /// What a service answered.
    Reply,
    /// A part of a document's path.
    Part,
    /// A value that a rule named: by `let`, `call`, a pattern's part.
    Local(Box<str>),
}

/// A path of a template, checked against its vocabulary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path {
    root: Root,
    below: Box<[Box<str>]>,
}

impl Path {
    /// Takes the steps of a path.
    pub(crate) fn new(steps: &[&str]) -> Self {
        let (first, below) = steps.split_first().expect("a path has at least one step");
        let root = match *first {
            "now" => Root::Now,
            "new" => Root::New,
            "socket" => Root::Socket,
            "user" => Root::User,
            "args" => Root::Args,
            "room" => Root::Room,
            "event" => Root::Event,
            "key" => Root::Key,
            "gateway" => Root::Gateway,
            "reply" => Root::Reply,
            "path" => Root::Part,
            local => Root::Local(Box::from(local)),
        };
        Self { root, below: below.iter().map(|step| Box::from(*step)).collect() }
    }

    /// Whether a value must be there: what the gateway's own side knows is `null` where it is missing, fields of events and replies must be
    /// there.
    pub(crate) fn must_be_there(&self) -> bool {
        matches!(self.root, Root::Event | Root::Reply)
    }

    /// The claim that it reads, if it reads the user: `Some(None)` for the user as a whole.
    pub(crate) fn claim(&self) -> Option<Option<&str>> {
        (self.root == Root::User).then(|| self.below.first().map(|claim| &**claim))
    }

    /// The kind of rooms that it lists, in `user.rooms.KIND`.
    pub(crate) fn rooms_of_user(&self) -> Option<&str> {
        match &*self.below {
            [rooms, kind] if self.root == Root::User && &**rooms == "rooms" => Some(kind),
            _ => None,
        }
    }

    /// The argument that it reads, in `args.NAME`.
    pub(crate) fn argument(&self) -> Option<&str> {
        match &*self.below {
            [name] if self.root == Root::Args => Some(name),
            _ => None,
        }
    }
}

/// A room, with the kind that it is of and what the kind's pattern captured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RoomView<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) parts: &'a [(&'a str, &'a str)],
}

/// Whom `{user}` means.
#[derive(Clone, Copy)]
pub(crate) enum Who<'a> {
    /// The one on the acting socket.
    Here(&'a User),
    /// One whose presence changed, with the rooms that are meant.
    Changed(&'a Presence<'a>, &'a [(&'a str, &'a RoomName)]),
}

/// Gives the raw JSON of a field of `{gateway.…}`.
pub(crate) type Gateway<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Named values, as raw JSON.
pub(crate) type Named = Vec<(Box<str>, Box<str>)>;

/// What stands behind the names while one thing is decided. What is not there is left out.
#[derive(Clone, Copy, Default)]
pub(crate) struct Scope<'a> {
    pub(crate) now_unix_ms: u64,
    pub(crate) new_id: NewId<'a>,
    pub(crate) socket: Option<&'a SocketId>,
    pub(crate) socket_rooms: &'a [RoomName],
    pub(crate) who: Option<Who<'a>>,
    pub(crate) args: &'a [(Box<str>, Box<str>)],
    pub(crate) room: Option<RoomView<'a>>,
    pub(crate) event: Option<&'a Document<'a>>,
    pub(crate) reply: Option<&'a Document<'a>>,
    pub(crate) key: &'a str,
    pub(crate) locals: &'a [(Box<str>, Box<str>)],
    /// Values that are texts and not JSON: the parts of a room's name in its condition, those of a document's path.
    pub(crate) texts: &'a [(&'a str, &'a str)],
    pub(crate) gateway: Option<&'a Gateway<'a>>,
}

impl<'a> Scope<'a> {
    /// The raw JSON behind a path; `None` where nothing is there.
    pub(crate) fn find(&self, path: &Path) -> Option<Cow<'a, str>> {
        let below = &*path.below;
        let quoted = |text: &str| Some(Cow::Owned(json::quoted(text)));
        match &path.root {
            Root::Now => quoted(&json::iso_8601(self.now_unix_ms)),
            Root::New => quoted(self.new_id.as_str()),
            Root::Socket => match below.first().map(|step| &**step) {
                Some("id") => quoted(self.socket?.as_str()),
                Some("rooms") => Some(Cow::Owned(list_of_texts(self.socket_rooms.iter().map(RoomName::as_str)))),
                Some(_) | None => None,
            },
            Root::User => self.user(below),
            Root::Args => match below.split_first() {
                Some((name, rest)) => json::descend(named(self.args, name)?, rest).map(Cow::Borrowed),
                None => Some(Cow::Owned(object_of(self.args))),
            },
            Root::Room => self.room_value(below),
            Root::Event => self.event?.path(below).map(Cow::Borrowed),
            Root::Reply => self.reply?.path(below).map(Cow::Borrowed),
            Root::Key => match below.first().map(|step| &**step) {
                None => quoted(self.key),
                Some("last") => quoted(self.key.rsplit('.').next()?),
                Some(index) => quoted(self.key.split('.').nth(index.parse().ok()?)?),
            },
            Root::Gateway => {
                let (field, rest) = below.split_first()?;
                let value = self.gateway?(field)?;
                if rest.is_empty() {
                    Some(Cow::Owned(value))
                } else {
                    json::descend(&value, rest).map(|raw| Cow::Owned(raw.to_owned()))
                }
            }
            Root::Part => {
                quoted(self.texts.iter().find(|(name, _)| below.first().is_some_and(|part| **part == **name))?.1)
            }
            Root::Local(name) => match named(self.locals, name) {
                Some(value) => json::descend(value, below).map(Cow::Borrowed),
                None => quoted(self.texts.iter().find(|(text, _)| *text == &**name)?.1),
            },
        }
    }

    fn user(&self, below: &[Box<str>]) -> Option<Cow<'a, str>> {
        match (self.who?, below.split_first()) {
            (Who::Here(user), Some((id, []))) if &**id == "id" => {
                Some(user.id.as_ref().map_or(Cow::Borrowed("null"), |id| Cow::Owned(id.to_json())))
            }
            (Who::Here(user), _) => json::descend(&user.claims, below).map(Cow::Borrowed),
            (Who::Changed(presence, rooms), Some((first, rest))) => match (&**first, rest) {
                ("id", []) => Some(Cow::Owned(presence.id.to_json())),
                ("lastSeen", []) => Some(Cow::Owned(json::quoted(&json::iso_8601(presence.last_seen_unix_ms)))),
                ("rooms", [kind]) => {
                    let of_kind = rooms.iter().filter(|(name, _)| *name == &**kind).map(|(_, room)| room.as_str());
                    Some(Cow::Owned(list_of_texts(of_kind)))
                }
                _ => None,
            },
            (Who::Changed(..), None) => None,
        }
    }

    fn room_value(&self, below: &[Box<str>]) -> Option<Cow<'a, str>> {
        let room = self.room?;
        let text = match below.first().map(|step| &**step) {
            None => room.name,
            Some("kind") => room.kind,
            Some(part) => room.parts.iter().find(|(name, _)| *name == part)?.1,
        };
        Some(Cow::Owned(json::quoted(text)))
    }
}

fn named<'a>(values: &'a [(Box<str>, Box<str>)], name: &str) -> Option<&'a str> {
    values.iter().find(|(own, _)| **own == *name).map(|(_, value)| &**value)
}

fn list_of_texts<'t>(texts: impl Iterator<Item = &'t str>) -> String {
    let mut list = String::from("[");
    for text in texts {
        if list.len() > 1 {
            list.push(',');
        }
        json::push_text(&mut list, text);
    }
    list.push(']');
    list
}

fn object_of(values: &[(Box<str>, Box<str>)]) -> String {
    let mut object = String::from("{");
    for (name, value) in values {
        if object.len() > 1 {
            object.push(',');
        }
        json::push_text(&mut object, name);
        object.push(':');
        object.push_str(value);
    }
    object.push('}');
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_paths_are_told_with_what_is_there() {
        let vocabulary = Vocabulary::of_socket().with("args", Branch::only(&["roomType", "roomId"]));
        for (path, expected) in [
            ("args.roomId", None),
            ("user.anything.below", None),
            ("args.roomld", Some("`args` has no `roomld`; there is `roomType`, `roomId`; did you mean `args.roomId`?")),
            (
                "arg.roomId",
                Some(
                    "nothing is called `arg` here; there is `now`, `new`, `socket`, `user`, `args`; did you mean `args`?",
                ),
            ),
            ("now.x", Some("`now` has no `x`; nothing stands below `now`")),
            ("socket", Some("`socket` is no value by itself; there is `id`")),
        ] {
            let steps: Vec<&str> = path.split('.').collect();
            let told = vocabulary.check(&steps, true).err().map(|unknown| match unknown.suggestion {
                Some(suggestion) => format!("{}; {suggestion}", unknown.what),
                None => unknown.what,
            });
            assert_eq!(told.as_deref(), expected, "{path}");
        }
    }
}
