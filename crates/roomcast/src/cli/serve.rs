//! `roomcast serve`: a gateway by a profile, until a signal ends it. What a running gateway is made of stands in `app`.

use clap::Args;
use clap::builder::RangedU64ValueParser;
use roomcast::fanout::SHARDS_MAX;

use super::arguments::{ProfileChoice, Source, Variables};
use super::{Environment, Outcome};

/// Run a gateway by a profile, until a signal ends it
///
/// The profile says what it listens on and what it does; its variables come from the environment or from `.env` in the working directory.
/// SIGTERM or Ctrl-C lets the clients go gently; a second one ends it at once.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  JWT_SECRET=secret roomcast serve --profile hometrip
  roomcast serve --config mine.toml --port 8080 --shards 4")]
pub(crate) struct Options {
    #[command(flatten)]
    profile: ProfileChoice,
    #[command(flatten)]
    listening: Listening,
}

/// How a gateway runs, whatever its profile.
#[derive(Debug, Args)]
pub(crate) struct Listening {
    /// How many threads hold the connections [default: one for each core]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..=SHARDS_MAX as u64))]
    shards: Option<usize>,
    /// The address to listen on [default: SERVICE_HOST, else the profile's]
    #[arg(long, value_name = "ADDRESS")]
    host: Option<String>,
    /// The port to listen on; 0 takes a free one [default: PORT, else the profile's]
    #[arg(long)]
    port: Option<u16>,
}

/// Serves until a signal.
pub(crate) fn run(options: Options, environment: &Environment) -> Outcome {
    start(&options.profile.required()?, options.listening, environment)
}

/// Serves a profile until a signal.
pub(crate) fn start(source: &Source, listening: Listening, environment: &Environment) -> Outcome {
    let (mut profile, warnings) = source.read(environment, Variables::MustBeSet)?;
    if let Some(host) = listening.host {
        profile.service.host = host;
    }
    if let Some(port) = listening.port {
        profile.service.port = port;
    }
    if profile.service.page.is_some() && profile.service.port != 0 {
        let host = match profile.service.host.as_str() {
            "0.0.0.0" | "::" => "localhost".to_owned(),
            host if host.contains(':') => format!("[{host}]"),
            host => host.to_owned(),
        };
        eprintln!("Open http://{host}:{}/ in two browser windows once it listens; Ctrl-C ends.", profile.service.port);
    }
    let shards = listening.shards.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    Ok(roomcast::app::run(profile, &source.files, &warnings, shards.min(SHARDS_MAX))?)
}
