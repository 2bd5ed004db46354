//! What is known of a client when it asks to be let in. Decides nothing.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use http::{Extensions, HeaderMap, Uri};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;

use super::ArgsError;
use super::args::FromArgs;

/// The request with which a connection was opened.
#[derive(Debug)]
pub struct Request {
    /// Its target, with the query.
    pub uri: Uri,
    /// Its headers.
    pub headers: HeaderMap,
    /// Where the client is: the peer, or what a trusted proxy says.
    pub address: IpAddr,
    /// When it came, in milliseconds since 1970.
    pub issued_unix_ms: u64,
}

impl Request {
    /// The first value of a header, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The parameters of the query, decoded, in their order.
    pub fn query(&self) -> Vec<(String, String)> {
        let decode = |text: &str| {
            let text = text.replace('+', " ");
            percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned()
        };
        let query = self.uri.query().unwrap_or_default();
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        pairs
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(key, value)| (decode(key), decode(value)))
            .collect()
    }

    /// A parameter of the query, decoded; of several with the name the last one.
    pub fn query_value(&self, name: &str) -> Option<String> {
        self.query().into_iter().rev().find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

/// What a client says of itself when it asks to be let into a namespace, and a place for what the program finds out about it.
pub struct Handshake {
    request: Arc<Request>,
    namespace: Box<str>,
    auth: Box<str>,
    kept: Mutex<Extensions>,
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The rest may hold secrets.
        f.debug_struct("Handshake").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Handshake {
    pub(crate) fn new(request: Arc<Request>, namespace: &str, auth: Option<&str>) -> Self {
        Self {
            request,
            namespace: namespace.into(),
            auth: auth.unwrap_or("{}").into(),
            kept: Mutex::new(Extensions::new()),
        }
    }

    /// The request with which the connection was opened.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// The namespace that the client asks for.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The JSON object that the client sent with its request (the `auth` option of the client), as it came; `{}` if it sent none.
    pub fn auth_json(&self) -> &str {
        &self.auth
    }

    /// The same, read.
    ///
    /// # Errors
    /// It is of another type.
    pub fn auth<T: DeserializeOwned>(&self) -> Result<T, ArgsError> {
        let args = super::Args(hub::emission::Payload::json(self.auth.to_string()));
        <(T,)>::from_args(&args).map(|(auth,)| auth)
    }

    /// Keeps a value of the program's own with the socket, one of each type: who the user is, say. Gives the one that it replaces.
    pub fn keep<T: Clone + Send + Sync + 'static>(&self, value: T) -> Option<T> {
        self.kept.lock().insert(value)
    }

    /// The value of this type that was kept.
    pub fn kept<T: Clone + Send + Sync + 'static>(&self) -> Option<T> {
        self.kept.lock().get().cloned()
    }

    /// Takes the value of this type out again.
    pub fn forget<T: Clone + Send + Sync + 'static>(&self) -> Option<T> {
        self.kept.lock().remove()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_the_last_one_counts() {
        let request = Request {
            uri: "/socket.io/?EIO=4&a=1&b=x%20y+z&a=2&c".parse().expect("a target"),
            headers: HeaderMap::new(),
            address: IpAddr::from([127, 0, 0, 1]),
            issued_unix_ms: 0,
        };
        let value = |name| request.query_value(name);
        assert_eq!(value("a").as_deref(), Some("2"));
        assert_eq!(value("b").as_deref(), Some("x y z"));
        assert_eq!(value("c").as_deref(), Some(""));
        assert_eq!(value("d"), None);
    }
}
