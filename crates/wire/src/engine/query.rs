//! The query string of an Engine.IO request. Knows nothing of the rest of the request.

use std::borrow::Cow;

use crate::json::write_string;

/// How a session carries packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// HTTP long-polling.
    Polling,
    /// A WebSocket.
    WebSocket,
}

/// The protocol's revision (`EIO`). As in Node, whatever is not 4 counts as 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revision {
    /// Engine.IO 3 (Socket.IO 1 and 2), a missing or an unknown `EIO`.
    Three,
    /// Engine.IO 4 (Socket.IO 3 and later).
    Four,
}

/// How many parameters of a request are read; Node's bound.
const MAX_PARAMETERS: usize = 1000;

/// The parameters of a request, percent-decoded; of a name that came twice the last counts.
///
/// `t` (cache buster), `b64` and `j` (JSONP) mean nothing in revision 4 and are read by [`Query::value`] like any other.
#[derive(Clone, Debug, Default)]
pub struct Query<'a> {
    pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Query<'a> {
    /// Reads a query string (what stands after `?`), at most 1,000 parameters of it. Never fails: an escape that is none stays as it
    /// is, and bytes that are not UTF-8 become U+FFFD.
    pub fn parse(query: &'a str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).take(MAX_PARAMETERS);
        Self {
            pairs: pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(name, value)| (decode(name), decode(value)))
                .collect(),
        }
    }

    /// The last value of a parameter.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.pairs.iter().rev().find(|pair| pair.0 == name).map(|pair| pair.1.as_ref())
    }

    /// All parameters in order, repeated ones as often as they came.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }

    /// All parameters as a JSON object of texts, in order; of a name that came twice the last value stands.
    pub fn to_json(&self) -> String {
        let mut out = b"{".to_vec();
        for (index, (name, value)) in self.pairs().enumerate() {
            if self.pairs.iter().skip(index + 1).any(|later| later.0 == name) {
                continue;
            }
            if out.len() > 1 {
                out.push(b',');
            }
            write_string(name, &mut out);
            out.push(b':');
            write_string(value, &mut out);
        }
        out.push(b'}');
        String::from_utf8(out).expect("strings are written as UTF-8")
    }

    /// `EIO`.
    pub fn revision(&self) -> Revision {
        match self.value("EIO") {
            Some("4") => Revision::Four,
            Some(_) | None => Revision::Three,
        }
    }

    /// `transport`, where it names one of ours.
    pub fn transport(&self) -> Option<Transport> {
        match self.value("transport") {
            Some("polling") => Some(Transport::Polling),
            Some("websocket") => Some(Transport::WebSocket),
            Some(_) | None => None,
        }
    }

    /// `sid`; an empty one is none.
    pub fn sid(&self) -> Option<&str> {
        self.value("sid").filter(|sid| !sid.is_empty())
    }
}

/// Decodes percent escapes and `+`.
fn decode(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        out.push(match (first, tail) {
            (b'+', _) => b' ',
            (b'%', [high, low, tail @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    rest = tail;
                    high << 4 | low
                }
                (None, _) | (_, None) => b'%',
            },
            (byte, _) => *byte,
        });
    }
    Cow::Owned(String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// The value of a hexadecimal digit.
fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parameters_are_decoded_and_the_last_counts() {
        let query =
            Query::parse("EIO=4&transport=polling&token=a%20b+c%2Bd&sid=&user%49d=%C3%A9&x&EIO=3&&bad=%zz%4&cut=%C3");
        let check = |name, value| assert_eq!(query.value(name), value, "{name}");
        check("EIO", Some("3"));
        check("token", Some("a b c+d"));
        check("userId", Some("é"));
        check("x", Some(""));
        check("bad", Some("%zz%4"));
        check("cut", Some("\u{fffd}"));
        check("absent", None);
        assert_eq!(query.pairs().count(), 9);
        assert_eq!(query.sid(), None, "an empty sid is none");
        assert_eq!(Query::parse("a=1&b=\"&a=%32").to_json(), r#"{"b":"\"","a":"2"}"#);
        assert_eq!(Query::parse("").to_json(), "{}");
    }

    #[test]
    fn the_parameters_of_the_protocol_are_read() {
        let check = |query, revision, transport, sid| {
            let query = Query::parse(query);
            assert_eq!((query.revision(), query.transport(), query.sid()), (revision, transport, sid));
        };
        check("EIO=4&transport=websocket&sid=abc", Revision::Four, Some(Transport::WebSocket), Some("abc"));
        check("EIO=3&transport=polling", Revision::Three, Some(Transport::Polling), None);
        check("EIO=5&transport=constructor", Revision::Three, None, None);
        check("", Revision::Three, None, None);
    }

    proptest! {
        #[test]
        fn what_is_escaped_is_read(name: String, value: String) {
            let escape = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
            let text = format!("{}={}", escape(&name), escape(&value));
            let query = Query::parse(&text);
            prop_assert_eq!(query.pairs().collect::<Vec<_>>(), [(name.as_str(), value.as_str())]);
        }

        #[test]
        fn no_query_panics(text in "[%+&=a0é]{0,30}") {
            prop_assert!(Query::parse(&text).pairs().count() <= text.len());
        }
    }
}
