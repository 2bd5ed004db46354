//! The command line: which subcommands there are, what they share, and how they end. Each has a file of its own; none knows another.

pub(crate) mod arguments;
pub(crate) mod check;
pub(crate) mod demo;
pub(crate) mod explain;
pub(crate) mod health;
pub(crate) mod listen;
pub(crate) mod profile;
pub(crate) mod publish;
pub(crate) mod reference;
pub(crate) mod serve;
pub(crate) mod token;

use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
pub(crate) use roomcast::environment::Environment;

/// The variables of the process, and behind them those of `.env` in the working directory.
pub(crate) fn environment() -> Result<Environment, Problem> {
    let environment = Environment::of_process(Path::new("."))?;
    for warning in environment.warnings() {
        eprintln!("warning: {warning}");
    }
    Ok(environment)
}

/// The value of a variable; an empty one counts as unset.
pub(crate) fn value(environment: &Environment, name: &str) -> Option<String> {
    environment.get(name).filter(|value| !value.is_empty())
}

/// A self-hosted real-time gateway between backend services and Socket.IO or plain WebSocket clients.
#[derive(Debug, Parser)]
#[command(name = "roomcast", version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "Start here:
  roomcast demo                       a gateway with a page to try it in
  roomcast serve --profile hometrip   a gateway by one of the profiles that come with it
  roomcast profile show hometrip      that profile, to copy and edit")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Serve(serve::Options),
    Demo(demo::Options),
    Check(check::Options),
    Explain(explain::Options),
    Profile(profile::Options),
    Token(token::Options),
    Publish(publish::Options),
    Listen(listen::Options),
    Health(health::Options),
    Reference(reference::Options),
}

/// How a subcommand ends when it does not do what it was asked to.
#[derive(Debug)]
pub(crate) enum Problem {
    /// The command line asks for something that does not go together; exit code 2, as clap's own.
    Usage(String),
    /// It was tried and failed; exit code 1.
    Failed(anyhow::Error),
    /// What there is to say is said already; exit code 1.
    Said,
}

impl From<anyhow::Error> for Problem {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

/// What every subcommand returns.
pub(crate) type Outcome = Result<(), Problem>;

/// Prints what went wrong, in one line, and gives the exit code.
pub(crate) fn report(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Problem::Usage(message)) => {
            eprintln!("roomcast: {message}");
            ExitCode::from(2)
        }
        Err(Problem::Failed(error)) => {
            eprintln!("roomcast: {error:#}");
            ExitCode::FAILURE
        }
        Err(Problem::Said) => ExitCode::FAILURE,
    }
}

/// Writes a line to standard output, as `println!` does. A reader that is gone (`| head -1`) is a reason to end, and no failure.
macro_rules! say {
    ($($arguments:tt)*) => {
        if std::io::Write::write_fmt(&mut std::io::stdout(), format_args!("{}\n", format_args!($($arguments)*))).is_err() {
            return Ok(());
        }
    };
}
pub(crate) use say;

/// Runs a client's work: one thread is enough for one connection.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime of one thread needs only an epoll set and a pipe")
        .block_on(work)
}
