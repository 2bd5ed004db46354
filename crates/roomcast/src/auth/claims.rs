//! From the claims of a token to a user. Knows nothing of signatures.

use std::sync::Arc;

use hub::names::UserId;

/// Who a socket belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The user's id; `None` for an anonymous one.
    pub id: Option<UserId>,
    /// The claims as a JSON object, with `id`, `email` and `role` as found, or null.
    pub claims: Arc<str>,
}
