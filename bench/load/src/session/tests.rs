use super::*;
use crate::check::{Faults, PLAIN_SHAPE};
use crate::dialect::Stamper;

const WHO: Who<'_> = Who { index: 0, token: Some("a.b.c") };
const HEAD: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";

/// What a benchmark server sends to a member of a room, in the dialect's words.
fn event(dialect: Dialect, room: u32, sequence: u32) -> Vec<u8> {
    let data = Stamper { frame_bytes: 150 }.stamp(room, sequence, 5);
    let message = match dialect {
        Dialect::SocketIo | Dialect::Polling | Dialect::Bare => {
            format!(r#"42["message",{{"room":"r{room}","data":"{data}"}}]"#)
        }
        Dialect::HomeTrip => format!(
            r#"42["new_message",{{"conversationId":"r{room}","senderId":"load","message":{{"content":"{data}"}}}}]"#
        ),
        Dialect::Plain => format!(r#"{{"type":"message","room":"r{room}","data":"{data}"}}"#),
        Dialect::Centrifuge => {
            format!(r#"{{"push":{{"channel":"r{room}","pub":{{"data":{{"room":"r{room}","data":"{data}"}}}}}}}}"#)
        }
    };
    text(&message)
}

fn text(message: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    frames::write_unmasked(&mut frame, frames::TEXT, message.as_bytes());
    frame
}

/// What a client hears before it is in.
fn welcome(dialect: Dialect) -> Vec<u8> {
    let words: &[&str] = match dialect {
        Dialect::SocketIo | Dialect::HomeTrip | Dialect::Polling => {
            &[r#"0{"sid":"x","pingInterval":25000}"#, r#"40{"sid":"y"}"#, r#"42["connected",{"userId":"u"}]"#]
        }
        Dialect::Plain => &[r#"{"type":"connected","userId":"u"}"#],
        Dialect::Centrifuge => &[r#"{"id":1,"connect":{"client":"x","ping":25,"pong":true}}"#],
        Dialect::Bare => &[],
    };
    words.iter().fold(HEAD.as_bytes().to_vec(), |mut bytes, words| {
        bytes.extend(text(words));
        bytes
    })
}

const DIALECTS: [Dialect; 5] =
    [Dialect::SocketIo, Dialect::HomeTrip, Dialect::Plain, Dialect::Centrifuge, Dialect::Bare];

/// A client in room 0, to which five events are sent, gets these (room, sequence), in pieces of every size: the faults are always these.
fn check(received: &[(u32, u32)], expected: Faults) {
    for dialect in DIALECTS {
        let events: Vec<u8> = received.iter().flat_map(|(room, sequence)| event(dialect, *room, *sequence)).collect();
        for piece in (1..40).chain([events.len().max(1)]) {
            let mut common = Common::new(dialect, Checker::new(dialect.shape()));
            let mut session = Session::default();
            session.take(WHO, &welcome(dialect), &mut common, 0).expect("the client gets in");
            assert_eq!(common.news, [(0, News::Entered)], "{dialect:?}");
            common.checker.join(&mut session.memberships, 0);
            for _ in 0..5 {
                common.checker.next_of(0);
            }
            for bytes in events.chunks(piece) {
                session.take(WHO, bytes, &mut common, 7).expect("the stream is sound");
            }
            common.checker.count_lost(&session.memberships);
            assert_eq!(common.checker.faults, expected, "{dialect:?} in pieces of {piece}: {received:?}");
            let each_once = received.len() as u64 - expected.doubled - expected.wrong_room - expected.garbled;
            assert_eq!(common.checker.received, each_once, "{dialect:?} in pieces of {piece}: {received:?}");
        }
    }
}

const IN_ORDER: [(u32, u32); 5] = [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4)];

#[test]
fn what_comes_once_and_in_order_is_no_fault() {
    check(&IN_ORDER, Faults::default());
}

#[test]
fn what_never_comes_is_lost_at_the_end_in_the_middle_and_altogether() {
    check(&IN_ORDER[..4], Faults { lost: 1, ..Faults::default() });
    check(&[(0, 0), (0, 1), (0, 4)], Faults { lost: 2, ..Faults::default() });
    check(&[], Faults { lost: 5, ..Faults::default() });
}

#[test]
fn what_comes_again_is_doubled_at_once_or_later() {
    check(&[(0, 0), (0, 0), (0, 1), (0, 2), (0, 3), (0, 4)], Faults { doubled: 1, ..Faults::default() });
    check(&[(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (0, 2)], Faults { doubled: 1, ..Faults::default() });
    check(&[(0, 0), (0, 2), (0, 1), (0, 1), (0, 3), (0, 4)], Faults { doubled: 1, disordered: 1, ..Faults::default() });
}

#[test]
fn what_comes_after_a_later_one_is_disordered_and_not_lost() {
    check(&[(0, 0), (0, 2), (0, 1), (0, 3), (0, 4)], Faults { disordered: 1, ..Faults::default() });
    check(&[(0, 4), (0, 3), (0, 2), (0, 1), (0, 0)], Faults { disordered: 4, ..Faults::default() });
    check(&[(0, 3), (0, 1), (0, 4)], Faults { disordered: 1, lost: 2, ..Faults::default() });
}

#[test]
fn what_is_meant_for_another_room_is_a_fault_of_its_own() {
    let received: Vec<_> = IN_ORDER.iter().copied().chain([(7, 0)]).collect();
    check(&received, Faults { wrong_room: 1, ..Faults::default() });
}

#[test]
fn what_nobody_has_said_is_no_event() {
    let received: Vec<_> = IN_ORDER.iter().copied().chain([(0, 5)]).collect();
    check(&received, Faults { garbled: 1, ..Faults::default() });
}

#[test]
fn an_event_is_not_taken_for_one_that_shares_its_place() {
    let mut common = Common::new(Dialect::SocketIo, Checker::new(PLAIN_SHAPE));
    let mut hears = |room: u32, said_before: u32, events: &[(u32, u32)]| {
        let mut session = Session { stage: Stage::In, ..Session::default() };
        (0..said_before).for_each(|_| _ = common.checker.next_of(room));
        common.checker.join(&mut session.memberships, room);
        (0..300).for_each(|_| _ = common.checker.next_of(room));
        for (room, sequence) in events {
            let event = event(Dialect::SocketIo, *room, *sequence);
            session.take(WHO, &event, &mut common, 7).expect("the stream is sound");
        }
        std::mem::take(&mut common.checker.faults)
    };
    assert_eq!(hears(0, 0, &[(0, 0)]), Faults::default());
    assert_eq!(hears(0, 212, &[(0, 0)]), Faults { doubled: 1, ..Faults::default() }, "for the 512th of its room");
    assert_eq!(hears(1, 219, &[(0, 0)]), Faults { wrong_room: 1, ..Faults::default() }, "for one of another room");
}

#[test]
fn a_message_that_names_two_rooms_is_in_the_wrong_one() {
    let mut common = Common::new(Dialect::SocketIo, Checker::new(PLAIN_SHAPE));
    let mut session = Session { stage: Stage::In, ..Session::default() };
    common.checker.join(&mut session.memberships, 0);
    common.checker.next_of(0);
    let message = text(r#"42["message",{"room":"r1","data":"r0:0:5:x"}]"#);
    session.take(WHO, &message, &mut common, 0).expect("the frame is sound");
    assert_eq!(common.checker.faults, Faults { wrong_room: 1, ..Faults::default() });
}

#[test]
fn pings_are_answered_and_are_no_events() {
    let mut common = Common::new(Dialect::SocketIo, Checker::new(PLAIN_SHAPE));
    let mut session = Session { stage: Stage::In, ..Session::default() };
    session.take(WHO, &text("2"), &mut common, 0).expect("a ping is sound");
    assert_eq!(common.out, [0x81, 0x81, 0, 0, 0, 0, b'3']);
    common.out.clear();
    session.take(WHO, &[0x89, 2, b'h', b'i'], &mut common, 0).expect("a ping is sound");
    assert_eq!(common.out, [0x8a, 0x82, 0, 0, 0, 0, b'h', b'i']);
    assert_eq!((common.checker.faults, common.checker.received), (Faults::default(), 0));
}

#[test]
fn a_client_says_who_it_is_when_the_server_listens() {
    let mut common = Common::new(Dialect::SocketIo, Checker::new(PLAIN_SHAPE));
    let mut session = Session::default();
    session.take(WHO, HEAD.as_bytes(), &mut common, 0).expect("a handshake");
    assert!(common.out.is_empty());
    session.take(WHO, &text(r#"0{"sid":"x"}"#), &mut common, 0).expect("an open packet");
    let mut expected = Vec::new();
    frames::write_masked(&mut expected, frames::TEXT, br#"40{"token":"a.b.c"}"#);
    assert_eq!(common.out, expected);
}

#[test]
fn refusals_and_ends_are_told_apart() {
    let end = |before: &[u8], bytes: &[u8]| {
        let mut common = Common::new(Dialect::SocketIo, Checker::new(PLAIN_SHAPE));
        let mut session = Session::default();
        session.take(WHO, before, &mut common, 0).expect("the beginning is sound");
        session.take(WHO, bytes, &mut common, 0).expect_err("it ends")
    };
    let status = "the handshake was answered with `HTTP/1.1 503 Busy`";
    assert_eq!(end(b"", b"HTTP/1.1 503 Busy\r\n\r\n"), End::Refused(status.into()));
    let refused = r#"44{"message":"no"}"#;
    assert_eq!(end(HEAD.as_bytes(), &text(refused)), End::Refused(refused.into()));
    let close = [&[0x88, 5, 0x0f, 0xa8][..], b"bye"].concat();
    assert_eq!(end(&welcome(Dialect::SocketIo), &close), End::Closed("closed with 4008 bye".into()));
    assert!(matches!(end(HEAD.as_bytes(), &text("what?")), End::Garbled(_)));
}

#[test]
fn frames_of_every_length_are_as_long_as_asked_and_come_whole() {
    for frame_bytes in [102, 127, 128, 129, 130, 131, 1000, 65_000] {
        let data = Stamper { frame_bytes }.stamp(0, 0, 5);
        let frame = text(&format!(r#"42["message",{{"room":"r0","data":"{data}"}}]"#));
        // No frame is 128 or 129 bytes long: its head grows by two when its payload passes 125.
        let expected = if matches!(frame_bytes, 128 | 129) { 127 } else { frame_bytes };
        assert_eq!(frame.len(), expected);
        let mut common = Common::new(Dialect::SocketIo, Checker::new(PLAIN_SHAPE));
        let mut session = Session { stage: Stage::In, ..Session::default() };
        common.checker.join(&mut session.memberships, 0);
        common.checker.next_of(0);
        for bytes in frame.chunks(1000) {
            session.take(WHO, bytes, &mut common, 9).expect("the frame is sound");
        }
        assert_eq!((common.checker.received, common.checker.latency.max()), (1, 4));
    }
}
