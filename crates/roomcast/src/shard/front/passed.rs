//! Requests of sessions that live on another node, on their way to it; and what other nodes pass on to this one, which is answered as if its clients
//! had come here. Knows neither how nodes are found nor how they prove themselves.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use wire::engine::Query;

use super::super::answers::{Body, CrossOrigin, empty, uncached};
use super::super::ids::SessionId;
use super::super::inbox::Message;
use super::super::patience::Patient;
use super::super::poll::PollRequest;
use super::{BrokenOff, Found, Front, HEAD_MAX_BYTES, Peer};
use crate::cluster::passing::{self, Answer, Asked, Tunnel, Way};

/// How long the other node may take to answer a handshake: it has nobody to ask.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// The body of a refused handshake.
const REFUSAL_MAX_BYTES: usize = 64 * 1024;

impl Front {
    /// The session that a request names, if it is none of this node's.
    pub(super) fn foreign(&self, query: &Query<'_>) -> Option<SessionId> {
        // What names no transport is refused whosever it is.
        query.transport()?;
        let sid = SessionId::parse(query.sid()?)?;
        self.shared.node.shard_of(sid).is_none().then_some(sid)
    }

    /// Serves a TCP connection by which another node passes on what a client at this address sends it.
    pub fn start_passed(self: Rc<Self>, stream: std::net::TcpStream, address: IpAddr) {
        let peer = Peer { address, is_passed: true };
        let first_head = self.shared.profile.limits.timeouts.head;
        let serving = self.clone().serve(stream, peer, Bytes::new(), first_head);
        self.spawn(serving);
    }

    /// Answers what another node passes on, or asks for itself.
    pub async fn answer_passed(&self, request: Request<Incoming>) -> Response<Body> {
        match passing::read(request) {
            Some(Asked::ByClient { request, address }) => {
                let peer = Peer { address, is_passed: true };
                let Some(Found::Engine(endpoint, file)) = self.find(request.uri().path(), request.headers()) else {
                    return empty(StatusCode::NOT_FOUND);
                };
                let file = file.to_owned();
                // A new session is this node's own affair.
                if Query::parse(request.uri().query().unwrap_or_default()).sid().is_none() {
                    return empty(StatusCode::BAD_REQUEST);
                }
                self.engine(*request, peer, endpoint, &file)
                    .await
                    .unwrap_or_else(|BrokenOff| empty(passing::BROKEN_OFF))
            }
            Some(Asked::Leaving { sid, what }) => {
                let owner = self.shared.node.shard_of(sid).and_then(|shard| self.shared.inboxes.get(shard));
                if let Some(inbox) = owner {
                    inbox.send(Message::Poll(PollRequest::Leaving { sid, what }));
                }
                empty(StatusCode::NO_CONTENT)
            }
            None => empty(StatusCode::BAD_REQUEST),
        }
    }

    /// Passes a poll on, and gives its owner's answer; or the request again, where the owner turns out not to be there.
    pub(super) async fn pass_poll(
        &self,
        request: Request<Incoming>,
        address: IpAddr,
        way: Way,
        cross_origin: &CrossOrigin<'_>,
    ) -> Result<Result<Response<Body>, Box<Request<Incoming>>>, BrokenOff> {
        let mut refused = match way.pass(request, address).await {
            Answer::Whole(answer) => return Ok(Ok(answer.map(|body| Either::Left(Full::new(body))))),
            Answer::BrokenOff => return Err(BrokenOff),
            Answer::Lost => uncached(empty(StatusCode::BAD_GATEWAY)),
            Answer::NotThere(request) => return Ok(Err(request)),
        };
        cross_origin.apply(refused.headers_mut());
        Ok(Ok(refused))
    }

    /// Passes a handshake on, and then bytes both ways, if its owner agrees.
    pub(super) async fn pass_upgrade(&self, mut request: Request<Incoming>, tunnel: Tunnel) -> Response<Body> {
        let Tunnel { stream, passage } = tunnel;
        let lost = || uncached(empty(StatusCode::BAD_GATEWAY));
        let mut builder = hyper::client::conn::http1::Builder::new();
        let made = builder.max_buf_size(HEAD_MAX_BYTES).handshake(TokioIo::new(stream)).await;
        let Ok((mut sender, connection)) = made else { return lost() };
        self.spawn(async move {
            // What becomes of it is seen by who asks.
            let _ = connection.with_upgrades().await;
        });
        let asked = sender.send_request(passing::handshake(&request));
        let Ok(Ok(mut answer)) = tokio::time::timeout(HANDSHAKE_MAX, asked).await else { return lost() };
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return whole(answer).await.unwrap_or_else(lost);
        }
        let (client, owner) = (hyper::upgrade::on(&mut request), hyper::upgrade::on(&mut answer));
        let timeouts = self.shared.profile.limits.timeouts;
        self.spawn(async move {
            let (Ok(client), Ok(owner)) = (client.await, owner.await) else { return };
            let (Ok(client), Ok(owner)) = (client.downcast::<Patient>(), owner.downcast::<TokioIo<TcpStream>>()) else {
                return;
            };
            let (transport, unread) = client.io.into_inner();
            let from_client =
                if unread.is_empty() { client.read_buf } else { [client.read_buf, unread].concat().into() };
            let from_owner = (owner.io.into_inner(), owner.read_buf);
            passage.pump((transport, from_client), from_owner, &timeouts).await;
        });
        let mut response = Response::new(Either::Left(Full::default()));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *response.headers_mut() = std::mem::take(answer.headers_mut());
        response
    }
}

/// A refusal, as it came.
async fn whole(answer: Response<Incoming>) -> Option<Response<Body>> {
    let (mut head, body) = answer.into_parts();
    let body = http_body_util::Limited::new(body, REFUSAL_MAX_BYTES).collect().await.ok()?;
    let mut headers = std::mem::replace(&mut head.headers, HeaderMap::new());
    headers.remove(header::TRANSFER_ENCODING);
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    let mut response = Response::new(Either::Left(Full::new(body.to_bytes())));
    *response.status_mut() = head.status;
    *response.headers_mut() = headers;
    Some(response)
}
