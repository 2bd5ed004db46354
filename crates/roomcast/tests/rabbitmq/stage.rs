//! Both sides of a test: the gateway's source with names of its own, and a backend service that publishes and looks into queues.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use hub::profile::{Consumers, Publishing, Queue, Rabbitmq, RabbitmqAddress, Secret};
use hub::rules::{Arrival, Outcome};
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use roomcast::source::Running;
use roomcast::source::rabbitmq::{Settings, start};

use crate::support::gateway::{Gateway, PATIENCE, soon, to_everyone};
use crate::support::rabbit::Broker;

/// The names and settings of one test.
#[derive(Clone)]
pub struct Setup {
    pub address: RabbitmqAddress,
    pub name: String,
    pub source: Rabbitmq,
    pub event_max_bytes: u64,
}

impl Setup {
    pub fn new(broker: &Broker, name: &str) -> Self {
        let address = RabbitmqAddress::Url(Secret::new(broker.url()));
        let queue = Queue { name: format!("{name}.queue"), bindings: vec!["#".to_owned()], durable: true };
        let source = Rabbitmq {
            address: Some(address.clone()),
            exchange: format!("{name}.events"),
            exchange_type: "topic".to_owned(),
            durable: true,
            prefetch: 256,
            consumers: Consumers::All,
            dead_letter: format!("{name}.dead"),
            dead_letter_max: 10_000,
            queues: vec![queue],
        };
        Self { address, name: name.to_owned(), source, event_max_bytes: 1_000 }
    }

    pub fn exchange(&self) -> &str {
        &self.source.exchange
    }

    pub fn queue(&self) -> String {
        format!("{}.queue", self.name)
    }

    pub fn dead(&self) -> &str {
        &self.source.dead_letter
    }

    /// Starts the gateway's side.
    pub fn start(&self) -> Gateway<Running> {
        let publishing = Publishing { exchange: None, confirm_timeout: Duration::from_secs(5) };
        let settings = Settings::new(&self.address, &self.source, &publishing, self.event_max_bytes, &self.name);
        Gateway::new(route, |wiring, report| start(settings.expect("good settings"), wiring, report))
    }

    pub async fn start_connected(&self) -> Gateway<Running> {
        self.start().connected().await
    }
}

/// The rules of these tests: `take.…` goes to everyone, `once.…` too, with its body as identity; the rest is ignored; what is no JSON is poison.
fn route(arrival: &Arrival<'_>) -> Outcome {
    if serde_json::from_slice::<serde_json::Value>(arrival.body).is_err() {
        return Outcome::Poison { reason: "it is not JSON".to_owned() };
    }
    let once = arrival.key.starts_with("once.").then(|| String::from_utf8_lossy(arrival.body).into_owned());
    if once.is_none() && !arrival.key.starts_with("take.") {
        return Outcome::Ignored { reason: "not asked for".to_owned() };
    }
    to_everyone(arrival, once)
}

impl Gateway<Running> {
    /// Stops in peace: what is in hand has all the time that it needs.
    pub async fn stop(self) {
        self.running.stop(Instant::now() + PATIENCE).await;
    }
}

/// A backend service's side of a test.
pub struct Backend {
    connection: Connection,
    pub channel: Channel,
}

impl Backend {
    pub async fn connect(url: &str) -> Self {
        let connection = Connection::connect(url, ConnectionProperties::default()).await.expect("a broker");
        let channel = connection.create_channel().await.expect("a channel");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        Self { connection, channel }
    }

    pub async fn to(broker: &Broker) -> Self {
        Self::connect(&broker.url()).await
    }

    /// Publishes; whether the broker confirmed it.
    pub async fn try_publish(&self, exchange: &str, key: &str, body: &[u8], properties: BasicProperties) -> bool {
        let properties = properties.with_delivery_mode(2);
        let options = BasicPublishOptions::default();
        match self.channel.basic_publish(exchange.into(), key.into(), options, body, properties).await {
            Ok(confirm) => confirm.await.is_ok_and(|confirmation| confirmation.is_ack()),
            Err(_) => false,
        }
    }

    pub async fn publish(&self, setup: &Setup, key: &str, body: &str) {
        let confirmed = self.try_publish(setup.exchange(), key, body.as_bytes(), BasicProperties::default()).await;
        assert!(confirmed, "{key} was not confirmed");
    }

    /// Messages that wait in a queue.
    pub async fn waiting(&self, queue: &str) -> u32 {
        let options = QueueDeclareOptions::default().passive();
        let queue = self.channel.queue_declare(queue.into(), options, FieldTable::default()).await;
        queue.expect("the queue is there").message_count()
    }

    pub async fn consume(&self, queue: &str) -> Consumer {
        consume(&self.channel, queue).await
    }

    /// The next message of a queue, acknowledged. No other is given to the consumer, which would keep it.
    pub async fn take(&self, queue: &str) -> Delivery {
        let channel = self.connection.create_channel().await.expect("a channel");
        channel.basic_qos(1, BasicQosOptions::default()).await.expect("a prefetch");
        let mut consumer = consume(&channel, queue).await;
        let delivery = soon("a message", consumer.next()).await.expect("a consumer").expect("a delivery");
        channel.basic_cancel(consumer.tag(), Default::default()).await.expect("a cancelled consumer");
        delivery.ack(BasicAckOptions::default()).await.expect("an acknowledgement");
        channel.close(200, "".into()).await.expect("a channel");
        delivery
    }
}

async fn consume(channel: &Channel, queue: &str) -> Consumer {
    let options = BasicConsumeOptions::default();
    channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await.expect("a consumer")
}
