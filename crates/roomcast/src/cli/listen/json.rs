//! A plain JSON client: one object a message, with a `type`. Changes no byte of what it passes on.

use anyhow::Context;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Emission, Envelope, Heard};

#[derive(Deserialize)]
struct Form<'a> {
    r#type: String,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// What a message says.
pub(super) fn read(envelope: Envelope, text: &str) -> anyhow::Result<Heard> {
    let form: Form<'_> = serde_json::from_str(text).with_context(|| format!("not a message with a `type`: {text}"))?;
    let json = match envelope {
        Envelope::Flat => text,
        Envelope::Data => form.data.map_or("", RawValue::get),
    };
    Ok(Heard::Event { name: form.r#type, json: json.to_owned() })
}

/// The message that says an event.
pub(super) fn write(envelope: Envelope, emission: &Emission) -> anyhow::Result<String> {
    let name = serde_json::Value::from(emission.event.as_str());
    let Some(json) = &emission.json else { return Ok(format!(r#"{{"type":{name}}}"#)) };
    match envelope {
        Envelope::Data => Ok(format!(r#"{{"type":{name},"data":{json}}}"#)),
        Envelope::Flat => {
            let fields = json.strip_prefix('{').with_context(|| {
                format!("the data of `{}` must be an object: its fields stand beside `type`", emission.event)
            })?;
            let comma = if fields.trim_start().starts_with('}') { "" } else { "," };
            Ok(format!(r#"{{"type":{name}{comma}{fields}"#))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(envelope: Envelope, json: Option<&str>, expected: &str) {
        let emission = Emission { event: "join".to_owned(), json: json.map(str::to_owned) };
        let written = write(envelope, &emission).unwrap_or_else(|problem| problem.to_string());
        assert_eq!(written, expected);
    }

    #[test]
    fn a_message_is_written_in_its_envelope() {
        check(Envelope::Flat, Some(r#"{"room":"a"}"#), r#"{"type":"join","room":"a"}"#);
        check(Envelope::Flat, Some("{ }"), r#"{"type":"join" }"#);
        check(Envelope::Flat, None, r#"{"type":"join"}"#);
        check(Envelope::Flat, Some("[]"), "the data of `join` must be an object: its fields stand beside `type`");
        check(Envelope::Data, Some("[1.0]"), r#"{"type":"join","data":[1.0]}"#);
    }

    #[test]
    fn a_message_is_read_as_it_came() {
        let text = r#"{"type":"message", "data":{"n":1.0}}"#;
        for (envelope, json) in [(Envelope::Flat, text), (Envelope::Data, r#"{"n":1.0}"#)] {
            let heard = Heard::Event { name: "message".to_owned(), json: json.to_owned() };
            assert_eq!(read(envelope, text).expect("a message"), heard);
        }
        assert!(read(Envelope::Flat, "[]").is_err());
    }
}
