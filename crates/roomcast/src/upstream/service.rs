//! One service: the deadline of every call, how many there are at a time, what counts as an answer. By which protocol it is called is for
//! `grpc` and `http`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hub::profile::{Upstream, UpstreamProtocol};
use hub::rules::Callee;
use parking_lot::Mutex;
use prost_reflect::DescriptorPool;
use tokio::sync::Semaphore;

use super::Failure;
use super::breaker::Breaker;
use super::grpc::Grpc;
use super::http::Http;
use crate::metrics::Metrics;

/// Calls of one service under way at a time; more wait, within their deadlines.
const CALLS_MAX: usize = 256;

/// The largest reply.
pub(super) const REPLY_MAX_BYTES: usize = 1024 * 1024;

/// What of a service's message a client gets to read, in characters.
const MESSAGE_MAX_CHARS: usize = 500;

/// A service that can be called.
pub(super) struct Service {
    pub(super) name: String,
    timeout: Duration,
    way: Way,
    breaker: Mutex<Breaker>,
    calls: Semaphore,
    metrics: Arc<Metrics>,
}

/// By which protocol a service is called.
enum Way {
    Grpc(Box<Grpc>),
    Http(Http),
}

/// Whether a service answered, as the breaker sees it: what a client can provoke by what it sends must not shut out the others.
pub(super) enum Answer {
    Reply(Bytes),
    /// It is there, and gave no reply.
    Failure(Failure),
    /// It is not there, or makes no sense.
    Nothing(Failure),
}

impl Service {
    /// Prepares the way to it; nobody is called. To be called on the backend runtime.
    ///
    /// # Errors
    /// The address makes no sense.
    pub(super) fn new(
        upstream: &Upstream,
        address: &str,
        pool: Option<DescriptorPool>,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            name: upstream.name.clone(),
            timeout: upstream.timeout,
            way: match &upstream.protocol {
                UpstreamProtocol::Grpc { .. } => Way::Grpc(Box::new(Grpc::new(upstream, address, pool)?)),
                UpstreamProtocol::Http => Way::Http(Http::new(upstream, address)?),
            },
            breaker: Mutex::new(Breaker::new(Instant::now())),
            calls: Semaphore::new(CALLS_MAX),
            metrics,
        })
    }

    /// Calls it with a message of JSON, and gives the reply's.
    ///
    /// # Errors
    /// There is no reply.
    pub(super) async fn call(&self, callee: &Callee, message: &str) -> Result<Bytes, Failure> {
        if !self.breaker.lock().admits(Instant::now()) {
            self.metrics.upstream_calls.inc("spared");
            return Err(unavailable(&self.name, "does not answer; try again"));
        }
        let begun = Instant::now();
        let answer = match tokio::time::timeout(self.timeout, self.ask(callee, message)).await {
            // The request says how long it may take, too: its stream may be cut in the same moment, and be seen first.
            Ok(Answer::Nothing(_)) if begun.elapsed() >= self.timeout => Answer::Nothing(timed_out(&self.name)),
            Ok(answer) => answer,
            Err(_) => Answer::Nothing(timed_out(&self.name)),
        };
        match answer {
            Answer::Reply(reply) => {
                self.metrics.upstream_calls.inc("answered");
                self.answered();
                Ok(reply)
            }
            Answer::Failure(failure) => {
                self.count(&failure);
                self.answered();
                tracing::debug!(upstream = self.name, %callee, ?failure, "no reply");
                Err(failure)
            }
            Answer::Nothing(failure) => {
                self.count(&failure);
                self.failed(callee, &failure);
                Err(failure)
            }
        }
    }

    async fn ask(&self, callee: &Callee, message: &str) -> Answer {
        let Ok(_permit) = self.calls.acquire().await else {
            return Answer::Nothing(unavailable(&self.name, "is gone"));
        };
        match (&self.way, callee) {
            (Way::Grpc(grpc), Callee::Grpc(method)) => grpc.ask(method, message).await,
            (Way::Http(http), Callee::Http(request)) => http.ask(request, message).await,
            // The profile was refused where a rule calls an upstream by the other protocol.
            (Way::Grpc(_), Callee::Http(_)) | (Way::Http(_), Callee::Grpc(_)) => {
                Answer::Failure(unavailable(&self.name, "cannot do this"))
            }
        }
    }

    fn count(&self, failure: &Failure) {
        self.metrics.upstream_calls.inc(match failure {
            Failure::Refused(_) | Failure::Unfit(_) => "refused",
            Failure::TimedOut(_) => "timed_out",
            Failure::Unavailable(_) | Failure::NotConfigured => "unavailable",
        });
    }

    fn answered(&self) {
        if self.breaker.lock().answered() {
            tracing::info!(upstream = self.name, "the service answers again");
        }
    }

    fn failed(&self, callee: &Callee, failure: &Failure) {
        let given_up = self.breaker.lock().failed(Instant::now());
        if given_up {
            tracing::warn!(upstream = self.name, %callee, ?failure, "the service does not answer: it is left alone for a while");
        } else {
            tracing::debug!(upstream = self.name, %callee, ?failure, "no answer");
        }
        match &self.way {
            Way::Grpc(grpc) => {
                if given_up {
                    grpc.reconnect();
                }
                grpc.forget();
            }
            // Its connections are one for each call under way: one that failed is not used again.
            Way::Http(_) => {}
        }
    }
}

/// It is not there, or cannot do it; `what` is for clients.
pub(super) fn unavailable(name: &str, what: &str) -> Failure {
    Failure::Unavailable(format!("the service `{name}` {what}"))
}

/// It took too long.
pub(super) fn timed_out(name: &str) -> Failure {
    Failure::TimedOut(format!("the service `{name}` did not answer in time"))
}

/// It refused, in its own words if it has some.
pub(super) fn refused(name: &str, words: &str) -> Failure {
    let words: String = words.chars().take(MESSAGE_MAX_CHARS).collect();
    Failure::Refused(if words.is_empty() { format!("the service `{name}` refused") } else { words })
}
