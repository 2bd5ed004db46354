//! Methods of services, as rules name them: `UPSTREAM.SERVICE/METHOD`. Knows neither addresses nor messages.

use std::fmt;
use std::sync::Arc;

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

/// A message that rules make for a method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The method.
    pub method: Arc<Method>,
    /// Its fields, as far as the profile says them.
    pub fields: Vec<String>,
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

#[cfg(test)]
mod tests {
    use super::parts;

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
}
