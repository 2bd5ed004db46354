use super::*;
use crate::check::{Checker, Faults, PLAIN_SHAPE};
use crate::dialect::Dialect;
use crate::session::News;

const WHO: Who<'_> = Who { index: 0, token: Some("a.b.c") };

fn target() -> Target {
    Target::resolve("http://127.0.0.1:3000", Dialect::Polling).expect("a URL")
}

fn answer_of(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

#[test]
fn packets_come_in_pieces_and_several_at_once_and_each_answer_is_followed_by_a_poll() {
    let bodies = [
        r#"0{"sid":"S1","pingInterval":25000}"#,
        "40{\"sid\":\"y\"}\u{1e}42[\"connected\",{\"userId\":\"u\"}]",
        "42[\"message\",{\"room\":\"r0\",\"data\":\"r0:0:5:x\"}]\u{1e}2\u{1e}42[\"message\",{\"room\":\"r0\",\"data\":\"r0:1:5:x\"}]",
    ];
    for piece in [1, 7, 1000] {
        let mut common = Common::new(Dialect::Polling, Checker::new(PLAIN_SHAPE));
        let (mut polling, mut session) = (Polling::default(), Session::default());
        let mut said = Vec::new();
        for (number, body) in bodies.iter().enumerate() {
            if number == 2 {
                common.checker.join(&mut session.memberships, 0);
                common.checker.next_of(0);
                common.checker.next_of(0);
            }
            for bytes in answer_of(body).chunks(piece) {
                assert_eq!(polling.next_poll(&target(), "?EIO=4"), None, "the answer is not whole");
                polling.take(Which::Main, &mut session, WHO, bytes, &mut common, 9).expect("the stream is sound");
            }
            let poll = polling.next_poll(&target(), "?EIO=4").expect("an answer is followed by a poll");
            assert!(poll.starts_with("GET /socket.io/?EIO=4&sid=S1 HTTP/1.1\r\n"), "{poll}");
            said.push(String::from_utf8(std::mem::take(&mut common.out)).expect("packets are text"));
        }
        assert_eq!(said, [r#"40{"token":"a.b.c"}"#, "", "3"]);
        assert_eq!(common.news, [(0, News::Entered)]);
        common.checker.count_lost(&session.memberships);
        assert_eq!((common.checker.faults, common.checker.received), (Faults::default(), 2));
    }
}

#[test]
fn one_post_at_a_time_takes_all_that_waits() {
    let mut common = Common::new(Dialect::Polling, Checker::new(PLAIN_SHAPE));
    let (mut polling, mut session) = (Polling::default(), Session::default());
    polling.post(b"early");
    assert!(!polling.wants_to_post(), "there is no session yet");
    let open = answer_of(r#"0{"sid":"S1"}"#);
    polling.take(Which::Main, &mut session, WHO, &open, &mut common, 0).expect("the stream is sound");
    assert!(polling.wants_to_post());
    let post = polling.next_post(&target(), "?EIO=4");
    assert!(post.starts_with(b"POST /socket.io/?EIO=4&sid=S1 HTTP/1.1\r\n") && post.ends_with(b"\r\n\r\nearly"));
    polling.post(b"one");
    polling.post(b"two");
    assert!(!polling.wants_to_post(), "the first is not answered");
    polling.take(Which::Post, &mut session, WHO, &answer_of("ok"), &mut common, 0).expect("the stream is sound");
    assert!(polling.next_post(&target(), "?EIO=4").ends_with(b"Content-Length: 7\r\n\r\none\x1etwo"));
}

#[test]
fn an_answer_that_is_no_success_ends_the_client() {
    let mut common = Common::new(Dialect::Polling, Checker::new(PLAIN_SHAPE));
    let (mut polling, mut session) = (Polling::default(), Session::default());
    let bytes = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\nno";
    let end = polling.take(Which::Main, &mut session, WHO, bytes, &mut common, 0);
    assert_eq!(end, Err(End::Refused("a request was answered with 400: no".into())));
}
