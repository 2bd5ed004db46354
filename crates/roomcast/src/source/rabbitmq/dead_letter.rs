//! Messages that cannot be handled: kept in the dead-letter queue, acknowledged only once the broker has confirmed that it has them there.
//! While that is not possible they stay where they were, unacknowledged, within the prefetch.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use hub::rules::iso_8601;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use tokio::sync::mpsc;

use super::consume::Receipt;
use super::publish::{Message, Said};
use super::{Shared, unix_ms};
use crate::supervisor::Stop;

/// AMQP's delivery mode of a message that outlives the broker.
const PERSISTENT: u8 = 2;

/// Dead letters that are published at a time; their order means nothing.
const AT_A_TIME: usize = 32;

/// The pause after a dead letter could not be published.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// The most of a reason that goes into a header, in bytes.
const REASON_MAX_BYTES: usize = 1_000;

/// A message that cannot be handled.
pub(super) struct DeadLetter {
    pub(super) queue: ShortString,
    pub(super) exchange: ShortString,
    pub(super) key: ShortString,
    pub(super) body: bytes::Bytes,
    pub(super) properties: BasicProperties,
    pub(super) reason: String,
    pub(super) receipt: Receipt,
}

/// Publishes what comes, until nothing can come any more.
///
/// # Errors
/// The dead-letter queue is gone, so that everything must be declared anew.
pub(super) async fn keep(shared: Arc<Shared>, letters: mpsc::Receiver<DeadLetter>, stop: Stop) -> anyhow::Result<()> {
    let letters = stream::unfold(letters, async |mut letters| Some((letters.recv().await?, letters)));
    let mut kept =
        std::pin::pin!(letters.map(|letter| keep_one(&shared, letter, stop.clone())).buffer_unordered(AT_A_TIME));
    while let Some(result) = kept.next().await {
        result?;
    }
    Ok(())
}

async fn keep_one(shared: &Shared, letter: DeadLetter, mut stop: Stop) -> anyhow::Result<()> {
    let DeadLetter { queue, exchange, key, body, properties, reason, receipt } = letter;
    tracing::warn!(%queue, %exchange, %key, reason, "a message cannot be handled; it goes to the dead letters");
    let properties = with_headers(&properties, &queue, &exchange, &key, &reason);
    let to = &shared.settings.dead_letter;
    let mut stuck = None;
    loop {
        let (exchange, properties) = (ShortString::default(), properties.clone());
        let said = shared.publishing.send(Message { exchange, key: to.clone(), body: &body, properties }).await;
        match said {
            Said::Stored => {
                shared.wiring.metrics.dead_letters.inc();
                receipt.settle();
                return Ok(());
            }
            Said::Returned => anyhow::bail!("the dead-letter queue {to} is gone"),
            Said::No | Said::Nothing => {
                tracing::debug!(%queue, ?said, "a dead letter could not be published; it stays in its queue");
                stuck.get_or_insert_with(|| Stuck::new(&shared.stuck_letters));
            }
        }
        tokio::select! {
            // The receipt is dropped: the broker delivers the message again to whoever comes next.
            _ = stop.requested() => return Ok(()),
            () = tokio::time::sleep(RETRY_EVERY) => {}
        }
    }
}

/// Counts a letter among those that are stuck for as long as it lives.
struct Stuck<'a>(&'a AtomicUsize);

impl<'a> Stuck<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Stuck<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Headers by which a publisher names more queues; the broker would route the dead letter to them, too.
const ROUTING_HEADERS: [&str; 2] = ["CC", "BCC"];

/// What the message said of itself, with headers that say where it was and what is wrong with it. The time is that of the first attempt: the
/// headers are made once. Properties that the broker acts on (expiry, user, reply address) are left out.
fn with_headers(
    own: &BasicProperties,
    queue: &ShortString,
    exchange: &ShortString,
    key: &ShortString,
    reason: &str,
) -> BasicProperties {
    let mut headers = FieldTable::default();
    for (name, value) in own.headers().iter().flat_map(|headers| headers.inner()) {
        if !ROUTING_HEADERS.contains(&name.as_str()) {
            headers.insert(name.clone(), value.clone());
        }
    }
    let seen = iso_8601(unix_ms());
    let cut = (0..=REASON_MAX_BYTES.min(reason.len())).rfind(|at| reason.is_char_boundary(*at)).unwrap_or(0);
    let rows = [
        ("x-exchange", exchange.as_str()),
        ("x-queue", queue.as_str()),
        ("x-routing-key", key.as_str()),
        ("x-reason", &reason[..cut]),
        ("x-first-seen", &seen),
    ];
    for (name, value) in rows {
        headers.insert(name.into(), AMQPValue::LongString(LongString::from(value)));
    }
    let mut kept = BasicProperties::default().with_headers(headers).with_delivery_mode(PERSISTENT);
    if let Some(value) = own.content_type() {
        kept = kept.with_content_type(value.clone());
    }
    if let Some(value) = own.content_encoding() {
        kept = kept.with_content_encoding(value.clone());
    }
    if let Some(value) = own.correlation_id() {
        kept = kept.with_correlation_id(value.clone());
    }
    if let Some(value) = own.message_id() {
        kept = kept.with_message_id(value.clone());
    }
    if let Some(value) = own.timestamp() {
        kept = kept.with_timestamp(*value);
    }
    if let Some(value) = own.app_id() {
        kept = kept.with_app_id(value.clone());
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_added_to_those_of_the_message() {
        let mut own = FieldTable::default();
        own.insert("trace".into(), AMQPValue::LongString("42".into()));
        own.insert("CC".into(), AMQPValue::LongString("elsewhere".into()));
        let own = BasicProperties::default()
            .with_message_id("m1".into())
            .with_headers(own)
            .with_expiration("1".into())
            .with_user_id("someone".into());
        let reason = "ä".repeat(REASON_MAX_BYTES);
        let kept = with_headers(&own, &"q".into(), &"e".into(), &"a.b".into(), &reason);
        let headers = kept.headers().as_ref().expect("headers").inner().clone();
        let text = |name: &str| match headers.get(name) {
            Some(AMQPValue::LongString(text)) => text.to_string(),
            other => panic!("{name} is {other:?}"),
        };
        assert_eq!(
            [text("trace"), text("x-exchange"), text("x-queue"), text("x-routing-key")],
            ["42", "e", "q", "a.b"].map(str::to_owned)
        );
        assert_eq!(text("x-reason").len(), REASON_MAX_BYTES);
        assert!(!headers.contains_key("CC"), "it would be routed elsewhere");
        assert_eq!(kept.message_id().as_ref().map(ShortString::as_str), Some("m1"));
        assert_eq!((kept.expiration(), kept.user_id()), (&None, &None), "the broker would act on them");
        assert_eq!(kept.delivery_mode(), &Some(PERSISTENT));
    }
}
