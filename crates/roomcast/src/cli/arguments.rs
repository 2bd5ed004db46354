//! Values that several subcommands take: times, pairs, JSON from an argument, a file or standard input, and which profile is meant.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use clap::Args;
use hub::profile::{self, Profile, Warning};
use roomcast::upstream::Files;

use super::{Environment, Problem};

/// The most that is read from a file or from standard input: far over every message limit, and no memory problem.
const INPUT_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Which gateway is meant.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct ProfileChoice {
    /// One of the profiles that come with the gateway: see `roomcast profile list`
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// A profile of your own
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ProfileChoice {
    /// The profile that is meant, where one is.
    pub(crate) fn source(&self) -> Result<Option<Source>, Problem> {
        match (&self.profile, &self.config) {
            (Some(name), _) => Source::builtin(name).map(Some),
            (None, Some(path)) => Source::file(path).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// The profile that is meant, where one must be.
    pub(crate) fn required(&self) -> Result<Source, Problem> {
        self.source()?.ok_or_else(|| {
            Problem::Usage(format!("which gateway? --profile NAME ({}), or --config FILE", builtin_names()))
        })
    }
}

/// The text of a profile, and the name that it has in problems.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) text: String,
    /// Where its `.proto` files are.
    pub(crate) files: Files,
}

/// Whether a profile's required variables must have values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variables {
    /// They must: the profile is about to be used.
    MustBeSet,
    /// They need not: the profile is only looked at. A missing one gets a stand-in.
    MayBeMissing,
}

impl Source {
    /// A profile that comes with the gateway.
    pub(crate) fn builtin(name: &str) -> Result<Self, Problem> {
        match profile::builtin(name) {
            Some(text) => {
                Ok(Self { name: format!("{name}.toml"), text: text.to_owned(), files: Files::of_profile(name, None) })
            }
            None => Err(Problem::Usage(format!(
                "no profile `{name}` comes with the gateway: there are {}; a file of your own goes with --config",
                builtin_names()
            ))),
        }
    }

    /// A profile in a file.
    pub(crate) fn file(path: &Path) -> Result<Self, Problem> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        Ok(Self { name: path.display().to_string(), text, files: Files::of_profile(&stem, Some(path)) })
    }

    /// Reads it; every problem is printed, a line each.
    pub(crate) fn read(
        &self,
        environment: &Environment,
        variables: Variables,
    ) -> Result<(Profile, Vec<Warning>), Problem> {
        let required: Vec<String> = match variables {
            Variables::MustBeSet => Vec::new(),
            Variables::MayBeMissing => self
                .variables()?
                .into_iter()
                .filter(profile::Variable::required)
                .flat_map(|variable| variable.names)
                .collect(),
        };
        let value = |name: &str| {
            super::value(environment, name)
                .or_else(|| required.iter().any(|one| one == name).then(|| STAND_IN.to_owned()))
        };
        Profile::read(&self.text, &self.name, &value).map_err(said)
    }

    /// The variables that it reads; every problem is printed, a line each.
    pub(crate) fn variables(&self) -> Result<Vec<profile::Variable>, Problem> {
        profile::variables(&self.text, &self.name).map_err(said)
    }
}

fn said(problems: Vec<profile::Problem>) -> Problem {
    for problem in problems {
        eprintln!("{problem}");
    }
    Problem::Said
}

/// What a required variable holds while its profile is only looked at.
const STAND_IN: &str = "not-set";

fn builtin_names() -> String {
    profile::builtin_names().collect::<Vec<_>>().join(", ")
}

/// A gateway to ask, and how.
pub(crate) struct Asked {
    /// Its address, without a slash at the end.
    pub(crate) url: String,
    /// For requests to it.
    pub(crate) client: reqwest::ClientBuilder,
}

/// The gateway of a URL, else the one of this machine: on the operators' port where the profile has one, and over TLS where the service
/// port speaks it. Its certificate is another name's then, and who listens on a port of this machine needs no other proof.
pub(crate) fn asked(given: Option<&str>, choice: &ProfileChoice, environment: &Environment) -> Result<Asked, Problem> {
    let client = reqwest::Client::builder().no_proxy();
    if let Some(url) = given {
        return Ok(Asked { url: url.trim_end_matches('/').to_owned(), client });
    }
    let (scheme, port) = match choice.source()? {
        Some(source) => {
            let service = source.read(environment, Variables::MayBeMissing)?.0.service;
            match service.ops_port {
                Some(port) => ("http", port),
                None => (if service.tls.is_some() { "https" } else { "http" }, service.port),
            }
        }
        None => {
            let port = super::value(environment, "PORT").ok_or_else(|| {
                Problem::Usage("which gateway? --url URL, --profile NAME, or the variable PORT".to_owned())
            })?;
            ("http", port.parse().map_err(|_| Problem::Usage("the variable PORT is no port number".to_owned()))?)
        }
    };
    let url = format!("{scheme}://127.0.0.1:{port}");
    Ok(Asked { url, client: client.tls_danger_accept_invalid_certs(true) })
}

/// The time.
pub(crate) fn now_unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

/// How long something is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// So long.
    For(Duration),
    /// Without an end.
    Forever,
}

/// Reads `7d`, `90s`, `never`.
pub(crate) fn lifetime(text: &str) -> Result<Lifetime, String> {
    if text == "never" { Ok(Lifetime::Forever) } else { duration(text).map(Lifetime::For) }
}

/// Reads a time as profiles and variables have it; a bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    hub::profile::time(text, true)
        .ok_or_else(|| "write a number and a unit, ten years at most: 500ms, 30s, 15m, 1h or 7d".to_owned())
}

/// Reads `name=value`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err("write NAME=VALUE".to_owned()),
    }
}

/// The bytes that an argument stands for: `-` standard input, `@file` a file, anything else itself.
pub(crate) fn data(argument: &str) -> anyhow::Result<Vec<u8>> {
    match argument {
        "-" => file("-"),
        _ => match argument.strip_prefix('@') {
            Some(path) => file(path),
            None => Ok(argument.as_bytes().to_vec()),
        },
    }
}

/// The bytes of a file, or of standard input for `-`; without the line end that editors and `echo` add.
pub(crate) fn file(path: &str) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if path == "-" {
        std::io::stdin()
            .lock()
            .take(INPUT_MAX_BYTES + 1)
            .read_to_end(&mut bytes)
            .context("cannot read standard input")?;
    } else {
        let file = std::fs::File::open(path).with_context(|| format!("cannot read {path}"))?;
        file.take(INPUT_MAX_BYTES + 1).read_to_end(&mut bytes).with_context(|| format!("cannot read {path}"))?;
    }
    anyhow::ensure!(bytes.len() as u64 <= INPUT_MAX_BYTES, "{path} is larger than {INPUT_MAX_BYTES} bytes");
    while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        bytes.pop();
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(duration(text).ok().map(|time| time.as_millis() as u64), expected, "{text}");
        };
        check("500ms", Some(500));
        check("30", Some(30_000));
        check("30s", Some(30_000));
        check("15 m", Some(900_000));
        check("7d", Some(604_800_000));
        check("", None);
        check("d", None);
        check("-1s", None);
        check("1.5h", Some(5_400_000));
        check("3 fortnights", None);
        check("99999999999999999999s", None);
        check("999999999999999999w", None);
        assert_eq!(lifetime("never"), Ok(Lifetime::Forever));
    }

    #[test]
    fn a_pair_is_split_at_the_first_sign() {
        assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(pair("=b").is_err());
        assert!(pair("a").is_err());
    }

    #[test]
    fn data_is_itself_or_a_file() {
        assert_eq!(data("{}").expect("itself"), b"{}");
        let problem = data("@/no/such/file").expect_err("there is no such file");
        assert!(format!("{problem:#}").starts_with("cannot read /no/such/file"), "{problem:#}");
    }
}
