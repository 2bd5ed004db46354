//! What operators and backend services see of a node: logs, health, documents, metrics and the server API.

mod api;
mod calls;
mod census;
mod console;
mod documents;
mod grpc;
mod health;
pub mod logs;

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use hub::codes::ErrorCode;
use serde::Serialize;
use tokio::sync::Semaphore;

use self::census::Census;
pub use self::documents::ROOMS_NAMED_MAX;
pub use self::health::{Health, Part, Phase, Readiness, State};
use crate::gateway::Gateway;

/// Publishes of the server API under way at a time; more wait before their bodies are read.
const PUBLISHING_MAX: usize = 64;

/// What all answers are made from, on whatever port they are given. Cheap to clone.
#[derive(Clone)]
pub struct Ops {
    gateway: Gateway,
    health: Arc<Health>,
    publishing: Arc<Semaphore>,
    census: Arc<Census>,
}

impl fmt::Debug for Ops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ops").field("gateway", &self.gateway).finish_non_exhaustive()
    }
}

impl Ops {
    /// The answers of this gateway.
    pub fn new(gateway: Gateway, health: Arc<Health>) -> Self {
        Self { gateway, health, publishing: Arc::new(Semaphore::new(PUBLISHING_MAX)), census: Arc::default() }
    }
}

/// Which of the answers a port gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// The only port: all of them.
    Only,
    /// The clients' port, where operators have one of their own: health, the profile's documents and page, the console.
    Clients,
    /// The operators' port: health, `/api/*`, `/metrics` and the console.
    Operators,
    /// A port for gRPC alone: beside it there are probes.
    Grpc,
}

/// Everything that is answered over HTTP but clients' connections: `/api/*`, `/health/*`, `/metrics`, `/console`, the profile's documents and page.
pub fn router(ops: &Ops, port: Port) -> Router {
    let probes =
        Router::new().route("/health/live", get(documents::live)).route("/health/ready", get(documents::ready));
    let with_documents = |probes: Router<Ops>| {
        let common = probes.route("/", get(documents::page)).fallback(documents::fallback);
        match ops.gateway.profile.service.console {
            true => common.merge(console::router(port)),
            false => common,
        }
    };
    let router = match port {
        Port::Only | Port::Operators => {
            with_documents(probes).merge(api::router(ops.clone())).route("/metrics", get(documents::metrics))
        }
        Port::Clients => with_documents(probes).route("/metrics", get(documents::elsewhere)),
        Port::Grpc => probes.fallback(documents::elsewhere),
    };
    router.with_state(ops.clone())
}

/// The same as gRPC: the server API where `/api/*` stands, too, and health.
pub fn grpc(ops: &Ops, port: Port) -> Router {
    grpc::router(ops, port)
}

/// Milliseconds since 1970.
pub(crate) fn now_unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// An answer that says what is wrong.
fn failure(status: StatusCode, code: ErrorCode, message: &str) -> Response {
    #[derive(Serialize)]
    struct Failure<'a> {
        error: &'a str,
        code: &'static str,
    }
    (status, Json(Failure { error: message, code: code.as_str() })).into_response()
}

#[cfg(test)]
mod tests;
