//! The cluster: what is published on one node reaches the members on all others, Node's Socket.IO servers and emitters among them, and what these ask of each
//! other's sockets is answered, over channels of Redis in the format of `@socket.io/redis-adapter`. Knows neither connections nor rules; this file wires the parts together.

mod asking;
mod counting;
mod dialect;
pub mod directory;
mod incoming;
mod listening;
pub mod nodes;
mod outage;
mod outgoing;
pub mod passing;
mod repeats;
mod requests;
mod saying;
mod session;
mod wires;

use std::convert::Infallible;
use std::fmt;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use hub::names::NamespaceId;
use hub::profile::{BusOutage, Profile, RedisMode};
use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::{Instant, timeout_at};

pub use asking::{Clients, Unanswered, Whose};
pub use directory::{Ask, Directory, Record};
pub use listening::Changes;
pub use nodes::{NodeInfo, Nodes};
pub use outgoing::Bus;
pub use saying::scope;

use self::dialect::Channels;
use self::repeats::Repeats;
use crate::embed::Program;
use crate::gateway::Gateway;
use crate::redis_link::Server;
use crate::supervisor::{Fault, Link, Pace, Report, Stop, Stopper, stop, supervise, tell};

/// Characters of a member's id, as Node's adapter has them.
const UID_CHARACTERS: usize = 6;

/// More than any member's id, or any question's, has: nothing is kept under one that is longer.
const UID_MAX_BYTES: usize = 64;

/// How much larger an event may be on the wire than as JSON: a number with a point takes nine bytes there, and four in JSON (`0.5,`).
const WIRE_FACTOR: u64 = 3;

/// What it may take beside its arguments: the names of its rooms above all.
const ENVELOPE_MAX_BYTES: u64 = 64 * 1024;

/// The settings of a cluster.
#[derive(Debug, Clone)]
pub struct Settings {
    server: Server,
    /// The channels' common beginning.
    prefix: String,
    message_max_bytes: u64,
    /// What changes of the rooms with a member here; `None` where nobody has to know.
    changes: Option<Changes>,
    outage: BusOutage,
}

impl Settings {
    /// The address of this machine at which Redis sees it.
    ///
    /// # Errors
    /// Redis is nowhere to be found at present.
    pub async fn local_address(&self) -> anyhow::Result<IpAddr> {
        self.server.local_address().await
    }

    /// Those of a profile; `None` where no variable names a Redis, or nodes are to stand alone.
    ///
    /// # Errors
    /// The address is none.
    pub fn of(profile: &Profile) -> anyhow::Result<Option<Self>> {
        let (Some(address), Some(prefix)) = (&profile.redis, &profile.redis_key) else { return Ok(None) };
        // Whatever a node may publish, from a source or from a client, the others take.
        let largest = profile.limits.event_bytes.max(profile.limits.message_bytes);
        let message_max_bytes = largest.saturating_mul(WIRE_FACTOR).saturating_add(ENVELOPE_MAX_BYTES);
        let changes = (profile.redis_mode == RedisMode::Sharded).then(Changes::default);
        let (server, outage) = (Server::of(address)?, profile.bus_outage);
        Ok(Some(Self { server, prefix: prefix.clone(), message_max_bytes, changes, outage }))
    }

    /// Where the interest map notes what changes; `None` where nobody has to know.
    pub fn changes(&self) -> Option<Changes> {
        self.changes.clone()
    }
}

/// What outlives the single connection.
struct Shared {
    settings: Settings,
    gateway: Gateway,
    /// Who hears the events of other servers.
    program: Arc<Program>,
    uid: String,
    /// The channels of each namespace, by its number.
    channels: Vec<Channels>,
    bus: Bus,
    /// Where the program's handlers go on that have to wait.
    backend: Handle,
    questions: Arc<Semaphore>,
    hearings: Arc<Semaphore>,
    repeats: Mutex<Repeats>,
    /// The members that were counted last, this one included.
    members: AtomicUsize,
    link: watch::Sender<Link>,
    concerns: watch::Sender<Vec<String>>,
}

impl Shared {
    fn mode(&self) -> RedisMode {
        self.gateway.profile.redis_mode
    }

    /// How many members there were when Redis was heard last, this one included.
    fn members(&self) -> usize {
        let nodes = self.gateway.directory.as_ref().map_or(0, Directory::nodes);
        self.members.load(Ordering::Relaxed).max(nodes)
    }

    /// The channels of a namespace; `None` for one that comes and goes, which this node alone knows.
    fn channels_of(&self, namespace: NamespaceId) -> Option<&Channels> {
        self.channels.get(namespace.index())
    }
}

/// How long what is said at the end has to get to Redis.
const LAST_WORDS_MAX: Duration = Duration::from_secs(1);

/// A node's part in a cluster, until it is ended. It has a thread of its own: what goes to Redis and back is waited for by several tasks in turn, and a runtime with
/// several threads has them wake each other.
pub struct Running {
    bus: Bus,
    stopper: Stopper,
    /// Comes with the end.
    end: oneshot::Receiver<Infallible>,
    /// With this goes whatever is left.
    _cutter: oneshot::Sender<Infallible>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").finish_non_exhaustive()
    }
}

impl Running {
    /// Leaves the cluster, after what the last clients said, and what is said of their going, by this time.
    pub async fn end(mut self, by: std::time::Instant) {
        let by = Instant::from_std(by);
        // What a broker's acknowledgement hangs on is with Redis already: the source was stopped before, and waited for that.
        let _ = timeout_at(by.min(Instant::now() + LAST_WORDS_MAX), self.bus.until_empty()).await;
        self.stopper.stop(std::time::Instant::now());
        // It may be in the middle of connecting.
        let _ = timeout_at(by, &mut self.end).await;
    }
}

/// Joins the cluster. Must be called on a tokio runtime, which is that of the program's handlers; returns at once, whether Redis is there or not. `bus` is what the
/// gateway publishes to.
///
/// # Errors
/// There is no thread to be had.
pub fn start(
    settings: Settings,
    gateway: Gateway,
    program: Arc<Program>,
    bus: Bus,
    report: Report,
) -> anyhow::Result<Running> {
    let uid = dialect::uid_of(gateway.profile.redis_mode);
    let shared = Arc::new(Shared {
        channels: Channels::of(&gateway, &settings.prefix, &uid),
        settings,
        gateway,
        program,
        uid,
        bus: bus.clone(),
        backend: Handle::current(),
        questions: Arc::new(Semaphore::new(requests::QUESTIONS_MAX)),
        hearings: Arc::new(Semaphore::new(requests::HEARINGS_MAX)),
        repeats: Mutex::default(),
        members: AtomicUsize::new(1),
        link: watch::Sender::new(Link::Connecting),
        concerns: watch::Sender::new(Vec::new()),
    });
    tracing::debug!(uid = shared.uid, "joining the cluster");
    let (stopper, stop) = stop();
    let (cutter, cut) = oneshot::channel::<Infallible>();
    let (alive, end) = oneshot::channel::<Infallible>();
    let (made, outcome) = std::sync::mpsc::sync_channel(1);
    let own = bus.clone();
    let thread = std::thread::Builder::new().name("bus".to_owned()).spawn(move || {
        let runtime = match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(made.send(Err(error))),
        };
        let _ = made.send(Ok(()));
        let part = async {
            tokio::select! {
                () = run(shared, stop, report) => {}
                _ = cut => {}
            }
        };
        if std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(part))).is_err() {
            tracing::error!("the cluster's bus panicked, ending the process: half a gateway is worse than a restart");
            std::process::abort();
        }
        own.close();
        // A name that is being looked up is not waited for.
        runtime.shutdown_background();
        drop(alive);
    });
    thread.context("cannot start the bus's thread")?;
    outcome.recv().context("the bus ended as it started")?.context("cannot start the bus's runtime")?;
    Ok(Running { bus, stopper, end, _cutter: cutter })
}

async fn run(shared: Arc<Shared>, stop: Stop, report: Report) {
    let metrics = shared.gateway.metrics.clone();
    let telling = tell(shared.link.subscribe(), shared.concerns.subscribe(), metrics.bus_up.clone(), report);
    let waiting = outage::look_after(&shared);
    let edge = || {
        let (shared, stop) = (shared.clone(), stop.clone());
        async move {
            let result = session::run(&shared, stop.clone()).await;
            if !stop.is_requested() {
                shared.gateway.metrics.bus_reconnects.inc();
                let fault = result.as_ref().err().and_then(|error| error.downcast_ref());
                let says_nothing = matches!(fault, Some(Fault::Deaf(_) | Fault::Moved(_)));
                if let Some(entry) = shared.bus.lost(says_nothing) {
                    outgoing::refused(&shared, &entry);
                }
            }
            result
        }
    };
    let supervised = supervise("the cluster's bus", Pace::default(), &shared.link, stop.clone(), edge);
    tokio::select! {
        () = supervised => {}
        () = telling => {}
        () = waiting => {}
    }
}

fn new_uid() -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bytes = [0; UID_CHARACTERS];
    getrandom::fill(&mut bytes).expect("the operating system had randomness at the start");
    bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 64)])).collect()
}

#[cfg(test)]
mod tests {
    use hub::profile::{self, RedisAddress, Secret};

    use super::*;

    fn demo(variables: &[(&str, &str)]) -> Profile {
        let environment =
            |name: &str| variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned());
        let text = profile::builtin("demo").expect("it comes with the binary");
        Profile::read(text, "demo.toml", &environment).expect("a sound profile").0
    }

    #[test]
    fn rooms_are_followed_where_they_have_channels() {
        let follows = |variables: &[(&str, &str)]| {
            Settings::of(&demo(variables)).expect("an address").map(|settings| settings.changes().is_some())
        };
        assert_eq!(follows(&[]), None);
        assert_eq!(follows(&[("REDIS_URL", "redis://a")]), Some(false));
        assert_eq!(follows(&[("REDIS_URL", "redis://a"), ("REDIS_ADAPTER_MODE", "sharded")]), Some(true));
        assert_eq!(follows(&[("REDIS_URL", "redis://a"), ("REDIS_ADAPTER_KEY", "none")]), None);
    }

    #[test]
    fn servers_of_a_cluster_win_over_a_url() {
        let variables =
            [("REDIS_CLUSTER", "a, b:7 ,"), ("REDIS_PASSWORD", "p"), ("REDIS_URL", "redis://x"), ("REDIS_DB", "2")];
        let servers = vec!["a".to_owned(), "b:7".to_owned()];
        let expected = RedisAddress::Cluster { servers, password: Some(Secret::new("p")) };
        assert_eq!(demo(&variables).redis, Some(expected));
    }

    #[test]
    fn sentinels_win_over_other_addresses() {
        let variables = [
            ("REDIS_SENTINELS", "a, b:7 ,"),
            ("REDIS_CLUSTER", "a"),
            ("REDIS_SENTINEL_PASSWORD", "s"),
            ("REDIS_PASSWORD", "p"),
            ("REDIS_URL", "redis://x"),
            ("REDIS_DB", "2"),
        ];
        let expected = RedisAddress::Sentinels {
            sentinels: vec!["a".to_owned(), "b:7".to_owned()],
            name: "mymaster".to_owned(),
            sentinel_password: Some(Secret::new("s")),
            password: Some(Secret::new("p")),
            database: 2,
        };
        assert_eq!(demo(&variables).redis, Some(expected));
    }
}
