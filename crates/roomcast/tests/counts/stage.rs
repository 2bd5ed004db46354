//! One gateway for all counts, with one shard, and the counters: of the heap by dhat, of sends by the gateway's own metrics.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use hub::emission::{Emission, Except, Payload, Rooms, Sending, Target};
use hub::names::{EventName, NamespaceId, RoomName};
use hub::profile::Profile;
use roomcast::app::{self, Running};
use roomcast::embed::Program;
use roomcast::metrics::Metrics;
use roomcast::upstream::Files;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::runtime::Runtime;

use crate::client::{Client, Dialect, Hello};

const PROFILE: &str = r#"
about = "What the counts talk to"

[service]
host = "127.0.0.1"
port = 0

[auth]
token = "required"

[[endpoint]]
protocol      = "socket.io"
ping_interval = "1h"

[[endpoint]]
protocol  = "json"
path      = "/ws"
envelope  = "flat"
heartbeat = { every = "1h" }

[on.connect]
join = ["user:{user.id}"]
emit = { to = "self", event = "connected", data = { userId = "{user.id}" } }

[room.user]
name = "user:{id}"

[room.any]
name  = "{name}"
enter = true

[command.join]
args   = { room = "id" }
join   = "{args.room}"
answer = { ack = { success = true, room = "{room}" }, event = "joined", data = { room = "{room}" } }

[command.echo]
args   = { data = "any" }
answer = { ack = { data = "{args.data}" }, event = "echoed", data = { data = "{args.data}" } }

[command.say]
args = { room = "id", data = "any" }
emit = { to = "{args.room}", event = "message", data = { room = "{args.room}", data = "{args.data}" } }

[command.burst]
args = { room = "id" }
emit = [
    { to = "{args.room}", event = "message", data = { data = "burst 0" } },
    { to = "{args.room}", event = "message", data = { data = "burst 1" } },
    { to = "{args.room}", event = "message", data = { data = "burst 2" } },
    { to = "{args.room}", event = "message", data = { data = "burst 3" } },
    { to = "{args.room}", event = "message", data = { data = "burst 4" } },
    { to = "{args.room}", event = "message", data = { data = "burst 5" } },
    { to = "{args.room}", event = "message", data = { data = "burst 6" } },
    { to = "{args.room}", event = "message", data = { data = "burst 7" } },
]
"#;

const SECRET: &str = "a secret of thirty-two bytes or more";

/// Descriptors that the process needs: both ends of a crowd's connections.
const DESCRIPTORS: u64 = 4_096;

/// More users than a test has clients.
const USERS: usize = 1_100;

/// How often something is counted. What others allocate meanwhile (a test that ends, a timer) is not in every round.
const ROUNDS: usize = 5;

pub(crate) struct Stage {
    runtime: Runtime,
    running: Running,
    metrics: Arc<Metrics>,
    /// One for each user and dialect, which take turns: whoever comes is another user, with a room of its own.
    hellos: [Vec<Hello>; 2],
    connects: AtomicUsize,
    _profiler: dhat::Profiler,
}

/// What the gateway has counted itself.
pub(crate) struct Sends {
    pub(crate) deliveries: u64,
    pub(crate) sends: u64,
}

/// The gateway, for one test at a time, without a client.
pub(crate) fn stage() -> MutexGuard<'static, Stage> {
    static STAGE: LazyLock<Mutex<Stage>> = LazyLock::new(|| Mutex::new(Stage::start()));
    // A test that failed leaves nothing behind but clients, which are gone with it.
    let stage = STAGE.lock().unwrap_or_else(PoisonError::into_inner);
    while stage.connections() > 0 {
        std::thread::yield_now();
    }
    stage
}

impl Stage {
    fn start() -> Self {
        raise_descriptor_limit();
        let profiler = dhat::Profiler::builder().testing().build();
        let environment = |name: &str| (name == "JWT_SECRET").then(|| SECRET.to_owned());
        let (profile, _) = Profile::read(PROFILE, "counts.toml", &environment).expect("the profile is sound");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime can be had");
        let metrics = Arc::new(Metrics::default());
        let files = Files::default();
        let starting = app::start(Arc::new(profile), &files, Program::default(), metrics.clone(), 1);
        let running = runtime.block_on(starting).expect("the gateway starts");
        let tokens: Vec<String> = (0..USERS).map(token).collect();
        let hellos = [Dialect::SocketIo, Dialect::Plain]
            .map(|dialect| tokens.iter().map(|token| Hello::new(dialect, token)).collect());
        Self { runtime, running, metrics, hellos, connects: AtomicUsize::new(0), _profiler: profiler }
    }

    pub(crate) fn connect(&self, dialect: Dialect) -> Client {
        let user = self.connects.fetch_add(1, Ordering::Relaxed) % USERS;
        Client::connect(self.running.address(), &self.hellos[dialect as usize][user])
    }

    /// Publishes as a source does: through the shard's inbox, and waits until every member has it.
    pub(crate) fn publish(&self, room: &str, json: &'static str) {
        let emission = Emission {
            namespace: NamespaceId(0),
            target: Target::Rooms(Rooms::new(RoomName::parse(room)).expect("one room")),
            except: Except::default(),
            event: EventName::parse("message").expect("a name"),
            payload: Payload::json(json),
            sending: Sending::default(),
        };
        self.runtime.block_on(self.running.gateway().publish(vec![emission]));
    }

    /// The fewest allocations that one of several rounds made, everything included that the shard did of it.
    pub(crate) fn fewest_allocations(&self, mut round: impl FnMut()) -> u64 {
        // The first one grows what is kept.
        round();
        let counts = (0..ROUNDS).map(|_| {
            self.settle();
            let before = dhat::HeapStats::get().total_blocks;
            round();
            self.settle();
            dhat::HeapStats::get().total_blocks - before
        });
        counts.min().expect("there are rounds")
    }

    /// Bytes of the heap that are in use.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.settle();
        dhat::HeapStats::get().curr_bytes
    }

    pub(crate) fn sends(&self) -> Sends {
        self.settle();
        Sends { deliveries: self.metrics.deliveries.get(), sends: self.metrics.socket_sends.get() }
    }

    /// Waits until the shard has ended the turn that it is in: what clients have seen is counted then.
    fn settle(&self) {
        self.connections();
    }

    fn connections(&self) -> usize {
        self.runtime.block_on(self.running.gateway().numbers()).connections
    }
}

fn token(user: usize) -> String {
    let claims = serde_json::json!({ "sub": format!("user-{user}"), "exp": 4_000_000_000_u64 });
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("claims can be signed")
}

fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < DESCRIPTORS) {
        limit.current = limit.maximum.map_or(Some(DESCRIPTORS), |maximum| Some(maximum.min(DESCRIPTORS)));
        setrlimit(Resource::Nofile, limit).expect("the soft limit may be raised up to the hard one");
    }
}
