//! What rules call of services: a method of gRPC, `UPSTREAM.SERVICE/METHOD`, or a request of HTTP, `UPSTREAM GET /path/{…}`. Knows no address.

use std::fmt;
use std::sync::Arc;

use super::scope::Scope;
use super::shape::Shape;
use super::template::{Template, Unmet};

/// What is called, complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Callee {
    /// A method of gRPC.
    Grpc(Arc<Method>),
    /// A request of HTTP.
    Http(HttpRequest),
}

impl Callee {
    /// The upstream's place in [`Profile::upstreams`](crate::profile::Profile::upstreams).
    pub fn upstream(&self) -> usize {
        match self {
            Self::Grpc(method) => method.upstream,
            Self::Http(request) => request.upstream,
        }
    }
}

impl fmt::Display for Callee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grpc(method) => method.fmt(f),
            Self::Http(HttpRequest { verb, path, .. }) => write!(f, "{} {path}", verb.as_str()),
        }
    }
}

/// A service's method.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Method {
    /// The upstream's place in [`Profile::upstreams`](crate::profile::Profile::upstreams).
    pub upstream: usize,
    /// The service, with its package.
    pub service: Box<str>,
    /// The method.
    pub name: Box<str>,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.name)
    }
}

/// A request to a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// The upstream's place in [`Profile::upstreams`](crate::profile::Profile::upstreams).
    pub upstream: usize,
    /// What is to be done.
    pub verb: Verb,
    /// The path below the service's address, with its query; what rules filled in is percent-encoded.
    pub path: String,
}

/// A method of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Reads.
    Get,
    /// Does something, or makes something new.
    Post,
    /// Puts a thing in the place of another.
    Put,
    /// Changes parts of a thing.
    Patch,
    /// Takes a thing away.
    Delete,
}

impl Verb {
    /// All of them.
    pub(crate) const ALL: [Self; 5] = [Self::Get, Self::Post, Self::Put, Self::Patch, Self::Delete];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    /// Whether a message goes along.
    pub const fn has_body(self) -> bool {
        match self {
            Self::Post | Self::Put | Self::Patch => true,
            Self::Get | Self::Delete => false,
        }
    }
}

/// A message that rules make for a method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The method.
    pub method: Arc<Method>,
    /// Its fields, as far as the profile says them.
    pub fields: Vec<String>,
}

/// A call as a rule says it.
#[derive(Debug)]
pub(crate) enum ServiceCall {
    Grpc { method: Arc<Method>, with: Shape },
    Http { upstream: usize, verb: Verb, path: Template, with: Option<Shape> },
}

impl ServiceCall {
    /// What to call, and with which message, as raw JSON: an empty text where none goes along.
    pub(crate) fn ask(&self, scope: &Scope<'_>) -> Result<(Callee, String), Unmet> {
        match self {
            Self::Grpc { method, with } => Ok((Callee::Grpc(method.clone()), with.render(scope)?)),
            Self::Http { upstream, verb, path, with } => {
                let message = with.as_ref().map_or(Ok(String::new()), |with| with.render(scope))?;
                let request = HttpRequest { upstream: *upstream, verb: *verb, path: path.path(scope)? };
                Ok((Callee::Http(request), message))
            }
        }
    }
}

/// A method's name in its parts: the upstream, the service, the method.
pub(crate) fn parts(text: &str) -> Option<(&str, &str, &str)> {
    let (upstream, rest) = text.split_once('.')?;
    let (service, method) = rest.split_once('/')?;
    let is_word = |word: &str| {
        !word.is_empty()
            && !word.starts_with(|first: char| first.is_ascii_digit())
            && word.chars().all(|character| character.is_ascii_alphanumeric() || character == '_')
    };
    (!upstream.is_empty() && service.split('.').all(is_word) && is_word(method)).then_some((upstream, service, method))
}

/// A request in its parts: the upstream, the method of HTTP, the path.
pub(crate) fn request_parts(text: &str) -> Option<(&str, &str, &str)> {
    let (upstream, rest) = text.trim().split_once(' ')?;
    let (verb, path) = rest.trim_start().split_once(' ')?;
    verb.bytes().all(|byte| byte.is_ascii_alphabetic()).then_some((upstream, verb, path.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::{parts, request_parts};

    #[test]
    fn a_method_has_three_parts() {
        for (text, expected) in [
            ("location.LocationService/Get", Some(("location", "LocationService", "Get"))),
            ("users.acme.users.v1.Users/Get_2", Some(("users", "acme.users.v1.Users", "Get_2"))),
            ("LocationService/Get", None),
            ("location.LocationService", None),
            ("location.LocationService/", None),
            ("location./Get", None),
            ("location.a..b/Get", None),
            ("location.Service/Get/More", None),
            ("location.Service/Get it", None),
        ] {
            assert_eq!(parts(text), expected, "{text}");
        }
    }

    #[test]
    fn a_request_has_three_parts() {
        for (text, expected) in [
            ("tickets GET /tickets/{args.id}", Some(("tickets", "GET", "/tickets/{args.id}"))),
            ("tickets  POST   /a?b={c | 'd'}", Some(("tickets", "POST", "/a?b={c | 'd'}"))),
            ("tickets GET tickets", Some(("tickets", "GET", "tickets"))),
            ("tickets /tickets/{args.id | 'x'}", None),
            ("tickets /tickets", None),
            ("tickets.Tickets/Get", None),
        ] {
            assert_eq!(request_parts(text), expected, "{text}");
        }
    }
}
