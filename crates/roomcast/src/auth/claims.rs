//! From the claims of a token with a good signature to who its bearer is, and until when. Knows nothing of keys.

use std::borrow::{Borrow, Cow};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hub::names::UserId;
use hub::rules::{ClaimsUsed, User};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::token::Token;
use super::{Fault, Identity};

/// How claims are read.
pub(super) struct Reading {
    /// How far clocks may differ.
    pub(super) leeway: Duration,
    /// The claims that may name the user, in order.
    pub(super) user_claims: Vec<String>,
    /// The claims that are kept beside `id`, `email` and `role`.
    pub(super) claims_kept: ClaimsUsed,
}

/// The claims by name; of a name that is there twice the last one holds, as everywhere in JSON.
type Claims<'a> = BTreeMap<Name<'a>, &'a RawValue>;

/// The name of a claim: a part of the token's own bytes, where nothing is escaped in it.
#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl Borrow<str> for Name<'_> {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Reading {
    /// Who the token names at this time.
    ///
    /// # Errors
    /// It is over, or not yet valid, or its claims are no JSON object with a user.
    pub(super) fn identity(&self, token: &Token<'_>, now_unix_secs: u64) -> Result<Identity, Fault> {
        self.read(&token.payload()?, now_unix_secs)
    }

    fn read(&self, payload: &[u8], now_unix_secs: u64) -> Result<Identity, Fault> {
        let claims: Claims<'_> = serde_json::from_slice(payload).map_err(|_| Fault::Malformed)?;
        let user_id = self.user_id(&claims);
        let leeway_secs = self.leeway.as_secs();
        let expires_at_unix_secs = time(&claims, "exp")?;
        let fault = if expires_at_unix_secs.is_some_and(|end| now_unix_secs >= end.saturating_add(leeway_secs)) {
            Some(Fault::Expired)
        } else if time(&claims, "nbf")?.is_some_and(|start| start > now_unix_secs.saturating_add(leeway_secs)) {
            Some(Fault::NotYetValid)
        } else {
            None
        };
        match (user_id, fault) {
            (Ok(id), None) => {
                let user = User { claims: self.kept(&id, &claims), id: Some(id) };
                Ok(Identity { user, expires_at_unix_secs })
            }
            (Ok(id), Some(fault)) => {
                // The signature is good: whose token it was is worth knowing, and known here alone.
                tracing::info!(user = id.as_str(), reason = fault.reason(), "token refused");
                Err(fault)
            }
            (Err(fault), _) => Err(fault),
        }
    }

    /// The first of the claims that is there; null and the empty string are not.
    fn user_id(&self, claims: &Claims<'_>) -> Result<UserId, Fault> {
        let claim = self
            .user_claims
            .iter()
            .filter_map(|name| claims.get(name.as_str()))
            .map(|claim| claim.get())
            .find(|claim| !matches!(*claim, "null" | "\"\""))
            .ok_or(Fault::NoUser)?;
        if claim.starts_with('"') {
            let text: String = serde_json::from_str(claim).map_err(|_| Fault::NoUser)?;
            UserId::from_text(&text).map_err(|_| Fault::NoUser)
        } else {
            claim.parse().map(UserId::from_integer).map_err(|_| Fault::NoUser)
        }
    }

    /// The claims that the rules read, as a JSON object that begins with the normalised ones.
    fn kept(&self, id: &UserId, claims: &Claims<'_>) -> Arc<str> {
        let email = claims.get("email").map_or("null", |email| email.get());
        let mut kept = format!("{{\"id\":{},\"email\":{email},\"role\":{}", id.to_json(), role(claims));
        let mut keep = |name: &str, claim: &RawValue| {
            if !matches!(name, "id" | "email" | "role") {
                kept.push(',');
                kept.push_str(&serde_json::to_string(name).expect("a text is JSON"));
                kept.push(':');
                kept.push_str(claim.get());
            }
        };
        match &self.claims_kept {
            ClaimsUsed::All => claims.iter().for_each(|(name, claim)| keep(&name.0, claim)),
            ClaimsUsed::Named(names) => {
                for name in names {
                    if let Some(claim) = claims.get(name.as_str()) {
                        keep(name, claim);
                    }
                }
            }
        }
        kept.push('}');
        Arc::from(kept)
    }
}

/// `role`, or `roles` where there is none: one role stands alone, several stay a list.
fn role<'a>(claims: &Claims<'a>) -> &'a str {
    let claim = |name| claims.get(name).map(|claim| claim.get()).filter(|claim| *claim != "null");
    let Some(roles) = claim("role").or_else(|| claim("roles")) else { return "null" };
    match serde_json::from_str::<Vec<&RawValue>>(roles).as_deref() {
        Ok([only]) => only.get(),
        Ok([]) => "null",
        Ok(_) | Err(_) => roles,
    }
}

/// A NumericDate (RFC 7519, section 2), whole seconds.
fn time(claims: &Claims<'_>, name: &str) -> Result<Option<u64>, Fault> {
    let Some(claim) = claims.get(name) else { return Ok(None) };
    if let Ok(secs) = claim.get().parse::<u64>() {
        return Ok(Some(secs));
    }
    // A fraction is cut off, and what lies before 1970 is 1970: `as` saturates.
    let secs: f64 = serde_json::from_str(claim.get()).map_err(|_| Fault::Malformed)?;
    Ok(Some(secs as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000;

    fn reading(claims_kept: ClaimsUsed) -> Reading {
        let user_claims = ["userId", "id", "sub", "user_id"].map(str::to_owned).to_vec();
        Reading { leeway: Duration::from_secs(5), user_claims, claims_kept }
    }

    /// Expects the user's claims, with only `clanIds` kept, or a fault.
    fn check(payload: &str, expected: Result<&str, Fault>) {
        let reading = reading(ClaimsUsed::Named(vec!["clanIds".to_owned()]));
        let read = reading.read(payload.as_bytes(), NOW).map(|identity| identity.user.claims);
        assert_eq!(read.as_deref().map_err(|fault| *fault), expected, "{payload}");
    }

    #[test]
    fn the_first_claim_that_is_there_names_the_user() {
        check(r#"{"sub":"s","userId":"u","id":"i"}"#, Ok(r#"{"id":"u","email":null,"role":null}"#));
        check(r#"{"sub":"s","id":7}"#, Ok(r#"{"id":7,"email":null,"role":null}"#));
        check(r#"{"user_id":-1}"#, Ok(r#"{"id":-1,"email":null,"role":null}"#));
        check(r#"{"userId":null,"id":"","sub":"\u0061b"}"#, Ok(r#"{"id":"ab","email":null,"role":null}"#));
        check(r#"{"sub":12345678901234567890}"#, Ok(r#"{"id":12345678901234567890,"email":null,"role":null}"#));
    }

    #[test]
    fn a_token_that_names_no_user_is_refused() {
        check(r#"{"email":"a@b.c"}"#, Err(Fault::NoUser));
        check(r#"{"userId":{"$oid":"1"},"sub":"s"}"#, Err(Fault::NoUser));
        check(r#"{"sub":1.5}"#, Err(Fault::NoUser));
        check(r#"{"sub":true}"#, Err(Fault::NoUser));
        check(r#"{"sub":"a\nb"}"#, Err(Fault::NoUser));
        check(&format!(r#"{{"sub":"{}"}}"#, "x".repeat(256)), Err(Fault::NoUser));
        check("[]", Err(Fault::Malformed));
        check("no JSON", Err(Fault::Malformed));
    }

    #[test]
    fn email_and_role_are_carried_along_and_other_claims_only_if_the_rules_read_them() {
        check(
            r#"{"sub":"s","email":"a@b.c","role":"host","clanIds":[1, 2],"secret":"x"}"#,
            Ok(r#"{"id":"s","email":"a@b.c","role":"host","clanIds":[1, 2]}"#),
        );
        check(r#"{"sub":"s","roles":["host"]}"#, Ok(r#"{"id":"s","email":null,"role":"host"}"#));
        check(r#"{"sub":"s","roles":["a","b"]}"#, Ok(r#"{"id":"s","email":null,"role":["a","b"]}"#));
        check(r#"{"sub":"s","roles":[]}"#, Ok(r#"{"id":"s","email":null,"role":null}"#));
    }

    #[test]
    fn all_claims_can_be_kept() {
        let identity = reading(ClaimsUsed::All).read(br#"{"sub":"s","b\"c":{"d":1.0}}"#, NOW).expect("a good token");
        assert_eq!(&*identity.user.claims, r#"{"id":"s","email":null,"role":null,"b\"c":{"d":1.0},"sub":"s"}"#);
    }

    #[test]
    fn times_have_five_seconds_of_leeway() {
        let good = Ok(r#"{"id":"s","email":null,"role":null}"#);
        check(&format!(r#"{{"sub":"s","exp":{}}}"#, NOW - 4), good);
        check(&format!(r#"{{"sub":"s","exp":{}.9}}"#, NOW - 4), good);
        check(&format!(r#"{{"sub":"s","exp":{}}}"#, NOW - 5), Err(Fault::Expired));
        check(r#"{"sub":"s","exp":-1}"#, Err(Fault::Expired));
        check(r#"{"sub":"s","exp":1e300}"#, good);
        check(&format!(r#"{{"sub":"s","nbf":{}}}"#, NOW + 5), good);
        check(&format!(r#"{{"sub":"s","nbf":{}}}"#, NOW + 6), Err(Fault::NotYetValid));
        check(r#"{"sub":"s","exp":"never"}"#, Err(Fault::Malformed));
        check(r#"{"sub":"s","nbf":null}"#, Err(Fault::Malformed));
    }
}
