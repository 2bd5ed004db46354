//! The nodes of the cluster that are alive, as this one knows them: each by its id, with the address at which the others reach it. Kept by the
//! directory, which looks every second; asking costs nothing.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::shard::ids::NodeId;

/// How long a look may take that somebody waits for.
const LOOK_MAX: Duration = Duration::from_secs(2);

/// A node that is alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeInfo {
    /// Its id, as its sessions' ids name it.
    pub id: NodeId,
    /// Its name in the directory: the id, and how often it has entered itself there.
    pub name: String,
    /// Where it takes what other nodes pass on; `None` where it takes nothing.
    pub address: Option<SocketAddr>,
}

/// The nodes that are alive, this one included. Cheap to clone.
#[derive(Clone)]
pub struct Nodes(Arc<Inner>);

struct Inner {
    own: NodeId,
    address: RwLock<Option<SocketAddr>>,
    known: RwLock<Known>,
    /// Rung by whoever wants to know now.
    wanted: Notify,
    /// How many looks were taken.
    looks: watch::Sender<u64>,
}

#[derive(Default)]
struct Known {
    by_id: HashMap<NodeId, Arc<NodeInfo>>,
    secret: Option<Arc<str>>,
}

impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nodes").field("own", &self.0.own).finish_non_exhaustive()
    }
}

impl Nodes {
    /// Nobody is known yet.
    pub fn new(own: NodeId) -> Self {
        let inner = Inner {
            own,
            address: RwLock::default(),
            known: RwLock::default(),
            wanted: Notify::new(),
            looks: watch::Sender::new(0),
        };
        Self(Arc::new(inner))
    }

    /// This node's id.
    pub fn own(&self) -> NodeId {
        self.0.own
    }

    /// Where the others reach this node; told to them when it enters itself.
    pub fn set_address(&self, address: SocketAddr) {
        *self.0.address.write() = Some(address);
        self.0.wanted.notify_one();
    }

    pub(super) fn address(&self) -> Option<SocketAddr> {
        *self.0.address.read()
    }

    /// A node that is alive, by what the last look saw.
    pub fn find(&self, id: NodeId) -> Option<Arc<NodeInfo>> {
        self.0.known.read().by_id.get(&id).cloned()
    }

    /// The same, with a look now where the node is not known: it may have come a moment ago.
    pub async fn look_up(&self, id: NodeId) -> Option<Arc<NodeInfo>> {
        if let Some(found) = self.find(id) {
            return Some(found);
        }
        let mut looks = self.0.looks.subscribe();
        // One that is under way may have begun too early.
        let enough = *looks.borrow_and_update() + 2;
        let _ = timeout(LOOK_MAX, async {
            while *looks.borrow_and_update() < enough && self.find(id).is_none() {
                // Before each wait: the look that was wanted last may be over already.
                self.0.wanted.notify_one();
                if looks.changed().await.is_err() {
                    return;
                }
            }
        })
        .await;
        self.find(id)
    }

    /// What all nodes of the cluster know, and nobody else who cannot read its Redis.
    pub fn secret(&self) -> Option<Arc<str>> {
        self.0.known.read().secret.clone()
    }

    /// The names of those that are alive.
    pub(super) fn names(&self) -> Vec<String> {
        self.0.known.read().by_id.values().map(|node| node.name.clone()).collect()
    }

    /// How many are alive.
    pub(super) fn count(&self) -> usize {
        self.0.known.read().by_id.len()
    }

    /// A look was taken.
    pub(super) fn seen(&self, alive: Vec<NodeInfo>, secret: String) {
        {
            let mut known = self.0.known.write();
            known.by_id = alive.into_iter().map(|node| (node.id, Arc::new(node))).collect();
            if known.secret.as_deref() != Some(&secret) {
                known.secret = Some(secret.into());
            }
        }
        self.0.looks.send_modify(|looks| *looks += 1);
    }

    /// Waits until somebody wants a look.
    pub(super) async fn wanted(&self) {
        self.0.wanted.notified().await;
    }

    /// Has a look taken now.
    pub(super) fn look_now(&self) {
        self.0.wanted.notify_one();
    }
}

impl NodeId {
    /// As text: six hexadecimal digits.
    pub(super) fn text(self) -> String {
        let Self([a, b, c]) = self;
        format!("{a:02x}{b:02x}{c:02x}")
    }

    /// The node that a name in the directory is of.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        let (id, _) = name.split_once('.')?;
        let is_id = id.len() == 6 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u32::from_str_radix(id, 16).ok().filter(|_| is_id)?;
        let [_, a, b, c] = number.to_be_bytes();
        Some(Self([a, b, c]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_whose_it_is() {
        let id = NodeId([1, 171, 255]);
        assert_eq!(id.text(), "01abff");
        assert_eq!(NodeId::of_name("01abff.7"), Some(id));
        for name in ["01abff", "1abff.7", "01abfg.7", ".7", "+1abff.7"] {
            assert_eq!(NodeId::of_name(name), None, "{name}");
        }
    }

    #[tokio::test]
    async fn who_came_a_moment_ago_is_found() {
        let nodes = Nodes::new(NodeId([0; 3]));
        let other = NodeInfo { id: NodeId([1; 3]), name: "010101.0".to_owned(), address: None };
        let looking = async {
            for alive in [vec![], vec![], vec![other.clone()]] {
                nodes.wanted().await;
                nodes.seen(alive, "secret".to_owned());
            }
            std::future::pending::<()>().await;
        };
        let found = tokio::select! {
            found = async { (nodes.look_up(NodeId([2; 3])).await, nodes.look_up(other.id).await) } => found,
            () = looking => unreachable!("it looks for ever"),
        };
        assert_eq!(found, (None, Some(Arc::new(other))));
        assert_eq!((nodes.names(), nodes.secret().as_deref()), (vec!["010101.0".to_owned()], Some("secret")));
    }
}
