//! A JSON Web Key Set (RFC 7517): which of its keys signed a token. Knows nothing of where it came from.

use jsonwebtoken::jwk::{AlgorithmParameters, CommonParameters, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::token::Token;

/// Keys that are read of one set; more are left out.
const KEYS_MAX: usize = 100;

/// The keys of a set that can verify signatures.
pub(super) struct KeySet {
    keys: Vec<Key>,
}

struct Key {
    id: Option<String>,
    /// The one algorithm that the key is for, where the set says so.
    algorithm: Option<Algorithm>,
    key: DecodingKey,
}

/// What a set says of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// One of its keys made the signature.
    Signed,
    /// The key that the token names did not.
    NotSigned,
    /// The key that the token names is not in it, or the token names none and no key fits: a newer set may hold it.
    NoSuchKey,
}

impl KeySet {
    /// Reads a set. Keys that cannot be used (for encryption, shared secrets, unknown curves) are left out.
    ///
    /// # Errors
    /// The body is no key set, or holds no key that can be used.
    pub(super) fn parse(body: &[u8]) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Body<'a> {
            #[serde(borrow)]
            keys: Vec<&'a RawValue>,
        }
        let body: Body<'_> = serde_json::from_slice(body)?;
        let keys: Vec<Key> = body.keys.iter().take(KEYS_MAX).filter_map(|raw| usable(raw)).collect();
        anyhow::ensure!(!keys.is_empty(), "it holds no key that can be used");
        Ok(Self { keys })
    }

    /// The number of keys.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// What the set says of a token.
    pub(super) fn look(&self, token: &Token<'_>) -> Found {
        let named = |key: &&Key| token.key_id.is_some() && key.id == token.key_id;
        let fits = |key: &&Key| key.algorithm.is_none_or(|algorithm| algorithm == token.algorithm);
        if self.keys.iter().any(|key| named(&key)) {
            let signed = self.keys.iter().filter(named).filter(fits).any(|key| token.is_signed_by(&key.key));
            return if signed { Found::Signed } else { Found::NotSigned };
        }
        // A token that names no key may be signed by any; one that names an unknown key only by a key without a name.
        let nameless = |key: &&Key| token.key_id.is_none() || key.id.is_none();
        let signed = self.keys.iter().filter(nameless).filter(fits).any(|key| token.is_signed_by(&key.key));
        if signed { Found::Signed } else { Found::NoSuchKey }
    }
}

fn usable(raw: &RawValue) -> Option<Key> {
    let jwk: Jwk = serde_json::from_str(raw.get()).ok()?;
    let CommonParameters { public_key_use, key_algorithm, key_id, .. } = jwk.common;
    if public_key_use.is_some_and(|purpose| purpose != PublicKeyUse::Signature) {
        return None;
    }
    // A shared secret on a public page is no secret.
    if matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_)) {
        return None;
    }
    let algorithm = match key_algorithm {
        Some(algorithm) => Some(Algorithm::try_from(algorithm).ok()?),
        None => None,
    };
    let key = DecodingKey::from_jwk(&Jwk { common: CommonParameters::default(), algorithm: jwk.algorithm }).ok()?;
    Some(Key { id: key_id, algorithm, key })
}
