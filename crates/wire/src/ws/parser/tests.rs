//! Frames as clients send them, cut in every way a network can cut them.

use super::*;
use proptest::prelude::*;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const MAX: usize = 100_000;

/// A client's frame: first byte, payload, and a mask.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    super::super::frame_header(Opcode::Text, payload.len(), &mut out);
    out[0] = first;
    out[1] |= 0x80;
    out.extend_from_slice(&MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

/// Feeds the bytes in pieces of `piece_len` and notes what comes, a violation last.
fn run(bytes: &[u8], piece_len: usize, max_message: usize) -> Vec<String> {
    run_with(Parser::default(), bytes, piece_len, max_message)
}

fn run_with(mut parser: Parser, bytes: &[u8], piece_len: usize, max_message: usize) -> Vec<String> {
    let mut feed = Feed { max_message, inflater: &mut Inflater::default() };
    let mut seen = Vec::new();
    for piece in bytes.chunks(piece_len) {
        let mut piece = piece.to_vec();
        let fed = parser.feed(&mut piece, &mut feed, &mut |incoming| {
            seen.push(told(incoming));
            Flow::Continue
        });
        match fed {
            Ok(taken) => assert_eq!(taken, piece.len(), "everything is taken unless told to stop"),
            Err(violation) => {
                seen.push(format!("{} {}", violation.code, violation.reason));
                return seen;
            }
        }
    }
    seen
}

fn told(incoming: Incoming<'_>) -> String {
    match incoming {
        Incoming::Text(text) => format!("text {text}"),
        Incoming::Binary(data) => format!("binary {data:?}"),
        Incoming::Ping(data) => format!("ping {}", data.escape_ascii()),
        Incoming::Pong(data) => format!("pong {}", data.escape_ascii()),
        Incoming::Close { code, reason } => {
            format!("close {} {reason}", code.map_or("-".to_owned(), |code| code.to_string()))
        }
    }
}

/// Checks what comes of these frames, whole and in pieces of every small length.
fn check(frames: &[Vec<u8>], expected: &[&str]) {
    let bytes = frames.concat();
    for piece_len in [bytes.len().max(1), 1, 2, 3, 5, 7, 13] {
        assert_eq!(
            run(&bytes, piece_len, MAX),
            expected,
            "in pieces of {piece_len}: {:02x?}",
            &bytes[..bytes.len().min(40)]
        );
    }
}

#[test]
fn whole_messages_come_as_they_were_sent() {
    check(&[frame(0x81, "grüße".as_bytes()), frame(0x82, &[0, 1, 255])], &["text grüße", "binary [0, 1, 255]"]);
    check(&[frame(0x81, b""), frame(0x82, b"")], &["text ", "binary []"]);
    check(&[frame(0x89, b"hi"), frame(0x8a, b""), frame(0x81, b"x")], &["ping hi", "pong ", "text x"]);
    let long = "x".repeat(70_000);
    check(
        &[frame(0x81, &long.as_bytes()[..126]), frame(0x81, long.as_bytes())],
        &[&format!("text {}", &long[..126]), &format!("text {long}")],
    );
}

#[test]
fn fragments_become_one_message_and_control_frames_may_come_between() {
    check(
        &[frame(0x01, b"a"), frame(0x00, b""), frame(0x89, b"p"), frame(0x80, b"b"), frame(0x81, b"c")],
        &["ping p", "text ab", "text c"],
    );
    check(&[frame(0x02, &[1]), frame(0x80, &[2])], &["binary [1, 2]"]);
    check(&[frame(0x01, "é".as_bytes().split_at(1).0), frame(0x80, "é".as_bytes().split_at(1).1)], &["text é"]);
    check(&[frame(0x01, b""), frame(0x80, b"")], &["text "]);
}

#[test]
fn a_close_frame_ends_it_all() {
    check(&[frame(0x88, b""), frame(0x81, b"late")], &["close - "]);
    check(&[frame(0x88, b"\x03\xe8bye"), vec![0xff; 9]], &["close 1000 bye"]);
    check(&[frame(0x01, b"unfinished"), frame(0x88, b"\x0f\xa0")], &["close 4000 "]);
    for code in [1000_u16, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999] {
        check(&[frame(0x88, &code.to_be_bytes())], &[&format!("close {code} ")]);
    }
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        check(&[frame(0x88, &code.to_be_bytes())], &["1002 close code not allowed"]);
    }
    check(&[frame(0x88, b"\x03")], &["1002 close frame of one byte"]);
    check(&[frame(0x88, b"\x03\xe8\xff")], &["1007 text is not UTF-8"]);
}

#[test]
fn each_forbidden_frame_is_named() {
    for first in [0xc1, 0xa1, 0x91] {
        check(&[frame(first, b"x")], &["1002 reserved bit set"]);
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        check(&[frame(0x80 | opcode, b"")], &["1002 reserved opcode"]);
    }
    check(&[vec![0x81, 1, b'x']], &["1002 frame not masked"]);
    check(&[frame(0x09, b"")], &["1002 control frame fragmented"]);
    check(&[frame(0x89, &[0; 126])], &["1002 control frame too long"]);
    check(&[frame(0x80, b"x")], &["1002 continuation of nothing"]);
    check(&[frame(0x01, b"a"), frame(0x81, b"b")], &["1002 new message within a fragmented one"]);
    check(&[vec![0x81, 0xfe, 0, 125, 0, 0, 0, 0]], &["1002 length not in the fewest bytes"]);
    check(&[vec![0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0]], &["1002 length not in the fewest bytes"]);
    check(&[vec![0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]], &["1002 length out of range"]);
}

#[test]
fn text_is_refused_at_its_first_bad_byte() {
    check(&[frame(0x81, b"\xff")], &["1007 text is not UTF-8"]);
    check(&[frame(0x81, "é".as_bytes().split_at(1).0)], &["1007 text is not UTF-8"]);
    check(&[frame(0x01, b"a\xed\xa0\x80"), frame(0x89, b"")], &["1007 text is not UTF-8"]);
    check(&[frame(0x01, b"\xc3"), frame(0x80, b"a")], &["1007 text is not UTF-8"]);
    let unfinished = frame(0x81, b"a\xff and much more that never comes");
    assert_eq!(run(&unfinished[..9], 1, MAX), ["1007 text is not UTF-8"]);
}

#[test]
fn a_message_over_the_bound_is_refused_by_its_header() {
    let bounded = |frames: &[Vec<u8>]| run(&frames.concat(), 3, 10);
    assert_eq!(bounded(&[frame(0x82, &[1; 10])]), ["binary [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]);
    assert_eq!(bounded(&[frame(0x82, &[1; 11])[..6].to_vec()]), ["1009 message too big"]);
    assert_eq!(bounded(&[frame(0x01, b"123456"), frame(0x00, b"7890"), frame(0x80, b"")]), ["text 1234567890"]);
    assert_eq!(bounded(&[frame(0x01, b"123456"), frame(0x80, b"78901")[..6].to_vec()]), ["1009 message too big"]);
    assert_eq!(bounded(&[frame(0x89, &[b'p'; 20])]), [format!("ping {}", "p".repeat(20))]);
    let huge = [0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    assert_eq!(run(&huge, 14, usize::MAX >> 2), ["1009 message too big"]);
}

/// As [`check`], with compression agreed.
fn check_inflating(frames: &[Vec<u8>], expected: &[&str]) {
    let bytes = frames.concat();
    for piece_len in [bytes.len().max(1), 1, 2, 3, 5, 7, 13] {
        assert_eq!(run_with(Parser::inflating(), &bytes, piece_len, 100), expected, "in pieces of {piece_len}");
    }
}

#[test]
fn compressed_messages_come_inflated_whole_or_in_fragments() {
    const HELLO: [u8; 7] = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    check_inflating(&[frame(0xc1, &HELLO), frame(0xc2, &HELLO)], &["text Hello", "binary [72, 101, 108, 108, 111]"]);
    check_inflating(&[frame(0x41, &HELLO[..3]), frame(0x80, &HELLO[3..])], &["text Hello"]);
    check_inflating(
        &[frame(0x41, b""), frame(0x89, b"p"), frame(0x00, &HELLO), frame(0x80, b""), frame(0x81, b"plain")],
        &["ping p", "text Hello", "text plain"],
    );
    check_inflating(&[frame(0xc1, &[0x00])], &["text "]);
    check(&[frame(0xc1, &HELLO)], &["1002 reserved bit set"]);
}

#[test]
fn the_mark_of_compression_stands_in_the_first_frame_of_a_message_alone() {
    check_inflating(&[frame(0x01, b"a"), frame(0xc0, b"b")], &["1002 reserved bit set"]);
    check_inflating(&[frame(0x41, &[0xf2]), frame(0xc0, &[0])], &["1002 reserved bit set"]);
    for first in [0xc8, 0xc9, 0xca, 0xa1, 0x91, 0xc3] {
        check_inflating(&[frame(first, b"")], &["1002 reserved bit set"]);
    }
}

#[test]
fn a_message_is_bounded_by_what_it_inflates_to() {
    let mut deflater = super::super::Deflater::default();
    let mut compressed = |len: usize| {
        let ours = deflater.frames(&super::super::text_frame(&vec![b'a'; len]), 1);
        frame(ours[0], &ours[2..])
    };
    check_inflating(&[compressed(100)], &[&format!("text {}", "a".repeat(100))]);
    check_inflating(&[compressed(101)], &["1009 message too big"]);
    check_inflating(&[compressed(10_000)], &["1009 message too big"]);
    // One whose compressed form is over any bound that a message within it can need.
    check_inflating(&[frame(0x41, &[0; 100]), frame(0x00, &[0; 100])[..6].to_vec()], &["1009 message too big"]);
}

#[test]
fn what_inflates_to_no_text_is_refused() {
    check_inflating(&[frame(0xc1, &[0x00, 0x01, 0x00, 0xfe, 0xff, 0xff, 0x00])], &["1007 text is not UTF-8"]);
    check_inflating(&[frame(0xc1, b"hello")], &["1007 compressed data is damaged"]);
}

#[test]
fn after_a_stop_the_rest_is_as_it_came() {
    let second = frame(0x81, b"second");
    let mut input = [frame(0x81, b"first"), second.clone()].concat();
    let mut parser = Parser::default();
    let mut feed = Feed { max_message: MAX, inflater: &mut Inflater::default() };
    let taken = parser.feed(&mut input, &mut feed, &mut |_| Flow::Stop).expect("good frames");
    assert_eq!(&input[taken..], second);
    assert_eq!(run(&input[taken..], MAX, MAX), ["text second"], "another owner's parser can go on");
}

#[test]
fn an_idle_parser_holds_no_memory() {
    assert!(size_of::<Parser>() <= 48);
    let mut parser = Parser::default();
    for byte in [frame(0x01, b"ab"), frame(0x80, b"cd"), frame(0x89, b"ef")].concat() {
        let mut feed = Feed { max_message: MAX, inflater: &mut Inflater::default() };
        parser.feed(&mut [byte], &mut feed, &mut |_| Flow::Continue).expect("good frames");
    }
    assert!(matches!(parser.state, State::Idle));
}

proptest! {
    #[test]
    fn what_a_client_frames_arrives(messages in prop::collection::vec((any::<bool>(), ".{0,300}", 1..4_usize), 1..5), piece_len in 1..400_usize) {
        let mut frames = Vec::new();
        let mut expected = Vec::new();
        for (text, payload, fragments) in &messages {
            let payload = payload.as_bytes();
            let cut = payload.len().div_ceil(*fragments).max(1);
            let pieces: Vec<&[u8]> = if payload.is_empty() { vec![&[]] } else { payload.chunks(cut).collect() };
            for (index, piece) in pieces.iter().enumerate() {
                let opcode = match (index, text) { (0, true) => 1, (0, false) => 2, _ => 0 };
                let last = if index + 1 == pieces.len() { 0x80 } else { 0 };
                frames.push(frame(last | opcode, piece));
            }
            expected.push(if *text { told(Incoming::Text(std::str::from_utf8(payload).expect("UTF-8"))) } else { told(Incoming::Binary(payload)) });
        }
        prop_assert_eq!(run(&frames.concat(), piece_len, MAX), expected);
    }

    #[test]
    fn changed_bytes_give_the_same_however_they_are_cut(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4), piece_len in 1..40_usize) {
        let mut bytes = [frame(0x01, "grü".as_bytes()), frame(0x89, b"p"), frame(0x80, "ße".as_bytes()), frame(0x82, &[7; 130]), frame(0x88, b"\x03\xe8")].concat();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        prop_assert_eq!(run(&bytes, piece_len, 500), run(&bytes, bytes.len(), 500));
    }

    #[test]
    fn a_control_frame_of_ours_is_read_as_it_was_written(code in prop_oneof![1000..=1003_u16, 3000..=4999_u16], reason: String, payload in prop::collection::vec(any::<u8>(), 0..=125)) {
        use super::super::{close_frame, ping_frame, pong_frame};
        let read = |ours: &[u8]| run(&frame(ours[0], &ours[2..]), MAX, MAX);
        let seen = read(&close_frame(Some(code), &reason));
        let cut = seen[0].strip_prefix(&format!("close {code} ")).expect("a close frame with this code");
        prop_assert!(reason.starts_with(cut) && (cut.len() == reason.len() || cut.len() > 119), "{cut}");
        prop_assert_eq!(read(&close_frame(None, &reason)), ["close - "]);
        prop_assert_eq!(read(&ping_frame(&payload)), [told(Incoming::Ping(&payload))]);
        prop_assert_eq!(read(&pong_frame(&payload)), [told(Incoming::Pong(&payload))]);
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), piece_len in 1..30_usize) {
        prop_assert!(run(&bytes, piece_len, 1000).len() <= bytes.len() + 1);
    }

    #[test]
    fn the_mask_does_not_care_for_cuts(payload in prop::collection::vec(any::<u8>(), 0..70), cut: prop::sample::Index) {
        let mut pieces = payload.clone();
        let cut = cut.index(payload.len() + 1);
        let (head, tail) = pieces.split_at_mut(cut);
        unmask(head, MASK, 0);
        unmask(tail, MASK, cut as u64);
        let expected: Vec<u8> = payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        prop_assert_eq!(pieces, expected);
    }
}
