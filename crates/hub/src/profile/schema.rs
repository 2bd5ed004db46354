//! The JSON Schema of profiles (draft 2020-12), for editors that complete and check as one writes. Made from the table of the language.

use serde_json::{Map, Value, json};

use super::language::{Kind, PROFILE, Presence, Table};

/// The JSON Schema of a profile, for editors.
pub fn json_schema() -> String {
    let mut schema = table(&PROFILE);
    schema.insert("description".to_owned(), json!(PROFILE.about));
    schema.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    schema.insert("title".to_owned(), json!("Roomcast profile"));
    serde_json::to_string_pretty(&Value::Object(schema)).expect("a tree of plain values is always written")
}

fn table(table: &Table) -> Map<String, Value> {
    let mut properties = Map::new();
    for key in table.keys {
        let mut schema = kind(&key.kind);
        schema.insert("description".to_owned(), json!(key.about));
        if let Presence::Default(text) = key.presence {
            schema.insert("default".to_owned(), json!(text));
        }
        properties.insert(key.name.to_owned(), Value::Object(schema));
    }
    let required: Vec<&str> =
        table.keys.iter().filter(|key| key.presence == Presence::Needed).map(|key| key.name).collect();
    object(json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    }))
}

fn kind(kind_of_key: &Kind) -> Map<String, Value> {
    let text = || json!({ "type": "string" });
    let variable = || json!({ "type": "string", "pattern": "\\$\\{" });
    object(match kind_of_key {
        Kind::Text | Kind::RoomPattern | Kind::Template => text(),
        Kind::Name => json!({ "type": "string", "minLength": 1, "maxLength": 255 }),
        Kind::Condition => json!({ "type": ["string", "boolean"] }),
        Kind::Switch => json!({ "anyOf": [{ "type": "boolean" }, variable()] }),
        Kind::Count(min, max) => {
            json!({ "anyOf": [{ "type": "integer", "minimum": min, "maximum": max }, variable()] })
        }
        Kind::Time => {
            json!({ "anyOf": [{ "type": "string", "pattern": "^[0-9.]+ ?(ms|s|m|min|h|d|w|y)$" }, variable()] })
        }
        Kind::Size => {
            json!({ "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "string", "pattern": "^[0-9]+ ?([kKmM]i?)?[bB]?$" }, variable()] })
        }
        Kind::Address => json!({ "anyOf": [{ "type": "string", "pattern": "^[0-9a-fA-F.:]*$" }, variable()] }),
        Kind::Choice(words) => json!({ "anyOf": [{ "enum": words }, variable()] }),
        Kind::Words => json!({ "anyOf": [text(), { "type": "array", "items": text() }] }),
        Kind::List(item) => json!({ "type": "array", "items": kind(item) }),
        Kind::OneOrMany(item) => json!({ "anyOf": [kind(item), { "type": "array", "items": kind(item) }] }),
        Kind::TextOr(one, other) => json!({ "anyOf": [kind(one), table(other)] }),
        Kind::Table(inner) => Value::Object(table(inner)),
        Kind::Tables(inner) => json!({ "type": "array", "items": table(inner) }),
        Kind::Named(inner) => json!({ "type": "object", "additionalProperties": kind(inner) }),
        Kind::Data => json!({}),
        Kind::Arguments => {
            json!({ "type": "object", "additionalProperties": { "type": ["string", "array", "object"] } })
        }
    })
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests unwrap")]
mod tests {
    use super::*;

    #[test]
    fn the_schema_names_every_key() {
        let schema: Value = serde_json::from_str(&json_schema()).unwrap();
        assert_eq!(schema["properties"]["service"]["properties"]["port"]["default"], "${PORT:-3000}");
        assert_eq!(schema["required"], json!(["endpoint"]));
        let command = &schema["properties"]["command"]["additionalProperties"];
        assert_eq!(command["additionalProperties"], json!(false));
        assert!(command["properties"]["join"]["anyOf"].is_array());
    }
}
