//! JSON to messages and back, by their descriptors, as protobuf's JSON mapping says. More is taken in than it asks for: a number where a text is
//! wanted (ids are one or the other), and fields that the message does not have, since a service may be older than the profile.

use bytes::{Buf as _, BufMut as _, Bytes};
use prost_reflect::prost::Message as _;
use prost_reflect::{DeserializeOptions, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, SerializeOptions};
use serde_json::Value;
use serde_path_to_error::Track;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// What the names of protobuf's own messages begin with: their JSON is not that of their fields.
const WELL_KNOWN: &str = "google.protobuf.";

/// A message of JSON.
///
/// # Errors
/// It does not fit; the text names the field.
pub(super) fn to_message(json: &str, descriptor: &MessageDescriptor) -> Result<DynamicMessage, String> {
    let mut value: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
    match value {
        Value::Null => value = Value::Object(serde_json::Map::new()),
        _ => fit(&mut value, descriptor),
    }
    let options = DeserializeOptions::new().deny_unknown_fields(false);
    let mut track = Track::new();
    let value = serde_path_to_error::Deserializer::new(value, &mut track);
    DynamicMessage::deserialize_with_options(descriptor.clone(), value, &options).map_err(|error| {
        let path = track.path();
        if path.iter().next().is_none() { error.to_string() } else { format!("`{path}`: {error}") }
    })
}

/// The JSON of a message. Fields that have no presence are there with their defaults: a latitude of 0 is a latitude.
///
/// # Errors
/// A well-known type holds what it must not.
pub(super) fn to_json(message: &DynamicMessage) -> Result<Bytes, String> {
    let mut json = serde_json::Serializer::new(Vec::new());
    let options = SerializeOptions::new().skip_default_fields(false);
    message.serialize_with_options(&mut json, &options).map_err(|error| error.to_string())?;
    Ok(Bytes::from(json.into_inner()))
}

/// Makes texts of numbers where the message wants texts.
fn fit(value: &mut Value, descriptor: &MessageDescriptor) {
    if descriptor.full_name().starts_with(WELL_KNOWN) {
        return;
    }
    let Value::Object(fields) = value else { return };
    for (name, value) in fields {
        let field = descriptor.get_field_by_json_name(name).or_else(|| descriptor.get_field_by_name(name));
        let Some(field) = field else { continue };
        match value {
            Value::Object(entries) if field.is_map() => {
                let Kind::Message(entry) = field.kind() else { continue };
                let of_value = entry.map_entry_value_field();
                entries.values_mut().for_each(|value| fit_one(value, &of_value));
            }
            Value::Array(items) if field.is_list() => items.iter_mut().for_each(|item| fit_one(item, &field)),
            _ => fit_one(value, &field),
        }
    }
}

fn fit_one(value: &mut Value, field: &FieldDescriptor) {
    match (field.kind(), &*value) {
        (Kind::String, Value::Number(number)) => *value = Value::String(number.to_string()),
        (Kind::Message(message), Value::Object(_)) => fit(value, &message),
        _ => {}
    }
}

/// Messages by their descriptors; this is that of the reply.
#[derive(Debug, Clone)]
pub(super) struct DynamicCodec(pub(super) MessageDescriptor);

impl Codec for DynamicCodec {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        self.clone()
    }

    fn decoder(&mut self) -> Self {
        self.clone()
    }
}

impl Encoder for DynamicCodec {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, message: DynamicMessage, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message.encode_to_vec().as_slice());
        Ok(())
    }
}

impl Decoder for DynamicCodec {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        DynamicMessage::decode(self.0.clone(), bytes).map(Some).map_err(|error| Status::data_loss(error.to_string()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what a test cannot go on without")]
mod tests {
    use std::sync::LazyLock;

    use prost_reflect::DescriptorPool;
    use protox::Compiler;
    use protox::file::{File, FileResolver};

    use super::*;

    const PROTO: &str = r#"
        syntax = "proto3";
        package acme.v1;
        message Place { double lat = 1; double long = 2; }
        message All {
            string vendor_id = 1;
            Place place = 2;
            repeated string tags = 3;
            map<string, string> notes = 4;
            optional string description = 5;
            int64 number = 6;
            repeated Place places = 7;
            int32 small = 8;
        }
    "#;

    struct One;

    impl FileResolver for One {
        fn open_file(&self, name: &str) -> Result<File, protox::Error> {
            File::from_source(name, PROTO)
        }
    }

    static DESCRIPTOR: LazyLock<MessageDescriptor> = LazyLock::new(|| {
        let mut compiler = Compiler::with_file_resolver(One);
        let pool: DescriptorPool = compiler.open_file("all.proto").unwrap().descriptor_pool();
        pool.get_message_by_name("acme.v1.All").unwrap()
    });

    fn descriptor() -> MessageDescriptor {
        DESCRIPTOR.clone()
    }

    /// What comes back of a JSON message that was encoded and decoded.
    fn check(json: &str, expected: Result<&str, &str>) {
        let there_and_back = to_message(json, &descriptor()).map(|message| {
            let bytes = message.encode_to_vec();
            let decoded = DynamicMessage::decode(descriptor(), bytes.as_slice()).unwrap();
            serde_json::from_slice::<Value>(&to_json(&decoded).unwrap()).unwrap()
        });
        match expected {
            Ok(expected) => assert_eq!(there_and_back, Ok(serde_json::from_str(expected).unwrap()), "{json}"),
            Err(expected) => {
                let error = there_and_back.unwrap_err();
                assert!(error.contains(expected), "{json}: {error}");
            }
        }
    }

    const EMPTY: &str = r#"{"vendorId":"","tags":[],"notes":{},"number":"0","places":[],"small":0}"#;

    #[test]
    fn messages_go_there_and_back() {
        check("{}", Ok(EMPTY));
        check("null", Ok(EMPTY));
        check(
            r#"{"vendor_id":"7","place":{"lat":0,"long":-1.5},"description":"","number":9007199254740993,"small":1}"#,
            Ok(
                r#"{"vendorId":"7","place":{"lat":0.0,"long":-1.5},"tags":[],"notes":{},"description":"","number":"9007199254740993","places":[],"small":1}"#,
            ),
        );
        check(
            r#"{"vendorId":42,"tags":[1,"two"],"notes":{"a":3},"places":[{"lat":1}],"elsewhere":{"x":1}}"#,
            Ok(
                r#"{"vendorId":"42","tags":["1","two"],"notes":{"a":"3"},"number":"0","places":[{"lat":1.0,"long":0.0}],"small":0}"#,
            ),
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_message_or_refused(text in "\\PC{0,30}|[\\[\\]{}\",:0-9a-z.]{0,30}", field in "vendorId|place|tags|notes|number|places|small") {
            let _ = to_message(&text, &descriptor());
            if let Ok(message) = to_message(&format!("{{\"{field}\":{text}}}"), &descriptor()) {
                to_json(&message).unwrap();
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_told() {
        check(r#"{"place":7}"#, Err("`place`: invalid type: integer `7`"));
        check(r#"{"place":{"lat":"north"}}"#, Err("`place.lat`: invalid float literal"));
        check(r#"{"places":[{"lat":1},{"long":[]}]}"#, Err("`places[1].long`: invalid type: sequence"));
        check(r#"{"notes":{"a":{}}}"#, Err("`notes.a`: invalid type: map, expected a string"));
        check(r#"{"small":3000000000}"#, Err("`small`: out of range"));
        check(r#"{"vendorId":{"a":1}}"#, Err("`vendorId`: invalid type: map, expected a string"));
        check("7", Err("invalid type: integer `7`"));
    }
}
