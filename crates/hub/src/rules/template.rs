//! Templates: `{a.b}` in a text, `{a | b}` for the first that is there, `{a?}` for what may be missing, `{{` for a brace.
//! Renders names of rooms, values and addresses. Reads raw JSON, writes raw JSON.

use std::borrow::Cow;

use super::json;
use super::scope::{Path, Scope, Unknown, Vocabulary};

/// How many names one template may give, through lists.
pub(crate) const NAMES_MAX: usize = 1_000;

/// A text with holes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Hole(Hole),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Hole {
    alternatives: Vec<Alternative>,
    optional: bool,
    written: Box<str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Alternative {
    Path(Path),
    /// A text in single quotes, as raw JSON.
    Text(Box<str>),
}

/// What is wrong with a template, with the part of the text that is to blame.
#[derive(Debug)]
pub(crate) struct BadTemplate {
    pub(crate) part: String,
    pub(crate) what: String,
    pub(crate) suggestion: Option<String>,
}

/// Why a template gives nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unmet {
    /// Something that may be missing is: what it is in is left out.
    Optional,
    /// Something that is needed is missing or ill-typed; the text names it.
    Needed(String),
}

impl Template {
    /// Parses a template whose paths must be in the vocabulary.
    pub(crate) fn parse(text: &str, vocabulary: &Vocabulary) -> Result<Self, BadTemplate> {
        let bad =
            |part: &str, what: &str| BadTemplate { part: part.to_owned(), what: what.to_owned(), suggestion: None };
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let from = &rest[at..];
            if let Some(after) = from.strip_prefix("{{").or_else(|| from.strip_prefix("}}")) {
                plain.push_str(&from[..1]);
                rest = after;
                continue;
            }
            let Some(inner) = from.strip_prefix('{') else {
                return Err(bad(from, "a `}` without its `{`; write `}}` for a brace"));
            };
            let end = inner.find('}').ok_or_else(|| bad(from, "a `{` without its `}`; write `{{` for a brace"))?;
            if !plain.is_empty() {
                pieces.push(Piece::Text(Box::from(std::mem::take(&mut plain))));
            }
            pieces.push(Piece::Hole(Hole::parse(&inner[..end], &from[..end + 2], vocabulary)?));
            rest = &inner[end + 1..];
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(Box::from(plain)));
        }
        Ok(Self { pieces })
    }

    /// The text, if it has no holes.
    pub(crate) fn constant(&self) -> Option<&str> {
        match &*self.pieces {
            [] => Some(""),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The template as it stands in the profile, but for doubled braces.
    pub(crate) fn written(&self) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => text.to_string(),
            Piece::Hole(hole) => hole.written.to_string(),
        };
        self.pieces.iter().map(piece).collect()
    }

    /// The paths that it reads.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.holes().flat_map(|hole| &hole.alternatives).filter_map(|alternative| match alternative {
            Alternative::Path(path) => Some(path),
            Alternative::Text(_) => None,
        })
    }

    /// Example texts, for checks before anything runs: `fill` gives what may stand for a path.
    pub(crate) fn samples(&self, fill: &dyn Fn(&Path) -> Vec<String>) -> Vec<String> {
        let mut samples = vec![String::new()];
        for piece in &self.pieces {
            let choices: Vec<String> = match piece {
                Piece::Text(text) => vec![text.to_string()],
                Piece::Hole(hole) => hole
                    .alternatives
                    .iter()
                    .flat_map(|alternative| match alternative {
                        Alternative::Path(path) => fill(path),
                        Alternative::Text(text) => json::text(text).map(|text| text.into_owned()).into_iter().collect(),
                    })
                    .collect(),
            };
            samples = samples
                .iter()
                .flat_map(|before| choices.iter().map(move |choice| format!("{before}{choice}")))
                .collect();
            samples.truncate(NAMES_MAX);
        }
        samples
    }

    /// The names that it gives: one, or several where a list stands in a hole, or none where an optional one is missing.
    pub(crate) fn names(&self, scope: &Scope<'_>) -> Result<Vec<String>, Unmet> {
        self.names_but(scope, &mut |what| Err(Unmet::Needed(what)))
    }

    /// The names that it gives in spite of what is wrong, of which `wrong` hears: an item of a list that is no id costs itself alone, and so do
    /// those past the bound.
    pub(crate) fn names_in_spite(&self, scope: &Scope<'_>, wrong: &mut dyn FnMut(String)) -> Vec<String> {
        let names = self.names_but(scope, &mut |what| {
            wrong(what);
            Ok(())
        });
        match names {
            Ok(names) => names,
            Err(Unmet::Optional) => Vec::new(),
            Err(Unmet::Needed(what)) => {
                wrong(what);
                Vec::new()
            }
        }
    }

    /// The names. `wrong` is asked whether those of a list stand without one of its items.
    fn names_but(
        &self,
        scope: &Scope<'_>,
        wrong: &mut dyn FnMut(String) -> Result<(), Unmet>,
    ) -> Result<Vec<String>, Unmet> {
        let mut names = vec![String::new()];
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => names.iter_mut().for_each(|name| name.push_str(text)),
                Piece::Hole(hole) => {
                    let Some(found) = hole.find(scope).filter(|raw| **raw != *"null") else {
                        return if hole.optional { Ok(Vec::new()) } else { Err(hole.missing()) };
                    };
                    match json::items(&found) {
                        None => {
                            let id = json::id(&found).ok_or_else(|| Unmet::Needed(hole.no_id(&found)))?;
                            names.iter_mut().for_each(|name| name.push_str(&id));
                        }
                        Some(mut items) => {
                            let items_max = NAMES_MAX.checked_div(names.len()).unwrap_or(NAMES_MAX);
                            if items.len() > items_max {
                                wrong(format!("{} gives more than {NAMES_MAX} names", hole.written))?;
                                items.truncate(items_max);
                            }
                            let mut ids = Vec::with_capacity(items.len());
                            for item in items {
                                match json::id(item) {
                                    Some(id) => ids.push(id),
                                    None => wrong(hole.no_id(item))?,
                                }
                            }
                            names =
                                names.iter().flat_map(|name| ids.iter().map(move |id| format!("{name}{id}"))).collect();
                        }
                    }
                }
            }
        }
        Ok(names)
    }

    /// The one name that it gives.
    pub(crate) fn name(&self, scope: &Scope<'_>) -> Result<String, Unmet> {
        match <[String; 1]>::try_from(self.names(scope)?) {
            Ok([name]) => Ok(name),
            Err(names) if names.is_empty() => Err(Unmet::Optional),
            Err(_) => Err(Unmet::Needed("a list stands where one name is wanted".to_owned())),
        }
    }

    /// Appends it as a raw JSON value: a lone hole keeps its type, anything else is a text.
    pub(crate) fn push_json(&self, scope: &Scope<'_>, out: &mut String) -> Result<(), Unmet> {
        if let [Piece::Hole(hole)] = &*self.pieces {
            match hole.find(scope) {
                Some(raw) => out.push_str(&raw),
                None if hole.optional => return Err(Unmet::Optional),
                None if hole.needed() => return Err(hole.missing()),
                None => out.push_str("null"),
            }
            return Ok(());
        }
        json::push_text(out, &self.plain(scope)?);
        Ok(())
    }

    /// The text with every hole percent-encoded (RFC 3986: all but unreserved characters), for addresses.
    pub(crate) fn address(&self, scope: &Scope<'_>) -> Result<String, Unmet> {
        self.text(scope, |_, text, out| {
            out.push_str(&percent_encoded(text));
            Ok(())
        })
    }

    /// The same for a path with its query, in which no value leads to another path than the one that is written.
    pub(crate) fn path(&self, scope: &Scope<'_>) -> Result<String, Unmet> {
        self.text(scope, |hole, text, out| {
            // Dots climb to another path, encoded or not (RFC 3986, section 5.2.4), and nothing at all is one step less.
            if matches!(text, "" | "." | "..") && !out.contains('?') {
                return Err(Unmet::Needed(format!("{} is `{text}`, which no path can hold", hole.written)));
            }
            out.push_str(&percent_encoded(text));
            Ok(())
        })
    }

    /// The plain text, for messages.
    pub(crate) fn plain(&self, scope: &Scope<'_>) -> Result<String, Unmet> {
        self.text(scope, |_, text, out| {
            out.push_str(text);
            Ok(())
        })
    }

    /// The texts between the holes.
    pub(crate) fn literals(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(text) => Some(&**text),
            Piece::Hole(_) => None,
        })
    }

    fn text(
        &self,
        scope: &Scope<'_>,
        push: impl Fn(&Hole, &str, &mut String) -> Result<(), Unmet>,
    ) -> Result<String, Unmet> {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Hole(hole) => {
                    let Some(raw) = hole.find(scope).filter(|raw| **raw != *"null") else {
                        return Err(if hole.optional { Unmet::Optional } else { hole.missing() });
                    };
                    let text = match raw.as_bytes().first() {
                        Some(b'{' | b'[') => None,
                        Some(b'"') => json::text(&raw),
                        Some(_) | None => Some(Cow::Borrowed(&*raw)),
                    };
                    let text = text.ok_or_else(|| {
                        Unmet::Needed(format!("{} is {}, not a text", hole.written, json::type_name(&raw)))
                    })?;
                    push(hole, &text, &mut out)?;
                }
            }
        }
        Ok(out)
    }

    fn holes(&self) -> impl Iterator<Item = &Hole> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Hole(hole) => Some(hole),
            Piece::Text(_) => None,
        })
    }
}

impl Hole {
    fn parse(inner: &str, written: &str, vocabulary: &Vocabulary) -> Result<Self, BadTemplate> {
        let bad = |what: &str| BadTemplate { part: written.to_owned(), what: what.to_owned(), suggestion: None };
        let trimmed = inner.trim();
        let (trimmed, optional) = trimmed.strip_suffix('?').map_or((trimmed, false), |before| (before, true));
        let alternatives = trimmed
            .split('|')
            .map(|alternative| {
                let alternative = alternative.trim();
                if let Some(text) = alternative.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
                    return Ok(Alternative::Text(Box::from(json::quoted(text))));
                }
                let steps: Vec<&str> = alternative.split('.').collect();
                if steps.iter().any(|step| step.is_empty() || step.contains(char::is_whitespace)) {
                    return Err(bad("is no path: names with dots between them, as in `{event.userId}`"));
                }
                if steps.iter().any(|step| step.contains('?')) {
                    return Err(bad("the `?` stands at the end of the hole: `{a | b?}`"));
                }
                vocabulary.check(&steps, true).map_err(|Unknown { what, suggestion }| BadTemplate {
                    part: written.to_owned(),
                    what,
                    suggestion,
                })?;
                Ok(Alternative::Path(Path::new(&steps)))
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self { alternatives, optional, written: Box::from(written) })
    }

    /// The first alternative that is there; `null` only where none of the others is.
    fn find<'a>(&'a self, scope: &Scope<'a>) -> Option<Cow<'a, str>> {
        let mut null = None;
        for alternative in &self.alternatives {
            let found = match alternative {
                Alternative::Path(path) => scope.find(path),
                Alternative::Text(text) => Some(Cow::Borrowed(&**text)),
            };
            match found {
                Some(raw) if raw == "null" => null = Some(raw),
                Some(raw) => return Some(raw),
                None => {}
            }
        }
        null
    }

    fn needed(&self) -> bool {
        self.alternatives.iter().any(|alternative| match alternative {
            Alternative::Path(path) => path.must_be_there(),
            Alternative::Text(_) => false,
        })
    }

    fn missing(&self) -> Unmet {
        Unmet::Needed(format!("{} is missing", self.written))
    }

    fn no_id(&self, raw: &str) -> String {
        format!("{} is {}, not an id (a text of 1 to 255 bytes, or an integer)", self.written, json::no_id(raw))
    }
}

fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests unwrap")]
mod tests {
    use proptest::prelude::*;

    use super::super::facts::NewId;
    use super::super::json::Document;
    use super::super::scope::Branch;
    use super::*;

    fn vocabulary() -> Vocabulary {
        Vocabulary::everywhere()
            .with("event", Branch::Open)
            .with("key", Branch::ValueWith(vec![("last".into(), Branch::Value)]))
    }

    const EVENT: &str = r#"{"id":42,"name":"A \"b\"","empty":"","none":null,"float":1.50,"yes":true,
        "list":[1,"two"],"deep":{"list":[{"x":"y"}]},"none_of":[]}"#;

    fn check(text: &str, names: Result<&[&str], &str>, json: Result<&str, &str>) {
        let event = Document::parse(EVENT.as_bytes()).unwrap();
        let scope =
            Scope { event: Some(&event), key: "order.shipped", new_id: NewId::Known("new"), ..Scope::default() };
        let template = Template::parse(text, &vocabulary()).unwrap();
        let told = |unmet| match unmet {
            Unmet::Optional => "optional".to_owned(),
            Unmet::Needed(what) => what,
        };
        let expected = names.map(|names| names.iter().map(|name| (*name).to_owned()).collect()).map_err(str::to_owned);
        assert_eq!(template.names(&scope).map_err(told), expected, "names of {text}");
        let mut out = String::new();
        let rendered = template.push_json(&scope, &mut out).map(|()| out).map_err(told);
        assert_eq!(rendered, json.map(str::to_owned).map_err(str::to_owned), "JSON of {text}");
    }

    #[test]
    fn templates_render() {
        const NOT_AN_ID: &str = "not an id (a text of 1 to 255 bytes, or an integer)";
        check("room:{event.id}", Ok(&["room:42"]), Ok(r#""room:42""#));
        check("{event.id}", Ok(&["42"]), Ok("42"));
        check("{event.name}", Ok(&[r#"A "b""#]), Ok(r#""A \"b\"""#));
        check("{event.float}", Err(&format!("{{event.float}} is a number, {NOT_AN_ID}")), Ok("1.50"));
        check("{event.yes}", Err(&format!("{{event.yes}} is a boolean, {NOT_AN_ID}")), Ok("true"));
        check("{event.deep}", Err(&format!("{{event.deep}} is an object, {NOT_AN_ID}")), Ok(r#"{"list":[{"x":"y"}]}"#));
        check("{event.empty}", Err(&format!("{{event.empty}} is an empty text, {NOT_AN_ID}")), Ok(r#""""#));
        check("{event.none}", Err("{event.none} is missing"), Ok("null"));
        check("{event.none?}", Ok(&[]), Ok("null"));
        check("{event.gone}", Err("{event.gone} is missing"), Err("{event.gone} is missing"));
        check("x{event.gone?}", Ok(&[]), Err("optional"));
        check("{event.gone | event.none | event.id}", Ok(&["42"]), Ok("42"));
        check("{event.gone | event.none?}", Ok(&[]), Ok("null"));
        check("{event.gone | 'plain'}", Ok(&["plain"]), Ok(r#""plain""#));
        check("{event.gone | key.last}", Ok(&["shipped"]), Ok(r#""shipped""#));
        check("r:{event.list}", Ok(&["r:1", "r:two"]), Err("{event.list} is a list, not a text"));
        check("r:{event.none_of}", Ok(&[]), Err("{event.none_of} is a list, not a text"));
        check("{event.deep.list.0.x}", Ok(&["y"]), Ok(r#""y""#));
        check("{{{event.id}}}", Ok(&["{42}"]), Ok(r#""{42}""#));
        check("{new.id}", Ok(&["new"]), Ok(r#""new""#));
    }

    #[test]
    fn bad_templates_name_the_part_to_blame() {
        for (text, part, what) in [
            ("a {event.id", "{event.id", "a `{` without its `}`; write `{{` for a brace"),
            ("a}", "}", "a `}` without its `{`; write `}}` for a brace"),
            ("{}", "{}", "is no path: names with dots between them, as in `{event.userId}`"),
            ("{event.a? | event.b}", "{event.a? | event.b}", "the `?` stands at the end of the hole: `{a | b?}`"),
            ("x{user.id}", "{user.id}", "nothing is called `user` here; there is `now`, `new`, `event`, `key`"),
        ] {
            let bad = Template::parse(text, &vocabulary()).unwrap_err();
            assert_eq!((bad.part.as_str(), bad.what.as_str()), (part, what), "{text}");
        }
    }

    #[test]
    fn ids_in_addresses_are_percent_encoded() {
        assert_eq!(percent_encoded("a/b?c=d e~é"), "a%2Fb%3Fc%3Dd%20e~%C3%A9");
    }

    proptest! {
        #[test]
        fn any_text_is_a_template_or_refused(text in "[{}|?.'a-z ]{0,24}", event: Vec<u8>) {
            let event = Document::parse(&event).or_else(|_| Document::parse(EVENT.as_bytes())).unwrap();
            let scope = Scope { event: Some(&event), ..Scope::default() };
            if let Ok(template) = Template::parse(&text, &vocabulary()) {
                let _ = template.names(&scope);
                let mut out = String::new();
                if template.push_json(&scope, &mut out).is_ok() {
                    prop_assert!(Document::parse(out.as_bytes()).is_ok());
                }
            }
        }
    }
}
