//! What members say, byte for byte as Node members say it.

use super::*;

fn scope(rooms: &[&str], except: &[&str]) -> Scope {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Scope { rooms: owned(rooms), except: owned(except) }
}

fn decoded(json: &str) -> Decoded {
    Decoded { json: json.into(), attachments: Vec::new() }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// What Node's adapter wrote (8.3.0), and `socket.io-redis` (6.1.1).
#[test]
fn requests_are_what_node_members_write() {
    let check = |text: &str, uid: Option<&str>, id: Option<&str>, request: Request| {
        let asked = Asked { uid: uid.map(str::to_owned), id: id.map(str::to_owned), request };
        let message = asked.message("/").expect("JSON");
        assert_eq!(String::from_utf8_lossy(&message), text);
        assert_eq!(read(&message), Ok(Some(asked)));
    };
    check(
        r#"{"uid":"kuNcMG","type":2,"opts":{"rooms":["room1"],"except":[]},"rooms":["x","y"]}"#,
        Some("kuNcMG"),
        None,
        Request::Join { who: Who::Scope(scope(&["room1"], &[])), rooms: owned(&["x", "y"]) },
    );
    check(
        r#"{"type":3,"opts":{"rooms":[],"except":["a"]},"rooms":["z"]}"#,
        None,
        None,
        Request::Leave { who: Who::Scope(scope(&[], &["a"])), rooms: owned(&["z"]) },
    );
    check(
        r#"{"uid":"kuNcMG","type":4,"opts":{"rooms":["room2"],"except":[]},"close":true}"#,
        Some("kuNcMG"),
        None,
        Request::Disconnect { who: Who::Scope(scope(&["room2"], &[])), close: true },
    );
    check(
        r#"{"uid":"kuNcMG","requestId":"4p1Hav","type":5,"opts":{"rooms":["room1"],"except":[]}}"#,
        Some("kuNcMG"),
        Some("4p1Hav"),
        Request::Fetch { scope: scope(&["room1"], &[]), peers_only: false },
    );
    check(
        r#"{"uid":"kuNcMG","requestId":"4p1Hav","type":5,"opts":{"rooms":[],"except":[]},"peersOnly":true}"#,
        Some("kuNcMG"),
        Some("4p1Hav"),
        Request::Fetch { scope: Scope::default(), peers_only: true },
    );
    check(r#"{"uid":"kuNcMG","requestId":"WBWyL4","type":1}"#, Some("kuNcMG"), Some("WBWyL4"), Request::AllRooms);
    check(
        r#"{"requestId":"gonjnJ","type":0,"rooms":[]}"#,
        None,
        Some("gonjnJ"),
        Request::Sockets { rooms: owned(&[]) },
    );
    check(
        r#"{"uid":"kuNcMG","type":6,"data":["sse",1,{"a":2}]}"#,
        Some("kuNcMG"),
        None,
        Request::ServerSideEmit { event: "sse".to_owned(), arguments: decoded(r#"1,{"a":2}"#) },
    );
    check(
        r#"{"requestId":"J93Chg","type":2,"sid":"NYBa","room":"rj"}"#,
        None,
        Some("J93Chg"),
        Request::Join { who: Who::Socket("NYBa".to_owned()), rooms: owned(&["rj"]) },
    );
}

#[test]
fn an_event_that_is_to_be_answered_is_read_as_node_writes_it() {
    let hex = "85a3756964a66b754e634d47a9726571756573744964a64f3859697a74a47479706507a67061636b657483a47479706502a46461746192a77769746861636ba171a36e7370a12fa46f70747383a5726f6f6d7390a665786365707490a5666c61677381a774696d656f7574cd03e8";
    let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("two digits");
    let message: Bytes = (0..hex.len()).step_by(2).map(digits).collect();
    let asked = read(&message).expect("sound").expect("known");
    let arguments = Decoded { json: br#""q""#.to_vec(), attachments: Vec::new() };
    let request = Request::Broadcast { event: "withack".to_owned(), arguments, scope: Scope::default() };
    assert_eq!(asked, Asked { uid: Some("kuNcMG".to_owned()), id: Some("O8Yizt".to_owned()), request });
    assert_eq!(read(&asked.message("/").expect("JSON")), Ok(Some(asked)));
}

#[test]
fn answers_are_what_node_members_write() {
    let check = |text: &str, id: &str, answer: Answer| {
        let message = answer.message(id).expect("JSON");
        assert_eq!(String::from_utf8_lossy(&message), text);
        assert_eq!(read_answer(&message), Ok((id.to_owned(), answer)));
    };
    check(r#"{"requestId":"WBWyL4","rooms":["a","b"]}"#, "WBWyL4", Answer::Rooms(owned(&["a", "b"])));
    check(r#"{"requestId":"gonjnJ","sockets":["NYBa.."]}"#, "gonjnJ", Answer::SocketIds(owned(&["NYBa.."])));
    check(r#"{"requestId":"a","sockets":[{"id":"s"}]}"#, "a", Answer::Sockets(owned(&[r#"{"id":"s"}"#])));
    check(r#"{"requestId":"a"}"#, "a", Answer::Done);
    check(r#"{"type":6,"requestId":"lo8Hir","data":{"x":7}}"#, "lo8Hir", Answer::ServerSide(decoded(r#"{"x":7}"#)));
    check(r#"{"type":8,"requestId":"O8Yizt","clientCount":1}"#, "O8Yizt", Answer::ClientCount(1));
    let hex = "83a47479706509a9726571756573744964a64f3859697a74a67061636b6574ab61636b2d66726f6d2d6362";
    let digits = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("two digits");
    let message: Bytes = (0..hex.len()).step_by(2).map(digits).collect();
    let answer = Answer::Ack(Decoded { json: br#""ack-from-cb""#.to_vec(), attachments: Vec::new() });
    assert_eq!(answer.message("O8Yizt").expect("JSON"), message);
    assert_eq!(read_answer(&message), Ok(("O8Yizt".to_owned(), answer)));
}

#[test]
fn rooms_that_are_numbers_are_taken_for_their_digits() {
    let message = Bytes::from_static(br#"{"type":2,"opts":{"rooms":[42,"a"]},"rooms":[7]}"#);
    let who = Who::Scope(scope(&["42", "a"], &[]));
    let request = Request::Join { who, rooms: owned(&["7"]) };
    assert_eq!(read(&message), Ok(Some(Asked { uid: None, id: None, request })));
}

#[test]
fn what_is_not_known_is_left_alone_and_what_is_broken_refused() {
    assert_eq!(read(&Bytes::from_static(br#"{"type":99,"requestId":"a"}"#)), Ok(None));
    for broken in ["{", "{}", r#"{"type":2}"#, r#"{"type":6}"#, r#"{"type":"x"}"#, "", "[1]", "\u{0}"] {
        assert!(read(&Bytes::from_static(broken.as_bytes())).is_err(), "{broken}");
    }
    for broken in ["{", "{}", r#"{"requestId":"a","type":9}"#, "", "[]"] {
        assert!(read_answer(&Bytes::from_static(broken.as_bytes())).is_err(), "{broken}");
    }
}
