//! A socket of another member's, as it tells of it when asked.

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::decode::Malformed;
use super::request::Name;

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
    #[serde(default, deserialize_with = "rooms")]
    rooms: Vec<String>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    handshake: Option<&'a RawValue>,
}

/// What a program in JavaScript has its socket in: `join(undefined)` is a room, too, of a name that nobody else can have.
#[derive(Deserialize)]
#[serde(untagged)]
enum Room {
    Name(Name),
    Other(IgnoredAny),
}

fn rooms<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let rooms = Vec::<Room>::deserialize(deserializer)?.into_iter();
    let names = rooms.filter_map(|room| match room {
        Room::Name(name) => Some(name.into()),
        Room::Other(_) => None,
    });
    Ok(names.collect())
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
        let odd = RemoteSocket::read(r#"{"id":"a","rooms":["a",42,-1.5,18446744073709551615,null,true,{"b":[]}]}"#);
        assert_eq!(odd.expect("a socket").rooms, ["a", "42", "-1.5", "18446744073709551615"]);
        let bare = RemoteSocket::read(r#"{"id":"a"}"#).expect("an id is enough");
        assert_eq!((bare.rooms.len(), bare.data.as_str()), (0, "{}"));
        assert!(RemoteSocket::read(r#"{"rooms":[]}"#).is_err());
    }
}
