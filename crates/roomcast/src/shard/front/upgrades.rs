//! WebSocket handshakes, whatever is to be spoken after them: each ends in a refusal, or in a socket taken back from hyper and handed to its
//! shard. Knows nothing of frames.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hub::names::NamespaceId;
use hub::profile::Endpoint;
use hyper::body::Incoming;
use smallvec::SmallVec;
use wire::engine::{Query, Refusal, Transport, Verdict};
use wire::ws::{Deflate, UpgradeHeaders};

use super::super::answers::{Body, CrossOrigin, text};
use super::super::inbox::Message;
use super::super::patience::Patient;
use super::super::poll::{Adopted, Beginning, Handshake, PollKind, PollReply, Role};
use super::{Front, Seat};
use crate::embed;

/// What a handshake is answered.
pub(super) struct Agreed {
    /// The fields of the 101, each once.
    pub(super) fields: SmallVec<[(HeaderName, HeaderValue); 5]>,
    /// Compression, where it was agreed upon.
    pub(super) deflate: Option<Deflate>,
}

/// Whether a request asks for another protocol: both fields must say so (RFC 9110, section 7.8).
pub(super) fn is_asked(headers: &HeaderMap) -> bool {
    let connection = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let mut options = connection.flat_map(|value| value.split(',')).map(str::trim);
    headers.contains_key(header::UPGRADE) && options.any(|option| option.eq_ignore_ascii_case("upgrade"))
}

impl Front {
    pub(super) async fn engine_websocket(
        &self,
        mut request: Request<Incoming>,
        peer: IpAddr,
        endpoint: usize,
        query: &Query<'_>,
        allowed: bool,
        kept: Option<Arc<embed::Request>>,
    ) -> Response<Body> {
        if query.sid().is_none()
            && let Err(message) = self.refused_by_program(kept.as_deref())
        {
            self.shared.metrics.refused.inc("program");
            return text(StatusCode::BAD_REQUEST, &message);
        }
        let named = self.named(query, endpoint, true);
        let verdict = match self.verify(&request, query, endpoint, named.is_some(), true, allowed) {
            Ok(verdict) => verdict,
            Err(Refusal::Forbidden) => {
                self.shared.metrics.refused.inc("origin");
                return text(StatusCode::FORBIDDEN, "Origin not allowed");
            }
            Err(refusal) => {
                self.shared.metrics.refused.inc("bad_handshake");
                return text(StatusCode::BAD_REQUEST, refusal.message());
            }
        };
        let (owner, role, seat) = match (verdict, named) {
            (Verdict::Probe | Verdict::UpgradeAndClose, Some((owner, named))) => {
                match self.request(owner, named, PollKind::Fits).await {
                    Some(PollReply::Ok) if verdict == Verdict::Probe => {
                        (owner, Role::Upgrade { sid: named.sid, endpoint }, None)
                    }
                    Some(PollReply::Ok) => (owner, Role::Unwanted, None),
                    Some(PollReply::UnknownSession) => {
                        return text(StatusCode::BAD_REQUEST, Refusal::SessionUnknown.message());
                    }
                    _ => return text(StatusCode::BAD_REQUEST, Refusal::BadRequest.message()),
                }
            }
            (Verdict::UpgradeAndClose, None) => (self.shard, Role::Unwanted, None),
            (Verdict::Open(Transport::WebSocket), _) => {
                let seat = match self.admit().await {
                    Ok(seat) => seat,
                    Err(refused) => return refused,
                };
                let handshake = Box::new(Handshake { request: kept, ..self.handshake(&request, query) });
                let address = self.address(&request, peer);
                (self.shard, Role::SocketIo { handshake, address, endpoint, revision: query.revision() }, seat)
            }
            (
                Verdict::Open(Transport::Polling)
                | Verdict::Get
                | Verdict::Post
                | Verdict::Probe
                | Verdict::MethodNotServed
                | Verdict::WithoutUpgrade,
                _,
            ) => {
                return text(StatusCode::BAD_REQUEST, Refusal::BadRequest.message());
            }
        };
        let protocol = first_protocol(request.headers());
        self.upgrade(&mut request, owner, role, protocol, seat)
    }

    /// A handshake of the plain JSON dialects.
    pub(super) async fn plain(
        &self,
        mut request: Request<Incoming>,
        peer: IpAddr,
        endpoint: usize,
        namespace: NamespaceId,
    ) -> Response<Body> {
        if !CrossOrigin::of(&self.shared.profile.cors, request.headers()).allows() {
            self.shared.metrics.refused.inc("origin");
            return text(StatusCode::FORBIDDEN, "Origin not allowed");
        }
        let seat = match self.admit().await {
            Ok(seat) => seat,
            Err(refused) => return refused,
        };
        let (role, protocol) = self.plain_role(&request, peer, endpoint, namespace);
        self.upgrade(&mut request, self.shard, role, protocol, seat)
    }

    /// What a plain connection is to become, and the subprotocol that it is told.
    pub(super) fn plain_role<B>(
        &self,
        request: &Request<B>,
        peer: IpAddr,
        endpoint: usize,
        namespace: NamespaceId,
    ) -> (Role, Option<HeaderValue>) {
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let kept = self.program_s_request(request, peer);
        let mut handshake = Handshake { request: kept, ..self.handshake(request, &query) };
        let protocols: Vec<&str> = protocols(request.headers()).collect();
        let protocol = match protocols.as_slice() {
            ["bearer", token] => {
                handshake.token = Some((*token).into());
                Some(HeaderValue::from_static("bearer"))
            }
            [first, ..] => HeaderValue::from_str(first).ok(),
            [] => None,
        };
        let address = self.address(request, peer);
        (Role::Json { handshake: Box::new(handshake), address, endpoint, namespace }, protocol)
    }

    /// Answers 101 and, once that is flushed, hands the socket to its shard.
    fn upgrade(
        &self,
        request: &mut Request<Incoming>,
        owner: usize,
        role: Role,
        protocol: Option<HeaderValue>,
        seat: Option<Seat>,
    ) -> Response<Body> {
        let Agreed { fields, deflate } = match self.agree(request, &role, protocol) {
            Ok(agreed) => agreed,
            Err(refused) => {
                self.shared.metrics.refused.inc("bad_handshake");
                return *refused;
            }
        };
        let upgrade = hyper::upgrade::on(request);
        let inbox = self.shared.inboxes[owner].clone();
        self.spawn(async move {
            let Ok(upgraded) = upgrade.await else { return };
            let Ok(parts) = upgraded.downcast::<Patient>() else { return };
            let (transport, unread) = parts.io.into_inner();
            let Ok((socket, tls)) = transport.into_parts() else { return };
            let leftover = if unread.is_empty() { parts.read_buf } else { [parts.read_buf, unread].concat().into() };
            let adopted = Adopted { socket, beginning: Beginning { tls, leftover, deflate, role, seat } };
            inbox.send(Message::Adopt(Box::new(adopted)));
        });
        let mut response = Response::new(Either::Left(Full::default()));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().extend(fields);
        response
    }

    /// The headers of a 101, if the request is a WebSocket handshake at all; else the refusal.
    pub(super) fn agree<B>(
        &self,
        request: &Request<B>,
        role: &Role,
        protocol: Option<HeaderValue>,
    ) -> Result<Agreed, Box<Response<Body>>> {
        let headers = request.headers();
        let field = |name: HeaderName| joined(headers, name);
        let accept = wire::ws::check_upgrade(&UpgradeHeaders {
            method: request.method().as_str(),
            upgrade: field(header::UPGRADE).as_deref(),
            connection: field(header::CONNECTION).as_deref(),
            version: field(header::SEC_WEBSOCKET_VERSION).as_deref(),
            key: field(header::SEC_WEBSOCKET_KEY).as_deref(),
            protocols: field(header::SEC_WEBSOCKET_PROTOCOL).as_deref(),
        });
        let accept = match accept {
            Ok(accept) => accept,
            Err(refusal) => {
                let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
                let mut response = text(status, refusal.message());
                if status == StatusCode::UPGRADE_REQUIRED {
                    response.headers_mut().insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13, 8"));
                }
                return Err(Box::new(response));
            }
        };
        let deflate = self.deflate(headers, role);
        let mut fields = SmallVec::new();
        fields.push((header::UPGRADE, HeaderValue::from_static("websocket")));
        fields.push((header::CONNECTION, HeaderValue::from_static("Upgrade")));
        fields.push((
            header::SEC_WEBSOCKET_ACCEPT,
            HeaderValue::from_maybe_shared(Bytes::from(accept.accept)).expect("base64 is a header value"),
        ));
        if let Some(protocol) = protocol {
            fields.push((header::SEC_WEBSOCKET_PROTOCOL, protocol));
        }
        if let Some(deflate) = deflate {
            fields.push((
                header::SEC_WEBSOCKET_EXTENSIONS,
                HeaderValue::try_from(deflate.answer()).expect("a name and numbers are a header value"),
            ));
        }
        Ok(Agreed { fields, deflate })
    }

    /// Compression, where the endpoint has it and the client offers it.
    fn deflate(&self, headers: &HeaderMap, role: &Role) -> Option<Deflate> {
        let endpoint = match role {
            Role::SocketIo { endpoint, .. } | Role::Upgrade { endpoint, .. } | Role::Json { endpoint, .. } => *endpoint,
            Role::Unwanted => return None,
        };
        let has_it = match &self.shared.profile.endpoints[endpoint] {
            Endpoint::SocketIo(endpoint) => endpoint.deflate,
            Endpoint::Json(endpoint) => endpoint.deflate,
        };
        let offers = headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS).iter().filter_map(|value| value.to_str().ok());
        if has_it { offers.filter_map(Deflate::negotiate).next() } else { None }
    }
}

/// A field that came several times is one list (RFC 9110, section 5.3).
fn joined(headers: &HeaderMap, name: HeaderName) -> Option<Cow<'_, str>> {
    let values = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    values.reduce(|list, value| Cow::Owned(format!("{list}, {value}")))
}

fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

pub(super) fn first_protocol(headers: &HeaderMap) -> Option<HeaderValue> {
    protocols(headers).next().and_then(|protocol| HeaderValue::from_str(protocol).ok())
}
