//! The small parts that rules are built of, from what was written: templates, conditions, shapes, emits, arguments. Each checks what it may name.
//! Knows the parts alone, not where they stand.

use std::sync::Arc;

use super::ClaimsUsed;
use super::arguments::{self, Field, LIST_MAX, Spec};
use super::calls::Upstream;
use super::condition::Condition;
use super::emit::{Called, Emit, PayloadRule, To};
use super::json;
use super::kind::Kind;
use super::method::{Message, Method};
use super::pattern::is_identifier;
use super::reach::{Entry, room_has_kind};
use super::scope::Vocabulary;
use super::shape::Shape;
use super::template::Template;
use crate::names::{EventName, NamespaceId};
use crate::profile::{Findings, Section, Span, Value, Written, did_you_mean, namespaces_of};

/// Builds parts, and notes problems and the claims that are read on the way.
pub(crate) struct Parts<'a, 'f> {
    pub(crate) findings: &'a mut Findings<'f>,
    pub(crate) namespaces: &'a [Box<str>],
    pub(crate) claims: ClaimsUsed,
    pub(crate) upstreams: Vec<Upstream<'a>>,
    /// The methods that were named, each once.
    pub(crate) methods: Vec<Arc<Method>>,
    /// The messages that are made for them.
    pub(crate) messages: Vec<Message>,
    /// Whether the profile has a broker that `publish` could go to.
    pub(crate) has_broker: bool,
    /// Whether every kind of rooms could be built: names can only be checked against all of them.
    pub(crate) kinds_known: bool,
}

/// Where an emit stands, which says what it may mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stand {
    /// In a route: there is a payload, and no acting socket.
    Route,
    /// In a hook of presence: neither.
    Presence,
    /// In a command or the hook of a connection: there is an acting socket.
    Socket,
    /// In a hook of a room: there is a room, too.
    Room,
}

impl Parts<'_, '_> {
    /// A template. `None` where a problem was noted.
    pub(crate) fn template(&mut self, text: &str, span: &Span, vocabulary: &Vocabulary) -> Option<Template> {
        match Template::parse(text, vocabulary) {
            Ok(template) => {
                for path in template.paths() {
                    if let Some(claim) = path.claim() {
                        self.note_claim(claim);
                    }
                }
                Some(template)
            }
            Err(bad) => {
                self.findings.problem_at(span, &bad.part, format!("`{}`: {}", bad.part, bad.what), bad.suggestion);
                None
            }
        }
    }

    /// The template of a key, if it is written.
    pub(crate) fn template_of(&mut self, section: &Section, name: &str, vocabulary: &Vocabulary) -> Option<Template> {
        let written = section.find(name)?;
        self.template(written.text()?, &written.span, vocabulary)
    }

    /// The templates of a list.
    pub(crate) fn templates(&mut self, items: &[Written], vocabulary: &Vocabulary) -> Vec<Template> {
        items.iter().filter_map(|item| self.template(item.text()?, &item.span, vocabulary)).collect()
    }

    /// A condition; one that never holds where a problem was noted.
    pub(crate) fn condition(&mut self, written: &Written, vocabulary: &Vocabulary) -> Condition {
        let Some(text) = written.text() else { return Condition::Never };
        match Condition::parse(text, vocabulary) {
            Ok(condition) => {
                match condition.claims() {
                    Some(claims) => claims.iter().for_each(|claim| self.note_claim(Some(claim))),
                    None => self.note_claim(None),
                }
                condition
            }
            Err(unknown) => {
                self.findings.problem_with(
                    &written.span,
                    format!("the condition `{text}`: {}", unknown.what),
                    unknown.suggestion,
                );
                Condition::Never
            }
        }
    }

    /// Checks that rooms of this name can exist, and that clients can enter them where they are asked to.
    pub(crate) fn check_room(
        &mut self,
        template: &Template,
        written: &Written,
        args: &[Field],
        kinds: &[Kind],
        entry: Entry,
    ) {
        if self.kinds_known {
            room_has_kind(template, written, args, kinds, entry, self.findings);
        }
    }

    /// The condition of a key, if it is written.
    pub(crate) fn condition_of(&mut self, section: &Section, name: &str, vocabulary: &Vocabulary) -> Option<Condition> {
        section.find(name).map(|written| self.condition(written, vocabulary))
    }

    /// A JSON value with templates in its texts.
    pub(crate) fn shape(&mut self, written: &Written, vocabulary: &Vocabulary) -> Shape {
        match &written.value {
            Value::Text(text) => match self.template(text, &written.span, vocabulary) {
                Some(template) => match template.constant() {
                    Some(text) => Shape::Constant(json::quoted(text).into_boxed_str()),
                    None => Shape::Template(template),
                },
                None => Shape::Constant(Box::from("null")),
            },
            Value::List(items) => Shape::List(items.iter().map(|item| self.shape(item, vocabulary)).collect()),
            Value::Table(section) => Shape::Object(
                section
                    .entries
                    .iter()
                    .map(|entry| (json::quoted(&entry.name).into_boxed_str(), self.shape(&entry.written, vocabulary)))
                    .collect(),
            ),
            Value::Switch(_)
            | Value::Count(_)
            | Value::Number(_)
            | Value::Time(_)
            | Value::Size(_)
            | Value::Address(_) => Shape::Constant(raw_json(written).into_boxed_str()),
        }
    }

    /// The shape of a key, if it is written.
    pub(crate) fn shape_of(&mut self, section: &Section, name: &str, vocabulary: &Vocabulary) -> Option<Shape> {
        section.find(name).map(|written| self.shape(written, vocabulary))
    }

    /// Named shapes, as in `let` and `add`.
    pub(crate) fn shapes(&mut self, section: &Section, name: &str, vocabulary: &Vocabulary) -> Vec<(Box<str>, Shape)> {
        section
            .named(name)
            .iter()
            .map(|entry| (Box::from(entry.name.as_str()), self.shape(&entry.written, vocabulary)))
            .collect()
    }

    /// Checks the names that `let` and `call` give: identifiers, none of which hides what is there already.
    pub(crate) fn local_names(&mut self, section: &Section, key: &str, vocabulary: &Vocabulary) {
        for entry in section.named(key) {
            if !is_identifier(&entry.name) {
                self.findings.problem(
                    &entry.name_span,
                    format!("`{}` in `{key}` is no name: letters, digits and `_`, a letter first", entry.name),
                );
            } else if vocabulary.names().any(|word| word == entry.name) {
                self.findings.problem(
                    &entry.name_span,
                    format!("`{}` in `{key}` hides what is there already; take another name", entry.name),
                );
            }
        }
    }

    /// The payload rule of a route or an emit, if it has one of its own.
    pub(crate) fn payload(&mut self, section: &Section, vocabulary: &Vocabulary) -> Option<PayloadRule> {
        match (section.find("data"), section.find("add")) {
            (Some(_), Some(add)) => {
                self.findings.problem(
                    &add.span,
                    "`data` makes the payload anew, so that `add` has nothing to add to; keep one of them",
                );
                None
            }
            (Some(data), None) => Some(PayloadRule::Data(self.shape(data, vocabulary))),
            (None, Some(_)) => Some(PayloadRule::Add(self.shapes(section, "add", vocabulary))),
            (None, None) => None,
        }
    }

    /// The emits of a key.
    pub(crate) fn emits(&mut self, section: &Section, name: &str, stand: Stand, vocabulary: &Vocabulary) -> Vec<Emit> {
        section.sections(name).filter_map(|emit| self.emit(emit, stand, vocabulary)).collect()
    }

    /// One emit. `None` where a problem was noted.
    pub(crate) fn emit(&mut self, section: &Section, stand: Stand, vocabulary: &Vocabulary) -> Option<Emit> {
        let event = self.called(section, vocabulary)?;
        let payload = self.payload(section, vocabulary);
        if stand != Stand::Route {
            if let Some(add) = section.find("add") {
                self.findings.problem_with(
                    &add.span,
                    "there is no payload that `add` could add to here",
                    Some("write `data`".to_owned()),
                );
            } else if payload.is_none() && section.find("data").is_none() {
                self.findings.problem_with(
                    &section.span,
                    format!("`{event}` needs a `data`: there is no payload to pass on here"),
                    None,
                );
            }
        }
        let acting = matches!(stand, Stand::Socket | Stand::Room);
        let written = section.list("to");
        let to = match written {
            [] if stand == Stand::Room => To::ThisRoom,
            [] => {
                self.findings.problem_with(
                    &section.span,
                    format!("`{event}` needs a `to`"),
                    Some("`self`, `everyone` or rooms".to_owned()),
                );
                return None;
            }
            [one] if one.text() == Some("self") && acting => To::Itself,
            [one] if one.text() == Some("everyone") => To::Everyone,
            rooms => {
                let mut misplaced = false;
                for word in rooms.iter().filter(|room| matches!(room.text(), Some("self" | "everyone"))) {
                    let what = if rooms.len() > 1 {
                        "stands alone, not in a list"
                    } else {
                        "means a socket, and none acts here"
                    };
                    self.findings.problem(&word.span, format!("`{}` {what}", word.text().unwrap_or_default()));
                    misplaced = true;
                }
                if misplaced {
                    return None;
                }
                To::Rooms(self.templates(rooms, vocabulary))
            }
        };
        let (itself, rooms): (Vec<_>, Vec<_>) =
            section.list("except").iter().cloned().partition(|except| except.text() == Some("self"));
        if let (Some(written), false) = (itself.first(), acting) {
            self.findings.problem(&written.span, "`self` means a socket, and none acts here");
        }
        Some(Emit {
            to,
            except_self: !itself.is_empty(),
            except_rooms: self.templates(&rooms, vocabulary),
            event,
            payload: payload.unwrap_or(PayloadRule::AsItCame),
            namespaces: self.namespaces_of(section),
        })
    }

    /// The name of an emit's event.
    fn called(&mut self, section: &Section, vocabulary: &Vocabulary) -> Option<Called> {
        let template = self.template_of(section, "event", vocabulary)?;
        let Some(constant) = template.constant() else { return Some(Called::Made(template)) };
        match EventName::parse(constant) {
            Ok(name) => Some(Called::Fixed(name)),
            Err(error) => {
                self.findings.problem(&section.place("event"), format!("`event` {error}"));
                None
            }
        }
    }

    /// The namespaces that a rule names.
    pub(crate) fn namespaces_of(&mut self, section: &Section) -> Option<Vec<NamespaceId>> {
        namespaces_of(section, self.namespaces, self.findings)
    }

    /// The declared fields of a message.
    pub(crate) fn fields(&mut self, section: &Section) -> Vec<Field> {
        section.entries.iter().filter_map(|entry| self.field(&entry.name, &entry.written)).collect()
    }

    fn field(&mut self, name: &str, written: &Written) -> Option<Field> {
        let name = Box::from(name);
        match &written.value {
            Value::Text(text) => {
                let (word, optional) = text.strip_suffix('?').map_or((text.as_str(), false), |word| (word, true));
                Some(Field { name, spec: self.simple(word, &written.span)?, optional, default: None })
            }
            Value::List(_) => Some(Field { name, spec: self.words(written)?, optional: false, default: None }),
            Value::Table(section) if section.entries.iter().all(|entry| SPEC_KEYS.contains(&entry.name.as_str())) => {
                self.specified(name, section)
            }
            Value::Table(section) => {
                Some(Field { name, spec: Spec::Fields(self.fields(section)), optional: false, default: None })
            }
            Value::Switch(_)
            | Value::Count(_)
            | Value::Number(_)
            | Value::Time(_)
            | Value::Size(_)
            | Value::Address(_) => {
                self.findings.problem_with(
                    &written.span,
                    format!("`{name}` does not say what it must be"),
                    Some(format!("for example `{name} = \"id\"`")),
                );
                None
            }
        }
    }

    fn simple(&mut self, word: &str, span: &Span) -> Option<Spec> {
        Some(match word {
            "any" => Spec::Any,
            "id" => Spec::Id,
            "bool" => Spec::Bool,
            "object" => Spec::Object,
            "text" => Spec::Text(0, usize::MAX),
            "number" => Spec::Number(f64::NEG_INFINITY, f64::INFINITY),
            "integer" => Spec::Integer(i64::MIN, i64::MAX),
            other => {
                let elsewhere = CALLED_ELSEWHERE.iter().find(|(name, _)| name.eq_ignore_ascii_case(other));
                let suggestion = elsewhere
                    .map(|(_, here)| format!("here it is {here}"))
                    .or_else(|| did_you_mean(other, SIMPLE_SPECS))
                    .or_else(|| Some(format!("there is {}", SIMPLE_SPECS.join(", "))));
                self.findings.problem_with(span, format!("`{other}` is nothing that a field can be"), suggestion);
                return None;
            }
        })
    }

    fn words(&mut self, written: &Written) -> Option<Spec> {
        let Value::List(items) = &written.value else { return None };
        let words: Vec<Box<str>> = items.iter().filter_map(Written::text).map(Box::from).collect();
        if words.len() != items.len() || words.is_empty() {
            self.findings.problem_with(
                &written.span,
                "a list of words is texts, at least one",
                Some("bounds say of what they are: `{ integer = [1, 100] }`".to_owned()),
            );
            return None;
        }
        if let [word] = words.as_slice()
            && SIMPLE_SPECS.contains(&&**word)
        {
            let what =
                format!("`[\"{word}\"]` is the word `{word}` and nothing else; a list is `{{ list = \"{word}\" }}`");
            self.findings.warning(&written.span, what);
        }
        Some(Spec::Word(words))
    }

    fn specified(&mut self, name: Box<str>, section: &Section) -> Option<Field> {
        let mut kinds =
            section.entries.iter().filter(|entry| !matches!(entry.name.as_str(), "max" | "default" | "optional"));
        let (Some(kind), None) = (kinds.next(), kinds.next()) else {
            let what = format!("`{name}` must say one thing that it must be: {}", SPEC_KEYS[..7].join(", "));
            self.findings.problem(&section.span, what);
            return None;
        };
        let span = &kind.written.span;
        let spec = match (kind.name.as_str(), &kind.written.value) {
            ("is", Value::Text(word)) => self.simple(word, span)?,
            ("one_of", Value::List(_)) => self.words(&kind.written)?,
            ("list", _) => {
                let item = self.field("item", &kind.written)?;
                Spec::List(Box::new(item.spec), section.count("max").unwrap_or(LIST_MAX))
            }
            ("fields", Value::Table(fields)) => Spec::Fields(self.fields(fields)),
            ("text", Value::List(bounds)) => match bounds.as_slice() {
                [Written { value: Value::Count(min), .. }, Written { value: Value::Count(max), .. }]
                    if 0 <= *min && min <= max =>
                {
                    Spec::Text(usize::try_from(*min).ok()?, usize::try_from(*max).ok()?)
                }
                _ => return self.bad_bounds(span),
            },
            ("integer", Value::List(bounds)) => match bounds.as_slice() {
                [Written { value: Value::Count(min), .. }, Written { value: Value::Count(max), .. }] if min <= max => {
                    Spec::Integer(*min, *max)
                }
                _ => return self.bad_bounds(span),
            },
            ("number", Value::List(bounds)) => match bounds.iter().map(number).collect::<Option<Vec<_>>>().as_deref() {
                Some([min, max]) if min <= max => Spec::Number(*min, *max),
                _ => return self.bad_bounds(span),
            },
            ("text" | "integer" | "number", _) => return self.bad_bounds(span),
            _ => {
                self.findings.problem(
                    span,
                    format!("`{}` of `{name}` is not what it must be; see the reference of `command.args`", kind.name),
                );
                return None;
            }
        };
        if let (Some(max), false) = (section.find("max"), matches!(spec, Spec::List(..))) {
            let what =
                format!("`max` of `{name}` is for lists; other bounds stand in `{{ text = [1, 300] }}` and the like");
            self.findings.problem(&max.span, what);
        }
        let default = section.find("default").map(|written| raw_json(written).into_boxed_str());
        if let (Some(raw), Some(written)) = (&default, section.find("default"))
            && let Err(what) = arguments::check_default(&name, &spec, raw)
        {
            self.findings.problem(&written.span, format!("the default of {what}"));
        }
        Some(Field { name, spec, optional: section.switch("optional"), default })
    }

    fn bad_bounds(&mut self, span: &Span) -> Option<Field> {
        self.findings.problem(span, "bounds are two numbers, the smaller first: `[1, 4000]`");
        None
    }

    fn note_claim(&mut self, claim: Option<&str>) {
        match (claim, &mut self.claims) {
            (None, claims) => *claims = ClaimsUsed::All,
            (Some(claim), ClaimsUsed::Named(names)) if !names.iter().any(|name| name == claim) => {
                names.push(claim.to_owned())
            }
            (Some(_), ClaimsUsed::Named(_) | ClaimsUsed::All) => {}
        }
    }
}

const SIMPLE_SPECS: [&str; 7] = ["id", "text", "number", "integer", "bool", "object", "any"];
/// What others call them.
const CALLED_ELSEWHERE: [(&str, &str); 12] = [
    ("string", "`text`"),
    ("str", "`text`"),
    ("int", "`integer`"),
    ("float", "`number`"),
    ("double", "`number`"),
    ("decimal", "`number`"),
    ("boolean", "`bool`"),
    ("uuid", "`id`"),
    ("array", "`{ list = \"id\" }`"),
    ("list", "`{ list = \"id\" }`"),
    ("enum", "a list of words: `[\"a\", \"b\"]`"),
    ("json", "`object` or `any`"),
];
const SPEC_KEYS: [&str; 10] =
    ["is", "text", "number", "integer", "list", "one_of", "fields", "max", "default", "optional"];

fn number(written: &Written) -> Option<f64> {
    match written.value {
        // Bounds are small numbers, which a float holds exactly.
        Value::Count(value) => i32::try_from(value).ok().map(f64::from),
        Value::Number(value) => Some(value),
        _ => None,
    }
}

/// A value without templates, as raw JSON.
pub(crate) fn raw_json(written: &Written) -> String {
    match &written.value {
        Value::Text(text) => json::quoted(text),
        Value::Switch(value) => value.to_string(),
        Value::Count(value) => value.to_string(),
        Value::Number(value) => serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned()),
        Value::Time(time) => time.as_millis().to_string(),
        Value::Size(bytes) => bytes.to_string(),
        Value::Address(address) => address.to_string(),
        Value::List(items) => format!("[{}]", items.iter().map(raw_json).collect::<Vec<_>>().join(",")),
        Value::Table(section) => {
            let fields = section
                .entries
                .iter()
                .map(|entry| format!("{}:{}", json::quoted(&entry.name), raw_json(&entry.written)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        }
    }
}
