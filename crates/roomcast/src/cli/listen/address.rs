//! Where a listener connects to: made of the gateway's address, what is spoken, and the path.

use anyhow::{Context, bail};
use http::Uri;

use super::Protocol;

/// `http://host:1` becomes `ws://host:1/socket.io/?EIO=4&transport=websocket`.
pub(super) fn of(url: &str, protocol: Protocol, path: Option<&str>) -> anyhow::Result<String> {
    let parsed: Uri = url.parse().with_context(|| format!("{url} is no address"))?;
    let scheme = match parsed.scheme_str() {
        Some("http" | "ws") => "ws",
        Some("https" | "wss") => "wss",
        Some(_) | None => bail!("{url}: write http://HOST:PORT or https://HOST:PORT"),
    };
    let authority = parsed.authority().with_context(|| format!("{url} names no host"))?;
    let given = Some(parsed.path()).filter(|path| *path != "/");
    let (default, query) = match protocol {
        Protocol::SocketIo => ("/socket.io/", Some("EIO=4&transport=websocket")),
        Protocol::Json => ("/ws", None),
    };
    let path = path.or(given).unwrap_or(default);
    let slash = if path.starts_with('/') { "" } else { "/" };
    let end = if protocol == Protocol::SocketIo && !path.ends_with('/') { "/" } else { "" };
    let query = parsed.query().into_iter().chain(query).collect::<Vec<_>>().join("&");
    let mark = if query.is_empty() { "" } else { "?" };
    Ok(format!("{scheme}://{authority}{slash}{path}{end}{mark}{query}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_made_of_url_protocol_and_path() {
        use Protocol::{Json, SocketIo};
        for (url, protocol, path, expected) in [
            ("http://127.0.0.1:3000", SocketIo, None, "ws://127.0.0.1:3000/socket.io/?EIO=4&transport=websocket"),
            ("http://127.0.0.1:3000/", Json, None, "ws://127.0.0.1:3000/ws"),
            ("http://a", Json, Some("ws/location"), "ws://a/ws/location"),
            ("https://a.example", SocketIo, None, "wss://a.example/socket.io/?EIO=4&transport=websocket"),
            ("http://a/rt?x=1", SocketIo, None, "ws://a/rt/?x=1&EIO=4&transport=websocket"),
            ("ws://a/ws?userId=7", Json, None, "ws://a/ws?userId=7"),
            ("a.example", Json, None, "a.example: write http://HOST:PORT or https://HOST:PORT"),
            ("ftp://a", Json, None, "ftp://a: write http://HOST:PORT or https://HOST:PORT"),
        ] {
            let address = of(url, protocol, path).unwrap_or_else(|problem| format!("{problem:#}"));
            assert_eq!(address, expected, "{url}");
        }
    }
}
