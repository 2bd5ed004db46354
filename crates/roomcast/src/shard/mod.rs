//! A shard: one thread, its connections and the loop that drives them. Everything of a connection happens here, so that nothing needs a lock.
//!
//! This file holds the state and the loop; `read` what comes in, `deliver` the fan-out, `engine` (with `polls`) and `plain` the dialects, `enter`, `act` and
//! `leave` the life of a socket, `front` HTTP.

mod accept;
mod act;
pub mod admission;
mod answers;
pub mod client_files;
pub(crate) mod clock;
mod compress;
mod connection;
mod deliver;
mod encode;
mod engine;
mod enter;
pub mod front;
mod greet;
mod here;
pub mod ids;
pub mod inbox;
mod latest;
mod leave;
mod outbox;
pub(crate) mod patience;
mod plain;
pub mod poll;
mod polls;
mod program;
mod query;
mod read;
pub mod slots;
pub(crate) mod transport;
pub mod wheel;

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use anyhow::Context;
use hub::codes::CloseCode;
use hub::names::{NamespaceId, RoomName};
use hub::rooms::Watch;
use hub::sockets::{Moment, Output, Sockets};
use tokio::io::Interest as Readable;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::JoinError;
use wire::ws::{Deflater, Inflater};

use self::accept::Accepting;
use self::clock::Clock;
use self::connection::{Connection, Protocol};
use self::front::Front;
use self::inbox::{ConnectionKey, Inbox, Message, Next, Receiver};
use self::latest::Latest;
use self::plain::Early;
use self::slots::{Flushed, Slots};
use self::wheel::Wheel;
use crate::access::Access;
use crate::auth::Auth;
use crate::embed;
use crate::fanout::{Event, Interest};
use crate::gateway::Gateway;
use crate::namespaces::Held;
use crate::source::Publishing;
use crate::upstream::Upstreams;

/// Messages taken out of the inbox in one turn.
const INBOX_BATCH: usize = 512;

/// The longest that a shard sleeps.
const SLEEP_MAX_MS: u64 = 60_000;

/// Slots flushed before the shard looks at its sockets again: a millisecond or so.
const SLICE: usize = 256;

/// Bytes read from a socket at once.
const SCRATCH_BYTES: usize = 64 * 1024;

/// Messages of one connection that are handled before others have their turn.
const MESSAGES_PER_READ: usize = 64;

/// Errors that a connection may be told of in a minute; ten times as many end it.
const ERRORS_PER_MINUTE: u32 = 100;

/// How often a draining shard closes some of its connections.
const DRAIN_STEP_MS: u64 = 20;

/// The longest that draining waits between two connections.
const DRAIN_EACH_MAX_MS: u64 = 10;

/// What a shard needs from the rest of the process.
#[derive(Clone)]
pub struct Outside {
    /// The gateway: profile, publisher, presence, metrics.
    pub gateway: Gateway,
    /// Judges tokens.
    pub auth: Auth,
    /// Asks access services.
    pub access: Access,
    /// Calls services.
    pub upstreams: Upstreams,
    /// What the program brings along.
    pub program: Arc<embed::Program>,
    /// Publishes clients' messages to the broker.
    pub publishing: Publishing,
    /// Where futures of the above run.
    pub backend: tokio::runtime::Handle,
}

/// One shard.
struct Shard {
    index: usize,
    node: ids::NodeId,
    outside: Outside,
    own: Inbox,
    inbox: Receiver,
    clock: Clock,
    slots: Slots,
    connections: Vec<Option<Box<Connection>>>,
    open: usize,
    sockets: Sockets,
    /// The names of the namespaces that they are in.
    namespaces: Held,
    /// Those of them that are the program's, by their keys.
    program_sockets: Vec<Option<embed::Socket>>,
    /// The program's deeds are being done.
    is_doing: bool,
    /// What is under way of rooms' latest values.
    latest: Latest,
    /// What plain clients said before it was decided that they get in.
    early: HashMap<ConnectionKey, Early>,
    /// Sessions by their id.
    sessions: HashMap<ids::SessionId, u32>,
    /// Messages that were taken out of the inbox to get at the events behind them.
    aside: VecDeque<Message>,
    /// Events that are not noted yet; their bytes count in the inbox.
    events: VecDeque<Arc<Event>>,
    /// Memberships noted for them in this tick.
    noted: usize,
    /// Events of this tick: kept until everything is flushed, as dropping the last one completes it.
    in_tick: Vec<Arc<Event>>,
    /// What came of flushes in the middle of noting; empty outside of it.
    overflow: Vec<(u32, Flushed)>,
    delivered: u64,
    queued_bytes: usize,
    wheel: Wheel,
    /// Connections to be ended once nobody walks along the rooms.
    doomed: Vec<(ConnectionKey, Doom)>,
    /// Sockets with more to read than one turn takes.
    unread: VecDeque<ConnectionKey>,
    more_ready: bool,
    scratch: Vec<u8>,
    /// Compresses for all connections: none keeps a state of its own.
    deflater: Deflater,
    /// Inflates for all connections.
    inflater: Inflater,
    outputs: Vec<Output>,
    engine_outputs: Vec<wire::engine::Output>,
    /// The settings of each endpoint's sessions.
    settings: Vec<wire::engine::Settings>,
    /// What connections get with each beat, by endpoint, namespace and encoding: one for each that is in use.
    beats: Vec<((usize, NamespaceId, slots::Encoding), bytes::Bytes)>,
    /// Sessions that carry no more messages, whose sockets have to leave.
    closed: Vec<(ConnectionKey, wire::engine::CloseReason)>,
    /// Sessions that are forgotten and whose connections are to be freed.
    finished: Vec<ConnectionKey>,
    /// A probe whose socket just moved to its session's slot: its parser has to follow.
    migrated: Option<(ConnectionKey, ConnectionKey)>,
    /// Where its connections come from.
    accepting: Option<Accepting>,
    /// Handshakes that wait for their turn, and when that is; as many as [`admission`] gives places to.
    waiting: VecDeque<(u64, ConnectionKey)>,
    drain: Option<Drain>,
    /// Nobody is to stay: who comes all the same is sent on.
    is_draining: bool,
}

/// Why a connection is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doom {
    /// The socket broke.
    Broken,
    /// Its send queue is full.
    Slow,
    /// With this close code.
    Close(CloseCode),
}

/// Connections being closed at a steady pace.
struct Drain {
    keys: Vec<ConnectionKey>,
    closed: usize,
    start_ms: u64,
    spread_ms: u64,
}

/// Rooms that open and close in this shard, on their way to the interest map.
struct Watcher<'a> {
    interest: &'a Interest,
    shard: usize,
}

impl Watch for Watcher<'_> {
    fn opened(&mut self, namespace: NamespaceId, room: &RoomName) {
        self.interest.add(namespace, room, self.shard);
    }

    fn closed(&mut self, namespace: NamespaceId, room: &RoomName) {
        self.interest.remove(namespace, room, self.shard);
    }
}

/// Starts a shard's thread.
///
/// # Errors
/// No thread, no epoll set or no runtime can be had.
pub fn spawn(
    index: usize,
    outside: Outside,
    shared: Arc<front::Shared>,
    receiver: Receiver,
) -> anyhow::Result<std::thread::JoinHandle<()>> {
    let epoll = slots::epoll_set().context("cannot create an epoll set")?;
    let watched = epoll.try_clone().context("cannot watch an epoll set")?;
    let bell = receiver.bell().context("cannot make a bell")?;
    slots::watch_bell(&epoll, bell).context("cannot watch a bell")?;
    let own = shared.inboxes[index].clone();
    let node = shared.node;
    let thread = std::thread::Builder::new().name(format!("shard-{index}"));
    let (made, outcome) = std::sync::mpsc::sync_channel(1);
    let thread = thread.spawn(move || {
        // It never leaves the thread that it is made in.
        let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
            Ok(runtime) => runtime,
            Err(error) => return drop(made.send(Err(error))),
        };
        // Whoever starts the shard waits for this.
        let _ = made.send(Ok(()));
        let clock = Clock::new();
        let mut sockets = Sockets::new(outside.gateway.profile.clone());
        if outside.gateway.directory.is_some() {
            sockets.note_changes();
        }
        let namespaces = Held::new(outside.gateway.profile.clone());
        let wheel = Wheel::new(clock.now_ms());
        let profile = &outside.gateway.profile;
        let limits = &profile.limits;
        let settings = profile
            .endpoints
            .iter()
            .map(|endpoint| engine::settings(endpoint, limits.message_bytes as usize, limits.send_queue_bytes as usize))
            .collect();
        let shard = Shard {
            index,
            node,
            outside,
            own,
            inbox: receiver,
            clock,
            slots: Slots::new(epoll),
            connections: Vec::new(),
            open: 0,
            sockets,
            namespaces,
            program_sockets: Vec::new(),
            is_doing: false,
            latest: Latest::default(),
            early: HashMap::new(),
            sessions: HashMap::new(),
            aside: VecDeque::new(),
            events: VecDeque::new(),
            noted: 0,
            in_tick: Vec::new(),
            overflow: Vec::new(),
            delivered: 0,
            queued_bytes: 0,
            wheel,
            doomed: Vec::new(),
            unread: VecDeque::new(),
            more_ready: false,
            scratch: vec![0; SCRATCH_BYTES],
            deflater: Deflater::default(),
            inflater: Inflater::default(),
            outputs: Vec::new(),
            engine_outputs: Vec::new(),
            settings,
            beats: Vec::new(),
            closed: Vec::new(),
            finished: Vec::new(),
            migrated: None,
            accepting: None,
            waiting: VecDeque::new(),
            drain: None,
            is_draining: false,
        };
        let front = Rc::new(Front::new(shared, index));
        // A task among those of its requests, not the one that the runtime looks after first: what a request asks and what it is told is then
        // done in one round, without a look at descriptors in between.
        let turns = || {
            let turns = runtime.spawn_local(shard.run(front, watched));
            if let Err(panicked) = runtime.block_on(turns).map_err(JoinError::into_panic) {
                std::panic::resume_unwind(panicked);
            }
        };
        if std::panic::catch_unwind(AssertUnwindSafe(turns)).is_err() {
            tracing::error!(index, "a shard panicked, ending the process: half a gateway is worse than a restart");
            std::process::abort();
        }
    })?;
    outcome.recv().context("a shard ended as it started")?.context("cannot start a shard's runtime")?;
    Ok(thread)
}

/// Whether the runtime has told of a socket in the set since it was asked last, so that one system call looks at all of its descriptors.
async fn is_ready(epoll: &AsyncFd<OwnedFd>) -> bool {
    match futures_util::poll!(std::pin::pin!(epoll.readable())) {
        Poll::Ready(Ok(mut guard)) => {
            guard.clear_ready();
            true
        }
        Poll::Ready(Err(_)) | Poll::Pending => false,
    }
}

impl Shard {
    /// The loop: inbox, events, a slice of the flush, sockets, timers; then sleep until there is something to do.
    ///
    /// While it has requests to serve, the runtime sleeps for both: `watched` is the epoll set of the slots, readable while some socket is.
    /// Else the shard is alone in its thread and sleeps in its own epoll set, which is a system call less each time that it wakes.
    async fn run(mut self, front: Rc<Front>, watched: OwnedFd) {
        #[allow(
            deprecated,
            reason = "its successor is unsafe for descriptors that are not owned; ours is an `OwnedFd`, for which this is sound"
        )]
        let epoll = AsyncFd::with_interest(watched, Readable::READABLE).expect("the runtime watches descriptors");
        let mut ready = Vec::with_capacity(slots::READY_MAX);
        let sleep = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(sleep);
        // Whether the runtime has told of sockets that are ready, since they were looked at.
        let mut is_told = false;
        loop {
            self.clock.tick();
            for _ in 0..INBOX_BATCH {
                match self.aside.pop_front().or_else(|| self.inbox.try_recv()) {
                    Some(Message::End) => return,
                    Some(message) => self.message(message, &front),
                    None => break,
                }
            }
            let more_to_do = self.do_deeds(program::DEEDS_BATCH);
            self.deliver();
            let may_sleep = front.is_idle() && !more_to_do && !self.has_work() && self.inbox.fall_asleep();
            let wait = if may_sleep { self.until_next_look() } else { Duration::ZERO };
            self.read_unread();
            is_told |= front.is_idle() || self.more_ready || is_ready(&epoll).await;
            if std::mem::take(&mut is_told) {
                self.read_ready(wait, &mut ready, &front);
            }
            self.expire();
            self.let_in(&front);
            self.end_doomed();
            self.deliver();
            self.count();
            if front.is_idle() {
                continue;
            }
            if more_to_do || self.has_work() {
                // HTTP requests of this shard are tasks of the same runtime.
                tokio::task::yield_now().await;
                continue;
            }
            // What sleeps already may wake the shard too early, but to move it for each turn costs more.
            let next_look = (self.clock.instant(self.clock.now_ms()) + self.until_next_look()).into();
            if sleep.is_elapsed() || sleep.deadline() > next_look {
                sleep.as_mut().reset(next_look);
            }
            tokio::select! {
                biased;
                guard = epoll.readable() => {
                    if let Ok(mut guard) = guard {
                        guard.clear_ready();
                        is_told = true;
                    }
                }
                arrival = self.inbox.recv() => {
                    self.clock.tick();
                    match arrival {
                        Next::Message(Message::End) | Next::None => return,
                        Next::Message(message) => self.message(message, &front),
                        Next::Deed(deed) => self.deed(deed),
                    }
                }
                () = &mut sleep => {}
            }
        }
    }

    fn has_work(&self) -> bool {
        self.slots.is_dirty()
            || !self.aside.is_empty()
            || !self.events.is_empty()
            || !self.unread.is_empty()
            || self.more_ready
            || !self.doomed.is_empty()
            || !self.closed.is_empty()
            || !self.finished.is_empty()
            || self.is_turn_of_waiting()
    }

    /// How long nothing is to be done but what comes from outside, up to a minute.
    fn until_next_look(&self) -> Duration {
        let now = self.clock.now_ms();
        let wake = self.next_look_ms().unwrap_or(u64::MAX).min(now + SLEEP_MAX_MS);
        Duration::from_millis(wake.saturating_sub(now))
    }

    fn next_look_ms(&self) -> Option<u64> {
        let drain = self.drain.as_ref().map(|_| self.clock.now_ms() + DRAIN_STEP_MS);
        [drain, self.accepts_again_ms(), self.next_turn_ms(), self.wheel.next_look_ms()].into_iter().flatten().min()
    }

    fn message(&mut self, message: Message, front: &Rc<Front>) {
        match message {
            Message::Event(event) => self.events.push_back(event),
            Message::Listen(listener) => self.listen(listener),
            Message::Accepted(stream, peer) => self.greet(stream, peer, front),
            Message::Passed(stream, address) => front.clone().start_passed(stream, address),
            Message::Poll(request) => self.poll_request(request),
            Message::Adopt(adopted) => self.adopt(*adopted),
            Message::Authenticated { connection, namespace, verdict } => {
                if self.slots.is_current(connection) {
                    self.authenticated(connection.slot, namespace, verdict);
                }
            }
            Message::Resume { ticket, reply } => {
                self.with_sockets(|sockets, moment, watch, out| sockets.resume(ticket, reply, moment, watch, out));
            }
            Message::Snapshot { namespace, room, ticket, reply } => self.snapshot_came(namespace, room, ticket, reply),
            Message::Admitted { connection, namespace, verdict } => {
                if self.slots.is_current(connection) {
                    self.admitted(connection.slot, namespace, verdict);
                }
            }
            Message::Replaced(connection) => {
                if self.slots.is_current(connection) {
                    self.replaced(connection.slot);
                }
            }
            Message::UserEntered { namespace, room, key, socket } => self.user_entered(namespace, &room, key, socket),
            Message::TellAnew => self.tell_anew(),
            Message::Query(query) => self.answer(query),
            Message::Drain { spread_ms } => self.start_drain(spread_ms),
            // The loop ends before it comes here.
            Message::End => {}
        }
    }

    /// Lets the sockets decide something, and carries out what they decide.
    fn with_sockets<T>(
        &mut self,
        decide: impl FnOnce(&mut Sockets, &Moment<'_>, &mut dyn Watch, &mut Vec<Output>) -> T,
    ) -> T {
        let mut outputs = std::mem::take(&mut self.outputs);
        let clock = &self.clock;
        let new_id = || clock.new_id();
        let moment = Moment { now_unix_ms: clock.unix_ms(), new_id: &new_id };
        let mut watch = Watcher { interest: self.outside.gateway.publisher.interest(), shard: self.index };
        let result = decide(&mut self.sockets, &moment, &mut watch, &mut outputs);
        self.carry_out(&mut outputs);
        self.outputs = outputs;
        self.tell_directory();
        result
    }

    fn connection(&mut self, slot: u32) -> &mut Connection {
        self.connections[slot as usize].as_mut().expect("a slot in use has its connection")
    }

    /// The nearest deadline of the connection may have moved: see that the wheel knows.
    fn arm(&mut self, slot: u32) {
        let key = self.slots.key(slot);
        let Some(deadline) = self.deadline(slot) else { return };
        let connection = self.connection(slot);
        if deadline < connection.armed_ms {
            connection.armed_ms = deadline;
            self.wheel.insert(key, deadline);
        }
    }

    fn expire(&mut self) {
        let now = self.clock.now_ms();
        let mut due = Vec::new();
        self.wheel.expire(now, &mut due);
        for key in due {
            if !self.slots.is_current(key) || self.connection(key.slot).armed_ms > now {
                continue;
            }
            self.connection(key.slot).armed_ms = u64::MAX;
            self.deadline_reached(key.slot);
            if self.slots.is_current(key) {
                self.arm(key.slot);
            }
        }
        self.drain_step();
        self.accept_again();
    }

    /// A connection in a slot of its own.
    fn open(&mut self, key: ConnectionKey, connection: Connection) {
        let slot = key.slot as usize;
        if self.connections.len() <= slot {
            self.connections.resize_with(slot + 1, || None);
        }
        if !matches!(connection.protocol, Protocol::Probe(_) | Protocol::Greeting { .. }) {
            self.open += 1;
            self.outside.gateway.metrics.connections_opened.inc();
            self.outside.gateway.metrics.connections.inc();
        }
        match &mut self.connections[slot] {
            Some(greeting) => **greeting = connection,
            free => *free = Some(Box::new(connection)),
        }
        if self.is_draining {
            self.doomed.push((key, Doom::Close(CloseCode::GoingAway)));
        }
    }

    /// Ends what is doomed. Membership changes here, when nobody walks along a room.
    fn end_doomed(&mut self) {
        self.settle();
        while let Some((key, doom)) = self.doomed.pop() {
            if self.slots.is_current(key) {
                match doom {
                    Doom::Broken => self.end(key.slot, "transport close"),
                    Doom::Slow => self.cut_slow(key.slot),
                    Doom::Close(code) => self.close(key.slot, code, code.reason()),
                }
            }
        }
    }

    fn start_drain(&mut self, spread_ms: u64) {
        self.is_draining = true;
        let keys = self.connections.iter().enumerate().filter(|(_, connection)| connection.is_some());
        let keys: Vec<ConnectionKey> = keys.map(|(slot, _)| self.slots.key(slot as u32)).collect();
        // A handful of connections need not take all the time there is.
        let spread_ms = spread_ms.min(keys.len() as u64 * DRAIN_EACH_MAX_MS).max(1);
        self.drain = Some(Drain { keys, closed: 0, start_ms: self.clock.now_ms(), spread_ms });
        self.drain_step();
    }

    fn drain_step(&mut self) {
        let Some(drain) = &mut self.drain else { return };
        let elapsed = (self.clock.now_ms() - drain.start_ms).min(drain.spread_ms);
        let until = (drain.keys.len() as u64 * elapsed / drain.spread_ms) as usize;
        let due: Vec<ConnectionKey> = drain.keys[drain.closed..until].to_vec();
        drain.closed = until;
        if elapsed == drain.spread_ms {
            self.drain = None;
        }
        for key in due {
            if self.slots.is_current(key) {
                self.close(key.slot, CloseCode::GoingAway, CloseCode::GoingAway.reason());
            }
        }
    }

    /// Sessions on polling that are closed, and whose clients have not heard of it yet.
    fn farewells(&self) -> usize {
        let sessions = self.sessions.values().filter_map(|slot| self.connections[*slot as usize].as_ref());
        sessions.filter(|connection| connection.owes_farewell()).count()
    }

    /// Adds what this turn did to the metrics.
    fn count(&mut self) {
        let metrics = &self.outside.gateway.metrics;
        if self.delivered > 0 {
            metrics.deliveries.inc_by(std::mem::take(&mut self.delivered));
        }
        if self.slots.sent_bytes > 0 {
            metrics.bytes_sent.inc_by(std::mem::take(&mut self.slots.sent_bytes));
        }
        if self.slots.sends > 0 {
            metrics.socket_sends.inc_by(std::mem::take(&mut self.slots.sends));
        }
    }
}
