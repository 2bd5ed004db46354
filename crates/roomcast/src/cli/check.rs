//! `roomcast check`: reads a profile and says what is wrong with it. Starts nothing and asks nobody.

use std::path::PathBuf;

use clap::Args;

use super::arguments::{Source, Variables};
use super::{Environment, Outcome, say};

/// Read a profile and say what is wrong with it
///
/// Everything is checked: keys, templates, conditions, rooms, routes. Each problem is one line: file, line, column, what is wrong,
/// and what was probably meant. Nothing is started.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  roomcast profile show hometrip > mine.toml
  roomcast check mine.toml")]
pub(crate) struct Options {
    /// The profile
    file: PathBuf,
}

/// Prints the problems, or that there is none.
pub(crate) fn run(options: &Options, environment: &Environment) -> Outcome {
    let source = Source::file(&options.file)?;
    let (profile, warnings) = source.read(environment, Variables::MayBeMissing)?;
    for warning in warnings {
        eprintln!("{warning}");
    }
    for doubt in roomcast::upstream::check(&profile, &source.files)? {
        eprintln!("{}: {doubt}", source.name);
    }
    let missing: Vec<&str> = profile
        .variables()
        .iter()
        .filter(|variable| {
            variable.required() && !variable.names.iter().any(|name| super::value(environment, name).is_some())
        })
        .filter_map(|variable| variable.names.first().map(String::as_str))
        .collect();
    say!("{}: {}", source.name, profile.about);
    say!("{}: no problem found", source.name);
    if !missing.is_empty() {
        say!("{}: must be set before it can be served: {}", source.name, missing.join(", "));
    }
    Ok(())
}
