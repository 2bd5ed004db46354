//! What other members of the cluster publish: from the connection into a bounded queue, and from there to the shards. Redis cuts subscribers that
//! do not keep up: so reading waits for nobody, and what finds the queue full is dropped and counted. What is for a room without a member here is
//! not even read.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::bail;
use bytes::Bytes;
use hub::emission::{Emission, Except, Payload, Rooms, Sending, Target};
use hub::names::{EventName, NamespaceId, RoomName, SocketId};
use parking_lot::Mutex;
use redis::{PushInfo, PushKind, Value};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use wire::bus::broadcast::{self, Incoming, Scope};
use wire::bus::sharded::{self, Said};
use wire::bus::{Decoded, Malformed};

use super::dialect::{self, Channels, Kind};
use super::wires::State;
use super::{Shared, UID_MAX_BYTES, requests};
use crate::redis_link::{Ear, Pushed, Way};
use crate::sampled::Sampled;
use crate::shard::ids;

/// Messages that may wait.
const WAITING_MAX: usize = 16_384;

/// Their bytes together.
const WAITING_MAX_BYTES: usize = 32 * 1024 * 1024;

/// How often something was dropped, for the log.
static DROPPED: Sampled = Sampled::new();

/// A message of a namespace's channels.
struct Message {
    namespace: NamespaceId,
    kind: Kind,
    body: Bytes,
}

/// The connections' side, of which each has an [`Inlet`].
pub(super) struct Intake {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Message>,
    waiting: Arc<Waiting>,
    leaving: Leaving,
}

/// Channels that are not to be listened to any longer, until Redis has said so. Bound: those that were asked for at once.
pub(super) type Leaving = Arc<Mutex<HashSet<String>>>;

/// One connection's side: must not block.
pub(super) struct Inlet {
    shared: Arc<Shared>,
    ear: Ear,
    state: watch::Sender<State>,
    queue: mpsc::Sender<Message>,
    waiting: Arc<Waiting>,
    leaving: Leaving,
}

/// What is in the queue.
#[derive(Default)]
struct Waiting {
    bytes: AtomicUsize,
    /// Requests, each of which may have sockets enter rooms.
    requests: AtomicUsize,
}

/// What waits; ends with the connections.
pub(super) struct Queue {
    messages: mpsc::Receiver<Message>,
    waiting: Arc<Waiting>,
}

/// Both sides for the connections of one session.
pub(super) fn intake(shared: &Arc<Shared>) -> (Intake, Queue) {
    let (queue, messages) = mpsc::channel(WAITING_MAX);
    let waiting = Arc::<Waiting>::default();
    let intake = Intake { shared: shared.clone(), queue, waiting: waiting.clone(), leaving: Leaving::default() };
    (intake, Queue { messages, waiting })
}

impl Intake {
    /// For one connection. `heard` tells of the canary that came last, `state` how the connection is.
    pub(super) fn inlet(&self, own_channel: String, heard: watch::Sender<u64>, state: watch::Sender<State>) -> Inlet {
        let Self { shared, queue, waiting, leaving } = self;
        let (shared, queue) = (shared.clone(), queue.clone());
        let ear = Ear::at(own_channel, heard);
        Inlet { shared, ear, state, queue, waiting: waiting.clone(), leaving: leaving.clone() }
    }

    /// Where it is noted which channels are left.
    pub(super) fn leaving(&self) -> Leaving {
        self.leaving.clone()
    }
}

impl Inlet {
    /// Takes what the connection brings by itself; only messages mean something here.
    pub(super) fn take(&self, push: PushInfo) {
        if push.kind == PushKind::SUnsubscribe {
            return self.left(&push);
        }
        let Some(Pushed { way, channel, body }) = Pushed::of(push).and_then(|message| self.ear.pass(message)) else {
            return;
        };
        let Ok(channel) = std::str::from_utf8(&channel) else { return };
        match way {
            Way::Channel => self.request(channel, body),
            Way::Pattern => self.event(channel, body),
            Way::Sharded => self.sharded(channel, body),
        }
    }

    /// A channel is not listened to any longer: because that was asked for, or because another server of a Redis Cluster has it now.
    fn left(&self, push: &PushInfo) {
        let Some(Value::BulkString(channel)) = push.data.first() else { return };
        if !std::str::from_utf8(channel).is_ok_and(|channel| self.leaving.lock().remove(channel)) {
            self.state.send_replace(State::Moved);
        }
    }

    fn event(&self, channel: &str, body: Bytes) {
        let Shared { channels, gateway, uid, .. } = &*self.shared;
        let found =
            channels.iter().find_map(|of| broadcast::room_of(channel, &of.events).map(|room| (of.namespace, room)));
        let Some((namespace, room)) = found.filter(|_| !broadcast::is_own(&body, uid)) else { return };
        gateway.metrics.bus_messages.inc();
        if room.is_none_or(|room| self.may_be_here(namespace, room)) {
            self.queue(Message { namespace, kind: Kind::Event, body });
        }
    }

    /// Whether a message for this room alone can be for somebody here.
    fn may_be_here(&self, namespace: NamespaceId, room: &str) -> bool {
        let Ok(room) = RoomName::parse(room) else { return false };
        let interest = self.shared.gateway.publisher.interest();
        // Who is not here yet may be put there by what waits.
        ids::place_of(room.as_str()).is_some()
            || !interest.shards(namespace, std::slice::from_ref(&room)).is_empty()
            || self.waiting.requests.load(Ordering::Acquire) > 0
    }

    /// A message of the sharded format, where one channel brings whatever is for all.
    fn sharded(&self, channel: &str, body: Bytes) {
        let Shared { channels, gateway, bus, .. } = &*self.shared;
        let found = channels.iter().find_map(|of| broadcast::room_of(channel, &of.events).map(|room| (of, room)));
        let Some((of, room)) = found.filter(|(of, _)| !of.is_own(&body)) else { return };
        let namespace = of.namespace;
        let kind = match room {
            Some(_) if of.responses.iter().any(|own| own == channel) => Kind::Answer,
            Some(room) => {
                gateway.metrics.bus_messages.inc();
                if self.may_be_here(namespace, room) {
                    self.queue(Message { namespace, kind: Kind::Event, body });
                }
                return;
            }
            None if sharded::is_event(&body) => Kind::Event,
            None => Kind::Request,
        };
        gateway.metrics.bus_messages.inc();
        match kind {
            Kind::Answer if bus.asking().is_idle() => {}
            Kind::Event | Kind::Answer => drop(self.queue(Message { namespace, kind, body })),
            Kind::Request => self.queue_request(namespace, body),
        }
    }

    fn request(&self, channel: &str, body: Bytes) {
        let Shared { channels, gateway, bus, .. } = &*self.shared;
        let is = |name: &String| name == channel;
        if let Some(Channels { namespace, .. }) = channels.iter().find(|of| is(&of.requests)) {
            gateway.metrics.bus_messages.inc();
            self.queue_request(*namespace, body);
        } else if !bus.asking().is_idle()
            && let Some(Channels { namespace, .. }) = channels.iter().find(|of| of.responses.iter().any(is))
        {
            gateway.metrics.bus_messages.inc();
            self.queue(Message { namespace: *namespace, kind: Kind::Answer, body });
        }
    }

    fn queue_request(&self, namespace: NamespaceId, body: Bytes) {
        self.waiting.requests.fetch_add(1, Ordering::AcqRel);
        if !self.queue(Message { namespace, kind: Kind::Request, body }) {
            self.waiting.requests.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Returns whether there was room for it.
    fn queue(&self, message: Message) -> bool {
        let size = message.body.len();
        if size as u64 > self.shared.settings.message_max_bytes {
            let reason = format!("{size} bytes are more than the limit");
            dropped(&self.shared, "too_large", &reason, Origin::of(&message));
            return false;
        }
        let before = self.waiting.bytes.fetch_add(size, Ordering::AcqRel);
        let refused = if before + size > WAITING_MAX_BYTES {
            Some(message)
        } else {
            self.queue.try_send(message).err().map(TrySendError::into_inner)
        };
        if let Some(message) = &refused {
            self.waiting.bytes.fetch_sub(size, Ordering::AcqRel);
            dropped(&self.shared, "full", "the shards do not keep up", Origin::of(message));
        }
        refused.is_none()
    }
}

impl Queue {
    /// Hands what comes to the shards, until the connection ends.
    ///
    /// # Errors
    /// It has.
    pub(super) async fn run(mut self, shared: Arc<Shared>) -> anyhow::Result<()> {
        while let Some(message) = self.messages.recv().await {
            let size = message.body.len();
            if let Err(error) = hand_over(&shared, &message).await {
                dropped(&shared, "unreadable", &error.to_string(), Origin::of(&message));
            }
            if let Kind::Request = message.kind {
                self.waiting.requests.fetch_sub(1, Ordering::AcqRel);
            }
            self.waiting.bytes.fetch_sub(size, Ordering::AcqRel);
        }
        bail!("the connection to Redis was lost")
    }
}

async fn hand_over(shared: &Arc<Shared>, message: &Message) -> Result<(), Malformed> {
    let Message { namespace, kind, body } = message;
    let (namespace, kind) = (*namespace, *kind);
    match dialect::read(shared, namespace, kind, body)? {
        Some(Said::Event(incoming)) => {
            if !is_repeat(shared, &incoming)
                && let Some(emission) = emission(shared, namespace, incoming)
            {
                shared.gateway.publisher.publish(vec![emission], None).await;
            }
        }
        Some(Said::Asked(asked)) => requests::answer(shared, namespace, asked).await,
        Some(Said::Answered { id, answer, .. }) => shared.bus.asking().take(&id, answer, body.len()),
        None => {}
    }
    Ok(())
}

/// Whether an event came before. Its number, which gateways give, tells; whoever gives none does not publish again.
fn is_repeat(shared: &Shared, Incoming { uid, number, .. }: &Incoming) -> bool {
    let is_repeat = number.is_some_and(|number| shared.repeats.lock().is_repeat(uid, number));
    if is_repeat {
        shared.gateway.metrics.bus_repeats.inc();
    }
    is_repeat
}

/// Whom other members mean; `None` where it is nobody here.
pub(super) fn audience(scope: &Scope) -> Option<(Target, Except)> {
    let names = |names: &[String]| names.iter().filter_map(|name| RoomName::parse(name).ok()).collect::<Vec<_>>();
    let target = if scope.rooms.is_empty() {
        Target::Everyone
    } else {
        // Names that no room here can have are nobody's: they make it nothing for everyone.
        Target::Rooms(Rooms::new(names(&scope.rooms))?)
    };
    let sockets = scope.except.iter().filter_map(|name| SocketId::parse(name)).collect();
    Some((target, Except { rooms: names(&scope.except), sockets }))
}

/// What a message comes to on this node; `None` where it is for nobody here.
fn emission(shared: &Shared, namespace: NamespaceId, incoming: Incoming) -> Option<Emission> {
    let Incoming { uid, event, arguments, scope, volatile, .. } = incoming;
    let (target, except) = audience(&scope)?;
    let Ok(event) = EventName::parse(&event) else {
        let reason = "an event whose name is empty, too long, or has control characters";
        dropped(
            shared,
            "unreadable",
            reason,
            Origin { namespace, kind: Kind::Event, sender: Sender::Known(Some(&uid)) },
        );
        return None;
    };
    Some(Emission {
        namespace,
        target,
        except,
        event,
        payload: payload(arguments),
        sending: Sending { volatile, ack: None, local: true },
    })
}

/// Arguments as shards and programs have them.
pub(super) fn payload(arguments: Decoded) -> Payload {
    Payload { json: arguments.json.into(), attachments: arguments.attachments.into() }
}

/// Where something came from, for the log.
pub(super) struct Origin<'a> {
    pub(super) namespace: NamespaceId,
    pub(super) kind: Kind,
    pub(super) sender: Sender<'a>,
}

/// Who sent it.
pub(super) enum Sender<'a> {
    Known(Option<&'a str>),
    /// As far as what came says.
    In(&'a Bytes),
}

impl<'a> Origin<'a> {
    fn of(Message { namespace, kind, body }: &'a Message) -> Self {
        Self { namespace: *namespace, kind: *kind, sender: Sender::In(body) }
    }
}

pub(super) fn dropped(shared: &Shared, why: &str, reason: &str, origin: Origin<'_>) {
    shared.gateway.metrics.bus_dropped.inc(why);
    if let Some(times) = DROPPED.due() {
        let Origin { namespace, kind, sender } = origin;
        let channel = dialect::channel(shared, namespace, kind);
        let sender = match sender {
            Sender::Known(sender) => sender.map(str::to_owned),
            Sender::In(body) => wire::bus::sender(body),
        };
        let sender = sender.filter(|sender| sender.len() <= UID_MAX_BYTES);
        tracing::warn!(reason, channel, sender, times, "what another member of the cluster said was dropped");
    }
}
