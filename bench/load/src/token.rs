//! Tokens for the clients, made before anything is measured.

use std::time::{Duration, SystemTime};

use anyhow::Context;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;

use crate::arguments::Arguments;

/// How long a token is good: longer than any run.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Serialize)]
struct Claims {
    sub: String,
    exp: u64,
}

/// A token for each client, or one for all, or none.
pub fn tokens(arguments: &Arguments, clients: usize) -> anyhow::Result<Vec<String>> {
    let Some(secret) = &arguments.secret else { return Ok(arguments.token.iter().cloned().collect()) };
    let key = EncodingKey::from_secret(secret.as_bytes());
    let exp = (SystemTime::now() + LIFETIME).duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let token = |client| {
        let claims = Claims { sub: format!("load-{client}"), exp };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).context("cannot sign a token")
    };
    (0..clients).map(token).collect()
}
