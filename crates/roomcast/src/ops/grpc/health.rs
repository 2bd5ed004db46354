//! The standard health service (`grpc.health.v1`): what `/health/ready` says, for those who ask by gRPC. A node that is degraded serves.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::stream::{once, pending, unfold};
use futures_util::{Stream, StreamExt as _};
use tonic::server::NamedService;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health as HealthService;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::{Calls, RoomcastServer};
use crate::ops::{Health, Readiness};

/// Answers from the node's health.
#[derive(Debug)]
pub(super) struct Follow(pub(super) Arc<Health>);

/// Whether a name is one that is known here; the empty one is the whole node's.
fn is_known(service: &str) -> bool {
    service.is_empty() || service == <RoomcastServer<Calls> as NamedService>::NAME
}

fn status(readiness: Readiness) -> ServingStatus {
    match readiness {
        Readiness::Ready | Readiness::Degraded => ServingStatus::Serving,
        Readiness::NotReady => ServingStatus::NotServing,
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status as i32 }
}

#[tonic::async_trait]
impl HealthService for Follow {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let service = &request.get_ref().service;
        match is_known(service) {
            true => Ok(Response::new(answer(status(self.0.readiness())))),
            false => Err(Status::not_found(format!("there is no service {service:?}"))),
        }
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        if !is_known(&request.get_ref().service) {
            // The protocol wants the stream to stay open, as the service might come: here none ever does.
            let unknown = once(async { Ok::<_, Status>(answer(ServingStatus::ServiceUnknown)) });
            return Ok(Response::new(Box::pin(unknown.chain(pending()))));
        }
        let changes = unfold((self.0.watch(), None), |(mut readiness, mut told)| async move {
            loop {
                let now = status(*readiness.borrow_and_update());
                if told != Some(now) {
                    told = Some(now);
                    return Some((Ok::<_, Status>(answer(now)), (readiness, told)));
                }
                // Without a node there is nothing to tell.
                readiness.changed().await.ok()?;
            }
        });
        Ok(Response::new(Box::pin(changes)))
    }
}
