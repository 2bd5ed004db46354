//! What clients may send, told as JSON for whoever makes forms from it: names, namespaces, fields and what they must be. Tells no condition,
//! no address and nothing of what is done inside.

use serde_json::{Map, Value, json};

use super::Rules;
use super::arguments::{Field, Spec};
use super::command::Command;
use super::template::Template;

impl Rules {
    /// The commands in the order of the file, each with its namespaces (`null`: all), fields, rooms and the event that answers.
    pub(crate) fn describe_commands(&self) -> Vec<Value> {
        self.commands.iter().map(|command| self.describe(command)).collect()
    }

    fn describe(&self, command: &Command) -> Value {
        let namespaces: Option<Vec<&str>> =
            command.namespaces.as_ref().map(|ids| ids.iter().map(|id| self.namespace_name(*id)).collect());
        json!({
            "name": command.name,
            "namespaces": namespaces,
            "bare": command.bare,
            "args": fields(&command.args),
            "join": rooms(&command.join),
            "leave": rooms(&command.leave),
            "answer": command.answer.event.as_ref().map(|event| event.as_str()),
        })
    }
}

/// Rooms as their templates were written: a client that knows what it sent knows the rooms.
fn rooms(templates: &[Template]) -> Vec<String> {
    templates.iter().map(Template::written).collect()
}

fn fields(fields: &[Field]) -> Value {
    fields.iter().map(field).collect()
}

fn field(field: &Field) -> Value {
    let mut described = spec(&field.spec);
    described.insert("name".to_owned(), Value::from(&*field.name));
    described.insert("optional".to_owned(), Value::from(field.optional || field.default.is_some()));
    if let Some(default) = field.default.as_ref().and_then(|raw| serde_json::from_str::<Value>(raw).ok()) {
        described.insert("default".to_owned(), default);
    }
    Value::Object(described)
}

/// What a value must be: its `type`, its bounds where it has some, and the sentence that clients are told.
fn spec(spec: &Spec) -> Map<String, Value> {
    let (name, more) = match spec {
        Spec::Any => ("any", json!({})),
        Spec::Id => ("id", json!({})),
        Spec::Bool => ("bool", json!({})),
        Spec::Object => ("object", json!({})),
        Spec::Text(0, usize::MAX) => ("text", json!({})),
        Spec::Text(min, max) => ("text", json!({ "min": min, "max": max })),
        // JSON has no infinity: an end without a bound is left out.
        Spec::Number(min, max) => ("number", json!({ "min": finite(*min), "max": finite(*max) })),
        Spec::Integer(i64::MIN, i64::MAX) => ("integer", json!({})),
        Spec::Integer(min, max) => ("integer", json!({ "min": min, "max": max })),
        Spec::Word(words) => ("word", json!({ "words": words })),
        Spec::List(item, max) => ("list", json!({ "item": self::spec(item), "max": max })),
        Spec::Fields(inner) => ("fields", json!({ "fields": fields(inner) })),
    };
    let mut described = match more {
        Value::Object(described) => described,
        _ => Map::new(),
    };
    described.retain(|_, value| !value.is_null());
    described.insert("type".to_owned(), Value::from(name));
    described.insert("expected".to_owned(), Value::from(spec.expected()));
    described
}

fn finite(number: f64) -> Option<f64> {
    number.is_finite().then_some(number)
}
