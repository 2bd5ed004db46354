//! `roomcast profile`: the profiles that come with the gateway, and the form of a profile. Reads nothing but what is built in, or the file named.

use std::path::Path;

use clap::{Args, Subcommand};

use super::arguments::{Source, Variables};
use super::{Environment, Outcome, say};

/// Show the profiles that come with the gateway, their variables, and the form of a profile
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:
  roomcast profile show hometrip > mine.toml     a profile to copy and edit
  roomcast profile env hometrip > .env           its variables, with what they are for"
)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The names of the profiles that come with the gateway
    #[command(after_help = "Example:\n  roomcast profile list")]
    List,
    /// The text of a profile
    #[command(after_help = "Example:\n  roomcast profile show hometrip > mine.toml")]
    Show {
        /// One of `roomcast profile list`
        name: String,
    },
    /// The variables that a profile reads, in the form of an `.env` file
    #[command(after_help = "Example:\n  roomcast profile env hometrip > .env")]
    Env {
        /// One of `roomcast profile list`, or a file
        name: String,
    },
    /// The JSON Schema of a profile, with which editors complete and check it
    #[command(after_help = "Example:\n  roomcast profile schema > roomcast.schema.json")]
    Schema,
}

/// Prints what is asked for.
pub(crate) fn run(options: &Options, environment: &Environment) -> Outcome {
    match &options.what {
        What::List => {
            let width = hub::profile::builtin_names().map(str::len).max().unwrap_or(0);
            for name in hub::profile::builtin_names() {
                let (profile, _) = Source::builtin(name)?.read(environment, Variables::MayBeMissing)?;
                say!("{name:width$}  {}", profile.about);
            }
        }
        What::Show { name } => say!("{}", Source::builtin(name)?.text.trim_end()),
        What::Env { name } => {
            let source = if hub::profile::builtin(name).is_none() && Path::new(name).exists() {
                Source::file(Path::new(name))?
            } else {
                Source::builtin(name)?
            };
            say!("{}", hub::profile::env_file(&source.variables()?).trim_end());
        }
        What::Schema => say!("{}", hub::profile::json_schema().trim_end()),
    }
    Ok(())
}
