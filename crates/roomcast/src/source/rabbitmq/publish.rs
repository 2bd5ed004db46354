//! Publishing with the broker's confirm: clients' messages, and dead letters. The handle outlives connections; while there is none, it says so
//! at once. Knows nothing of who publishes.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation, ErrorKind};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::consume::Receipt;
use super::settings::Settings;
use super::{Sampled, unix_ms};
use crate::metrics::Metrics;
use crate::source::recent::{Identity, Recent};

/// Publishes that may wait for their confirm; more wait for a place, within the same time-out.
const UNCONFIRMED_MAX: usize = 1_024;

/// AMQP's delivery mode of a message that outlives the broker.
pub(super) const PERSISTENT: u8 = 2;

/// What became of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// The broker has it.
    Confirmed,
    /// No broker is configured.
    NotConfigured,
    /// It was not sent: nobody gets it.
    Unavailable,
    /// It was sent, but no confirm came, or one of several queues did not take it: it may or may not arrive.
    Unconfirmed,
}

/// The way for clients' messages. Cheap to clone.
#[derive(Clone)]
pub struct Publishing(Option<Arc<Inner>>);

impl fmt::Debug for Publishing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publishing").field("configured", &self.0.is_some()).finish_non_exhaustive()
    }
}

struct Inner {
    channel: ArcSwapOption<Channel>,
    /// The broker takes no messages for now: it is short of memory or disk.
    blocked: Mutex<Option<String>>,
    places: Semaphore,
    exchange: ShortString,
    confirm_timeout: Duration,
    metrics: Arc<Metrics>,
    recent: Arc<Recent<Receipt>>,
    returns: Sampled,
}

/// What is published, as AMQP sees it.
pub(super) struct Message<'a> {
    pub(super) exchange: ShortString,
    pub(super) key: ShortString,
    pub(super) body: &'a [u8],
    pub(super) properties: BasicProperties,
}

/// What the broker said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// It has the message, in a queue.
    Stored,
    /// It has taken the message, and no queue wanted it.
    Returned,
    /// It was not asked.
    No,
    /// Nothing, or that not every queue took it.
    Nothing,
}

impl Publishing {
    /// A handle with no broker behind it.
    pub fn nowhere() -> Self {
        Self(None)
    }

    pub(super) fn new(settings: &Settings, metrics: Arc<Metrics>, recent: Arc<Recent<Receipt>>) -> Self {
        Self(Some(Arc::new(Inner {
            channel: ArcSwapOption::empty(),
            blocked: Mutex::new(None),
            places: Semaphore::new(UNCONFIRMED_MAX),
            exchange: settings.publish_exchange.clone(),
            confirm_timeout: settings.confirm_timeout,
            metrics,
            recent,
            returns: Sampled::new(),
        })))
    }

    /// A connection is there; its channel has publisher confirms switched on.
    pub(super) fn attach(&self, channel: Channel) {
        if let Some(inner) = &self.0 {
            *inner.blocked.lock() = None;
            inner.channel.store(Some(Arc::new(channel)));
        }
    }

    /// The connection is gone.
    pub(super) fn detach(&self) {
        if let Some(inner) = &self.0 {
            inner.channel.store(None);
        }
    }

    /// The broker takes no messages from now on, and why; `None`: it takes them again.
    pub(super) fn set_blocked(&self, reason: Option<String>) {
        if let Some(inner) = &self.0 {
            *inner.blocked.lock() = reason;
        }
    }

    /// Why the broker takes no messages, if it does not.
    pub(super) fn blocked_reason(&self) -> Option<String> {
        self.0.as_ref()?.blocked.lock().clone()
    }

    /// Publishes a JSON message, persistent and mandatory, and waits for the broker's confirm. `exchange`: `None` for the profile's own.
    /// A message that no queue wants is confirmed all the same; it is counted and logged. An event that comes back under the same id is not
    /// sent to members again.
    pub async fn publish(&self, exchange: Option<&str>, key: &str, body: Bytes, message_id: &str) -> Published {
        let Some(inner) = &self.0 else { return Published::NotConfigured };
        let exchange = match exchange {
            Some(name) => ShortString::try_new(name),
            None => Ok(inner.exchange.clone()),
        };
        let (Ok(exchange), Ok(key), Ok(id)) = (exchange, ShortString::try_new(key), ShortString::try_new(message_id))
        else {
            tracing::warn!(key, message_id, "not published: a name is longer than the 255 bytes of AMQP");
            return Published::Unavailable;
        };
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(PERSISTENT)
            .with_timestamp(unix_ms() / 1_000)
            .with_message_id(id);
        let identity = Identity::Once(message_id.into());
        inner.recent.mark_ours(&identity, Instant::now());
        let said = inner.send(Message { exchange, key, body: &body, properties }).await;
        match said {
            Said::Stored | Said::Returned => Published::Confirmed,
            Said::No => {
                inner.recent.forget(&identity);
                Published::Unavailable
            }
            // Who says it again had it from the broker.
            Said::Nothing if inner.recent.forget_ours(&identity) => Published::Confirmed,
            // Should it come back after all, its members have not had it.
            Said::Nothing => Published::Unconfirmed,
        }
    }

    /// Publishes any message and waits for what the broker says.
    pub(super) async fn send(&self, message: Message<'_>) -> Said {
        match &self.0 {
            Some(inner) => inner.send(message).await,
            None => Said::No,
        }
    }
}

impl Inner {
    async fn send(&self, message: Message<'_>) -> Said {
        let deadline = tokio::time::Instant::now() + self.confirm_timeout;
        let Ok(Ok(_place)) = tokio::time::timeout_at(deadline, self.places.acquire()).await else { return Said::No };
        if self.blocked.lock().is_some() {
            return Said::No;
        }
        let Some(channel) = self.channel.load_full() else { return Said::No };
        let Message { exchange, key, body, properties } = message;
        let (to, by) = (exchange.clone(), key.clone());
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let confirmed = async {
            match channel.basic_publish(exchange, key, options, body, properties).await {
                // Whatever becomes of the connection from here on: the broker may have the message.
                Ok(confirm) => confirm.await.map_err(|_| Said::Nothing),
                Err(error) => Err(match error.kind() {
                    // Found before anything was written.
                    ErrorKind::InvalidChannelState(..) | ErrorKind::InvalidConnectionState(..) => Said::No,
                    _ => Said::Nothing,
                }),
            }
        };
        match tokio::time::timeout_at(deadline, confirmed).await {
            Ok(Ok(Confirmation::Ack(None))) => Said::Stored,
            Ok(Ok(Confirmation::Ack(Some(returned)))) => {
                self.metrics.rabbitmq_returned.inc();
                if let Some(times) = self.returns.due() {
                    tracing::warn!(exchange = %to, key = %by, reason = %returned.reply_text, times, "a message was returned");
                }
                Said::Returned
            }
            // One of the queues that wanted it did not take it; the others have it.
            Ok(Ok(Confirmation::Nack(_) | Confirmation::NotRequested)) => Said::Nothing,
            Ok(Err(said)) => said,
            Err(_) => Said::Nothing,
        }
    }
}
