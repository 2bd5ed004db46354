use proptest::prelude::*;

use super::*;
use crate::bus::broadcast::base_channel;
use crate::bus::{Decoded, Malformed};

const UID: &str = "34bcc19a260aa570";
const ID: &str = "98064bf433211f8d";

fn bytes(hex: &str) -> Bytes {
    let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("two digits");
    (0..hex.len()).step_by(2).map(digits).collect()
}

fn scope(rooms: &[&str], except: &[&str]) -> Scope {
    Scope { rooms: owned(rooms), except: owned(except) }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn decoded(json: &str, attachments: &[&'static [u8]]) -> Decoded {
    let attachments = attachments.iter().map(|bytes| Bytes::from_static(bytes)).collect();
    Decoded { json: json.into(), attachments }
}

/// What Node's adapter wrote for these (8.3.0), byte for byte, as text or in hexadecimal digits.
#[test]
fn events_are_what_the_node_adapter_writes() {
    let check =
        |channel: &str, wire: &str, event: &str, arguments: Decoded, scope: Scope, namespace: &str, volatile| {
            let wire = if wire.starts_with('{') { Bytes::from(wire.to_owned()) } else { bytes(wire) };
            let json = String::from_utf8(arguments.json.clone()).expect("JSON is UTF-8");
            let attachments = &arguments.attachments;
            let outgoing = Outgoing {
                uid: UID,
                namespace,
                event,
                arguments: &json,
                attachments,
                scope: &scope,
                volatile,
                number: None,
            };
            assert_eq!(super::event(&outgoing).expect("sound arguments"), wire, "{event}");
            assert_eq!(event_channel(&base_channel("socket.io", namespace), &scope), channel);
            assert!(is_event(&wire) && Ending::of(UID, namespace).is_of(&wire));
            assert!(!Ending::of("4bcc19a260aa5703", namespace).is_of(&wire) && !Ending::of(UID, "/other").is_of(&wire));
            assert_eq!(read(&wire, UID, namespace), Ok(None), "our own");
            assert_eq!(read(&wire, "another", "/other"), Ok(None), "of another namespace");
            let Ok(Some(Said::Event(incoming))) = read(&wire, "another", namespace) else {
                panic!("{event} is an event")
            };
            assert_eq!((incoming.uid.as_str(), incoming.event.as_str(), incoming.arguments), (UID, event, arguments));
            assert_eq!((incoming.namespace.as_str(), incoming.scope, incoming.volatile), (namespace, scope, volatile));
        };
    check(
        "socket.io#/#",
        r#"{"type":3,"data":{"packet":{"type":2,"data":["hello",1,"2",{"a":[true,null,1.5,-3,70000]}]},"opts":{"rooms":[],"except":[],"flags":{}}},"uid":"34bcc19a260aa570","nsp":"/"}"#,
        "hello",
        decoded(r#"1,"2",{"a":[true,null,1.5,-3,70000]}"#, &[]),
        Scope::default(),
        "/",
        false,
    );
    check(
        "socket.io#/#room1#",
        r#"{"type":3,"data":{"packet":{"type":2,"data":["ex2","x"]},"opts":{"rooms":["room1"],"except":["room2"],"flags":{}}},"uid":"34bcc19a260aa570","nsp":"/"}"#,
        "ex2",
        decoded(r#""x""#, &[]),
        scope(&["room1"], &["room2"]),
        "/",
        false,
    );
    check(
        "socket.io#/#",
        r#"{"type":3,"data":{"packet":{"type":2,"data":["byid"]},"opts":{"rooms":["12345678901234567890"],"except":[],"flags":{}}},"uid":"34bcc19a260aa570","nsp":"/"}"#,
        "byid",
        decoded("", &[]),
        scope(&["12345678901234567890"], &[]),
        "/",
        false,
    );
    check(
        "socket.io#/#",
        r#"{"type":3,"data":{"packet":{"type":2,"data":["vol"]},"opts":{"rooms":[],"except":[],"flags":{"volatile":true}}},"uid":"34bcc19a260aa570","nsp":"/"}"#,
        "vol",
        decoded("", &[]),
        Scope::default(),
        "/",
        true,
    );
    check(
        "socket.io#/#room1#",
        "84a47479706503a46461746182a67061636b657482a47479706502a46461746192a762696e726f6f6dc40101a46f70747383a5726f6f6d7391a5726f6f6d31a665786365707490a5666c61677381a8766f6c6174696c65c3a3756964b033346263633139613236306161353730a36e7370a12f",
        "binroom",
        decoded(r#"{"_placeholder":true,"num":0}"#, &[&[1]]),
        scope(&["room1"], &[]),
        "/",
        true,
    );
    check(
        "socket.io#/#",
        "84a47479706503a46461746182a67061636b657482a47479706502a46461746193a362696ec40301020381a162c401ffa46f70747383a5726f6f6d7390a665786365707490a5666c61677380a3756964b033346263633139613236306161353730a36e7370a12f",
        "bin",
        decoded(r#"{"_placeholder":true,"num":0},{"b":{"_placeholder":true,"num":1}}"#, &[&[1, 2, 3], &[255]]),
        Scope::default(),
        "/",
        false,
    );
    check(
        "socket.io#/admin#room1#",
        r#"{"type":3,"data":{"packet":{"type":2,"data":["adm","x"]},"opts":{"rooms":["room1"],"except":[],"flags":{}}},"uid":"34bcc19a260aa570","nsp":"/admin"}"#,
        "adm",
        decoded(r#""x""#, &[]),
        scope(&["room1"], &[]),
        "/admin",
        false,
    );
}

#[test]
fn questions_and_orders_are_what_the_node_adapter_writes() {
    let check = |wire: &str, id: Option<&str>, what: Request| {
        let asked = Asked { uid: Some(UID.to_owned()), id: id.map(str::to_owned), request: what };
        let message = request(&asked, "/").expect("JSON").expect("a message");
        assert_eq!(String::from_utf8_lossy(&message), wire);
        assert!(!is_event(&message) || id.is_some());
        assert_eq!(read(&message, "another", "/"), Ok(Some(Said::Asked(asked))));
    };
    let room = || Who::Scope(scope(&["room1"], &[]));
    check(
        r#"{"type":4,"data":{"opts":{"rooms":["room1"],"except":[],"flags":{}},"rooms":["x","y"]},"uid":"34bcc19a260aa570","nsp":"/"}"#,
        None,
        Request::Join { who: room(), rooms: owned(&["x", "y"]) },
    );
    check(
        r#"{"type":5,"data":{"opts":{"rooms":["room1"],"except":[],"flags":{}},"rooms":["y"]},"uid":"34bcc19a260aa570","nsp":"/"}"#,
        None,
        Request::Leave { who: room(), rooms: owned(&["y"]) },
    );
    check(
        r#"{"type":6,"data":{"opts":{"rooms":["room1"],"except":[],"flags":{}},"close":true},"uid":"34bcc19a260aa570","nsp":"/"}"#,
        None,
        Request::Disconnect { who: room(), close: true },
    );
    check(
        r#"{"type":7,"data":{"opts":{"rooms":[],"except":[],"flags":{}},"requestId":"98064bf433211f8d"},"uid":"34bcc19a260aa570","nsp":"/"}"#,
        Some(ID),
        Request::Fetch { scope: Scope::default(), peers_only: false },
    );
    check(
        r#"{"type":7,"data":{"opts":{"rooms":[],"except":[],"flags":{}},"peersOnly":true,"requestId":"98064bf433211f8d"},"uid":"34bcc19a260aa570","nsp":"/"}"#,
        Some(ID),
        Request::Fetch { scope: Scope::default(), peers_only: true },
    );
    check(
        r#"{"type":9,"data":{"packet":["sse",1,{"a":2}]},"uid":"34bcc19a260aa570","nsp":"/"}"#,
        None,
        Request::ServerSideEmit { event: "sse".to_owned(), arguments: decoded(r#"1,{"a":2}"#, &[]) },
    );
    check(
        r#"{"type":9,"data":{"requestId":"98064bf433211f8d","packet":["sse",7]},"uid":"34bcc19a260aa570","nsp":"/"}"#,
        Some(ID),
        Request::ServerSideEmit { event: "sse".to_owned(), arguments: decoded("7", &[]) },
    );
    let asked = r#"{"type":3,"data":{"packet":{"type":2,"data":["q","q"]},"requestId":"98064bf433211f8d","opts":{"rooms":[],"except":[],"flags":{}}},"uid":"34bcc19a260aa570","nsp":"/"}"#;
    let arguments = decoded(r#""q""#, &[]);
    check(asked, Some(ID), Request::Broadcast { event: "q".to_owned(), arguments, scope: Scope::default() });
    for no_such in [Request::AllRooms, Request::Sockets { rooms: Vec::new() }] {
        assert_eq!(request(&Asked { uid: None, id: None, request: no_such }, "/").expect("nothing to write"), None);
    }
}

#[test]
fn binary_questions_are_read_as_the_node_adapter_writes_them() {
    let with_ack = "84a47479706503a46461746183a67061636b657482a47479706502a46461746192a171c40103a9726571756573744964b035366638613564396539383836353437a46f70747383a5726f6f6d7391a5726f6f6d31a665786365707490a5666c61677381a774696d656f7574cd0320a3756964b036666566343334626434636235313466a36e7370a12f";
    let arguments = decoded(r#"{"_placeholder":true,"num":0}"#, &[&[3]]);
    let asked = Asked {
        uid: Some("6fef434bd4cb514f".to_owned()),
        id: Some("56f8a5d9e9886547".to_owned()),
        request: Request::Broadcast { event: "q".to_owned(), arguments, scope: scope(&["room1"], &[]) },
    };
    assert_eq!(read(&bytes(with_ack), UID, "/"), Ok(Some(Said::Asked(asked.clone()))));
    let again = request(&asked, "/").expect("JSON").expect("a message");
    assert_eq!(read(&again, UID, "/"), Ok(Some(Said::Asked(asked))));
    let server_side = "84a47479706509a46461746182a9726571756573744964b037356666333566633161303932633764a67061636b657492a673736562696ec40105a3756964b036666566343334626434636235313466a36e7370a12f";
    let arguments = decoded(r#"{"_placeholder":true,"num":0}"#, &[&[5]]);
    let asked = Asked {
        uid: Some("6fef434bd4cb514f".to_owned()),
        id: Some("75ff35fc1a092c7d".to_owned()),
        request: Request::ServerSideEmit { event: "ssebin".to_owned(), arguments },
    };
    assert_eq!(read(&bytes(server_side), UID, "/"), Ok(Some(Said::Asked(asked.clone()))));
    assert_eq!(request(&asked, "/").expect("JSON").expect("a message"), bytes(server_side));
}

#[test]
fn answers_are_what_the_node_adapter_writes() {
    let check = |wire: &str, given: Answer| {
        let wire = if wire.starts_with('{') { Bytes::from(wire.to_owned()) } else { bytes(wire) };
        let message = answer(UID, "/", ID, &given).expect("JSON").expect("a message");
        assert_eq!(message, wire, "{given:?}");
        let said = Said::Answered { uid: UID.to_owned(), id: ID.to_owned(), answer: given };
        assert_eq!(read(&message, "another", "/"), Ok(Some(said)));
    };
    check(
        r#"{"type":8,"data":{"requestId":"98064bf433211f8d","sockets":[{"id":"a","rooms":[]},{"id":"b"}]},"uid":"34bcc19a260aa570","nsp":"/"}"#,
        Answer::Sockets(owned(&[r#"{"id":"a","rooms":[]}"#, r#"{"id":"b"}"#])),
    );
    check(
        r#"{"type":10,"data":{"requestId":"98064bf433211f8d","packet":7},"uid":"34bcc19a260aa570","nsp":"/"}"#,
        Answer::ServerSide(decoded("7", &[])),
    );
    check(
        "84a4747970650aa46461746182a9726571756573744964b039383036346266343333323131663864a67061636b6574c40109a3756964b033346263633139613236306161353730a36e7370a12f",
        Answer::ServerSide(decoded(r#"{"_placeholder":true,"num":0}"#, &[&[9]])),
    );
    check(
        r#"{"type":11,"data":{"requestId":"98064bf433211f8d","clientCount":1},"uid":"34bcc19a260aa570","nsp":"/"}"#,
        Answer::ClientCount(1),
    );
    check(
        r#"{"type":12,"data":{"requestId":"98064bf433211f8d","packet":"ack"},"uid":"34bcc19a260aa570","nsp":"/"}"#,
        Answer::Ack(decoded(r#""ack""#, &[])),
    );
    check(
        "84a4747970650ca46461746182a9726571756573744964b039383036346266343333323131663864a67061636b6574c40109a3756964b033346263633139613236306161353730a36e7370a12f",
        Answer::Ack(decoded(r#"{"_placeholder":true,"num":0}"#, &[&[9]])),
    );
    for no_such in [Answer::Done, Answer::Rooms(Vec::new()), Answer::SocketIds(Vec::new())] {
        assert_eq!(answer(UID, "/", ID, &no_such).expect("nothing to write"), None);
    }
}

#[test]
fn rooms_that_are_numbers_are_taken_for_their_digits() {
    let wire = r#"{"type":3,"data":{"packet":{"type":2,"data":[ 7 , 1 ]},"opts":{"rooms":[42],"except":[]}},"uid":"a","nsp":"/"}"#;
    let Ok(Some(Said::Event(incoming))) = read(&Bytes::from(wire), UID, "/") else { panic!("an event") };
    assert_eq!((incoming.event.as_str(), incoming.arguments), ("7", decoded("1", &[])));
    assert_eq!(incoming.scope, scope(&["42"], &[]));
}

#[test]
fn names_of_twenty_characters_are_taken_for_sockets() {
    for (name, expected) in [("12345678901234567890", false), ("1234567890123456789", true), ("", true)] {
        assert_eq!(has_channel(name), expected, "{name}");
    }
    // Node counts as JavaScript does: an emoji is two.
    assert!(!has_channel(&"😀".repeat(10)) && has_channel(&"😀".repeat(20)) && !has_channel(&"é".repeat(20)));
}

#[test]
fn what_is_not_known_is_left_alone_and_what_is_broken_refused() {
    for unknown in [r#"{"type":1,"uid":"a","nsp":"/"}"#, r#"{"type":99,"data":{},"uid":"a","nsp":"/"}"#] {
        assert_eq!(read(&Bytes::from(unknown), UID, "/"), Ok(None));
    }
    for broken in [
        "{",
        "{}",
        r#"{"type":"x"}"#,
        r#"{"type":3,"nsp":"/"}"#,
        r#"{"type":3,"data":{"packet":{"type":5,"data":["a"]},"opts":{}},"nsp":"/"}"#,
        r#"{"type":3,"data":{"packet":{"type":2,"data":[]},"opts":{}},"nsp":"/"}"#,
        r#"{"type":3,"data":{"packet":{"type":2,"data":["a"]}},"nsp":"/"}"#,
        r#"{"type":6,"data":{"close":true},"nsp":"/"}"#,
        r#"{"type":8,"data":{"sockets":[]},"nsp":"/"}"#,
        "",
        "\u{81}",
    ] {
        let outcome: Result<Option<Said>, Malformed> = read(&Bytes::from(broken), UID, "/");
        assert!(outcome.is_err(), "{broken}: {outcome:?}");
    }
}

proptest! {
    #[test]
    fn events_come_back_as_they_went(
        event in ".{1,20}", texts in prop::collection::vec(".{0,20}", 0..4), rooms in prop::collection::vec(".{1,30}", 0..3),
        namespace in "/[a-z#\"]{0,10}", attachment in prop::option::of(prop::collection::vec(any::<u8>(), 0..300)),
    ) {
        let mut arguments: Vec<String> = texts.iter().map(|text| serde_json::to_string(text).expect("a text")).collect();
        if attachment.is_some() {
            arguments.push(r#"{"_placeholder":true,"num":0}"#.to_owned());
        }
        let arguments = Decoded { json: arguments.join(",").into(), attachments: attachment.into_iter().map(Bytes::from).collect() };
        let json = String::from_utf8(arguments.json.clone()).expect("JSON is UTF-8");
        let scope = Scope { rooms, except: Vec::new() };
        let outgoing = Outgoing {
            uid: UID, namespace: &namespace, event: &event, arguments: &json, attachments: &arguments.attachments, scope: &scope, volatile: false, number: Some(1),
        };
        let message = super::event(&outgoing).expect("sound");
        prop_assert!(Ending::of(UID, &namespace).is_of(&message));
        let Ok(Some(Said::Event(incoming))) = read(&message, "another", &namespace) else { panic!("an event") };
        prop_assert_eq!((incoming.event, incoming.arguments, incoming.scope), (event, arguments, scope));
    }

    #[test]
    fn nothing_panics(message in prop::collection::vec(any::<u8>(), 0..200), kind in 0_u8..15) {
        let _ = read(&Bytes::from(message.clone()), UID, "/");
        let mut binary = vec![0x82, 0xa4, b't', b'y', b'p', b'e', kind, 0xa4, b'd', b'a', b't', b'a'];
        binary.extend(&message);
        let _ = read(&Bytes::from(binary), UID, "/");
        let text = format!(r#"{{"type":{kind},"data":{}"#, String::from_utf8_lossy(&message));
        let _ = read(&Bytes::from(text), UID, "/");
    }
}
