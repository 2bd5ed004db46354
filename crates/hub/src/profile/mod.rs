//! Profiles: a gateway as a file of rules. Reads the file in two stages, what was written and what it means, and reports all problems at once.
//! The language stands in one table, from which come the checks, the JSON Schema and the reference page.
//! Reads no file and no environment: text and variables come in as arguments.

mod problem;
mod settings;

pub use problem::{Problem, Warning};
pub use settings::*;

use crate::rules::Rules;

/// A profile, checked and complete: settings for those who drive the gateway, rules for the evaluator.
#[derive(Debug)]
pub struct Profile {
    /// What this gateway is, in a sentence.
    pub about: String,
    /// `[service]`.
    pub service: Service,
    /// `[auth]`.
    pub auth: Auth,
    /// `[user]`.
    pub user: UserLimits,
    /// `[cors]`.
    pub origins: Origins,
    /// `[[endpoint]]`, at least one.
    pub endpoints: Vec<Endpoint>,
    /// `[source.rabbitmq]`; `None` where the profile has no such source.
    pub rabbitmq: Option<Rabbitmq>,
    /// `[redis]`; `None` where no variable names one.
    pub redis: Option<RedisAddress>,
    /// `[publish]`.
    pub publishing: Publishing,
    /// `[limits]`.
    pub limits: Limits,
    /// `[drain]`.
    pub drain: Drain,
    /// `[log]`.
    pub log: Log,
    /// `[api]` `key`: opens the server API.
    pub api_key: Option<Secret>,
    /// Rooms, hooks, commands, routes and documents.
    pub rules: Rules,
    variables: Vec<Variable>,
}

impl Profile {
    /// Reads a profile. `file_name` stands in problems as it is given; `environment` gives the value of a variable. An empty variable counts
    /// as unset.
    ///
    /// # Errors
    ///
    /// All problems at once, top down.
    pub fn read(
        _text: &str,
        _file_name: &str,
        _environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(Self, Vec<Warning>), Vec<Problem>> {
        todo!()
    }

    /// The variables that this profile reads, in the order of the file, those of the language's own defaults after them.
    pub fn variables(&self) -> &[Variable] {
        &self.variables
    }
}

/// The variables that a profile reads, without a need for any of them to be set.
///
/// # Errors
///
/// The problems of the file, but for variables that are not set.
pub fn variables(_text: &str, _file_name: &str) -> Result<Vec<Variable>, Vec<Problem>> {
    todo!()
}

/// Variables in the form of an `.env` file: each with what it is for and its default; only required ones are not commented out.
pub fn env_file(_variables: &[Variable]) -> String {
    todo!()
}

/// The names of the profiles that come with the gateway.
pub fn builtin_names() -> impl Iterator<Item = &'static str> {
    ["demo", "hometrip"].into_iter()
}

/// The text of a profile that comes with the gateway.
pub fn builtin(_name: &str) -> Option<&'static str> {
    todo!()
}

/// The JSON Schema of a profile, for editors.
pub fn json_schema() -> String {
    todo!()
}

/// The reference page of the language, in Markdown.
pub fn reference_markdown() -> String {
    todo!()
}
