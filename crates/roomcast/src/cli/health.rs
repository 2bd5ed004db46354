//! `roomcast health`: asks a gateway whether it is ready, for container health checks. Knows only the path and the status of the answer.

use std::time::Duration;

use anyhow::Context;
use clap::Args;

use super::arguments::{Asked, ProfileChoice, asked, duration};
use super::{Environment, Outcome, Problem, block_on, say};

/// Ask a gateway whether it is ready; exit code 0 if so, for container health checks
///
/// A gateway whose broker is away still serves its clients and counts as ready, unless --strict is given.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  roomcast health --profile hometrip
  roomcast health --url http://127.0.0.1:3002 --strict
  HEALTHCHECK CMD [\"roomcast\", \"health\", \"--profile\", \"hometrip\"]")]
pub(crate) struct Options {
    /// Where the gateway listens [default: this machine, on PORT or on the profile's port]
    #[arg(long)]
    url: Option<String>,
    #[command(flatten)]
    profile: ProfileChoice,
    /// Count a gateway whose broker is away as not ready
    #[arg(long)]
    strict: bool,
    /// How long to wait for the answer
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    timeout: Duration,
}

/// Prints the gateway's answer.
pub(crate) fn run(options: &Options, environment: &Environment) -> Outcome {
    let Asked { url, client } = asked(options.url.as_deref(), &options.profile, environment)?;
    let url = format!("{url}/health/ready{}", if options.strict { "?strict=1" } else { "" });
    let (status, body) = block_on(ask(&url, client.timeout(options.timeout)))?;
    say!("{}", body.trim_end());
    if status.is_success() {
        Ok(())
    } else {
        Err(Problem::Failed(anyhow::anyhow!("not ready: {url} answered {status}")))
    }
}

async fn ask(url: &str, client: reqwest::ClientBuilder) -> anyhow::Result<(reqwest::StatusCode, String)> {
    let answer = client.build()?.get(url).send().await.with_context(|| format!("no answer from {url}"))?;
    let status = answer.status();
    Ok((status, answer.text().await.with_context(|| format!("the answer of {url} broke off"))?))
}
