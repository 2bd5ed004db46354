//! What clients may send, row by row, and that nothing else gets through.

use super::super::Outbound;
use super::*;
use proptest::prelude::*;

const PLACEHOLDER: &str = r#"{"_placeholder":true,"num":0}"#;

/// The packet's fields in one line: kind, namespace, ack, attachments, data.
fn told(packet: &Packet<'_>) -> String {
    let ack = packet.ack.map_or("-".to_owned(), |id| id.to_string());
    let data = packet.data.as_deref().unwrap_or("-");
    format!("{:?} {} {ack} {} {data}", packet.kind, packet.namespace, packet.attachments)
}

#[test]
fn packets_are_read_into_their_parts() {
    let table = [
        ("0", "Connect / - 0 -"),
        (r#"0{"token":"x"}"#, r#"Connect / - 0 {"token":"x"}"#),
        ("0/custom", "Connect /custom - 0 -"),
        ("0/custom,", "Connect /custom - 0 -"),
        ("0/,", "Connect / - 0 -"),
        ("0/custom?token=1,", "Connect /custom?token=1 - 0 -"),
        ("1", "Disconnect / - 0 -"),
        ("1/custom,", "Disconnect /custom - 0 -"),
        ("2", "Event / - 0 -"),
        (r#"2["a"]"#, r#"Event / - 0 ["a"]"#),
        (r#"20["a"]"#, r#"Event / 0 0 ["a"]"#),
        (r#"2007["a"]"#, r#"Event / 7 0 ["a"]"#),
        (r#"218446744073709551615["a"]"#, r#"Event / 18446744073709551615 0 ["a"]"#),
        (r#"2/a,12["a",{"b":1.0}]"#, r#"Event /a 12 0 ["a",{"b":1.0}]"#),
        (r#"2[1,"x"]"#, r#"Event / - 0 [1,"x"]"#),
        (r#"2["error"]"#, r#"Event / - 0 ["error"]"#),
        (r#"2["e",{"_placeholder":true,"num":9}]"#, r#"Event / - 0 ["e",{"_placeholder":true,"num":9}]"#),
        ("31[]", "Ack / 1 0 []"),
        ("3", "Ack / - 0 -"),
        (r#"4{"message":"no"}"#, r#"ConnectError / - 0 {"message":"no"}"#),
        (r#"4"no""#, r#"ConnectError / - 0 "no""#),
        (r#"51-["e",{"_placeholder":true,"num":0}]"#, r#"BinaryEvent / - 1 ["e",{"_placeholder":true,"num":0}]"#),
        (r#"51-["e","x"]"#, r#"BinaryEvent / - 1 ["e","x"]"#),
        (r#"510-/a,3["e"]"#, r#"BinaryEvent /a 3 10 ["e"]"#),
        ("61-2[]", "BinaryAck / 2 1 []"),
    ];
    for (text, expected) in table {
        assert_eq!(parse(text).as_ref().map(told), Ok(expected.to_owned()), "{text}");
    }
}

#[test]
fn whatever_node_closes_the_engine_for_is_an_error() {
    let table = [
        ("", ParseError::Empty),
        ("7", ParseError::UnknownType),
        ("9[]", ParseError::UnknownType),
        ("b", ParseError::UnknownType),
        ("é", ParseError::UnknownType),
        (r#"0["a"]"#, ParseError::Payload),
        (r#"0"a""#, ParseError::Payload),
        ("0null", ParseError::Payload),
        ("0{bad", ParseError::NotJson),
        ("1{}", ParseError::Payload),
        ("2[]", ParseError::EventName),
        ("2{}", ParseError::Payload),
        ("2[null]", ParseError::EventName),
        ("2[{}]", ParseError::EventName),
        (r#"2["\ud800"]"#, ParseError::EventName),
        (r#"2["a""#, ParseError::NotJson),
        (r#"2["a"]x"#, ParseError::NotJson),
        ("2[\"a\u{1e}\"]", ParseError::NotJson),
        ("2abc", ParseError::NotJson),
        ("31{}", ParseError::Payload),
        ("4", ParseError::Payload),
        ("4[]", ParseError::Payload),
        (r#"218446744073709551616["a"]"#, ParseError::AckId),
        ("2/a\u{1e}b,[\"a\"]", ParseError::Namespace),
        ("5", ParseError::AttachmentCount),
        (r#"50-["a"]"#, ParseError::AttachmentCount),
        (r#"5-1-["a"]"#, ParseError::AttachmentCount),
        (r#"51["a"]"#, ParseError::AttachmentCount),
        (r#"5["a"]"#, ParseError::AttachmentCount),
        (r#"511-["a"]"#, ParseError::TooManyAttachments),
        (r#"599999999999999999999999-["a"]"#, ParseError::TooManyAttachments),
        (r#"60-["a"]"#, ParseError::AttachmentCount),
        ("61-{}", ParseError::Payload),
    ];
    for (text, expected) in table {
        assert_eq!(parse(text), Err(expected), "{text}");
    }
    for name in RESERVED_EVENTS {
        assert_eq!(parse(&format!(r#"2["{name}"]"#)), Err(ParseError::ReservedEvent), "{name}");
        assert_eq!(parse(&format!(r#"51-["{name}"]"#)), Err(ParseError::ReservedEvent), "{name}");
    }
    assert_eq!(parse(r#"2["\u0063onnect"]"#), Err(ParseError::ReservedEvent));
}

#[test]
fn placeholders_number_the_packets_attachments() {
    let check = |json: &str, expected| {
        let text = format!(r#"52-["e",{json}]"#);
        assert_eq!(parse(&text).map(|_| ()), expected, "{json}");
    };
    check(r#"{"_placeholder":true,"num":1}"#, Ok(()));
    check(r#"{"_placeholder":true,"num":1.0,"more":[]}"#, Ok(()));
    check(r#"[{"deep":[{"_placeholder":true,"num":0}]}]"#, Ok(()));
    check(r#"{"_placeholder":false,"num":7}"#, Ok(()));
    check(r#"{"_placeholder":1,"num":7}"#, Ok(()));
    check(r#"{"_placeholder":true,"num":7,"_placeholder":null}"#, Ok(()));
    check(r#"{"num":7}"#, Ok(()));
    check(r#"{"x":"_placeholder","num":7}"#, Ok(()));
    check(r#"["\ud800"]"#, Ok(()));
    check(r#"{"_placeholder":true,"num":2}"#, Err(ParseError::Placeholder));
    check(r#"{"_placeholder":true,"num":-1}"#, Err(ParseError::Placeholder));
    check(r#"{"_placeholder":true,"num":0.5}"#, Err(ParseError::Placeholder));
    check(r#"{"_placeholder":true,"num":"splice"}"#, Err(ParseError::Placeholder));
    check(r#"{"_placeholder":true,"num":null}"#, Err(ParseError::Placeholder));
    check(r#"{"_placeholder":true}"#, Err(ParseError::Placeholder));
    check(r#"{"\u005fplaceholder" : true , "num" : 3}"#, Err(ParseError::Placeholder));
    check(r#"{"num":0,"_placeholder":true,"num":3}"#, Err(ParseError::Placeholder));
    check(r#"[{"x":{"_placeholder":true,"num":3}},0]"#, Err(ParseError::Placeholder));
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    check(&nested(MAX_DEPTH - 1), Ok(()));
    check(&nested(MAX_DEPTH), Err(ParseError::TooDeep));
    assert!(
        parse(&format!(r#"2["e",{}]"#, nested(100_000))).is_ok(),
        "depth costs nothing where nothing is searched for"
    );
}

#[test]
fn an_event_gives_its_name_and_arguments() {
    let check = |array: &str, name: &str, arguments: &[&str]| {
        let text = format!("2{array}");
        let packet = parse(&text).expect(array);
        let event = packet.event().expect(array);
        assert_eq!(event.name, name, "{array}");
        assert_eq!(event.iter().collect::<Vec<_>>(), arguments, "{array}");
    };
    check(r#"["e"]"#, "e", &[]);
    check(r#"["e", {"a": 1.00} ,[2], "x"  ]"#, "e", &[r#"{"a": 1.00}"#, "[2]", r#""x""#]);
    check(r#"["\u00e9\n",null]"#, "é\n", &["null"]);
    check("[-1.5,2]", "-1.5", &["2"]);
    check(r#"["",{}]"#, "", &["{}"]);
    assert_eq!(parse("2").expect("tolerated").event(), None);
    assert_eq!(parse("31[1, 2]").expect("an answer").ack_arguments(), Some("1, 2"));
    assert_eq!(parse("31").expect("tolerated").ack_arguments(), Some(""));
}

#[test]
fn attachments_follow_their_packet() {
    let mut decoder = Decoder::default();
    let head = format!(r#"52-/a,7["e",{PLACEHOLDER}]"#);
    assert_eq!(decoder.text(&head, 100), Ok(None));
    assert_eq!(decoder.binary(Cow::Borrowed(b"one"), 100), Ok(None));
    let decoded = decoder.binary(Cow::Borrowed(b""), 100).expect("in order").expect("complete");
    assert_eq!(told(&decoded.packet), format!(r#"BinaryEvent /a 7 2 ["e",{PLACEHOLDER}]"#));
    assert_eq!(decoded.attachments, [Bytes::from_static(b"one"), Bytes::new()]);
    assert_eq!(decoder.text("1", 100).expect("in order").expect("complete").packet.kind, Kind::Disconnect);
}

#[test]
fn messages_out_of_order_or_over_the_bound_are_errors() {
    let waiting = |max_bytes| {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.text(r#"52-["e"]"#, max_bytes), Ok(None));
        decoder
    };
    assert_eq!(waiting(50).text("1", 50), Err(ParseError::AttachmentMissing));
    assert_eq!(Decoder::default().binary(Cow::Borrowed(b"x"), 50), Err(ParseError::UnexpectedBinary));
    assert_eq!(Decoder::default().text("4{}", 50), Err(ParseError::ServerOnly));
    assert_eq!(Decoder::default().text("2[\"long\"]", 8), Err(ParseError::TooLarge));
    let mut decoder = waiting(20);
    assert_eq!(decoder.binary(Cow::Borrowed(&[0; 12]), 20), Ok(None));
    assert_eq!(decoder.binary(Cow::Borrowed(&[0]), 20), Err(ParseError::TooLarge));
}

#[test]
fn an_idle_decoder_is_a_pointer() {
    assert!(size_of::<Decoder>() <= 16);
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        namespace in "/[a-z0-9?={}-]{0,8}",
        event: String,
        numbers in prop::collection::vec(any::<u32>(), 0..4),
        ack: Option<u64>,
        attachments in 0..=MAX_ATTACHMENTS,
        offset in prop::option::of("[a-zA-Z0-9.]{1,8}"),
    ) {
        prop_assume!(!RESERVED_EVENTS.contains(&event.as_str()));
        let arguments = numbers.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let mut text = Vec::new();
        let offset = offset.as_deref();
        Outbound::Event { namespace: &namespace, event: &event, arguments: arguments.as_bytes(), ack, attachments, offset }.write(&mut text);
        let packet = parse(std::str::from_utf8(&text).expect("UTF-8")).expect("our own packet");
        prop_assert_eq!(&packet.namespace, namespace.as_str());
        prop_assert_eq!((packet.ack, packet.attachments), (ack, attachments));
        let read = packet.event().expect("an event");
        prop_assert_eq!(&read.name, event.as_str());
        let mut expected: Vec<String> = numbers.iter().map(u32::to_string).collect();
        expected.extend(offset.map(|offset| format!("\"{offset}\"")));
        prop_assert_eq!(read.iter().map(str::to_owned).collect::<Vec<_>>(), expected);

        text.clear();
        let id = ack.unwrap_or_default();
        Outbound::Ack { namespace: &namespace, ack: id, arguments: arguments.as_bytes(), attachments }.write(&mut text);
        let packet = parse(std::str::from_utf8(&text).expect("UTF-8")).expect("our own packet");
        prop_assert_eq!((packet.ack, packet.attachments), (Some(id), attachments));
        prop_assert_eq!(packet.ack_arguments(), Some(arguments.as_str()));
    }

    #[test]
    fn what_is_written_of_namespaces_is_read(namespace in "/[a-z0-9?={}-]{0,8}", sid: String, pid: Option<String>, message: String, data: Option<u32>) {
        let read = |outbound: Outbound<'_>| {
            let mut text = Vec::new();
            outbound.write(&mut text);
            let text = String::from_utf8(text).expect("UTF-8");
            let packet = parse(&text).expect("our own packet").into_owned();
            assert_eq!((&*packet.namespace, packet.ack, packet.attachments), (namespace.as_str(), None, 0));
            let data = packet.data.map(|data| serde_json::from_str::<serde_json::Value>(&data).expect("JSON"));
            (packet.kind, data)
        };
        let (kind, entered) = read(Outbound::Connect { namespace: &namespace, sid: &sid, pid: pid.as_deref() });
        let mut expected = serde_json::json!({ "sid": sid });
        if let Some(pid) = &pid {
            expected["pid"] = pid.as_str().into();
        }
        prop_assert_eq!((kind, entered), (Kind::Connect, Some(expected)));

        let text = data.map(|data| data.to_string());
        let (kind, refused) = read(Outbound::ConnectError { namespace: &namespace, message: &message, data: text.as_deref().map(str::as_bytes) });
        let mut expected = serde_json::json!({ "message": message });
        if let Some(data) = data {
            expected["data"] = data.into();
        }
        prop_assert_eq!((kind, refused), (Kind::ConnectError, Some(expected)));
        prop_assert_eq!(read(Outbound::Disconnect { namespace: &namespace }), (Kind::Disconnect, None));
    }

    #[test]
    fn no_text_panics(text in "[0-9]{0,3}-?(/[a-z],)?[0-9]{0,2}[\\[\\]{}\",:\\\\ _a1é]{0,40}") {
        if let Ok(packet) = parse(&text) {
            prop_assert!(packet.attachments <= MAX_ATTACHMENTS);
            prop_assert!(packet.event().is_none_or(|event| event.iter().count() <= text.len()));
        }
    }

    #[test]
    fn a_changed_packet_is_read_or_refused(at in 0..60_usize, byte in 0..128_u8) {
        let mut text = format!(r#"52-/chat,13["e",{PLACEHOLDER},"\u00e9"]"#).into_bytes();
        let at = at % text.len();
        text[at] = byte;
        let text = String::from_utf8(text).expect("ASCII");
        let mut decoder = Decoder::default();
        if decoder.text(&text, 1000) == Ok(None) {
            let packet = &decoder.waiting.as_ref().expect("it waits").packet;
            prop_assert!((1..=MAX_ATTACHMENTS).contains(&packet.attachments));
        }
    }
}
