//! Sessions on virtual time. A script is lines of what happens and what comes of it.

mod driver;

use driver::Driver;
use proptest::prelude::*;

use super::super::Query;
use super::*;

fn check(session: fn(&Settings, u64) -> Session, script: &[(&str, &str)]) {
    let mut driver = Driver::new(session);
    for (index, (command, expected)) in script.iter().enumerate() {
        assert_eq!(driver.step(command), *expected, "line {index}: {command}");
    }
}

fn polling(script: &[(&str, &str)]) {
    check(|settings, now_ms| Session::polling(settings, Polls::default(), now_ms), script);
}

fn websocket(script: &[(&str, &str)]) {
    check(|settings, now_ms| Session::websocket(settings, Revision::Four, now_ms), script);
}

fn polling_3(script: &[(&str, &str)]) {
    check(|settings, now_ms| Session::polling(settings, Polls::of(&Query::parse("EIO=3")), now_ms), script);
}

fn websocket_3(script: &[(&str, &str)]) {
    check(|settings, now_ms| Session::websocket(settings, Revision::Three, now_ms), script);
}

#[test]
fn in_revision_3_packets_stand_behind_their_lengths() {
    polling_3(&[
        ("get", "wait"),
        ("post 6:4hello2:4€10:b4AQIDBA==", "text hello; text €; binary \\x01\\x02\\x03\\x04; ok"),
        ("post-bytes 00 02 ff 34 61 01 03 ff 04 01 02", "text a; binary \\x01\\x02; ok"),
        ("send 4é", ""),
        ("send 4b", ""),
        ("flush", "GET 2:4é2:4b"),
        ("send-binary xy", "true"),
        ("get", "200 \u{1}\u{3}\u{fffd}\u{4}xy"),
        ("post 3:4x", "ok; parse error; forget"),
    ]);
    polling_3(&[("get", "wait"), ("post 1:1", "ok; GET 1:6; transport close; forget")]);
    polling_3(&[("close", "server shutting down"), ("get", "200 1:61:1; forget")]);
}

#[test]
fn in_revision_3_the_client_pings() {
    polling_3(&[
        ("until 44999", ""),
        ("get", "wait"),
        ("post 1:2", "ok; GET 1:3"),
        ("until 89998", ""),
        ("until 90000", "@89999 ping timeout; forget"),
    ]);
    websocket_3(&[("ws 2", "write 3"), ("until 50000", "@45000 close 1005; ping timeout; forget")]);
    websocket_3(&[("ws 3", "close 1005; transport error; forget")]);
    polling_3(&[("post 1:3", "ok; transport error; forget")]);
    polling_3(&[("probe", "accept"), ("ws 2probe", "probe 3probe"), ("ws 5", "upgraded"), ("ws 2", "write 3")]);
}

#[test]
fn in_revision_3_binary_messages_begin_with_their_type() {
    websocket_3(&[
        ("ws-binary \u{4}ab", "binary ab"),
        ("ws b4YWI=", "binary ab"),
        ("ws-binary \u{2}", "write 3"),
        ("ws-binary \u{9}", ""),
        ("ws-binary ", ""),
        ("ws 9", "close 1005; parse error; forget"),
    ]);
}

#[test]
fn messages_travel_by_get_and_post() {
    polling(&[
        ("get", "wait"),
        ("post 4hello|bAQI=|4", "text hello; binary \\x01\\x02; text ; ok"),
        ("send 4a", ""),
        ("send 4b", ""),
        ("flush", "GET 4a|4b"),
        ("flush", ""),
        ("send-binary xy", "true"),
        ("get", "200 beHk="),
        ("get", "wait"),
        ("phase", "polling"),
    ]);
}

#[test]
fn what_is_no_packet_ends_the_session_but_not_the_answer() {
    for body in ["abc", "7", "", "4a|", "4a|7|4b"] {
        let before = if body.starts_with("4a") { "text a; " } else { "" };
        polling(&[
            ("get", "wait"),
            (&format!("post {body}"), &format!("{before}ok; GET 1; parse error; forget")),
            ("get", "refuse 1"),
            ("post 4a", "refuse 1"),
        ]);
    }
    for body in ["2", "2probe"] {
        polling(&[(&format!("post {body}"), "ok; transport error; forget"), ("get", "refuse 1")]);
    }
    polling(&[("post-garbage", "text \u{fffd}; ok"), ("get", "wait")]);
}

#[test]
fn control_packets_that_say_nothing_are_ignored() {
    for body in ["3", "0", "5", "6", "3probe", "3|0|5|6"] {
        polling(&[(&format!("post {body}"), "ok"), ("get", "wait")]);
    }
    for text in ["3", "0", "5", "6"] {
        websocket(&[(&format!("ws {text}"), ""), ("phase", "websocket")]);
    }
}

#[test]
fn a_client_closes_its_session() {
    polling(&[("get", "wait"), ("post 4a|1|4b", "text a; ok; GET 6; transport close; forget"), ("get", "refuse 1")]);
    websocket(&[("ws 1", "close 1005; transport close; forget"), ("ws 4a", ""), ("ws-gone", "")]);
    websocket(&[("ws-gone", "transport close; forget"), ("phase", "closed")]);
}

#[test]
fn a_post_over_the_bound_costs_nothing_else() {
    let long = format!("post 4{}", "x".repeat(40));
    polling(&[
        (&long, "413"),
        (&format!("post 4{}", "x".repeat(39)), &format!("text {}; ok", "x".repeat(39))),
        ("post-starts", ""),
        ("post-too-large", "413"),
        ("post 4a", "text a; ok"),
        ("get", "wait"),
    ]);
}

#[test]
fn two_requests_of_a_kind_at_once_end_the_session() {
    polling(&[("get", "wait"), ("get", "400; GET 1; transport error; forget"), ("get", "refuse 1")]);
    polling(&[("post-starts", ""), ("post 4a", "400; abort post; transport error; forget"), ("get", "refuse 1")]);
    polling(&[("post-starts", ""), ("get", "wait"), ("post-body 4a", "text a; ok"), ("post 4b", "text b; ok")]);
}

#[test]
fn requests_that_break_off_end_the_session() {
    polling(&[("get", "wait"), ("get-aborted", "transport error; forget"), ("get", "refuse 1")]);
    polling(&[("get", "wait"), ("post-starts", ""), ("post-aborted", "GET 1; transport error; forget")]);
    polling(&[("get-aborted", ""), ("post-aborted", ""), ("phase", "polling")]);
    polling(&[("get", "wait"), ("post-starts-binary", "400; GET 1; transport error; forget"), ("post 4a", "refuse 1")]);
}

#[test]
fn we_close_a_polling_session_by_this_get_or_the_next() {
    polling(&[("get", "wait"), ("close", "GET 1; server shutting down; forget"), ("get", "refuse 1")]);
    polling(&[("close", "server shutting down"), ("post 4a", "ok"), ("get", "200 6|1; forget"), ("get", "refuse 1")]);
    // A Socket.IO disconnect of the last namespace, and the close right after it.
    polling(&[("get", "wait"), ("send 41", ""), ("close", "GET 41; server shutting down"), ("get", "200 6|1; forget")]);
    polling(&[("send 41", ""), ("close", "server shutting down"), ("get", "200 41"), ("get", "200 6|1; forget")]);
    polling(&[
        ("close", "server shutting down"),
        ("send 4a", "not taken"),
        ("probe", "close"),
        ("until 29999", ""),
        ("close", ""),
        ("until 90000", "@30000 forget"),
        ("get", "refuse 1"),
    ]);
    polling(&[("post-starts", ""), ("close", "abort post; server shutting down"), ("phase", "closing")]);
}

#[test]
fn a_client_that_closes_as_well_is_not_waited_for() {
    polling(&[
        ("get", "wait"),
        ("send 41", ""),
        ("close", "GET 41; server shutting down"),
        ("post 4late", "ok"),
        ("post 7|1", "ok"),
        ("phase", "closing"),
        ("post 4late|1|4more", "ok; forget"),
        ("get", "refuse 1"),
    ]);
    polling_3(&[("close", "server shutting down"), ("post 1:1", "ok; forget")]);
    polling(&[("probe", "accept"), ("close", "server shutting down"), ("post 1", "ok; close probe; forget")]);
}

#[test]
fn a_session_that_is_closed_in_the_middle_of_its_move_says_so_on_the_websocket() {
    let moving = [("get", "wait"), ("probe", "accept"), ("ws 2probe", "probe 3probe")];
    let rest = [("phase", "closed"), ("ws 4a", ""), ("get", "refuse 1"), ("until 90000", "")];
    let check = |script: &[(&str, &str)]| polling(&[&moving[..], script, &rest].concat());
    // The client has paused its polling when we close.
    check(&[
        ("until 100", "@100 GET 6"),
        ("send 4a", ""),
        ("send-binary b", "true"),
        ("close", "server shutting down"),
        ("phase", "closing"),
        ("send 4c", "not taken"),
        ("ws 5", "upgraded 4a|bYg==; close 1001 bye; forget"),
    ]);
    // It is told by the GET that it pauses with.
    check(&[
        ("send 41", ""),
        ("close", "GET 41; server shutting down"),
        ("until 9999", ""),
        ("ws 5", "upgraded; close 1001 bye; forget"),
    ]);
    // The GET that it pauses with is on its way, and does not hold all.
    let sends: Vec<_> = (0..18).map(|_| ("send 4", "")).collect();
    let sixteen = format!("GET {}", ["4"; 16].join("|"));
    let long = [
        ("flush", sixteen.as_str()),
        ("close", "server shutting down"),
        ("ws 5", "upgraded 4|4; close 1001 bye; forget"),
    ];
    check(&[&sends[..], &long].concat());
    // It comes upon the end by polling, and has no need of the WebSocket.
    check(&[("close", "GET 1; close probe; server shutting down; forget")]);
    check(&[
        ("send 41", ""),
        ("close", "GET 41; server shutting down"),
        ("get", "200 6|1; close probe; forget"),
        ("ws 5", ""),
    ]);
    // It asks only now.
    polling(&[
        ("probe", "accept"),
        ("close", "server shutting down"),
        ("ws 2probe", "probe 3probe"),
        ("until 5000", ""),
        ("ws 5", "upgraded; close 1001 bye; forget"),
    ]);
    polling_3(&[
        ("probe", "accept"),
        ("send 4a", ""),
        ("close", "server shutting down"),
        ("ws 5", "upgraded 4a; close 1001 bye; forget"),
    ]);
}

#[test]
fn a_probe_whose_way_ends_is_given_up_until_its_client_was_answered() {
    let unanswered = [("probe", "accept"), ("probe-leaves", "true; close probe"), ("phase", "polling")];
    let rest = [("probe-leaves", "true"), ("send 4a", ""), ("get", "200 4a"), ("probe", "accept")];
    polling(&[&unanswered[..], &rest].concat());
    polling(&[("probe", "accept"), ("ws 2probe", "probe 3probe"), ("probe-leaves", "false"), ("phase", "probing")]);
    // Who is closed, or has moved, has no use for it.
    polling(&[
        ("probe", "accept"),
        ("ws 2probe", "probe 3probe"),
        ("close", "server shutting down"),
        ("probe-leaves", "true"),
        ("ws 5", "upgraded; close 1001 bye; forget"),
        ("probe-leaves", "true"),
    ]);
    websocket(&[("probe-leaves", "true")]);
}

#[test]
fn a_closed_session_whose_move_fails_is_told_by_its_next_get() {
    for wrong in [
        ("ws 4a", "close probe"),
        ("ws-binary x", "close probe"),
        ("ws-gone", ""),
        ("until 10000", "@10000 close probe"),
    ] {
        polling(&[
            ("probe", "accept"),
            ("ws 2probe", "probe 3probe"),
            ("send 41", ""),
            ("close", "server shutting down"),
            wrong,
            ("ws 5", ""),
            ("probe", "close"),
            ("get", "200 41"),
            ("get", "200 6|1; forget"),
        ]);
    }
    polling(&[
        ("probe", "accept"),
        ("ws 2probe", "probe 3probe"),
        ("close", "server shutting down"),
        ("until 90000", "@10000 close probe; @30000 forget"),
    ]);
    // Nothing of it is left behind where an upgrade may take longer than a farewell.
    check(
        |settings, now_ms| Session::polling(settings, Polls::default(), now_ms),
        &[
            ("slow-upgrades", ""),
            ("probe", "accept"),
            ("close", "server shutting down"),
            ("until 90000", "@30000 close probe; forget"),
        ],
    );
}

#[test]
fn we_close_a_websocket_session_with_a_frame() {
    websocket(&[
        ("close", "close 1001 bye; server shutting down; forget"),
        ("close", ""),
        ("ws 4a", ""),
        ("send 4a", "not taken"),
    ]);
}

#[test]
fn a_get_carries_at_most_sixteen_packets() {
    let sends: Vec<_> = (0..18).map(|_| ("send 4", "")).collect();
    let sixteen = format!("200 {}", ["4"; 16].join("|"));
    polling(&[sends, vec![("get", &sixteen), ("get", "200 4|4"), ("get", "wait")]].concat());
    let (long, answer) = (format!("send 4{}", "x".repeat(30)), format!("200 4{}", "x".repeat(30)));
    polling(&[(&long, ""), (&long, ""), ("get", &answer), ("get", &answer), ("get", "wait")]);
}

#[test]
fn a_client_that_does_not_fetch_is_cut() {
    let long = format!("send 4{}", "x".repeat(1000));
    let answer = format!("GET 4{}", "x".repeat(1000));
    polling(&[(&long, ""), (&long, "not taken; slow consumer"), (&long, "not taken"), ("get", "200 6|1; forget")]);
    polling(&[("get", "wait"), (&long, ""), (&long, &answer), (&long, "not taken; slow consumer")]);
}

#[test]
fn pings_keep_a_session_alive() {
    websocket(&[
        ("until 24999", ""),
        ("until 25000", "@25000 write 2"),
        ("until 30000", ""),
        ("ws 3", ""),
        ("ws 4a", "text a"),
        ("until 54999", ""),
        ("until 60000", "@55000 write 2"),
        ("ws 4traffic", "text traffic"),
        ("until 80000", "@75000 close 1005; ping timeout; forget"),
    ]);
    polling(&[
        ("get", "wait"),
        ("until 25000", "@25000 GET 2"),
        ("get", "wait"),
        ("post 3", "ok"),
        ("until 50000", "@50000 GET 2"),
        ("get", "wait"),
        ("until 90000", "@70000 GET 1; ping timeout; forget"),
    ]);
    polling(&[
        ("until 26000", ""),
        ("get", "200 2"),
        ("until 99000", "@45000 ping timeout; forget"),
        ("get", "refuse 1"),
    ]);
}

#[test]
fn a_websocket_session_refuses_what_is_no_packet() {
    for text in ["abc", "", "7", "\u{1e}"] {
        websocket(&[(&format!("ws {text}"), "close 1005; parse error; forget")]);
    }
    for text in ["2", "2probe"] {
        websocket(&[(&format!("ws {text}"), "close 1005; transport error; forget")]);
    }
    websocket(&[("ws 4a\u{1e}4b", "text a\u{1e}4b"), ("ws bAQI=", "binary \\x01\\x02"), ("ws-binary xy", "binary xy")]);
    websocket(&[("probe", "close"), ("get", "refuse 3"), ("post 4a", "refuse 3"), ("ws 4a", "text a")]);
}

#[test]
fn a_session_moves_to_a_websocket() {
    polling(&[
        ("get", "wait"),
        ("probe", "accept"),
        ("phase", "probing"),
        ("ws 2probe", "probe 3probe"),
        ("until 99", ""),
        ("until 350", "@100 GET 6"),
        ("get", "wait"),
        ("until 400", "@400 GET 6"),
        ("post 4a", "text a; ok"),
        ("send 4b", ""),
        ("send-binary c", "true"),
        ("ws 5", "upgraded 4b|bYw=="),
        ("ws 4d", "text d"),
        ("ws-binary e", "binary e"),
        ("get", "refuse 3"),
        ("post 4f", "refuse 3"),
        ("send 4g", "not taken"),
        ("probe", "close"),
        ("until 30000", "@25000 write 2"),
        ("ws-gone", "transport close; forget"),
    ]);
}

#[test]
fn a_get_is_served_while_a_websocket_is_tried() {
    polling(&[
        ("probe", "accept"),
        ("ws 2probe", "probe 3probe"),
        ("send 4a", ""),
        ("get", "200 4a"),
        ("get", "wait"),
        ("send 4b", ""),
        ("flush", "GET 4b"),
        ("get", "wait"),
        ("ws 5", "GET 1; upgraded"),
        ("phase", "websocket"),
    ]);
    polling(&[("probe", "accept"), ("ws 5", "upgraded")]);
    polling(&[("probe", "accept"), ("post-starts", ""), ("ws 5", "upgraded"), ("post-body 4a", "refuse 3")]);
}

#[test]
fn a_probe_that_fails_leaves_polling_as_it_was() {
    for wrong in ["ws 4a", "ws 2foo", "ws 2", "ws 3", "ws abc", "ws-binary x"] {
        polling(&[
            ("get", "wait"),
            ("probe", "accept"),
            (wrong, "close probe"),
            ("ws 5", ""),
            ("send 4a", ""),
            ("flush", "GET 4a"),
            ("probe", "accept"),
        ]);
    }
    polling(&[
        ("probe", "accept"),
        ("ws 2probe", "probe 3probe"),
        ("ws-gone", ""),
        ("phase", "polling"),
        ("get", "wait"),
        ("until 10000", ""),
    ]);
    polling(&[
        ("get", "wait"),
        ("probe", "accept"),
        ("probe", "close"),
        ("until 20000", "@10000 close probe"),
        ("send 4a", ""),
        ("flush", "GET 4a"),
    ]);
    polling(&[("probe", "accept"), ("get", "wait"), ("get", "400; GET 1; close probe; transport error; forget")]);
}

#[test]
fn the_heartbeat_goes_on_across_the_move() {
    polling(&[("until 24000", ""), ("probe", "accept"), ("ws 5", "upgraded"), ("until 25000", "@25000 write 2")]);
    polling(&[
        ("get", "wait"),
        ("until 25000", "@25000 GET 2"),
        ("probe", "accept"),
        ("ws 2probe", "probe 3probe"),
        ("ws 5", "upgraded"),
        ("until 30000", ""),
        ("ws 3", ""),
        ("until 55000", "@55000 write 2"),
    ]);
    polling(&[
        ("until 25000", ""),
        ("probe", "accept"),
        ("ws 5", "upgraded 2"),
        ("until 49999", ""),
        ("until 80000", "@50000 write 2; @70000 close 1005; ping timeout; forget"),
    ]);
}

#[test]
fn a_websocket_session_is_small() {
    assert!(size_of::<Session>() <= 64);
}

/// Anything that can happen, in any order.
fn commands() -> impl Strategy<Value = Vec<String>> {
    let fixed = prop::sample::select(vec![
        "get",
        "get",
        "get",
        "get-aborted",
        "post-starts",
        "post-starts-binary",
        "post-aborted",
        "post-too-large",
        "post 3",
        "post 4a|bAA==",
        "post 1",
        "post x",
        "post-body 4a",
        "probe",
        "probe",
        "ws 2probe",
        "ws 2probe",
        "ws 5",
        "ws 3",
        "ws 4a",
        "ws 1",
        "ws-binary x",
        "ws-gone",
        "flush",
        "flush",
        "close",
    ]);
    let wait = (1..30_000_u64).prop_map(|wait_ms| format!("wait {wait_ms}"));
    prop::collection::vec(
        prop_oneof![4 => fixed.prop_map(str::to_owned), 4 => Just("send".to_owned()), 1 => wait],
        0..80,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_messages_keep_their_order_and_a_session_ends_once(commands in commands()) {
        let mut driver = Driver::new(|settings, now_ms| Session::polling(settings, Polls::default(), now_ms));
        let mut sent = Vec::new();
        for command in commands {
            match command.split_once(' ') {
                Some(("wait", wait_ms)) => drop(driver.run_until(driver.now_ms + wait_ms.parse::<u64>().expect("milliseconds"))),
                None if command == "send" => {
                    let packet = format!("4#{}", sent.len());
                    if !driver.step(&format!("send {packet}")).contains("not taken") {
                        sent.push(packet);
                    }
                }
                Some(_) | None => drop(driver.step(&command)),
            }
            let mut fetched = driver.fetched.clone();
            fetched.retain(|packet| packet.starts_with("4#"));
            prop_assert!(sent.starts_with(&fetched), "sent {sent:?}, fetched {fetched:?}");
            if driver.moved && !driver.cut {
                prop_assert_eq!(&sent, &fetched, "the move leaves nothing behind");
            }
            match driver.session.phase() {
                Phase::WebSocket => prop_assert!(driver.moved && !driver.closed),
                Phase::Closed => prop_assert!(driver.forgotten && driver.session.next_deadline().is_none()),
                Phase::Closing => prop_assert!(driver.closed && !driver.forgotten),
                Phase::Polling | Phase::Probing => prop_assert!(!driver.closed),
            }
        }
    }
}
