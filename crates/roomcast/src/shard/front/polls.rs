//! Long-polling: handshakes, GETs and POSTs on their way to the shard that owns the session, and its answers on their way back. Knows nothing
//! of packets.

use std::net::IpAddr;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hub::profile::{Endpoint, SocketIoEndpoint};
use hyper::body::Incoming;
use tokio::sync::oneshot;
use wire::engine::{PollBody, Polls, Query, Refusal, Transport, Verdict};

use super::super::answers::{
    Body, HTML, JSON, discard, empty, poll_body, session_cookie, unavailable, uncached, with_type,
};
use super::super::compress::Coding;
use super::super::inbox::{Inbox, Message};
use super::super::poll::{Handshake, Named, PollKind, PollReply, PollRequest};
use super::{BrokenOff, Front};
use crate::embed;

/// Bytes that a shard compresses by itself; more than that would hold up its other connections.
const COMPRESSED_AT_ONCE_MAX: usize = 32 * 1024;

impl Front {
    pub(super) async fn poll(
        &self,
        request: Request<Incoming>,
        peer: IpAddr,
        endpoint: usize,
        query: &Query<'_>,
        kept: Option<Arc<embed::Request>>,
    ) -> Result<Response<Body>, BrokenOff> {
        let named = self.named(query, endpoint, false);
        let allowed = if query.sid().is_none() { self.refused_by_program(kept.as_deref()) } else { Ok(()) };
        let verdict = match self.verify(&request, query, endpoint, named.is_some(), false, allowed.is_ok()) {
            Ok(verdict) => verdict,
            Err(refusal @ Refusal::Forbidden) => return Ok(self.refuse_with(refusal, allowed.err().as_deref())),
            Err(refusal) => return Ok(self.refuse(refusal)),
        };
        let protects = is_old_explorer(request.headers());
        let mut response = match (verdict, named) {
            (Verdict::Open(Transport::Polling), _) => self.open(&request, peer, endpoint, query, kept).await,
            (Verdict::Get, Some((owner, named))) => {
                let compression = self.compression(request.headers(), endpoint);
                // Its bytes are in the connection's buffer, which is free for the next request while this one waits.
                drop(request);
                self.get(owner, named, compression).await
            }
            (Verdict::Post, Some((owner, named))) => self.post(request, owner, named).await?,
            (Verdict::MethodNotServed, Some((owner, named))) => {
                match self.request(owner, named, PollKind::Fits).await {
                    Some(PollReply::Ok) => empty(StatusCode::INTERNAL_SERVER_ERROR),
                    reply => self.reply(reply),
                }
            }
            (Verdict::WithoutUpgrade, Some((owner, named))) => match self.request(owner, named, PollKind::Fits).await {
                Some(PollReply::Ok) => self.refuse(Refusal::BadRequest),
                reply => self.reply(reply),
            },
            (
                Verdict::Open(Transport::WebSocket)
                | Verdict::Probe
                | Verdict::UpgradeAndClose
                | Verdict::Get
                | Verdict::Post
                | Verdict::MethodNotServed
                | Verdict::WithoutUpgrade,
                _,
            ) => self.refuse(Refusal::BadRequest),
        };
        if protects && response.status() == StatusCode::OK {
            response.headers_mut().insert(header::X_XSS_PROTECTION, HeaderValue::from_static("0"));
        }
        Ok(response)
    }

    async fn open(
        &self,
        request: &Request<Incoming>,
        peer: IpAddr,
        endpoint: usize,
        query: &Query<'_>,
        kept: Option<Arc<embed::Request>>,
    ) -> Response<Body> {
        let seat = match self.admit().await {
            Ok(seat) => seat,
            Err(refused) => return refused,
        };
        let (reply, answer) = oneshot::channel();
        let open = PollRequest::Open {
            handshake: Box::new(Handshake { request: kept, ..self.handshake(request, query) }),
            address: self.address(request, peer),
            endpoint,
            polls: Polls::of(query),
            seat,
            reply,
        };
        self.shared.inboxes[self.shard].send(Message::Poll(open));
        match answer.await {
            Ok(PollReply::Opened { body, sid }) => {
                let mut response = poll_body(body);
                if let Some(cookie) = self.endpoint(endpoint).and_then(|endpoint| endpoint.cookie.as_ref()) {
                    response.headers_mut().insert(header::SET_COOKIE, session_cookie(cookie, sid));
                }
                response
            }
            Ok(reply) => self.reply(Some(reply)),
            // The shard is gone, and the process about to be.
            Err(_) => unavailable("draining"),
        }
    }

    async fn get(&self, owner: usize, named: Named, compression: Option<(u64, Coding)>) -> Response<Body> {
        let mut guard = Guard::new(self.shared.inboxes[owner].clone(), named, PollKind::Aborted);
        let reply = self.request(owner, named, PollKind::Get).await;
        guard.release();
        match (reply, compression) {
            (Some(PollReply::Packets(body)), Some((from_bytes, coding))) if body.bytes.len() as u64 >= from_bytes => {
                self.compressed(coding, body).await
            }
            (reply, _) => self.reply(reply),
        }
    }

    /// From how many bytes on an answer is compressed and how, where the endpoint offers it and the client takes it.
    fn compression(&self, headers: &HeaderMap, endpoint: usize) -> Option<(u64, Coding)> {
        self.endpoint(endpoint)?.compress_polls_from.zip(Coding::of(headers))
    }

    async fn compressed(&self, coding: Coding, body: PollBody) -> Response<Body> {
        let PollBody { bytes, binary } = body;
        let bytes = if bytes.len() <= COMPRESSED_AT_ONCE_MAX {
            coding.encode(&bytes)
        } else {
            let encoding = self.shared.backend.spawn_blocking(move || coding.encode(&bytes));
            encoding.await.expect("compressing does not panic, and the runtime outlives its requests")
        };
        let mut response = poll_body(PollBody { bytes, binary });
        response.headers_mut().insert(header::CONTENT_ENCODING, coding.header());
        response
    }

    async fn post(&self, request: Request<Incoming>, owner: usize, named: Named) -> Result<Response<Body>, BrokenOff> {
        let binary = is_binary(request.headers());
        let limit = self.shared.profile.limits.message_bytes as usize;
        let declared =
            request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if declared.is_some_and(|length| length > limit) {
            let response = self.ask(owner, named, PollKind::PostTooLarge { binary, started: false }).await;
            discard(request.into_body(), self.body_timeout()).await;
            return Ok(response);
        }
        let mut body = Box::pin(Limited::new(request.into_body(), limit).collect());
        let mut guard = None;
        let collected = match futures_util::poll!(&mut body) {
            // A body that is here already needs no word to the owner that one is on its way.
            Poll::Ready(Ok(collected)) => Ok(Ok(collected)),
            Poll::Ready(Err(error)) if error.is::<LengthLimitError>() => Ok(Err(error)),
            // One that has broken off already, as another node may tell in one breath with its head, is to end the session like any other.
            looked @ (Poll::Ready(Err(_)) | Poll::Pending) => {
                let (abort, mut aborted) = oneshot::channel();
                let mut started = Guard::new(self.shared.inboxes[owner].clone(), named, PollKind::PostAborted);
                match self.request(owner, named, PollKind::PostStarted { binary, abort }).await {
                    Some(PollReply::Ok) => {}
                    reply => {
                        started.release();
                        return Ok(self.reply(reply));
                    }
                }
                let rest = async {
                    match looked {
                        Poll::Ready(collected) => collected,
                        Poll::Pending => body.await,
                    }
                };
                let collected = tokio::select! {
                    collected = tokio::time::timeout(self.body_timeout(), rest) => collected,
                    Ok(()) = &mut aborted => {
                        started.release();
                        return Err(BrokenOff);
                    }
                };
                guard = Some(started);
                collected
            }
        };
        let body = match collected {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                let started = guard.is_some();
                guard.iter_mut().for_each(Guard::release);
                return Ok(self.ask(owner, named, PollKind::PostTooLarge { binary, started }).await);
            }
            // The guard tells the owner.
            Ok(Err(_)) | Err(_) => return Ok(empty(StatusCode::BAD_REQUEST)),
        };
        let started = guard.is_some();
        guard.iter_mut().for_each(Guard::release);
        Ok(self.ask(owner, named, PollKind::Post { body, binary, started }).await)
    }

    async fn ask(&self, owner: usize, named: Named, kind: PollKind) -> Response<Body> {
        let reply = self.request(owner, named, kind).await;
        self.reply(reply)
    }

    /// Asks the owner of a session; nothing comes back where the session ends before it has answered.
    pub(super) async fn request(&self, owner: usize, named: Named, kind: PollKind) -> Option<PollReply> {
        let (reply, answer) = oneshot::channel();
        self.shared.inboxes[owner].send(Message::Poll(PollRequest::Session { named, kind, reply }));
        answer.await.ok()
    }

    fn reply(&self, reply: Option<PollReply>) -> Response<Body> {
        match reply {
            Some(PollReply::Packets(body) | PollReply::Opened { body, .. }) => poll_body(body),
            Some(PollReply::Ok) => uncached(with_type(StatusCode::OK, HTML, Bytes::from_static(b"ok"))),
            Some(PollReply::UnknownSession) => self.refuse(Refusal::SessionUnknown),
            Some(PollReply::BadRequest) => self.refuse(Refusal::BadRequest),
            Some(PollReply::TooLarge) => empty(StatusCode::PAYLOAD_TOO_LARGE),
            Some(PollReply::Gone) | None => empty(StatusCode::BAD_REQUEST),
        }
    }

    fn refuse(&self, refusal: Refusal) -> Response<Body> {
        self.refuse_with(refusal, None)
    }

    /// The same with a message of the program's own.
    fn refuse_with(&self, refusal: Refusal, message: Option<&str>) -> Response<Body> {
        self.shared.metrics.refused.inc("bad_handshake");
        let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
        let body = refusal.json_body_with(message.unwrap_or(refusal.message()));
        with_type(status, JSON, Bytes::from(body))
    }

    fn endpoint(&self, endpoint: usize) -> Option<&SocketIoEndpoint> {
        match &self.shared.profile.endpoints[endpoint] {
            Endpoint::SocketIo(endpoint) => Some(endpoint),
            Endpoint::Json(_) => None,
        }
    }
}

/// Tells the owner of a session when a request of its client ends early: its future is dropped then.
struct Guard {
    inbox: Inbox,
    named: Named,
    kind: Option<PollKind>,
}

impl Guard {
    fn new(inbox: Inbox, named: Named, kind: PollKind) -> Self {
        Self { inbox, named, kind: Some(kind) }
    }

    /// The request has come to its proper end.
    fn release(&mut self) {
        self.kind = None;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(kind) = self.kind.take() {
            let (reply, _) = oneshot::channel();
            self.inbox.send(Message::Poll(PollRequest::Session { named: self.named, kind, reply }));
        }
    }
}

/// Whether a body is said to be bytes: in these words alone, as in Node.
fn is_binary(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| value == "application/octet-stream")
}

/// Internet Explorer, whose filter against scripts of others would take some answers for such.
fn is_old_explorer(headers: &HeaderMap) -> bool {
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    agent.is_some_and(|agent| agent.contains(";MSIE") || agent.contains("Trident/"))
}
