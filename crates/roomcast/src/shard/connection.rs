//! The cold side of a connection: everything that is not touched by a fan-out. Data and small questions about it, no IO.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use hub::names::NamespaceId;
use hub::profile::Envelope;
use smallvec::SmallVec;
use tokio::sync::oneshot;
use wire::engine::Phase;

use super::front::Seat;
use super::ids::SessionId;
use super::inbox::ConnectionKey;
use super::outbox::Outbox;
use super::poll::{Beginning, Handshake, PollReply};
use super::transport::Tls;
use crate::auth::Identity;
use crate::embed;

/// One connection of the shard.
pub struct Connection {
    /// What it speaks.
    pub protocol: Protocol,
    /// The WebSocket side of its bytes.
    pub parser: wire::ws::Parser,
    /// TLS over its socket.
    pub tls: Option<Tls>,
    /// What waits while its socket is full.
    pub outbox: Option<Box<Outbox>>,
    /// Who the client said it is when it came.
    pub handshake: Box<Handshake>,
    /// Where it is.
    pub address: IpAddr,
    /// Its place among the connections of this node, where they are limited.
    pub seat: Option<Seat>,
    /// Which endpoint of the profile it came to.
    pub endpoint: usize,
    /// Namespaces whose token is being looked at, or on which the program decides.
    pub pending: SmallVec<[Pending; 1]>,
    /// Answers that the client owes.
    pub owed: Option<Box<Owed>>,
    /// The connection as the program has it, where it speaks nothing above Engine.IO or WebSocket.
    pub program: Option<embed::Connection>,
    /// The earliest entry of it in the wheel.
    pub armed_ms: u64,
    /// Bytes that were read and wait for their turn; at most one read's.
    pub unfed: Option<Box<[u8]>>,
    /// It waits among those that have more to read.
    pub is_unread: bool,
    /// The client has ended its side of the socket: it is to be read to its end.
    pub ended: bool,
    /// How fast it may send.
    pub bucket: Bucket,
    /// How many errors it may cause.
    pub errors: Bucket,
    /// A message has begun to come in: until when it must be whole.
    pub message_until_ms: Option<u64>,
    /// The close frame is out, or will be with what is queued: until when to wait for the client's.
    pub closing_until_ms: Option<u64>,
}

/// Answers that a client owes, by namespace and number.
#[derive(Debug, Default)]
pub struct Owed(pub Vec<(NamespaceId, u64)>);

/// Something that is being decided about a client and a namespace.
pub struct Pending {
    /// The namespace.
    pub namespace: NamespaceId,
    /// What is being decided.
    pub purpose: Purpose,
    /// What the client sent with its request, where the program will look at it.
    pub auth: Option<Box<str>>,
}

/// What is being decided.
pub enum Purpose {
    /// By its token: whether to let the client into the namespace.
    Enter,
    /// By the program: the same, once the token was found good.
    Admit(Box<(Identity, Arc<embed::Handshake>)>),
    /// Whether to renew its token in place; the acknowledgement that the client asked for.
    Refresh(Option<u64>),
}

impl Connection {
    /// Whether nothing more can be said on it.
    pub fn is_over(&self) -> bool {
        self.closing_until_ms.is_some()
            || match &self.protocol {
                Protocol::SocketIo(io) => matches!(io.session.phase(), Phase::Closing | Phase::Closed),
                Protocol::Json(_) | Protocol::Probe(_) | Protocol::Greeting { .. } => false,
            }
    }

    /// Whether its client, who polls, is to hear with the next poll that it is over.
    pub fn owes_farewell(&self) -> bool {
        match &self.protocol {
            Protocol::SocketIo(io) => io.session.phase() == Phase::Closing,
            Protocol::Json(_) | Protocol::Probe(_) | Protocol::Greeting { .. } => false,
        }
    }

    /// Whether a client whose frames do not go straight to its socket takes one at once all the same: a poll of it waits, or only TLS stands
    /// in between.
    pub fn takes_at_once(&self) -> bool {
        let poll_waits = match &self.protocol {
            Protocol::SocketIo(io) => io.waiting_get.is_some(),
            Protocol::Json(_) | Protocol::Probe(_) | Protocol::Greeting { .. } => false,
        };
        poll_waits || (self.tls.is_some() && self.outbox.is_none())
    }
}

/// What a connection speaks.
pub enum Protocol {
    /// Socket.IO over Engine.IO.
    SocketIo(Box<SocketIo>),
    /// JSON messages on a plain WebSocket.
    Json(Json),
    /// A WebSocket that may take over a polling session.
    Probe(ConnectionKey),
    /// Nothing came yet that would say.
    Greeting {
        /// The other end of the TCP connection.
        peer: SocketAddr,
        /// Until when something must have come.
        until_ms: u64,
        /// A handshake came, and waits for its turn.
        waiting: Option<Box<Waiting>>,
    },
}

/// A handshake that is agreed upon and waits for its turn.
pub struct Waiting {
    /// The answer to it.
    pub response: Bytes,
    /// How the connection begins then.
    pub beginning: Beginning,
    /// The handshake itself, for HTTP, should it be refused when its turn comes.
    pub head: Bytes,
    /// There may be more in the socket.
    pub more: bool,
}

/// The state of a Socket.IO connection.
pub struct SocketIo {
    /// Its Engine.IO session.
    pub session: wire::engine::Session,
    /// Packets with attachments under way.
    pub decoder: wire::socketio::Decoder,
    /// The session's id.
    pub sid: SessionId,
    /// The GET that waits for packets.
    pub waiting_get: Option<oneshot::Sender<PollReply>>,
    /// The POST whose body is still arriving: what breaks it off.
    pub arriving_post: Option<oneshot::Sender<()>>,
    /// The WebSocket that may take the session over.
    pub probe: Option<ConnectionKey>,
    /// When the first packet of a session that began on a WebSocket is to go out, where that waits.
    pub opens_at_ms: Option<u64>,
    /// Until when the client must have entered a namespace.
    pub enter_until_ms: Option<u64>,
    /// When it gets the event of the heartbeat next; never, where there is none.
    pub next_beat_ms: u64,
}

/// The state of a plain connection.
pub struct Json {
    /// Where the fields of a message stand.
    pub envelope: Envelope,
    /// The namespace that its path stands for.
    pub namespace: NamespaceId,
    /// When it is pinged next.
    pub next_ping_ms: u64,
    /// When anything came from it last.
    pub heard_ms: u64,
}

/// A token bucket: as many messages as a minute allows at once, then as they drip in.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bucket {
    /// Messages above zero, in thousandths; refilled over time.
    level_milli: i64,
    filled_ms: u64,
}

/// What a bucket says of one more message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// Let it pass.
    Within,
    /// Refuse it.
    Over,
    /// Ten times over the limit: end the connection.
    Abuse,
}

impl Bucket {
    /// A full bucket.
    pub fn full(per_minute: u32, now_ms: u64) -> Self {
        Self { level_milli: i64::from(per_minute) * 1000, filled_ms: now_ms }
    }

    /// Takes one message out.
    pub fn take(&mut self, per_minute: u32, now_ms: u64) -> Rate {
        let capacity = i64::from(per_minute) * 1000;
        let dripped = (now_ms - self.filled_ms).min(3_600_000) as i64 * i64::from(per_minute) / 60;
        self.level_milli = (self.level_milli + dripped).min(capacity) - 1000;
        self.filled_ms = now_ms;
        if self.level_milli >= 0 {
            Rate::Within
        } else if self.level_milli >= -9 * capacity {
            Rate::Over
        } else {
            Rate::Abuse
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_minute_then_drips_then_ends() {
        let mut bucket = Bucket::full(60, 0);
        assert!((0..60).all(|_| bucket.take(60, 0) == Rate::Within));
        assert_eq!(bucket.take(60, 0), Rate::Over);
        assert_eq!(bucket.take(60, 2_000), Rate::Within, "one message a second drips in");
        let mut bucket = Bucket::full(60, 0);
        let rates: Vec<Rate> = (0..601).map(|_| bucket.take(60, 0)).collect();
        assert_eq!((rates[599], rates[600]), (Rate::Over, Rate::Abuse));
    }
}
