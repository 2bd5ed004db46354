//! The opening handshake (RFC 6455, section 4.2), on header values given as strings. Knows no HTTP library.

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
}

impl UpgradeRefusal {
    /// The HTTP status of the answer. With 426 goes the header `Sec-WebSocket-Version: 13, 8`.
    pub fn status(self) -> u16 {
        todo!()
    }

    /// The answer's body.
    pub fn message(self) -> &'static str {
        todo!()
    }
}

/// Whether the request is a WebSocket handshake, and what to answer.
pub fn check_upgrade(headers: &UpgradeHeaders<'_>) -> Result<Accept, UpgradeRefusal> {
    let _ = headers;
    todo!()
}

/// The value of `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key`.
pub fn accept_key(key: &str) -> String {
    let _ = key;
    todo!()
}

/// The subprotocols that a `Sec-WebSocket-Protocol` header offers, in order.
pub fn protocols(header: &str) -> impl Iterator<Item = &str> {
    header.split(',').map(str::trim).filter(|protocol| !protocol.is_empty())
}
