//! Events byte for byte as Node members write them.

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
        let Ok(Some(Said::Event(incoming))) = sharded::read(&message, "another", "/") else { panic!("it is an event") };
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
    let attachments = |count| read(&message(count), "own").map(|read| read.map(|it| it.arguments.attachments.len()));
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
