//! The outside of a token: its three parts, its algorithm, its signature (RFC 7515). Knows nothing of what the claims mean.

use std::borrow::Cow;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Fault, TOKEN_MAX_BYTES};

/// The longest signature of a shared secret, HS512's 64 bytes, and what the decoder wants beyond it.
const SIGNATURE_MAX_BYTES: usize = 66;

/// A token whose signature has not been looked at yet.
pub(super) struct Token<'a> {
    /// The algorithm that it says it is signed by.
    pub(super) algorithm: Algorithm,
    /// The key that it says it is signed by.
    pub(super) key_id: Option<String>,
    message: &'a str,
    payload: &'a str,
    signature: &'a str,
}

/// The fields of a header that are read. What else a header may carry (`jwk`, `jku`, `x5u`: keys that the sender picks) is never looked at.
#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    crit: Option<IgnoredAny>,
}

impl<'a> Token<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// It is no token, asks for an extension that must be understood (`crit`), or names no algorithm that exists; `none` is none.
    pub(super) fn parse(text: &'a str) -> Result<Self, Fault> {
        if text.len() > TOKEN_MAX_BYTES {
            return Err(Fault::Malformed);
        }
        let (message, signature) = text.rsplit_once('.').ok_or(Fault::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(Fault::Malformed)?;
        if payload.contains('.') {
            return Err(Fault::Malformed);
        }
        let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| Fault::Malformed)?;
        let header: Header<'_> = serde_json::from_slice(&header).map_err(|_| Fault::Malformed)?;
        if header.crit.is_some() {
            return Err(Fault::Malformed);
        }
        let algorithm = header.alg.parse().map_err(|_| Fault::Algorithm)?;
        Ok(Self { algorithm, key_id: header.kid, message, payload, signature })
    }

    /// Whether this key made the signature. A key of another family than the algorithm's never did, so that a public key is never taken
    /// for a shared secret.
    pub(super) fn is_signed_by(&self, key: &DecodingKey) -> bool {
        key.family() == self.algorithm.family()
            && jsonwebtoken::crypto::verify(self.signature, self.message.as_bytes(), key, self.algorithm)
                .unwrap_or(false)
    }

    /// Whether the signature is this secret's.
    pub(super) fn is_signed_by_secret(&self, key: &hmac::Key) -> bool {
        let mut signature = [0; SIGNATURE_MAX_BYTES];
        URL_SAFE_NO_PAD
            .decode_slice(self.signature, &mut signature)
            .is_ok_and(|length| hmac::verify(key, self.message.as_bytes(), &signature[..length]).is_ok())
    }

    /// The claims as JSON text. To be asked of a token whose signature is good.
    pub(super) fn payload(&self) -> Result<Vec<u8>, Fault> {
        URL_SAFE_NO_PAD.decode(self.payload).map_err(|_| Fault::Malformed)
    }
}
