//! The opening handshake (RFC 6455, section 4.2), on header values given as strings. Knows no HTTP library.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};

/// The header values of a request that asks for a WebSocket; headers that came several times are joined with `, `.
#[derive(Clone, Copy, Debug, Default)]
pub struct UpgradeHeaders<'a> {
    /// The request's method.
    pub method: &'a str,
    /// `Upgrade`.
    pub upgrade: Option<&'a str>,
    /// `Connection`.
    pub connection: Option<&'a str>,
    /// `Sec-WebSocket-Version`.
    pub version: Option<&'a str>,
    /// `Sec-WebSocket-Key`.
    pub key: Option<&'a str>,
    /// `Sec-WebSocket-Protocol`.
    pub protocols: Option<&'a str>,
}

/// A handshake that may be answered with 101.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accept {
    /// The value of the answer's `Sec-WebSocket-Accept`.
    pub accept: String,
}

/// Why a request is not a WebSocket handshake. The client's fault in every case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradeRefusal {
    /// The method is not GET.
    Method,
    /// `Upgrade` does not name `websocket`.
    Upgrade,
    /// `Connection` does not name `upgrade`.
    Connection,
    /// `Sec-WebSocket-Version` is neither 13 nor 8.
    Version,
    /// `Sec-WebSocket-Key` is missing or does not decode to 16 bytes.
    Key,
    /// `Sec-WebSocket-Protocol` offers something that is no token, or the same twice.
    Protocols,
}

impl UpgradeRefusal {
    /// The HTTP status of the answer. With 426 go the headers `Upgrade: websocket` and `Sec-WebSocket-Version: 13, 8`.
    pub fn status(self) -> u16 {
        match self {
            Self::Method => 405,
            Self::Upgrade | Self::Connection | Self::Key | Self::Protocols => 400,
            Self::Version => 426,
        }
    }

    /// The answer's body.
    pub fn message(self) -> &'static str {
        match self {
            Self::Method => "A WebSocket handshake is a GET",
            Self::Upgrade => "Header Upgrade must name websocket",
            Self::Connection => "Header Connection must name Upgrade",
            Self::Version => "Header Sec-WebSocket-Version must be 13",
            Self::Key => "Header Sec-WebSocket-Key must be 16 bytes in base64",
            Self::Protocols => "Header Sec-WebSocket-Protocol must be tokens, each once",
        }
    }
}

/// Whether the request is a WebSocket handshake, and what to answer.
pub fn check_upgrade(headers: &UpgradeHeaders<'_>) -> Result<Accept, UpgradeRefusal> {
    if headers.method != "GET" {
        return Err(UpgradeRefusal::Method);
    }
    if !names(headers.upgrade, "websocket") {
        return Err(UpgradeRefusal::Upgrade);
    }
    if !names(headers.connection, "upgrade") {
        return Err(UpgradeRefusal::Connection);
    }
    if !matches!(headers.version.map(str::trim), Some("13" | "8")) {
        return Err(UpgradeRefusal::Version);
    }
    if headers.protocols.is_some_and(|header| !are_protocols(header)) {
        return Err(UpgradeRefusal::Protocols);
    }
    let key = headers.key.unwrap_or_default().trim();
    match STANDARD.decode(key) {
        Ok(nonce) if nonce.len() == 16 => Ok(Accept { accept: accept_key(key) }),
        Ok(_) | Err(_) => Err(UpgradeRefusal::Key),
    }
}

/// The value of `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key`.
pub fn accept_key(key: &str) -> String {
    /// What RFC 6455, section 1.3 has every server append.
    const SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let hash = Sha1::new().chain_update(key).chain_update(SUFFIX).finalize();
    STANDARD.encode(hash)
}

/// The subprotocols that a `Sec-WebSocket-Protocol` header offers, in order.
pub fn protocols(header: &str) -> impl Iterator<Item = &str> {
    header.split(',').map(str::trim).filter(|protocol| !protocol.is_empty())
}

/// Whether each is a token (RFC 9110, section 5.6.2) and stands there once, as RFC 6455, section 4.1 asks of clients.
fn are_protocols(header: &str) -> bool {
    let mut seen = HashSet::new();
    header.split(',').map(str::trim).all(|protocol| is_token(protocol) && seen.insert(protocol))
}

fn is_token(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_part)
}

fn names(header: Option<&str>, token: &str) -> bool {
    header.unwrap_or_default().split(',').any(|part| part.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn good() -> UpgradeHeaders<'static> {
        UpgradeHeaders {
            method: "GET",
            upgrade: Some("websocket"),
            connection: Some("Upgrade"),
            version: Some("13"),
            key: Some(KEY),
            protocols: None,
        }
    }

    fn check(headers: UpgradeHeaders<'_>, expected: Result<(), UpgradeRefusal>) {
        assert_eq!(check_upgrade(&headers).map(|_| ()), expected, "{headers:?}");
    }

    #[test]
    fn the_accept_value_is_that_of_the_rfc() {
        let accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned();
        assert_eq!(accept_key(KEY), accept);
        assert_eq!(check_upgrade(&good()), Ok(Accept { accept }));
    }

    #[test]
    fn header_values_are_read_as_lists_and_without_case() {
        check(UpgradeHeaders { connection: Some("keep-alive, upgrade"), ..good() }, Ok(()));
        check(UpgradeHeaders { upgrade: Some("h2c, WebSocket"), ..good() }, Ok(()));
        check(UpgradeHeaders { version: Some("8"), ..good() }, Ok(()));
    }

    #[test]
    fn each_flaw_has_its_refusal() {
        check(UpgradeHeaders { method: "POST", ..good() }, Err(UpgradeRefusal::Method));
        check(UpgradeHeaders { upgrade: None, ..good() }, Err(UpgradeRefusal::Upgrade));
        check(UpgradeHeaders { upgrade: Some("websockets"), ..good() }, Err(UpgradeRefusal::Upgrade));
        check(UpgradeHeaders { connection: Some("keep-alive"), ..good() }, Err(UpgradeRefusal::Connection));
        check(UpgradeHeaders { version: Some("12"), ..good() }, Err(UpgradeRefusal::Version));
        check(UpgradeHeaders { version: None, ..good() }, Err(UpgradeRefusal::Version));
        for key in [None, Some(""), Some("c2hvcnQ="), Some("dGhlIHNhbXBsZSBub25jZQ"), Some("!GhlIHNhbXBsZSBub25jZQ==")]
        {
            check(UpgradeHeaders { key, ..good() }, Err(UpgradeRefusal::Key));
        }
        for protocols in ["", "a b", "a,", ",a", "a, a", "a/b", "é"] {
            check(UpgradeHeaders { protocols: Some(protocols), ..good() }, Err(UpgradeRefusal::Protocols));
        }
        check(UpgradeHeaders { protocols: Some("bearer, eyJ.a-b_c.d, A,a"), ..good() }, Ok(()));
        assert_eq!(
            [405, 400, 400, 426, 400, 400],
            [
                UpgradeRefusal::Method.status(),
                UpgradeRefusal::Upgrade.status(),
                UpgradeRefusal::Connection.status(),
                UpgradeRefusal::Version.status(),
                UpgradeRefusal::Key.status(),
                UpgradeRefusal::Protocols.status(),
            ]
        );
    }

    #[test]
    fn protocols_come_in_order() {
        assert_eq!(protocols("bearer, a.b.c ,,").collect::<Vec<_>>(), ["bearer", "a.b.c"]);
        assert_eq!(protocols("").count(), 0);
    }
}
