//! What becomes of events while the bus is away, or takes nothing: how long they wait, who has to wait with them, and what health says of it.

use std::time::Duration;

use hub::profile::BusOutage;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Shared;
use crate::sampled::Sampled;
use crate::supervisor::Link;

/// How long events wait before anybody is told: for a bus that is away, and for one that does not take what is the first of them.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often it is looked whether the patience is at its end.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How often something was dropped, for the log.
static AWAY: Sampled = Sampled::new();

/// What the bus does with what comes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Way {
    /// It passes it on.
    #[default]
    Open,
    /// What comes waits for the bus, and sources take nothing more until it is back.
    Paused,
    /// The same, and whoever can be told has to try again.
    Held,
    /// Nothing waits: it stays on this node.
    GivenUp,
}

impl Way {
    /// What health says of it.
    fn concern(self, has_broker: bool) -> Option<&'static str> {
        match self {
            Self::Open => None,
            Self::Paused | Self::Held if has_broker => Some(
                "nothing is taken from RabbitMQ until it is back, and what is said to others is refused after a while (bus_outage = \"hold\")",
            ),
            Self::Paused | Self::Held => {
                Some("what is said to others is refused after a while, until it is back (bus_outage = \"hold\")")
            }
            Self::GivenUp => Some("events reach this node's members alone until it is back"),
        }
    }
}

/// How the bus stands.
#[derive(Debug, Clone, Copy)]
struct Standing {
    /// For how long it has been away; `None` while it is there.
    away: Option<Duration>,
    /// For how long what is the first has been the first.
    stuck: Duration,
    /// Whether there were other members when it was there.
    has_others: bool,
}

/// What follows from how the bus stands.
fn way(outage: BusOutage, standing: Standing) -> Way {
    let Standing { away, stuck, has_others } = standing;
    let is_away_for_long = away.is_some_and(|away| away >= PATIENCE);
    match outage {
        BusOutage::Hold if has_others => match away {
            _ if is_away_for_long || stuck >= PATIENCE => Way::Held,
            Some(_) => Way::Paused,
            None => Way::Open,
        },
        // Who was alone has nobody to wait for.
        BusOutage::Hold | BusOutage::Local if is_away_for_long => Way::GivenUp,
        BusOutage::Hold | BusOutage::Local => Way::Open,
    }
}

/// Looks after what waits, for as long as the node is in the cluster.
pub(super) async fn look_after(shared: &Shared) {
    let mut link = shared.link.subscribe();
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut away_since = None;
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            changed = link.changed() => if changed.is_err() { return },
        }
        let now = Instant::now();
        let is_up = *link.borrow_and_update() == Link::Connected;
        away_since = if is_up { None } else { away_since.or(Some(now)) };
        let for_so_long = |since: Instant| now.duration_since(since);
        let standing = Standing {
            away: away_since.map(for_so_long),
            stuck: shared.bus.first_since().map(for_so_long).unwrap_or_default(),
            has_others: shared.members() > 1,
        };
        let way = way(shared.settings.outage, standing);
        shared.bus.set_way(way);
        if way == Way::Open && standing.stuck >= PATIENCE {
            shared.bus.give_up_older_than(PATIENCE, now);
        }
        tell(shared, way);
    }
}

fn tell(shared: &Shared, way: Way) {
    let has_broker = shared.gateway.profile.rabbitmq.as_ref().is_some_and(|rabbitmq| rabbitmq.address.is_some());
    let all = [Way::Open, Way::Paused, Way::Held, Way::GivenUp].map(|way| way.concern(has_broker));
    shared.concerns.send_if_modified(|concerns| {
        let mut told = concerns.clone();
        told.retain(|concern| !all.contains(&Some(concern.as_str())));
        told.extend(way.concern(has_broker).map(str::to_owned));
        let is_news = *concerns != told;
        *concerns = told;
        is_news
    });
    shared.gateway.metrics.bus_dropped.add("unreadable", shared.bus.take_unreadable() as u64);
    let dropped = shared.bus.take_dropped();
    shared.gateway.metrics.bus_dropped.add("away", dropped as u64);
    if dropped > 0
        && let Some(times) = AWAY.due()
    {
        let what = "events reached this node's members alone: the cluster's bus is away, or does not take them";
        tracing::warn!(dropped, times, "{what}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_speaks_of_rabbitmq_only_where_there_is_one() {
        for way in [Way::Open, Way::Paused, Way::Held, Way::GivenUp] {
            assert!(!way.concern(false).is_some_and(|concern| concern.contains("RabbitMQ")), "{way:?}");
            assert_eq!(way.concern(true).is_some(), way.concern(false).is_some(), "{way:?}");
        }
        assert!(Way::Paused.concern(true).is_some_and(|concern| concern.contains("RabbitMQ")));
    }

    #[test]
    fn nobody_waits_for_nodes_that_were_not_there_and_nothing_is_lost_to_those_that_were() {
        use BusOutage::{Hold, Local};
        let (short, long) = (Some(Duration::ZERO), Some(PATIENCE));
        for (outage, has_others, away, stuck, expected) in [
            (Hold, true, None, Duration::ZERO, Way::Open),
            (Hold, true, short, Duration::ZERO, Way::Paused),
            (Hold, true, long, Duration::ZERO, Way::Held),
            (Hold, true, None, PATIENCE, Way::Held),
            (Hold, false, short, Duration::ZERO, Way::Open),
            (Hold, false, long, PATIENCE, Way::GivenUp),
            (Local, true, short, PATIENCE, Way::Open),
            (Local, true, long, Duration::ZERO, Way::GivenUp),
            (Local, true, None, PATIENCE, Way::Open),
        ] {
            let found = way(outage, Standing { away, stuck, has_others });
            assert_eq!(found, expected, "{outage:?}, others: {has_others}, away for {away:?}, stuck for {stuck:?}");
        }
    }
}
