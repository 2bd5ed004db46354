//! Messages are published before anybody hears of them, open access is said, documents name parts of their paths.

use hub::codes::ErrorCode;
use hub::rules::Reply;

use crate::check;
use crate::stage::{NOW_UNIX_MS, Stage};

const CLAN: &str = r#"
[auth]
token     = "with_key"
anonymous = { query = "userId", guest = "guest-" }

[[endpoint]]
protocol = "json"

[room.clan_chat]
name  = "clan:{clanId}"
enter = "!has(user.clanIds) || clanId in user.clanIds"

[command.chat]
args    = { content = { text = [1, 4000] }, clanId = "id", messageType = { text = [1, 32], default = "TEXT" } }
require = [{ member = "clan:{args.clanId}" }]
let     = { line = { messageId = "{new.id}", content = "{args.content}", clanId = "{args.clanId}", messageType = "{args.messageType}", timestamp = "{now}" } }
publish = { key = "gateway.chat.sent", body = "{line}" }
answer  = { event = "message_sent", data = { messageId = "{line.messageId}" } }
emit    = { to = "clan:{args.clanId}", except = "self", event = "chat", data = "{line}" }

[source.rabbitmq]
queue = [{ name = "websocket.gateway", bind = ["clan.#"] }]

[[route]]
key  = "clan.message"
once = "{event.messageId?}"
emit = { to = "clan:{event.clanId}", event = "chat" }

[[route]]
key  = "clan.#"
drop = "not for clients"
"#;

#[test]
fn a_message_is_confirmed_before_anybody_hears_of_it() {
    const LINE: &str = r#"{"messageId":"fresh","content":"hi","clanId":1,"messageType":"TEXT","timestamp":"2026-11-20T21:44:00.000Z"}"#;
    let asked = format!("publish - gateway.chat.sent fresh {LINE}");
    let answered = r#"self message_sent {"messageId":"fresh"}"#;
    let told = format!("clan:1 but self <- chat {LINE}");
    for (reply, expected) in [
        (Reply::Published, vec![&*asked, answered, &told]),
        (Reply::NotConfigured, vec![&asked, answered, &told]),
        (
            Reply::Failed { code: ErrorCode::TryAgain, message: "the broker is away".into() },
            vec![&asked, "failed try_again: the broker is away"],
        ),
        (
            Reply::Failed { code: ErrorCode::Unknown, message: "no confirm".into() },
            vec![&asked, "failed unknown: no confirm (fresh)"],
        ),
        (Reply::Allowed, vec![&asked, "failed internal: the gateway lost track of this command"]),
    ] {
        let mut stage = Stage::new(CLAN, &[]).inside(&["clan:1"]);
        check(stage.command("chat", r#"{"content":"hi","clanId":1}"#, false, vec![reply]), &expected);
    }
    let mut stage = Stage::new(CLAN, &[]);
    check(
        stage.command("chat", r#"{"content":"hi","clanId":1}"#, false, vec![]),
        &["failed not_a_member: you are not a member of `clan:1`"],
    );
}

#[test]
fn an_event_may_carry_its_own_identity() {
    let stage = Stage::new(CLAN, &[]);
    check(
        stage.route("clan.message", r#"{"clanId":1,"messageId":"m"}"#),
        &["once m", r#"clan:1 <- chat {"clanId":1,"messageId":"m"}"#],
    );
    check(stage.route("clan.message", r#"{"clanId":1}"#), &[r#"clan:1 <- chat {"clanId":1}"#]);
    check(stage.route("clan.war", "{}"), &["ignored: not for clients"]);
}

#[test]
fn access_is_open_without_a_key_and_said_so() {
    let open = Stage::new(CLAN, &[]);
    assert_eq!(open.profile.auth.access, hub::profile::Access::Open);
    assert_eq!(open.warnings.len(), 1);
    let closed = Stage::new(CLAN, &[("JWKS_URL", "https://id.example.com/keys")]);
    assert_eq!((closed.profile.auth.access, closed.warnings.len()), (hub::profile::Access::Token, 0));
}

#[test]
fn documents_name_parts_of_their_paths() {
    let profile = format!(
        "{CLAN}\n[http.\"GET /user-status/{{userId}}\"]\nbody = {{ data = {{ userId = \"{{path.userId}}\", now = \"{{now}}\" }} }}\npublic = false"
    );
    let stage = Stage::new(&profile, &[]);
    let rules = &stage.profile.rules;
    let (document, parts) = rules.document("GET", "/user-status/a b").unwrap();
    assert_eq!((parts.clone(), rules.document_is_public(document)), (vec!["a b".to_owned()], false));
    let written = rules.write_document(document, &parts, &[], NOW_UNIX_MS, &|_| None);
    assert_eq!(written, r#"{"data":{"userId":"a b","now":"2026-11-20T21:44:00.000Z"}}"#);
    for path in ["/user-status", "/user-status/", "/user-status/a/b", "/"] {
        assert_eq!(rules.document("GET", path), None, "{path}");
    }
}
