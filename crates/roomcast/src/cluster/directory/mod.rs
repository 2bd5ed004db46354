//! The directory: who is here, in the whole cluster. Each node writes what it has under a lease of its own; whoever asks looks keys up, and asks nobody. What a
//! node leaves behind that died, the others tell. Pure wiring here: what is written stands in `write`, what is told of the dead and the gone in `tell`.

mod keys;
mod look_up;
mod news;
mod peers;
mod session;
mod tell;
mod write;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hub::names::SocketId;
use hub::rules::{Presence as PresenceFacts, User};
use parking_lot::{Mutex, RwLock};
use redis::aio::MultiplexedConnection;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout_at;

use self::keys::{Keys, Scripts};
pub use self::look_up::Elsewhere;
use self::news::News;
pub use self::news::{Ask, Record};
use super::Settings;
use super::nodes::Nodes;
use crate::gateway::Gateway;
use crate::presence::Place;
use crate::shard::inbox::Message;
use crate::supervisor::{Fault, Link, Pace, Report, Stop, Stopper, stop, supervise, tell};

/// How long what is to be written at the end has.
const LAST_WORDS_MAX: Duration = Duration::from_millis(1_500);

/// A node's way to the directory. Cheap to clone.
#[derive(Clone)]
pub struct Directory(Arc<Inner>);

struct Inner {
    news: News,
    nodes: Nodes,
    keys: Keys,
    scripts: Scripts,
    /// How often the node has entered itself.
    entered: AtomicU32,
    connection: RwLock<Option<MultiplexedConnection>>,
    /// Redis is there, and does not let this node in.
    is_refused: watch::Sender<bool>,
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory").field("nodes", &self.0.nodes).finish_non_exhaustive()
    }
}

impl Directory {
    /// That of a cluster; nothing is written before [`start`].
    pub fn new(settings: &Settings, nodes: Nodes) -> Self {
        let inner = Inner {
            news: News::default(),
            nodes,
            keys: Keys::new(&settings.prefix),
            scripts: Scripts::default(),
            entered: AtomicU32::new(0),
            connection: RwLock::new(None),
            is_refused: watch::Sender::new(false),
        };
        Self(Arc::new(inner))
    }

    /// A socket of this node came, or its rooms changed.
    pub fn changed(&self, record: Record) {
        self.0.news.changed(record);
    }

    /// A socket of this node is gone.
    pub fn gone(&self, id: SocketId) {
        self.0.news.gone(id);
    }

    /// Where a user is on this node changed.
    pub fn user_changed(&self, user: &str) {
        self.0.news.user_changed(user);
    }

    /// Has something told where no other node has told it.
    ///
    /// # Errors
    /// Nobody can be asked: it is for this node to decide.
    pub fn ask(&self, ask: Ask) -> Result<(), Ask> {
        self.0.news.ask(ask)
    }

    /// A connection takes one of a user's places, and these of the user's connections here go for it; those of other nodes that must go are closed there.
    pub fn takes(&self, user: &str, place: Place, surplus: &[Place]) {
        self.0.news.takes(user, place, surplus, Instant::now());
    }

    /// A connection gives its place back.
    pub fn gives_back(&self, user: &str, place: Place) {
        self.0.news.gives_back(user, place);
    }

    /// How many nodes are alive, as far as is known: this one included, once it is in the directory.
    pub(in crate::cluster) fn nodes(&self) -> usize {
        self.0.nodes.count()
    }

    /// Waits until this node is known to be on its own: Redis lets it not into the directory. Where Redis is only away, it is not.
    pub async fn until_refused(&self) {
        // The sender lives as long as this.
        let _ = self.0.is_refused.subscribe().wait_for(|is_refused| *is_refused).await;
    }

    /// The node's name, with the number of times that it entered itself: what was written under an older one is another's to clean up.
    fn name(&self) -> String {
        format!("{}.{}", self.0.nodes.own().text(), self.0.entered.load(Ordering::Relaxed))
    }
}

/// What outlives the single connection.
struct Shared {
    directory: Directory,
    settings: Settings,
    gateway: Gateway,
    link: watch::Sender<Link>,
    concerns: watch::Sender<Vec<String>>,
    /// When there was a member that is no gateway.
    peers_seen_at: Mutex<Option<tokio::time::Instant>>,
}

impl Shared {
    /// Tells what was asked about: no other node has, or none can be asked.
    async fn tell(&self, ask: Ask) {
        match ask {
            Ask::Online(user) => self.tell_online(&user).await,
            Ask::Entered { namespace, room, shard, key, socket, .. } => {
                self.gateway.publisher.inboxes()[shard].send(Message::UserEntered { namespace, room, key, socket });
            }
        }
    }

    async fn tell_online(&self, user: &User) {
        let Some(id) = &user.id else { return };
        let now = unix_ms();
        let facts = PresenceFacts { id, rooms: &[], last_seen_unix_ms: now, now_unix_ms: now };
        let emissions = self.gateway.profile.rules.on_user_online(&facts);
        self.gateway.publisher.publish(emissions, None).await;
    }
}

/// The directory's connection, until it is ended.
pub struct Running {
    stopper: Stopper,
    task: JoinHandle<()>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").finish_non_exhaustive()
    }
}

impl Running {
    /// Leaves the directory, after what the last clients left behind is written; by this time.
    pub async fn end(mut self, by: Instant) {
        let by = by.min(Instant::now() + LAST_WORDS_MAX);
        self.stopper.stop(by);
        if timeout_at(by.into(), &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

/// Enters this node, and keeps it there. Must be called on a tokio runtime; returns at once, whether Redis is there or not.
pub fn start(settings: Settings, gateway: Gateway, directory: Directory, report: Report) -> Running {
    let shared = Arc::new(Shared {
        directory,
        settings,
        gateway,
        link: watch::Sender::new(Link::Connecting),
        concerns: watch::Sender::new(Vec::new()),
        peers_seen_at: Mutex::default(),
    });
    let (stopper, stop) = stop();
    Running { stopper, task: tokio::spawn(run(shared, stop, report)) }
}

async fn run(shared: Arc<Shared>, stop: Stop, report: Report) {
    let telling =
        tell(shared.link.subscribe(), shared.concerns.subscribe(), shared.gateway.metrics.directory_up.clone(), report);
    let edge = || {
        let (shared, stop) = (shared.clone(), stop.clone());
        async move {
            let result = session::run(&shared, stop).await;
            *shared.directory.0.connection.write() = None;
            let asks = shared.directory.0.news.down();
            for ask in asks {
                shared.tell(ask).await;
            }
            let refused = |error: &anyhow::Error| matches!(error.downcast_ref::<Fault>(), Some(Fault::Refused(_)));
            let is_refused = result.as_ref().is_err_and(refused);
            shared
                .directory
                .0
                .is_refused
                .send_if_modified(|before| std::mem::replace(before, is_refused) != is_refused);
            result
        }
    };
    let supervised = supervise("the directory", Pace::default(), &shared.link, stop.clone(), edge);
    tokio::select! {
        () = supervised => {}
        () = telling => {}
    }
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}
