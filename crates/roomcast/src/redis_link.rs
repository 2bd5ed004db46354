//! A connection to Redis, for whoever needs one: where it is, how it is made, and how it is seen to be alive. Knows nothing of what it is used for.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Context, anyhow};
use hub::profile::{RedisAddress, Secret};
use redis::aio::MultiplexedConnection;
use redis::sentinel::{SentinelClient, SentinelNodeConnectionInfo, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, ProtocolVersion,
    PushInfo, RedisConnectionInfo, RedisError, TlsMode,
};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::supervisor::Fault;

/// How long a connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// The pause between two canaries.
const EVERY: Duration = Duration::from_secs(3);

/// How long what shows that a connection lives may take, while this process runs.
const DEAF_AFTER: Duration = Duration::from_secs(10);

/// How long any other answer may take, whether it runs or not.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// Where Redis is.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    place: Place,
    /// The server, for people: nothing of a password is in it.
    name: String,
}

#[derive(Debug, Clone)]
enum Place {
    /// Always at one address.
    Fixed(Client),
    /// Where Sentinels say, who are asked for each connection.
    Sentinels { sentinels: Vec<ConnectionInfo>, name: String, node: SentinelNodeConnectionInfo },
}

impl Server {
    /// From what a profile says.
    ///
    /// # Errors
    /// The address is none.
    pub(crate) fn of(address: &RedisAddress) -> anyhow::Result<Self> {
        let info = match address {
            // The client's own words do not repeat the URL, in which a password may stand.
            RedisAddress::Url(url) => {
                url.reveal().into_connection_info().map_err(|error| anyhow!("REDIS_URL: {error}"))?
            }
            RedisAddress::Parts { host, port, password, database } => {
                let info = (host.as_str(), *port).into_connection_info()?;
                let login = login(info.redis_settings(), password.as_ref(), *database);
                info.set_redis_settings(login)
            }
            RedisAddress::Sentinels { sentinels, name, sentinel_password, password, database } => {
                return Self::behind(sentinels, name, sentinel_password.as_ref(), password.as_ref(), *database);
            }
        };
        // Commands and messages then go over one connection, so that a canary tells of the very path that the messages take.
        let login = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let name = name_of(info.addr());
        let client = Client::open(info.set_redis_settings(login)).context("the settings of Redis make no sense")?;
        Ok(Self { place: Place::Fixed(client), name })
    }

    fn behind(
        sentinels: &[String],
        name: &str,
        sentinel_password: Option<&Secret>,
        password: Option<&Secret>,
        database: u32,
    ) -> anyhow::Result<Self> {
        let infos = sentinels.iter().map(|address| {
            let info = sentinel_url(address).into_connection_info();
            let info = info.map_err(|error| anyhow!("REDIS_SENTINELS: {error}"))?;
            let login = login(info.redis_settings(), sentinel_password, 0);
            anyhow::Ok(info.set_redis_settings(login))
        });
        let infos: Vec<ConnectionInfo> = infos.collect::<anyhow::Result<_>>()?;
        let is_tls = infos.iter().any(|info| matches!(info.addr(), ConnectionAddr::TcpTls { .. }));
        let login = login(&RedisConnectionInfo::default(), password, database).set_protocol(ProtocolVersion::RESP3);
        let mut node = SentinelNodeConnectionInfo::default().set_redis_connection_info(login);
        if is_tls {
            node = node.set_tls_mode(TlsMode::Secure);
        }
        let names: Vec<String> = infos.iter().map(|info| name_of(info.addr())).collect();
        let place = Place::Sentinels { sentinels: infos, name: name.to_owned(), node };
        Ok(Self { place, name: format!("{name:?} of the Sentinels {}", names.join(", ")) })
    }

    /// The address at which the server sees this machine. Nothing is sent for it.
    ///
    /// # Errors
    /// The server's name is not known, or there is no way to it.
    pub(crate) async fn local_address(&self) -> anyhow::Result<IpAddr> {
        let mut outcome = Err(anyhow!("no Sentinel is named"));
        // Sentinels stand where Redis does.
        for address in self.place.addresses() {
            outcome = way_to(address).await;
            if outcome.is_ok() {
                break;
            }
        }
        outcome.with_context(|| format!("there is no way to Redis at {}", self.name))
    }

    /// Connects. What the server sends unasked goes to `take`, which must not block and is dropped with the connection.
    ///
    /// # Errors
    /// The connection cannot be had.
    pub(crate) async fn connect(
        &self,
        take: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> anyhow::Result<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_MAX))
            .set_response_timeout(Some(ANSWER_MAX))
            .set_push_sender(move |push: PushInfo| -> Result<(), Infallible> {
                take(push);
                Ok(())
            });
        let connection = match &self.place {
            Place::Fixed(client) => client.get_multiplexed_async_connection_with_config(&config).await,
            Place::Sentinels { sentinels, name, node } => {
                // Made anew each time, since what a Sentinel said, and its connection, is as old as the last loss.
                let node = Some(node.clone());
                match SentinelClient::build(sentinels.clone(), name, node, SentinelServerType::Master) {
                    Ok(mut client) => client.get_async_connection_with_config(&config).await,
                    Err(error) => Err(error),
                }
            }
        };
        // What takes is the connection's alone from here on: what it feeds ends with it.
        drop(config);
        connection.map_err(refused).with_context(|| format!("cannot connect to Redis at {}", self.name))
    }
}

impl Place {
    /// Where Redis is, or those who know it.
    fn addresses(&self) -> Vec<&ConnectionAddr> {
        match self {
            Self::Fixed(client) => vec![client.get_connection_info().addr()],
            Self::Sentinels { sentinels, .. } => sentinels.iter().map(ConnectionInfo::addr).collect(),
        }
    }
}

/// The address of this machine on the way to another.
async fn way_to(address: &ConnectionAddr) -> anyhow::Result<IpAddr> {
    let (host, port) = match address {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => (host.as_str(), *port),
        _ => return Ok(Ipv4Addr::LOCALHOST.into()),
    };
    let found = tokio::net::lookup_host((host, port)).await?.next().context("no address has this name")?;
    let from: IpAddr = if found.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((from, 0)).await?;
    socket.connect(found).await?;
    Ok(socket.local_addr()?.ip())
}

/// Who logs in, with what is said.
fn login(login: &RedisConnectionInfo, password: Option<&Secret>, database: u32) -> RedisConnectionInfo {
    let login = login.clone().set_db(i64::from(database));
    match password {
        Some(password) => login.set_password(password.reveal()),
        None => login,
    }
}

fn name_of(address: &ConnectionAddr) -> String {
    match address {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => format!("{host}:{port}"),
        ConnectionAddr::Unix(path) => path.display().to_string(),
        _ => "an address of another kind".to_owned(),
    }
}

/// A Sentinel's address as a URL, with its port.
fn sentinel_url(address: &str) -> String {
    const PORT: u16 = 26_379;
    let (scheme, place) = address.split_once("://").unwrap_or(("redis", address));
    // An IPv6 address has colons of its own, and brackets around them where a port follows.
    let has_port = place.rsplit_once(':').is_some_and(|(host, _)| !host.contains(':') || host.ends_with(']'));
    if has_port { format!("{scheme}://{place}") } else { format!("{scheme}://{place}:{PORT}") }
}

/// How a connection is seen to be alive.
#[derive(Debug)]
pub(crate) enum Canary {
    /// By what is published to a channel of our own.
    Heard {
        /// The channel.
        channel: String,
        /// The number that came last.
        heard: watch::Receiver<u64>,
    },
    /// By answers to `PING` alone: that messages come, too, is not seen.
    Answered,
}

impl Canary {
    /// The channel of this name, which nobody else has, is listened to; `heard` says what came by it.
    ///
    /// # Errors
    /// The connection was lost.
    pub(crate) async fn subscribe(
        connection: &mut MultiplexedConnection,
        channel: String,
        heard: watch::Receiver<u64>,
    ) -> anyhow::Result<Self> {
        match connection.subscribe(channel.as_str()).await {
            Ok(()) => {}
            // A user who may use the channels of the profile alone is no reason to go without.
            Err(error) if error.code() == Some("NOPERM") => return Ok(Self::Answered),
            Err(error) => return Err(error).context("cannot subscribe to the canary's channel"),
        }
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(channel.as_str()).arg(0);
        match publish.query_async::<u64>(connection).await {
            Ok(_) => Ok(Self::Heard { channel, heard }),
            // Nor is one who may only listen.
            Err(error) if error.code() == Some("NOPERM") => Ok(Self::Answered),
            Err(error) => Err(error).context("cannot publish to the canary's channel"),
        }
    }

    /// What is wrong with it, a sentence each.
    pub(crate) fn concerns(&self) -> Vec<String> {
        match self {
            Self::Heard { .. } => Vec::new(),
            Self::Answered => vec![
                "this user may not subscribe and publish to the channels `roomcast:canary:*`, so that a subscription which has gone silent is not noticed".to_owned(),
            ],
        }
    }

    /// Sends canaries for as long as they come back.
    ///
    /// # Errors
    /// The connection was lost, or is [`Fault::Deaf`].
    pub(crate) async fn run(mut self, connection: &mut MultiplexedConnection) -> anyhow::Result<()> {
        for number in 1_u64.. {
            sleep(EVERY).await;
            match &mut self {
                Self::Answered => ask::<String>(connection, &redis::cmd("PING")).await.map(drop)?,
                Self::Heard { channel, heard } => {
                    let mut publish = redis::cmd("PUBLISH");
                    publish.arg(channel.as_str()).arg(number);
                    let receivers = ask::<u64>(connection, &publish).await?;
                    if receivers == 0 {
                        return Err(Fault::Deaf("Redis has forgotten the subscriptions".to_owned()).into());
                    }
                    let hearing = async { heard.wait_for(|latest| *latest >= number).await.map(drop) };
                    let back = patiently(hearing).await;
                    let silent = || {
                        let what = "a message to this node's own channel did not come back within";
                        Fault::Deaf(format!("{what} {DEAF_AFTER:?}"))
                    };
                    back.ok_or_else(silent)?.context("the connection to Redis was lost")?;
                }
            }
        }
        Ok(())
    }
}

/// Asks, and takes silence for deafness.
pub(crate) async fn ask<T: redis::FromRedisValue>(
    connection: &mut MultiplexedConnection,
    command: &redis::Cmd,
) -> anyhow::Result<T> {
    let answer = patiently(command.query_async(connection)).await;
    answer.ok_or_else(|| Fault::Deaf(format!("Redis did not answer within {DEAF_AFTER:?}")))?.map_err(lost)
}

/// Waits for [`DEAF_AFTER`], of which no second counts in which this process was held up: what it missed may be waiting at its door.
pub(crate) async fn patiently<T>(what: impl Future<Output = T>) -> Option<T> {
    let mut what = std::pin::pin!(what);
    for _ in 0..DEAF_AFTER.as_secs() {
        if let Ok(done) = timeout(Duration::from_secs(1), &mut what).await {
            return Some(done);
        }
    }
    None
}

/// What an error of a command says of the connection: silence is deafness.
pub(crate) fn lost(error: RedisError) -> anyhow::Error {
    if error.is_timeout() {
        return Fault::Deaf("Redis did not answer".to_owned()).into();
    }
    refused(error).context("the connection to Redis was lost")
}

/// An error with the guilty side: what Redis says no to changes nothing if it is asked again soon.
pub(crate) fn refused(error: RedisError) -> anyhow::Error {
    let is_no = matches!(error.kind(), ErrorKind::AuthenticationFailed | ErrorKind::RESP3NotSupported)
        || matches!(error.code(), Some("NOPERM" | "NOAUTH" | "WRONGPASS" | "NOPROTO"));
    if is_no { Fault::Refused(error.to_string()).into() } else { error.into() }
}

#[cfg(test)]
mod tests {
    use hub::profile::Secret;

    use super::*;

    #[test]
    fn an_address_is_a_url_or_parts() {
        let url = |url: &str| RedisAddress::Url(Secret::new(url));
        let parts = RedisAddress::Parts {
            host: "redis".to_owned(),
            port: 6380,
            password: Some(Secret::new("p@ss/word")),
            database: 3,
        };
        for (address, server, password, database) in [
            (url("redis://localhost"), "localhost:6379", None, 0),
            (url("redis://:pass@10.0.0.1:7000/2"), "10.0.0.1:7000", Some("pass"), 2),
            (url("rediss://me:pass@redis.example"), "redis.example:6379", Some("pass"), 0),
            (parts, "redis:6380", Some("p@ss/word"), 3),
        ] {
            let found = Server::of(&address).expect("a good address");
            let Place::Fixed(client) = &found.place else { panic!("it is at one address") };
            let login = client.get_connection_info().redis_settings().clone();
            assert_eq!((found.name.as_str(), login.password(), login.db()), (server, password, database));
            assert_eq!(login.protocol(), ProtocolVersion::RESP3);
        }
    }

    #[test]
    fn sentinels_are_addresses_with_a_port_of_their_own() {
        for (address, expected) in [
            ("a", "redis://a:26379"),
            ("a:1", "redis://a:1"),
            ("rediss://a", "rediss://a:26379"),
            ("[::1]", "redis://[::1]:26379"),
            ("[::1]:7", "redis://[::1]:7"),
        ] {
            assert_eq!(sentinel_url(address), expected);
        }
        let behind = |sentinels: &[&str]| RedisAddress::Sentinels {
            sentinels: sentinels.iter().map(|address| (*address).to_owned()).collect(),
            name: "main".to_owned(),
            sentinel_password: Some(Secret::new("s1")),
            password: Some(Secret::new("s2")),
            database: 0,
        };
        let server = Server::of(&behind(&["a", "b:7"])).expect("good addresses");
        assert_eq!(server.name, "\"main\" of the Sentinels a:26379, b:7");
        let error = Server::of(&behind(&["a", "b:c"])).expect_err("no address").to_string();
        assert!(error.starts_with("REDIS_SENTINELS: "), "{error}");
    }

    #[test]
    fn what_is_no_address_is_told_without_the_password() {
        let error = Server::of(&RedisAddress::Url(Secret::new("http://:pass@x"))).expect_err("no address");
        let text = format!("{error:#}");
        assert!(text.starts_with("REDIS_URL: ") && !text.contains("pass"), "{text}");
    }
}
