//! Who the bearer of a token is: keys from the configuration or a key server, and the verdict on a token.
//! Knows neither connections nor how a verdict is told to a client, and decides nothing about clients without a token.

mod claims;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

pub use hub::rules::User;
use crate::metrics::Metrics;

/// What a node accepts as proof of who a client is. Values are the texts of the variables they are named after; `None` is an unset one.
#[derive(Clone, Default)]
pub struct AuthConfig {
    /// `JWT_SECRET`: the shared secret of HS256, HS384 and HS512.
    pub jwt_secret: Option<String>,
    /// `JWT_PUBLIC_KEY`: a public key as PEM text (line ends may be written `\n`), or the path of a file that holds one.
    pub jwt_public_key: Option<String>,
    /// `JWKS_URL`: where a JSON Web Key Set (RFC 7517) is served.
    pub jwks_url: Option<String>,
    /// `JWT_ALGORITHMS`: a comma list that narrows what the keys would allow.
    pub jwt_algorithms: Option<String>,
    /// How far clocks may differ when `exp` and `nbf` are looked at.
    pub leeway_secs: u64,
    /// The claims that a [`User`] keeps beside `id`, `email` and `role`; `None` keeps all.
    pub claims_kept: Option<Vec<String>>,
}

impl fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthConfig")
            .field("jwt_secret", &self.jwt_secret.as_ref().map(|_| "[secret]"))
            .field("jwt_public_key", &self.jwt_public_key)
            .field("jwks_url", &self.jwks_url)
            .field("jwt_algorithms", &self.jwt_algorithms)
            .field("leeway_secs", &self.leeway_secs)
            .field("claims_kept", &self.claims_kept)
            .finish()
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
#[derive(Debug, Clone)]
pub struct Auth(Arc<Metrics>);

impl Auth {
    /// Reads the keys. The key server, if there is one, is asked on `backend` from now on for as long as a clone of the result lives.
    ///
    /// # Errors
    /// A variable that cannot be used, by its name.
    pub fn new(config: AuthConfig, metrics: Arc<Metrics>, backend: &tokio::runtime::Handle) -> anyhow::Result<Self> {
        let _ = (config, backend);
        Ok(Self(metrics))
    }

    /// Whether any key is configured. Without one every token is refused; whether clients need one is the profile's to say.
    pub fn has_keys(&self) -> bool {
        false
    }

    /// Judges a token at this time. An empty token is none; a leading `Bearer ` is left out.
    pub fn check(&self, token: Option<&str>, now_unix_secs: u64) -> Check {
        let _ = (token, now_unix_secs);
        Check::Now(Verdict::Refused(Refusal::NoToken))
    }
}
