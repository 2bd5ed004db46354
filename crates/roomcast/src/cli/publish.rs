//! `roomcast publish`: one event for testing, to the broker or to a gateway's server API. Knows nothing of what a gateway does with it.

use anyhow::Context;
use clap::{ArgGroup, Args};
use roomcast::source::rabbitmq::{Settings, publish_once};
use serde::Serialize;
use serde_json::value::RawValue;

use super::arguments::{Asked, ProfileChoice, Variables, asked, data};
use super::{Environment, Outcome, Problem, block_on, say};

/// Publish one event: to the broker as a service does, or to a room by the server API
///
/// With --key it goes to the exchange of the profile and waits for the broker's confirm; RABBITMQ_URL or RABBITMQ_HOST say where the broker is.
/// With --room it goes to the gateway's server API, which API_KEY opens.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("target").required(true).args(["key", "room"])))]
#[command(after_help = "Examples:
  roomcast publish --profile hometrip --key message.sent '{\"conversationId\":\"42\",\"message\":{\"content\":\"hi\"}}'
  roomcast publish --profile hometrip --key booking.confirmed @booking.json
  echo '{\"text\":\"hi\"}' | roomcast publish --profile hometrip --room user:42 --event greeting -")]
pub(crate) struct Options {
    /// The routing key: publish to the broker
    #[arg(long)]
    key: Option<String>,
    /// The room: publish by the server API
    #[arg(long, requires = "event")]
    room: Option<String>,
    /// The event's name, with --room
    #[arg(long, value_name = "NAME", conflicts_with = "key")]
    event: Option<String>,
    /// The namespace, with --room [default: all of them]
    #[arg(long, conflicts_with = "key")]
    namespace: Option<String>,
    #[command(flatten)]
    profile: ProfileChoice,
    /// The exchange, with --key [default: the profile's]
    #[arg(long, value_name = "NAME", conflicts_with = "room")]
    exchange: Option<String>,
    /// Where the gateway listens, with --room [default: this machine, on PORT or on the profile's port]
    #[arg(long, conflicts_with = "key")]
    url: Option<String>,
    /// The event: JSON, `@FILE`, or `-` for standard input
    #[arg(default_value = "{}")]
    data: String,
}

/// Publishes and says what became of it.
pub(crate) fn run(options: Options, environment: &Environment) -> Outcome {
    let body = data(&options.data)?;
    match (&options.key, &options.room) {
        (Some(key), _) => to_broker(&options, key, body, environment),
        (None, Some(room)) => to_room(&options, room, &body, environment),
        (None, None) => Err(Problem::Usage("say where to: --key KEY or --room ROOM".to_owned())),
    }
}

fn to_broker(options: &Options, key: &str, body: Vec<u8>, environment: &Environment) -> Outcome {
    let source = options.profile.required()?;
    let (profile, _) = source.read(environment, Variables::MayBeMissing)?;
    let Some(rabbitmq) = &profile.rabbitmq else {
        return Err(Problem::Failed(anyhow::anyhow!("{} has no broker", source.name)));
    };
    let Some(settings) = Settings::of(&profile)? else {
        return Err(Problem::Failed(anyhow::anyhow!("no broker is set: give RABBITMQ_URL or RABBITMQ_HOST")));
    };
    if serde_json::from_slice::<&RawValue>(&body).is_err() {
        eprintln!("note: this is not JSON; a gateway will put it into its dead-letter queue");
    }
    let exchange = options.exchange.as_deref();
    let shown = exchange.unwrap_or(&rabbitmq.exchange);
    if !block_on(publish_once(&settings, exchange, key, &body))? {
        let message = format!("{shown}: no queue is bound to the key `{key}`, and the event is gone");
        return Err(Problem::Failed(anyhow::anyhow!(message)));
    }
    say!("{shown}: {key}: {} bytes, confirmed by the broker", body.len());
    Ok(())
}

/// The body of `POST /api/publish`; the data goes as it was written.
#[derive(Serialize)]
struct ToRoom<'a> {
    rooms: [&'a str; 1],
    event: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    data: &'a RawValue,
}

fn to_room(options: &Options, room: &str, body: &[u8], environment: &Environment) -> Outcome {
    let api_key =
        super::value(environment, "API_KEY").context("API_KEY is not set: it must be the key that the gateway has")?;
    let request = ToRoom {
        rooms: [room],
        event: options.event.as_deref().unwrap_or_default(),
        namespace: options.namespace.as_deref(),
        data: serde_json::from_slice(body).context("the event is not JSON")?,
    };
    let Asked { url, client } = asked(options.url.as_deref(), &options.profile, environment)?;
    let url = format!("{url}/api/publish");
    let answer = block_on(async {
        let answer = client.build()?.post(&url).bearer_auth(api_key).json(&request).send().await;
        let answer = answer.with_context(|| format!("no answer from {url}"))?;
        let status = answer.status();
        let text = answer.text().await.with_context(|| format!("the answer of {url} broke off"))?;
        anyhow::ensure!(status.is_success(), "{url} answered {status}: {}", text.trim_end());
        Ok(text)
    })?;
    say!("{room}: {}", answer.trim_end());
    Ok(())
}
