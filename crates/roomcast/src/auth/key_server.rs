//! The keys of a key server: fetched by one task, kept while the server is away, fetched again when they are old or when a token names a key
//! that is not among them. Judges no token's claims.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use arc_swap::ArcSwapOption;
use reqwest::{Client, Response, Url};
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::key_set::{Found, KeySet};
use super::token::Token;
use crate::metrics::Metrics;

/// The largest answer of a key server that is read.
const BODY_MAX_BYTES: usize = 256 * 1024;

/// Checks that may wait for the key server at a time; one more is told that it is unavailable.
const WAITING_MAX: usize = 10_000;

/// How often the key server is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// At least so long from one fetch to the next, whatever tokens come.
    pub between_min: Duration,
    /// A check waits no longer than this for the next fetch to be allowed.
    pub wait_max: Duration,
    /// After so long keys are fetched again where the server gives no `max-age`.
    pub refresh: Duration,
    /// The bounds of what the server may give as `max-age`.
    pub refresh_min: Duration,
    /// See `refresh_min`.
    pub refresh_max: Duration,
    /// After a failed fetch the next one comes after `between_min`, then twice that, up to this.
    pub retry_max: Duration,
    /// How long a fetch may take.
    pub timeout: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            between_min: Duration::from_secs(5),
            wait_max: Duration::from_secs(5),
            refresh: Duration::from_secs(10 * 60),
            refresh_min: Duration::from_secs(60),
            refresh_max: Duration::from_secs(24 * 3600),
            retry_max: Duration::from_secs(60),
            timeout: Duration::from_secs(5),
        }
    }
}

/// The keys of a key server. Its task ends with it.
pub(super) struct KeyServer {
    shared: Arc<Shared>,
    waiting: Semaphore,
    task: AbortHandle,
}

struct Shared {
    keys: ArcSwapOption<KeySet>,
    fetches: watch::Sender<Fetches>,
    /// The number of the fetch that someone waits for. A number rather than a signal: a wish that an ongoing fetch fulfils starts no other.
    wanted: watch::Sender<u64>,
    pace: Pace,
}

/// What became of the fetches so far.
#[derive(Debug, Clone, Copy)]
struct Fetches {
    done: u64,
    last_failed: bool,
    /// Before then none begins.
    next_allowed: Instant,
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl KeyServer {
    /// Fetches the keys, now and whenever they are due.
    ///
    /// # Errors
    /// `JWKS_URL` is no URL that can be fetched.
    pub(super) fn start(
        url: &str,
        pace: Pace,
        metrics: Arc<Metrics>,
        backend: &tokio::runtime::Handle,
    ) -> anyhow::Result<Self> {
        let url: Url = url.parse().with_context(|| format!("JWKS_URL: {url:?} is no URL"))?;
        ensure!(matches!(url.scheme(), "http" | "https"), "JWKS_URL: {url} is neither http nor https");
        // A redirect is an answer without keys: keys come from the address that the operator gave, or not at all.
        let client = Client::builder().timeout(pace.timeout).redirect(reqwest::redirect::Policy::none()).build()?;
        let fetches = Fetches { done: 0, last_failed: false, next_allowed: Instant::now() };
        let shared = Arc::new(Shared {
            keys: ArcSwapOption::empty(),
            fetches: watch::Sender::new(fetches),
            wanted: watch::Sender::new(0),
            pace,
        });
        let task = backend.spawn(keep_fetching(shared.clone(), client, url, metrics)).abort_handle();
        Ok(Self { shared, waiting: Semaphore::new(WAITING_MAX), task })
    }

    /// What the keys at hand say of a token.
    pub(super) fn look(&self, token: &Token<'_>) -> Found {
        self.shared.keys.load().as_ref().map_or(Found::NoSuchKey, |keys| keys.look(token))
    }

    /// What the next keys say of a token; `None` where the server does not answer and the key is not among the old ones.
    pub(super) async fn ask(&self, token: &Token<'_>) -> Option<Found> {
        let shared = &*self.shared;
        let mut fetches = shared.fetches.subscribe();
        let before = *fetches.borrow_and_update();
        // The keys may have come between the first look and now.
        if before.done > 0 && self.look(token) != Found::NoSuchKey {
            return Some(self.look(token));
        }
        let _waiting = self.waiting.try_acquire().ok()?;
        if before.done > 0 && before.next_allowed > Instant::now() + shared.pace.wait_max {
            return (!before.last_failed).then_some(Found::NoSuchKey);
        }
        shared.wanted.send_if_modified(|wanted| {
            let later = before.done + 1 > *wanted;
            *wanted = (*wanted).max(before.done + 1);
            later
        });
        let after = *fetches.wait_for(|fetches| fetches.done > before.done).await.ok()?;
        match self.look(token) {
            Found::NoSuchKey if after.last_failed => None,
            found @ (Found::Signed | Found::NotSigned | Found::NoSuchKey) => Some(found),
        }
    }
}

/// The only one who fetches: so there is one fetch at a time, and one answer for all who wait.
async fn keep_fetching(shared: Arc<Shared>, client: Client, url: Url, metrics: Arc<Metrics>) {
    let pace = shared.pace;
    let mut wanted = shared.wanted.subscribe();
    let mut failures_in_a_row = 0;
    for done in 1.. {
        metrics.jwks_fetches.inc();
        let due_in = match fetch(&client, &url, pace).await {
            Ok((keys, refresh)) => {
                if failures_in_a_row > 0 {
                    tracing::info!(url = %url, keys = keys.len(), "the key server answers again");
                }
                tracing::debug!(url = %url, keys = keys.len(), refresh_secs = refresh.as_secs(), "keys fetched");
                failures_in_a_row = 0;
                shared.keys.store(Some(Arc::new(keys)));
                refresh
            }
            Err(error) => {
                metrics.jwks_failures.inc();
                let kept = shared.keys.load().as_ref().map_or(0, |keys| keys.len());
                tracing::warn!(url = %url, error = format!("{error:#}"), keys_kept = kept, "keys could not be fetched");
                let backoff = pace.between_min.saturating_mul(1 << failures_in_a_row.min(10)).min(pace.retry_max);
                failures_in_a_row += 1;
                backoff
            }
        };
        let now = Instant::now();
        let next_allowed = now + pace.between_min;
        shared.fetches.send_replace(Fetches { done, last_failed: failures_in_a_row > 0, next_allowed });
        tokio::select! {
            () = tokio::time::sleep_until(now + due_in) => {}
            () = async {
                // The sender lives in `shared`.
                let _ = wanted.wait_for(|wanted| *wanted > done).await.map(drop);
                tokio::time::sleep_until(next_allowed).await;
            } => {}
        }
    }
}

async fn fetch(client: &Client, url: &Url, pace: Pace) -> anyhow::Result<(KeySet, Duration)> {
    let mut response = client.get(url.clone()).send().await?;
    ensure!(response.status().is_success(), "the answer was {}", response.status());
    let refresh = max_age(&response).unwrap_or(pace.refresh).clamp(pace.refresh_min, pace.refresh_max);
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        ensure!(body.len() + chunk.len() <= BODY_MAX_BYTES, "the answer is larger than {BODY_MAX_BYTES} bytes");
        body.extend_from_slice(&chunk);
    }
    Ok((KeySet::parse(&body).context("the answer is no JSON Web Key Set")?, refresh))
}

/// How long the answer may be kept (RFC 9111, section 5.2.2); zero where it may not be kept at all.
fn max_age(response: &Response) -> Option<Duration> {
    let value = response.headers().get(reqwest::header::CACHE_CONTROL)?.to_str().ok()?.to_ascii_lowercase();
    let directives = || value.split(',').map(str::trim);
    if directives().any(|directive| matches!(directive, "no-store" | "no-cache")) {
        return Some(Duration::ZERO);
    }
    let secs = directives().find_map(|directive| directive.strip_prefix("max-age=")?.parse().ok())?;
    Some(Duration::from_secs(secs))
}
