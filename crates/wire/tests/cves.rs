//! What other Socket.IO servers fell over, each by its name: none of it may do anything here.

use std::borrow::Cow;

use wire::engine::{self, Context, Output, Revision, Session, Settings};
use wire::socketio::{self, Decoder, MAX_ATTACHMENTS, ParseError};
use wire::ws::{self, Feed, Flow, Inflater, Parser};

const MAX_BYTES: usize = 10_000;

fn refused(text: &str) -> ParseError {
    Decoder::default().text(text, MAX_BYTES).expect_err(text)
}

/// A packet that announces any number of attachments made the parser keep whatever came after it.
#[test]
fn cve_2026_33151_attachments_without_number_are_refused_before_one_is_kept() {
    for count in ["11", "1000000", "4294967297", "18446744073709551617", &"9".repeat(1_000)] {
        let error = refused(&format!(r#"5{count}-["e",{{"_placeholder":true,"num":0}}]"#));
        assert_eq!(error, ParseError::TooManyAttachments, "{count}");
    }
    let packet = format!(r#"5{MAX_ATTACHMENTS}-["e",{{"_placeholder":true,"num":0}}]"#);
    assert_eq!(Decoder::default().text(&packet, MAX_BYTES), Ok(None), "what is allowed still is");
}

/// Attachments within their number, but without a bound on their bytes; and ones that never come to an end.
#[test]
fn cve_2026_69185_attachments_count_together_with_their_packet() {
    let mut decoder = Decoder::default();
    let packet =
        r#"53-["e",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1},{"_placeholder":true,"num":2}]"#;
    assert_eq!(decoder.text(packet, MAX_BYTES), Ok(None));
    let half = vec![0; MAX_BYTES / 2];
    assert_eq!(decoder.binary(Cow::Borrowed(&half), MAX_BYTES), Ok(None));
    assert_eq!(decoder.binary(Cow::Borrowed(&half), MAX_BYTES), Err(ParseError::TooLarge));
    assert_eq!(
        decoder.binary(Cow::Borrowed(&half), MAX_BYTES),
        Err(ParseError::UnexpectedBinary),
        "nothing of the packet is kept after it was refused"
    );

    let mut decoder = Decoder::default();
    assert_eq!(decoder.text(packet, MAX_BYTES), Ok(None));
    assert_eq!(decoder.text(packet, MAX_BYTES), Err(ParseError::AttachmentMissing), "one packet waits at a time");
}

/// What counts is what a message inflates to, not what it takes on the wire.
#[test]
fn cve_2026_69185_compressed_attachments_count_as_what_they_inflate_to() {
    let bomb = ws::Deflater::default().frames(&ws::binary_frame(&vec![0; MAX_BYTES + 1]), 1);
    assert!(bomb.len() < 100);
    let mut masked = vec![bomb[0], bomb[1] | 0x80, 0, 0, 0, 0];
    masked.extend_from_slice(&bomb[2..]);
    let mut feed = Feed { max_message: MAX_BYTES, inflater: &mut Inflater::default() };
    let fed = Parser::inflating().feed(&mut masked, &mut feed, &mut |_| Flow::Continue);
    assert_eq!(fed.map_err(|violation| violation.code), Err(1009));
}

/// Packets whose payload was no array, or an array without a name, threw where nobody caught it.
#[test]
fn cve_2023_32695_malformed_packets_are_errors() {
    for text in [
        "2[]",
        "2{}",
        "2[null]",
        "2[{}]",
        "2[[]]",
        "2[true]",
        r#"2{"toString":"x"}"#,
        r#"2"name""#,
        "2[",
        "2]",
        "3{}",
        "51-[]",
        r#"51-{"_placeholder":true,"num":0}"#,
        "0[]",
        "0null",
        r#"1{"a":1}"#,
        r#"2["connect"]"#,
        r#"2["__proto__""#,
    ] {
        let error = refused(text);
        assert!(!error.to_string().is_empty(), "{text}");
    }
}

/// A frame or packet at an odd moment ended the process: here it ends its own session, and the session is forgotten.
#[test]
fn cve_2022_41940_odd_packets_end_their_own_session_alone() {
    let settings = Settings::default();
    for text in ["", "9", "x", "é", "\u{1e}", "2probe", "2", "4\u{1e}4"] {
        let mut out = Vec::new();
        let mut context = Context { settings: &settings, now_ms: 0, out: &mut out };
        let mut session = Session::websocket(&settings, Revision::Four, 0);
        let received = session.websocket_text(text, &mut context).is_some();
        let ended = session.phase() == engine::Phase::Closed;
        assert!(received || ended, "{text:?}");
        assert_eq!(out.contains(&Output::Forget), ended, "{text:?}");
    }
    for first in [0x00, 0x80, 0x83, 0xb0, 0xff] {
        let mut feed = Feed { max_message: MAX_BYTES, inflater: &mut Inflater::default() };
        let fed = Parser::default().feed(&mut [first, 0x80, 0, 0, 0, 0], &mut feed, &mut |_| Flow::Continue);
        assert_eq!(fed.map_err(|violation| violation.code), Err(1002), "{first:#x}");
    }
}

/// A placeholder whose number was a name, or out of range, was replaced by whatever that name gave.
#[test]
fn cve_2022_2421_a_placeholder_is_the_number_of_an_attachment_or_refused() {
    for number in [r#""splice""#, r#""0""#, "1", "-1", "0.5", "1e9", "null", "[0]", "{}", "true"] {
        let error = refused(&format!(r#"51-["e",{{"_placeholder":true,"num":{number}}}]"#));
        assert_eq!(error, ParseError::Placeholder, "{number}");
    }
    assert_eq!(refused(r#"51-["e",{"_placeholder":true}]"#), ParseError::Placeholder);
    // Without attachments, and where it is not `true`, it is an object like any other.
    assert!(socketio::parse(r#"2["e",{"_placeholder":true,"num":"splice"}]"#).is_ok());
    assert!(socketio::parse(r#"51-["e",{"_placeholder":1,"num":9},{"_placeholder":true,"num":0}]"#).is_ok());
}
