//! Keeps an edge running: the one place that knows reconnect and backoff. Knows nothing of what the edge does; an edge is an async function
//! that returns on the first lost connection.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;

/// How the connection of an edge stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// The first connection is not there yet.
    Connecting,
    /// It works.
    Connected,
    /// It is away; it is tried again.
    Disconnected {
        /// Why.
        reason: String,
    },
    /// The other side answers, but our path through it was dead; it is built again.
    Deaf {
        /// How that was seen.
        reason: String,
    },
}

/// How an edge stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The connection.
    pub link: Link,
    /// What is wrong though it is connected, a sentence each.
    pub concerns: Vec<String>,
}

/// Hears each change of a [`Standing`], from a thread of the backend runtime or the bus's; must not block.
pub type Report = Arc<dyn Fn(&Standing) + Send + Sync>;

/// Why an edge ended, where the supervisor does not treat it as a lost connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The other side is there and says no: asking again soon changes nothing, so that the pauses grow longer.
    Refused(String),
    /// The connection stands, but nothing comes through it.
    Deaf(String),
    /// The other side is there and works, but what is wanted of it is with another one by now.
    Moved(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reason) | Self::Deaf(reason) | Self::Moved(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for Fault {}

/// How long to wait between two attempts: doubling from the first pause to the longest, half of each left to chance, so that the nodes of a
/// cluster do not come back all at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// The pause after the first failure.
    pub first: Duration,
    /// The longest pause while the other side is away.
    pub away_max: Duration,
    /// The longest pause while the other side refuses.
    pub refused_max: Duration,
    /// A connection that stood for so long makes the pauses start from the first again.
    pub healthy_after: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            // Health is to tell the truth soon after the other side is back, and a refused TCP connection costs next to nothing.
            away_max: Duration::from_millis(1_500),
            refused_max: Duration::from_secs(30),
            healthy_after: Duration::from_secs(10),
        }
    }
}

impl Pace {
    /// The pause before the next attempt after `failures` in a row (at least one). `chance` is between 0 and 1.
    pub fn pause(&self, failures: u32, refused: bool, chance: f64) -> Duration {
        let longest = if refused { self.refused_max } else { self.away_max };
        let doublings = failures.saturating_sub(1).min(20);
        let pause = self.first.saturating_mul(1 << doublings).min(longest);
        pause / 2 + (pause / 2).mul_f64(chance.clamp(0.0, 1.0))
    }
}

/// Tells edges to stop.
#[derive(Debug)]
pub struct Stopper(watch::Sender<Option<Instant>>);

impl Stopper {
    /// Tells them, with the time by which they must be through.
    pub fn stop(&self, deadline: Instant) {
        self.0.send_replace(Some(deadline));
    }
}

/// Hears when to stop. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<Option<Instant>>);

/// A stopper and what hears it.
pub fn stop() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(None);
    (Stopper(sender), Stop(receiver))
}

impl Stop {
    /// Waits until told to stop; the time by which to be through. A stopper that is gone stops at once.
    pub async fn requested(&mut self) -> Instant {
        match self.0.wait_for(Option::is_some).await {
            Ok(deadline) => deadline.unwrap_or_else(Instant::now),
            Err(_) => Instant::now(),
        }
    }

    /// Whether it was told already, or the stopper is gone.
    pub fn is_requested(&self) -> bool {
        self.0.borrow().is_some() || self.0.has_changed().is_err()
    }
}

/// While an outage lasts, it is logged this often.
const REMIND_EVERY: Duration = Duration::from_secs(60);

/// Runs the edge again and again until told to stop. The edge itself says [`Link::Connected`] once it works.
pub async fn supervise<F>(
    name: &'static str,
    pace: Pace,
    link: &watch::Sender<Link>,
    mut stop: Stop,
    mut edge: impl FnMut() -> F,
) where
    F: Future<Output = anyhow::Result<()>>,
{
    let mut failures = 0;
    let mut reminded: Option<Instant> = None;
    while !stop.is_requested() {
        let began = Instant::now();
        let result = edge().await;
        if stop.is_requested() {
            return;
        }
        let worked = *link.borrow() == Link::Connected;
        if worked && began.elapsed() >= pace.healthy_after {
            failures = 0;
        }
        failures += 1;
        let error = result.err().unwrap_or_else(|| anyhow::anyhow!("{name} ended by itself"));
        let (next, refused) = judge(&error);
        let reason = match &next {
            Link::Disconnected { reason } | Link::Deaf { reason } => reason.clone(),
            Link::Connecting | Link::Connected => String::new(),
        };
        link.send_replace(next);
        let pause = pace.pause(failures, refused, chance());
        tracing::debug!(failures, reason, ?pause, "{name} is away, trying again");
        // That it went away is for health to say; that it stays away is worth a line now and then.
        let since = reminded.filter(|_| !worked).unwrap_or_else(Instant::now);
        let due = since.elapsed() >= REMIND_EVERY;
        if due {
            tracing::warn!(failures, reason, "{name} is still away");
        }
        reminded = Some(if due { Instant::now() } else { since });
        tokio::select! {
            _ = stop.requested() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// What an edge's error says of the link, and whether the other side refused.
fn judge(error: &anyhow::Error) -> (Link, bool) {
    let reason = format!("{error:#}");
    match error.downcast_ref::<Fault>() {
        Some(Fault::Deaf(_)) => (Link::Deaf { reason }, false),
        Some(Fault::Refused(_)) => (Link::Disconnected { reason }, true),
        Some(Fault::Moved(_)) | None => (Link::Disconnected { reason }, false),
    }
}

fn chance() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness the pause is only less spread.
    let _ = getrandom::fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}

/// Tells how an edge stands, at once and after each change.
pub async fn tell(
    mut link: watch::Receiver<Link>,
    mut concerns: watch::Receiver<Vec<String>>,
    up: Gauge,
    report: Report,
) {
    loop {
        let standing =
            Standing { link: link.borrow_and_update().clone(), concerns: concerns.borrow_and_update().clone() };
        up.set(i64::from(standing.link == Link::Connected));
        report(&standing);
        tokio::select! {
            changed = link.changed() => if changed.is_err() { return },
            changed = concerns.changed() => if changed.is_err() { return },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let pace = Pace::default();
        let check = |failures, refused, chance, expected_ms: u128| {
            assert_eq!(pace.pause(failures, refused, chance).as_millis(), expected_ms, "after {failures} failures");
        };
        check(1, false, 0.0, 50);
        check(1, false, 1.0, 100);
        check(2, false, 1.0, 200);
        check(4, false, 1.0, 800);
        check(5, false, 1.0, 1_500);
        check(u32::MAX, false, 0.0, 750);
        check(u32::MAX, true, 1.0, 30_000);
    }

    /// Pauses too short to be felt: these tests are about the order of things.
    const QUICK: Pace = Pace {
        first: Duration::from_nanos(1),
        away_max: Duration::from_nanos(1),
        refused_max: Duration::from_nanos(1),
        healthy_after: Duration::ZERO,
    };

    #[tokio::test]
    async fn the_link_follows_what_the_edge_says() {
        let (link, seen) = watch::channel(Link::Connecting);
        let (stopper, stop) = stop();
        let script = RefCell::new(vec![
            None,
            Some(anyhow::Error::new(Fault::Deaf("no echo".to_owned()))),
            Some(anyhow::Error::new(Fault::Refused("bad password".to_owned()))),
            Some(anyhow::anyhow!("connection reset")),
        ]);
        let before = RefCell::new(Vec::new());
        supervise("test", QUICK, &link, stop, || {
            before.borrow_mut().push(seen.borrow().clone());
            let next = script.borrow_mut().pop().flatten();
            if next.is_none() {
                stopper.stop(Instant::now());
            }
            link.send_replace(Link::Connected);
            async { next.map_or(Ok(()), Err) }
        })
        .await;
        assert_eq!(
            before.into_inner(),
            [
                Link::Connecting,
                Link::Disconnected { reason: "connection reset".to_owned() },
                Link::Disconnected { reason: "bad password".to_owned() },
                Link::Deaf { reason: "no echo".to_owned() },
            ]
        );
        assert_eq!(*seen.borrow(), Link::Connected, "a stop is no outage");
    }

    #[tokio::test]
    async fn a_context_around_a_fault_keeps_its_kind() {
        use anyhow::Context;
        let error = Err::<(), _>(Fault::Deaf("no echo".to_owned())).context("the canary").expect_err("an error");
        assert_eq!(judge(&error), (Link::Deaf { reason: "the canary: no echo".to_owned() }, false));
    }

    #[tokio::test]
    async fn a_stop_ends_a_pause() {
        let (link, _seen) = watch::channel(Link::Connecting);
        let (stopper, stop) = stop();
        let forever =
            Pace { first: Duration::from_secs(3_600), away_max: Duration::from_secs(3_600), ..Pace::default() };
        let mut seen = link.subscribe();
        tokio::join!(supervise("test", forever, &link, stop, || async { Err(anyhow::anyhow!("away")) }), async {
            seen.wait_for(|link| matches!(link, Link::Disconnected { .. })).await.expect("the sender lives");
            stopper.stop(Instant::now());
        });
        assert_eq!(*link.borrow(), Link::Disconnected { reason: "away".to_owned() });
    }
}
