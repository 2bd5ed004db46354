//! What is declared at the broker: exchange, queues, bindings, the dead-letter queue. What exists already with other arguments is used as it
//! is. Knows nothing of messages.

use std::collections::HashSet;

use anyhow::Context;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection, Error, ErrorKind, Queue};
use parking_lot::Mutex;

use super::settings::Settings;

/// AMQP's reply code for something that exists with other arguments.
pub(super) const PRECONDITION_FAILED: u16 = 406;

/// AMQP's reply code for something that is not there.
pub(super) const NOT_FOUND: u16 = 404;

/// AMQP's reply code for a virtual host that is not there.
pub(super) const NOT_ALLOWED: u16 = 530;

/// AMQP's reply code for something that we may not do.
pub(super) const ACCESS_REFUSED: u16 = 403;

/// What was warned about already: a reconnect is no news. Bounded by what is declared.
pub(super) type Warned = Mutex<HashSet<String>>;

/// Declares everything.
///
/// # Errors
/// Something is neither there nor ours to make, or the connection is lost.
pub(super) async fn declare(connection: &Connection, settings: &Settings, warned: &Warned) -> anyhow::Result<()> {
    let mut declarer = Declarer { connection, channel: connection.create_channel().await?, warned };
    if !settings.exchange.as_str().is_empty() {
        declarer.exchange(settings).await?;
    }
    for queue in &settings.queues {
        declarer.queue(&queue.name, queue.durable, FieldTable::default()).await?;
        if settings.exchange.as_str().is_empty() {
            continue;
        }
        for key in &queue.bindings {
            let (queue, key) = (queue.name.clone(), key.clone());
            let context = format!("cannot bind queue {queue} to exchange {} with key {key}", settings.exchange);
            declarer
                .channel
                .queue_bind(queue, settings.exchange.clone(), key, QueueBindOptions::default(), FieldTable::default())
                .await
                .context(context)?;
        }
    }
    declarer.queue(&settings.dead_letter, true, dead_letter_arguments(settings)).await?;
    declarer.channel.close(200, "declared".into()).await.context("cannot close a channel")
}

fn dead_letter_arguments(settings: &Settings) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(i64::from(settings.dead_letter_max)));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("drop-head".into()));
    arguments
}

/// A queue as the broker knows it, whatever its arguments; nothing is made.
pub(super) async fn inspect(channel: &Channel, queue: &ShortString) -> lapin::Result<Queue> {
    channel.queue_declare(queue.clone(), QueueDeclareOptions::default().passive(), FieldTable::default()).await
}

/// The reply code with which the broker closed the channel or the connection, if that is what happened.
pub(super) fn reply_code(error: &Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.get_id()),
        // The library's list of kinds is open; none of the others carries a code.
        _ => None,
    }
}

/// Whether this queue was found with other arguments than ours, so that it may keep rules of its own.
pub(super) fn is_anothers(queue: &ShortString, warned: &Warned) -> bool {
    warned.lock().contains(&warning("queue", queue))
}

fn warning(what: &str, name: &ShortString) -> String {
    format!("{what} {name}")
}

struct Declarer<'a> {
    connection: &'a Connection,
    /// A declare that fails closes it; it is then opened anew.
    channel: Channel,
    warned: &'a Warned,
}

impl Declarer<'_> {
    async fn exchange(&mut self, settings: &Settings) -> anyhow::Result<()> {
        let (name, kind) = (&settings.exchange, &settings.exchange_kind);
        let options = ExchangeDeclareOptions { durable: settings.durable, ..ExchangeDeclareOptions::default() };
        let result = self.channel.exchange_declare(name.clone(), kind.clone(), options, FieldTable::default()).await;
        let Err(error) = result else { return Ok(()) };
        self.use_as_it_is("exchange", name, &error).await?;
        let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        let found = self.channel.exchange_declare(name.clone(), kind.clone(), options, FieldTable::default()).await;
        found.with_context(|| format!("exchange {name} is not there, and may not be made ({error})"))
    }

    async fn queue(&mut self, name: &ShortString, durable: bool, arguments: FieldTable) -> anyhow::Result<()> {
        let options = QueueDeclareOptions { durable, ..QueueDeclareOptions::default() };
        let Err(error) = self.channel.queue_declare(name.clone(), options, arguments).await else { return Ok(()) };
        self.use_as_it_is("queue", name, &error).await?;
        inspect(&self.channel, name)
            .await
            .with_context(|| format!("queue {name} is not there, and may not be made ({error})"))?;
        Ok(())
    }

    /// Opens a new channel after a declare that failed because the thing exists with other arguments, or is not ours to make.
    async fn use_as_it_is(&mut self, what: &str, name: &ShortString, error: &Error) -> anyhow::Result<()> {
        match reply_code(error) {
            Some(PRECONDITION_FAILED | ACCESS_REFUSED) => {
                if self.warned.lock().insert(warning(what, name)) {
                    tracing::warn!(%name, %error, "a RabbitMQ {what} exists with other arguments; it is used as it is");
                }
                self.channel = self.connection.create_channel().await?;
                Ok(())
            }
            Some(_) | None => Err(error.clone()).with_context(|| format!("cannot declare {what} {name}")),
        }
    }
}
