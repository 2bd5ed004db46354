//! What documents tell of everybody: users, rooms, and how many there are. Each costs a walk over all sockets or rooms, and documents are open
//! to strangers: so there is one walk at a time, and where there are many to walk over, here or on other nodes, what it found is good for a second, or
//! for ten times as long as it took. Knows no HTTP.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hub::names::NamespaceId;
use hub::rules::KindId;
use serde_json::{Map, Value};
use tokio::sync::Mutex;

use super::documents::ROOMS_NAMED_MAX;
use crate::gateway::Gateway;

/// Sockets and rooms together that are walked over for each who asks.
const FEW: i64 = 1_000;

/// How long it is good at least what a walk over more of them found.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// How many times as long as the walk took.
const GOOD_FOR_WALKS: u32 = 10;

/// A walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Walk {
    /// The users who are online.
    Users,
    /// The rooms of all namespaces, each with the number of its members; the text names [`ROOMS_NAMED_MAX`] of them.
    Rooms,
    /// The sockets in a namespace.
    Sockets(NamespaceId),
    /// The rooms of a kind.
    RoomsOf(KindId),
    /// The sockets in rooms of a kind, each counted once.
    MembersOf(KindId),
}

/// What a walk found.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) count: usize,
    /// As JSON; `null` where they are only counted.
    pub(super) all: Arc<str>,
}

/// What was found lately, and until when it is good.
type Lately = HashMap<Walk, (Instant, Found)>;

/// What walks found lately. Bound: the walks that a profile's documents ask for.
#[derive(Debug, Default)]
pub(super) struct Census(Mutex<Lately>);

impl Census {
    /// Walks, unless that was done lately.
    pub(super) async fn ask(&self, gateway: &Gateway, walk: Walk, now: Instant) -> Found {
        let mut lately = self.0.lock().await;
        if let Some((until, found)) = lately.get(&walk)
            && now < *until
        {
            return found.clone();
        }
        let began = Instant::now();
        let found = go(gateway, walk).await;
        let rooms = i64::try_from(gateway.publisher.interest().rooms()).unwrap_or(i64::MAX);
        let here = gateway.metrics.sockets.get().saturating_add(rooms);
        if here > FEW || i64::try_from(found.count).unwrap_or(i64::MAX) > FEW {
            let good_for = GOOD_FOR.max(began.elapsed() * GOOD_FOR_WALKS);
            lately.insert(walk, (now + good_for, found.clone()));
        } else {
            lately.remove(&walk);
        }
        found
    }
}

async fn go(gateway: &Gateway, walk: Walk) -> Found {
    let counted = |count| Found { count, all: Arc::from("null") };
    match walk {
        Walk::Users => {
            let users = gateway.users().await;
            let all: Value = users.iter().map(|user| Value::from(user.as_str())).collect();
            Found { count: users.len(), all: all.to_string().into() }
        }
        Walk::Rooms => {
            let rooms = gateway.rooms(&gateway.profile.rules.namespace_ids()).await;
            let count = rooms.len();
            let named = rooms.into_iter().take(ROOMS_NAMED_MAX);
            let all: Map<String, Value> = named.map(|(name, members)| (name, Value::from(members))).collect();
            Found { count, all: Value::from(all).to_string().into() }
        }
        Walk::Sockets(namespace) => counted(gateway.sockets_in(namespace).await),
        Walk::RoomsOf(kind) => counted(gateway.of_kind(kind).await.0),
        Walk::MembersOf(kind) => counted(gateway.of_kind(kind).await.1),
    }
}
