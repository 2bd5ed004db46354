//! What a client said before it went is done all the same, and told to others; nothing is told to who is gone.

#![allow(clippy::unwrap_used, reason = "tests unwrap")]

use std::sync::Arc;

use hub::codes::ErrorCode;
use hub::names::{NamespaceId, RoomName, SocketId, UserId};
use hub::profile::{Profile, builtin};
use hub::rooms::{SocketKey, Watch};
use hub::rules::{Reply, Request, User};
use hub::sockets::{Moment, Output, Sockets};

const MAIN: NamespaceId = NamespaceId(0);

struct Nobody;

impl Watch for Nobody {
    fn opened(&mut self, _: NamespaceId, _: &RoomName) {}
    fn closed(&mut self, _: NamespaceId, _: &RoomName) {}
}

/// Clan's sockets; what they decide is told as lines, and questions by their tickets.
struct Stage {
    sockets: Sockets,
    questions: Vec<u32>,
}

impl Stage {
    fn new() -> Self {
        let secret = |name: &str| (name == "JWT_SECRET").then(|| "secret".to_owned());
        let (profile, _) = Profile::read(builtin("clan").unwrap(), "clan.toml", &secret).unwrap();
        Self { sockets: Sockets::new(Arc::new(profile)), questions: Vec::new() }
    }

    fn act<T>(&mut self, act: impl FnOnce(&mut Sockets, &Moment<'_>, &mut Vec<Output>) -> T) -> (T, Vec<String>) {
        let new_id = || "fresh".to_owned();
        let mut out = Vec::new();
        let result = act(&mut self.sockets, &Moment { now_unix_ms: 0, new_id: &new_id }, &mut out);
        let lines = out.into_iter().map(|output| self.line(output)).collect();
        (result, lines)
    }

    fn line(&mut self, output: Output) -> String {
        match output {
            Output::ToSocket { event, .. } => format!("self {event}"),
            Output::Failed { code, .. } => format!("failed {}", code.as_str()),
            Output::Emit(emission) => {
                let payload = String::from_utf8_lossy(&emission.payload.json).into_owned();
                let content = payload.split(r#""content":""#).nth(1).and_then(|rest| rest.split('"').next());
                format!("emit {} {}", emission.event, content.unwrap_or_default())
            }
            Output::Wait { ticket, request, .. } => {
                self.questions.push(ticket);
                let Request::Publish { key, .. } = request else { panic!("Clan asks for nothing else: {request:?}") };
                format!("publish {key}")
            }
            other => format!("{other:?}"),
        }
    }

    fn enter(&mut self, slot: u32) -> SocketKey {
        let id = SocketId::parse(&format!("socket-{slot:013}")).unwrap();
        let user = User { id: Some(UserId::from_text("ann").unwrap()), ..User::anonymous() };
        let key = self.sockets.enter(slot, MAIN, id, Arc::new(user), None);
        assert_eq!(self.command(key, "subscribe_clan_chat", r#"{"clanId":"a"}"#), ["self subscription_confirmed"]);
        key
    }

    fn command(&mut self, key: SocketKey, name: &str, data: &str) -> Vec<String> {
        self.act(|sockets, moment, out| sockets.command(key, name, Some(data), None, moment, &mut Nobody, out)).1
    }

    fn say(&mut self, key: SocketKey, content: &str) -> Vec<String> {
        self.command(key, "chat", &format!(r#"{{"clanId":"a","content":"{content}"}}"#))
    }

    /// The socket goes; how many of its commands are dropped.
    fn exit(&mut self, key: SocketKey) -> usize {
        let (departed, lines) = self.act(|sockets, moment, out| sockets.exit(key, moment, &mut Nobody, out));
        assert!(lines.is_empty(), "{lines:?}");
        departed.dropped_commands
    }

    /// The answer to the oldest question.
    fn reply(&mut self, reply: Reply) -> Vec<String> {
        let ticket = self.questions.remove(0);
        self.resume(ticket, reply)
    }

    fn resume(&mut self, ticket: u32, reply: Reply) -> Vec<String> {
        self.act(|sockets, moment, out| sockets.resume(ticket, reply, moment, &mut Nobody, out)).1
    }
}

const SENT: &str = "publish gateway.chat.sent";

#[test]
fn a_line_whose_sender_goes_before_its_confirm_is_told_to_the_others() {
    let mut stage = Stage::new();
    let ann = stage.enter(1);
    assert_eq!(stage.say(ann, "1"), [SENT]);
    assert_eq!(stage.exit(ann), 0);
    // Who comes next has its place, and nothing of it.
    let next = stage.enter(1);
    let ticket = stage.questions[0];
    assert_eq!(stage.reply(Reply::Published), ["emit chat 1"]);
    assert!(stage.resume(ticket, Reply::Published).is_empty(), "a second answer is nobody's");
    assert_eq!(stage.say(next, "2"), [SENT]);
    assert_eq!(stage.reply(Reply::Published), ["self message_sent", "emit chat 2"]);
}

#[test]
fn what_waited_behind_it_is_done_in_order_whatever_becomes_of_it() {
    let mut stage = Stage::new();
    let ann = stage.enter(1);
    assert_eq!(stage.say(ann, "1"), [SENT]);
    assert!(stage.command(ann, "unsubscribe_clan_chat", r#"{"clanId":"b"}"#).is_empty(), "it waits");
    for content in ["2", ""] {
        assert!(stage.say(ann, content).is_empty(), "it waits");
    }
    assert!(stage.command(ann, "notification_ack", r#"{"notificationId":1}"#).is_empty(), "it waits");
    assert!(stage.command(ann, "unsubscribe_clan_chat", r#"{"clanId":"a"}"#).is_empty(), "it waits");
    assert!(stage.say(ann, "no longer a member").is_empty(), "it waits");
    assert_eq!(stage.exit(ann), 0);
    let away = Reply::Failed { code: ErrorCode::TryAgain, message: "away".to_owned() };
    assert_eq!(stage.reply(away), [SENT], "who failed is told to nobody");
    assert_eq!(stage.reply(Reply::Published), ["emit chat 2", "publish gateway.notification.acked"]);
    assert!(stage.reply(Reply::Published).is_empty());
    assert!(stage.questions.is_empty());
}

#[test]
fn of_those_that_go_only_so_many_have_their_commands_finished() {
    let mut stage = Stage::new();
    for slot in 0..1_000 {
        let key = stage.enter(slot);
        stage.say(key, "x");
        assert_eq!(stage.exit(key), 0);
    }
    let one_too_many = stage.enter(0);
    stage.say(one_too_many, "x");
    stage.say(one_too_many, "y");
    assert_eq!(stage.exit(one_too_many), 2);
    let dropped = stage.questions.pop().unwrap();
    assert!(stage.resume(dropped, Reply::Published).is_empty());
    assert_eq!(stage.reply(Reply::Published), ["emit chat x"]);
    let key = stage.enter(0);
    stage.say(key, "z");
    assert_eq!(stage.exit(key), 0, "there is room for one");
}

#[test]
fn of_those_that_go_only_so_many_bytes_are_kept() {
    let mut stage = Stage::new();
    // As much as a line may say: each of its characters takes four bytes.
    let line = "\u{1f980}".repeat(4_000);
    let mut go = |slot| {
        let key = stage.enter(slot);
        stage.say(key, &line);
        stage.exit(key)
    };
    let kept = (0..1_000).take_while(|slot| go(*slot) == 0).count();
    // What is under way is what a client said, and what was made of it.
    assert!(kept > 100 && kept * 2 * line.len() < 16 << 20, "{kept}");
    // An end makes room for another.
    stage.reply(Reply::Published);
    let key = stage.enter(0);
    stage.say(key, &line);
    assert_eq!(stage.exit(key), 0);
}
