//! A service by gRPC: its channel, which reconnects by itself, what it is, and what its answers mean.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use http::uri::PathAndQuery;
use hub::profile::Upstream;
use hub::rules::Method;
use parking_lot::Mutex;
use prost_reflect::{DescriptorPool, ServiceDescriptor};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};

use super::convert::{self, DynamicCodec};
use super::service::{Answer, REPLY_MAX_BYTES, refused, timed_out, unavailable};
use super::{Failure, reflection, schema};

/// The part of the time of a call that a service has for saying what it is.
const DESCRIBING_PART: u32 = 2;

/// How long the files count for a service that could not say what it is.
const DOUBT: Duration = Duration::from_secs(10);

/// What the statuses begin with that tonic makes of an answer which is no gRPC, or too large.
const NONSENSE: [&str; 3] =
    ["grpc-status header missing", "protocol error:", "Error, decoded message length too large"];

/// A service of gRPC.
pub(super) struct Grpc {
    name: String,
    timeout: Duration,
    endpoint: Endpoint,
    authorization: Option<MetadataValue<Ascii>>,
    /// What the files say.
    pool: Option<DescriptorPool>,
    channel: Mutex<Channel>,
    /// What the server has said of its services. Bound: the services that the profile names. Empty again after a call that got no sensible
    /// answer, since another version may have taken its place.
    described: tokio::sync::Mutex<HashMap<Box<str>, Description>>,
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

impl Grpc {
    /// Prepares the channel; nobody is called. To be called on the backend runtime.
    ///
    /// # Errors
    /// The address makes no sense.
    pub(super) fn new(upstream: &Upstream, address: &str, pool: Option<DescriptorPool>) -> anyhow::Result<Self> {
        let endpoint = endpoint(address, upstream.timeout)?;
        Ok(Self {
            name: upstream.name.clone(),
            timeout: upstream.timeout,
            channel: Mutex::new(endpoint.connect_lazy()),
            endpoint,
            authorization: authorization(upstream)?,
            pool,
            described: tokio::sync::Mutex::default(),
        })
    }

    /// Calls a method with a message of JSON.
    pub(super) async fn ask(&self, method: &Method, message: &str) -> Answer {
        let channel = self.channel.lock().clone();
        let service = match self.describe(&channel, &method.service).await {
            Ok(Some(service)) => service,
            Ok(None) => {
                tracing::warn!(upstream = self.name, %method, "neither the service nor a file says what this method is");
                return Answer::Nothing(unavailable(&self.name, "does not say what it can do"));
            }
            Err(status) => return self.judge(method, &status),
        };
        let descriptor = match schema::method(&service, method) {
            Ok(descriptor) => descriptor,
            Err(what) => {
                tracing::warn!(upstream = self.name, "{what}");
                self.forget();
                return Answer::Failure(unavailable(&self.name, "cannot do this"));
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
        let mut client = tonic::client::Grpc::new(channel).max_decoding_message_size(REPLY_MAX_BYTES);
        if let Err(error) = client.ready().await {
            return self.judge(method, &Status::from_error(Box::new(error)));
        }
        let Ok(path) = PathAndQuery::try_from(format!("/{method}")) else {
            return Answer::Nothing(unavailable(&self.name, "has no such method"));
        };
        let mut request = Request::new(message);
        request.set_timeout(self.timeout);
        if let Some(value) = &self.authorization {
            request.metadata_mut().insert("authorization", value.clone());
        }
        match client.unary(request, path, DynamicCodec(descriptor.output())).await {
            Ok(reply) => match convert::to_json(&reply.into_inner()) {
                Ok(json) => Answer::Reply(json),
                Err(error) => {
                    tracing::warn!(upstream = self.name, %method, error, "a reply cannot be said in JSON");
                    Answer::Nothing(unavailable(&self.name, "gave an answer that makes no sense"))
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
                let asking = reflection::describe(channel, service, self.authorization.as_ref());
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
            Code::DeadlineExceeded => Answer::Nothing(timed_out(&self.name)),
            Code::Unavailable => Answer::Nothing(unavailable(&self.name, "is not available; try again")),
            // The client's side made it of a connection that broke, or of an answer that is no gRPC.
            _ if status.source().is_some() => {
                tracing::debug!(upstream = self.name, %method, %status, "the connection broke");
                Answer::Nothing(unavailable(&self.name, "is not available; try again"))
            }
            _ if NONSENSE.iter().any(|words| status.message().starts_with(words)) => {
                tracing::warn!(upstream = self.name, %method, %status, "an answer that makes no sense");
                Answer::Nothing(unavailable(&self.name, "gave an answer that makes no sense"))
            }
            // A service gives up where it sees that the deadline is over.
            Code::Cancelled => Answer::Nothing(timed_out(&self.name)),
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unknown => Answer::Failure(refused(&self.name, status.message())),
            // Words that are meant for the service's own people.
            code @ (Code::Unimplemented | Code::Internal | Code::DataLoss | Code::Ok) => {
                tracing::warn!(upstream = self.name, %method, %status, "a service failed");
                if code != Code::Internal {
                    self.forget();
                }
                Answer::Failure(unavailable(&self.name, "failed"))
            }
        }
    }

    /// After calls without an answer: a connection whose other end is silently gone would stay so.
    pub(super) fn reconnect(&self) {
        *self.channel.lock() = self.endpoint.connect_lazy();
    }

    /// The service may be another one by now: it is asked anew what it is, unless that is being done.
    pub(super) fn forget(&self) {
        if let Ok(mut described) = self.described.try_lock() {
            described.clear();
        }
    }
}

fn authorization(upstream: &Upstream) -> anyhow::Result<Option<MetadataValue<Ascii>>> {
    let Some(secret) = &upstream.authorization else { return Ok(None) };
    let mut value: MetadataValue<Ascii> =
        secret.reveal().parse().context("`authorization` cannot be the value of a header")?;
    value.set_sensitive(true);
    Ok(Some(value))
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
