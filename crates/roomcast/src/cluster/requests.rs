//! What other members of the cluster ask of this node's sockets, and its answers: who counts as a member must answer, or those who ask wait in vain.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use hub::emission::{Emission, Except, Payload, Sending, Target};
use hub::names::{EventName, NamespaceId, RoomName};
use serde_json::json;
use wire::bus::Decoded;
use wire::bus::broadcast::Scope;
use wire::bus::request::{Answer, Asked, Request, Who};
use wire::raw;

use super::dialect::Kind;
use super::incoming::{Origin, Sender, audience, dropped, payload};
use super::{Shared, UID_MAX_BYTES, dialect};
use crate::fanout::Done;
use crate::shard::inbox::{Described, Order, Query};

/// Events of others that clients are answering, at a time; of one more nobody is asked.
pub(super) const QUESTIONS_MAX: usize = 256;

/// Events of other servers that the program's handlers wait with, at a time; one more is dropped.
pub(super) const HEARINGS_MAX: usize = 1_000;

/// How long clients' answers are passed on. Who asks waits for less: five seconds, unless it says otherwise.
const ANSWERS_MAX: Duration = Duration::from_secs(60);

/// Carries out what is asked, in the order in which it came, and answers.
pub(super) async fn answer(shared: &Arc<Shared>, namespace: NamespaceId, asked: Asked) {
    let Asked { uid, id, request } = asked;
    let is_too_long = |text: &Option<String>| text.as_ref().is_some_and(|text| text.len() > UID_MAX_BYTES);
    if is_too_long(&uid) || is_too_long(&id) {
        let reason = "a question whose id, or whose asker's, is too long";
        let sender = Sender::Known(uid.as_deref());
        return dropped(shared, "unreadable", reason, Origin { namespace, kind: Kind::Request, sender });
    }
    let answers = Answers { shared: shared.clone(), namespace, asker: uid, id };
    match request {
        Request::Sockets { rooms } => {
            let sockets = described(shared, namespace, &Scope { rooms, except: Vec::new() }).await;
            let ids = sockets.into_iter().map(|socket| socket.socket_id.to_string()).collect();
            answers.give(&Answer::SocketIds(ids));
        }
        Request::AllRooms => {
            let sockets = described(shared, namespace, &Scope::default()).await;
            let names = sockets.iter().flat_map(|socket| {
                std::iter::once(socket.socket_id.to_string()).chain(socket.rooms.iter().map(ToString::to_string))
            });
            let mut names: Vec<String> = names.collect();
            names.sort_unstable();
            names.dedup();
            answers.give(&Answer::Rooms(names));
        }
        Request::Fetch { peers_only: true, .. } => answers.give(&Answer::Sockets(Vec::new())),
        Request::Fetch { scope, peers_only: false } => {
            let sockets = described(shared, namespace, &scope).await;
            answers.give(&Answer::Sockets(sockets.iter().map(document).collect()));
        }
        Request::Join { who, rooms } => carry_out(answers, who, Order::Join(room_names(&rooms))).await,
        Request::Leave { who, rooms } => carry_out(answers, who, Order::Leave(room_names(&rooms))).await,
        Request::Disconnect { who, close } => carry_out(answers, who, Order::Disconnect { close }).await,
        Request::ServerSideEmit { event, arguments } => hear(answers, &event, arguments),
        Request::Broadcast { event, arguments, scope } => ask_clients(answers, event, arguments, scope).await,
    }
}

/// Where answers to a request go.
struct Answers {
    shared: Arc<Shared>,
    namespace: NamespaceId,
    asker: Option<String>,
    id: Option<String>,
}

impl Answers {
    fn origin(&self) -> Origin<'_> {
        Origin { namespace: self.namespace, kind: Kind::Request, sender: Sender::Known(self.asker.as_deref()) }
    }

    /// Gives an answer, where one is wanted.
    fn give(&self, answer: &Answer) {
        let Some(id) = &self.id else { return };
        let answer = dialect::answer(&self.shared, self.namespace, self.asker.as_deref(), id, answer);
        if let Ok(Some((channel, message))) = answer {
            self.shared.bus.answer(channel, message);
        }
    }
}

fn room_names(names: &[String]) -> Vec<RoomName> {
    names.iter().filter_map(|name| RoomName::parse(name).ok()).collect()
}

async fn described(shared: &Shared, namespace: NamespaceId, scope: &Scope) -> Vec<Described> {
    let Some((target, except)) = audience(scope) else { return Vec::new() };
    let query = |reply| Query::Describe { namespace, target: target.clone(), except: except.clone(), reply };
    shared.gateway.ask(query).await.concat()
}

/// A socket as Node servers know those of others. Of its handshake nothing is told: what stands in it, tokens among that, is nobody's business.
fn document(socket: &Described) -> String {
    let id = socket.socket_id.as_str();
    let rooms: Vec<&str> = std::iter::once(id).chain(socket.rooms.iter().map(RoomName::as_str)).collect();
    let handshake = json!({ "headers": {}, "query": {}, "auth": {} });
    let data = json!({ "userId": socket.user_id.as_ref().map(|id| id.as_str()) });
    json!({ "id": id, "handshake": handshake, "rooms": rooms, "data": data }).to_string()
}

/// An order. Where it is for one socket, its owner alone answers.
async fn carry_out(answers: Answers, who: Who, order: Order) {
    let (scope, is_answered) = match who {
        Who::Scope(scope) => (scope, false),
        Who::Socket(id) => (Scope { rooms: vec![id], except: Vec::new() }, true),
    };
    let Some((target, except)) = audience(&scope) else { return };
    let query = |reply| Query::Order {
        namespace: answers.namespace,
        target: target.clone(),
        except: except.clone(),
        order: order.clone(),
        reply,
    };
    let sockets: usize = answers.shared.gateway.ask(query).await.into_iter().sum();
    if is_answered && sockets > 0 {
        answers.give(&Answer::Done);
    }
}

/// Has the program hear an event of another server's, in its order among those of the bus as far as its handler goes without waiting. Where nobody listens, who
/// wants an answer gets one all the same, and need not wait for it.
fn hear(answers: Answers, event: &str, arguments: Decoded) {
    let shared = answers.shared.clone();
    let Some(channels) = shared.channels_of(answers.namespace) else { return };
    let nothing = || Decoded { json: b"null".to_vec(), attachments: Vec::new() };
    let Some(mut hearing) = shared.program.hear(&shared.gateway, &channels.name, event, payload(arguments)) else {
        return answers.give(&Answer::ServerSide(nothing()));
    };
    let Ok(permit) = shared.hearings.clone().try_acquire_owned() else {
        let reason = "the program's handlers of events of other servers do not keep up";
        return dropped(&shared, "full", reason, answers.origin());
    };
    let give = move |answer: Option<Payload>| {
        answers.give(&Answer::ServerSide(answer.as_ref().map_or_else(nothing, first_argument)));
    };
    let at_once = {
        let _backend = shared.backend.enter();
        hearing.as_mut().now_or_never()
    };
    match at_once {
        Some(answer) => give(answer),
        None => drop(shared.backend.spawn(async move {
            let _permit = permit;
            give(hearing.await);
        })),
    }
}

/// Sends an event that clients are to answer, in its order among those of the bus, and passes their answers on as they come.
async fn ask_clients(answers: Answers, event: String, arguments: Decoded, scope: Scope) {
    let gateway = answers.shared.gateway.clone();
    let permit = answers.shared.questions.clone().try_acquire_owned();
    let audience = audience(&scope).zip(EventName::parse(&event).ok());
    let (Ok(permit), Some(((target, except), event))) = (permit, audience) else {
        return answers.give(&Answer::ClientCount(0));
    };
    let mut question = gateway.acks.ask();
    let number = question.number();
    let emission = emission(answers.namespace, target, except, event, arguments, number);
    let acks = gateway.acks.clone();
    gateway.publisher.publish(vec![emission], Some(Done::new(move |_| acks.all_asked(number)))).await;
    tokio::spawn(async move {
        let _permit = permit;
        let passing_on = async {
            let mut is_counted = false;
            loop {
                let progress = question.progress().await;
                if let Some(asked) = progress.asked.filter(|_| !is_counted) {
                    is_counted = true;
                    answers.give(&Answer::ClientCount(asked as u64));
                }
                for (_, payload) in progress.given {
                    answers.give(&Answer::Ack(first_argument(&payload)));
                }
                if progress.is_complete {
                    return;
                }
            }
        };
        // Who does not answer in time is not waited for.
        let _ = tokio::time::timeout(ANSWERS_MAX, passing_on).await;
    });
}

fn emission(
    namespace: NamespaceId,
    target: Target,
    except: Except,
    event: EventName,
    arguments: Decoded,
    number: u64,
) -> Emission {
    let payload = payload(arguments);
    Emission {
        namespace,
        target,
        except,
        event,
        payload,
        sending: Sending { volatile: false, ack: Some(number), local: true },
    }
}

/// What a client or a server answered: Node servers pass on the first argument alone.
fn first_argument(payload: &Payload) -> Decoded {
    let json = std::str::from_utf8(&payload.json).unwrap_or_default();
    let first = raw::arguments(json).next().unwrap_or("null");
    Decoded { json: first.as_bytes().to_vec(), attachments: payload.attachments.to_vec() }
}
