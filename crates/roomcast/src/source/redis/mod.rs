//! Redis as a source: channels of its pub/sub, subscribed to anew after every loss. This file wires the parts together. What is published while
//! nobody listens is lost, as it is for every subscriber: who needs more takes a broker that keeps what is not acknowledged.

mod intake;
mod session;
mod settings;

use std::sync::Arc;

use tokio::sync::watch as channel;

pub use settings::Settings;

use super::recent::Recent;
use super::{Task, Wiring};
use crate::supervisor::{Link, Pace, Report, stop, supervise, tell};

/// What outlives the single connection.
struct Shared {
    settings: Settings,
    wiring: Wiring,
    recent: Recent<()>,
    link: channel::Sender<Link>,
    concerns: channel::Sender<Vec<String>>,
}

/// Starts the source. Must be called on a tokio runtime; returns at once, whether Redis is there or not.
pub fn start(settings: Settings, wiring: Wiring, report: Report) -> Task {
    let shared = Arc::new(Shared {
        settings,
        wiring,
        recent: Recent::default(),
        link: channel::Sender::new(Link::Connecting),
        concerns: channel::Sender::new(Vec::new()),
    });
    let (stopper, stop) = stop();
    let task = tokio::spawn(async move {
        let metrics = shared.wiring.metrics.clone();
        let telling = tell(shared.link.subscribe(), shared.concerns.subscribe(), metrics.redis_up.clone(), report);
        let telling = tokio::spawn(telling);
        let edge = || {
            let (shared, stop) = (shared.clone(), stop.clone());
            async move {
                let result = session::run(&shared, stop.clone()).await;
                if !stop.is_requested() {
                    shared.wiring.metrics.redis_reconnects.inc();
                }
                result
            }
        };
        supervise("Redis", Pace::default(), &shared.link, stop.clone(), edge).await;
        telling.abort();
    });
    Task { stopper, task }
}
