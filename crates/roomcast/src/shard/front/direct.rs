//! A WebSocket handshake that can be answered at once, without an HTTP connection around it: what nearly every client of a storm sends. Decides
//! as the way through HTTP does, by the same functions, but for what must wait or be refused, which it leaves to that one.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};
use wire::engine::{Query, Transport, Verdict};
use wire::ws::Deflate;

use super::super::answers::CrossOrigin;
use super::super::poll::{Handshake, Role};
use super::upgrades::{Agreed, first_protocol, is_asked};
use super::{Found, Front, NoSeat, Seat};

/// Header fields of a handshake; one with more goes through HTTP.
const FIELDS_MAX: usize = 64;

/// What an answer usually takes.
const ANSWER_BYTES: usize = 192;

/// How long the turn of a session is away, and its seat.
type Place = (Duration, Option<Seat>);

/// A handshake that is agreed upon.
pub struct Direct {
    /// How long the request is.
    pub head_bytes: usize,
    /// The answer, as it goes to the socket.
    pub response: Vec<u8>,
    /// Compression, where it was agreed upon.
    pub deflate: Option<Deflate>,
    /// What is to be spoken.
    pub role: Role,
    /// How long its turn is away.
    pub wait: Duration,
    /// Its place among the connections of this node, where they are limited.
    pub seat: Option<Seat>,
}

impl Front {
    /// The answer to what a client has sent so far, if that is a handshake which needs no asking around.
    pub fn direct(&self, seen: &Bytes, peer: IpAddr) -> Option<Direct> {
        let (head_bytes, request) = parse(seen)?;
        if !is_asked(request.headers()) {
            return None;
        }
        let (role, agreed, response, (wait, seat)) = match self.find(request.uri().path(), request.headers())? {
            Found::Engine(endpoint, _) => self.direct_engine(&request, peer, endpoint)?,
            Found::Plain(endpoint, namespace) => {
                if !CrossOrigin::of(&self.shared.profile.cors, request.headers()).allows() {
                    return None;
                }
                let (role, protocol) = self.plain_role(&request, peer, endpoint, namespace);
                let agreed = self.agree(&request, &role, protocol).ok()?;
                let response = written(agreed.fields.iter().map(|(name, value)| (name, value)));
                (role, agreed, response, self.place()?)
            }
        };
        Some(Direct { head_bytes, response, deflate: agreed.deflate, role, wait, seat })
    }

    fn direct_engine(
        &self,
        request: &Request<()>,
        peer: IpAddr,
        endpoint: usize,
    ) -> Option<(Role, Agreed, Vec<u8>, Place)> {
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let cross_origin = CrossOrigin::of(&self.shared.profile.cors, request.headers());
        let kept = self.program_s_request(request, peer);
        // The program is asked once, where its answer is used whatever comes after it.
        if query.sid().is_some() || self.shared.program.allow.is_some() {
            return None;
        }
        let verdict = self.verify(request, &query, endpoint, false, true, cross_origin.allows());
        if verdict != Ok(Verdict::Open(Transport::WebSocket)) {
            return None;
        }
        let handshake = Box::new(Handshake { request: kept.clone(), ..self.handshake(request, &query) });
        let address = self.address(request, peer);
        let role = Role::SocketIo { handshake, address, endpoint, revision: query.revision() };
        let mut agreed = self.agree(request, &role, first_protocol(request.headers())).ok()?;
        let place = self.place()?;
        agreed.fields.extend(cross_origin.fields());
        let response = match (&self.shared.program.response_headers, kept) {
            (Some(change), Some(kept)) => {
                let mut headers: HeaderMap = agreed.fields.drain(..).collect();
                change(request.method(), &kept, &mut headers);
                written(headers.iter())
            }
            (Some(_) | None, _) => written(agreed.fields.iter().map(|(name, value)| (name, value))),
        };
        Some((role, agreed, response, place))
    }

    /// The place of a new session among those that want in, and its seat. Asked last: a place that was taken is not given back.
    fn place(&self) -> Option<Place> {
        let seat = self.lets_in().ok()?;
        Some((self.shared.admission.take_soon(Instant::now())?, seat))
    }

    /// Takes a seat for a new session, if there is room for it, and time left.
    pub fn lets_in(&self) -> Result<Option<Seat>, NoSeat> {
        if self.is_draining() { Err(NoSeat) } else { self.seat() }
    }
}

/// A 101 with these fields.
fn written<'a>(fields: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)>) -> Vec<u8> {
    let mut response = Vec::with_capacity(ANSWER_BYTES);
    response.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\n");
    for (name, value) in fields {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            response.extend_from_slice(part);
        }
    }
    response.extend_from_slice(b"\r\n");
    response
}

/// The head of a GET without a body, if it is whole and sound, and its length. Address and fields are parts of what was seen, not copies.
fn parse(seen: &Bytes) -> Option<(usize, Request<()>)> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut head = httparse::Request::new(&mut fields);
    let httparse::Status::Complete(head_bytes) = head.parse(seen).ok()? else { return None };
    if head.version != Some(1) || head.method != Some("GET") {
        return None;
    }
    let mut request = Request::new(());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = Uri::from_maybe_shared(seen.slice_ref(head.path?.as_bytes())).ok()?;
    let headers = request.headers_mut();
    headers.reserve(head.headers.len());
    for field in head.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        if name == header::CONTENT_LENGTH || name == header::TRANSFER_ENCODING || name == header::EXPECT {
            return None;
        }
        headers.append(name, HeaderValue::from_maybe_shared(seen.slice_ref(field.value)).ok()?);
    }
    Some((head_bytes, request))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_head_of_a_get_without_a_body_is_read() {
        let head = "GET /ws?a=1 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nX: 1\r\nX: 2\r\n\r\n";
        let (bytes, request) = parse(&Bytes::from(format!("{head}frames"))).expect("a head");
        assert_eq!((bytes, request.uri().to_string().as_str()), (head.len(), "/ws?a=1"));
        assert_eq!(request.headers().get_all("x").iter().count(), 2);
        for end in 0..head.len() {
            assert!(parse(&Bytes::from_static(&head.as_bytes()[..end])).is_none(), "{end} bytes");
        }
        for other in [
            "POST / HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET / HTTP/1.0\r\nHost: x\r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx",
            "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET nonsense\r\n\r\n",
            "\x16\x03\x01\x02\x00",
        ] {
            assert!(parse(&Bytes::from_static(other.as_bytes())).is_none(), "{other:?}");
        }
    }
}
