//! `roomcast demo`: the quick start, a gateway with a page to try it in. It is `serve --profile demo` and nothing else.

use clap::Args;

use super::arguments::Source;
use super::serve::{self, Listening};
use super::{Environment, Outcome};

/// Run the demo: a gateway with a page in which two browser windows talk
///
/// The same as `roomcast serve --profile demo`: no broker, no token, on this machine only.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  roomcast demo            then open http://127.0.0.1:3000 in two windows")]
pub(crate) struct Options {
    #[command(flatten)]
    listening: Listening,
}

/// Serves the demo until a signal.
pub(crate) fn run(options: Options, environment: &Environment) -> Outcome {
    serve::start(&Source::builtin("demo")?, options.listening, environment)
}
