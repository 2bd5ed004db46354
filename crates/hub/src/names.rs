//! The names of the domain, parsed once at the border and trusted after it. Knows nothing of who uses them.

use std::fmt;
use std::sync::Arc;

/// The longest name of a room, event, namespace or user, in bytes of UTF-8.
pub const NAME_MAX_BYTES: usize = 255;

/// Why a text is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameError {
    /// The text is empty.
    Empty,
    /// The text is longer than [`NAME_MAX_BYTES`].
    TooLong,
    /// The text holds a control character.
    Control,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("is empty"),
            Self::TooLong => write!(f, "is longer than {NAME_MAX_BYTES} bytes"),
            Self::Control => f.write_str("holds a control character"),
        }
    }
}

impl std::error::Error for NameError {}

/// Checks the rules that all names share.
pub fn check_name(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > NAME_MAX_BYTES {
        return Err(NameError::TooLong);
    }
    if text.chars().any(char::is_control) {
        return Err(NameError::Control);
    }
    Ok(())
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Parses a name: 1 to 255 bytes, no control characters.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                check_name(text)?;
                Ok(Self(Arc::from(text)))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

name_type!(
    /// The name of a room, unique within its namespace.
    RoomName
);
name_type!(
    /// The name of an event.
    EventName
);

/// A namespace: of the profile by its place in the profile's list, 0 the first; above those, one that is there while somebody is in
/// it. The number of the latter is never used again in the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamespaceId(pub u32);

impl NamespaceId {
    /// The id as an index, for the profile's list.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Who a token makes its bearer: a string or an integer. In room names it stands as its text, in payloads as its own JSON type.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId {
    text: Arc<str>,
    number: bool,
}

impl UserId {
    /// A user id that was a JSON string.
    pub fn from_text(text: &str) -> Result<Self, NameError> {
        check_name(text)?;
        Ok(Self { text: Arc::from(text), number: false })
    }

    /// A user id that was a JSON integer; its digits are its text.
    pub fn from_integer(value: i128) -> Self {
        Self { text: Arc::from(value.to_string()), number: true }
    }

    /// The id as it stands in room names: the string, or the digits.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The id as JSON of its own type.
    pub fn to_json(&self) -> String {
        if self.number { self.text.to_string() } else { serde_json::to_string(&*self.text).expect("a text is JSON") }
    }
}

/// The public id of a socket: 20 characters of `A-Za-z0-9_-`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SocketId([u8; Self::CHARACTERS]);

impl SocketId {
    /// The length of every socket id.
    pub const CHARACTERS: usize = 20;

    /// Takes 20 characters of the alphabet; anything else is no socket id.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; Self::CHARACTERS] = text.as_bytes().try_into().ok()?;
        bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')).then_some(Self(bytes))
    }

    /// The id in what a socket may be called: itself, or what stands behind the namespace, as clients of Socket.IO 4 put it (`/chat#ID`).
    pub fn part_of(name: &str) -> &str {
        match name.rsplit_once('#') {
            Some((namespace, id)) if namespace.starts_with('/') => id,
            Some(_) | None => name,
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("only ASCII characters pass `parse`")
    }
}

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_bounds() {
        assert_eq!(RoomName::parse(""), Err(NameError::Empty));
        assert_eq!(RoomName::parse(&"x".repeat(256)), Err(NameError::TooLong));
        assert_eq!(RoomName::parse("a\nb"), Err(NameError::Control));
        assert_eq!(RoomName::parse("conversation:é").map(|name| name.to_string()), Ok("conversation:é".to_owned()));
    }

    #[test]
    fn a_user_id_keeps_its_json_type() {
        assert_eq!(UserId::from_integer(42).to_json(), "42");
        assert_eq!(UserId::from_text("42").map(|id| id.to_json()), Ok("\"42\"".to_owned()));
        assert_eq!(UserId::from_integer(42).as_str(), "42");
    }

    #[test]
    fn a_socket_id_has_twenty_characters_of_its_alphabet() {
        assert!(SocketId::parse("abcdefghij_-ABCDE123").is_some());
        assert!(SocketId::parse("abcdefghij_-ABCDE12:").is_none());
        assert!(SocketId::parse("short").is_none());
        let part = |name| SocketId::part_of(name);
        assert_eq!(["abc", "/chat#abc", "/a#b#abc", "room#abc"].map(part), ["abc", "abc", "abc", "room#abc"]);
    }
}
