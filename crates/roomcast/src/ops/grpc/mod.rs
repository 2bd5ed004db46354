//! The server API as gRPC, `proto/roomcast/v1/roomcast.proto`: messages become calls (`calls`), and what these give becomes messages. Beside it
//! stand the health service and server reflection, which need no key. Knows no connection.

mod health;

use axum::Router;
use axum::extract::{Request as HttpRequest, State};
use axum::middleware::Next;
use axum::response::Response as HttpResponse;
use bytes::Bytes;
use http::StatusCode;
use serde_json::value::RawValue;
use tonic::server::NamedService;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_server::HealthServer;
use tonic_reflection::server::Builder;

use self::health::Follow;
use self::v1::roomcast_server::{Roomcast, RoomcastServer};
use super::calls::{self, Publish, Refused, To};
use super::{Ops, Port};

/// Generated from the proto file; `tests/proto.rs` says how, and holds it to that.
#[allow(missing_docs, dead_code, clippy::all, reason = "generated")]
mod v1 {
    include!("generated/roomcast.v1.rs");
}

/// What reflection tells of the proto file.
const DESCRIPTION: &[u8] = include_bytes!("generated/roomcast.v1.bin");

/// The services of a port.
pub(super) fn router(ops: &Ops, port: Port) -> Router {
    let health = serve(HealthServer::new(Follow(ops.health.clone())));
    let services = match port {
        Port::Only | Port::Operators | Port::Grpc => health.merge(server_api(ops)).merge(reflection()),
        Port::Clients => health,
    };
    services.fallback(nothing_here)
}

fn server_api(ops: &Ops) -> Router {
    let largest = usize::try_from(ops.gateway.profile.limits.event_bytes).unwrap_or(usize::MAX);
    serve(RoomcastServer::new(Calls(ops.clone())).max_decoding_message_size(largest))
        .route_layer(axum::middleware::from_fn_with_state(ops.clone(), with_key))
}

/// Both revisions: tools in use ask for either.
fn reflection() -> Router {
    let described = || {
        Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTION)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let newer = described().build_v1().expect("the descriptions are sound");
    let older = described().build_v1alpha().expect("the descriptions are sound");
    serve(newer).merge(serve(older))
}

/// A service at its path.
fn serve<S>(service: S) -> Router
where
    S: tower::Service<HttpRequest, Response = http::Response<tonic::body::Body>, Error = std::convert::Infallible>,
    S: NamedService + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    Router::new().route_service(&format!("/{}/{{*method}}", S::NAME), service)
}

async fn nothing_here(request: HttpRequest) -> HttpResponse {
    Status::unimplemented(format!("there is nothing at {}", request.uri().path())).into_http()
}

/// Lets in who has the key.
async fn with_key(State(ops): State<Ops>, request: HttpRequest, next: Next) -> HttpResponse {
    if let Err(refused) = calls::let_in(&ops, request.headers()) {
        return Status::from(refused).into_http();
    }
    let publishes = request.uri().path().ends_with("/Publish");
    // Here, so that those who wait have not been read yet.
    let _publishing = if publishes { ops.publishing.acquire().await.ok() } else { None };
    next.run(request).await
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        let code = match refused.status {
            StatusCode::BAD_REQUEST => tonic::Code::InvalidArgument,
            StatusCode::UNAUTHORIZED => tonic::Code::Unauthenticated,
            StatusCode::FORBIDDEN => tonic::Code::PermissionDenied,
            StatusCode::SERVICE_UNAVAILABLE => tonic::Code::Unavailable,
            _ => tonic::Code::Unknown,
        };
        Self::new(code, refused.message)
    }
}

/// The calls.
#[derive(Debug)]
struct Calls(Ops);

#[tonic::async_trait]
impl Roomcast for Calls {
    async fn publish(&self, request: Request<v1::PublishRequest>) -> Result<Response<v1::PublishResponse>, Status> {
        let asked = what_to_publish(request.into_inner())?;
        let delivered = count(calls::publish(&self.0, asked).await?);
        Ok(Response::new(v1::PublishResponse { delivered }))
    }

    async fn list_rooms(
        &self,
        request: Request<v1::ListRoomsRequest>,
    ) -> Result<Response<v1::ListRoomsResponse>, Status> {
        let v1::ListRoomsRequest { namespace } = request.into_inner();
        let rooms = calls::rooms(&self.0, given(namespace).as_deref()).await?;
        let rooms = rooms.into_iter().map(|(name, members)| (name, count(members))).collect();
        Ok(Response::new(v1::ListRoomsResponse { rooms }))
    }

    async fn get_room(&self, request: Request<v1::GetRoomRequest>) -> Result<Response<v1::GetRoomResponse>, Status> {
        let v1::GetRoomRequest { room, namespace } = request.into_inner();
        let members = calls::room(&self.0, given(namespace).as_deref(), &room).await?;
        let sockets: Vec<v1::Socket> = members
            .iter()
            .map(|member| v1::Socket {
                socket_id: member.socket_id.as_str().to_owned(),
                user_id: member.user_id.as_ref().map(|id| id.as_str().to_owned()),
            })
            .collect();
        Ok(Response::new(v1::GetRoomResponse { room, members: count(sockets.len()), sockets }))
    }

    async fn get_presence(
        &self,
        request: Request<v1::GetPresenceRequest>,
    ) -> Result<Response<v1::GetPresenceResponse>, Status> {
        let v1::GetPresenceRequest { user_id } = request.into_inner();
        if user_id.is_empty() {
            return Err(Refused::field("user_id", "is missing").into());
        }
        let calls::Presence { online, last_seen } = calls::presence(&self.0, &user_id).await;
        Ok(Response::new(v1::GetPresenceResponse { user_id, online, last_seen }))
    }

    async fn disconnect(
        &self,
        request: Request<v1::DisconnectRequest>,
    ) -> Result<Response<v1::DisconnectResponse>, Status> {
        let v1::DisconnectRequest { user_id, socket_id } = request.into_inner();
        let (user, socket) = (("user_id", given(user_id)), ("socket_id", given(socket_id)));
        let disconnected = count(calls::disconnect(&self.0, user, socket).await?);
        Ok(Response::new(v1::DisconnectResponse { disconnected }))
    }
}

/// Without rooms it must say that it is for everyone: a list that is empty by mistake is nobody's.
fn what_to_publish(request: v1::PublishRequest) -> Result<Publish, Refused> {
    let v1::PublishRequest { rooms, except, event, data_json, namespace, everyone } = request;
    let to = match (rooms.is_empty(), everyone) {
        (true, true) => To::Everyone,
        (false, false) => To::Rooms(rooms),
        (true, false) => return Err(Refused::field("rooms", "is empty, and \"everyone\" is not set: one is needed")),
        (false, true) => return Err(Refused::field("everyone", "stands beside \"rooms\": only one of them may")),
    };
    if event.is_empty() {
        return Err(Refused::field("event", "is missing"));
    }
    let data = Bytes::from(data_json);
    let data = match data.is_empty() {
        true => data,
        false => {
            let json: &RawValue = serde_json::from_slice(&data)
                .map_err(|error| Refused::field("data_json", &format!("must be JSON: {error}")))?;
            data.slice_ref(json.get().as_bytes())
        }
    };
    Ok(Publish { event, namespace: given(namespace), to, except, data })
}

/// A text that is there: an empty one is how proto3 says that it is not.
fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
