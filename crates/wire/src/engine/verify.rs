//! What becomes of a request to the Engine.IO path, in Node's order of checks. Knows no HTTP library and holds no sessions.

use super::{Query, Revision, Transport};

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
        todo!()
    }

    /// The message of the JSON body, and the whole body (`Content-Type: text/html`, `Connection: close`) for a refused upgrade.
    pub fn message(self) -> &'static str {
        todo!()
    }

    /// The HTTP status; a refused upgrade is always 400.
    pub fn status(self) -> u16 {
        todo!()
    }

    /// The body (`Content-Type: application/json`).
    pub fn json_body(self) -> String {
        todo!()
    }

    /// The body with a message of the caller's own.
    pub fn json_body_with(self, message: &str) -> String {
        let _ = message;
        todo!()
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

/// Which transports the gateway offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transports {
    /// Long-polling.
    pub polling: bool,
    /// WebSocket.
    pub websocket: bool,
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
}

/// Decides on a request.
pub fn verify(request: &Request<'_>, transports: Transports) -> Result<Verdict, Refusal> {
    let _ = (request, transports);
    todo!()
}
