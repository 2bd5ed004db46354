//! The health of the node: what each part says of itself, and what follows for probes. Asks nobody anything: parts report here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use hub::profile::Profile;
use hub::rules::iso_8601;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;

use super::now_unix_ms;
use crate::metrics::Metrics;

/// Where the node is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It does not serve yet.
    Starting,
    /// It serves.
    Serving,
    /// It is on its way out.
    Draining,
}

impl Phase {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Draining => "draining",
        }
    }
}

/// A part of the node that may be away while the node serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The source of events.
    Rabbitmq,
    /// Channels that events come by.
    Redis,
    /// The other nodes of the cluster.
    Bus,
    /// Who is on them.
    Directory,
}

impl Part {
    /// Every part, in the order in which they are listed.
    pub const ALL: [Self; 4] = [Self::Rabbitmq, Self::Redis, Self::Bus, Self::Directory];

    /// Its name in documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rabbitmq => "rabbitmq",
            Self::Redis => "redis",
            Self::Bus => "bus",
            Self::Directory => "directory",
        }
    }
}

/// How a part is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It is not configured.
    Disabled,
    /// The first connection is not there yet.
    Connecting,
    /// It works.
    Connected,
    /// It is away; it is tried again.
    Disconnected {
        /// Why.
        reason: String,
    },
    /// It answers, but our path through it is dead.
    Deaf {
        /// How that was seen.
        reason: String,
    },
}

impl State {
    /// The name of the state in `/health/ready`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Disconnected { .. } => "disconnected",
            Self::Deaf { .. } => "deaf",
        }
    }

    /// The three words that the documents of profiles know.
    pub const fn in_short(&self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Connected => "connected",
            Self::Connecting | Self::Disconnected { .. } | Self::Deaf { .. } => "disconnected",
        }
    }
}

/// What a part last said.
#[derive(Debug, Clone)]
struct Report {
    state: State,
    since_unix_ms: u64,
    concerns: Vec<String>,
}

/// What follows for a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// All is well.
    Ready,
    /// Clients are served, but a part is away or something is wrong.
    Degraded,
    /// No new client should come here.
    NotReady,
}

/// The health of the node.
#[derive(Debug)]
pub struct Health {
    started: Instant,
    metrics: Arc<Metrics>,
    readiness: watch::Sender<Readiness>,
    state: Mutex<(Phase, [Report; Part::ALL.len()])>,
}

impl Health {
    /// A node that starts now, with the parts that its profile uses.
    pub fn new(profile: &Profile, metrics: Arc<Metrics>) -> Self {
        let health = Self::without_parts(metrics);
        if profile.rabbitmq.as_ref().is_some_and(|rabbitmq| rabbitmq.address.is_some()) {
            health.set_state(Part::Rabbitmq, State::Connecting);
        }
        if profile.redis.is_some() && profile.redis_channels.is_some() {
            health.set_state(Part::Redis, State::Connecting);
        }
        if profile.redis.is_some() && profile.redis_key.is_some() {
            health.set_state(Part::Bus, State::Connecting);
            health.set_state(Part::Directory, State::Connecting);
        }
        health
    }

    fn without_parts(metrics: Arc<Metrics>) -> Self {
        let report = Report { state: State::Disabled, since_unix_ms: now_unix_ms(), concerns: Vec::new() };
        let state = Mutex::new((Phase::Starting, std::array::from_fn(|_| report.clone())));
        Self { started: Instant::now(), metrics, readiness: watch::Sender::new(Readiness::NotReady), state }
    }

    /// The node is in this phase from now on.
    pub fn enter(&self, phase: Phase) {
        self.state.lock().0 = phase;
        self.tell();
    }

    /// A part is in this state from now on. Changes are logged.
    pub fn set_state(&self, part: Part, state: State) {
        {
            let mut all = self.state.lock();
            let report = &mut all.1[part as usize];
            if report.state == state {
                return;
            }
            let before = report.state.as_str();
            match &state {
                State::Disabled | State::Connecting => {}
                State::Connected => tracing::info!(before, "{} is connected", part.as_str()),
                State::Disconnected { reason } => tracing::warn!(before, reason, "{} is away", part.as_str()),
                State::Deaf { reason } => tracing::error!(before, reason, "{} is deaf", part.as_str()),
            }
            // A repeated attempt that fails for another reason does not end the outage.
            if report.state.as_str() != state.as_str() {
                report.since_unix_ms = now_unix_ms();
            }
            report.state = state;
        }
        self.tell();
    }

    /// What is wrong with a part though it is connected, such as a second consumer on a shared queue; none clears it.
    pub fn set_concerns(&self, part: Part, concerns: Vec<String>) {
        self.state.lock().1[part as usize].concerns = concerns;
        self.tell();
    }

    /// The state of a part.
    pub fn state(&self, part: Part) -> State {
        self.state.lock().1[part as usize].state.clone()
    }

    /// The state of Redis for whatever it is used, in short: `connected` where all of it is.
    pub fn redis(&self) -> &'static str {
        let states =
            [Part::Redis, Part::Bus, Part::Directory].map(|part| self.state(part)).map(|state| state.in_short());
        let says = |what| states.contains(&what).then_some(what);
        says("disconnected").or_else(|| says("connected")).unwrap_or("disabled")
    }

    /// The node's phase.
    pub fn phase(&self) -> Phase {
        self.state.lock().0
    }

    /// For how long the node has been running, in seconds.
    pub fn uptime_secs(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    /// `ok`, or `degraded` while a configured part is away or something is wrong.
    pub fn status(&self) -> &'static str {
        if self.reasons().is_empty() { "ok" } else { "degraded" }
    }

    /// Why the node is not well, a sentence each; empty while it is.
    pub fn reasons(&self) -> Vec<String> {
        let all = self.state.lock();
        let mut reasons = Vec::new();
        for (part, report) in Part::ALL.iter().zip(&all.1) {
            let part = part.as_str();
            match &report.state {
                State::Disabled | State::Connected => {}
                State::Connecting => reasons.push(format!("{part} is not connected yet")),
                State::Disconnected { reason } => reasons.push(format!("{part} is away: {reason}")),
                State::Deaf { reason } => reasons.push(format!("{part} is deaf: {reason}")),
            }
            reasons.extend(report.concerns.iter().map(|concern| format!("{part}: {concern}")));
        }
        reasons
    }

    /// What follows for a probe: not ready while starting, draining or deaf to what services or other nodes publish, until the connection is rebuilt
    /// or the other side known to be away; degraded then, since clients are served and all nodes would go at once.
    pub fn readiness(&self) -> Readiness {
        let brings_events = [Part::Rabbitmq, Part::Redis, Part::Bus];
        let deaf = brings_events.iter().any(|part| matches!(self.state(*part), State::Deaf { .. }));
        match self.phase() {
            Phase::Starting | Phase::Draining => Readiness::NotReady,
            Phase::Serving if deaf => Readiness::NotReady,
            Phase::Serving if self.reasons().is_empty() => Readiness::Ready,
            Phase::Serving => Readiness::Degraded,
        }
    }

    /// The document of `/health/ready`, as JSON.
    pub fn document(&self) -> String {
        let readiness = self.readiness();
        let phase = self.phase();
        let status = match (readiness, phase) {
            (Readiness::Ready, _) => "ok",
            (Readiness::Degraded, _) => "degraded",
            (Readiness::NotReady, Phase::Serving) => "deaf",
            (Readiness::NotReady, Phase::Starting | Phase::Draining) => phase.as_str(),
        };
        let all = self.state.lock().1.clone();
        let parts = Part::ALL.iter().zip(&all).map(|(part, report)| {
            let since = iso_8601(report.since_unix_ms);
            (part.as_str(), PartDocument { state: report.state.as_str(), since })
        });
        let document = Document {
            status,
            phase: phase.as_str(),
            reasons: self.reasons(),
            parts: parts.collect(),
            uptime: self.uptime_secs(),
            timestamp: iso_8601(now_unix_ms()),
        };
        serde_json::to_string(&document).expect("texts and numbers can be written")
    }

    /// The readiness now, and each time that it changes.
    pub fn watch(&self) -> watch::Receiver<Readiness> {
        self.readiness.subscribe()
    }

    /// Tells those who follow how it is now.
    fn tell(&self) {
        self.readiness.send_if_modified(|told| {
            // Looked at in here, so that of two parts which report at once the later one's view stays.
            let now = self.readiness();
            self.metrics.ready.set(i64::from(now != Readiness::NotReady));
            std::mem::replace(told, now) != now
        });
    }
}

#[derive(Serialize)]
struct Document {
    status: &'static str,
    phase: &'static str,
    reasons: Vec<String>,
    parts: BTreeMap<&'static str, PartDocument>,
    uptime: u64,
    timestamp: String,
}

#[derive(Serialize)]
struct PartDocument {
    state: &'static str,
    since: String,
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// Expects the readiness, the status of `/health/ready`, and the status of a profile's document.
    fn check(phase: Phase, state: State, concerns: &[&str], expected: (Readiness, &str, &str)) {
        let health = Health::without_parts(Arc::default());
        health.enter(phase);
        health.set_state(Part::Rabbitmq, state.clone());
        health.set_concerns(Part::Rabbitmq, concerns.iter().map(|concern| (*concern).to_owned()).collect());
        let document: Value = serde_json::from_str(&health.document()).expect("JSON");
        let found = (health.readiness(), document["status"].as_str().unwrap_or_default(), health.status());
        assert_eq!(found, expected, "{phase:?} {state:?}");
        assert_eq!(health.metrics.ready.get(), i64::from(expected.0 != Readiness::NotReady));
        assert_eq!(document["parts"]["rabbitmq"]["state"], state.as_str());
    }

    #[test]
    fn readiness_follows_from_phase_and_parts() {
        use Readiness::{Degraded, NotReady, Ready};
        let away = || State::Disconnected { reason: "connection refused".to_owned() };
        let deaf = || State::Deaf { reason: "the canary did not return".to_owned() };
        check(Phase::Starting, State::Connected, &[], (NotReady, "starting", "ok"));
        check(Phase::Serving, State::Disabled, &[], (Ready, "ok", "ok"));
        check(Phase::Serving, State::Connected, &[], (Ready, "ok", "ok"));
        check(Phase::Serving, State::Connecting, &[], (Degraded, "degraded", "degraded"));
        check(Phase::Serving, away(), &[], (Degraded, "degraded", "degraded"));
        check(Phase::Serving, State::Connected, &["a second consumer"], (Degraded, "degraded", "degraded"));
        check(Phase::Serving, deaf(), &[], (NotReady, "deaf", "degraded"));
        check(Phase::Draining, State::Connected, &[], (NotReady, "draining", "ok"));
        check(Phase::Draining, deaf(), &[], (NotReady, "draining", "degraded"));
    }

    #[test]
    fn deaf_to_the_other_nodes_is_not_ready_and_deaf_to_who_is_there_is_degraded() {
        let health = Health::without_parts(Arc::default());
        health.enter(Phase::Serving);
        let deaf = State::Deaf { reason: "the canary did not return".to_owned() };
        health.set_state(Part::Directory, deaf.clone());
        assert_eq!(health.readiness(), Readiness::Degraded);
        health.set_state(Part::Directory, State::Connected);
        health.set_state(Part::Bus, deaf);
        assert_eq!(health.readiness(), Readiness::NotReady);
        assert_eq!(health.reasons(), ["bus is deaf: the canary did not return"]);
    }

    #[test]
    fn reasons_say_what_is_wrong() {
        let health = Health::without_parts(Arc::default());
        health.enter(Phase::Serving);
        assert!(health.reasons().is_empty());
        health.set_state(Part::Rabbitmq, State::Disconnected { reason: "access refused".to_owned() });
        health.set_state(Part::Redis, State::Connected);
        health.set_concerns(Part::Redis, vec!["no other node was seen".to_owned()]);
        assert_eq!(health.reasons(), ["rabbitmq is away: access refused", "redis: no other node was seen"]);
        health.set_concerns(Part::Redis, Vec::new());
        health.set_state(Part::Rabbitmq, State::Connected);
        assert!(health.reasons().is_empty());
        assert_eq!(health.state(Part::Rabbitmq).in_short(), "connected");
    }
}
