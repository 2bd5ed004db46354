//! What the source is told: where the broker is, and what to declare there. Checks everything that AMQP would choke on later.
//! Never prints a password.

use std::time::Duration;

use anyhow::{Context, bail};
use hub::profile::{Consumers, Profile, Publishing, Queue, Rabbitmq, RabbitmqAddress};
use lapin::ExchangeKind;
use lapin::types::ShortString;
use lapin::uri::{AMQPAuthority, AMQPScheme, AMQPUri, AMQPUserInfo};

/// The heartbeat that is asked for where the URL names none. The broker closes after two that are missing.
const HEARTBEAT_SECS: u16 = 10;

/// Where the broker is, and what to declare there.
#[derive(Clone)]
pub struct Settings {
    pub(super) uri: AMQPUri,
    pub(super) connection_name: String,
    pub(super) exchange: ShortString,
    pub(super) exchange_kind: ExchangeKind,
    pub(super) durable: bool,
    pub(super) prefetch: u16,
    pub(super) consumers: Consumers,
    pub(super) dead_letter: ShortString,
    pub(super) dead_letter_max: u32,
    pub(super) queues: Vec<Bound>,
    pub(super) event_max_bytes: u64,
    pub(super) publish_exchange: ShortString,
    pub(super) confirm_timeout: Duration,
}

/// A queue and what brings messages into it.
#[derive(Debug, Clone)]
pub(super) struct Bound {
    pub(super) name: ShortString,
    pub(super) durable: bool,
    pub(super) bindings: Vec<ShortString>,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("broker", &self.broker()).field("queues", &self.queues).finish_non_exhaustive()
    }
}

impl Settings {
    /// The settings of a profile; `None` where it has no such source, or no variable names a broker.
    ///
    /// # Errors
    /// The address makes no sense, or a name is too long for AMQP.
    pub fn of(profile: &Profile) -> anyhow::Result<Option<Self>> {
        let Some(rabbitmq) = &profile.rabbitmq else { return Ok(None) };
        let Some(address) = &rabbitmq.address else { return Ok(None) };
        Self::new(address, rabbitmq, &profile.publishing, profile.limits.event_bytes, &profile.service.name).map(Some)
    }

    /// The settings for one broker. `service` names the connection in the broker's own listings.
    ///
    /// # Errors
    /// The address makes no sense, or a name is too long for AMQP.
    pub fn new(
        address: &RabbitmqAddress,
        source: &Rabbitmq,
        publishing: &Publishing,
        event_max_bytes: u64,
        service: &str,
    ) -> anyhow::Result<Self> {
        let exchange = name("exchange", &source.exchange)?;
        let publish_exchange = match &publishing.exchange {
            Some(other) => name("exchange to publish to", other)?,
            None => exchange.clone(),
        };
        if source.dead_letter.is_empty() || source.queues.iter().any(|queue| queue.name.is_empty()) {
            bail!("a RabbitMQ queue needs a name");
        }
        Ok(Self {
            uri: uri(address)?,
            connection_name: format!("roomcast {service} {}", std::process::id()),
            exchange,
            exchange_kind: exchange_kind(&source.exchange_type),
            durable: source.durable,
            prefetch: source.prefetch.max(1),
            consumers: source.consumers,
            dead_letter: name("dead-letter queue", &source.dead_letter)?,
            dead_letter_max: source.dead_letter_max,
            queues: source.queues.iter().map(bound).collect::<anyhow::Result<_>>()?,
            event_max_bytes,
            publish_exchange,
            confirm_timeout: publishing.confirm_timeout,
        })
    }

    /// The broker as a log may name it.
    pub(super) fn broker(&self) -> String {
        let authority = &self.uri.authority;
        format!("{}:{} vhost {:?} as {:?}", authority.host, authority.port, self.uri.vhost, authority.userinfo.username)
    }
}

fn bound(queue: &Queue) -> anyhow::Result<Bound> {
    let bindings = queue.bindings.iter().map(|key| name("binding", key)).collect::<anyhow::Result<_>>()?;
    Ok(Bound { name: name("queue", &queue.name)?, durable: queue.durable, bindings })
}

/// AMQP counts the bytes of a name in one byte.
pub(super) fn name(what: &str, text: &str) -> anyhow::Result<ShortString> {
    ShortString::try_new(text).with_context(|| format!("the RabbitMQ {what} {text:?} is longer than 255 bytes"))
}

fn exchange_kind(text: &str) -> ExchangeKind {
    match text {
        "topic" => ExchangeKind::Topic,
        "direct" => ExchangeKind::Direct,
        "fanout" => ExchangeKind::Fanout,
        "headers" => ExchangeKind::Headers,
        custom => ExchangeKind::Custom(custom.to_owned()),
    }
}

fn uri(address: &RabbitmqAddress) -> anyhow::Result<AMQPUri> {
    let mut uri = match address {
        RabbitmqAddress::Url(url) => parse(url.reveal())?,
        RabbitmqAddress::Parts { host, port, user, password, vhost } => AMQPUri {
            scheme: AMQPScheme::AMQP,
            authority: AMQPAuthority {
                userinfo: AMQPUserInfo { username: user.clone(), password: password.reveal().to_owned() },
                host: host.clone(),
                port: *port,
            },
            vhost: vhost.clone(),
            query: Default::default(),
        },
    };
    // What the clients of the broker's own house make of an empty path, or of none.
    if uri.vhost.is_empty() {
        uri.vhost = "/".to_owned();
    }
    name("virtual host", &uri.vhost)?;
    uri.query.heartbeat.get_or_insert(HEARTBEAT_SECS);
    Ok(uri)
}

/// Parses a URL; an error says what is wrong without the URL, which may hold a password.
fn parse(url: &str) -> anyhow::Result<AMQPUri> {
    let mut uri: AMQPUri = url.trim().parse().map_err(|reason: String| {
        let reason = if reason.contains(url) { "it is no URL" } else { &reason };
        anyhow::anyhow!(
            "the RabbitMQ URL makes no sense ({reason}): it looks like amqp://user:password@host:5672/vhost, \
             with any / @ : % in user, password or vhost percent-encoded"
        )
    })?;
    // An IPv6 address in brackets, which the parser passes over.
    let authority = url.split("://").nth(1).unwrap_or_default().split(['/', '?']).next().unwrap_or_default();
    if let Some((_, rest)) = authority.rsplit_once('@').unwrap_or(("", authority)).1.split_once('[')
        && let Some((host, _)) = rest.split_once(']')
    {
        uri.authority.host = host.to_owned();
    }
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use hub::profile::Secret;

    use super::*;

    fn check(url: &str, user: &str, password: &str, host: &str, port: u16, vhost: &str) {
        let uri = uri(&RabbitmqAddress::Url(Secret::new(url))).expect(url);
        let AMQPAuthority { userinfo, host: its_host, port: its_port } = &uri.authority;
        let read = (userinfo.username.as_str(), userinfo.password.as_str(), its_host.as_str(), *its_port);
        assert_eq!(read, (user, password, host, port), "{url}");
        assert_eq!(uri.vhost, vhost, "{url}");
        assert_eq!(uri.query.heartbeat, Some(HEARTBEAT_SECS), "{url}");
    }

    #[test]
    fn urls_are_read_as_the_other_clients_read_them() {
        check("amqp://localhost", "guest", "guest", "localhost", 5672, "/");
        check("amqp://localhost:5673/", "guest", "guest", "localhost", 5673, "/");
        check("amqp://u:p@broker/%2F", "u", "p", "broker", 5672, "/");
        check("amqp://u:p@broker/shop", "u", "p", "broker", 5672, "shop");
        check("amqps://u:p@broker", "u", "p", "broker", 5671, "/");
        check("amqp://u:p%2Fq%40r%25s@10.0.0.1:1/a%2Fb%40c", "u", "p/q@r%s", "10.0.0.1", 1, "a/b@c");
        check("amqp://u:p@[::1]:5672/x", "u", "p", "::1", 5672, "x");
    }

    #[test]
    fn parts_need_no_escaping() {
        let parts = RabbitmqAddress::Parts {
            host: "broker".to_owned(),
            port: 5672,
            user: "a@b".to_owned(),
            password: Secret::new("p/q@r%s:t"),
            vhost: "a/b%2F@c".to_owned(),
        };
        let uri = uri(&parts).expect("parts");
        assert_eq!(uri.authority.userinfo.password, "p/q@r%s:t");
        assert_eq!(uri.vhost, "a/b%2F@c");
    }

    #[test]
    fn a_bad_url_is_refused_without_its_password() {
        for url in ["http://u:hush@host", "amqp://u:hush/more@host", "hush", "amqp://u:hush@host:99999", "amqp:hush"] {
            let error = uri(&RabbitmqAddress::Url(Secret::new(url))).expect_err(url).to_string();
            assert!(error.contains("RabbitMQ URL") && !error.contains("hush"), "{url}: {error}");
        }
    }
}
