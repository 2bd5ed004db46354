//! One service: its channel, which reconnects by itself, the deadline of every call, and what its answers mean.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use http::uri::PathAndQuery;
use hub::profile::Upstream;
use hub::rules::Method;
use parking_lot::Mutex;
use prost_reflect::{DescriptorPool, ServiceDescriptor};
use tokio::sync::Semaphore;
use tonic::client::Grpc;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};

use super::breaker::Breaker;
use super::convert::{self, DynamicCodec};
use super::{Failure, reflection, schema};
use crate::metrics::Metrics;

/// Calls of one service under way at a time; more wait, within their deadlines.
const CALLS_MAX: usize = 256;

/// The largest reply.
const REPLY_MAX_BYTES: usize = 1024 * 1024;

/// What of a service's message a client gets to read, in characters.
const MESSAGE_MAX_CHARS: usize = 500;

/// The part of the time of a call that a service has for saying what it is.
const DESCRIBING_PART: u32 = 2;

/// How long the files count for a service that could not say what it is.
const DOUBT: Duration = Duration::from_secs(10);

/// What the statuses begin with that tonic makes of an answer which is no gRPC, or too large.
const NONSENSE: [&str; 3] =
    ["grpc-status header missing", "protocol error:", "Error, decoded message length too large"];

/// A service that can be called.
pub(super) struct Service {
    pub(super) name: String,
    timeout: Duration,
    endpoint: Endpoint,
    /// What the files say.
    pool: Option<DescriptorPool>,
    channel: Mutex<Channel>,
    /// What the server has said of its services. Bound: the services that the profile names. Empty again after a call that got no sensible
    /// answer, since another version may have taken its place.
    described: tokio::sync::Mutex<HashMap<Box<str>, Description>>,
    breaker: Mutex<Breaker>,
    calls: Semaphore,
    metrics: Arc<Metrics>,
}

/// What a server says of a service.
#[derive(Debug, Clone)]
enum Description {
    /// What it is.
    Said(ServiceDescriptor),
    /// Nothing: it has no reflection, or does not know the service.
    Nothing,
    /// It could not say, and the files count until it is asked again.
    AskAgain(Instant),
}

/// Whether a service answered, as the breaker sees it: what a client can provoke by what it sends must not shut out the others.
enum Answer {
    Reply(Bytes),
    /// It is there, and gave no reply.
    Failure(Failure),
    /// It is not there, or makes no sense.
    Nothing(Failure),
}

impl Service {
    /// Prepares the channel; nobody is called. To be called on the backend runtime.
    ///
    /// # Errors
    /// The address makes no sense.
    pub(super) fn new(
        upstream: &Upstream,
        address: &str,
        pool: Option<DescriptorPool>,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        let endpoint = endpoint(address, upstream.timeout)?;
        Ok(Self {
            name: upstream.name.clone(),
            timeout: upstream.timeout,
            channel: Mutex::new(endpoint.connect_lazy()),
            endpoint,
            pool,
            described: tokio::sync::Mutex::default(),
            breaker: Mutex::new(Breaker::new(Instant::now())),
            calls: Semaphore::new(CALLS_MAX),
            metrics,
        })
    }

    /// Calls a method with a message of JSON, and gives the reply's.
    ///
    /// # Errors
    /// There is no reply.
    pub(super) async fn call(&self, method: &Method, message: &str) -> Result<Bytes, Failure> {
        if !self.breaker.lock().admits(Instant::now()) {
            self.metrics.upstream_calls.inc("spared");
            return Err(Failure::Unavailable(format!("the service `{}` does not answer; try again", self.name)));
        }
        let begun = Instant::now();
        let answer = match tokio::time::timeout(self.timeout, self.ask(method, message)).await {
            // The request says how long it may take, too: its stream may be cut in the same moment, and be seen first.
            Ok(Answer::Nothing(_)) if begun.elapsed() >= self.timeout => Answer::Nothing(self.timed_out()),
            Ok(answer) => answer,
            Err(_) => Answer::Nothing(self.timed_out()),
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
                tracing::debug!(upstream = self.name, %method, ?failure, "no reply");
                Err(failure)
            }
            Answer::Nothing(failure) => {
                self.count(&failure);
                self.failed(method, &failure);
                Err(failure)
            }
        }
    }

    async fn ask(&self, method: &Method, message: &str) -> Answer {
        let Ok(_permit) = self.calls.acquire().await else { return Answer::Nothing(self.unavailable("is gone")) };
        let channel = self.channel.lock().clone();
        let service = match self.describe(&channel, &method.service).await {
            Ok(Some(service)) => service,
            Ok(None) => {
                tracing::warn!(upstream = self.name, %method, "neither the service nor a file says what this method is");
                return Answer::Nothing(self.unavailable("does not say what it can do"));
            }
            Err(status) => return self.judge(method, &status),
        };
        let descriptor = match schema::method(&service, method) {
            Ok(descriptor) => descriptor,
            Err(what) => {
                tracing::warn!(upstream = self.name, "{what}");
                self.forget();
                return Answer::Failure(self.unavailable("cannot do this"));
            }
        };
        let message = match convert::to_message(message, &descriptor.input()) {
            Ok(message) => message,
            Err(what) => {
                return Answer::Failure(Failure::Unfit(format!(
                    "the service `{}` cannot take this: {what}",
                    self.name
                )));
            }
        };
        let mut client = Grpc::new(channel).max_decoding_message_size(REPLY_MAX_BYTES);
        if let Err(error) = client.ready().await {
            return self.judge(method, &Status::from_error(Box::new(error)));
        }
        let Ok(path) = PathAndQuery::try_from(format!("/{method}")) else {
            return Answer::Nothing(self.unavailable("has no such method"));
        };
        let mut request = Request::new(message);
        request.set_timeout(self.timeout);
        match client.unary(request, path, DynamicCodec(descriptor.output())).await {
            Ok(reply) => match convert::to_json(&reply.into_inner()) {
                Ok(json) => Answer::Reply(json),
                Err(error) => {
                    tracing::warn!(upstream = self.name, %method, error, "a reply cannot be said in JSON");
                    Answer::Nothing(self.unavailable("gave an answer that makes no sense"))
                }
            },
            Err(status) => self.judge(method, &status),
        }
    }

    /// What a service is: as it says itself, else as its files do.
    async fn describe(&self, channel: &Channel, service: &str) -> Result<Option<ServiceDescriptor>, Status> {
        let mut described = self.described.lock().await;
        let known = described.get(service).filter(|known| match known {
            Description::Said(_) | Description::Nothing => true,
            Description::AskAgain(at) => Instant::now() < *at,
        });
        let description = match known {
            Some(known) => known.clone(),
            None => {
                let asking = reflection::describe(channel, service);
                let description = match tokio::time::timeout(self.timeout / DESCRIBING_PART, asking).await {
                    Ok(Ok(Some(descriptor))) => Description::Said(descriptor),
                    Ok(Ok(None)) => Description::Nothing,
                    // With a file to go by, a server that is odd about reflection may still do its work.
                    Ok(Err(status)) if self.pool.is_some() && status.code() != Code::Unavailable => self.doubt(service),
                    Err(_) if self.pool.is_some() => self.doubt(service),
                    Ok(Err(status)) => return Err(status),
                    Err(_) => return Err(Status::deadline_exceeded("it does not say what it is")),
                };
                let reflection = matches!(description, Description::Said(_));
                tracing::debug!(upstream = self.name, service, reflection, "asked what it is");
                described.insert(Box::from(service), description.clone());
                description
            }
        };
        Ok(match description {
            Description::Said(descriptor) => Some(descriptor),
            Description::Nothing | Description::AskAgain(_) => {
                self.pool.as_ref().and_then(|pool| pool.get_service_by_name(service))
            }
        })
    }

    fn doubt(&self, service: &str) -> Description {
        tracing::warn!(
            upstream = self.name,
            service,
            "it could not say what it is: its files count, until it is asked again"
        );
        Description::AskAgain(Instant::now() + DOUBT)
    }

    /// What a status means: the service's own words are for the client, unless it is to blame itself.
    fn judge(&self, method: &Method, status: &Status) -> Answer {
        use std::error::Error as _;
        match status.code() {
            Code::DeadlineExceeded => Answer::Nothing(self.timed_out()),
            Code::Unavailable => Answer::Nothing(self.unavailable("is not available; try again")),
            // The client's side made it of a connection that broke, or of an answer that is no gRPC.
            _ if status.source().is_some() => {
                tracing::debug!(upstream = self.name, %method, %status, "the connection broke");
                Answer::Nothing(self.unavailable("is not available; try again"))
            }
            _ if NONSENSE.iter().any(|words| status.message().starts_with(words)) => {
                tracing::warn!(upstream = self.name, %method, %status, "an answer that makes no sense");
                Answer::Nothing(self.unavailable("gave an answer that makes no sense"))
            }
            // A service gives up where it sees that the deadline is over.
            Code::Cancelled => Answer::Nothing(self.timed_out()),
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unknown => {
                let words: String = status.message().chars().take(MESSAGE_MAX_CHARS).collect();
                let words = if words.is_empty() { format!("the service `{}` refused", self.name) } else { words };
                Answer::Failure(Failure::Refused(words))
            }
            // Words that are meant for the service's own people.
            code @ (Code::Unimplemented | Code::Internal | Code::DataLoss | Code::Ok) => {
                tracing::warn!(upstream = self.name, %method, %status, "a service failed");
                if code != Code::Internal {
                    self.forget();
                }
                Answer::Failure(self.unavailable("failed"))
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

    fn failed(&self, method: &Method, failure: &Failure) {
        if self.breaker.lock().failed(Instant::now()) {
            tracing::warn!(upstream = self.name, %method, ?failure, "the service does not answer: it is left alone for a while");
            // A connection whose other end is silently gone would stay so.
            *self.channel.lock() = self.endpoint.connect_lazy();
        } else {
            tracing::debug!(upstream = self.name, %method, ?failure, "no answer");
        }
        self.forget();
    }

    /// The service may be another one by now: it is asked anew what it is, unless that is being done.
    fn forget(&self) {
        if let Ok(mut described) = self.described.try_lock() {
            described.clear();
        }
    }

    fn unavailable(&self, what: &str) -> Failure {
        Failure::Unavailable(format!("the service `{}` {what}", self.name))
    }

    fn timed_out(&self) -> Failure {
        Failure::TimedOut(format!("the service `{}` did not answer in time", self.name))
    }
}

/// `host:port`, or a URL: `http`, and `https` for TLS.
fn endpoint(address: &str, timeout: Duration) -> anyhow::Result<Endpoint> {
    let url = match address.split_once("://") {
        None => format!("http://{address}"),
        Some(("grpc", rest)) => format!("http://{rest}"),
        Some(("grpcs", rest)) => format!("https://{rest}"),
        Some(("http" | "https", _)) => address.to_owned(),
        Some((scheme, _)) => anyhow::bail!("there is no scheme `{scheme}` for gRPC: write `http` or `https`"),
    };
    let endpoint = Endpoint::from_shared(url)?.connect_timeout(timeout).tcp_nodelay(true);
    if endpoint.uri().host().is_none_or(str::is_empty) {
        anyhow::bail!("it names no host");
    }
    if endpoint.uri().scheme_str() == Some("https") {
        let tls = ClientTlsConfig::new().with_native_roots();
        return endpoint
            .tls_config(tls)
            .context("TLS needs the certificates of authorities (ca-certificates) on this machine");
    }
    Ok(endpoint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_as_people_write_them() {
        let _runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        for (address, expected) in [
            ("localhost:5004", Some("http://localhost:5004/")),
            ("http://location:5004", Some("http://location:5004/")),
            ("grpc://location:5004", Some("http://location:5004/")),
            ("https://location.example", Some("https://location.example/")),
            ("[::1]:5004", Some("http://[::1]:5004/")),
            ("amqp://location", None),
            ("two words", None),
            ("http://", None),
        ] {
            let made = endpoint(address, Duration::from_secs(1)).ok().map(|endpoint| endpoint.uri().to_string());
            assert_eq!(made.as_deref(), expected, "{address}");
        }
    }
}
