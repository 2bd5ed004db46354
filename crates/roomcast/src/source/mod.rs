//! Where events come from, and where clients' messages go: the brokers behind the gateway. Knows no connection and no room; what an event
//! means is for the rules, who gets it is for the fan-out.

pub mod rabbitmq;
mod recent;

use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinHandle;

pub use rabbitmq::publish::{Published, Publishing};

use crate::gateway::Gateway;
use crate::supervisor::{Link, Stopper};

/// How the source stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The connection.
    pub link: Link,
    /// What is wrong though it is connected, a sentence each.
    pub concerns: Vec<String>,
}

/// Hears each change of a [`Standing`], from a thread of the backend runtime; must not block.
pub type Report = Arc<dyn Fn(&Standing) + Send + Sync>;

/// A source that runs until it is stopped, or that is not there at all.
#[derive(Debug)]
pub struct Running {
    publishing: Publishing,
    task: Option<(Stopper, JoinHandle<()>)>,
}

impl Running {
    /// The way for clients' messages. Cheap to clone; goes on working while connections come and go.
    pub fn publishing(&self) -> Publishing {
        self.publishing.clone()
    }

    /// Takes no more deliveries, finishes those in hand, acks them, and leaves the rest to the broker. Over at the deadline at the latest.
    pub async fn stop(self, deadline: Instant) {
        let Some((stopper, mut task)) = self.task else { return };
        stopper.stop(deadline);
        if tokio::time::timeout_at(deadline.into(), &mut task).await.is_err() {
            tracing::warn!("deliveries were still in hand at the deadline; the broker delivers them again");
            task.abort();
        }
    }
}

/// Starts the source of the gateway's profile; where the profile has none, or no variable names a broker, nothing runs and nothing is ever
/// reported. Must be called on the backend runtime.
///
/// # Errors
/// The settings make no sense. A broker that is away is no error: it is tried again for as long as the gateway runs.
pub fn start(gateway: &Gateway, report: impl Fn(&Standing) + Send + Sync + 'static) -> anyhow::Result<Running> {
    let profile = &gateway.profile;
    let Some(settings) = rabbitmq::Settings::of(profile)? else {
        return Ok(Running { publishing: Publishing::nowhere(), task: None });
    };
    let rules = profile.clone();
    let wiring = rabbitmq::Wiring {
        route: Arc::new(move |arrival| rules.rules.route(arrival)),
        publisher: gateway.publisher.clone(),
        metrics: gateway.metrics.clone(),
    };
    Ok(rabbitmq::start(settings, wiring, Arc::new(report)))
}
