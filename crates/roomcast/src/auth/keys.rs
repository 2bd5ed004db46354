//! The keys that the configuration holds, and which algorithms each key may sign by. Knows nothing of key servers but which algorithms theirs may use.

use anyhow::{Context as _, bail, ensure};
use aws_lc_rs::hmac;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};

use super::AuthConfig;
use super::token::Token;

/// Every algorithm there is.
const ALGORITHMS: [Algorithm; 12] = [
    Algorithm::HS256,
    Algorithm::HS384,
    Algorithm::HS512,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// A shared secret shorter than this can be guessed from a token (RFC 7518, section 3.2).
const SECRET_WEAK_BELOW_BYTES: usize = 32;

/// The keys of the configuration: at most a secret and a public key.
pub(super) struct Keys {
    keys: Vec<Key>,
    fetched: Vec<Algorithm>,
}

struct Key {
    variable: &'static str,
    algorithms: Vec<Algorithm>,
    key: KeyKind,
}

enum KeyKind {
    /// The shared secret, made ready once for each algorithm: that costs as much as the signature of a short token.
    Secret(Box<[(Algorithm, hmac::Key); 3]>),
    Public(DecodingKey),
}

impl KeyKind {
    fn secret(secret: &[u8]) -> Self {
        let ready = [
            (Algorithm::HS256, hmac::HMAC_SHA256),
            (Algorithm::HS384, hmac::HMAC_SHA384),
            (Algorithm::HS512, hmac::HMAC_SHA512),
        ];
        Self::Secret(Box::new(ready.map(|(algorithm, of)| (algorithm, hmac::Key::new(of, secret)))))
    }

    fn signed(&self, token: &Token<'_>) -> bool {
        match self {
            Self::Secret(ready) => {
                ready.iter().any(|(algorithm, key)| *algorithm == token.algorithm && token.is_signed_by_secret(key))
            }
            Self::Public(key) => token.is_signed_by(key),
        }
    }
}

impl Keys {
    /// Reads the keys.
    ///
    /// # Errors
    /// A key that is none; an algorithm that does not exist or that no key can sign by; a key that is left without an algorithm.
    pub(super) fn read(config: &AuthConfig) -> anyhow::Result<Self> {
        let mut keys = Vec::new();
        if let Some(secret) = &config.jwt_secret {
            if secret.len() < SECRET_WEAK_BELOW_BYTES {
                tracing::warn!(
                    "JWT_SECRET is shorter than {SECRET_WEAK_BELOW_BYTES} bytes: it can be guessed from a token"
                );
            }
            let algorithms = AlgorithmFamily::Hmac.algorithms().to_vec();
            keys.push(Key { variable: "JWT_SECRET", algorithms, key: KeyKind::secret(secret.as_bytes()) });
        }
        if let Some(text) = &config.jwt_public_key {
            keys.push(public_key(text)?);
        }
        let fetched: Vec<Algorithm> = match &config.jwks_url {
            Some(_) => ALGORITHMS.into_iter().filter(|algorithm| algorithm.family() != AlgorithmFamily::Hmac).collect(),
            None => Vec::new(),
        };
        let mut read = Self { keys, fetched };
        read.narrow(&config.jwt_algorithms)?;
        Ok(read)
    }

    fn narrow(&mut self, names: &[String]) -> anyhow::Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let mut listed = Vec::new();
        for name in names {
            let Ok(algorithm) = name.parse::<Algorithm>() else {
                let known = ALGORITHMS.map(|algorithm| format!("{algorithm:?}")).join(", ");
                bail!("JWT_ALGORITHMS: {name:?} cannot be used; there are {known}");
            };
            let served =
                self.fetched.contains(&algorithm) || self.keys.iter().any(|key| key.algorithms.contains(&algorithm));
            ensure!(
                served || (self.keys.is_empty() && self.fetched.is_empty()),
                "JWT_ALGORITHMS names {name}, but no key is set for it: HS* needs JWT_SECRET, all others JWT_PUBLIC_KEY of their kind or JWKS_URL"
            );
            listed.push(algorithm);
        }
        for key in &mut self.keys {
            key.algorithms.retain(|algorithm| listed.contains(algorithm));
            ensure!(
                !key.algorithms.is_empty(),
                "{} is set, but JWT_ALGORITHMS names no algorithm for it",
                key.variable
            );
        }
        let has_server = !self.fetched.is_empty();
        self.fetched.retain(|algorithm| listed.contains(algorithm));
        ensure!(
            !has_server || !self.fetched.is_empty(),
            "JWKS_URL is set, but JWT_ALGORITHMS names no algorithm for it"
        );
        Ok(())
    }

    /// Whether there is no key.
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether one of the keys made the signature.
    pub(super) fn signed(&self, token: &Token<'_>) -> bool {
        self.keys.iter().any(|key| key.algorithms.contains(&token.algorithm) && key.key.signed(token))
    }

    /// Whether the token's algorithm is one of those that a key here may sign by.
    pub(super) fn may_sign(&self, token: &Token<'_>) -> bool {
        self.keys.iter().any(|key| key.algorithms.contains(&token.algorithm))
    }

    /// Whether the token's algorithm is one of those that a fetched key may sign by.
    pub(super) fn fetched_may_sign(&self, token: &Token<'_>) -> bool {
        self.fetched.contains(&token.algorithm)
    }
}

/// The variable may hold the text itself, with its line ends as they are or as `\n`, or a path.
fn public_key(value: &str) -> anyhow::Result<Key> {
    let text = if value.contains("-----BEGIN") {
        value.replace("\\n", "\n")
    } else {
        // The value is not repeated: what is neither may well be a secret in the wrong place.
        std::fs::read_to_string(value).context(
            "JWT_PUBLIC_KEY is neither PEM text (-----BEGIN PUBLIC KEY-----) nor the path of a readable file",
        )?
    };
    ensure!(!text.contains("PRIVATE KEY"), "JWT_PUBLIC_KEY holds a private key; the public half belongs there");
    ensure!(
        text.contains("BEGIN PUBLIC KEY") || text.contains("BEGIN RSA PUBLIC KEY"),
        "JWT_PUBLIC_KEY holds no public key (-----BEGIN PUBLIC KEY-----)"
    );
    let pem = text.as_bytes();
    let key = DecodingKey::from_rsa_pem(pem)
        .or_else(|_| DecodingKey::from_ec_pem(pem))
        .or_else(|_| DecodingKey::from_ed_pem(pem))
        .map_err(|_| {
            anyhow::anyhow!("JWT_PUBLIC_KEY cannot be read; it must be an RSA, EC (P-256, P-384) or Ed25519 key")
        })?;
    let algorithms = match key.family() {
        // The length of an uncompressed point tells the curve.
        AlgorithmFamily::Ec => match key.try_get_as_bytes().map(<[u8]>::len) {
            Ok(65) => vec![Algorithm::ES256],
            Ok(97) => vec![Algorithm::ES384],
            Ok(_) | Err(_) => bail!("JWT_PUBLIC_KEY is on a curve other than P-256 and P-384"),
        },
        family @ (AlgorithmFamily::Rsa | AlgorithmFamily::Ed | AlgorithmFamily::Hmac) => family.algorithms().to_vec(),
    };
    Ok(Key { variable: "JWT_PUBLIC_KEY", algorithms, key: KeyKind::Public(key) })
}
