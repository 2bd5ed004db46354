//! The `roomcast` binary: what it can do, and where each of it stands.

mod cli;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command, Environment, Outcome};

fn main() -> ExitCode {
    // A `.env` file in the working directory; what the real environment says wins.
    let environment = match cli::environment() {
        Ok(environment) => environment,
        Err(problem) => return cli::report(Err(problem)),
    };
    cli::report(run(Cli::parse(), &environment))
}

fn run(cli: Cli, environment: &Environment) -> Outcome {
    match cli.command {
        Command::Serve(options) => cli::serve::run(options, environment),
        Command::Demo(options) => cli::demo::run(options, environment),
        Command::Check(options) => cli::check::run(&options, environment),
        Command::Explain(options) => cli::explain::run(&options, environment),
        Command::Profile(options) => cli::profile::run(&options, environment),
        Command::Token(options) => cli::token::run(&options, environment),
        Command::Publish(options) => cli::publish::run(options, environment),
        Command::Listen(options) => cli::listen::run(options),
        Command::Health(options) => cli::health::run(&options, environment),
        Command::Reference(options) => cli::reference::run(&options),
    }
}
