//! Channels of Redis as a source, against a real server.

mod support;

use std::time::Instant;

use hub::profile::{RedisAddress, RedisChannels, Secret};
use hub::rules::{Arrival, Origin, Outcome};
use redis::aio::MultiplexedConnection;
use roomcast::source::Task;
use roomcast::source::redis::{Settings, start};
use roomcast::supervisor::{Link, Standing};
use support::gateway::{Gateway, PATIENCE, soon, to_everyone};
use support::redis::Redis;

/// The largest event.
const EVENT_MAX_BYTES: u64 = 2_000_000;

/// The rules of these tests: what comes by `once` has its body as identity; what is no JSON is poison, and `null` is not asked for.
fn route(arrival: &Arrival<'_>) -> Outcome {
    assert!(matches!(arrival.origin, Origin::Redis { channel } if channel == arrival.key), "{:?}", arrival.origin);
    match serde_json::from_slice::<serde_json::Value>(arrival.body) {
        Err(_) => return Outcome::Poison { reason: "it is not JSON".to_owned() },
        Ok(serde_json::Value::Null) => return Outcome::Ignored { reason: "not asked for".to_owned() },
        Ok(_) => {}
    }
    let once = (arrival.key == "once").then(|| String::from_utf8_lossy(arrival.body).into_owned());
    to_everyone(arrival, once)
}

/// Starts the gateway's side: subscribed to `events`, `more` and `once`.
fn start_at(url: String) -> Gateway<Task> {
    let channels = RedisChannels { channels: ["events", "more", "once"].map(str::to_owned).to_vec() };
    let settings = Settings::new(&RedisAddress::Url(Secret::new(url)), &channels, EVENT_MAX_BYTES);
    Gateway::new(route, |wiring, report| start(settings.expect("good settings"), wiring, report))
}

async fn start_connected(server: &Redis) -> Gateway<Task> {
    start_at(url(server)).connected().await
}

impl Gateway<Task> {
    async fn stop(self) {
        self.running.stop(Instant::now() + PATIENCE).await;
    }
}

fn url(server: &Redis) -> String {
    format!("redis://127.0.0.1:{}", server.port)
}

/// A backend service's side of a test.
struct Backend(MultiplexedConnection);

impl Backend {
    async fn connect(url: String) -> Self {
        let client = redis::Client::open(url).expect("an address");
        Self(soon("a connection", client.get_multiplexed_async_connection()).await.expect("the server is up"))
    }

    /// Publishes; gives the number of subscribers.
    async fn publish(&mut self, channel: &str, body: impl AsRef<[u8]>) -> u64 {
        self.command(&["PUBLISH", channel], body.as_ref()).await
    }

    async fn command<T: redis::FromRedisValue>(&mut self, words: &[&str], last: &[u8]) -> T {
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(*word);
        }
        command.arg(last);
        soon("an answer", command.query_async(&mut self.0)).await.expect("the server does it")
    }
}

fn pair(event: &str, body: &str) -> (String, String) {
    (event.to_owned(), body.to_owned())
}

#[tokio::test]
async fn what_is_published_goes_out_in_order_and_byte_for_byte() {
    let server = Redis::started(&[]);
    let mut gateway = start_connected(&server).await;
    let mut backend = Backend::connect(url(&server)).await;
    let odd = r#"{"z":1.0, "a":1e3,"text":"\u00e9 é","z":"twice"}"#;
    assert_eq!(backend.publish("elsewhere", "1").await, 0, "nobody listens there");
    for number in 0..1_000 {
        assert_eq!(backend.publish(["events", "more"][number % 2], number.to_string()).await, 1);
    }
    backend.publish("events", odd).await;
    for number in 0..1_000 {
        assert_eq!(gateway.next_text().await, pair(["events", "more"][number % 2], &number.to_string()));
    }
    assert_eq!(gateway.next_text().await, pair("events", odd));
    assert_eq!(gateway.metrics.redis_messages.get(), 1_001);
    assert_eq!(gateway.metrics.redis_up.get(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn what_cannot_be_handled_is_counted_and_the_rest_goes_on() {
    let server = Redis::started(&[]);
    let mut gateway = start_connected(&server).await;
    let mut backend = Backend::connect(url(&server)).await;
    for body in ["no JSON", "", "null", "\"a\""] {
        backend.publish("events", body).await;
    }
    backend.publish("events", vec![b' '; EVENT_MAX_BYTES as usize + 1]).await;
    backend.publish("events", [0xff_u8, 0xfe]).await;
    for body in ["1", "2", "1", "1"] {
        backend.publish("once", body).await;
    }
    backend.publish("events", "\"b\"").await;
    for (event, body) in [("events", "\"a\""), ("once", "1"), ("once", "2"), ("events", "\"b\"")] {
        assert_eq!(gateway.next_text().await, pair(event, body));
    }
    let metrics = &gateway.metrics;
    assert_eq!((metrics.redis_dropped.value("poison"), metrics.redis_dropped.value("too_large")), (3, 1));
    assert_eq!(metrics.events_ignored.value("events"), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn a_server_that_was_away_is_subscribed_to_anew() {
    let mut server = Redis::started(&[]);
    server.kill();
    let mut gateway = start_at(url(&server));
    let away = gateway.until(|standing| matches!(standing.link, Link::Disconnected { .. })).await;
    let Link::Disconnected { reason } = away.link else { panic!("it was just seen") };
    assert!(reason.contains(&format!("cannot connect to Redis at 127.0.0.1:{}", server.port)), "{reason}");
    for round in ["1", "2"] {
        server.start();
        gateway.until(|standing| standing.link == Link::Connected).await;
        Backend::connect(url(&server)).await.publish("events", round).await;
        assert_eq!(gateway.next_text().await, pair("events", round));
        server.kill();
        gateway.until(|standing| matches!(standing.link, Link::Disconnected { .. })).await;
    }
    assert_eq!(gateway.metrics.redis_up.get(), 0);
    assert!(gateway.metrics.redis_reconnects.get() >= 3);
    gateway.stop().await;
}

#[tokio::test]
async fn a_server_that_only_looks_alive_is_deaf() {
    let server = Redis::started(&[]);
    let mut gateway = start_connected(&server).await;
    server.freeze();
    gateway.until(|standing| matches!(standing.link, Link::Deaf { .. })).await;
    server.thaw();
    gateway.until(|standing| standing.link == Link::Connected).await;
    Backend::connect(url(&server)).await.publish("events", "1").await;
    assert_eq!(gateway.next_text().await, pair("events", "1"));
    gateway.stop().await;
}

#[tokio::test]
async fn a_user_who_may_use_the_profiles_channels_alone_or_only_listen_is_enough() {
    let server = Redis::started(&[]);
    let mut admin = Backend::connect(url(&server)).await;
    let user = ["ACL", "SETUSER", "gateway", "reset", "on", ">secret", "+@all"];
    for (rules, last) in [(&["&events", "&more"][..], b"&once".as_slice()), (&["&*"], b"-publish")] {
        admin.command::<String>(&[&user, rules].concat(), last).await;
        let mut gateway = start_at(format!("redis://gateway:secret@127.0.0.1:{}", server.port));
        let standing = gateway.until(|standing| standing.link == Link::Connected).await;
        assert!(standing.concerns.iter().any(|concern| concern.contains("roomcast:canary:*")), "{standing:?}");
        admin.publish("events", "1").await;
        assert_eq!(gateway.next_text().await, pair("events", "1"));
        gateway.stop().await;
    }

    let mut gateway = start_at(format!("redis://gateway:wrong@127.0.0.1:{}", server.port));
    let refused = gateway.until(|standing| matches!(standing.link, Link::Disconnected { .. })).await;
    assert!(!format!("{refused:?}").contains("wrong"), "no password is told: {refused:?}");
    gateway.stop().await;
}

#[tokio::test]
async fn what_the_shards_do_not_take_is_dropped_in_bounds_and_the_connection_stays() {
    let server = Redis::started(&[]);
    let mut gateway = start_connected(&server).await;
    let mut backend = Backend::connect(url(&server)).await;
    let large = format!("\"{}\"", "x".repeat(1_000_000));
    let metrics = gateway.metrics.clone();
    let mut published = 0;
    while metrics.redis_dropped.value("full") == 0 {
        assert_eq!(backend.publish("events", &large).await, 1);
        published += 1;
        assert!(published < 500, "nothing is ever dropped");
    }
    backend.publish("more", "1").await;
    while gateway.next_text().await != pair("more", "1") {}
    assert_eq!(*gateway.standing.borrow(), Standing { link: Link::Connected, concerns: Vec::new() });
    assert!(gateway.metrics.redis_dropped.value("full") > 0);
    gateway.stop().await;
}
