//! Calls services: by gRPC without generated code (`grpc`), or by HTTP with JSON (`http`). What a service of gRPC is, it says itself (`reflection`),
//! or its `.proto` files do (`schema`); messages are JSON outside (`convert`). A service that does not answer costs the call and no more
//! (`service`), and is left alone for a while (`breaker`). Knows neither users nor rooms.

mod breaker;
mod convert;
mod files;
mod grpc;
mod http;
mod reflection;
mod schema;
mod service;

use std::fmt;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
pub use files::Files;
use hub::profile::{Profile, Upstream};
use hub::rules::{Callee, Message, Method};
use tokio::runtime::Handle;

use self::schema::Schema;
use self::service::Service;
use crate::metrics::Metrics;

/// Why a call gave no reply. The texts are for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The upstream has no address.
    NotConfigured,
    /// The service refused, in its own words.
    Refused(String),
    /// The message does not fit what the service takes.
    Unfit(String),
    /// The service is down, or what it says makes no sense.
    Unavailable(String),
    /// No answer came in time.
    TimedOut(String),
}

/// Every upstream of a profile, by its place there. Cheap to clone; to be called on the backend runtime.
#[derive(Clone)]
pub struct Upstreams(Arc<[Option<Service>]>);

impl fmt::Debug for Upstreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().flatten().map(|service| &service.name);
        f.debug_set().entries(names).finish()
    }
}

/// Reads the `.proto` files of a profile and sees whether they say what its rules call, without calling anybody. Gives what they do not know of the
/// messages that rules make, a sentence each.
///
/// # Errors
/// They do not.
pub fn check(profile: &Profile, files: &Files) -> anyhow::Result<Vec<String>> {
    let mut doubts = Vec::new();
    for (index, upstream) in profile.upstreams.iter().enumerate() {
        let schema = read(profile, index, upstream, files)?;
        doubts.extend(schema.into_iter().flat_map(|schema| schema.doubts).map(|doubt| told(upstream, &doubt)));
    }
    Ok(doubts)
}

fn read(profile: &Profile, index: usize, upstream: &Upstream, files: &Files) -> anyhow::Result<Option<Schema>> {
    let methods: Vec<&Method> =
        profile.rules.methods().iter().map(|method| &**method).filter(|method| method.upstream == index).collect();
    let messages: Vec<&Message> =
        profile.rules.messages().iter().filter(|message| message.method.upstream == index).collect();
    schema::compile(upstream, files, &methods, &messages).with_context(|| format!("upstream `{}`", upstream.name))
}

fn told(upstream: &Upstream, doubt: &str) -> String {
    format!("upstream `{}`: {doubt}", upstream.name)
}

impl Upstreams {
    /// Reads the files of all upstreams, and prepares the channels of those that have an address; nobody is called.
    ///
    /// # Errors
    /// A file or an address makes no sense.
    pub fn start(profile: &Profile, files: &Files, metrics: &Arc<Metrics>, backend: &Handle) -> anyhow::Result<Self> {
        let _on_backend = backend.enter();
        let mut services = Vec::new();
        for (index, upstream) in profile.upstreams.iter().enumerate() {
            let (pool, doubts) = match read(profile, index, upstream, files)? {
                Some(Schema { pool, doubts }) => (Some(pool), doubts),
                None => (None, Vec::new()),
            };
            for doubt in doubts {
                tracing::warn!("{}", told(upstream, &doubt));
            }
            services.push(match &upstream.address {
                Some(address) => Some(
                    Service::new(upstream, address, pool, metrics.clone())
                        .with_context(|| format!("upstream `{}`: it cannot be called at `{address}`", upstream.name))?,
                ),
                None => None,
            });
        }
        Ok(Self(services.into()))
    }

    /// Calls a service with a message of JSON, and gives the reply's.
    ///
    /// # Errors
    /// There is no reply.
    pub async fn call(&self, callee: &Callee, message: &str) -> Result<Bytes, Failure> {
        match &self.0[callee.upstream()] {
            Some(service) => service.call(callee, message).await,
            None => Err(Failure::NotConfigured),
        }
    }
}
