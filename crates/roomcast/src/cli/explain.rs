//! `roomcast explain`: what would become of an event, and why, by the evaluator that delivers. Sends nothing.

use bytes::Bytes;
use clap::Args;
use hub::emission::{Emission, Target};
use hub::names::RoomName;
use hub::profile::Profile;
use hub::rules::{Arrival, NewId, Origin, Outcome as Fate};

use super::arguments::{ProfileChoice, Variables, file, now_unix_ms};
use super::{Environment, Outcome, Problem, say};

/// Show which rooms and events an event from the broker would give, and why
///
/// The same evaluator answers that delivers. Nothing is sent. The exit code is 1 where the event would become a dead letter.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  roomcast explain --profile hometrip --key message.sent --event event.json
  echo '{\"userId\":7}' | roomcast explain --config mine.toml --key booking.confirmed --event -
  roomcast explain --config mine.toml --from redis:orders --event event.json")]
pub(crate) struct Options {
    #[command(flatten)]
    profile: ProfileChoice,
    /// The routing key
    #[arg(long, required_unless_present = "from")]
    key: Option<String>,
    /// Where the event comes from, if not from RabbitMQ: `redis:` and the channel
    #[arg(long, conflicts_with = "key", value_parser = channel)]
    from: Option<String>,
    /// The event's body: a file, or `-` for standard input
    #[arg(long, value_name = "FILE")]
    event: String,
}

/// Prints what would go out, for each queue that the event would come by.
pub(crate) fn run(options: &Options, environment: &Environment) -> Outcome {
    let source = options.profile.required()?;
    let (profile, _) = source.read(environment, Variables::MayBeMissing)?;
    let body = Bytes::from(file(&options.event)?);
    let (key, ways) = ways(options, &profile, &source.name)?;
    if ways.is_empty() {
        match options.from {
            Some(_) => say!("nobody subscribes to the channel `{key}`: the event would not come"),
            None => say!("no queue is bound to the key `{key}`: the broker would drop the event"),
        }
    }
    let mut poison = None;
    for (way, origin) in ways {
        say!("{way}");
        let (fate, why) = profile.rules.explain(&Arrival {
            origin,
            key,
            body: &body,
            now_unix_ms: now_unix_ms(),
            new_id: NewId::Known("00000000000000000000"),
        });
        for line in why {
            say!("  {line}");
        }
        match fate {
            Fate::Sent { emissions, once } => {
                if let Some(id) = once {
                    say!("  sent once under the id {id}");
                }
                if emissions.is_empty() {
                    say!("  nothing goes out: no target is left");
                }
                for emission in &emissions {
                    say!("  {}", describe(&profile, emission));
                    for (room, good_for) in kept(&profile, emission) {
                        say!("    kept for those who enter {room} within {} s", good_for / 1_000);
                    }
                }
            }
            Fate::Ignored { reason } => say!("  ignored: {reason}"),
            Fate::Poison { reason } => {
                match origin {
                    Origin::Rabbitmq { .. } => say!("  dead letter: {reason}"),
                    Origin::Redis { .. } => say!("  dropped: {reason}"),
                }
                poison = Some(reason);
            }
        }
    }
    match poison {
        Some(_) => Err(Problem::Said),
        None => Ok(()),
    }
}

/// A way that an event would come by, in words and as the rules know it.
type Way<'a> = (String, Origin<'a>);

/// The event's key, and each way that it would come by.
fn ways<'a>(options: &'a Options, profile: &'a Profile, name: &str) -> Result<(&'a str, Vec<Way<'a>>), Problem> {
    if let Some(channel) = &options.from {
        let has_it = profile.redis_channels.as_ref().is_some_and(|redis| redis.channels.contains(channel));
        let channel = channel.as_str();
        let way = (format!("channel {channel}"), Origin::Redis { channel });
        return Ok((channel, if has_it { vec![way] } else { Vec::new() }));
    }
    let key = options.key.as_deref().unwrap_or_default();
    let Some(rabbitmq) = &profile.rabbitmq else {
        return Err(Problem::Failed(match &profile.redis_channels {
            Some(_) => anyhow::anyhow!("the events of {name} come from Redis alone: say --from redis:CHANNEL"),
            None => anyhow::anyhow!("{name} has no source of events"),
        }));
    };
    let queues = rabbitmq.queues.iter().filter(|queue| queue.brings(key));
    let ways: Vec<Way<'_>> = queues
        .map(|queue| {
            let origin = Origin::Rabbitmq { exchange: &rabbitmq.exchange, queue: &queue.name };
            (format!("{key} -> queue {}", queue.name), origin)
        })
        .collect();
    Ok((key, ways))
}

/// The channel of `redis:CHANNEL`.
fn channel(text: &str) -> Result<String, String> {
    match text.strip_prefix("redis:") {
        Some(channel) if !channel.is_empty() => Ok(channel.to_owned()),
        Some(_) | None => Err("it must be `redis:` and the name of a channel".to_owned()),
    }
}

/// The rooms that keep the event as their last value, and for how many milliseconds.
fn kept<'a>(profile: &'a Profile, emission: &'a Emission) -> impl Iterator<Item = (&'a RoomName, u64)> {
    let rooms: &[RoomName] = match &emission.target {
        Target::Everyone => &[],
        Target::Rooms(rooms) => rooms.names(),
    };
    rooms.iter().filter_map(move |room| {
        let (event, for_ms) = profile.rules.keeps(emission.namespace, room)?;
        (*event == emission.event).then_some((room, for_ms))
    })
}

/// `new_message -> conversation:7 {"conversationId":7}`.
fn describe(profile: &Profile, emission: &Emission) -> String {
    let namespace = match profile.rules.namespace_name(emission.namespace) {
        "/" => String::new(),
        name => format!(" in {name}"),
    };
    let target = match &emission.target {
        Target::Everyone => "everyone".to_owned(),
        Target::Rooms(rooms) => rooms.names().iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    let except: Vec<String> = emission.except.rooms.iter().map(ToString::to_string).collect();
    let except = if except.is_empty() { String::new() } else { format!(" except {}", except.join(", ")) };
    let payload = String::from_utf8_lossy(&emission.payload.json);
    format!("{} -> {target}{except}{namespace} {payload}", emission.event)
}
