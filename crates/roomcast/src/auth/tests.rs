//! Tokens as real issuers make them, and a real key server that rotates its keys, dies and comes back.

use std::net::SocketAddr;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::watch;

use super::*;

const NOW: u64 = 1_800_000_000;
const SECRET: &str = "a secret that is at least thirty-two bytes long";

/// An issuer's key.
struct Issuer {
    algorithm: Algorithm,
    key: EncodingKey,
    public_pem: String,
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

fn public_pem(key: &impl AsDer<PublicKeyX509Der<'static>>) -> String {
    pem("PUBLIC KEY", key.as_der().expect("a public key can be written").as_ref())
}

impl Issuer {
    fn new(algorithm: Algorithm) -> Self {
        let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
        let (key, public_pem) = match algorithm {
            Algorithm::ES256 | Algorithm::ES384 => {
                let curve = match algorithm {
                    Algorithm::ES256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
                    _ => &ECDSA_P384_SHA384_FIXED_SIGNING,
                };
                let pair = EcdsaKeyPair::generate(curve).expect("randomness");
                let private = pair.to_pkcs8v1().expect("a private key can be written");
                let key = EncodingKey::from_ec_pem(pem("PRIVATE KEY", private.as_ref()).as_bytes())
                    .expect("it was just written");
                (key, public_pem(pair.public_key()))
            }
            Algorithm::EdDSA => {
                let pair = Ed25519KeyPair::generate().expect("randomness");
                let private = pair.to_pkcs8v1().expect("a private key can be written");
                let key = EncodingKey::from_ed_pem(pem("PRIVATE KEY", private.as_ref()).as_bytes())
                    .expect("it was just written");
                (key, public_pem(pair.public_key()))
            }
            Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => {
                (EncodingKey::from_secret(SECRET.as_bytes()), String::new())
            }
            _ => {
                let pair = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).expect("randomness");
                let private = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).expect("a private key can be written");
                let key = EncodingKey::from_rsa_pem(pem("PRIVATE KEY", private.as_ref()).as_bytes())
                    .expect("it was just written");
                (key, public_pem(pair.public_key()))
            }
        };
        Self { algorithm, key, public_pem }
    }

    fn token(&self, algorithm: Algorithm, kid: Option<&str>) -> String {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
        jsonwebtoken::encode(&header, &json!({"userId": 42, "exp": NOW + 60}), &self.key)
            .expect("the key is of the algorithm's kind")
    }

    fn jwk(&self, kid: Option<&str>) -> Jwk {
        let mut jwk = Jwk::from_encoding_key(&self.key, self.algorithm).expect("the key is of the algorithm's kind");
        jwk.common.key_id = kid.map(str::to_owned);
        jwk
    }
}

fn auth(config: AuthConfig) -> anyhow::Result<Auth> {
    Auth::new(config, Arc::default(), &Handle::current())
}

fn sound(config: AuthConfig) -> Auth {
    auth(config).expect("the configuration is sound")
}

fn with_secret() -> AuthConfig {
    AuthConfig { jwt_secret: Some(SECRET.to_owned()), ..AuthConfig::default() }
}

fn with_public_key(pem: &str) -> AuthConfig {
    AuthConfig { jwt_public_key: Some(pem.to_owned()), ..AuthConfig::default() }
}

async fn verdict(auth: &Auth, token: &str) -> Verdict {
    match auth.check(Some(token), NOW) {
        Check::Now(verdict) => verdict,
        Check::Later(verdict) => verdict.await,
    }
}

fn accepted(verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Accepted(identity) => {
            assert_eq!(identity.user.id.as_ref().map(|id| id.to_json()), Some("42".to_owned()));
            assert_eq!(identity.expires_at_unix_secs, Some(NOW + 60));
            true
        }
        Verdict::Refused(_) | Verdict::Unavailable => false,
    }
}

/// A token made by hand: header and claims as given, signed by the secret.
fn handmade(header: &str, claims: &str) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).expect("any secret signs");
    format!("{message}.{signature}")
}

#[tokio::test]
async fn every_algorithm_is_accepted_by_a_key_of_its_kind() {
    use Algorithm::{ES256, ES384, EdDSA, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512};
    let issuers = [
        (HS256, vec![HS256, HS384, HS512]),
        (RS256, vec![RS256, RS384, RS512, PS256, PS384, PS512]),
        (ES256, vec![ES256]),
        (ES384, vec![ES384]),
        (EdDSA, vec![EdDSA]),
    ];
    for (kind, algorithms) in issuers {
        let issuer = Issuer::new(kind);
        let config = if kind == HS256 { with_secret() } else { with_public_key(&issuer.public_pem) };
        let auth = sound(config);
        for algorithm in algorithms {
            let token = issuer.token(algorithm, None);
            assert!(accepted(&verdict(&auth, &token).await), "{algorithm:?}");
            let foreign = Issuer::new(kind).token(algorithm, None);
            if kind != HS256 {
                assert_eq!(verdict(&auth, &foreign).await, Verdict::Refused(Refusal::BadToken(Fault::Signature)));
            }
        }
    }
}

#[tokio::test]
async fn a_public_key_may_be_written_in_one_line_or_stand_in_a_file() {
    let issuer = Issuer::new(Algorithm::ES256);
    let token = issuer.token(Algorithm::ES256, None);
    let one_line = issuer.public_pem.trim().replace('\n', "\\n");
    assert!(accepted(&verdict(&sound(with_public_key(&one_line)), &token).await));
    let path = std::env::temp_dir().join(format!("roomcast-public-key-{}.pem", std::process::id()));
    std::fs::write(&path, &issuer.public_pem).expect("the temporary folder can be written to");
    let from_file = auth(with_public_key(path.to_str().expect("the temporary folder's path is UTF-8")));
    std::fs::remove_file(&path).expect("it was just written");
    assert!(accepted(&verdict(&from_file.expect("the file holds a key"), &token).await));
}

#[tokio::test]
async fn bad_tokens_are_refused_each_for_its_own_fault() {
    let auth = sound(with_secret());
    let good = Issuer::new(Algorithm::HS256).token(Algorithm::HS256, None);
    let (message, signature) = good.rsplit_once('.').expect("a token has three parts");
    let (header, payload) = message.split_once('.').expect("a token has three parts");
    let hs256 = r#"{"alg":"HS256"}"#;
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    let table = [
        (Fault::Malformed, "no token".to_owned()),
        (Fault::Malformed, format!("{message}.{signature}.x")),
        (Fault::Malformed, message.to_owned()),
        (Fault::Malformed, "x".repeat(TOKEN_MAX_BYTES + 1)),
        (Fault::Malformed, handmade(r#"{"alg":"HS256","crit":["exp"],"exp":1}"#, r#"{"sub":"s"}"#)),
        (Fault::Malformed, handmade(hs256, "not JSON")),
        (Fault::Algorithm, format!("{none}.{payload}.")),
        (Fault::Algorithm, format!("{none}.{payload}.{signature}")),
        (Fault::Algorithm, handmade(r#"{"alg":"HS257"}"#, r#"{"sub":"s"}"#)),
        (Fault::Algorithm, Issuer::new(Algorithm::ES256).token(Algorithm::ES256, None)),
        (Fault::Signature, format!("{message}.")),
        (Fault::Signature, format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(r#"{"userId":1}"#))),
        (Fault::Expired, handmade(hs256, &json!({"sub": "s", "exp": NOW - 5}).to_string())),
        (Fault::NotYetValid, handmade(hs256, &json!({"sub": "s", "nbf": NOW + 6}).to_string())),
        (Fault::NoUser, handmade(hs256, r#"{"email":"a@b.c"}"#)),
    ];
    for (fault, token) in table {
        assert_eq!(verdict(&auth, &token).await, Verdict::Refused(Refusal::BadToken(fault)), "{token}");
    }
    assert_eq!(auth.0.metrics.refused.value("malformed_token"), 6);
    assert_eq!(Refusal::BadToken(Fault::Expired).message(), "Invalid or expired token");
}

#[tokio::test]
async fn a_token_without_an_end_is_good() {
    let verdict = verdict(&sound(with_secret()), &handmade(r#"{"alg":"HS256"}"#, r#"{"sub":"s"}"#)).await;
    assert!(matches!(verdict, Verdict::Accepted(Identity { expires_at_unix_secs: None, .. })), "{verdict:?}");
}

#[tokio::test]
async fn no_token_is_told_from_a_bad_one() {
    let auth = sound(with_secret());
    for token in [None, Some(""), Some("  "), Some("Bearer ")] {
        let Check::Now(verdict) = auth.check(token, NOW) else { panic!("nothing to wait for") };
        assert_eq!(verdict, Verdict::Refused(Refusal::NoToken), "{token:?}");
    }
    assert_eq!(Refusal::NoToken.message(), "Authentication required");
    let token = Issuer::new(Algorithm::HS256).token(Algorithm::HS256, None);
    assert!(accepted(&verdict(&auth, &format!("bearer {token}")).await));
}

#[tokio::test]
async fn a_public_key_is_never_a_shared_secret() {
    let issuer = Issuer::new(Algorithm::RS256);
    let auth = sound(with_public_key(&issuer.public_pem));
    let claims = json!({"userId": 42});
    let forged = EncodingKey::from_secret(issuer.public_pem.as_bytes());
    let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &forged).expect("any secret signs");
    assert_eq!(verdict(&auth, &token).await, Verdict::Refused(Refusal::BadToken(Fault::Algorithm)));
}

#[tokio::test]
async fn the_list_narrows_what_the_keys_allow() {
    let config = AuthConfig { jwt_algorithms: vec!["HS512".to_owned()], ..with_secret() };
    let auth = sound(config);
    let issuer = Issuer::new(Algorithm::HS256);
    assert!(accepted(&verdict(&auth, &issuer.token(Algorithm::HS512, None)).await));
    let refused = verdict(&auth, &issuer.token(Algorithm::HS256, None)).await;
    assert_eq!(refused, Verdict::Refused(Refusal::BadToken(Fault::Algorithm)));
}

#[tokio::test]
async fn a_misconfiguration_is_an_error_that_names_the_variable() {
    let listed = |names: &[&str]| AuthConfig {
        jwt_algorithms: names.iter().map(|name| (*name).to_owned()).collect(),
        ..with_secret()
    };
    let with_key_server = |url: &str| AuthConfig { jwks_url: Some(url.to_owned()), ..AuthConfig::default() };
    let table = [
        (listed(&["HS256", "none"]), "JWT_ALGORITHMS: \"none\" cannot be used"),
        (listed(&["hs256"]), "JWT_ALGORITHMS: \"hs256\" cannot be used"),
        (listed(&["HS256", "RS256"]), "JWT_ALGORITHMS names RS256, but no key is set for it"),
        (with_public_key("/does/not/exist.pem"), "JWT_PUBLIC_KEY is neither PEM text"),
        (
            with_public_key("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"),
            "JWT_PUBLIC_KEY cannot be read",
        ),
        (with_public_key("-----BEGIN PRIVATE KEY-----"), "JWT_PUBLIC_KEY holds a private key"),
        (with_public_key("-----BEGIN CERTIFICATE-----"), "JWT_PUBLIC_KEY holds no public key"),
        (with_key_server("keys"), "JWKS_URL: \"keys\" is no URL"),
        (with_key_server("file:///keys"), "JWKS_URL: file:///keys is neither http nor https"),
        (
            AuthConfig {
                jwt_algorithms: vec!["HS256".to_owned()],
                jwks_url: Some("http://[::1]/".to_owned()),
                ..with_secret()
            },
            "JWKS_URL is set, but JWT_ALGORITHMS names no algorithm for it",
        ),
    ];
    for (config, expected) in table {
        let error = auth(config).expect_err(expected).to_string();
        assert!(error.starts_with(expected), "{error:?} should begin with {expected:?}");
    }
}

/// A key server on a runtime of its own, so that it can be killed with all its connections.
struct Server {
    runtime: Option<Runtime>,
    address: SocketAddr,
    page: watch::Sender<Page>,
    requests: watch::Sender<u64>,
}

#[derive(Clone)]
struct Page {
    body: String,
    cache_control: &'static str,
}

impl Server {
    async fn start(keys: &[Jwk]) -> Self {
        let page = Page { body: json!({ "keys": keys }).to_string(), cache_control: "max-age=600" };
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server =
            Self { runtime: None, address, page: watch::Sender::new(page), requests: watch::Sender::new(0) };
        server.come_back().await;
        server
    }

    async fn come_back(&mut self) {
        let (page, requests, address) = (self.page.clone(), self.requests.clone(), self.address);
        let answer = move || {
            requests.send_modify(|requests| *requests += 1);
            let page = page.borrow().clone();
            async move { ([(http::header::CACHE_CONTROL, page.cache_control)], page.body) }
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a thread can be started");
        let listening = runtime.spawn(async move {
            let listener = tokio::net::TcpListener::bind(address).await.expect("the port is free, or was its own");
            let address = listener.local_addr().expect("it is bound");
            let router = axum::Router::new().route("/keys", axum::routing::get(answer));
            tokio::spawn(async move { axum::serve(listener, router).await });
            address
        });
        self.address = listening.await.expect("no panic");
        self.runtime = Some(runtime);
    }

    fn die(&mut self) {
        self.runtime.take().expect("it lives").shutdown_background();
    }

    fn publish(&self, keys: &[Jwk]) {
        self.page.send_modify(|page| page.body = json!({ "keys": keys }).to_string());
    }

    fn requests(&self) -> u64 {
        *self.requests.borrow()
    }

    fn config(&self) -> AuthConfig {
        let pace = Pace { between_min: Duration::from_millis(1), refresh_min: Duration::ZERO, ..Pace::default() };
        AuthConfig { jwks_url: Some(format!("http://{}/keys", self.address)), pace, ..AuthConfig::default() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[tokio::test]
async fn keys_are_fetched_once_for_all_who_wait_and_then_kept() {
    let issuer = Issuer::new(Algorithm::RS256);
    let server = Server::start(&[issuer.jwk(Some("one"))]).await;
    let auth = sound(server.config());
    let token = issuer.token(Algorithm::RS256, Some("one"));
    let verdicts = futures_util::future::join_all((0..100).map(|_| verdict(&auth, &token))).await;
    assert!(verdicts.iter().all(accepted));
    assert!(matches!(auth.check(Some(&token), NOW), Check::Now(Verdict::Accepted(_))), "cached keys need no wait");
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn a_new_key_is_found_when_the_first_token_names_it() {
    let (old, new) = (Issuer::new(Algorithm::ES256), Issuer::new(Algorithm::EdDSA));
    let server = Server::start(&[old.jwk(Some("old"))]).await;
    let auth = sound(server.config());
    assert!(accepted(&verdict(&auth, &old.token(Algorithm::ES256, Some("old"))).await));
    server.publish(&[new.jwk(Some("new"))]);
    assert!(accepted(&verdict(&auth, &new.token(Algorithm::EdDSA, Some("new"))).await));
    assert_eq!(server.requests(), 2);
    let gone = verdict(&auth, &old.token(Algorithm::ES256, Some("old"))).await;
    assert_eq!(gone, Verdict::Refused(Refusal::BadToken(Fault::UnknownKey)));
}

#[tokio::test]
async fn keys_without_a_name_are_tried_and_fetched_again_when_none_fits() {
    let (old, new) = (Issuer::new(Algorithm::ES256), Issuer::new(Algorithm::ES256));
    let server = Server::start(&[old.jwk(None)]).await;
    let auth = sound(server.config());
    assert!(accepted(&verdict(&auth, &old.token(Algorithm::ES256, None)).await));
    assert!(accepted(&verdict(&auth, &old.token(Algorithm::ES256, Some("any"))).await));
    server.publish(&[new.jwk(None)]);
    assert!(accepted(&verdict(&auth, &new.token(Algorithm::ES256, None)).await));
}

#[tokio::test]
async fn unknown_keys_do_not_make_the_gateway_ask_more_often() {
    let issuer = Issuer::new(Algorithm::ES256);
    let server = Server::start(&[issuer.jwk(Some("one"))]).await;
    let mut config = server.config();
    config.pace.between_min = Duration::from_secs(3600);
    let auth = sound(config);
    assert!(accepted(&verdict(&auth, &issuer.token(Algorithm::ES256, Some("one"))).await));
    for kid in ["a", "b", "c"] {
        let refused = verdict(&auth, &issuer.token(Algorithm::ES256, Some(kid))).await;
        assert_eq!(refused, Verdict::Refused(Refusal::BadToken(Fault::UnknownKey)));
    }
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn a_key_that_the_server_withdraws_is_gone_after_its_age() {
    let (old, new) = (Issuer::new(Algorithm::ES256), Issuer::new(Algorithm::ES256));
    let server = Server::start(&[old.jwk(Some("old"))]).await;
    server.page.send_modify(|page| page.cache_control = "private, max-age=0");
    let auth = sound(server.config());
    let token = old.token(Algorithm::ES256, Some("old"));
    assert!(accepted(&verdict(&auth, &token).await));
    server.publish(&[new.jwk(Some("new"))]);
    // The fetch after the next one begins when the next one's keys are in place.
    let enough = server.requests() + 2;
    server.requests.subscribe().wait_for(|requests| *requests >= enough).await.expect("the server lives");
    assert_eq!(verdict(&auth, &token).await, Verdict::Refused(Refusal::BadToken(Fault::UnknownKey)));
}

#[tokio::test]
async fn while_the_server_is_away_its_keys_hold_and_nobody_gets_a_final_no() {
    let (old, new) = (Issuer::new(Algorithm::ES256), Issuer::new(Algorithm::ES256));
    let mut server = Server::start(&[old.jwk(Some("old"))]).await;
    let known = sound(server.config());
    let old_token = old.token(Algorithm::ES256, Some("old"));
    let new_token = new.token(Algorithm::ES256, Some("new"));
    assert!(accepted(&verdict(&known, &old_token).await));
    server.die();
    let nothing_known = sound(server.config());
    assert!(accepted(&verdict(&known, &old_token).await), "the keys are kept");
    assert_eq!(verdict(&known, &new_token).await, Verdict::Unavailable);
    assert!(accepted(&verdict(&known, &old_token).await), "a failed fetch takes no key away");
    assert_eq!(verdict(&nothing_known, &old_token).await, Verdict::Unavailable);
    server.publish(&[old.jwk(Some("old")), new.jwk(Some("new"))]);
    server.come_back().await;
    for auth in [known, nothing_known] {
        assert!(accepted(&verdict(&auth, &new_token).await));
        assert!(accepted(&verdict(&auth, &old_token).await));
        assert!(auth.0.metrics.jwks_failures.get() >= 1);
    }
}

#[tokio::test]
async fn what_is_no_key_set_takes_no_key_away() {
    let issuer = Issuer::new(Algorithm::ES256);
    let server = Server::start(&[issuer.jwk(Some("one"))]).await;
    let auth = sound(server.config());
    let token = issuer.token(Algorithm::ES256, Some("one"));
    assert!(accepted(&verdict(&auth, &token).await));
    let secret = Issuer::new(Algorithm::HS256).jwk(Some("two"));
    let bodies = ["<html>".to_owned(), "{}".to_owned(), json!({"keys": [secret]}).to_string(), "x".repeat(300 * 1024)];
    for body in bodies {
        server.page.send_modify(|page| page.body = body);
        assert_eq!(verdict(&auth, &issuer.token(Algorithm::ES256, Some("two"))).await, Verdict::Unavailable);
        assert!(accepted(&verdict(&auth, &token).await));
    }
}
