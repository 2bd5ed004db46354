//! `roomcast token`: a token for development, signed with `JWT_SECRET`. Knows nothing of how a gateway checks it.

use std::time::Duration;

use anyhow::Context;
use clap::Args;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value};

use super::arguments::{Lifetime, lifetime, now_unix_ms, pair};
use super::{Environment, Outcome, Problem, say};

/// Make a token for development, signed with JWT_SECRET (HS256)
///
/// JWT_SECRET is read from the environment or from `.env`. The token is printed alone, so that it can stand in a command.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  roomcast token --user alice
  roomcast token --user 42 --role admin --claim 'shopIds=[7,9]' --expires-in 1h
  roomcast listen --token \"$(roomcast token --user alice)\"")]
pub(crate) struct Options {
    /// The user's id, as the claim `userId` (a string; for a number: --claim userId=42)
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// The claim `email`
    #[arg(long)]
    email: Option<String>,
    /// The claim `role`
    #[arg(long)]
    role: Option<String>,
    /// A further claim; what is no JSON is taken as a string. Repeatable
    #[arg(long = "claim", value_name = "NAME=JSON", value_parser = pair)]
    claims: Vec<(String, String)>,
    /// How long the token is good: 30s, 15m, 1h, 7d, or `never` [default: JWT_EXPIRES_IN, else 7d]
    #[arg(long, value_name = "TIME", value_parser = lifetime)]
    expires_in: Option<Lifetime>,
}

/// Prints the token.
pub(crate) fn run(options: &Options, environment: &Environment) -> Outcome {
    let secret = super::value(environment, "JWT_SECRET")
        .context("JWT_SECRET is not set: the token must be signed with the secret that the gateway checks with")?;
    let expires_in = match (options.expires_in, super::value(environment, "JWT_EXPIRES_IN")) {
        (Some(given), _) => given,
        (None, Some(text)) => {
            lifetime(&text).map_err(|problem| Problem::Usage(format!("JWT_EXPIRES_IN: {problem}")))?
        }
        (None, None) => Lifetime::For(Duration::from_secs(7 * 24 * 60 * 60)),
    };
    let claims = claims(options, expires_in, now_unix_ms() / 1_000)?;
    let key = EncodingKey::from_secret(secret.as_bytes());
    let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).context("cannot sign the token")?;
    say!("{token}");
    Ok(())
}

fn claims(options: &Options, expires_in: Lifetime, now_unix_secs: u64) -> Result<Map<String, Value>, Problem> {
    let mut claims = Map::new();
    let named = [("userId", &options.user), ("email", &options.email), ("role", &options.role)];
    for (name, value) in named {
        if let Some(value) = value {
            claims.insert(name.to_owned(), Value::from(value.as_str()));
        }
    }
    for (name, text) in &options.claims {
        let value = serde_json::from_str(text).unwrap_or_else(|_| Value::from(text.as_str()));
        if claims.insert(name.clone(), value).is_some() {
            return Err(Problem::Usage(format!("the claim `{name}` is given twice")));
        }
    }
    if !["userId", "id", "sub", "user_id"].iter().any(|name| claims.contains_key(*name)) {
        return Err(Problem::Usage("a token must name a user: --user ID, or --claim sub=ID".to_owned()));
    }
    claims.entry("iat").or_insert_with(|| now_unix_secs.into());
    if let Lifetime::For(time) = expires_in {
        claims.entry("exp").or_insert_with(|| now_unix_secs.saturating_add(time.as_secs()).into());
    }
    Ok(claims)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(claims_given: &[(&str, &str)], expires_in: Lifetime, expected: Result<&str, &str>) {
        let options = Options {
            user: Some("alice".to_owned()),
            email: None,
            role: Some("admin".to_owned()),
            claims: claims_given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            expires_in: None,
        };
        let made = claims(&options, expires_in, 1_000).map(|claims| Value::from(claims).to_string());
        match (made, expected) {
            (Ok(made), Ok(expected)) => assert_eq!(made, expected),
            (Err(Problem::Usage(made)), Err(expected)) => assert_eq!(made, expected),
            (made, expected) => panic!("{made:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn claims_keep_their_json_type_and_an_end() {
        let hour = Lifetime::For(Duration::from_secs(3_600));
        check(&[], hour, Ok(r#"{"exp":4600,"iat":1000,"role":"admin","userId":"alice"}"#));
        check(&[], Lifetime::Forever, Ok(r#"{"iat":1000,"role":"admin","userId":"alice"}"#));
        check(
            &[("shopIds", "[7,9]"), ("tenant", "north"), ("exp", "5")],
            hour,
            Ok(r#"{"exp":5,"iat":1000,"role":"admin","shopIds":[7,9],"tenant":"north","userId":"alice"}"#),
        );
        check(&[("role", "guest")], hour, Err("the claim `role` is given twice"));
    }

    #[test]
    fn a_token_without_a_user_is_not_made() {
        let options = Options { user: None, email: None, role: None, claims: vec![], expires_in: None };
        assert!(matches!(claims(&options, Lifetime::Forever, 0), Err(Problem::Usage(_))));
    }
}
