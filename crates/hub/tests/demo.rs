//! The profile `demo`, held to what its page and the quick start promise.

#![allow(clippy::unwrap_used, reason = "tests unwrap")]

mod stage;

use hub::profile::{Access, Endpoint, Envelope};
use stage::{MAIN, Stage, user};

fn demo() -> Stage {
    Stage::builtin("demo", &[("RABBITMQ_HOST", "ignored"), ("JWT_SECRET", "ignored")]).of(user("ann"))
}

fn check(got: Vec<String>, expected: &[&str]) {
    assert_eq!(got, expected);
}

#[test]
fn it_needs_nothing_and_listens_at_home() {
    let stage = demo();
    let profile = &stage.profile;
    assert_eq!((&*profile.service.host, profile.service.port), ("127.0.0.1", 3000));
    assert_eq!((profile.auth.access, profile.auth.anonymous_query.as_deref()), (Access::Open, Some("userId")));
    assert_eq!(profile.auth.guest_prefix.as_deref(), Some("guest-"));
    assert!(profile.rabbitmq.is_none() && stage.warnings.is_empty());
    assert_eq!((profile.limits.connections, profile.limits.messages_per_minute), (None, None));
    let [Endpoint::SocketIo(first), Endpoint::Json(second)] = profile.endpoints.as_slice() else {
        panic!("two endpoints")
    };
    assert_eq!((&*first.path, &*first.namespaces), ("/socket.io", &[MAIN][..]));
    assert_eq!((&*second.paths, second.envelope), (&[("/ws".to_owned(), MAIN)][..], Envelope::Flat));
}

#[test]
fn it_tells_first_who_one_is() {
    check(demo().connect(), &["in user:ann", r#"self connected {"socketId":"socket-0000000000001","userId":"ann"}"#]);
}

#[test]
fn rooms_are_entered_and_left_with_ack_or_event() {
    let mut stage = demo();
    check(stage.command("join", r#"{"room":"lobby"}"#, true, vec![]), &[r#"ack {"success":true,"room":"lobby"}"#]);
    check(stage.command("join", r#"{"room":"lobby"}"#, false, vec![]), &[r#"self joined {"room":"lobby"}"#]);
    check(stage.command("leave", r#"{"room":"lobby"}"#, false, vec![]), &[r#"self left {"room":"lobby"}"#]);
    check(stage.command("leave", r#"{"room":"lobby"}"#, true, vec![]), &[r#"ack {"success":true,"room":"lobby"}"#]);
}

#[test]
fn users_own_rooms_and_sockets_are_closed() {
    let mut stage = demo().inside(&["user:ann"]);
    check(
        stage.command("join", r#"{"room":"user:bob"}"#, true, vec![]),
        &["failed forbidden: you may not enter `user:bob`"],
    );
    check(
        stage.command("leave", r#"{"room":"user:ann"}"#, true, vec![]),
        &["failed forbidden: you may not leave `user:ann`"],
    );
    check(
        stage.command("join", r#"{"room":"abcdefghij_-ABCDE123"}"#, true, vec![]),
        &["failed forbidden: a room must not be named like a socket"],
    );
}

#[test]
fn what_a_member_says_reaches_every_member_itself_included() {
    let mut stage = demo().inside(&["lobby"]);
    check(
        stage.command("say", r#"{"room":"lobby","data":{"text":1.0}}"#, false, vec![]),
        &[r#"lobby <- message {"room":"lobby","from":"ann","data":{"text":1.0}}"#],
    );
    check(
        stage.command("say", r#"{"room":"other","data":1}"#, true, vec![]),
        &["failed not_a_member: you are not a member of `other`"],
    );
    check(
        stage.command("say", r#"{"room":"lobby","data":null}"#, true, vec![]),
        &[r#"ack {"success":true}"#, r#"lobby <- message {"room":"lobby","from":"ann","data":null}"#],
    );
}
