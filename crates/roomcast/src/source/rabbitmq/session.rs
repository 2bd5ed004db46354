//! One life of the connection: connect, declare, bind, consume, until anything is lost or the stop comes. Whatever fails, everything is dropped
//! and built anew by the next call. Knows nothing of retries.
//!
//! There are two TCP connections, since a broker that is short of memory or disk stops reading from those that publish: events must go on
//! coming and being acknowledged then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures_util::StreamExt;
use hub::profile::Consumers;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, ConfirmSelectOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection, ConnectionProperties, Consumer, Event};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout, timeout_at};

use super::acks::{Due, acknowledge};
use super::consume::{Intake, Tally};
use super::watch::{Canary, look};
use super::{Shared, dead_letter, topology};
use crate::supervisor::{Fault, Link, Stop};

/// How long a connection and its declarations may take.
const SETUP_MAX: Duration = Duration::from_secs(10);

/// Where one node consumes and the others stand by: how often these ask whether it is their turn.
const STAND_BY: Duration = Duration::from_secs(2);

/// What closing may take of the time that is left at the end.
const CLOSE_MAX: Duration = Duration::from_millis(500);

/// Works until the connection is lost (an error) or the stop comes.
pub(super) async fn run(shared: &Arc<Shared>, mut stop: Stop) -> anyhow::Result<()> {
    let opening = timeout(SETUP_MAX, Session::open(shared));
    let session = tokio::select! {
        biased;
        _ = stop.requested() => return Ok(()),
        session = opening => session.with_context(|| format!("no answer within {SETUP_MAX:?}"))?.map_err(refused)?,
    };
    let broker = shared.settings.broker();
    tracing::info!(broker, "connected to RabbitMQ");
    let result = session.serve(shared, stop).await.map_err(refused);
    shared.concerns.send_if_modified(|concerns| !std::mem::take(concerns).is_empty());
    result
}

/// Tells a broker that says no (user, password, virtual host, permissions, arguments) from one that is away.
fn refused(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<lapin::Error>().and_then(topology::reply_code) {
        Some(topology::ACCESS_REFUSED | topology::PRECONDITION_FAILED | topology::NOT_ALLOWED) => {
            Fault::Refused(format!("{error:#}")).into()
        }
        Some(_) | None => error,
    }
}

struct Session {
    consuming: Arc<Connection>,
    publishing: Arc<Connection>,
    watchers: JoinSet<anyhow::Result<()>>,
}

impl Session {
    async fn open(shared: &Arc<Shared>) -> anyhow::Result<Self> {
        let consuming = connect(shared, "consumer").await?;
        let publishing = connect(shared, "publisher").await?;
        let mut watchers = JoinSet::new();
        watchers.spawn(heed(consuming.clone(), None));
        watchers.spawn(heed(publishing.clone(), Some(shared.clone())));
        topology::declare(&consuming, &shared.settings, &shared.warned).await?;
        open_publishing(shared, &publishing).await?;
        Ok(Self { consuming, publishing, watchers })
    }

    async fn serve(mut self, shared: &Arc<Shared>, mut stop: Stop) -> anyhow::Result<()> {
        let stopping = stop.clone();
        let taking = tokio::select! {
            biased;
            _ = stop.requested() => None,
            lost = self.watchers.join_next() => return ended(lost),
            taking = Taking::start(shared, &self.consuming, &stopping) => Some(taking?),
        };
        let deadline = if let Some(mut taking) = taking {
            shared.link.send_replace(Link::Connected);
            let ended = tokio::select! {
                biased;
                deadline = stop.requested() => Ok(deadline),
                lost = self.watchers.join_next() => Err(ended(lost)),
                lost = taking.failed() => Err(lost),
            };
            match ended {
                Ok(deadline) => {
                    taking.finish(deadline).await;
                    deadline
                }
                Err(lost) => {
                    // None of the old tasks may hand over another event once a new connection does.
                    taking.intakes.shutdown().await;
                    taking.helpers.shutdown().await;
                    return lost;
                }
            }
        } else {
            stop.requested().await
        };
        shared.publishing.detach();
        let close = async {
            for connection in [&self.consuming, &self.publishing] {
                if let Err(error) = connection.close(200, "the gateway ends".into()).await {
                    tracing::debug!(%error, "closing a connection");
                }
            }
        };
        let until = deadline.max(Instant::now() + CLOSE_MAX);
        let _ = timeout_at(until.into(), close).await;
        Ok(())
    }
}

/// Connects, with a name by which the broker's operator knows us.
async fn connect(shared: &Shared, role: &str) -> anyhow::Result<Arc<Connection>> {
    let name = format!("{} {role}", shared.settings.connection_name);
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let connection = Connection::connect_uri(shared.settings.uri.clone(), properties).await;
    let connection =
        connection.with_context(|| format!("cannot connect to RabbitMQ at {}", shared.settings.broker()))?;
    Ok(Arc::new(connection))
}

/// Opens the channel that everything is published by.
async fn open_publishing(shared: &Shared, connection: &Connection) -> anyhow::Result<()> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await.context("cannot switch confirms on")?;
    shared.publishing.attach(channel);
    Ok(())
}

/// Listens to what the connection says of itself; an error ends it. `publisher`: told when the broker takes no messages.
async fn heed(connection: Arc<Connection>, publisher: Option<Arc<Shared>>) -> anyhow::Result<()> {
    let mut events = std::pin::pin!(connection.events_listener());
    while let Some(event) = events.next().await {
        match event {
            Event::Error(error) if connection.status().connected() => {
                // One channel is gone. Whoever uses it hears of it there, save for the publishers, who get another.
                if let Some(shared) = &publisher {
                    tracing::warn!(%error, "RabbitMQ has closed the channel for publishing");
                    if topology::reply_code(&error) == Some(topology::NOT_FOUND) {
                        // An exchange that is gone would fail every publish from now on, and nothing new would reach the queues.
                        topology::declare(&connection, &shared.settings, &shared.warned).await?;
                    }
                    open_publishing(shared, &connection).await?;
                }
            }
            Event::Error(error) => return Err(error).context("the connection to RabbitMQ is lost"),
            Event::ConnectionBlocked(reason) => {
                tracing::warn!(reason, "RabbitMQ takes no messages for now");
                if let Some(shared) = &publisher {
                    shared.publishing.set_blocked(Some(reason));
                }
            }
            Event::ConnectionUnblocked => {
                tracing::info!("RabbitMQ takes messages again");
                if let Some(shared) = &publisher {
                    shared.publishing.set_blocked(None);
                }
            }
            // The list of the library's events is open; none of these ends anything.
            _ => {}
        }
    }
    bail!("the connection to RabbitMQ is over")
}

/// The consumers of one connection and what serves them.
struct Taking {
    channel: Channel,
    tags: Vec<ShortString>,
    tallies: Vec<Arc<Tally>>,
    intakes: JoinSet<anyhow::Result<()>>,
    helpers: JoinSet<anyhow::Result<()>>,
}

impl Taking {
    /// Consumes every queue; where another node has them for itself, waits for that to end.
    async fn start(shared: &Arc<Shared>, connection: &Arc<Connection>, stop: &Stop) -> anyhow::Result<Self> {
        let mut standing_by = false;
        let (channel, consumers) = loop {
            let channel = connection.create_channel().await?;
            channel
                .basic_qos(shared.settings.prefetch, BasicQosOptions::default())
                .await
                .context("cannot set the prefetch")?;
            match consume(shared, &channel).await {
                Ok(consumers) => break (channel, consumers),
                Err(Refusal::Taken(error)) => {
                    if !standing_by {
                        tracing::info!(%error, "another node consumes; this one stands by");
                        shared.link.send_replace(Link::Connected);
                    }
                    standing_by = true;
                    sleep(STAND_BY).await;
                }
                Err(Refusal::Failed(error)) => return Err(error),
            }
        };
        let canary = Canary::open(&channel).await?;
        let (acks, due) = mpsc::unbounded_channel::<Due>();
        // Each letter is an unacknowledged delivery, so the prefetch bounds them, too.
        let (letters, dead) = mpsc::channel(usize::from(shared.settings.prefetch));
        let mut taking =
            Self { channel, tags: Vec::new(), tallies: Vec::new(), intakes: JoinSet::new(), helpers: JoinSet::new() };
        for (queue, consumer) in shared.settings.queues.iter().zip(consumers) {
            let tally = Tally::new(queue.name.clone());
            taking.tags.push(consumer.tag());
            taking.tallies.push(tally.clone());
            let intake = Intake { shared: shared.clone(), tally, acks: acks.clone(), letters: letters.clone() };
            taking.intakes.spawn(intake.run(consumer, stop.clone()));
        }
        taking.helpers.spawn(acknowledge(shared.clone(), taking.channel.clone(), due));
        taking.helpers.spawn(dead_letter::keep(shared.clone(), dead, stop.clone()));
        taking.helpers.spawn(canary.run(shared.clone(), acks));
        taking.helpers.spawn(look(shared.clone(), connection.clone(), taking.tallies.clone()));
        Ok(taking)
    }

    /// Waits until something fails. What ends well only does so because a stop was requested.
    async fn failed(&mut self) -> anyhow::Result<()> {
        loop {
            let lost = tokio::select! {
                lost = self.intakes.join_next(), if !self.intakes.is_empty() => lost,
                lost = self.helpers.join_next(), if !self.helpers.is_empty() => lost,
                else => bail!("nothing is consumed any more"),
            };
            match lost {
                Some(Ok(Ok(()))) => {}
                lost => return ended(lost),
            }
        }
    }

    /// Takes no more, finishes what is in hand and acknowledges it. What was prefetched and not looked at goes back with the channel.
    async fn finish(mut self, deadline: Instant) {
        let finishing = async {
            for tag in &self.tags {
                if let Err(error) = self.channel.basic_cancel(tag.clone(), BasicCancelOptions::default()).await {
                    tracing::debug!(%error, "cancelling a consumer");
                }
            }
            while let Some(ended) = self.intakes.join_next().await {
                if let Ok(Err(error)) = ended {
                    tracing::debug!(%error, "a consumer at the end");
                }
            }
            for tally in &self.tallies {
                tally.emptied().await;
            }
        };
        // Closing the connection needs a part of the time.
        let until = deadline.checked_sub(CLOSE_MAX).unwrap_or(deadline);
        if timeout_at(until.into(), finishing).await.is_err() {
            let in_hand: usize = self.tallies.iter().map(|tally| tally.in_hand()).sum();
            tracing::warn!(in_hand, "deliveries were in hand at the deadline; RabbitMQ delivers them again");
        }
    }
}

/// Why the queues cannot be consumed.
enum Refusal {
    /// Another node consumes them, alone.
    Taken(lapin::Error),
    /// Anything else.
    Failed(anyhow::Error),
}

/// Consumes every queue over one channel. Where one node is to consume alone, the first queue is the lock for all.
async fn consume(shared: &Shared, channel: &Channel) -> Result<Vec<Consumer>, Refusal> {
    let exclusive = shared.settings.consumers == Consumers::One;
    let options = BasicConsumeOptions { exclusive, ..BasicConsumeOptions::default() };
    let mut consumers = Vec::with_capacity(shared.settings.queues.len());
    for queue in &shared.settings.queues {
        let name = queue.name.clone();
        match channel.basic_consume(name.clone(), ShortString::default(), options, FieldTable::default()).await {
            Ok(consumer) => consumers.push(consumer),
            Err(error) if exclusive && topology::reply_code(&error) == Some(topology::ACCESS_REFUSED) => {
                return Err(Refusal::Taken(error));
            }
            Err(error) => {
                let error = Err::<(), _>(error).with_context(|| format!("cannot consume queue {name}"));
                return Err(Refusal::Failed(error.expect_err("it was one")));
            }
        }
    }
    Ok(consumers)
}

/// What the end of a task means for the connection.
fn ended(task: Option<Result<anyhow::Result<()>, JoinError>>) -> anyhow::Result<()> {
    match task {
        Some(Ok(Err(error))) => Err(error),
        Some(Ok(Ok(()))) | None => bail!("a task of the connection ended by itself"),
        Some(Err(error)) => Err(error).context("a task of the connection"),
    }
}
