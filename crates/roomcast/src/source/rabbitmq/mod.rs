//! RabbitMQ as a source: topic exchange in, acknowledgement on completion, dead letters, and confirmed publishing. This file wires the parts
//! together; each of them stands in a room of its own. Knows no rule and no room of the gateway's: a closure says what becomes of a delivery.

mod acks;
mod consume;
mod dead_letter;
mod once;
pub mod publish;
mod session;
mod settings;
mod topology;
mod watch;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use parking_lot::Mutex;
use tokio::sync::watch as channel;

pub use once::publish_once;
pub use settings::Settings;

use self::consume::Receipt;
use self::publish::Publishing;
pub use super::Wiring;
use super::recent::Recent;
use super::{Running, Task, unix_ms};
use crate::sampled::Sampled;
use crate::supervisor::{Link, Pace, Report, stop, supervise, tell};

/// Routing keys that are counted one by one; those that come after are counted as `other`.
const IGNORED_KEYS_MAX: usize = 1_000;

/// What outlives the single connection.
struct Shared {
    settings: Settings,
    wiring: Wiring,
    publishing: Publishing,
    recent: Arc<Recent<Receipt>>,
    link: channel::Sender<Link>,
    concerns: channel::Sender<Vec<String>>,
    /// Dead letters that the broker does not take; they stay unacknowledged and are tried again.
    stuck_letters: AtomicUsize,
    ignored_keys: Mutex<HashSet<Box<str>>>,
    warned: topology::Warned,
}

impl Shared {
    /// Counts a delivery that no route asks for.
    fn count_ignored(&self, key: &str) {
        let mut keys = self.ignored_keys.lock();
        let known = keys.contains(key) || (keys.len() < IGNORED_KEYS_MAX && keys.insert(key.into()));
        self.wiring.metrics.events_ignored.inc(if known { key } else { "other" });
    }
}

/// Starts the source. Must be called on a tokio runtime; returns at once, whether the broker is there or not.
pub fn start(settings: Settings, wiring: Wiring, report: Report) -> Running {
    let recent = Arc::new(Recent::default());
    let publishing = Publishing::new(&settings, wiring.metrics.clone(), recent.clone());
    let shared = Arc::new(Shared {
        settings,
        wiring,
        publishing: publishing.clone(),
        recent,
        link: channel::Sender::new(Link::Connecting),
        concerns: channel::Sender::new(Vec::new()),
        stuck_letters: AtomicUsize::new(0),
        ignored_keys: Mutex::default(),
        warned: Mutex::default(),
    });
    let (stopper, stop) = stop();
    let task = tokio::spawn(async move {
        let up = shared.wiring.metrics.rabbitmq_up.clone();
        let telling = tokio::spawn(tell(shared.link.subscribe(), shared.concerns.subscribe(), up, report));
        let edge = || {
            let (shared, stop) = (shared.clone(), stop.clone());
            async move {
                let result = session::run(&shared, stop.clone()).await;
                shared.publishing.detach();
                if !stop.is_requested() {
                    shared.wiring.metrics.rabbitmq_reconnects.inc();
                }
                result
            }
        };
        supervise("RabbitMQ", Pace::default(), &shared.link, stop.clone(), edge).await;
        telling.abort();
    });
    Running { publishing, tasks: vec![Task { stopper, task }] }
}
