//! Profiles: a gateway as a file of rules. Reads the file in two stages, what was written and what it means, and reports all problems at once.
//! The language stands in one table, from which come the checks, the JSON Schema and the reference page.
//! Reads no file and no environment: text and variables come in as arguments.

mod builtin;
mod description;
mod language;
mod meaning;
mod problem;
mod reference;
mod schema;
mod section;
mod settings;
mod units;
mod variables;
mod written;

pub use builtin::{builtin, builtin_names, builtin_proto};
pub(crate) use meaning::{error_code, namespaces_of};
pub(crate) use problem::{Findings, Span, did_you_mean, nearest};
pub use problem::{Problem, Warning};
pub use reference::reference_markdown;
pub use schema::json_schema;
pub(crate) use section::{Entry, Section, Value, Written};
pub use settings::*;
pub use units::time;

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
    pub cors: Cors,
    /// `[[endpoint]]`, at least one.
    pub endpoints: Vec<Endpoint>,
    /// `[source.rabbitmq]`; `None` where the profile has no such source.
    pub rabbitmq: Option<Rabbitmq>,
    /// `[source.redis]`; `None` where the profile has no such source.
    pub redis_channels: Option<RedisChannels>,
    /// `[redis]`; `None` where no variable names one.
    pub redis: Option<RedisAddress>,
    /// What the names of the cluster's channels begin with; `None` where the node is in none.
    pub redis_key: Option<String>,
    /// How the members of the cluster speak.
    pub redis_mode: RedisMode,
    /// What becomes of events while the cluster's Redis is away.
    pub bus_outage: BusOutage,
    /// `[publish]`.
    pub publishing: Publishing,
    /// `[upstream.NAME]`, in the order of the file.
    pub upstreams: Vec<Upstream>,
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
        text: &str,
        file_name: &str,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(Self, Vec<Warning>), Vec<Problem>> {
        let mut findings = Findings::new(file_name, text);
        let profile = Self::of(text, environment, &mut findings);
        findings.need_variables();
        let (problems, warnings) = findings.finish();
        if problems.is_empty() { Ok((profile, warnings)) } else { Err(problems) }
    }

    /// The variables that this profile reads, in the order of the file, those of the language's own defaults after them.
    pub fn variables(&self) -> &[Variable] {
        &self.variables
    }

    fn of(text: &str, environment: &dyn Fn(&str) -> Option<String>, findings: &mut Findings<'_>) -> Self {
        let mut variables = Vec::new();
        let root = written::read(text, &language::PROFILE, environment, findings, &mut variables);
        let settings = meaning::Settings::of(&root, findings);
        let rules = Rules::build(&root, &settings.namespaces, findings);
        // Whether a key is needed hangs on other keys of the profile, which the default of this one cannot say.
        for variable in variables.iter_mut().filter(|variable| settings.key_needed && variable.names == ["JWT_SECRET"])
        {
            variable.default = None;
            variable.about.push_str(" Needed, unless JWT_PUBLIC_KEY or JWKS_URL is set.");
        }
        for name in &settings.service.unused_variables {
            variables.push(Variable {
                names: vec![name.clone()],
                default: Some(String::new()),
                about: "Accepted, and does nothing.".to_owned(),
                key: String::new(),
            });
        }
        Self {
            about: root.text_or_empty("about"),
            service: settings.service,
            auth: settings.auth,
            user: settings.user,
            cors: settings.cors,
            endpoints: settings.endpoints,
            rabbitmq: settings.rabbitmq,
            redis_channels: settings.redis_channels,
            redis: settings.redis,
            redis_key: settings.redis_key,
            redis_mode: settings.redis_mode,
            bus_outage: settings.bus_outage,
            publishing: settings.publishing,
            upstreams: settings.upstreams,
            limits: settings.limits,
            drain: settings.drain,
            log: settings.log,
            api_key: settings.api_key,
            rules,
            variables,
        }
    }
}

/// The variables that a profile reads, without a need for any of them to be set.
///
/// # Errors
///
/// The problems of the file, but for variables that are not set.
pub fn variables(text: &str, file_name: &str) -> Result<Vec<Variable>, Vec<Problem>> {
    let mut findings = Findings::new(file_name, text);
    let profile = Profile::of(text, &|_| None, &mut findings);
    let (problems, _) = findings.finish();
    if problems.is_empty() { Ok(profile.variables) } else { Err(problems) }
}

/// Variables in the form of an `.env` file: each with what it is for and its default; only required ones are not commented out.
pub fn env_file(variables: &[Variable]) -> String {
    let mut text = String::new();
    for variable in variables {
        if variable.key.is_empty() {
            text.push_str(&format!("# {}\n", variable.about));
        } else {
            text.push_str(&format!("# {} ({})\n", variable.about, variable.key));
        }
        if let [first, others @ ..] = variable.names.as_slice() {
            if !others.is_empty() {
                text.push_str(&format!("# Also read, if it is not set: {}\n", others.join(", ")));
            }
            match &variable.default {
                Some(default) => text.push_str(&format!("# {first}={default}\n\n")),
                None => text.push_str(&format!("{first}=\n\n")),
            }
        }
    }
    text
}
