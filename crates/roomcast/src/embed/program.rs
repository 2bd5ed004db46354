//! All that a program brings along: its namespaces, its endpoints below Socket.IO, its say on requests. Finds; runs nothing.

use std::collections::HashMap;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use http::HeaderMap;

use super::handshake::Request;
use super::messages::Messages;
use super::namespace::Namespace;

pub(crate) type Matches = dyn Fn(&str) -> bool + Send + Sync;
pub(crate) type Allow = dyn Fn(&Request) -> Result<(), String> + Send + Sync;
pub(crate) type ResponseHeaders = dyn Fn(&http::Method, &Request, &mut HeaderMap) + Send + Sync;

/// What a program brings along; nothing for a gateway that its profile describes whole.
#[derive(Default)]
pub struct Program {
    pub(crate) named: HashMap<Box<str>, Arc<Namespace>>,
    pub(crate) matching: Vec<(Box<Matches>, Arc<Namespace>)>,
    /// By the endpoint's place in the profile.
    pub(crate) messages: HashMap<usize, Arc<Messages>>,
    pub(crate) allow: Option<Box<Allow>>,
    pub(crate) response_headers: Option<Box<ResponseHeaders>>,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("namespaces", &self.named.keys()).finish_non_exhaustive()
    }
}

impl Program {
    /// What is done in the namespace of this name: by name before by pattern, patterns in their order.
    pub(crate) fn namespace(&self, name: &str) -> Option<&Arc<Namespace>> {
        self.named.get(name).or_else(|| {
            let (_, handlers) = self.matching.iter().find(|(matches, _)| fits(matches, name))?;
            Some(handlers)
        })
    }

    /// The names of the namespaces that it names, in order.
    pub(crate) fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.named.keys().map(|name| &**name).collect();
        names.sort_unstable();
        names
    }

    /// Whether anyone will look at the requests that open connections.
    pub(crate) fn wants_requests(&self) -> bool {
        !self.named.is_empty()
            || !self.matching.is_empty()
            || !self.messages.is_empty()
            || self.allow.is_some()
            || self.response_headers.is_some()
    }
}

/// Whether a name fits. The name is a client's: a pattern that panics over it does not fit, and takes nobody with it.
fn fits(matches: &Matches, name: &str) -> bool {
    std::panic::catch_unwind(AssertUnwindSafe(|| matches(name))).unwrap_or_else(|_| {
        tracing::error!(name, "a pattern of the program's panicked");
        false
    })
}
