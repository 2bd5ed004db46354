//! The query string of an Engine.IO request. Knows nothing of the rest of the request.

use std::borrow::Cow;

/// How a session carries packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// HTTP long-polling.
    Polling,
    /// A WebSocket.
    WebSocket,
}

/// The protocol's revision (`EIO`). As in Node, whatever is not 4 counts as 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revision {
    /// Engine.IO 3 (Socket.IO 1 and 2), a missing or an unknown `EIO`.
    Three,
    /// Engine.IO 4 (Socket.IO 3 and later).
    Four,
}

/// The parameters of a request, percent-decoded; of a name that came twice the last counts.
#[derive(Clone, Debug, Default)]
pub struct Query<'a> {
    pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Query<'a> {
    /// Reads a query string (what stands after `?`). Never fails: what does not decode stays as it is.
    pub fn parse(query: &'a str) -> Self {
        let _ = query;
        todo!()
    }

    /// The last value of a parameter.
    pub fn value(&self, name: &str) -> Option<&str> {
        let _ = (name, &self.pairs);
        todo!()
    }

    /// All parameters in order, repeated ones as often as they came.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }

    /// `EIO`.
    pub fn revision(&self) -> Revision {
        todo!()
    }

    /// `transport`, where it names one of ours.
    pub fn transport(&self) -> Option<Transport> {
        todo!()
    }

    /// `sid`; an empty one is none.
    pub fn sid(&self) -> Option<&str> {
        todo!()
    }
}
