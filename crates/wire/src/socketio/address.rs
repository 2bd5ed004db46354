//! Where a packet of Socket.IO 4 goes: its clients may write a query behind the namespace, in which they say who they are.
//! In Socket.IO 5 a namespace is taken as it stands. Knows no namespaces.

/// A namespace as a client of Socket.IO 4 writes it: `/custom?token=1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// What stands behind its `?`.
    pub query: Option<&'a str>,
}

impl<'a> Address<'a> {
    /// Takes a namespace apart.
    pub fn of(text: &'a str) -> Self {
        match text.split_once('?') {
            Some((namespace, query)) => Self { namespace, query: Some(query) },
            None => Self { namespace: text, query: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_may_stand_behind_a_namespace() {
        let check = |text, namespace, query| assert_eq!(Address::of(text), Address { namespace, query });
        check("/", "/", None);
        check("/custom", "/custom", None);
        check("/custom?token=1&a=?", "/custom", Some("token=1&a=?"));
        check("/custom?", "/custom", Some(""));
    }
}
