//! Who the bearer of a token is: keys from the configuration or a key server, and the verdict on a token.
//! Knows neither connections nor how a verdict is told to a client, and decides nothing about clients without a token.

mod claims;
mod key_server;
mod key_set;
mod keys;
mod token;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hub::rules::{ClaimsUsed, User};

use self::claims::Reading;
use self::key_server::KeyServer;
pub use self::key_server::Pace;
use self::key_set::Found;
use self::keys::Keys;
use self::token::Token;
use crate::metrics::Metrics;

/// What a node accepts as proof of who a client is. Texts are those of the variables they are named after; `None` is an unset one.
#[derive(Clone)]
pub struct AuthConfig {
    /// `JWT_SECRET`: the shared secret of HS256, HS384 and HS512.
    pub jwt_secret: Option<String>,
    /// `JWT_PUBLIC_KEY`: a public key as PEM text (line ends may be written `\n`), or the path of a file that holds one.
    pub jwt_public_key: Option<String>,
    /// `JWKS_URL`: where a JSON Web Key Set (RFC 7517) is served.
    pub jwks_url: Option<String>,
    /// `JWT_ALGORITHMS`: narrows what the keys would allow; empty for all of it.
    pub jwt_algorithms: Vec<String>,
    /// How far clocks may differ when `exp` and `nbf` are looked at.
    pub leeway: Duration,
    /// The claims that may name the user; the first that is there does.
    pub user_claims: Vec<String>,
    /// The claims that a [`User`] keeps beside `id`, `email` and `role`.
    pub claims_kept: ClaimsUsed,
    /// How often the key server is asked.
    pub pace: Pace,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            jwt_secret: None,
            jwt_public_key: None,
            jwks_url: None,
            jwt_algorithms: Vec::new(),
            leeway: Duration::from_secs(5),
            user_claims: ["userId", "id", "sub", "user_id"].map(str::to_owned).to_vec(),
            claims_kept: ClaimsUsed::All,
            pace: Pace::default(),
        }
    }
}

impl fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthConfig")
            .field("jwt_secret", &self.jwt_secret.as_ref().map(|_| "(secret)"))
            .field("jwt_public_key", &self.jwt_public_key)
            .field("jwks_url", &self.jwks_url)
            .field("jwt_algorithms", &self.jwt_algorithms)
            .finish_non_exhaustive()
    }
}

/// The answer to a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The bearer is this user.
    Accepted(Identity),
    /// A final no; the client's fault.
    Refused(Refusal),
    /// No key to judge the token by, and the key server does not answer: our fault, and passing. Never told to a client as a final no.
    Unavailable,
}

/// Who a token names, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub user: User,
    /// When the token ends (`exp`), in seconds since the Unix epoch; `None` for a token without an end.
    pub expires_at_unix_secs: Option<u64>,
}

/// Why a client is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It brought no token.
    NoToken,
    /// Its token is no good. Clients are told all of these alike; the fault is for the log and the metric.
    BadToken(Fault),
}

impl Refusal {
    /// What the client reads.
    pub const fn message(self) -> &'static str {
        match self {
            Self::NoToken => "Authentication required",
            Self::BadToken(_) => "Invalid or expired token",
        }
    }

    /// The value of the label `reason` of the metric `refused`.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NoToken => "no_token",
            Self::BadToken(fault) => fault.reason(),
        }
    }
}

/// What is wrong with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Not a JSON Web Token, or longer than [`TOKEN_MAX_BYTES`].
    Malformed,
    /// Signed by no algorithm (`none`), or by one outside the list.
    Algorithm,
    /// Signed by a key that nobody here knows.
    UnknownKey,
    /// The signature does not fit.
    Signature,
    /// `exp` is over.
    Expired,
    /// `nbf` is not reached.
    NotYetValid,
    /// No claim names the user, or the one that does is neither a string nor an integer.
    NoUser,
}

impl Fault {
    /// The value of the label `reason` of the metric `refused`.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "malformed_token",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::NoUser => "no_user",
        }
    }
}

/// The longest token that is looked at.
pub const TOKEN_MAX_BYTES: usize = 16 * 1024;

/// A verdict, or the wait for one.
pub enum Check {
    /// The keys are known.
    Now(Verdict),
    /// The key server has to be asked first. The future runs on any runtime and always ends; it needs to be polled for its own result alone.
    Later(Pin<Box<dyn Future<Output = Verdict> + Send>>),
}

/// Judges tokens. Cheap to clone.
#[derive(Clone)]
pub struct Auth(Arc<Inner>);

struct Inner {
    keys: Keys,
    key_server: Option<KeyServer>,
    reading: Reading,
    metrics: Arc<Metrics>,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").field("has_keys", &self.has_keys()).finish_non_exhaustive()
    }
}

impl Auth {
    /// Reads the keys. The key server, if there is one, is asked on `backend` from now on for as long as a clone of the result lives.
    ///
    /// # Errors
    /// A variable that cannot be used, by its name.
    pub fn new(config: AuthConfig, metrics: Arc<Metrics>, backend: &tokio::runtime::Handle) -> anyhow::Result<Self> {
        // Fails only where it is installed already.
        let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
        let keys = Keys::read(&config)?;
        let key_server = match &config.jwks_url {
            Some(url) => Some(KeyServer::start(url, config.pace, metrics.clone(), backend)?),
            None => None,
        };
        let reading =
            Reading { leeway: config.leeway, user_claims: config.user_claims, claims_kept: config.claims_kept };
        Ok(Self(Arc::new(Inner { keys, key_server, reading, metrics })))
    }

    /// Whether any key is configured. Without one every token is refused; whether clients need one is the profile's to say.
    pub fn has_keys(&self) -> bool {
        !self.0.keys.is_empty() || self.0.key_server.is_some()
    }

    /// Judges a token at this time. An empty token is none; a leading `Bearer ` is left out.
    /// A bad token is counted here, a missing one is not: some profiles let its bearer in.
    pub fn check(&self, token: Option<&str>, now_unix_secs: u64) -> Check {
        let text = token.map(without_scheme).unwrap_or_default();
        if text.is_empty() {
            return Check::Now(Verdict::Refused(Refusal::NoToken));
        }
        match self.first_look(text, now_unix_secs) {
            Ok(Some(identity)) => Check::Now(Verdict::Accepted(identity)),
            Err(fault) => Check::Now(self.refuse(fault)),
            Ok(None) => {
                let (auth, text) = (self.clone(), text.to_owned());
                Check::Later(Box::pin(async move { auth.second_look(&text, now_unix_secs).await }))
            }
        }
    }

    /// What the keys at hand say; `None` where the key server has to be asked.
    fn first_look(&self, text: &str, now_unix_secs: u64) -> Result<Option<Identity>, Fault> {
        let token = Token::parse(text)?;
        let inner = &*self.0;
        if inner.keys.signed(&token) {
            return inner.reading.identity(&token, now_unix_secs).map(Some);
        }
        let Some(server) = inner.key_server.as_ref().filter(|_| inner.keys.fetched_may_sign(&token)) else {
            return Err(if inner.keys.may_sign(&token) { Fault::Signature } else { Fault::Algorithm });
        };
        match server.look(&token) {
            Found::Signed => inner.reading.identity(&token, now_unix_secs).map(Some),
            Found::NotSigned => Err(Fault::Signature),
            Found::NoSuchKey => Ok(None),
        }
    }

    /// What the key server says.
    async fn second_look(&self, text: &str, now_unix_secs: u64) -> Verdict {
        let inner = &*self.0;
        let (Ok(token), Some(server)) = (Token::parse(text), &inner.key_server) else {
            return self.refuse(Fault::Malformed);
        };
        match server.ask(&token).await {
            Some(Found::Signed) => match inner.reading.identity(&token, now_unix_secs) {
                Ok(identity) => Verdict::Accepted(identity),
                Err(fault) => self.refuse(fault),
            },
            Some(Found::NotSigned) => self.refuse(Fault::Signature),
            Some(Found::NoSuchKey) => self.refuse(Fault::UnknownKey),
            None => Verdict::Unavailable,
        }
    }

    fn refuse(&self, fault: Fault) -> Verdict {
        let refusal = Refusal::BadToken(fault);
        self.0.metrics.refused.inc(refusal.reason());
        Verdict::Refused(refusal)
    }
}

/// Some clients put the whole header's value where the token belongs.
fn without_scheme(token: &str) -> &str {
    let token = token.trim_start();
    match token.split_at_checked("bearer ".len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer ") => rest.trim(),
        Some(_) | None => token.trim_end(),
    }
}

#[cfg(test)]
mod tests;
