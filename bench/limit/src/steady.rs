//! A steady flow through the broker to a consumer that only acknowledges: how long an event takes where there is no gateway on its way.

use std::time::Duration;

use anyhow::Context;
use futures_util::future::try_join_all;
use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

use crate::consumer::{Options, PERSISTENT, connect, declare};

/// The publisher's clock, nanoseconds: as the load generator's.
const BEAT: u64 = 1_000_000;

/// Events that are sent together, begun in order.
const TOGETHER: usize = 16;

/// Publishes at the rate from a thread of its own, consumes here, prints the times.
pub fn run(options: &Options, rate: u32) -> anyhow::Result<()> {
    let queue = ShortString::try_new(options.queue.as_str()).context("the queue's name is too long")?;
    let events = u64::from(rate) * u64::from(options.seconds);
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    let consuming = runtime()?;
    let (channel, _connection) = consuming.block_on(async {
        let connection = connect(options).await?;
        let channel = connection.create_channel().await?;
        declare(&channel, &queue).await?;
        channel.basic_qos(options.prefetch, BasicQosOptions::default()).await?;
        anyhow::Ok((channel, connection))
    })?;
    let mut times = std::thread::scope(|scope| {
        let publishing = scope.spawn(|| publish(options, &runtime()?, &queue, rate, events));
        let times = consuming.block_on(take(&channel, queue.clone(), events));
        publishing.join().expect("the publisher does not panic")?;
        times
    })?;
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize] as f64 / 1e3;
    println!(
        "{}",
        json!({
            "version": 1, "scenario": "source", "dialect": "amqp", "unit": "event",
            "events": events, "units": events, "rate": rate, "frame_bytes": options.frame_bytes, "seconds": options.seconds,
            "latency_micros": { "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999), "max": at(1.0) },
        })
    );
    Ok(())
}

/// Publishes on a clock, what is due within a beat together; an event says when it was due.
fn publish(
    options: &Options,
    runtime: &tokio::runtime::Runtime,
    queue: &ShortString,
    rate: u32,
    events: u64,
) -> anyhow::Result<()> {
    let (channel, _connection) = runtime.block_on(async {
        let connection = connect(options).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        anyhow::Ok((channel, connection))
    })?;
    let mut confirms = Vec::with_capacity(events as usize);
    let began = now();
    let due = |event: u64| began + event * 1_000_000_000 / u64::from(rate);
    let mut next = 0;
    while next < events {
        let beat = due(next).next_multiple_of(BEAT);
        std::thread::sleep(Duration::from_nanos(beat.saturating_sub(now())));
        let until = now();
        let bodies: Vec<Vec<u8>> =
            (next..events).map(due).take_while(|due| *due <= until).map(|due| body(due, options.frame_bytes)).collect();
        for some in bodies.chunks(TOGETHER) {
            let sending = some.iter().map(|body| {
                let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
                let exchange = ShortString::default();
                channel.basic_publish(exchange, queue.clone(), BasicPublishOptions::default(), body, properties)
            });
            confirms.extend(runtime.block_on(try_join_all(sending))?);
        }
        next += bodies.len() as u64;
    }
    runtime.block_on(try_join_all(confirms))?;
    Ok(())
}

/// Takes so many events, and acknowledges what has come at once; how long each took, nanoseconds.
async fn take(channel: &Channel, queue: ShortString, events: u64) -> anyhow::Result<Vec<u64>> {
    let consume = BasicConsumeOptions::default();
    let mut consumer = channel.basic_consume(queue, ShortString::default(), consume, FieldTable::default()).await?;
    let mut times = Vec::with_capacity(events as usize);
    while (times.len() as u64) < events {
        let mut last = consumer.next().await.context("the consumer was cancelled")??;
        times.push(age(&last)?);
        while let Some(Some(next)) = consumer.next().now_or_never() {
            last = next?;
            times.push(age(&last)?);
        }
        last.ack(BasicAckOptions { multiple: true }).await?;
    }
    Ok(times)
}

/// Begins with the time at which it was due.
fn body(due: u64, bytes: usize) -> Vec<u8> {
    let mut body = due.to_le_bytes().to_vec();
    body.resize(bytes.max(body.len()), b'x');
    body
}

fn age(delivery: &Delivery) -> anyhow::Result<u64> {
    let due = delivery.data.first_chunk().context("an event of somebody else's is in the queue")?;
    Ok(now().saturating_sub(u64::from_le_bytes(*due)))
}

/// The time, by a clock that all processes share.
fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}
