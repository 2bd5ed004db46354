//! What members of this cluster say and where they say it, in the format that all of them speak: the one place that knows of both.

use bytes::Bytes;
use hub::names::NamespaceId;
use hub::profile::RedisMode;
use wire::bus::Malformed;
use wire::bus::broadcast::{self, Outgoing};
use wire::bus::request::{self, Answer, Asked};
use wire::bus::sharded::{self, Ending, Said};

use super::Shared;
use crate::gateway::Gateway;

/// What is to be published: the channel and the message. `None` where nothing is.
pub(super) type Saying = Result<Option<(String, Bytes)>, serde_json::Error>;

/// The channels by which a namespace hears of others.
pub(super) struct Channels {
    pub(super) namespace: NamespaceId,
    /// Its name.
    pub(super) name: String,
    /// Those of events begin with this.
    pub(super) events: String,
    pub(super) requests: String,
    /// Those of answers: to this member, and in the classic format to everybody.
    pub(super) responses: Vec<String>,
    /// How this member's own messages end, in the sharded format.
    ending: Ending,
}

impl Channels {
    /// Those of all lasting namespaces, by their numbers.
    pub(super) fn of(gateway: &Gateway, prefix: &str, uid: &str) -> Vec<Self> {
        let of = |(namespace, name): (NamespaceId, &str)| {
            let name = name.to_owned();
            let events = broadcast::base_channel(prefix, &name);
            let (requests, responses) = match gateway.profile.redis_mode {
                RedisMode::Classic => {
                    let response = format!("{prefix}-response#{name}#");
                    (format!("{prefix}-request#{name}#"), vec![format!("{response}{uid}#"), response])
                }
                RedisMode::Sharded => (events.clone(), vec![sharded::channel_of(&events, uid)]),
            };
            let ending = Ending::of(uid, &name);
            Self { namespace, name, events, requests, responses, ending }
        };
        gateway.namespaces.lasting().into_iter().map(of).collect()
    }

    /// Whether a message of the sharded format is this member's own.
    pub(super) fn is_own(&self, message: &[u8]) -> bool {
        self.ending.is_of(message)
    }
}

/// Characters of a member's id, as Node's adapters have them.
pub(super) fn uid_of(mode: RedisMode) -> String {
    match mode {
        RedisMode::Classic => super::new_uid(),
        RedisMode::Sharded => {
            let mut bytes = [0; 8];
            getrandom::fill(&mut bytes).expect("the operating system had randomness at the start");
            bytes.iter().map(|byte| format!("{byte:02x}")).collect()
        }
    }
}

/// An event.
pub(super) fn event(shared: &Shared, channels: &Channels, outgoing: &Outgoing<'_>) -> Saying {
    match shared.mode() {
        RedisMode::Classic => {
            outgoing.message().map(|message| Some((outgoing.channel(&shared.settings.prefix), message)))
        }
        RedisMode::Sharded => {
            let channel = sharded::event_channel(&channels.events, outgoing.scope);
            sharded::event(outgoing).map(|message| Some((channel, message)))
        }
    }
}

/// A question or an order. `None` for a namespace that other nodes do not know, and where the format has no such thing.
pub(super) fn request(shared: &Shared, namespace: NamespaceId, asked: &Asked) -> Saying {
    let Some(channels) = shared.channels_of(namespace) else { return Ok(None) };
    let message = match shared.mode() {
        RedisMode::Classic => asked.message(&channels.name).map(Some)?,
        RedisMode::Sharded => sharded::request(asked, &channels.name)?,
    };
    Ok(message.map(|message| (channels.requests.clone(), message)))
}

/// An answer to a question of this member's.
pub(super) fn answer(
    shared: &Shared,
    namespace: NamespaceId,
    asker: Option<&str>,
    id: &str,
    answer: &Answer,
) -> Saying {
    let Some(channels) = shared.channels_of(namespace) else { return Ok(None) };
    match (shared.mode(), asker) {
        // The shared channel is where all members listen, those of `socket.io-redis` among them.
        (RedisMode::Classic, _) => {
            let channel = channels.responses.last().cloned();
            answer.message(id).map(|message| channel.map(|channel| (channel, message)))
        }
        (RedisMode::Sharded, Some(asker)) => {
            let message = sharded::answer(&shared.uid, &channels.name, id, answer)?;
            Ok(message.map(|message| (sharded::channel_of(&channels.events, asker), message)))
        }
        (RedisMode::Sharded, None) => Ok(None),
    }
}

/// The command that publishes.
pub(super) fn publish(mode: RedisMode) -> &'static str {
    match mode {
        RedisMode::Classic => "PUBLISH",
        RedisMode::Sharded => "SPUBLISH",
    }
}

/// What `PUBSUB` is asked for the members of a channel.
pub(super) fn count_of(mode: RedisMode) -> &'static str {
    match mode {
        RedisMode::Classic => "NUMSUB",
        RedisMode::Sharded => "SHARDNUMSUB",
    }
}

/// What is wrong where Redis does not let this node count the members.
pub(super) fn uncounted(mode: RedisMode) -> &'static str {
    match mode {
        RedisMode::Classic => {
            "Redis does not let this node count the members of the cluster, so that nobody else is asked anything: its user needs +pubsub|numsub"
        }
        RedisMode::Sharded => {
            "Redis does not let this node count the members of the cluster, so that nobody else is asked anything: its user needs +pubsub|shardnumsub"
        }
    }
}

/// The format that this cluster does not speak, and the channel by which its members would be seen.
pub(super) fn other(shared: &Shared) -> Option<(RedisMode, String)> {
    let Channels { name, events, .. } = shared.channels.first()?;
    Some(match shared.mode() {
        RedisMode::Classic => (RedisMode::Sharded, events.clone()),
        RedisMode::Sharded => (RedisMode::Classic, format!("{}-request#{name}#", shared.settings.prefix)),
    })
}

/// What is wrong where somebody speaks this format, which is not this node's.
pub(super) fn stranger(mode: RedisMode) -> &'static str {
    match mode {
        RedisMode::Classic => {
            "a member of the cluster speaks the classic format, and hears nothing of this node, nor this node of it: `redis.mode` (REDIS_ADAPTER_MODE) must be the same for all"
        }
        RedisMode::Sharded => {
            "a member of the cluster speaks the sharded format, and hears nothing of this node, nor this node of it: `redis.mode` (REDIS_ADAPTER_MODE) must be the same for all"
        }
    }
}

/// The channels that bring such messages, for the log: of rooms' channels, what they begin with.
pub(super) fn channel(shared: &Shared, namespace: NamespaceId, kind: Kind) -> &str {
    let Some(Channels { events, requests, responses, .. }) = shared.channels_of(namespace) else { return "" };
    match kind {
        Kind::Event => events,
        Kind::Request => requests,
        Kind::Answer => responses.last().map_or("", String::as_str),
    }
}

/// What a message is, as far as its channel tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Event,
    Request,
    Answer,
}

/// Reads a message of another member's; `None` for one of our own, for one of another namespace, and for what is not known.
///
/// # Errors
/// It is no message.
pub(super) fn read(
    shared: &Shared,
    namespace: NamespaceId,
    kind: Kind,
    message: &Bytes,
) -> Result<Option<Said>, Malformed> {
    let Some(channels) = shared.channels_of(namespace) else { return Ok(None) };
    match (shared.mode(), kind) {
        (RedisMode::Sharded, _) => sharded::read(message, &shared.uid, &channels.name),
        (RedisMode::Classic, Kind::Event) => {
            let incoming = broadcast::read(message, &shared.uid)?;
            Ok(incoming.filter(|incoming| incoming.namespace == channels.name).map(Said::Event))
        }
        (RedisMode::Classic, Kind::Request) => {
            let asked = request::read(message)?;
            Ok(asked.filter(|asked| asked.uid.as_deref() != Some(&shared.uid)).map(Said::Asked))
        }
        (RedisMode::Classic, Kind::Answer) => {
            let (id, answer) = request::read_answer(message)?;
            Ok(Some(Said::Answered { uid: String::new(), id, answer }))
        }
    }
}
