//! A consumer of RabbitMQ that only acknowledges, over the same library as the gateway's: the limit for events on their way from the broker
//! to sockets. Fills a queue first, so that what is measured is a backlog; with a rate it publishes steadily and takes the time of each event.
//! Prints its figures as the load generator does.

use std::time::Instant;

use anyhow::Context;
use clap::Parser;
use futures_util::future::try_join_all;
use futures_util::{FutureExt, StreamExt};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions, QueuePurgeOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

use crate::steady;

/// What to consume.
#[derive(Debug, Parser)]
pub struct Options {
    /// The broker
    #[arg(long, env = "RABBITMQ_URL", value_name = "URL", default_value = "amqp://guest:guest@127.0.0.1")]
    pub amqp: String,
    /// The durable queue that is filled and emptied; what it holds is thrown away
    #[arg(long, value_name = "NAME", default_value = "roomcast.limit")]
    pub queue: String,
    /// How many events
    #[arg(long, value_name = "N", default_value_t = 50_000)]
    events: u32,
    /// Publish so many a second, and take each one's time, in place of a backlog
    #[arg(long, value_name = "PER_SECOND")]
    rate: Option<u32>,
    /// For how long, with --rate
    #[arg(long, value_name = "S", default_value_t = 10)]
    pub seconds: u32,
    /// How large they are
    #[arg(long, value_name = "BYTES", default_value_t = 102)]
    pub frame_bytes: usize,
    /// How many the broker may send before it has an acknowledgement
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub prefetch: u16,
    /// Acknowledge each event by itself, not all that have come at once
    #[arg(long)]
    each: bool,
    /// Run on this core alone
    #[arg(long, value_name = "N")]
    cpu: Option<usize>,
}

/// Messages that are published before their confirms are awaited.
const PUBLISHED_AT_A_TIME: u32 = 1_000;

/// As AMQP numbers it: the message survives the broker.
pub const PERSISTENT: u8 = 2;

/// Fills the queue, empties it, and prints what that cost.
pub fn run(options: &Options) -> anyhow::Result<()> {
    if let Some(core) = options.cpu {
        let mut cores = rustix::thread::CpuSet::new();
        cores.set(core);
        rustix::thread::sched_setaffinity(None, &cores).with_context(|| format!("cannot run on core {core} alone"))?;
    }
    if let Some(rate) = options.rate {
        return steady::run(options, rate);
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measure(options))
}

async fn measure(options: &Options) -> anyhow::Result<()> {
    let queue = ShortString::try_new(options.queue.as_str()).context("the queue's name is too long")?;
    fill(options, &queue).await?;
    let connection = connect(options).await?;
    let channel = connection.create_channel().await?;
    channel.basic_qos(options.prefetch, BasicQosOptions::default()).await?;
    let (began, cpu_before) = (Instant::now(), cpu_seconds());
    empty(options, &channel, queue).await?;
    let (seconds, cpu_seconds) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu_before);
    let events = options.events;
    let figures = json!({
        "version": 1, "scenario": "source", "dialect": "amqp", "unit": "event",
        "events": events, "units": events, "frame_bytes": options.frame_bytes, "seconds": seconds,
        "server": { "cpu_seconds": cpu_seconds, "cpu_micros_per_unit": cpu_seconds * 1e6 / f64::from(events) },
    });
    println!("{figures}");
    Ok(())
}

pub async fn connect(options: &Options) -> anyhow::Result<Connection> {
    let connection = Connection::connect(&options.amqp, ConnectionProperties::default()).await;
    connection.with_context(
        || "cannot connect to RabbitMQ; is it there, and does the URL look like amqp://user:password@host:port?",
    )
}

/// The queue, empty.
pub async fn declare(channel: &Channel, queue: &ShortString) -> anyhow::Result<()> {
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.clone(), durable, FieldTable::default()).await?;
    channel.queue_purge(queue.clone(), QueuePurgeOptions::default()).await?;
    Ok(())
}

/// Leaves nothing in the queue but these events, stored.
async fn fill(options: &Options, queue: &ShortString) -> anyhow::Result<()> {
    let connection = connect(options).await?;
    let channel = connection.create_channel().await?;
    declare(&channel, queue).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let body = vec![b'x'; options.frame_bytes];
    let mut left = options.events;
    while left > 0 {
        let batch = left.min(PUBLISHED_AT_A_TIME);
        let mut confirms = Vec::with_capacity(batch as usize);
        for _ in 0..batch {
            let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
            let (exchange, mandatory) = (ShortString::default(), BasicPublishOptions::default());
            confirms.push(channel.basic_publish(exchange, queue.clone(), mandatory, &body, properties).await?);
        }
        try_join_all(confirms).await?;
        left -= batch;
    }
    connection.close(200, "done".into()).await?;
    Ok(())
}

/// Takes all events and acknowledges them; over when the broker has every acknowledgement.
async fn empty(options: &Options, channel: &Channel, queue: ShortString) -> anyhow::Result<()> {
    let consume = BasicConsumeOptions::default();
    let mut consumer = channel.basic_consume(queue, ShortString::default(), consume, FieldTable::default()).await?;
    let mut left = options.events;
    while left > 0 {
        let mut last = consumer.next().await.context("the consumer was cancelled")??;
        left -= 1;
        if options.each {
            last.ack(BasicAckOptions::default()).await?;
            continue;
        }
        while let Some(Some(next)) = consumer.next().now_or_never() {
            last = next?;
            left -= 1;
        }
        last.ack(BasicAckOptions { multiple: true }).await?;
    }
    // The broker answers in order: it has the acknowledgements when it has this.
    channel.basic_qos(options.prefetch, BasicQosOptions::default()).await?;
    Ok(())
}

/// What this process has cost so far, all threads together.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
