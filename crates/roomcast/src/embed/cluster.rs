//! What a program does with sockets on whichever nodes they are: finds them, puts them into rooms, sends them away. As Socket.IO's server does it.

use hub::emission::{Except, Target};
use hub::names::{NamespaceId, RoomName};
use serde_json::json;

use super::broadcast::Broadcast;
use super::socket::{Error, room_name};
use crate::cluster::{Whose, scope};
use crate::shard::inbox::{Described, Order, Query};

/// A socket on one of the nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundSocket {
    /// Its public id.
    pub id: String,
    /// The rooms that it is in; that of its own id is among them.
    pub rooms: Vec<String>,
    /// JSON: what its server says of it; `{"userId":…}` of a gateway.
    pub data: String,
}

/// The sockets that were found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// They, those of this node first.
    pub sockets: Vec<FoundSocket>,
    /// Whose are missing, in words, where not all other nodes answered within five seconds.
    pub missing: Option<String>,
}

impl Broadcast {
    /// The sockets that an event would go to now, on all nodes. In a namespace that was opened by pattern they are those of this node.
    ///
    /// # Errors
    /// A name is no good.
    pub async fn fetch_sockets(&self) -> Result<Found, Error> {
        self.settled().await;
        let Some((namespace, target, except)) = self.audience()? else { return Ok(Found::default()) };
        let gateway = self.gateway();
        let describe = |reply| Query::Describe { namespace, target: target.clone(), except: except.clone(), reply };
        let here = gateway.ask(describe).await.concat();
        let mut found = Found { sockets: here.iter().map(FoundSocket::here).collect(), missing: None };
        if let Some(bus) = gateway.publisher.bus_of(namespace) {
            let asked = bus.fetch_sockets(namespace, scope(&target, &except), Whose::Everybodys).await;
            let elsewhere = asked.unwrap_or_else(|unanswered| {
                found.missing = Some(unanswered.to_string());
                unanswered.so_far
            });
            let sockets = elsewhere.into_iter();
            found.sockets.extend(sockets.map(|it| FoundSocket { id: it.id, rooms: it.rooms, data: it.data }));
        }
        Ok(found)
    }

    /// Puts those whom an event would go to into a room, on all nodes; how many these are on this one.
    ///
    /// # Errors
    /// A name is no good.
    pub async fn sockets_join(&self, room: &str) -> Result<usize, Error> {
        self.order(Order::Join(vec![room_name(room)?])).await
    }

    /// Takes those whom an event would go to out of a room, on all nodes; how many these are on this one.
    ///
    /// # Errors
    /// A name is no good.
    pub async fn sockets_leave(&self, room: &str) -> Result<usize, Error> {
        self.order(Order::Leave(vec![room_name(room)?])).await
    }

    /// Ends the stay in the namespace, for good, of those whom an event would go to, on all nodes; how many these are on this one. `close`: with their connections.
    ///
    /// # Errors
    /// A name is no good.
    pub async fn disconnect_sockets(&self, close: bool) -> Result<usize, Error> {
        self.order(Order::Disconnect { close }).await
    }

    async fn order(&self, order: Order) -> Result<usize, Error> {
        self.settled().await;
        let Some((namespace, target, except)) = self.audience()? else { return Ok(0) };
        Ok(self.carry_out(namespace, &target, &except, &order).await)
    }

    async fn carry_out(&self, namespace: NamespaceId, target: &Target, except: &Except, order: &Order) -> usize {
        let gateway = self.gateway();
        if let Some(bus) = gateway.publisher.bus_of(namespace) {
            bus.order(namespace, scope(target, except), order);
        }
        let query = |reply| Query::Order {
            namespace,
            target: target.clone(),
            except: except.clone(),
            order: order.clone(),
            reply,
        };
        gateway.ask(query).await.into_iter().sum()
    }
}

impl FoundSocket {
    fn here(socket: &Described) -> Self {
        let id = socket.socket_id.to_string();
        let rooms = std::iter::once(id.clone()).chain(socket.rooms.iter().map(RoomName::to_string)).collect();
        let data = json!({ "userId": socket.user_id.as_ref().map(|id| id.as_str()) }).to_string();
        Self { id, rooms, data }
    }
}
