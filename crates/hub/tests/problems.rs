//! What is wrong with a profile is told all at once: where, what, and what was probably meant.

#![allow(clippy::unwrap_used, reason = "tests unwrap")]

use hub::profile::{self, Profile};
use proptest::prelude::*;

const OPEN: &str = "[auth]\ntoken = 'ignored'\n[[endpoint]]\nprotocol = 'socket.io'\n";

fn problems(text: &str) -> Vec<String> {
    match Profile::read(text, "p.toml", &|_| None) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

/// Reads a working profile with this added from line 5 on.
fn check(added: &str, expected: &[&str]) {
    assert_eq!(problems(&format!("{OPEN}{added}")), expected, "{added}");
}

#[test]
fn a_profile_needs_little() {
    check("", &[]);
    assert_eq!(
        problems(""),
        [
            "p.toml:1:1: `endpoint` is missing; write `[[endpoint]]`",
            "p.toml:1:1: the variable JWT_SECRET is not set, nor JWT_PUBLIC_KEY or JWKS_URL, and `auth` needs a key to check tokens",
        ]
    );
}

#[test]
fn unknown_keys_have_suggestions() {
    check("[servce]\nname = 'x'", &["p.toml:5:2: there is no table or key `servce`; did you mean `service`?"]);
    check("[service]\nnmae = 'x'", &["p.toml:6:1: `service` has no key `nmae`; did you mean `name`?"]);
    check("[api]\ncolour = 'x'", &["p.toml:6:1: `api` has no key `colour`; there is `key`"]);
    check(
        "[command.x]\nanswer = { akc = 1 }",
        &["p.toml:6:12: `command.x.answer` has no key `akc`; did you mean `ack`?"],
    );
    check("[endpoint2]", &["p.toml:5:2: there is no table or key `endpoint2`; did you mean `endpoint`?"]);
}

#[test]
fn what_an_endpoint_may_have_depends_on_its_protocol() {
    check("allow_eio3 = true\ncookie = {}\ncompress_polls = false\ntrailing_slash = false", &[]);
    check(
        "[[endpoint]]\nprotocol = 'json'\nallow_eio3 = true",
        &["p.toml:7:1: `endpoint.allow_eio3` is for the protocol `socket.io` alone"],
    );
    check("cookie = { name = 'a b' }", &["p.toml:5:19: `a b` cannot be the name of a cookie"]);
    check("cookie = { path = '/;x' }", &["p.toml:5:19: `/;x` cannot be the path of a cookie"]);
}

#[test]
fn how_connections_are_ended_is_checked() {
    check("[user]\nconnections = 2\nsurplus = { close = 'oldest', code = 4900, error = 'forbidden' }", &[]);
    check(
        "[user]\nsurplus = { close = 'newest' }",
        &["p.toml:6:21: `user.surplus.close` must be one of `oldest`, not `newest`"],
    );
    check(
        "[user]\nsurplus = { error = 'replased' }",
        &["p.toml:6:21: there is no error code `replased`; did you mean `replaced`?"],
    );
    check("[user]\nsurplus = { kode = 1 }", &["p.toml:6:13: `user.surplus` has no key `kode`; did you mean `code`?"]);
    check(
        "[user]\nsurplus = { code = 1006 }",
        &[
            "p.toml:6:20: 1006 is no code that a WebSocket may be closed with; take one from 4000 to 4999, which are for applications",
        ],
    );
    check(
        "[[endpoint]]\nprotocol = 'json'\nheartbeat = { code = 5000 }",
        &["p.toml:7:22: `endpoint.heartbeat.code` must be a whole number from 1000 to 4999, not 5000"],
    );
    check(
        "heartbeat = { event = 'ping', code = 4408 }",
        &["p.toml:5:31: `endpoint.heartbeat.code` is for the protocol `json` alone"],
    );
}

#[test]
fn types_are_checked() {
    check(
        "[service]\nport = 'abc'",
        &["p.toml:6:8: `service.port` must be a whole number from 0 to 65535, not `abc`; leave out the quotes"],
    );
    check("[service]\nport = 70000", &["p.toml:6:8: `service.port` must be a whole number from 0 to 65535, not 70000"]);
    check(
        "[service]\nport = true",
        &["p.toml:6:8: `service.port` must be a whole number from 0 to 65535, not a boolean"],
    );
    check(
        "[drain]\ndelay = 5",
        &["p.toml:6:9: `drain.delay` has no unit; write a time such as \"500ms\", \"3s\", \"5m\", \"24h\" or \"7d\""],
    );
    check(
        "[drain]\ndelay = '5 moons'",
        &[
            "p.toml:6:9: `drain.delay` must be a time such as \"500ms\", \"3s\", \"5m\", \"24h\" or \"7d\", not `5 moons`",
        ],
    );
    check("[service]\ncluster_host = '10.0.0.7'", &[]);
    check(
        "[service]\ncluster_host = 'gateway-1'",
        &["p.toml:6:16: `service.cluster_host` must be an IP address such as \"10.0.0.7\", not `gateway-1`"],
    );
    check(
        "[log]\nlevel = 'wran'",
        &[
            "p.toml:6:9: `log.level` must be one of `error`, `warn`, `info`, `http`, `verbose`, `debug`, `silly` or `trace`, not `wran`; did you mean `warn`?",
        ],
    );
    check(
        "[route]\nkey = 'x'",
        &["p.toml:5:1: `route` may stand several times, and its order counts; write `[[route]]`"],
    );
    check("[user]\nlimits = 5", &["p.toml:6:1: `user` has no key `limits`; there is `connections` or `surplus`"]);
    check(
        "[room.x]\nenter = true",
        &["p.toml:5:1: `room.x` needs a `name`; for example name = \"conversation:{roomId}\""],
    );
}

#[test]
fn syntax_errors_have_their_place_and_the_rest_is_still_read() {
    let told = problems(&format!("{OPEN}[service]\nname = \nnmae = 1"));
    assert!(told[0].starts_with("p.toml:6:8: "), "{told:?}");
    assert!(told.iter().any(|problem| problem.contains("nmae")), "{told:?}");
}

#[test]
fn variables_are_checked() {
    check(
        "[service]\nname = '${SERVICE_NAME}'",
        &["p.toml:6:8: the variable SERVICE_NAME is not set, and `service.name` needs it"],
    );
    check(
        "[service]\nname = '${A|B}'",
        &["p.toml:6:8: none of the variables A, B is set, and `service.name` needs one"],
    );
    check("[service]\nname = '${A'", &["p.toml:6:8: `${A` has no `}`; write `$${` for a plain `${`"]);
}

const ROOMS: &str = "[room.conversation]\nname = 'conversation:{roomId}'\nenter = true\n";

#[test]
fn paths_in_templates_are_checked_at_their_place() {
    check(
        &format!("{ROOMS}[command.x]\nargs = {{ roomId = 'id' }}\njoin = 'conversation:{{args.roomld}}'"),
        &["p.toml:10:22: `{args.roomld}`: `args` has no `roomld`; there is `roomId`; did you mean `args.roomId`?"],
    );
    check(
        "[command.x]\nargs = { location = { lat = 'number' } }\nanswer = { ack = { x = '{args.location.long}' } }",
        &["p.toml:7:25: `{args.location.long}`: `args.location` has no `long`; there is `lat`"],
    );
    check(
        "[command.x]\nanswer = { ack = { room = '{room}' } }",
        &["p.toml:6:28: `{room}`: nothing is called `room` here; there is `now`, `new`, `socket`, `user`, `args`"],
    );
    check(
        "[command.x]\nlet = { line = { a = 1 } }\nanswer = { ack = '{line.b}' }",
        &["p.toml:7:19: `{line.b}`: `line` has no `b`; there is `a`"],
    );
    check(
        &format!("{ROOMS}on_enter = {{ event = 'x', data = '{{room.id}}' }}"),
        &["p.toml:8:35: `{room.id}`: `room` has no `id`; there is `kind`, `roomId`"],
    );
    check(
        "[on.user_offline]\nemit = { to = '{user.rooms.conversatoin}', event = 'x', data = 1 }",
        &["p.toml:6:16: `{user.rooms.conversatoin}`: `user.rooms` has no `conversatoin`; there is `user`"],
    );
    check(
        "[http.'GET /x']\nbody = '{gateway.uptme}'",
        &[
            "p.toml:6:9: `{gateway.uptme}`: `gateway` has no `uptme`; there is `status`, `reasons`, `service`, `version`, `redis`, `rabbitmq`, `uptime`, `openConnections`, `sockets`, `connections`, `users`, `totalUsers`, `rooms`, `totalRooms`; did you mean `gateway.uptime`?",
        ],
    );
}

#[test]
fn conditions_are_checked() {
    check(
        "[room.x]\nname = 'x:{id}'\nenter = 'idd == user.x'",
        &[
            "p.toml:7:9: the condition `idd == user.x`: nothing is called `idd` here; there is `now`, `new`, `socket`, `user`, `room`, `id`; did you mean `id`?",
        ],
    );
    let told = problems(&format!("{OPEN}[room.x]\nname = 'x:{{id}}'\nenter = 'id =='"));
    assert!(told[0].starts_with("p.toml:7:9: the condition `id ==`: is no condition: "), "{told:?}");
}

#[test]
fn rooms_must_be_of_a_kind_and_doors_must_open() {
    check(
        &format!("{ROOMS}[command.x]\nargs = {{ roomId = 'id' }}\njoin = 'conversations:{{args.roomId}}'"),
        &["p.toml:10:8: rooms like `conversations:…` are of no kind; did you mean `conversation:…`?"],
    );
    check(
        &format!("{ROOMS}[command.x]\nargs = {{ kind = ['conversation', 'order'] }}\njoin = '{{args.kind}}:1'"),
        &["p.toml:10:8: rooms like `order:1` are of no kind; describe it in a `[room.KIND]` with this name"],
    );
    check(
        "[command.x]\nargs = { id = 'id' }\njoin = 'user:{args.id}'",
        &[
            "p.toml:7:8: clients can neither enter nor leave rooms like `user:…`: those of kind `user` are closed; give `[room.user]` an `enter`",
        ],
    );
    check(
        "[on.connect]\njoin = 'compny:{user.companyId?}'\n[room.company]\nname = 'company:{id}'",
        &["p.toml:6:8: rooms like `compny:…` are of no kind; did you mean `company:…`?"],
    );
    check(
        "[room.a]\nname = 'a{'\n[command.x]\nargs = { id = 'id' }\njoin = 'b:{args.id}'",
        &["p.toml:6:8: the name pattern `a{`: a `{` without its `}`"],
    );
    check(
        "[room.a]\nname = 'x:{a}'\n[room.b]\nname = 'x:{b}'",
        &["p.toml:8:8: the rooms of kind `b` have the same names as those of kind `a`"],
    );
    check(
        "[room.user]\nname = 'users:{id}'",
        &[
            "p.toml:5:1: rooms of kind `user` have names of their own, since every user's sockets are in one; write `name = \"user:{id}\"`, or take another name for this kind",
        ],
    );
}

fn check_routes(routes: &str, expected: &[&str]) {
    let source = "[source.rabbitmq]\nqueue = [{ name = 'q', bind = ['order.*', 'user.created'] }]\n";
    check(&format!("{source}{routes}"), expected);
}

#[test]
fn routes_must_be_within_reach() {
    let to = "emit = { to = 'everyone', event = 'x' }\n";
    check_routes(
        &format!("[[route]]\nkey = 'order.*'\n{to}[[route]]\nkey = 'order.created'\n{to}"),
        &["p.toml:11:7: no event reaches this route: the one in line 7 takes all of its keys (`order.*`)"],
    );
    check_routes(
        &format!("[[route]]\nkey = 'order.*'\nwhen = 'has(event.x)'\n{to}[[route]]\nkey = 'order.created'\n{to}"),
        &[],
    );
    check_routes(
        &format!("[[route]]\nkey = 'order.created.now'\n{to}"),
        &["p.toml:8:7: no event reaches this route: no queue is bound to a key that fits `order.created.now`"],
    );
    check_routes(
        &format!("[[route]]\nkey = 'user.craeted'\n{to}"),
        &[
            "p.toml:8:7: no event reaches this route: no queue is bound to a key that fits `user.craeted`; did you mean `user.created`?",
        ],
    );
    check_routes(
        &format!(
            "[[route]]\nkey = 'order.*'\nfallback = 'has(event.x)'\n{to}[[route]]\nkey = 'user.*'\nfallback = 'has(event.z)'\n{to}[[route]]\nfallback = 'has(event.y)'\n{to}"
        ),
        &[],
    );
    check_routes(
        &format!("[[route]]\nkey = 'order.*'\nfallback = 'true'\n{to}[[route]]\nfallback = 'has(event.y)'\n{to}"),
        &["p.toml:11:1: no event reaches this route: the one in line 7 takes all leftovers"],
    );
    check_routes(
        &format!("[[route]]\nkey = '#'\nwhen = 'has(event.x)'\n{to}[[route]]\nfallback = 'true'\n{to}"),
        &["p.toml:11:1: no event reaches this route: the one in line 7 takes all of its keys (`#`)"],
    );
    check_routes(
        "[[route]]\nkey = 'order.*'\ndrop = 'x'\nemit = { to = 'everyone', event = 'x' }",
        &["p.toml:7:1: a route needs one of `emit` and `drop`"],
    );
    check(
        &format!("[[route]]\nkey = 'order.*'\n{to}"),
        &["p.toml:5:1: no event reaches the routes: the profile has no source; write `[source.rabbitmq]`"],
    );
}

#[test]
fn emits_must_make_sense() {
    check_routes(
        "[[route]]\nkey = 'order.*'\nemit = { to = 'self', event = 'x' }",
        &["p.toml:9:15: `self` means a socket, and none acts here"],
    );
    check(
        "[command.x]\nemit = { to = 'everyone', event = 'x' }",
        &["p.toml:6:8: `x` needs a `data`: there is no payload to pass on here"],
    );
    check(
        "[command.x]\nemit = { event = 'x', data = 1 }",
        &["p.toml:6:8: `x` needs a `to`; `self`, `everyone` or rooms"],
    );
    check_routes(
        "[[route]]\nkey = 'order.*'\nemit = { to = 'everyone', event = '' }",
        &["p.toml:9:35: `event` is empty"],
    );
    check_routes(
        "[[route]]\nkey = 'order.*'\nemit = { to = 'everyone', event = 'order:{now.last}' }",
        &["p.toml:9:42: `{now.last}`: `now` has no `last`; nothing stands below `now`"],
    );
    check(
        "[command.x]\nanswer = { data = 1 }",
        &["p.toml:6:19: `data` is the payload of an event, and no `event` is named; write `ack`"],
    );
    check(
        "[command.connect]",
        &["p.toml:5:10: `connect` has a meaning of its own, so that no command can be called so"],
    );
    check(
        "[command.x]\nrequire = { that = 'true', code = 'forbiden' }",
        &["p.toml:6:35: there is no error code `forbiden`; did you mean `forbidden`?"],
    );
    check(
        "[command.x]\nargs = { a = 'idd' }",
        &["p.toml:6:14: `idd` is nothing that a field can be; did you mean `id`?"],
    );
    check(
        "[command.x]\nargs = { a = { text = [5, 1] } }",
        &["p.toml:6:23: bounds are two numbers, the smaller first: `[1, 4000]`"],
    );
    check(
        "[command.x]\nlet = { user = 1 }",
        &["p.toml:6:9: `user` in `let` hides what is there already; take another name"],
    );
    check("[command.x]\nnamespace = '/lcoation'", &["p.toml:6:13: no endpoint has the namespace `/lcoation`"]);
    check("[http.'POST /x']\nbody = 1", &["p.toml:5:7: `POST /x` has a method other than GET: documents are read"]);
}

#[test]
fn all_problems_are_told_at_once_from_the_top_down() {
    check(
        "[service]\nnmae = 'x'\nport = 'abc'\n[log]\nlevel = 'x'",
        &[
            "p.toml:6:1: `service` has no key `nmae`; did you mean `name`?",
            "p.toml:7:8: `service.port` must be a whole number from 0 to 65535, not `abc`; leave out the quotes",
            "p.toml:9:9: `log.level` must be one of `error`, `warn`, `info`, `http`, `verbose`, `debug`, `silly` or `trace`, not `x`",
        ],
    );
}

#[test]
fn a_profile_may_be_shared_by_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Profile>();
}

#[test]
fn the_builtin_profiles_need_nothing_else() {
    for name in profile::builtin_names() {
        let variables = profile::variables(profile::builtin(name).unwrap(), name);
        assert!(variables.is_ok(), "{name}: {variables:?}");
    }
    assert_eq!(profile::builtin("nobody"), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn any_text_is_read_or_refused(text in "[\\[\\]{}='a-z.$|?:\n 0-9]{0,80}") {
        let _ = Profile::read(&text, "p.toml", &|_| None);
    }

    #[test]
    fn a_damaged_profile_is_read_or_refused(cut in 0..6_000_usize, with in "[\\[\\]{}='a-z.$|?:\n]{0,6}") {
        for name in profile::builtin_names() {
            let text = profile::builtin(name).unwrap();
            let cut = (0..=cut.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap();
            let _ = Profile::read(&format!("{}{with}{}", &text[..cut], &text[cut..]), "p.toml", &|_| Some("1".to_owned()));
        }
    }
}

#[test]
fn what_a_document_fetches_must_exist() {
    let document = |call: &str| {
        format!("[room.clan_chat]\nname = 'clan:{{id}}'\n[http.'GET /x']\ncall = {call}\nbody = 'constant'")
    };
    check(&document("{ n = { members = 'clan_chat' } }"), &[]);
    check(
        &document("{ n = { members = 'clan_chta' } }"),
        &["p.toml:8:26: there is no kind of rooms `clan_chta`; did you mean `clan_chat`?"],
    );
    check(&document("{ n = { sockets = '/nowhere' } }"), &["p.toml:8:26: no endpoint has the namespace `/nowhere`"]);
    check(
        &document("{ n = { online = '{path.userId}' } }"),
        &["p.toml:8:26: `{path.userId}`: `path` has no `userId`; nothing stands below `path`"],
    );
    check(
        &document("{ n = {} }"),
        &["p.toml:8:14: a `call` of a document needs one thing to fetch; several have a name each"],
    );
    check(
        &document("{ now = { rooms = 'clan_chat' } }"),
        &["p.toml:8:10: `now` in `call` hides what is there already; take another name"],
    );
}

#[test]
fn a_route_comes_from_a_source_that_is_there() {
    let route = |from: &str| {
        format!(
            "[source.redis]\nchannels = ['depot:trucks']\n[[route]]\n{from}\nemit = {{ to = 'everyone', event = 'e' }}"
        )
    };
    check(&route("from = 'redis:depot:trucks'"), &[]);
    check(
        &route("from = 'redis:depot:truck'"),
        &[
            "p.toml:8:8: no event reaches this route: `[source.redis]` has no channel `depot:truck`; did you mean `depot:trucks`?",
        ],
    );
    check(
        &route("from = 'kafka'"),
        &["p.toml:8:8: `kafka` is no source of events; there is `rabbitmq`, and `redis:CHANNEL`"],
    );
    check(
        &route("from = 'redis:depot:trucks'\nkey = 'a'"),
        &[
            "p.toml:9:7: `key` is for events of RabbitMQ: what a channel of Redis brings has the channel's name as its key",
        ],
    );
    check(
        &route("key = 'a'"),
        &["p.toml:7:1: no event reaches the routes: the profile has no source; write `[source.rabbitmq]`"],
    );
    let twice =
        format!("{}\n[[route]]\nfrom = 'redis:depot:trucks'\ndrop = 'never'", route("from = 'redis:depot:trucks'"));
    check(
        &twice,
        &[
            "p.toml:11:8: no event reaches this route: the one in line 7 takes all of its events (channel `depot:trucks`)",
        ],
    );
}

#[test]
fn each_protocol_has_its_own_heartbeat() {
    check("heartbeat = { event = 'ping', every = '5s' }", &[]);
    check(
        "heartbeat = { every = '5s' }",
        &["p.toml:5:13: `endpoint.heartbeat` needs an `event` where the protocol is `socket.io`"],
    );
    check(
        "heartbeat = { event = 'ping', silent = 2 }",
        &["p.toml:5:31: `endpoint.heartbeat.silent` is for the protocol `json` alone"],
    );
    check(
        "[[endpoint]]\nprotocol = 'json'\nheartbeat = { event = 'ping' }",
        &["p.toml:7:15: `endpoint.heartbeat.event` is for the protocol `socket.io` alone"],
    );
    check(
        "[[endpoint]]\nprotocol = 'json'\nheartbeat = { every = '0s' }",
        &["p.toml:7:23: `endpoint.heartbeat.every` must be more than nothing"],
    );
}

#[test]
fn calls_name_methods_of_upstreams() {
    let upstream = "[upstream.location]\ngrpc = 'localhost:1'\n[command.x]\n";
    check(&format!("{upstream}call = {{ y = {{}} }}"), &["p.toml:8:14: a call needs one of `presence` and `call`"]);
    check(
        &format!("{upstream}call = {{ y = {{ call = 'locaton.S/M' }} }}"),
        &["p.toml:8:23: there is no upstream `locaton`; did you mean `location`?"],
    );
    check(
        &format!("{upstream}call = {{ y = {{ call = 'location.Get' }} }}"),
        &[
            "p.toml:8:23: `location.Get` is nothing that a service can be asked for; write `UPSTREAM.SERVICE/METHOD`, as in `location.LocationService/GetVendorLocation`",
        ],
    );
    check(
        "[room.x]\nname = 'x:{id}'\nsnapshot = { call = 'a.S/M', event = 'e', with = { u = '{user.id}' } }",
        &[
            "p.toml:7:21: there is no upstream `a`; describe it in `[upstream.a]`",
            "p.toml:7:57: `{user.id}`: nothing is called `user` here; there is `now`, `room`",
        ],
    );
    check(
        &format!(
            "{upstream}[room.x]\nname = 'x:{{id}}'\nkeep = {{ event = 'e' }}\nsnapshot = {{ call = 'location.S/M', event = 'f' }}"
        ),
        &[
            "p.toml:11:12: `keep` and `snapshot` are about one value, so their events have one name, and not `e` and `f`",
        ],
    );
    check(
        "[upstream.'a.b']\ngrpc = 'x'",
        &["p.toml:5:11: `a.b` is no name for an upstream: it stands before a `.` in `call`"],
    );
}

#[test]
fn services_are_called_as_they_are() {
    const UPSTREAMS: &str = "[upstream.desk]\nhttp = 'http://desk'\n[upstream.users]\ngrpc = 'users:1'\n";
    let calls = |call: &str, expected: &[&str]| {
        check(&format!("{UPSTREAMS}[command.x]\nargs = {{ id = 'id' }}\ncall = {{ c = {{ {call} }} }}"), expected);
    };
    calls("call = 'desk GET /a/{args.id}?b={user.id}'", &[]);
    calls("call = 'desk POST /a', with = '{args}'", &[]);
    calls("call = 'users.Users/Get', with = '{args}'", &[]);
    calls("call = 'dsek GET /a'", &["p.toml:11:23: there is no upstream `dsek`; did you mean `desk`?"]);
    calls(
        "call = 'orders GET /a'",
        &["p.toml:11:23: there is no upstream `orders`; describe it in `[upstream.orders]`"],
    );
    calls("call = 'desk get /a'", &["p.toml:11:23: `get` is no method of HTTP; did you mean `GET`?"]);
    calls(
        "call = 'desk LIST /a'",
        &["p.toml:11:23: `LIST` is no method of HTTP; there is GET, POST, PUT, PATCH, DELETE"],
    );
    calls("call = 'desk GET a'", &["p.toml:11:23: the path `a` does not begin with `/`"]);
    calls("call = 'desk GET /a b'", &["p.toml:11:23: ` ` has no place in a path; percent-encode it (RFC 3986)"]);
    calls("call = 'desk GET /a/../b'", &["p.toml:11:23: the path `/a/../b` climbs: `.` and `..` are no steps of it"]);
    calls(
        "call = 'desk GET /a/{args.idd}'",
        &["p.toml:11:36: `{args.idd}`: `args` has no `idd`; there is `id`; did you mean `args.id`?"],
    );
    calls(
        "call = 'desk GET /a', with = '{args}'",
        &[
            "p.toml:11:45: no message goes along with a GET; what the service must know stands in the path: `/tickets?of={user.id}`",
        ],
    );
    let form = "write `UPSTREAM GET /PATH`, as in `tickets GET /tickets/{args.ticketId}`";
    calls(
        "call = 'desk /a'",
        &[&format!("p.toml:11:23: `desk /a` is nothing that a service can be asked for; {form}")],
    );
    calls("call = 'desk.Desk/Get'", &[&format!("p.toml:11:23: the upstream `desk` is called by HTTP; {form}")]);
    let form = "write `UPSTREAM.SERVICE/METHOD`, as in `location.LocationService/GetVendorLocation`";
    calls("call = 'users GET /a'", &[&format!("p.toml:11:23: the upstream `users` is called by gRPC; {form}")]);
    calls(
        "call = 'users.Get'",
        &[&format!("p.toml:11:23: `users.Get` is nothing that a service can be asked for; {form}")],
    );
}

#[test]
fn what_a_field_must_be_is_told_to_those_who_know_it_by_another_name() {
    let args = |args: &str, expected: &[&str]| check(&format!("[command.x]\nargs = {{ a = {args} }}"), expected);
    for (word, here) in [
        ("string", "`text`"),
        ("Int", "`integer`"),
        ("boolean", "`bool`"),
        ("uuid", "`id`"),
        ("array", "`{ list = \"id\" }`"),
    ] {
        let expected = format!("p.toml:6:14: `{word}` is nothing that a field can be; here it is {here}");
        args(&format!("'{word}'"), &[&expected]);
    }
    args(
        "[1, 100]",
        &["p.toml:6:14: a list of words is texts, at least one; bounds say of what they are: `{ integer = [1, 100] }`"],
    );
    args("{ text = 300 }", &["p.toml:6:23: bounds are two numbers, the smaller first: `[1, 4000]`"]);
    args(
        "{ is = 'text', max = 300 }",
        &["p.toml:6:35: `max` of `a` is for lists; other bounds stand in `{ text = [1, 300] }` and the like"],
    );
    args("{ is = 'integer', default = 'x' }", &["p.toml:6:42: the default of a must be an integer, not a text"]);
    args("{ one_of = ['b', 'c'], default = 'd' }", &["p.toml:6:47: the default of a must be one of b, c"]);
    args(
        "{ text = [1, 3], default = 'abcd' }",
        &["p.toml:6:41: the default of a must be a text of 1 to 3 characters, not of 4"],
    );
    let text = format!("{OPEN}[command.x]\nargs = {{ ids = ['id'] }}\npublish = {{ key = 'k', body = 1 }}");
    let (_, warnings) = Profile::read(&text, "p.toml", &|_| None).unwrap();
    let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "p.toml:6: `[\"id\"]` is the word `id` and nothing else; a list is `{ list = \"id\" }`",
            "p.toml:7: nothing is published: the profile has no broker; write `[source.rabbitmq]`, with `queue = []` where nothing comes from it",
        ]
    );
    check("[source.rabbitmq]\nqueue = []\n[command.x]\npublish = { key = 'k', body = 1 }", &[]);
}

#[test]
fn slips_from_other_languages_are_told_as_what_they_are() {
    check(
        "[on_connect]\njoin = 'x'",
        &["p.toml:5:2: there is no table or key `on_connect`; did you mean `on.connect`?"],
    );
    check(
        "[command.x]\nanswer = 'ok'",
        &[
            "p.toml:6:10: `command.x.answer` must be a table, not `ok`; for example answer = { ack = { success = true, room = \"{room}\" } }",
        ],
    );
    check(
        &format!("{ROOMS}[command.x]\nargs = {{ id = 'id' }}\njoin = 'conversation:{{id}}'"),
        &[
            "p.toml:10:22: `{id}`: nothing is called `id` here; there is `now`, `new`, `socket`, `user`, `args`; did you mean `args.id`?",
        ],
    );
    check(
        &format!("{ROOMS}[command.x]\nargs = {{ id = 'id' }}\njoin = 'conversation:${{args.id}}'"),
        &[
            "p.toml:10:8: `args.id` in `${args.id}` is no name of a variable: letters, digits and `_`, as in `${PORT:-3000}`; what a rule knows is `{args.id}`, without `$`",
        ],
    );
    let enter = |condition: &str| format!("[room.x]\nname = 'x:{{id}}'\nenter = \"{condition}\"");
    let told = problems(&format!("{OPEN}{}", enter("user.id = id")));
    assert!(told[0].ends_with("; `==` compares"), "{told:?}");
    check(
        &enter("user.clans.includes(id)"),
        &[
            "p.toml:7:9: the condition `user.clans.includes(id)`: there is no function `includes`; there is `size`, `startsWith`, `endsWith`, `contains` (in texts) and `matches`; `x in list` asks whether a list holds x",
        ],
    );
}

#[test]
fn every_path_leads_to_one_endpoint() {
    let again = "another endpoint has the path `/ws` already; give this one a `path` of its own";
    let json = "[[endpoint]]\nprotocol = 'json'\n";
    check(&format!("{json}{json}path = '/ws2'"), &[]);
    check(&format!("{json}{json}path = '/ws'"), &[&format!("p.toml:9:8: {again}")]);
    check(&format!("{json}{json}paths = {{ '/ws' = '/' }}"), &[&format!("p.toml:9:9: {again}")]);
    check(&format!("{json}{json}"), &[&format!("p.toml:7:1: {again}")]);
}

#[test]
fn the_rooms_of_exceptions_and_of_the_hooks_of_rooms_exist() {
    check(
        "[command.x]\nemit = { to = 'everyone', except = 'me', event = 'x', data = 1 }",
        &["p.toml:6:36: rooms like `me` are of no kind; describe it in a `[room.KIND]` with this name"],
    );
    check(
        &format!("{ROOMS}on_leave = {{ to = 'conversatoin:{{room.roomId}}', event = 'x', data = 1 }}"),
        &["p.toml:8:19: rooms like `conversatoin:…` are of no kind; did you mean `conversation:…`?"],
    );
    check(
        "[on.user_offline]\nemit = { to = 'all', event = 'x', data = 1 }",
        &["p.toml:6:15: rooms like `all` are of no kind; describe it in a `[room.KIND]` with this name"],
    );
}

#[test]
fn upstreams_have_one_address() {
    check(
        "[upstream.desk]",
        &[
            "p.toml:5:11: the upstream `desk` needs its address: `grpc` or `http`; for example http = \"${TICKETS_URL:-}\"",
        ],
    );
    check(
        "[upstream.desk]\ngrpc = 'a:1'\nhttp = 'http://a'",
        &["p.toml:7:8: the upstream `desk` is called by gRPC or by HTTP: keep one of `grpc` and `http`"],
    );
    check(
        "[upstream.desk]\nhttp = 'desk:80'",
        &[
            "p.toml:6:8: the address `desk:80` does not begin with `http://` or `https://`; did you mean `http://desk:80`?",
        ],
    );
    check("[upstream.desk]\nhttp = 'http:///a'", &["p.toml:6:8: the address `http:///a` names no host"]);
    check(
        "[upstream.desk]\nhttp = 'http://desk/?a=b'",
        &[
            "p.toml:6:8: the address `http://desk/?a=b` goes on where the paths of calls begin: leave out what follows `?` or `#`",
        ],
    );
    check(
        "[upstream.desk]\nhttp = 'http://desk'\nproto = 'desk.proto'",
        &["p.toml:7:9: `proto` says what a service of gRPC is: one of HTTP takes and gives JSON"],
    );
    check(
        "[upstream.desk]\nhttp = 'http://desk'\nauthorization = 'Bearer sécret'",
        &["p.toml:7:17: `authorization` cannot be the value of a header: it holds more than printable ASCII"],
    );
}
