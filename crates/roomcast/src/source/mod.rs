//! Where events come from, and where clients' messages go: the brokers behind the gateway. Knows no connection and no room; what an event
//! means is for the rules, who gets it is for the fan-out.

pub mod rabbitmq;
mod recent;
pub mod redis;

use std::fmt;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use hub::rules::{Arrival, Outcome};
use tokio::task::JoinHandle;

pub use rabbitmq::publish::{Published, Publishing};

use crate::fanout::Publisher;
use crate::gateway::Gateway;
use crate::metrics::Metrics;
use crate::supervisor::{Report, Standing, Stopper};

/// Which source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// RabbitMQ.
    Rabbitmq,
    /// Channels of Redis.
    Redis,
}

/// Says what becomes of an event.
pub type Route = dyn Fn(&Arrival<'_>) -> Outcome + Send + Sync;

/// What a source works with.
#[derive(Clone)]
pub struct Wiring {
    /// Says what becomes of an event.
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

/// A source that runs until it is stopped.
#[derive(Debug)]
pub struct Task {
    stopper: Stopper,
    task: JoinHandle<()>,
}

impl Task {
    /// Takes nothing more, finishes what is in hand, and leaves the rest. Over at the deadline at the latest.
    pub async fn stop(mut self, deadline: Instant) {
        self.stopper.stop(deadline);
        if tokio::time::timeout_at(deadline.into(), &mut self.task).await.is_err() {
            tracing::warn!("events were still in hand at the deadline; a broker that keeps them delivers them again");
            self.task.abort();
        }
    }
}

/// The sources that run, and the way for clients' messages.
#[derive(Debug)]
pub struct Running {
    publishing: Publishing,
    tasks: Vec<Task>,
}

impl Running {
    /// The way for clients' messages. Cheap to clone; goes on working while connections come and go.
    pub fn publishing(&self) -> Publishing {
        self.publishing.clone()
    }

    /// Takes no more deliveries, finishes those in hand, acks them, and leaves the rest to the broker. Over at the deadline at the latest.
    pub async fn stop(self, deadline: Instant) {
        futures_util::future::join_all(self.tasks.into_iter().map(|task| task.stop(deadline))).await;
    }
}

/// Starts the sources of the gateway's profile; of one that the profile has not, or whose broker no variable names, nothing runs and nothing is
/// ever reported. Must be called on the backend runtime.
///
/// # Errors
/// The settings make no sense. A broker that is away is no error: it is tried again for as long as the gateway runs.
pub fn start(gateway: &Gateway, report: impl Fn(Which, &Standing) + Send + Sync + 'static) -> anyhow::Result<Running> {
    let profile = gateway.profile.clone();
    let (rabbitmq, redis) = (rabbitmq::Settings::of(&profile)?, redis::Settings::of(&profile)?);
    let wiring = Wiring {
        route: Arc::new(move |arrival| profile.rules.route(arrival)),
        publisher: gateway.publisher.clone(),
        metrics: gateway.metrics.clone(),
    };
    let report = Arc::new(report);
    let report_of = |which: Which| -> Report {
        let report = report.clone();
        Arc::new(move |standing: &Standing| report(which, standing))
    };
    let mut running = match rabbitmq {
        Some(settings) => rabbitmq::start(settings, wiring.clone(), report_of(Which::Rabbitmq)),
        None => Running { publishing: Publishing::nowhere(), tasks: Vec::new() },
    };
    if let Some(settings) = redis {
        running.tasks.push(redis::start(settings, wiring, report_of(Which::Redis)));
    }
    Ok(running)
}

/// An id that nobody else has: 15 random bytes in 20 characters.
fn new_id() -> String {
    let mut bytes = [0; 15];
    getrandom::fill(&mut bytes).expect("the operating system had randomness at the start");
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

/// The time, in milliseconds since 1970.
fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}
