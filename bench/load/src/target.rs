//! Where the server is: a URL, resolved once, and the handshake that it gets.

use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::{Context, bail};
use http::Uri;

use crate::dialect::Dialect;

/// A server.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its address.
    pub address: SocketAddr,
    /// Its name, as in the URL.
    pub host: String,
    /// Whether TLS is spoken.
    pub tls: bool,
    /// `host:port`, as the header has it.
    authority: String,
    path: String,
}

impl Target {
    /// From a URL: `http`, `https`, `ws` or `wss`; without a path it is the dialect's usual one.
    pub fn resolve(url: &str, dialect: Dialect) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("`{url}` is no URL"))?;
        let tls = match uri.scheme_str() {
            Some("http" | "ws") => false,
            Some("https" | "wss") => true,
            _ => bail!("`{url}` must begin with http://, https://, ws:// or wss://"),
        };
        let host = uri.host().with_context(|| format!("`{url}` names no server"))?.to_owned();
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let mut addresses = (bare, port).to_socket_addrs().with_context(|| format!("cannot find `{host}`"))?;
        let address = addresses.next().with_context(|| format!("`{host}` has no address"))?;
        let path = match uri.path() {
            "" | "/" => dialect.path(),
            path => path,
        };
        Ok(Self { address, authority: format!("{host}:{port}"), path: path.to_owned(), host, tls })
    }

    /// What asks for packets.
    pub fn poll(&self, query: &str, session: Option<&str>) -> String {
        let Self { path, authority, .. } = self;
        let session = session.map(|id| format!("&sid={id}")).unwrap_or_default();
        format!("GET {path}{query}{session} HTTP/1.1\r\nHost: {authority}\r\n\r\n")
    }

    /// The head of what posts packets of so many bytes.
    pub fn post(&self, query: &str, session: &str, length: usize) -> String {
        let Self { path, authority, .. } = self;
        format!(
            "POST {path}{query}&sid={session} HTTP/1.1\r\nHost: {authority}\r\n\
             Content-Type: text/plain;charset=UTF-8\r\nContent-Length: {length}\r\n\r\n"
        )
    }

    /// What asks for a WebSocket.
    pub fn handshake(&self, query: &str) -> String {
        let Self { path, authority, .. } = self;
        format!(
            "GET {path}{query} HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
    }
}
