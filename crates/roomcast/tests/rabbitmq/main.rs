//! The RabbitMQ source against a real broker.

mod stage;
#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use hub::profile::{Consumers, RabbitmqAddress, Secret};
use lapin::options::{BasicGetOptions, ExchangeDeclareOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, ExchangeKind};
use roomcast::fanout::Event;
use roomcast::source::Published;
use roomcast::supervisor::Link;
use stage::{Backend, Setup};
use support::gateway::{PATIENCE, soon, text};
use support::rabbit::Broker;

#[tokio::test(flavor = "multi_thread")]
async fn events_come_byte_for_byte_in_order_and_are_acknowledged() {
    let broker = Broker::shared();
    let (setup, backend) = (Setup::new(broker, "order"), Backend::to(broker).await);
    let mut gateway = setup.start_connected().await;
    let bodies: Vec<String> =
        (0..500).map(|number| format!("{{ \"b\":{number}.00,\n\"a\" : \"\\u00e4ä\", \"b\":1e2 }}")).collect();
    for body in &bodies {
        backend.publish(&setup, "take.it", body).await;
    }
    for body in &bodies {
        assert_eq!(gateway.next_text().await, ("take.it".to_owned(), body.clone()));
    }
    let metrics = gateway.metrics.clone();
    gateway.stop().await;
    assert_eq!(backend.waiting(&setup.queue()).await, 0, "all were acknowledged");
    assert_eq!((metrics.rabbitmq_deliveries.get(), metrics.rabbitmq_acked.get()), (500, 500));
}

#[tokio::test(flavor = "multi_thread")]
async fn exchange_queue_and_dead_letters_are_durable() {
    let broker = Broker::shared();
    let (setup, backend) = (Setup::new(broker, "durable"), Backend::to(broker).await);
    setup.start_connected().await.stop().await;
    // Declaring the same again is only let through where every argument is the same.
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let (exchange, kind) = (setup.exchange().into(), ExchangeKind::Topic);
    backend.channel.exchange_declare(exchange, kind, options, FieldTable::default()).await.expect("the same exchange");
    let mut arguments = FieldTable::default();
    let durable = QueueDeclareOptions::durable();
    let queue = setup.queue().as_str().into();
    backend.channel.queue_declare(queue, durable, arguments.clone()).await.expect("the same queue");
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(10_000));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("drop-head".into()));
    backend.channel.queue_declare(setup.dead().into(), durable, arguments).await.expect("the same dead letters");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_not_through_is_not_acknowledged() {
    let broker = Broker::shared();
    let (setup, backend) = (Setup::new(broker, "held"), Backend::to(broker).await);
    let mut gateway = setup.start_connected().await;
    for body in ["1", "2", "3"] {
        backend.publish(&setup, "take.it", body).await;
    }
    let (_one, held) = (gateway.next_text().await, gateway.next().await);
    assert_eq!(gateway.next_text().await.1, "3");
    // The deadline is over already: nothing can be waited for.
    gateway.running.stop(Instant::now()).await;
    // The broker takes back what was not acknowledged.
    soon("what is taken back", async { while backend.waiting(&setup.queue()).await == 0 {} }).await;
    let mut second = setup.start_connected().await;
    backend.publish(&setup, "take.it", "\"end\"").await;
    let mut bodies = Vec::new();
    while bodies.last().is_none_or(|body| body != "\"end\"") {
        bodies.push(second.next_text().await.1);
    }
    // The others may come again, too: their acknowledgements had no time to be written.
    assert!(bodies.iter().any(|body| body == "2"), "{bodies:?}");
    assert!(second.metrics.rabbitmq_redelivered.get() > 0, "the broker says that it had sent it before");
    drop(held);
    second.stop().await;
    assert_eq!(backend.waiting(&setup.queue()).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_comes_whole_and_in_order_and_what_is_not_through_stays() {
    let broker = Broker::shared();
    let (setup, backend) = (Setup::new(broker, "backlog"), Backend::to(broker).await);
    setup.start_connected().await.stop().await;
    for number in 0..1_000 {
        // Among them some that no shard gets.
        backend.publish(&setup, if number % 10 == 9 { "other" } else { "take.it" }, &number.to_string()).await;
    }
    let mut gateway = setup.start_connected().await;
    let mut held = Vec::new();
    for number in (0..1_000).filter(|number| number % 10 != 9) {
        let event = gateway.next().await;
        assert_eq!(text(&event).1, number.to_string());
        if number % 7 == 3 {
            held.push(event);
        }
    }
    while gateway.metrics.rabbitmq_acked.get() < 1_000 - held.len() as u64 {
        backend.waiting(&setup.queue()).await;
    }
    gateway.running.stop(Instant::now()).await;
    let given_back = async { while backend.waiting(&setup.queue()).await != held.len() as u32 {} };
    soon("what is held, and nothing else, to be back in the queue", given_back).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_finishes_what_is_in_hand() {
    let broker = Broker::shared();
    let (setup, backend) = (Setup::new(broker, "finish"), Backend::to(broker).await);
    let mut gateway = setup.start_connected().await;
    backend.publish(&setup, "take.it", "1").await;
    let held = gateway.next().await;
    let stopping = tokio::spawn(gateway.running.stop(Instant::now() + PATIENCE));
    drop(held);
    soon("the end", stopping).await.expect("no panic");
    assert_eq!(gateway.metrics.rabbitmq_acked.get(), 1);
    assert_eq!(backend.waiting(&setup.queue()).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_handled_is_kept_with_what_is_wrong_with_it() {
    let broker = Broker::shared();
    let (setup, backend) = (Setup::new(broker, "poison"), Backend::to(broker).await);
    let mut gateway = setup.start_connected().await;
    let large = format!("{:?}", "x".repeat(setup.event_max_bytes as usize));
    for (body, reason) in [("{not json", "not JSON"), (large.as_str(), "limit")] {
        backend.publish(&setup, "take.bad", body).await;
        let letter = backend.take(setup.dead()).await;
        assert_eq!(letter.data, body.as_bytes());
        assert_eq!(letter.properties.delivery_mode(), &Some(2), "it outlives the broker");
        let headers = letter.properties.headers().clone().expect("headers");
        let header = |name: &str| match headers.inner().get(name) {
            Some(AMQPValue::LongString(text)) => text.to_string(),
            other => panic!("{name} is {other:?}"),
        };
        assert_eq!(header("x-exchange"), setup.exchange());
        assert_eq!(header("x-queue"), setup.queue());
        assert_eq!(header("x-routing-key"), "take.bad");
        assert!(header("x-reason").contains(reason), "{}", header("x-reason"));
        assert!(header("x-first-seen").ends_with('Z'));
    }
    backend.publish(&setup, "take.good", "1").await;
    assert_eq!(gateway.next_text().await.1, "1", "the others go on");
    soon("what the broker confirmed", async {
        while gateway.metrics.dead_letters.get() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(gateway.metrics.dead_letters.get(), 2);
    gateway.stop().await;
    assert_eq!(backend.waiting(&setup.queue()).await, 0, "they were acknowledged after all");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_is_not_confirmed_stays_where_it_was() {
    let broker = Broker::shared();
    let (setup, backend) = (Setup::new(broker, "full"), Backend::to(broker).await);
    // A dead-letter queue of the operator's own, which refuses what does not fit.
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(1));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    let durable = QueueDeclareOptions::durable();
    backend.channel.queue_declare(setup.dead().into(), durable, arguments).await.expect("a queue");
    assert!(backend.try_publish("", setup.dead(), b"full", BasicProperties::default()).await);

    let mut gateway = setup.start_connected().await;
    backend.publish(&setup, "take.bad", "{not json").await;
    backend.publish(&setup, "take.good", "1").await;
    assert_eq!(gateway.next_text().await.1, "1", "the others do not wait for it");
    let metrics = gateway.metrics.clone();
    gateway.stop().await;
    assert_eq!(metrics.dead_letters.get(), 0);
    let back = backend.take(&setup.queue()).await;
    assert_eq!((back.data.as_slice(), back.redelivered), (b"{not json".as_slice(), true));

    // With room in the dead letters, it gets there by itself.
    let gateway = setup.start_connected().await;
    backend.publish(&setup, "take.bad", "{nor this").await;
    assert_eq!(backend.take(setup.dead()).await.data, b"full");
    assert_eq!(backend.take(setup.dead()).await.data, b"{nor this");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_route_asks_for_is_counted_by_key() {
    let broker = Broker::shared();
    let (setup, backend) = (Setup::new(broker, "ignored"), Backend::to(broker).await);
    let mut gateway = setup.start_connected().await;
    for key in ["some.other", "some.other", "take.it"] {
        backend.publish(&setup, key, "{}").await;
    }
    assert_eq!(gateway.next_text().await.0, "take.it");
    assert_eq!(gateway.metrics.events_ignored.value("some.other"), 2);
    gateway.stop().await;
    assert_eq!(backend.waiting(&setup.queue()).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_is_not_sent_again() {
    let broker = Broker::shared();
    let (setup, backend) = (Setup::new(broker, "repeat"), Backend::to(broker).await);
    let mut gateway = setup.start_connected().await;
    let named = |id: &str| BasicProperties::default().with_message_id(id.into());
    for (key, body, properties) in [
        ("take.a", "1", named("m1")),
        ("take.a", "1", named("m1")),
        ("take.b", "2", named("m1")),
        ("once.c", "3", BasicProperties::default()),
        ("once.d", "3", named("m2")),
        ("take.end", "4", BasicProperties::default()),
    ] {
        assert!(backend.try_publish(setup.exchange(), key, body.as_bytes(), properties).await);
    }
    // Held, so that the repeats come while the first is under way.
    let mut held: Vec<Arc<Event>> = Vec::new();
    while held.last().is_none_or(|event| text(event).0 != "take.end") {
        held.push(gateway.next().await);
    }
    let names: Vec<String> = held.iter().map(|event| text(event).0).collect();
    assert_eq!(names, ["take.a", "take.b", "once.c", "take.end"]);
    assert_eq!(gateway.metrics.rabbitmq_repeats.get(), 2);
    drop(held);
    assert!(backend.try_publish(setup.exchange(), "once.e", b"3", BasicProperties::default()).await);
    backend.publish(&setup, "take.last", "5").await;
    assert_eq!(gateway.next_text().await.0, "take.last");
    let metrics = gateway.metrics.clone();
    gateway.stop().await;
    assert_eq!((metrics.rabbitmq_repeats.get(), metrics.rabbitmq_acked.get()), (3, 8), "repeats are acknowledged");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_exists_with_other_arguments_is_used_as_it_is() {
    let broker = Broker::shared();
    let (setup, backend) = (Setup::new(broker, "legacy"), Backend::to(broker).await);
    let mut arguments = FieldTable::default();
    arguments.insert("x-message-ttl".into(), AMQPValue::LongInt(3_600_000));
    let durable = QueueDeclareOptions::durable();
    backend.channel.queue_declare(setup.queue().as_str().into(), durable, arguments).await.expect("a queue");
    let options = ExchangeDeclareOptions::default();
    let (exchange, kind) = (setup.exchange().into(), ExchangeKind::Topic);
    backend.channel.exchange_declare(exchange, kind, options, FieldTable::default()).await.expect("an exchange");

    let mut gateway = setup.start_connected().await;
    backend.publish(&setup, "take.it", "1").await;
    assert_eq!(gateway.next_text().await.1, "1");
    assert_eq!(gateway.metrics.rabbitmq_reconnects.get(), 0, "a failed declare is no lost connection");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_deleted_is_made_again() {
    let broker = Broker::shared();
    let (setup, backend) = (Setup::new(broker, "deleted"), Backend::to(broker).await);
    let mut gateway = setup.start_connected().await;
    let queue = setup.queue();
    backend.channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.expect("a queue");
    let standing = gateway.until(|standing| standing.link != Link::Connected).await;
    assert!(format!("{:?}", standing.link).contains(&queue), "{standing:?}");
    gateway.until(|standing| standing.link == Link::Connected).await;
    backend.publish(&setup, "take.it", "1").await;
    assert_eq!(gateway.next_text().await.1, "1");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_consumer_of_a_queue_is_a_concern() {
    let broker = Broker::shared();
    let (setup, backend) = (Setup::new(broker, "sibling"), Backend::to(broker).await);
    let mut gateway = setup.start_connected().await;
    let sibling = backend.consume(&setup.queue()).await;
    let standing = gateway.until(|standing| !standing.concerns.is_empty()).await;
    assert!(standing.concerns[0].contains(&setup.queue()), "{standing:?}");
    assert_eq!(standing.link, Link::Connected);
    backend.channel.basic_cancel(sibling.tag(), Default::default()).await.expect("a consumer");
    gateway.until(|standing| standing.concerns.is_empty()).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_consumes_and_the_other_stands_by() {
    let broker = Broker::shared();
    let (mut setup, backend) = (Setup::new(broker, "one"), Backend::to(broker).await);
    setup.source.consumers = Consumers::One;
    let mut first = setup.start_connected().await;
    let mut second = setup.start_connected().await;
    for body in ["1", "2"] {
        backend.publish(&setup, "take.it", body).await;
        assert_eq!(first.next_text().await.1, body);
    }
    first.stop().await;
    backend.publish(&setup, "take.it", "3").await;
    assert_eq!(second.next_text().await.1, "3");
    assert_eq!(second.metrics.rabbitmq_reconnects.get(), 0, "standing by is no failure");
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_messages_are_published_with_a_confirm() {
    let broker = Broker::shared();
    let (setup, backend) = (Setup::new(broker, "publish"), Backend::to(broker).await);
    let mut gateway = setup.start_connected().await;
    let publishing = gateway.running.publishing();
    let publish = async |exchange: Option<&str>, key: &str, id: &str| {
        publishing.publish(exchange, key, Bytes::from_static(b"{\"a\":1}"), id).await
    };
    assert_eq!(publish(None, "take.it", "id-1").await, Published::Confirmed);
    assert_eq!(gateway.next_text().await, ("take.it".to_owned(), "{\"a\":1}".to_owned()));

    backend
        .channel
        .queue_declare("publish.out".into(), QueueDeclareOptions::default(), FieldTable::default())
        .await
        .expect("a queue");
    assert_eq!(publish(Some(""), "publish.out", "id-2").await, Published::Confirmed);
    let out = backend.channel.basic_get("publish.out".into(), BasicGetOptions::default()).await;
    let out = out.expect("an answer").expect("it was confirmed, so it is there");
    assert_eq!(out.data, b"{\"a\":1}");
    assert_eq!(out.properties.message_id().as_ref().map(|id| id.as_str()), Some("id-2"));
    assert_eq!(out.properties.delivery_mode(), &Some(2));

    assert_eq!(publish(Some(""), "no.such.queue", "id-3").await, Published::Confirmed);
    assert_eq!(gateway.metrics.rabbitmq_returned.get(), 1);
    assert_eq!(publish(None, &"k".repeat(256), "id-4").await, Published::Unavailable);
    // The broker closes the channel over this; whoever publishes next has another.
    assert_eq!(publish(Some("no.such.exchange"), "k", "id-5").await, Published::Unconfirmed);
    let mut again = publish(None, "take.it", "id-6").await;
    while again == Published::Unavailable {
        tokio::task::yield_now().await;
        again = publish(None, "take.it", "id-6").await;
    }
    assert_eq!(again, Published::Confirmed);
    assert_eq!(gateway.next_text().await.0, "take.it");
    assert_eq!(gateway.metrics.rabbitmq_reconnects.get(), 0);
    gateway.stop().await;
    assert_eq!(publish(None, "take.it", "id-7").await, Published::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_said_and_not_hammered() {
    let broker = Broker::shared();
    let mut setup = Setup::new(broker, "password");
    setup.address = RabbitmqAddress::Url(Secret::new(broker.url().replace("guest@", "hush@")));
    let mut gateway = setup.start();
    let standing = gateway.until(|standing| matches!(standing.link, Link::Disconnected { .. })).await;
    let said = format!("{standing:?}");
    assert!(said.contains("ACCESS") && said.contains("guest") && !said.contains("hush"), "{said}");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_virtual_host_and_a_password_may_hold_anything() {
    let broker = Broker::shared();
    let (user, password, vhost) = ("o dd@user", "p/a@s%s:w#?2", "a/b@c%2F d");
    broker.control(&["add_vhost", vhost]);
    broker.control(&["add_user", user, password]);
    broker.control(&["set_permissions", "-p", vhost, user, ".*", ".*", ".*"]);
    let encoded = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let url = format!("amqp://{}:{}@127.0.0.1:{}/{}", encoded(user), encoded(password), broker.port, encoded(vhost));
    let backend = Backend::connect(&url).await;
    let parts = RabbitmqAddress::Parts {
        host: "127.0.0.1".to_owned(),
        port: broker.port,
        user: user.to_owned(),
        password: Secret::new(password),
        vhost: vhost.to_owned(),
    };
    for address in [parts, RabbitmqAddress::Url(Secret::new(url.as_str()))] {
        let setup = Setup { address, ..Setup::new(broker, "odd") };
        let mut gateway = setup.start_connected().await;
        backend.publish(&setup, "take.it", "1").await;
        assert_eq!(gateway.next_text().await.1, "1");
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_confirmed_event_arrives_though_the_broker_comes_late_and_is_killed() {
    let mut broker = Broker::prepared();
    let setup = Setup::new(&broker, "crash");
    let mut gateway = setup.start();
    gateway.until(|standing| matches!(standing.link, Link::Disconnected { .. })).await;
    assert_eq!(
        gateway.running.publishing().publish(None, "take.it", Bytes::from_static(b"0"), "id").await,
        Published::Unavailable
    );
    broker.start();
    gateway.until(|standing| standing.link == Link::Connected).await;

    let mut confirmed: Vec<u64> = Vec::new();
    let mut arrived: Vec<u64> = Vec::new();
    for round in 0..2_u64 {
        let (url, exchange) = (broker.url(), setup.exchange().to_owned());
        let (halfway, half) = tokio::sync::oneshot::channel();
        // Publishes until the broker is gone.
        let publishing = tokio::spawn(async move {
            let backend = Backend::connect(&url).await;
            let (mut confirmed, mut halfway) = (Vec::new(), Some(halfway));
            for number in round * 1_000_000.. {
                let body = number.to_string();
                if !backend.try_publish(&exchange, "take.it", body.as_bytes(), BasicProperties::default()).await {
                    break;
                }
                confirmed.push(number);
                if confirmed.len() == 300
                    && let Some(halfway) = halfway.take()
                {
                    halfway.send(()).expect("the test waits");
                }
            }
            confirmed
        });
        // Some are through, some are held while the broker dies.
        let mut held = Vec::new();
        for number in 0..100 {
            let event = gateway.next().await;
            arrived.push(text(&event).1.parse().expect("a number"));
            if number >= 50 {
                held.push(event);
            }
        }
        soon("300 confirms", half).await.expect("the publisher lives");
        broker.kill();
        gateway.until(|standing| matches!(standing.link, Link::Disconnected { .. })).await;
        drop(held);
        confirmed.extend(soon("the publisher's end", publishing).await.expect("no panic"));
        broker.start();
        gateway.until(|standing| standing.link == Link::Connected).await;
    }
    let backend = Backend::to(&broker).await;
    backend.publish(&setup, "take.end", "\"end\"").await;
    loop {
        let (name, body) = gateway.next_text().await;
        if name == "take.end" {
            break;
        }
        arrived.push(body.parse().expect("a number"));
    }
    let missing: Vec<&u64> = confirmed.iter().filter(|number| !arrived.contains(number)).collect();
    assert!(missing.is_empty(), "{} of {} are missing: {missing:?}", missing.len(), confirmed.len());
    gateway.stop().await;
    assert_eq!(backend.waiting(&setup.queue()).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_no_longer_answers_is_noticed() {
    let broker = Broker::started();
    let setup = Setup::new(&broker, "frozen");
    let mut gateway = setup.start_connected().await;
    broker.freeze();
    let standing = gateway.until(|standing| standing.link != Link::Connected).await;
    assert!(matches!(standing.link, Link::Deaf { .. }), "{standing:?}");
    broker.thaw();
    gateway.until(|standing| standing.link == Link::Connected).await;
    let backend = Backend::to(&broker).await;
    backend.publish(&setup, "take.it", "1").await;
    assert_eq!(gateway.next_text().await.1, "1");
    gateway.stop().await;
}
