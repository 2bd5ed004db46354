//! The gateway's side of a source's test. The shards are the test itself: it holds the inbox, and an event is through when the test drops it.

use std::sync::Arc;
use std::time::Duration;

use hub::emission::{Emission, Except, Payload, Sending, Target};
use hub::names::{EventName, NamespaceId};
use hub::rules::{Arrival, Outcome};
use roomcast::fanout::{Event, Interest, Publisher};
use roomcast::metrics::Metrics;
use roomcast::shard::inbox::{Message, Next, Receiver, inbox};
use roomcast::source::Wiring;
use roomcast::supervisor::{Link, Report, Standing};
use tokio::sync::watch;
use tokio::time::timeout;

/// How long anything may take before the test gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Fails the test, by name, where something does not come.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} did not come within {PATIENCE:?}"))
}

/// What a source brings goes to everyone, as it came, under the name that it came by.
pub fn to_everyone(arrival: &Arrival<'_>, once: Option<String>) -> Outcome {
    let emission = Emission {
        namespace: NamespaceId(0),
        target: Target::Everyone,
        except: Except::default(),
        event: EventName::parse(arrival.key).expect("a name"),
        payload: Payload::json(arrival.body.clone()),
        sending: Sending::default(),
    };
    Outcome::Sent { emissions: vec![emission], once }
}

/// An event's name and body.
pub fn text(event: &Event) -> (String, String) {
    let body = String::from_utf8(event.emission.payload.json.to_vec()).expect("UTF-8");
    (event.emission.event.to_string(), body)
}

/// A source that runs, and what it tells.
pub struct Gateway<S> {
    pub running: S,
    pub events: Receiver,
    pub standing: watch::Receiver<Standing>,
    pub metrics: Arc<Metrics>,
}

impl<S> Gateway<S> {
    /// Starts a source with the rules of its tests.
    pub fn new(route: fn(&Arrival<'_>) -> Outcome, start: impl FnOnce(Wiring, Report) -> S) -> Self {
        let (inbox, events) = inbox();
        let metrics = Arc::new(Metrics::default());
        let publisher = Publisher::new(vec![inbox].into(), Arc::new(Interest::new(1)));
        let wiring = Wiring { route: Arc::new(route), publisher, metrics: metrics.clone() };
        let (told, standing) = watch::channel(Standing { link: Link::Connecting, concerns: Vec::new() });
        let report = Arc::new(move |standing: &Standing| {
            told.send_replace(standing.clone());
        });
        Self { running: start(wiring, report), events, standing, metrics }
    }

    /// The next event; it is through once it is dropped.
    pub async fn next(&mut self) -> Arc<Event> {
        match soon("an event", self.events.recv()).await {
            Next::Message(Message::Event(event)) => event,
            _ => panic!("only events come here"),
        }
    }

    /// The next event's name and body; it is through.
    pub async fn next_text(&mut self) -> (String, String) {
        let event = self.next().await;
        self.events.release(&event);
        text(&event)
    }

    pub async fn until(&mut self, holds: impl Fn(&Standing) -> bool) -> Standing {
        soon("the standing", self.standing.wait_for(holds)).await.expect("it is told").clone()
    }

    pub async fn connected(mut self) -> Self {
        self.until(|standing| standing.link == Link::Connected).await;
        self
    }
}
