//! The reference page of the language, in Markdown. Made from the table of the language.

use super::language::{Key, Kind, PROFILE, Presence, Table, quoted_list};
use crate::rules::GATEWAY_FIELDS;

/// The reference page of the language, in Markdown.
pub fn reference_markdown() -> String {
    let mut page = String::from("# The profile language\n\n");
    page.push_str(PROFILE.about);
    page.push_str("\n\n");
    page.push_str(TEMPLATES);
    page.push_str("\n## Tables\n\n");
    for key in PROFILE.keys.iter().filter(|key| inner(&key.kind).is_none()) {
        push_key(&mut page, key);
    }
    for key in PROFILE.keys {
        push_table(&mut page, key, "");
    }
    page.push_str("\n## What documents know of the gateway\n\n| path | what it is |\n|---|---|\n");
    for (name, about) in GATEWAY_FIELDS {
        page.push_str(&format!("| `{{gateway.{name}}}` | {about} |\n"));
    }
    page
}

const TEMPLATES: &str = "## Templates and conditions

A text in a rule may have holes: `{event.userId}`. `{a | b}` takes the first that is there, and a text in single quotes is always there: `{a | 'none'}`.
`{a?}` may be missing: then its room, field or emit is left out. `{{` and `}}` are braces. A lone hole keeps its JSON type; a hole in a longer text becomes
text. In names of rooms only ids may stand: texts of 1 to 255 bytes, and integers, by their digits; a list makes several rooms. `null` counts as missing,
save in payloads, where it stays `null`. Outside of routes a payload's field that is missing is `null`.

Conditions are written in CEL (<https://cel.dev>). A condition that cannot be worked out, because a field is missing say, counts as a no and is counted in the
metrics; `has(event.userId)` asks whether a field is there. An id is the same id as text and as integer: `==`, `!=` and `in` compare digits. `in` takes a
lone text or integer for a list of one. A condition that is a variable alone may be switched by `1`, `yes`, `on` and `0`, `no`, `off`, too. A condition is
given at most 1,000 values and 64 KiB of text, and may loop once.
";

/// A table and those in it, each as a section.
fn push_table(page: &mut String, key: &Key, above: &str) {
    let Some(table) = inner(&key.kind) else { return };
    let path = if above.is_empty() { key.name.to_owned() } else { format!("{above}.{}", key.name) };
    page.push_str(&format!("\n### {}\n\n{}\n", heading(&key.kind, &path), key.about));
    if !table.about.is_empty() {
        page.push_str(&format!("\n{}\n", table.about));
    }
    page.push('\n');
    for key in table.keys {
        push_key(page, key);
    }
    // An emit stands in many places and is told once.
    for key in table
        .keys
        .iter()
        .filter(|inner_key| inner_key.name == "emit" && path == "on.connect" || told_in_place(inner_key))
    {
        push_table(page, key, &path);
    }
}

/// Whether a table's own section stands below the one that holds it.
fn told_in_place(key: &Key) -> bool {
    !matches!(key.name, "emit" | "on_enter" | "on_leave" | "on_user_enter")
}

fn heading(kind: &Kind, path: &str) -> String {
    match kind {
        Kind::Tables(_) => format!("`[[{path}]]`"),
        Kind::Named(_) => format!("`[{path}.NAME]`"),
        Kind::OneOrMany(_) => format!("`{path}`"),
        _ => format!("`[{path}]`"),
    }
}

fn push_key(page: &mut String, key: &Key) {
    let presence = match key.presence {
        Presence::Needed => " **Needed.**".to_owned(),
        Presence::Default("") | Presence::May | Presence::Always => String::new(),
        Presence::Default(text) => format!(" Default: `{text}`."),
    };
    page.push_str(&format!("* `{}`: {}{presence} {}", key.name, kind_of(&key.kind), key.about));
    if !key.example.is_empty() {
        page.push_str(&format!(" Example: `{}`", key.example));
    }
    page.push('\n');
}

fn kind_of(kind: &Kind) -> String {
    match kind {
        Kind::Choice(words) => format!("{}.", quoted_list(words)),
        Kind::Template => "a template.".to_owned(),
        Kind::Condition => "a condition.".to_owned(),
        Kind::OneOrMany(item) => format!("{} Or a list of several.", kind_of(item)),
        Kind::Data => "a value with templates.".to_owned(),
        Kind::Named(_) => "a table of named values.".to_owned(),
        other => format!("{}.", other.expected()),
    }
}

/// The table that a kind holds, however it holds it.
fn inner(kind: &Kind) -> Option<&'static Table> {
    match kind {
        Kind::Table(table) | Kind::Tables(table) | Kind::TextOr(_, table) => Some(table),
        Kind::Named(inside) | Kind::OneOrMany(inside) | Kind::List(inside) => inner(inside),
        Kind::Text
        | Kind::Name
        | Kind::RoomPattern
        | Kind::Template
        | Kind::Condition
        | Kind::Switch
        | Kind::Count(..)
        | Kind::Time
        | Kind::Size
        | Kind::Address
        | Kind::Choice(_)
        | Kind::Words
        | Kind::Data
        | Kind::Arguments => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_has_its_section_once() {
        let page = reference_markdown();
        for heading in [
            "### `[service]`",
            "### `[[endpoint]]`",
            "### `[room.NAME]`",
            "### `[[source.rabbitmq.queue]]`",
            "### `on.connect.emit`",
        ] {
            assert_eq!(page.matches(&format!("{heading}\n")).count(), 1, "{heading}");
        }
        assert!(page.contains("* `port`: a whole number from 0 to 65535. Default: `${PORT:-3000}`."));
    }
}
