//! Events for the servers themselves, as the array of a name and its arguments that both formats have: JSON, where bytes are what `JSON.stringify` makes of a
//! `Buffer`. Knows no message around it.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::{Value, json};

use super::decode::{Decoded, Malformed, malformed};
use super::request::Name;
use crate::json::write_string;
use crate::raw;

/// `[name, ...arguments]`, with placeholders as they are.
pub(super) fn array(event: &str, arguments: &str) -> String {
    let mut array = b"[".to_vec();
    write_string(event, &mut array);
    if !arguments.is_empty() {
        array.push(b',');
        array.extend_from_slice(arguments.as_bytes());
    }
    array.push(b']');
    String::from_utf8(array).expect("it is made of texts")
}

/// The name and the arguments of such an array; `attachments` is what its placeholders stand for.
pub(super) fn read(array: &str, attachments: Vec<Bytes>) -> Result<(String, Decoded), Malformed> {
    let mut elements = raw::elements(array);
    let Some(name) = elements.next() else { return malformed("an event without a name") };
    let name: Name = serde_json::from_str(name)?;
    let rest = elements.rest().trim_ascii_end();
    let json = rest.strip_suffix(']').unwrap_or(rest).trim_ascii_end();
    Ok((name.into(), Decoded { json: json.into(), attachments }))
}

/// JSON with bytes in the place of their placeholders, as Node writes a `Buffer`: `{"type":"Buffer","data":[1,2]}`.
///
/// # Errors
/// It is no JSON, or lacks an attachment.
pub(super) fn inline<'a>(json: &'a str, attachments: &[Bytes]) -> Result<Cow<'a, str>, serde_json::Error> {
    if attachments.is_empty() {
        return Ok(json.into());
    }
    let mut value: Value = serde_json::from_str(json)?;
    fill(&mut value, attachments)?;
    serde_json::to_string(&value).map(Cow::Owned)
}

fn fill(value: &mut Value, attachments: &[Bytes]) -> Result<(), serde_json::Error> {
    match value {
        Value::Array(elements) => elements.iter_mut().try_for_each(|element| fill(element, attachments)),
        Value::Object(fields) if fields.get("_placeholder") == Some(&Value::Bool(true)) => {
            let number = fields.get("num").and_then(Value::as_u64).and_then(|number| usize::try_from(number).ok());
            let bytes = number.and_then(|number| attachments.get(number));
            let missing = || serde::de::Error::custom("a placeholder without its attachment");
            let bytes = bytes.ok_or_else(missing)?.to_vec();
            *value = json!({ "type": "Buffer", "data": bytes });
            Ok(())
        }
        Value::Object(fields) => fields.values_mut().try_for_each(|field| fill(field, attachments)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_is_read_as_it_is_written() {
        for (event, arguments) in [("e", ""), ("a\"b", "1"), ("", r#"{"x":[1,2]},null"#)] {
            let (read_event, read_arguments) = read(&array(event, arguments), Vec::new()).expect("an event");
            assert_eq!((read_event.as_str(), &*read_arguments.json), (event, arguments.as_bytes()));
        }
        assert_eq!(read("[ 7 , 1 ]", Vec::new()).map(|(event, _)| event), Ok("7".to_owned()));
        for broken in ["[]", "{}", "[null]", "[{}]"] {
            assert!(read(broken, Vec::new()).is_err(), "{broken}");
        }
    }

    #[test]
    fn bytes_are_what_node_makes_of_them() {
        let bytes = [Bytes::from_static(&[1, 255])];
        let json = r#"["e",{"deep":{"_placeholder":true,"num":0}},true]"#;
        let expected = r#"["e",{"deep":{"data":[1,255],"type":"Buffer"}},true]"#;
        let inlined: Value = serde_json::from_str(&inline(json, &bytes).expect("JSON")).expect("JSON");
        assert_eq!(inlined, serde_json::from_str::<Value>(expected).expect("JSON"));
        assert_eq!(inline(json, &[]).expect("as it is"), json);
        assert!(inline(r#"{"_placeholder":true,"num":1}"#, &bytes).is_err());
    }
}
