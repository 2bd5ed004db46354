//! The profile `hometrip`, held to what HomeTrip's front end and services expect, sentence by sentence.

#![allow(clippy::unwrap_used, reason = "tests unwrap")]

mod stage;

use std::time::Duration;

use hub::codes::ErrorCode;
use hub::names::{RoomName, UserId};
use hub::profile::{self, Access, Endpoint, Origins, Profile, RabbitmqAddress};
use hub::rules::{Facts, Presence, Reply, User};
use stage::{MAIN, NOW_UNIX_MS, Stage, emission, json, line};

const ASKED: (&str, &str) = ("CONVERSATION_ACCESS_URL", "http://access/conversations/{conversationId}?user={userId}");

fn hometrip(variables: &[(&str, &str)]) -> Stage {
    Stage::builtin("hometrip", &[&[("JWT_SECRET", "secret")], variables].concat())
}

fn check(got: Vec<String>, expected: &[&str]) {
    assert_eq!(got, expected);
}

#[test]
fn a_user_is_welcomed_and_is_in_the_room_of_its_own() {
    let connected = r#"{"socketId":"socket-0000000000001","userId":"42","email":"guest@example.com","role":"guest","timestamp":"2026-11-20T21:44:00.000Z"}"#;
    check(hometrip(&[]).connect(), &["in user:42", &format!("self connected {connected}")]);
}

#[test]
fn an_anonymous_client_is_welcomed_and_in_no_room() {
    let connected = r#"{"socketId":"socket-0000000000001","userId":null,"email":null,"role":null,"timestamp":"2026-11-20T21:44:00.000Z"}"#;
    check(hometrip(&[]).of(User::anonymous()).connect(), &[&format!("self connected {connected}")]);
}

#[test]
fn a_number_stays_a_number_in_payloads_and_is_its_digits_in_rooms() {
    let user = User { id: Some(UserId::from_integer(42)), claims: r#"{"id":42,"email":null,"role":null}"#.into() };
    let lines = hometrip(&[]).of(user).connect();
    assert_eq!(lines[0], "in user:42");
    assert!(lines[1].contains(r#""userId":42,"email":null"#), "{}", lines[1]);
}

const JOINED: &str = r#"conversation:7 but self <- user_joined {"userId":"42","socketId":"socket-0000000000001","roomType":"conversation","roomId":"7","timestamp":"2026-11-20T21:44:00.000Z"}"#;
const LEFT: &str = r#"conversation:7 but self <- user_left {"userId":"42","socketId":"socket-0000000000001","roomType":"conversation","roomId":"7","timestamp":"2026-11-20T21:44:00.000Z"}"#;
const ROOM: &str = r#"{"roomType":"conversation","roomId":"7"}"#;

#[test]
fn joining_tells_the_others_and_answers() {
    let mut stage = hometrip(&[]);
    let ack = r#"ack {"success":true,"room":"conversation:7"}"#;
    check(stage.command("join_room", ROOM, true, vec![]), &[JOINED, ack]);
    check(stage.command("join_room", ROOM, true, vec![]), &[ack]);
    check(stage.command("leave_room", ROOM, true, vec![]), &[LEFT, ack]);
    check(stage.command("leave_room", ROOM, true, vec![]), &[ack]);
    check(stage.command("join_room", ROOM, false, vec![]), &[JOINED]);
    let notification = r#"{"roomType":"notification","roomId":9}"#;
    check(
        stage.command("join_room", notification, true, vec![]),
        &[
            r#"notification:9 but self <- user_joined {"userId":"42","socketId":"socket-0000000000001","roomType":"notification","roomId":"9","timestamp":"2026-11-20T21:44:00.000Z"}"#,
            r#"ack {"success":true,"room":"notification:9"}"#,
        ],
    );
}

#[test]
fn a_disconnect_counts_as_leaving() {
    let stage = hometrip(&[]);
    let room = RoomName::parse("conversation:7").unwrap();
    let told = stage.profile.rules.on_leave(MAIN, &room, &stage.facts());
    check(told.iter().map(line).collect(), &[LEFT]);
    let own = RoomName::parse("user:42").unwrap();
    assert_eq!(stage.profile.rules.on_leave(MAIN, &own, &stage.facts()), []);
}

#[test]
fn bad_arguments_are_named() {
    let mut stage = hometrip(&[]);
    for (data, expected) in [
        ("", "roomType is missing: it must be one of conversation, notification"),
        ("{}", "roomType is missing: it must be one of conversation, notification"),
        (r#"{"roomType":"user","roomId":"7"}"#, "roomType must be one of conversation, notification"),
        (
            r#"{"roomType":"conversation"}"#,
            "roomId is missing: it must be an id: a text of 1 to 255 bytes, or an integer",
        ),
        (
            r#"{"roomType":"conversation","roomId":{}}"#,
            "roomId must be an id: a text of 1 to 255 bytes, or an integer, not an object",
        ),
        (
            r#"{"roomType":"conversation","roomId":""}"#,
            "roomId must be an id: a text of 1 to 255 bytes, or an integer, not an empty text",
        ),
        ("[]", "the message must be an object, not a list"),
    ] {
        for command in ["join_room", "leave_room", "typing", "stop_typing"] {
            check(stage.command(command, data, true, vec![]), &[&format!("failed bad_field: {expected}")]);
        }
    }
    let long = format!(r#"{{"roomType":"conversation","roomId":"{}"}}"#, "x".repeat(255));
    assert!(stage.command("join_room", &long, true, vec![])[0].ends_with("is longer than 255 bytes"));
    check(
        stage.command("join_room", "{", true, vec![]),
        &["failed bad_message: not JSON: EOF while parsing an object at line 1 column 1"],
    );
}

#[test]
fn typing_reaches_the_others_in_the_room_and_comes_from_members_only() {
    let mut stage = hometrip(&[]).inside(&["conversation:7"]);
    let told = |event: &str| {
        format!(
            r#"conversation:7 but self <- {event} {{"userId":"42","roomType":"conversation","roomId":"7","timestamp":"2026-11-20T21:44:00.000Z"}}"#
        )
    };
    check(stage.command("typing", ROOM, false, vec![]), &[&told("user_typing")]);
    check(stage.command("stop_typing", ROOM, false, vec![]), &[&told("user_stop_typing")]);
    let other = r#"{"roomType":"conversation","roomId":"8"}"#;
    check(
        stage.command("typing", other, false, vec![]),
        &["failed not_a_member: you are not a member of `conversation:8`"],
    );
}

#[test]
fn presence_is_asked_for_at_most_a_hundred() {
    let mut stage = hometrip(&[]);
    let seen = r#"{"1":{"online":true,"lastSeen":null},"b":{"online":false,"lastSeen":null}}"#;
    check(
        stage.command("get_presence", r#"{"userIds":[1,"b"]}"#, true, vec![json(seen)]),
        &["presence of 1,b", &format!(r#"ack {{"success":true,"presence":{seen}}}"#)],
    );
    check(stage.command("get_presence", r#"{"userIds":[]}"#, true, vec![]), &[r#"ack {"success":true,"presence":{}}"#]);
    let many = format!(r#"{{"userIds":{:?}}}"#, vec![1; 101]);
    check(
        stage.command("get_presence", &many, true, vec![]),
        &["failed bad_field: userIds has 101 items: at most 100 are let in"],
    );
    check(
        stage.command("get_presence", r#"{"userIds":[{}]}"#, true, vec![]),
        &["failed bad_field: userIds.0 must be an id: a text of 1 to 255 bytes, or an integer, not an object"],
    );
}

#[test]
fn a_conversation_hears_who_comes_online_and_goes() {
    let stage = hometrip(&[]);
    let rules = &stage.profile.rules;
    let (conversation, notification, own) = (
        RoomName::parse("conversation:7").unwrap(),
        RoomName::parse("notification:7").unwrap(),
        RoomName::parse("user:42").unwrap(),
    );
    assert!(rules.watches_user_enter(MAIN, &conversation) && !rules.watches_user_enter(MAIN, &notification));
    assert!(rules.remembers_room(MAIN, &conversation) && !rules.remembers_room(MAIN, &own));
    let online = rules.on_user_enter(MAIN, &conversation, &stage.facts());
    check(
        online.iter().map(line).collect(),
        &[
            r#"conversation:7 <- presence_update {"userId":"42","status":"online","lastSeen":"2026-11-20T21:44:00.000Z"}"#,
        ],
    );
    let nobody = User::anonymous();
    assert_eq!(rules.on_user_enter(MAIN, &conversation, &Facts { user: &nobody, ..stage.facts() }), []);

    assert_eq!(rules.offline_grace(), Duration::from_secs(3));
    let id = UserId::from_integer(42);
    let other = RoomName::parse("conversation:8").unwrap();
    let rooms = [(MAIN, own), (MAIN, conversation), (MAIN, notification), (MAIN, other)];
    let presence =
        Presence { id: &id, rooms: &rooms, last_seen_unix_ms: NOW_UNIX_MS, now_unix_ms: NOW_UNIX_MS + 3_000 };
    check(
        rules.on_user_offline(&presence).iter().map(emission).collect(),
        &[
            r#"conversation:7+conversation:8 <- presence_update {"userId":42,"status":"offline","lastSeen":"2026-11-20T21:44:00.000Z"}"#,
        ],
    );
    assert_eq!(rules.on_user_offline(&Presence { rooms: &rooms[..1], ..presence }), []);
    assert_eq!(rules.on_user_online(&presence), []);
}

#[test]
fn events_reach_their_rooms_byte_for_byte() {
    let stage = hometrip(&[]);
    let message = r#"{"b":1.50,"conversationId":"7","a": [1e3, "\u00e9"],"message":{"id":9007199254740993}}"#;
    check(stage.route("message.sent", message), &[&format!("conversation:7 <- new_message {message}")]);
    let booking = r#"{"userId":42,"status":"confirmed"}"#;
    check(stage.route("booking.confirmed", booking), &[&format!("user:42 <- booking_update {booking}")]);
    check(stage.route("notification.created", booking), &[&format!("user:42 <- new_notification {booking}")]);
}

#[test]
fn bad_events_are_dead_letters_and_others_are_ignored() {
    let stage = hometrip(&[]);
    for (key, body, expected) in [
        ("message.sent", "{}", "poison: {event.conversationId} is missing (the route in line"),
        ("message.sent", r#"{"conversationId":null}"#, "poison: {event.conversationId} is missing"),
        ("message.sent", r#"{"conversationId":{}}"#, "poison: {event.conversationId} is an object, not an id"),
        ("message.sent", r#"{"conversationId":true}"#, "poison: {event.conversationId} is a boolean, not an id"),
        ("message.sent", r#"{"conversationId":""}"#, "poison: {event.conversationId} is an empty text, not an id"),
        ("message.sent", "42", "poison: {event.conversationId} is missing"),
        ("message.sent", "nonsense", "poison: not JSON: "),
        ("message.sent", "", "poison: not JSON: "),
        ("message.deleted", "{}", "ignored: no route takes the key `message.deleted`"),
        ("message.deleted", "{", "poison: not JSON: "),
    ] {
        let outcome = stage.route(key, body);
        assert!(outcome[0].starts_with(expected), "{key} {body}: {}", outcome[0]);
    }
    assert_eq!(stage.route("message.sent", &"[".repeat(100_000)), ["poison: nested deeper than 128"]);
}

#[test]
fn an_access_service_guards_conversations_where_one_is_set() {
    let room = r#"{"roomType":"conversation","roomId":"a/b?c"}"#;
    let asked = "ask http://access/conversations/a%2Fb%3Fc?user=42 within 2000 ms";
    for (reply, expected) in [
        (Reply::Refused, "failed forbidden: you may not enter `conversation:a/b?c`"),
        (Reply::Failed { code: ErrorCode::TryAgain, message: "try again".into() }, "failed try_again: try again"),
    ] {
        check(hometrip(&[ASKED]).command("join_room", room, true, vec![reply]), &[asked, expected]);
    }
    let mut stage = hometrip(&[ASKED]);
    let lines = stage.command("join_room", room, true, vec![Reply::Allowed]);
    assert_eq!(
        (lines.len(), lines[0].as_str(), lines[2].as_str()),
        (3, asked, r#"ack {"success":true,"room":"conversation:a/b?c"}"#)
    );
    assert_eq!(stage.command("join_room", room, true, vec![]).len(), 1, "who is in is not asked for again");
    let notification = r#"{"roomType":"notification","roomId":"7"}"#;
    assert_eq!(stage.command("join_room", notification, true, vec![]).len(), 2, "notification rooms are not asked for");
    for climbing in [".", ".."] {
        let room = format!(r#"{{"roomType":"conversation","roomId":"{climbing}"}}"#);
        let refused = format!("failed forbidden: you may not enter `conversation:{climbing}`");
        check(hometrip(&[ASKED]).command("join_room", &room, true, vec![]), &[refused.as_str()]);
    }
    let mut stage = hometrip(&[ASKED]).of(User::anonymous());
    check(stage.command("join_room", ROOM, true, vec![]), &["failed forbidden: you may not enter `conversation:7`"]);
}

#[test]
fn without_an_access_service_there_is_a_warning() {
    let warnings: Vec<String> = hometrip(&[]).warnings.iter().map(|warning| warning.what.clone()).collect();
    assert_eq!(
        warnings,
        ["no access service is set for rooms of kind `conversation`: everyone whom `enter` lets in may enter them"]
    );
    assert_eq!(hometrip(&[ASKED]).warnings, []);
}

#[test]
fn a_connection_has_a_bound_of_rooms() {
    let mut stage = hometrip(&[]);
    stage.rooms_max = 0;
    check(
        stage.command("join_room", ROOM, true, vec![]),
        &["failed too_many_rooms: you are in too many rooms to enter `conversation:7`"],
    );
}

#[test]
fn documents_for_operators() {
    let stage = hometrip(&[]);
    let rules = &stage.profile.rules;
    let gateway = |field: &str| Some(format!("\"<{field}>\""));
    let write = |path| {
        let (document, parts) = rules.document("GET", path).unwrap();
        assert!(rules.document_is_public(document));
        rules.write_document(document, &parts, &[], NOW_UNIX_MS, &gateway)
    };
    assert_eq!(
        write("/health"),
        r#"{"status":"<status>","service":"<service>","version":"<version>","redis":"<redis>","eventBus":"<rabbitmq>","uptime":"<uptime>","timestamp":"2026-11-20T21:44:00.000Z"}"#
    );
    assert_eq!(write("/metrics"), r#"{"connectedSockets":"<sockets>","rooms":"<rooms>","totalRooms":"<totalRooms>"}"#);
    assert_eq!(rules.document("POST", "/health"), None);
    assert_eq!(rules.document("GET", "/health/live"), None);
}

#[test]
fn settings_are_those_of_the_system() {
    let stage = hometrip(&[]);
    let profile = &stage.profile;
    assert_eq!(
        (profile.service.port, &*profile.service.host, &*profile.service.name),
        (3002, "0.0.0.0", "websocket-gateway")
    );
    assert_eq!(profile.auth.access, Access::Token);
    assert_eq!(profile.cors.origins, Origins::Any);
    assert_eq!(profile.log.dir.as_deref(), Some("logs"));
    assert_eq!(profile.log.file_bytes, 5_000_000);
    assert_eq!((profile.drain.delay, profile.drain.timeout), (Duration::ZERO, Duration::from_secs(8)));
    assert_eq!((profile.auth.leeway, profile.auth.warn_before), (Duration::from_secs(5), Duration::from_secs(300)));
    let Endpoint::SocketIo(endpoint) = &profile.endpoints[0] else { panic!("HomeTrip's clients speak Socket.IO") };
    assert_eq!(
        (&*endpoint.path, endpoint.ping_interval.as_secs(), endpoint.ping_timeout.as_secs()),
        ("/socket.io", 25, 20)
    );
    let rabbitmq = profile.rabbitmq.as_ref().unwrap();
    assert_eq!(
        (rabbitmq.address.as_ref(), &*rabbitmq.exchange, &*rabbitmq.exchange_type),
        (None, "hometrip_events", "topic")
    );
    let queues: Vec<_> =
        rabbitmq.queues.iter().map(|queue| (&*queue.name, &*queue.bindings[0], queue.durable)).collect();
    assert_eq!(
        queues,
        [
            ("websocket.message.sent", "message.sent", true),
            ("websocket.booking.confirmed", "booking.confirmed", true),
            ("websocket.notification.created", "notification.created", true),
        ]
    );
}

#[test]
fn the_environment_of_the_system_is_understood() {
    let stage = hometrip(&[
        ("PORT", "4000"),
        ("SERVICE_HOST", "127.0.0.1"),
        ("RABBITMQ_HOST", "rabbitmq"),
        ("RABBITMQ_PASSWORD", "p/w@%"),
        ("RABBITMQ_EXCHANGE", "other"),
        ("CORS_ORIGIN", "http://localhost:3000, https://hometrip.com/"),
        ("ALLOW_AUTH_WITHOUT_JWT", "true"),
        ("JWT_ALGORITHMS", "HS256,HS512"),
        ("LOG_LEVEL", "DEBUG"),
        ("DRAIN_DELAY", "5"),
        ("REDIS_PASSWORD", ""),
    ]);
    let profile = &stage.profile;
    assert_eq!((profile.service.port, &*profile.service.host), (4000, "127.0.0.1"));
    let rabbitmq = profile.rabbitmq.as_ref().unwrap();
    let Some(RabbitmqAddress::Parts { host, port, user, password, vhost }) = &rabbitmq.address else {
        panic!("in parts")
    };
    assert_eq!((&**host, *port, &**user, password.reveal(), &**vhost), ("rabbitmq", 5672, "guest", "p/w@%", "/"));
    assert_eq!(rabbitmq.exchange, "other");
    assert_eq!(
        profile.cors.origins,
        Origins::Listed(vec!["http://localhost:3000".into(), "https://hometrip.com".into()])
    );
    assert_eq!(profile.auth.access, Access::TokenOrAnonymous);
    assert_eq!(profile.auth.algorithms, ["HS256", "HS512"]);
    assert_eq!(profile.drain.delay, Duration::from_secs(5));
    assert_eq!(profile.redis, None);
    assert!(!format!("{profile:?}").contains("p/w@%"), "secrets do not reach logs");
}

#[test]
fn bad_variables_are_named() {
    for (variables, expected) in [
        (vec![], "JWT_SECRET is not set, nor JWT_PUBLIC_KEY or JWKS_URL"),
        (
            vec![("JWT_SECRET", "s"), ("PORT", "x")],
            "the variable PORT (`service.port`) must be a whole number from 0 to 65535, not `x`",
        ),
        (vec![("JWT_SECRET", "s"), ("PORT", "70000")], "the variable PORT"),
        (vec![("JWT_SECRET", "s"), ("LOG_LEVEL", "inf")], "the variable LOG_LEVEL (`log.level`) must be one of"),
        (vec![("JWT_SECRET", "s"), ("DRAIN_DELAY", "soon")], "the variable DRAIN_DELAY"),
        (
            vec![("JWT_SECRET", "s"), ("CONVERSATION_ACCESS_URL", "http://x/{roomId}")],
            "nothing is called `roomId` here",
        ),
        (vec![("JWT_SECRET", "s"), ("CONVERSATION_ACCESS_URL", "access")], "does not begin with `http://`"),
    ] {
        let environment =
            |name: &str| variables.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned());
        let problems = Profile::read(profile::builtin("hometrip").unwrap(), "hometrip.toml", &environment).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].to_string().contains(expected), "{}", problems[0]);
    }
    let open = hometrip(&[("JWT_SECRET", ""), ("ALLOW_AUTH_WITHOUT_JWT", "true")]);
    assert_eq!(open.profile.auth.access, Access::TokenOrAnonymous, "no key is needed where nobody needs a token");
}

#[test]
fn all_variables_of_the_system_are_told() {
    let variables = profile::variables(profile::builtin("hometrip").unwrap(), "hometrip.toml").unwrap();
    let names: Vec<&str> = variables.iter().flat_map(|variable| &variable.names).map(String::as_str).collect();
    for name in "NODE_ENV PORT SERVICE_HOST JWT_SECRET JWT_PUBLIC_KEY JWKS_URL JWT_ALGORITHMS JWT_EXPIRES_IN JWT_REFRESH_EXPIRES_IN \
        REDIS_URL REDIS_HOST REDIS_PORT REDIS_PASSWORD REDIS_DB RABBITMQ_URL RABBITMQ_HOST RABBITMQ_PORT RABBITMQ_USER RABBITMQ_PASSWORD \
        RABBITMQ_VHOST RABBITMQ_EXCHANGE CORS_ORIGIN LOG_LEVEL LOG_DIR LOG_FORMAT MESSAGE_SERVICE_URL NOTIFICATION_SERVICE_URL \
        BOOKING_SERVICE_URL DATABASE_URL ALLOW_AUTH_WITHOUT_JWT CONVERSATION_ACCESS_URL API_KEY DRAIN_DELAY SHUTDOWN_TIMEOUT OPS_PORT GRPC_PORT CONSOLE \
        TRUSTED_PROXIES"
        .split_whitespace()
    {
        assert_eq!(names.iter().filter(|known| **known == name).count(), 1, "{name}");
    }
    let file = profile::env_file(&variables);
    for lines in [
        "# The port to listen on; 0 takes a free one. (service.port)\n# PORT=3002\n",
        "# combined.log and error.log, rotated at 5 MB (log.dir)\n# LOG_DIR=logs\n",
        "Empty: nobody is asked, with a warning at start. (room.conversation.ask.get)\n# CONVERSATION_ACCESS_URL=\n",
        "Needed, unless JWT_PUBLIC_KEY or JWKS_URL is set. (auth.secret)\nJWT_SECRET=\n",
    ] {
        assert!(file.contains(lines), "{lines}{file}");
    }
}

#[test]
fn a_refreshed_token_changes_nothing_where_the_rooms_are_open() {
    let stage = hometrip(&[]);
    let rooms: Vec<RoomName> = ["user:42", "conversation:7"].map(|room| RoomName::parse(room).unwrap()).to_vec();
    let refreshed = stage.profile.rules.on_refresh(MAIN, &rooms, &stage.facts(), stage.rooms_max);
    assert_eq!((refreshed.join, refreshed.leave), (vec![], vec![]));
}
