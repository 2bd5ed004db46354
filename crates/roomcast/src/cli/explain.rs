//! `roomcast explain`: what would become of an event, and why, by the evaluator that delivers. Sends nothing.

use bytes::Bytes;
use clap::Args;
use hub::emission::{Emission, Target};
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
  echo '{\"userId\":7}' | roomcast explain --config mine.toml --key booking.confirmed --event -")]
pub(crate) struct Options {
    #[command(flatten)]
    profile: ProfileChoice,
    /// The routing key
    #[arg(long)]
    key: String,
    /// The event's body: a file, or `-` for standard input
    #[arg(long, value_name = "FILE")]
    event: String,
}

/// Prints what would go out, for each queue that the event would come by.
pub(crate) fn run(options: &Options, environment: &Environment) -> Outcome {
    let source = options.profile.required()?;
    let (profile, _) = source.read(environment, Variables::MayBeMissing)?;
    let body = Bytes::from(file(&options.event)?);
    let Some(rabbitmq) = &profile.rabbitmq else {
        return Err(Problem::Failed(anyhow::anyhow!("{} has no source of events", source.name)));
    };
    let queues: Vec<&str> =
        rabbitmq.queues.iter().filter(|queue| queue.brings(&options.key)).map(|queue| queue.name.as_str()).collect();
    if queues.is_empty() {
        say!("no queue is bound to the key `{}`: the broker would drop the event", options.key);
    }
    let mut poison = None;
    for queue in queues {
        say!("{} -> queue {queue}", options.key);
        let (fate, why) = profile.rules.explain(&Arrival {
            origin: Origin::Rabbitmq { exchange: &rabbitmq.exchange, queue },
            key: &options.key,
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
                }
            }
            Fate::Ignored { reason } => say!("  ignored: {reason}"),
            Fate::Poison { reason } => {
                say!("  dead letter: {reason}");
                poison = Some(reason);
            }
        }
    }
    match poison {
        Some(_) => Err(Problem::Said),
        None => Ok(()),
    }
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
