//! The way into a shard: its messages, and the bound on what waits there. Knows nothing of what the shard does with them.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::{fmt, io};

use bytes::Bytes;
use hub::codes::ErrorCode;
use hub::emission::{Emission, Except, Payload, Sending, Target};
use hub::names::{EventName, NamespaceId, RoomName, SocketId, UserId};
use hub::rooms::SocketKey;
use hub::rules::{KindId, Reply};
use rustix::event::EventfdFlags;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::acceptor::Listener;
use crate::auth::Verdict;
use crate::embed;
use crate::fanout::{Done, Event};
use crate::shard::poll::{Adopted, PollRequest};
use crate::upstream::Failure;

/// Events that may wait in one inbox, in bytes of payload. At the bound sources wait and clients are told `busy`.
pub const INBOX_MAX_BYTES: usize = 64 * 1024 * 1024;

/// What an event costs in an inbox beside its payload.
const EVENT_OVERHEAD_BYTES: usize = 256;

/// An inbox has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// Names a connection of a shard; stale once its generation is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectionKey {
    /// The connection's slot.
    pub slot: u32,
    /// How often the slot had been used before.
    pub generation: u32,
}

/// What reaches a shard from outside.
pub enum Message {
    /// An event for some of the shard's sockets.
    Event(Arc<Event>),
    /// What to accept connections from.
    Listen(Listener),
    /// A TCP connection that another shard accepted, which had taken its share.
    Accepted(std::net::TcpStream, SocketAddr),
    /// A TCP connection by which another node passes on what a client at this address sends it.
    Passed(std::net::TcpStream, IpAddr),
    /// A polling request for a session of this shard.
    Poll(PollRequest),
    /// A WebSocket whose handshake is over.
    Adopt(Box<Adopted>),
    /// The verdict on a token.
    Authenticated {
        /// Whose.
        connection: ConnectionKey,
        /// For which namespace it asked to be let in, or refreshed its token.
        namespace: NamespaceId,
        /// The verdict.
        verdict: Verdict,
    },
    /// Whether the program lets a client in.
    Admitted {
        /// Whom.
        connection: ConnectionKey,
        /// Into which namespace.
        namespace: NamespaceId,
        /// What it says.
        verdict: Result<(), embed::Refused>,
    },
    /// What a command waited for.
    Resume {
        /// Which wait it answers; an answer to an older one is dropped.
        ticket: u32,
        /// The answer.
        reply: Reply,
    },
    /// What a service says of a room's latest value.
    Snapshot {
        /// In which namespace.
        namespace: NamespaceId,
        /// Of which room.
        room: RoomName,
        /// Which question it answers.
        ticket: u32,
        /// The answer.
        reply: Result<Bytes, Failure>,
    },
    /// A newer connection of the same user took this one's place.
    Replaced(ConnectionKey),
    /// No other node has told that a user is in this room, where a socket of the user's is.
    UserEntered {
        /// In which namespace.
        namespace: NamespaceId,
        /// Which room.
        room: RoomName,
        /// The socket.
        key: SocketKey,
        /// Its public id: another may have its key meanwhile.
        socket: SocketId,
    },
    /// Others were told that everybody here is gone: it is to be told once more who is in which room.
    TellAnew,
    /// A question about what the shard holds.
    Query(Query),
    /// Close the shard's connections at a steady pace over this time, take no new ones.
    Drain {
        /// Over how long.
        spread_ms: u64,
    },
    /// The thread ends, and every connection that is left with it.
    End,
}

/// A question to a shard; the answer goes to the sender within.
pub enum Query {
    /// Every room with its members' number; a room that a socket has to itself is not among them.
    Rooms(oneshot::Sender<Vec<(NamespaceId, RoomName, usize)>>),
    /// The members of a room.
    Room(NamespaceId, RoomName, oneshot::Sender<Vec<Member>>),
    /// The shard's numbers.
    Numbers(oneshot::Sender<Numbers>),
    /// The users with a socket here, each once for each socket.
    Users(oneshot::Sender<Vec<UserId>>),
    /// The number of sockets in a namespace.
    InNamespace(NamespaceId, oneshot::Sender<usize>),
    /// The rooms of a kind, and the number of sockets in them, each counted once.
    OfKind(KindId, oneshot::Sender<(Vec<(NamespaceId, RoomName)>, usize)>),
    /// The program's sockets that an emission would go to.
    Sockets {
        /// Of which namespace.
        namespace: NamespaceId,
        /// Which of it.
        target: Target,
        /// Which not.
        except: Except,
        /// The answer.
        reply: oneshot::Sender<Vec<embed::Socket>>,
    },
    /// What is known of the sockets that an emission would go to.
    Describe {
        /// Of which namespace.
        namespace: NamespaceId,
        /// Which of it.
        target: Target,
        /// Which not.
        except: Except,
        /// The answer.
        reply: oneshot::Sender<Vec<Described>>,
    },
    /// The sockets that an emission would go to do something; answers how many these were.
    Order {
        /// Of which namespace.
        namespace: NamespaceId,
        /// Which of it.
        target: Target,
        /// Which not.
        except: Except,
        /// What they do.
        order: Order,
        /// The answer.
        reply: oneshot::Sender<usize>,
    },
    /// Disconnect for good (a Socket.IO disconnect packet; close code 1000 for plain connections); answers the number of connections.
    Disconnect(Whom, oneshot::Sender<usize>),
}

/// What is known of a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Its public id.
    pub socket_id: SocketId,
    /// Who it is, unless anonymous.
    pub user_id: Option<UserId>,
    /// The named rooms that it is in.
    pub rooms: Vec<RoomName>,
}

/// What sockets are told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Enter these rooms, whatever their rules say to clients.
    Join(Vec<RoomName>),
    /// Leave these rooms.
    Leave(Vec<RoomName>),
    /// Leave the namespace for good.
    Disconnect {
        /// And every other, and the connection with it.
        close: bool,
    },
}

/// What a program does with one of its clients.
#[derive(Debug)]
pub struct Deed {
    /// With which connection.
    pub connection: ConnectionKey,
    /// With which socket of it; `None` below Socket.IO.
    pub socket: Option<(NamespaceId, SocketId)>,
    /// What.
    pub act: Act,
}

/// What a program does.
#[derive(Debug)]
pub enum Act {
    /// Sends an event.
    Emit {
        /// Its name.
        event: EventName,
        /// Its arguments.
        payload: Payload,
        /// How.
        sending: Sending,
    },
    /// Sends an event to others; the `Done` fires when it is with all of them.
    Broadcast(Emission, Option<Done>),
    /// Answers an event.
    Answer {
        /// Its number.
        ack: u64,
        /// The answer.
        payload: Payload,
    },
    /// Says what went wrong, in the answer to an event or by itself.
    Fail {
        /// The event's number.
        ack: Option<u64>,
        /// The code.
        code: ErrorCode,
        /// The sentence.
        message: String,
    },
    /// Puts it into a room.
    Join(RoomName),
    /// Takes it out of a room.
    Leave(RoomName),
    /// Asks for its rooms.
    Rooms(oneshot::Sender<Vec<RoomName>>),
    /// Ends its stay for good.
    Disconnect {
        /// In every namespace, and the connection with it.
        close: bool,
    },
    /// Sends a message, below Socket.IO.
    Message(embed::Message),
    /// Ends the connection, below Socket.IO.
    Close,
}

impl Act {
    /// What it holds, in bytes; `None` for what is let in however full it is, since it frees or is small and answers for itself.
    fn size(&self) -> Option<usize> {
        match self {
            Self::Emit { payload, .. } | Self::Answer { payload, .. } => Some(payload.size()),
            Self::Broadcast(emission, _) => Some(emission.payload.size()),
            Self::Fail { message, .. } => Some(message.len()),
            Self::Message(embed::Message::Text(text)) => Some(text.len()),
            Self::Message(embed::Message::Binary(data)) => Some(data.len()),
            Self::Join(_) | Self::Leave(_) => Some(0),
            Self::Rooms(_) | Self::Disconnect { .. } | Self::Close => None,
        }
    }
}

/// Whom to disconnect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whom {
    /// Every connection of a user, by the text of the id.
    User(String),
    /// One socket.
    Socket(SocketId),
}

/// A member of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The socket's public id.
    pub socket_id: SocketId,
    /// Who it is, unless anonymous.
    pub user_id: Option<UserId>,
}

/// A shard's numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Open connections.
    pub connections: usize,
    /// Sockets, one for each namespace of a connection.
    pub sockets: usize,
    /// Bytes waiting for blocked clients.
    pub queued_bytes: usize,
    /// Connections that a drain has yet to close.
    pub to_drain: usize,
    /// After that: sessions on polling that are closed, and whose clients are to hear of it with their next poll.
    pub farewells: usize,
}

/// The sending side of a shard's inbox. Cheap to clone.
#[derive(Clone)]
pub struct Inbox {
    sender: mpsc::UnboundedSender<Message>,
    deeds: mpsc::UnboundedSender<Deed>,
    room: Arc<Room>,
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("used", &self.room.used).finish_non_exhaustive()
    }
}

struct Room {
    used: AtomicUsize,
    freed: Notify,
    bell: Bell,
}

/// Wakes a shard that sleeps in its own epoll set, where its runtime would not notice what comes.
#[derive(Default)]
struct Bell {
    /// The shard sleeps, or is about to.
    listens: AtomicBool,
    /// What it watches in its sleep: an eventfd, made by the shard.
    event: OnceLock<OwnedFd>,
}

impl Bell {
    /// For the sender, after it has put something in. It and the shard each write first and look second, so that one of them sees the other.
    fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.listens.load(Ordering::Relaxed)
            && self.listens.swap(false, Ordering::Relaxed)
            && let Some(event) = self.event.get()
        {
            // It can fail only where a ring is pending already.
            let _ = rustix::io::write(event, &1_u64.to_ne_bytes());
        }
    }
}

/// The receiving side.
pub struct Receiver {
    receiver: mpsc::UnboundedReceiver<Message>,
    deeds: mpsc::UnboundedReceiver<Deed>,
    room: Arc<Room>,
}

/// What comes out of an inbox.
pub enum Next {
    /// A message.
    Message(Message),
    /// Something to do for the program.
    Deed(Deed),
    /// Nothing, ever again.
    None,
}

/// A new inbox.
pub fn inbox() -> (Inbox, Receiver) {
    // The channel itself has no bound: events are bounded in bytes by `Room`, all else by the number of connections
    // (a connection has at most one message of each kind under way). The program's deeds come by a channel of their own, bounded in
    // bytes by the same `Room`, so that those of a handler can be carried out as soon as it has run.
    let (sender, receiver) = mpsc::unbounded_channel();
    let (deeds, to_do) = mpsc::unbounded_channel();
    let room = Arc::new(Room { used: AtomicUsize::new(0), freed: Notify::new(), bell: Bell::default() });
    (Inbox { sender, deeds, room: room.clone() }, Receiver { receiver, deeds: to_do, room })
}

fn event_cost(event: &Event) -> usize {
    event.emission.payload.size() + EVENT_OVERHEAD_BYTES
}

impl Inbox {
    /// Puts a message in, whatever waits there already. Events come by [`put`](Self::put).
    pub fn send(&self, message: Message) {
        // A shard that is gone means that the process is ending; its messages have no one to go to.
        let _ = self.sender.send(message);
        self.wake();
    }

    /// Puts an event in, whatever waits there already; the shard is [woken](Self::wake) afterwards.
    pub fn put(&self, event: Arc<Event>) {
        self.room.used.fetch_add(event_cost(&event), Ordering::AcqRel);
        let _ = self.sender.send(Message::Event(event));
    }

    /// Wakes the shard, if it sleeps.
    pub fn wake(&self) {
        self.room.bell.ring();
    }

    /// Has the shard do something with a client of the program's, after what it was given to do before.
    ///
    /// # Errors
    /// The bound is reached, and this would add to what waits.
    pub fn act(&self, deed: Deed) -> Result<(), Full> {
        if let Some(bytes) = deed.act.size() {
            if self.is_full() {
                return Err(Full);
            }
            self.room.used.fetch_add(bytes + EVENT_OVERHEAD_BYTES, Ordering::AcqRel);
        }
        self.hand_over(deed);
        Ok(())
    }

    /// The same, as soon as there is room.
    pub async fn deliver_act(&self, deed: Deed) {
        self.until_room().await;
        if let Some(bytes) = deed.act.size() {
            self.room.used.fetch_add(bytes + EVENT_OVERHEAD_BYTES, Ordering::AcqRel);
        }
        self.hand_over(deed);
    }

    fn hand_over(&self, deed: Deed) {
        let _ = self.deeds.send(deed);
        self.wake();
    }

    /// Waits while the bound is reached.
    pub async fn until_room(&self) {
        loop {
            let freed = self.room.freed.notified();
            if !self.is_full() {
                return;
            }
            freed.await;
        }
    }

    /// Whether the bound is reached. An inbox whose shard is gone is never full: what is put in is dropped.
    pub fn is_full(&self) -> bool {
        self.used_bytes() >= INBOX_MAX_BYTES && !self.sender.is_closed()
    }

    /// What waits, in bytes.
    pub fn used_bytes(&self) -> usize {
        self.room.used.load(Ordering::Relaxed)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.receiver.close();
        self.room.freed.notify_waiters();
    }
}

impl Receiver {
    /// The next message that is there already.
    pub fn try_recv(&mut self) -> Option<Message> {
        self.receiver.try_recv().ok()
    }

    /// The descriptor that is readable, once, for each time that something comes while the shard [sleeps](Self::fall_asleep).
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn bell(&self) -> io::Result<&OwnedFd> {
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(self.room.bell.event.get_or_init(|| event))
    }

    /// Has the bell rung for what comes from now on. Returns whether nothing is there already, so that the shard may sleep.
    pub fn fall_asleep(&self) -> bool {
        self.room.bell.listens.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.receiver.is_empty() && self.deeds.is_empty()
    }

    /// The shard looks for itself again.
    pub fn wake_up(&self) {
        self.room.bell.listens.store(false, Ordering::Relaxed);
    }

    /// The next deed that is there already.
    pub fn try_next_deed(&mut self) -> Option<Deed> {
        let deed = self.deeds.try_recv().ok()?;
        self.done_with(&deed);
        Some(deed)
    }

    /// Waits for the next message or deed.
    pub async fn recv(&mut self) -> Next {
        tokio::select! {
            biased;
            message = self.receiver.recv() => message.map_or(Next::None, Next::Message),
            deed = self.deeds.recv() => match deed {
                Some(deed) => {
                    self.done_with(&deed);
                    Next::Deed(deed)
                }
                None => Next::None,
            },
        }
    }

    fn done_with(&self, deed: &Deed) {
        if let Some(bytes) = deed.act.size() {
            self.free(bytes + EVENT_OVERHEAD_BYTES);
        }
    }

    /// The event waits no longer: its bytes are free for others. An event counts until then, wherever in the shard it waits.
    pub fn release(&self, event: &Event) {
        self.free(event_cost(event));
    }

    fn free(&self, cost: usize) {
        let before = self.room.used.fetch_sub(cost, Ordering::AcqRel);
        if before >= INBOX_MAX_BYTES {
            self.room.freed.notify_waiters();
        }
    }
}
