//! The language of profiles: every table and key, once, with its kind, its default and what it is for. From here come the checks of what was
//! written, the JSON Schema and the reference page. The tables of each matter have a file. Reads nothing itself.

mod backends;
mod endpoints;
mod routes;
mod rules;
mod settings;

use backends::{PUBLISH, REDIS, SOURCE, UPSTREAM};
use endpoints::ENDPOINT;
use routes::{HTTP, ROUTE};
use rules::{COMMAND, ON, ROOM};
use settings::{API, AUTH, CORS, DRAIN, LIMITS, LOG, SERVICE, USER};

/// A table of the language.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) about: &'static str,
    pub(crate) keys: &'static [Key],
}

/// A key of a table.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) presence: Presence,
    pub(crate) about: &'static str,
    /// As it would stand in a profile, for the reference page.
    pub(crate) example: &'static str,
}

/// Whether a key must be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// It must.
    Needed,
    /// It need not, and then is not there.
    May,
    /// It need not, and then is this text, variables and all.
    Default(&'static str),
    /// It need not, and then is an empty table, so that the defaults in it hold.
    Always,
}

/// What may stand at a key.
#[derive(Debug)]
pub(crate) enum Kind {
    /// A text.
    Text,
    /// The name of an event, namespace or variable: 1 to 255 bytes without control characters.
    Name,
    /// The pattern of rooms' names: `conversation:{roomId}`.
    RoomPattern,
    /// A template: a text with `{paths}`.
    Template,
    /// A condition in CEL, or `true`, `false`.
    Condition,
    /// `true` or `false`.
    Switch,
    /// A whole number between two bounds.
    Count(i64, i64),
    /// A time: `"500ms"`, `"3s"`, `"5m"`, `"24h"`, `"7d"`; a bare number in a variable is seconds.
    Time,
    /// A size in bytes: `"64KiB"`, `"1MB"`; a bare number is bytes.
    Size,
    /// The address of a machine, not its name.
    Address,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of texts, or one text with commas.
    Words,
    /// A list.
    List(&'static Kind),
    /// One, or a list of several.
    OneOrMany(&'static Kind),
    /// One of two forms: a text of the first kind, or a table.
    TextOr(&'static Kind, &'static Table),
    /// A table.
    Table(&'static Table),
    /// Any number of tables, in order: `[[name]]`.
    Tables(&'static Table),
    /// A table whose keys are the author's own names.
    Named(&'static Kind),
    /// Any value, with templates in its texts.
    Data,
    /// What a command's argument must be.
    Arguments,
}

const fn key(name: &'static str, kind: Kind, presence: Presence, about: &'static str, example: &'static str) -> Key {
    Key { name, kind, presence, about, example }
}

use Kind::{Named, Text};
use Presence::{Always, May, Needed};

const UNLIMITED: i64 = u32::MAX as i64;

/// The whole of a profile.
pub(crate) static PROFILE: Table = Table {
    about: "A profile is one TOML file. Texts may hold variables, `${NAME|OTHER_NAME:-default}`: the first that is set and not empty wins; without a \
            default one of them must be set. `$${` is a plain `${`. Values are typed as their key wants. The order of `[[…]]` tables counts, the \
            order of all others never does.",
    keys: &[
        key("about", Text, May, "What this gateway is, in a sentence.", r#"about = "The gateway of HomeTrip""#),
        key("service", Kind::Table(&SERVICE), Always, "Who the gateway is, and where it listens.", ""),
        key("auth", Kind::Table(&AUTH), Always, "Who gets in, and as whom.", ""),
        key("user", Kind::Table(&USER), Always, "What one user may have.", ""),
        key("cors", Kind::Table(&CORS), Always, "Which pages may connect.", ""),
        key("endpoint", Kind::Tables(&ENDPOINT), Needed, "The ways in for clients.", ""),
        key("source", Kind::Table(&SOURCE), Always, "Where events come from.", ""),
        key("redis", Kind::Table(&REDIS), Always, "Where Redis is. It is used if a URL or a host is set.", ""),
        key("publish", Kind::Table(&PUBLISH), Always, "How clients' messages reach the broker.", ""),
        key(
            "upstream",
            Named(&Kind::Table(&UPSTREAM)),
            May,
            "The services that rules call, by the author's own names.",
            "",
        ),
        key("limits", Kind::Table(&LIMITS), Always, "How much of everything.", ""),
        key("drain", Kind::Table(&DRAIN), Always, "How the gateway goes when it is told to (SIGTERM).", ""),
        key("log", Kind::Table(&LOG), Always, "What is written down, and where.", ""),
        key("api", Kind::Table(&API), Always, "The server API.", ""),
        key("on", Kind::Table(&ON), Always, "What is done when connections and users come and go.", ""),
        key(
            "room",
            Named(&Kind::Table(&ROOM)),
            May,
            "The kinds of rooms, by the author's own names. The most specific name pattern wins. A kind `user` is always there.",
            "",
        ),
        key(
            "command",
            Named(&Kind::Table(&COMMAND)),
            May,
            "What clients may send, by the event's name. A command goes through its phases in a fixed order: `args`, `require`, `call`, `let`, `publish`, `join` and `leave`, `answer`, `emit`. A phase that fails stops the rest and answers with its error.",
            "",
        ),
        key(
            "route",
            Kind::Tables(&ROUTE),
            May,
            "What becomes of events from backends. Routes are tried from the top down, the first match takes the event. An event that no route asks for is ignored: acknowledged and counted.",
            "",
        ),
        key(
            "http",
            Named(&Kind::Table(&HTTP)),
            May,
            "Documents that operators of this system expect, by method and path. They win over the gateway's own.",
            "",
        ),
    ],
};

impl Table {
    /// The key of this name.
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

impl Kind {
    /// What is expected, for messages: `a whole number from 0 to 65535`.
    pub(crate) fn expected(&self) -> String {
        match self {
            Self::Text | Self::Name | Self::RoomPattern | Self::Template => "a text".to_owned(),
            Self::Condition => "a condition in quotes, or `true` or `false`".to_owned(),
            Self::Switch => "`true` or `false`".to_owned(),
            Self::Count(min, max) if *max >= UNLIMITED => format!("a whole number from {min} up"),
            Self::Count(min, max) => format!("a whole number from {min} to {max}"),
            Self::Time => "a time such as \"500ms\", \"3s\", \"5m\", \"24h\" or \"7d\"".to_owned(),
            Self::Size => "a size such as \"64KiB\" or \"1MB\"".to_owned(),
            Self::Address => "an IP address such as \"10.0.0.7\"".to_owned(),
            Self::Choice(words) => format!("one of {}", quoted_list(words)),
            Self::Words => "a list of texts, or one text with commas".to_owned(),
            Self::List(_) => "a list".to_owned(),
            Self::OneOrMany(kind) => format!("{}, or a list of them", kind.expected()),
            Self::TextOr(kind, _) => format!("{}, or a table", kind.expected()),
            Self::Table(_) | Self::Named(_) => "a table".to_owned(),
            Self::Tables(_) => "tables, each as `[[…]]`".to_owned(),
            Self::Data => "a value".to_owned(),
            Self::Arguments => "a table of fields, each with what it must be".to_owned(),
        }
    }
}

/// Words for a sentence: `a`, `b` or `c`.
pub(crate) fn quoted_list(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        Some((last, _)) => last.clone(),
        None => String::new(),
    }
}
