//! What becomes of a request to the Engine.IO path, in Node's order of checks. Knows no HTTP library and holds no sessions.

use super::{Query, Revision, Transport};
use crate::json::write_string;

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Code 0: `transport` is missing or unknown.
    TransportUnknown,
    /// Code 1: no session has this `sid`.
    SessionUnknown,
    /// Code 2: a session is opened by GET.
    BadHandshakeMethod,
    /// Code 3: the request does not fit the session.
    BadRequest,
    /// Code 4: the gateway's rules refuse the request.
    Forbidden,
    /// Code 5: a revision that we do not speak.
    UnsupportedVersion,
}

impl Refusal {
    /// The code of the JSON body.
    pub fn code(self) -> u8 {
        match self {
            Self::TransportUnknown => 0,
            Self::SessionUnknown => 1,
            Self::BadHandshakeMethod => 2,
            Self::BadRequest => 3,
            Self::Forbidden => 4,
            Self::UnsupportedVersion => 5,
        }
    }

    /// The message of the JSON body, and the whole body (`Content-Type: text/html`, `Connection: close`) for a refused upgrade.
    pub fn message(self) -> &'static str {
        match self {
            Self::TransportUnknown => "Transport unknown",
            Self::SessionUnknown => "Session ID unknown",
            Self::BadHandshakeMethod => "Bad handshake method",
            Self::BadRequest => "Bad request",
            Self::Forbidden => "Forbidden",
            Self::UnsupportedVersion => "Unsupported protocol version",
        }
    }

    /// The HTTP status; a refused upgrade is 400 whatever the reason.
    pub fn status(self) -> u16 {
        match self {
            Self::Forbidden => 403,
            Self::TransportUnknown
            | Self::SessionUnknown
            | Self::BadHandshakeMethod
            | Self::BadRequest
            | Self::UnsupportedVersion => 400,
        }
    }

    /// The body (`Content-Type: application/json`).
    pub fn json_body(self) -> String {
        self.json_body_with(self.message())
    }

    /// The body with a message of the caller's own.
    pub fn json_body_with(self, message: &str) -> String {
        let mut out = format!(r#"{{"code":{},"message":"#, self.code()).into_bytes();
        write_string(message, &mut out);
        out.push(b'}');
        String::from_utf8(out).expect("a string is written as UTF-8")
    }
}

/// The methods that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Get,
    /// POST.
    Post,
    /// Any other.
    Other,
}

/// What is known of the session that `sid` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its transport at present (a session that is only being probed is on polling).
    pub transport: Transport,
    /// Its revision.
    pub revision: Revision,
}

/// What the gateway offers beside revision 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Long-polling.
    pub polling: bool,
    /// WebSocket.
    pub websocket: bool,
    /// Revision 3, for old clients.
    pub revision_3: bool,
}

impl Offer {
    fn holds(self, transport: Transport) -> bool {
        match transport {
            Transport::Polling => self.polling,
            Transport::WebSocket => self.websocket,
        }
    }
}

/// The facts of a request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Its method.
    pub method: Method,
    /// Its parameters.
    pub query: &'a Query<'a>,
    /// Whether it asks for a WebSocket.
    pub upgrade: bool,
    /// Its `Origin`.
    pub origin: Option<&'a [u8]>,
    /// Whether the gateway's own rules (allowed origins) let a new session in.
    pub allowed: bool,
    /// The session that the query's `sid` names; not looked at without one.
    pub session: Option<Known>,
}

/// What to do with a request that is in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Open a session on this transport.
    Open(Transport),
    /// A poll: give it to [`super::Session::get`].
    Get,
    /// A POST: give it to [`super::Session::post_started`].
    Post,
    /// A WebSocket for a session: upgrade, then ask [`super::Session::probe_started`].
    Probe,
    /// An upgrade that says `transport=polling`: answer 101, then an empty close frame.
    UpgradeAndClose,
    /// A method that the session does not serve: 500 with an empty body.
    MethodNotServed,
    /// A WebSocket that does not ask for an upgrade, for a session: [`Refusal::BadRequest`].
    WithoutUpgrade,
}

/// Whether a request that names the session fits it: its transport, unless it asks for an upgrade, and its revision.
pub fn fits(session: Known, asked: Known, upgrade: bool) -> bool {
    (upgrade || session.transport == asked.transport) && session.revision == asked.revision
}

/// Decides on a request. A CORS preflight is answered before this is asked.
pub fn verify(request: &Request<'_>, offer: Offer) -> Result<Verdict, Refusal> {
    let transport = request.query.transport().filter(|transport| offer.holds(*transport));
    let transport = transport.ok_or(Refusal::TransportUnknown)?;
    if request.origin.is_some_and(|origin| origin.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t')) {
        return Err(Refusal::BadRequest);
    }
    match request.query.sid() {
        Some(_) => verify_known(request, transport),
        None => verify_handshake(request, transport, offer),
    }
}

fn verify_known(request: &Request<'_>, transport: Transport) -> Result<Verdict, Refusal> {
    let session = request.session.ok_or(Refusal::SessionUnknown)?;
    if !fits(session, Known { transport, revision: request.query.revision() }, request.upgrade) {
        return Err(Refusal::BadRequest);
    }
    match (transport, request.upgrade, request.method) {
        (Transport::WebSocket, true, Method::Get | Method::Post | Method::Other) => Ok(Verdict::Probe),
        (Transport::Polling, true, Method::Get | Method::Post | Method::Other) => Ok(Verdict::UpgradeAndClose),
        (Transport::WebSocket, false, Method::Get | Method::Post | Method::Other) => Ok(Verdict::WithoutUpgrade),
        (Transport::Polling, false, Method::Get) => Ok(Verdict::Get),
        (Transport::Polling, false, Method::Post) => Ok(Verdict::Post),
        (Transport::Polling, false, Method::Other) => Ok(Verdict::MethodNotServed),
    }
}

fn verify_handshake(request: &Request<'_>, transport: Transport, offer: Offer) -> Result<Verdict, Refusal> {
    if request.method != Method::Get {
        return Err(Refusal::BadHandshakeMethod);
    }
    if transport == Transport::WebSocket && !request.upgrade {
        return Err(Refusal::BadRequest);
    }
    if !request.allowed {
        return Err(Refusal::Forbidden);
    }
    match request.query.revision() {
        Revision::Four => {}
        Revision::Three if offer.revision_3 => {}
        Revision::Three => return Err(Refusal::UnsupportedVersion),
    }
    match (transport, request.upgrade) {
        (Transport::Polling, true) => Ok(Verdict::UpgradeAndClose),
        (Transport::Polling, false) | (Transport::WebSocket, true | false) => Ok(Verdict::Open(transport)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Offer = Offer { polling: true, websocket: true, revision_3: false };
    const POLLING: Option<Known> = Some(Known { transport: Transport::Polling, revision: Revision::Four });
    const WEBSOCKET: Option<Known> = Some(Known { transport: Transport::WebSocket, revision: Revision::Four });

    /// One line is one request: method, whether it upgrades, query, session, and what becomes of it.
    fn check(method: Method, upgrade: bool, query: &str, session: Option<Known>, expected: Result<Verdict, Refusal>) {
        let parsed = Query::parse(query);
        let request = Request { method, query: &parsed, upgrade, origin: None, allowed: true, session };
        assert_eq!(verify(&request, BOTH), expected, "{method:?} {query} upgrade {upgrade}");
    }

    #[test]
    fn a_session_is_opened_by_get() {
        use Method::*;
        check(Get, false, "EIO=4&transport=polling", None, Ok(Verdict::Open(Transport::Polling)));
        check(Get, true, "EIO=4&transport=websocket&sid=", None, Ok(Verdict::Open(Transport::WebSocket)));
        check(Get, true, "EIO=4&transport=polling", None, Ok(Verdict::UpgradeAndClose));
        check(Get, false, "EIO=4", None, Err(Refusal::TransportUnknown));
        check(Get, false, "EIO=4&transport=__proto__", None, Err(Refusal::TransportUnknown));
        check(Get, false, "EIO=4&transport=webtransport", None, Err(Refusal::TransportUnknown));
        check(Post, false, "EIO=4&transport=polling", None, Err(Refusal::BadHandshakeMethod));
        check(Other, false, "EIO=4&transport=polling", None, Err(Refusal::BadHandshakeMethod));
        check(Post, true, "EIO=4&transport=websocket", None, Err(Refusal::BadHandshakeMethod));
        check(Get, false, "EIO=4&transport=websocket", None, Err(Refusal::BadRequest));
        for eio in ["", "EIO=3&", "EIO=5&"] {
            check(Get, false, &format!("{eio}transport=polling"), None, Err(Refusal::UnsupportedVersion));
        }
    }

    #[test]
    fn a_session_is_served_on_its_transport() {
        use Method::*;
        check(Get, false, "EIO=4&transport=polling&sid=x", POLLING, Ok(Verdict::Get));
        check(Post, false, "EIO=4&transport=polling&sid=x", POLLING, Ok(Verdict::Post));
        check(Other, false, "EIO=4&transport=polling&sid=x", POLLING, Ok(Verdict::MethodNotServed));
        check(Get, true, "EIO=4&transport=websocket&sid=x", POLLING, Ok(Verdict::Probe));
        check(Get, true, "EIO=4&transport=websocket&sid=x", WEBSOCKET, Ok(Verdict::Probe));
        check(Get, true, "EIO=4&transport=polling&sid=x", POLLING, Ok(Verdict::UpgradeAndClose));
        check(Get, false, "EIO=4&transport=polling&sid=__proto__", None, Err(Refusal::SessionUnknown));
        check(Post, false, "EIO=4&transport=polling&sid=x", None, Err(Refusal::SessionUnknown));
        check(Get, true, "EIO=4&transport=websocket&sid=x", None, Err(Refusal::SessionUnknown));
        check(Get, false, "EIO=4&transport=polling&sid=x", WEBSOCKET, Err(Refusal::BadRequest));
        check(Post, false, "EIO=4&transport=polling&sid=x", WEBSOCKET, Err(Refusal::BadRequest));
        check(Get, false, "EIO=4&transport=websocket&sid=x", POLLING, Err(Refusal::BadRequest));
        check(Get, false, "EIO=4&transport=websocket&sid=x", WEBSOCKET, Ok(Verdict::WithoutUpgrade));
        check(Get, false, "transport=polling&sid=x", POLLING, Err(Refusal::BadRequest));
        check(Get, false, "EIO=3&transport=polling&sid=x", POLLING, Err(Refusal::BadRequest));
    }

    #[test]
    fn rules_and_transports_of_the_gateway_count() {
        let query = Query::parse("EIO=3&transport=polling");
        let request =
            Request { method: Method::Get, query: &query, upgrade: false, origin: None, allowed: false, session: None };
        assert_eq!(verify(&request, BOTH), Err(Refusal::Forbidden), "asked before the revision");
        let origin = Some(b"http://a\x01".as_slice());
        assert_eq!(verify(&Request { origin, ..request }, BOTH), Err(Refusal::BadRequest));
        let origin = Some("http://ä\t".as_bytes());
        assert_eq!(verify(&Request { origin, ..request }, BOTH), Err(Refusal::Forbidden));
        let old = Offer { revision_3: true, ..BOTH };
        for text in ["EIO=3&transport=polling", "transport=polling", "EIO=5&transport=polling"] {
            let query = Query::parse(text);
            let request = Request { query: &query, allowed: true, ..request };
            assert_eq!(verify(&request, old), Ok(Verdict::Open(Transport::Polling)), "{text}");
            assert_eq!(verify(&request, BOTH), Err(Refusal::UnsupportedVersion), "{text}");
        }
        assert_eq!(verify(&request, Offer { polling: false, ..BOTH }), Err(Refusal::TransportUnknown));
    }

    #[test]
    fn refusals_are_worded_as_node_words_them() {
        let check = |refusal: Refusal, status, body| {
            assert_eq!((refusal.status(), refusal.json_body().as_str()), (status, body))
        };
        check(Refusal::TransportUnknown, 400, r#"{"code":0,"message":"Transport unknown"}"#);
        check(Refusal::SessionUnknown, 400, r#"{"code":1,"message":"Session ID unknown"}"#);
        check(Refusal::BadHandshakeMethod, 400, r#"{"code":2,"message":"Bad handshake method"}"#);
        check(Refusal::BadRequest, 400, r#"{"code":3,"message":"Bad request"}"#);
        check(Refusal::Forbidden, 403, r#"{"code":4,"message":"Forbidden"}"#);
        check(Refusal::UnsupportedVersion, 400, r#"{"code":5,"message":"Unsupported protocol version"}"#);
        assert_eq!(Refusal::Forbidden.json_body_with("a \"b\""), r#"{"code":4,"message":"a \"b\""}"#);
    }
}
