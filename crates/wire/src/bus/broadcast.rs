//! Events on the bus: one message for everyone who has a member of the event's rooms, in the classic format `[uid, packet, opts]`
//! of `@socket.io/redis-adapter`, which `socket.io-redis` and the emitters share.

use bytes::Bytes;

use super::decode::{Decoded, Malformed, Reader, malformed};
use super::encode::Writer;
/// The type of an event's packet; binary stays within it.
const EVENT: u64 = 2;

/// The flag that has an event's number.
pub(super) const NUMBER: &str = "number";

/// For whom something is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// Members of one of these rooms; everyone where there is none.
    pub rooms: Vec<String>,
    /// But for members of these.
    pub except: Vec<String>,
}

/// An event to be published.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// The member of the cluster that publishes it.
    pub uid: &'a str,
    /// The namespace.
    pub namespace: &'a str,
    /// Its name.
    pub event: &'a str,
    /// The JSON of the arguments, checked, joined by commas.
    pub arguments: &'a str,
    /// What placeholders in them stand for.
    pub attachments: &'a [Bytes],
    /// For whom it is.
    pub scope: &'a Scope,
    /// Who cannot take it at once need not get it.
    pub volatile: bool,
    /// Its number among the events of this member, by which others know a repeat. Node's adapters pass over flags that they do not know.
    pub number: Option<u64>,
}

impl Outgoing<'_> {
    /// The channel that it is published on, behind the prefix: that of its room where there is one alone.
    pub fn channel(&self, prefix: &str) -> String {
        match self.scope.rooms.as_slice() {
            [room] => format!("{prefix}#{}#{room}#", self.namespace),
            _ => base_channel(prefix, self.namespace),
        }
    }

    /// The message.
    ///
    /// # Errors
    /// The arguments are nested too deeply, or lack an attachment.
    pub fn message(&self) -> Result<Bytes, serde_json::Error> {
        let mut out = Writer::default();
        out.array(3);
        out.text(self.uid);
        out.map(3);
        out.text("type");
        out.unsigned(EVENT);
        out.text("data");
        out.event(self.event, self.arguments, self.attachments)?;
        out.text("nsp");
        out.text(self.namespace);
        write_options(&mut out, self.scope, |out| self.write_flags(out));
        Ok(out.into_bytes())
    }

    pub(super) fn write_flags(&self, out: &mut Writer) {
        out.map(usize::from(self.volatile) + usize::from(self.number.is_some()));
        if self.volatile {
            out.text("volatile");
            out.boolean(true);
        }
        if let Some(number) = self.number {
            out.text(NUMBER);
            out.unsigned(number);
        }
    }
}

pub(super) fn write_options(out: &mut Writer, scope: &Scope, flags: impl FnOnce(&mut Writer)) {
    out.map(3);
    out.text("rooms");
    out.texts(scope.rooms.iter().map(String::as_str));
    out.text("except");
    out.texts(scope.except.iter().map(String::as_str));
    out.text("flags");
    flags(out);
}

/// An event of another member's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// Who published it.
    pub uid: String,
    /// The namespace.
    pub namespace: String,
    /// Its name.
    pub event: String,
    /// Its arguments, joined by commas.
    pub arguments: Decoded,
    /// For whom it is.
    pub scope: Scope,
    /// Who cannot take it at once need not get it.
    pub volatile: bool,
    /// Its number among the events of the member that published it, where that is a gateway.
    pub number: Option<u64>,
}

/// Reads a message of a broadcast channel; `None` for one of our own, which is not read to its end.
///
/// # Errors
/// It is no event.
pub fn read(message: &Bytes, own_uid: &str) -> Result<Option<Incoming>, Malformed> {
    let mut reader = Reader::new(message);
    let parts = reader.array()?;
    if parts < 2 {
        return malformed("no packet");
    }
    let uid = reader.text()?;
    if uid == own_uid {
        return Ok(None);
    }
    let packet = read_packet(&mut reader)?;
    let options = if parts > 2 { read_options(&mut reader)? } else { Options::default() };
    (3..parts).try_for_each(|_| reader.skip())?;
    reader.end()?;
    let Options { scope, volatile, number } = options;
    let Packet { namespace, event, arguments } = packet;
    Ok(Some(Incoming { uid, namespace, event, arguments, scope, volatile, number }))
}

/// An event's packet.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) namespace: String,
    pub(super) event: String,
    pub(super) arguments: Decoded,
}

pub(super) fn read_packet(reader: &mut Reader<'_>) -> Result<Packet, Malformed> {
    let (mut kind, mut namespace, mut data) = (None, None, None);
    for _ in 0..reader.map()? {
        match reader.text()?.as_str() {
            "type" => kind = reader.integer()?,
            "nsp" => namespace = Some(reader.text()?),
            "data" => data = Some(read_event(reader)?),
            _ => reader.skip()?,
        }
    }
    if kind != Some(EVENT.into()) {
        return malformed("a packet that is no event");
    }
    let Some((event, arguments)) = data else { return malformed("an event without data") };
    Ok(Packet { namespace: namespace.unwrap_or_else(|| "/".to_owned()), event, arguments })
}

/// `[name, ...arguments]`.
pub(super) fn read_event(reader: &mut Reader<'_>) -> Result<(String, Decoded), Malformed> {
    let len = reader.array()?;
    if len == 0 {
        return malformed("an event without a name");
    }
    let event = reader.name()?;
    let mut arguments = Decoded::default();
    for index in 1..len {
        if index > 1 {
            arguments.json.push(b',');
        }
        reader.json(&mut arguments)?;
    }
    Ok((event, arguments))
}

#[derive(Debug, Clone, Default)]
pub(super) struct Options {
    pub(super) scope: Scope,
    pub(super) volatile: bool,
    pub(super) number: Option<u64>,
}

pub(super) fn read_options(reader: &mut Reader<'_>) -> Result<Options, Malformed> {
    let mut options = Options::default();
    for _ in 0..reader.map()? {
        match reader.text()?.as_str() {
            "rooms" => options.scope.rooms = reader.names()?,
            "except" => options.scope.except = reader.names()?,
            "flags" => {
                for _ in 0..reader.map()? {
                    match reader.text()?.as_str() {
                        "volatile" => options.volatile = reader.is_true()?,
                        NUMBER => options.number = reader.integer()?.and_then(|number| number.try_into().ok()),
                        _ => reader.skip()?,
                    }
                }
            }
            _ => reader.skip()?,
        }
    }
    Ok(options)
}

/// The channel for everyone in a namespace. Those of its rooms begin with it.
pub fn base_channel(prefix: &str, namespace: &str) -> String {
    format!("{prefix}#{namespace}#")
}

/// The room that a channel of this base is for, where it is for one alone; told without a look at the message. `None` for a channel of another base.
pub fn room_of<'a>(channel: &'a str, base: &str) -> Option<Option<&'a str>> {
    let rest = channel.strip_prefix(base)?;
    Some(rest.strip_suffix('#'))
}

/// Whether a message is this member's own, told by its first bytes: the format has each member hear what it publishes.
pub fn is_own(message: &[u8], uid: &str) -> bool {
    // An array of three, which begins with a short text.
    let head = [0x93, 0xa0 | uid.len() as u8];
    uid.len() < 32 && message.strip_prefix(&head).is_some_and(|rest| rest.starts_with(uid.as_bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::bus::sharded::{self, Said};

    fn bytes(hex: &str) -> Bytes {
        let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("two digits");
        (0..hex.len()).step_by(2).map(digits).collect()
    }

    fn scope(rooms: &[&str], except: &[&str]) -> Scope {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Scope { rooms: owned(rooms), except: owned(except) }
    }

    /// What Node's adapter wrote for these (8.3.0), byte for byte: hex, event, arguments, attachments, scope, namespace, uid, volatile.
    #[test]
    fn is_what_the_node_adapter_writes() {
        let check = |hex: &str,
                     event: &str,
                     arguments: &str,
                     attachments: &[&'static [u8]],
                     scope: Scope,
                     namespace: &str,
                     uid: &str,
                     volatile: bool| {
            let attachments: Vec<Bytes> = attachments.iter().map(|bytes| Bytes::from_static(bytes)).collect();
            let outgoing = Outgoing {
                uid,
                namespace,
                event,
                arguments,
                attachments: &attachments,
                scope: &scope,
                volatile,
                number: None,
            };
            assert_eq!(outgoing.message().expect("sound arguments"), bytes(hex), "{event}");
            let incoming = read(&bytes(hex), "another").expect("a message").expect("of another");
            let json = String::from_utf8(incoming.arguments.json.clone()).expect("JSON is UTF-8");
            assert_eq!(
                (incoming.uid.as_str(), incoming.namespace.as_str(), incoming.event.as_str()),
                (uid, namespace, event)
            );
            assert_eq!((json.as_str(), &incoming.arguments.attachments), (arguments, &attachments));
            assert_eq!((incoming.scope, incoming.volatile), (scope, volatile));
            assert_eq!(read(&bytes(hex), uid), Ok(None), "our own");
            assert!(is_own(&bytes(hex), uid) && !is_own(&bytes(hex), "kuNcM") && !is_own(&bytes(hex), "another"));
        };
        check(
            "93a66b754e634d4783a47479706502a46461746194a568656c6c6f01a13281a16195c3c0cb3ff8000000000000fdce00011170a36e7370a12f83a5726f6f6d7390a665786365707490a5666c61677380",
            "hello",
            r#"1,"2",{"a":[true,null,1.5,-3,70000]}"#,
            &[],
            Scope::default(),
            "/",
            "kuNcMG",
            false,
        );
        check(
            "93a66b754e634d4783a47479706502a46461746192a3657832a178a36e7370a12f83a5726f6f6d7391a5726f6f6d31a665786365707491a5726f6f6d32a5666c61677380",
            "ex2",
            r#""x""#,
            &[],
            scope(&["room1"], &["room2"]),
            "/",
            "kuNcMG",
            false,
        );
        check(
            "93a66b754e634d4783a47479706502a46461746193a362696ec40301020381a162c401ffa36e7370a12f83a5726f6f6d7390a665786365707490a5666c61677380",
            "bin",
            r#"{"_placeholder":true,"num":0},{"b":{"_placeholder":true,"num":1}}"#,
            &[&[1, 2, 3], &[255]],
            Scope::default(),
            "/",
            "kuNcMG",
            false,
        );
        check(
            "93a66b754e634d4783a47479706502a46461746191a3766f6ca36e7370a12f83a5726f6f6d7390a665786365707490a5666c61677381a8766f6c6174696c65c3",
            "vol",
            "",
            &[],
            Scope::default(),
            "/",
            "kuNcMG",
            true,
        );
        check(
            "93a636536d74596783a47479706502a46461746192a361646da178a36e7370a62f61646d696e83a5726f6f6d7391a5726f6f6d31a665786365707490a5666c61677380",
            "adm",
            r#""x""#,
            &[],
            scope(&["room1"], &[]),
            "/admin",
            "6SmtYg",
            false,
        );
    }

    #[test]
    fn reads_what_emitters_and_older_adapters_write() {
        let check = |hex: &str, event: &str, arguments: &str, attachments: &[&'static [u8]], rooms: &[&str]| {
            let incoming = read(&bytes(hex), "own").expect("a message").expect("of another");
            assert_eq!(String::from_utf8_lossy(&incoming.arguments.json), arguments, "{event}");
            assert_eq!(incoming.arguments.attachments, attachments, "{event}");
            assert_eq!((incoming.event.as_str(), incoming.scope), (event, scope(rooms, &[])));
        };
        check(
            "93a7656d697474657283a47479706502a46461746192a6652d726f6f6da178a36e7370a12f83a5726f6f6d7391a5726f6f6d31a5666c61677380a665786365707490",
            "e-room",
            r#""x""#,
            &[],
            &["room1"],
        );
        check(
            "93a7656d697474657283a47479706502a46461746192a16501a36e7370a12f82a5726f6f6d7390a5666c61677380",
            "e",
            "1",
            &[],
            &[],
        );
        check(
            "93a66b754e634d4783a47479706502a46461746194a464617465d6ff6553f100d7ff1d5353006553f100c0a36e7370a12f83a5726f6f6d7390a665786365707490a5666c61677380",
            "date",
            r#""2023-11-14T22:13:20.000Z","2023-11-14T22:13:20.123Z",null"#,
            &[],
            &[],
        );
        check(
            "93a6436c32774e5383a47479706502a46461746195a568656c6c6f01d40000d7000000018bcfe5687bc702000102a36e7370a12f83a5726f6f6d7390a665786365707490a5666c61677380",
            "hello",
            r#"1,null,"2023-11-14T22:13:20.123Z",{"_placeholder":true,"num":0}"#,
            &[&[1, 2]],
            &[],
        );
    }

    #[test]
    fn a_number_is_a_flag_among_the_others() {
        for (volatile, number) in [(false, None), (false, Some(0)), (true, Some(u64::MAX))] {
            let scope = Scope::default();
            let outgoing = Outgoing {
                uid: "one",
                namespace: "/",
                event: "e",
                arguments: "1",
                attachments: &[],
                scope: &scope,
                volatile,
                number,
            };
            let message = outgoing.message().expect("sound arguments");
            let incoming = read(&message, "another").expect("a message").expect("of another");
            assert_eq!((incoming.volatile, incoming.number), (volatile, number), "classic");
            let message = sharded::event(&outgoing).expect("sound arguments");
            let Ok(Some(Said::Event(incoming))) = sharded::read(&message, "another", "/") else {
                panic!("it is an event")
            };
            assert_eq!((incoming.volatile, incoming.number), (volatile, number), "sharded");
        }
    }

    #[test]
    fn what_is_cut_off_or_goes_on_is_refused() {
        let whole = bytes(
            "93a66b754e634d4783a47479706502a46461746193a362696ec40301020381a162c401ffa36e7370a12f83a5726f6f6d7390a665786365707490a5666c61677380",
        );
        for len in 0..whole.len() {
            assert!(read(&whole.slice(..len), "own").is_err(), "{len} bytes");
        }
        let mut longer = whole.to_vec();
        longer.push(0xc0);
        assert_eq!(read(&longer.into(), "own"), malformed("1 bytes after the end"));
    }

    #[test]
    fn attachments_are_bounded() {
        let message = |count: u16| {
            let mut message = bytes("93a16183a47479706502a46461746192a165dc").to_vec();
            message.extend(count.to_be_bytes());
            (0..count).for_each(|_| message.extend([0xc4, 0]));
            message.extend(bytes("a36e7370a12f80").iter());
            Bytes::from(message)
        };
        let attachments =
            |count| read(&message(count), "own").map(|read| read.map(|it| it.arguments.attachments.len()));
        assert_eq!(attachments(1_000), Ok(Some(1_000)));
        assert_eq!(attachments(1_001), malformed("more than 1000 attachments"));
    }

    #[test]
    fn deep_values_are_refused_both_ways() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        let outgoing = Outgoing {
            uid: "a",
            namespace: "/",
            event: "e",
            arguments: &deep,
            attachments: &[],
            scope: &Scope::default(),
            volatile: false,
            number: None,
        };
        assert!(outgoing.message().is_err());
        let mut message = bytes("93a16183a47479706502a46461746192a165").to_vec();
        message.extend([0x91; 100_000]);
        assert_eq!(read(&message.into(), "own"), malformed("it is nested too deeply"));
    }

    #[test]
    fn channels_name_a_room_or_none() {
        let channel = |rooms: &[&str]| {
            let scope = scope(rooms, &[]);
            let outgoing = Outgoing {
                uid: "a",
                namespace: "/n",
                event: "e",
                arguments: "",
                attachments: &[],
                scope: &scope,
                volatile: false,
                number: None,
            };
            outgoing.channel("socket.io")
        };
        assert_eq!(channel(&["r#1"]), "socket.io#/n#r#1#");
        let base = base_channel("socket.io", "/n");
        assert_eq!(room_of("socket.io#/n#r#1#", &base), Some(Some("r#1")));
        assert_eq!((channel(&[]).as_str(), channel(&["a", "b"]).as_str()), ("socket.io#/n#", "socket.io#/n#"));
        assert_eq!(room_of("socket.io#/n#", &base), Some(None));
        assert_eq!(room_of("socket.io#/nn#r#", &base), None);
    }

    fn json(attachments: usize) -> impl Strategy<Value = serde_json::Value> {
        use serde_json::{Value, json};
        let placeholder = (0..attachments.max(1)).prop_map(|num| json!({ "_placeholder": true, "num": num }));
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1e300..1e300f64).prop_map(|number| Value::from(number + 0.5)),
            ".{0,40}".prop_map(Value::from),
            if attachments > 0 { placeholder.boxed() } else { Just(Value::Null).boxed() },
        ];
        leaf.prop_recursive(4, 64, 20, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..20).prop_map(Value::from),
                prop::collection::btree_map("[a-z]{0,6}", inner, 0..20)
                    .prop_map(|fields| Value::from(fields.into_iter().collect::<serde_json::Map<_, _>>())),
            ]
        })
    }

    proptest! {
        #[test]
        fn values_come_back_as_they_went(values in prop::collection::vec(json(0), 0..4), room in ".{1,40}") {
            let arguments = values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
            let scope = Scope { rooms: vec![room], except: Vec::new() };
            let outgoing =
                Outgoing { uid: "a", namespace: "/", event: "e", arguments: &arguments, attachments: &[], scope: &scope, volatile: false, number: None };
            let incoming = read(&outgoing.message().expect("JSON"), "b").expect("sound").expect("of another");
            let back: Vec<serde_json::Value> =
                serde_json::from_str(&format!("[{}]", String::from_utf8_lossy(&incoming.arguments.json))).expect("JSON");
            let same = |(a, b): (&serde_json::Value, &serde_json::Value)| a == b || numbers(a) == numbers(b);
            prop_assert!(values.len() == back.len() && values.iter().zip(&back).all(same), "{values:?} {back:?}");
            prop_assert_eq!(incoming.scope, scope);
        }

        #[test]
        fn nothing_panics(message in prop::collection::vec(any::<u8>(), 0..200)) {
            let message = Bytes::from(message);
            let _ = read(&message, "own");
            let mut longer = bytes("93a16183a47479706502a46461746192a165").to_vec();
            longer.extend(&message);
            let _ = read(&longer.into(), "own");
        }
    }

    /// A value whose numbers are all doubles, as JavaScript has them.
    fn numbers(value: &serde_json::Value) -> serde_json::Value {
        use serde_json::Value;
        match value {
            Value::Number(number) => Value::from(number.as_f64()),
            Value::Array(elements) => elements.iter().map(numbers).collect(),
            Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), numbers(value))).collect(),
            other => other.clone(),
        }
    }
}
