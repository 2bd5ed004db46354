//! A socket of another member's, as it tells of it when asked.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::decode::Malformed;

/// What a member says of one of its sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteSocket {
    /// Its public id.
    pub id: String,
    /// The rooms that it is in; that of its own id is among them.
    pub rooms: Vec<String>,
    /// The JSON of its `data`, which its server has put there.
    pub data: String,
    /// The JSON of its handshake.
    pub handshake: String,
}

#[derive(Deserialize)]
struct Json<'a> {
    id: String,
    #[serde(default)]
    rooms: Vec<String>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    handshake: Option<&'a RawValue>,
}

impl RemoteSocket {
    /// Reads `{id, handshake, rooms, data}`.
    ///
    /// # Errors
    /// It is no such object.
    pub fn read(json: &str) -> Result<Self, Malformed> {
        let Json { id, rooms, data, handshake } = serde_json::from_str(json)?;
        let text = |value: Option<&RawValue>| value.map_or("{}", RawValue::get).to_owned();
        Ok(Self { id, rooms, data: text(data), handshake: text(handshake) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_as_node_writes_it() {
        let json = r#"{"id":"ssV_AAAB","handshake":{"headers":{},"time":"Fri","auth":{}},"rooms":["ssV_AAAB","room1"],"data":{"user":"u-b"}}"#;
        let socket = RemoteSocket {
            id: "ssV_AAAB".to_owned(),
            rooms: vec!["ssV_AAAB".to_owned(), "room1".to_owned()],
            data: r#"{"user":"u-b"}"#.to_owned(),
            handshake: r#"{"headers":{},"time":"Fri","auth":{}}"#.to_owned(),
        };
        assert_eq!(RemoteSocket::read(json), Ok(socket));
        let bare = RemoteSocket::read(r#"{"id":"a"}"#).expect("an id is enough");
        assert_eq!((bare.rooms.len(), bare.data.as_str()), (0, "{}"));
        assert!(RemoteSocket::read(r#"{"rooms":[]}"#).is_err());
    }
}
