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
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hub::rules::{Arrival, Outcome};
use parking_lot::Mutex;
use tokio::sync::watch as channel;

pub use once::publish_once;
pub use settings::Settings;

use self::consume::Receipt;
use self::publish::Publishing;
use super::recent::Recent;
use super::{Report, Running, Standing};
use crate::fanout::Publisher;
use crate::metrics::Metrics;
use crate::supervisor::{Link, Pace, stop, supervise};

/// Says what becomes of a delivery.
pub type Route = dyn Fn(&Arrival<'_>) -> Outcome + Send + Sync;

/// What the source works with.
#[derive(Clone)]
pub struct Wiring {
    /// Says what becomes of a delivery.
    pub route: Arc<Route>,
    /// The way to the members.
    pub publisher: Publisher,
    /// The process's metrics.
    pub metrics: Arc<Metrics>,
}

impl fmt::Debug for Wiring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wiring").finish_non_exhaustive()
    }
}

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
        let telling = tokio::spawn(tell(shared.clone(), report));
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
    Running { publishing, task: Some((stopper, task)) }
}

/// Tells how the source stands, at once and after each change.
async fn tell(shared: Arc<Shared>, report: Report) {
    let (mut link, mut concerns) = (shared.link.subscribe(), shared.concerns.subscribe());
    loop {
        let standing =
            Standing { link: link.borrow_and_update().clone(), concerns: concerns.borrow_and_update().clone() };
        shared.wiring.metrics.rabbitmq_up.set(i64::from(standing.link == Link::Connected));
        report(&standing);
        tokio::select! {
            changed = link.changed() => if changed.is_err() { return },
            changed = concerns.changed() => if changed.is_err() { return },
        }
    }
}

/// Something that happens often and is logged now and then, with the number of times.
struct Sampled(Mutex<(Option<tokio::time::Instant>, u64)>);

/// How often something that is [`Sampled`] is logged.
const SAMPLE_EVERY: Duration = Duration::from_secs(10);

impl Sampled {
    const fn new() -> Self {
        Self(Mutex::new((None, 0)))
    }

    /// Counts one; how many there were since the last line, if one is due.
    fn due(&self) -> Option<u64> {
        let mut state = self.0.lock();
        state.1 += 1;
        let now = tokio::time::Instant::now();
        if state.0.is_some_and(|last| now.duration_since(last) < SAMPLE_EVERY) {
            return None;
        }
        state.0 = Some(now);
        Some(std::mem::take(&mut state.1))
    }
}

/// The time, in milliseconds since 1970.
fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}
