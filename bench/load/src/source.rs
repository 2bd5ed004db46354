//! Events on their way from a backend service over RabbitMQ and a gateway to clients: how many does a gateway manage, and how long do they take?
//! This file is the service: it publishes as one does, persistent, to a topic exchange. The clients are those of every scenario.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use futures_util::future::try_join_all;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, PublisherConfirm};
use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Runtime;

use crate::arguments::Arguments;
use crate::check::{ROOM_PREFIX, Shape};
use crate::crowd::now;

/// Events of a backlog that are published before the broker's confirms are awaited.
const UNCONFIRMED: usize = 1_000;

/// The clock of a steady flow, nanoseconds: what is due within a beat is published together, as it is where several services publish. An event
/// at a time would cost publisher and broker more than all others on its way, and it is others that are measured.
const BEAT: u64 = 1_000_000;

/// Events that are on their way to the broker's socket together; futures of that many are begun in order.
const TOGETHER: usize = 16;

/// As AMQP numbers it: the message survives the broker.
const PERSISTENT: u8 = 2;

/// `{"conversationId":ROOM,"senderId":..,"message":{"content":STAMP}}`
pub const SHAPE: Shape = Shape { before_room: r#""conversationId":""#, before_stamp: r#""content":""# };

/// A service that publishes messages of conversations.
pub struct Service {
    runtime: Runtime,
    connection: Connection,
    channel: Channel,
    exchange: ShortString,
    key: ShortString,
    body_bytes: usize,
    /// For each room how many it has had.
    sequences: Vec<u32>,
    /// The room whose turn it is.
    next: usize,
    unconfirmed: Vec<PublisherConfirm>,
}

impl Service {
    /// Connects to the broker. The exchange must be there already: the gateway declares it.
    pub fn connect(arguments: &Arguments) -> anyhow::Result<Self> {
        let name = |text: &str| {
            ShortString::try_new(text).with_context(|| format!("{text:?} is too long a name for RabbitMQ"))
        };
        let url =
            arguments.amqp.as_deref().context("the scenario `source` needs --amqp URL, the gateway's RabbitMQ")?;
        // The library's own thread sees to the socket while this one sleeps to the nanosecond.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (connection, channel) = runtime.block_on(async {
            let connection = Connection::connect(url, ConnectionProperties::default()).await;
            let connection = connection
                .context("cannot connect to RabbitMQ; does --amqp look like amqp://user:password@host:port?")?;
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            anyhow::Ok((connection, channel))
        })?;
        Ok(Self {
            runtime,
            connection,
            channel,
            exchange: name(&arguments.exchange)?,
            key: name(&arguments.key)?,
            body_bytes: arguments.frame_bytes as usize,
            sequences: vec![0; arguments.rooms as usize],
            next: 0,
            unconfirmed: Vec::new(),
        })
    }

    /// Publishes events to the next rooms, in order. Each says when it was due.
    fn publish(&mut self, due: impl Iterator<Item = u64>) -> anyhow::Result<()> {
        let mut due = due.peekable();
        while due.peek().is_some() {
            let bodies: Vec<String> = due.by_ref().take(TOGETHER).map(|nanos| self.body(nanos)).collect();
            let sending = bodies.iter().map(|body| {
                let properties = BasicProperties::default()
                    .with_content_type("application/json".into())
                    .with_delivery_mode(PERSISTENT);
                let (exchange, key) = (self.exchange.clone(), self.key.clone());
                let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
                self.channel.basic_publish(exchange, key, options, body.as_bytes(), properties)
            });
            self.unconfirmed.extend(self.runtime.block_on(try_join_all(sending)).context("cannot publish")?);
        }
        Ok(())
    }

    /// The next event of the next room.
    fn body(&mut self, nanos: u64) -> String {
        let room = self.next;
        self.next = (room + 1) % self.sequences.len();
        let sequence = self.sequences[room];
        self.sequences[room] += 1;
        body(room, sequence, nanos, self.body_bytes)
    }

    /// As many events as the broker takes; comes back when it has stored all of them.
    pub fn publish_all(&mut self, events: u64) -> anyhow::Result<()> {
        let mut left = events as usize;
        while left > 0 {
            let some = left.min(UNCONFIRMED);
            self.publish(std::iter::repeat_with(now).take(some))?;
            self.confirmed()?;
            left -= some;
        }
        Ok(())
    }

    /// On a clock, whatever has come. An event says when it was due, which may be up to a beat before it is published.
    pub fn publish_at(&mut self, events: u64, rate: f64) -> anyhow::Result<()> {
        let began = now();
        let due = |event: u64| began + (event as f64 / rate * 1e9) as u64;
        let mut next = 0;
        while next < events {
            let beat = due(next).next_multiple_of(BEAT);
            std::thread::sleep(Duration::from_nanos(beat.saturating_sub(now())));
            let until = now();
            let ready = (next..events).take_while(|event| due(*event) <= until).count() as u64;
            self.publish((next..next + ready).map(due))?;
            next += ready;
        }
        self.confirmed()
    }

    fn confirmed(&mut self) -> anyhow::Result<()> {
        for confirmation in self.runtime.block_on(try_join_all(self.unconfirmed.drain(..)))? {
            match confirmation {
                Confirmation::Ack(None) => {}
                Confirmation::Ack(Some(_)) => bail!(
                    "no queue takes `{}` from exchange `{}`: is the gateway connected to this broker?",
                    self.key,
                    self.exchange
                ),
                Confirmation::Nack(_) | Confirmation::NotRequested => bail!("RabbitMQ refused an event"),
            }
        }
        Ok(())
    }

    /// Says goodbye to the broker.
    pub fn close(self) {
        // Everything is confirmed; how the connection ends changes nothing.
        let _ = self.runtime.block_on(self.connection.close(200, "done".into()));
    }
}

/// Padded to so many bytes; longer if the stamp alone is.
fn body(room: usize, sequence: u32, nanos: u64, bytes: usize) -> String {
    const END: &str = r#""}}"#;
    let mut body = format!(
        r#"{{"conversationId":"{ROOM_PREFIX}{room}","senderId":"load","message":{{"content":"{ROOM_PREFIX}{room}:{sequence}:{nanos}:"#
    );
    body.extend(std::iter::repeat_n('x', bytes.saturating_sub(body.len() + END.len())));
    body + END
}

/// Server processes that are halted, for as long as it lives.
pub struct Halted(Vec<Pid>);

impl Halted {
    /// Halts them, so that a backlog gathers at the broker.
    pub fn halt(pids: &[u32]) -> anyhow::Result<Self> {
        ensure!(
            !pids.is_empty(),
            "without --rate the server is halted while the events are published: name it with --pid"
        );
        let mut halted = Self(Vec::new());
        for pid in pids {
            let pid =
                i32::try_from(*pid).ok().and_then(Pid::from_raw).with_context(|| format!("{pid} is no process"))?;
            kill_process(pid, Signal::STOP).with_context(|| format!("cannot halt process {pid:?}"))?;
            halted.0.push(pid);
        }
        Ok(halted)
    }
}

impl Drop for Halted {
    fn drop(&mut self) {
        for pid in &self.0 {
            // One that is gone needs no waking.
            let _ = kill_process(*pid, Signal::CONT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_as_long_as_asked() {
        assert_eq!(body(7, 12, 345, 200).len(), 200);
        let shortest = r#"{"conversationId":"r7","senderId":"load","message":{"content":"r7:12:345:"}}"#;
        assert_eq!(body(7, 12, 345, 10), shortest);
    }
}
