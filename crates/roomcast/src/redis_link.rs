//! A connection to Redis, for whoever needs one: where it is, how it is made, and how it is seen to be alive. Knows nothing of what it is used for.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Context, anyhow};
use hub::profile::RedisAddress;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, IntoConnectionInfo, ProtocolVersion, PushInfo, RedisError,
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
    client: Client,
    /// The server, for people: nothing of a password is in it.
    name: String,
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
                let mut login = info.redis_settings().clone().set_db(i64::from(*database));
                if let Some(password) = password {
                    login = login.set_password(password.reveal());
                }
                info.set_redis_settings(login)
            }
        };
        // Commands and messages then go over one connection, so that a canary tells of the very path that the messages take.
        let login = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let name = match info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => format!("{host}:{port}"),
            ConnectionAddr::Unix(path) => path.display().to_string(),
            _ => "an address of another kind".to_owned(),
        };
        let client = Client::open(info.set_redis_settings(login)).context("the settings of Redis make no sense")?;
        Ok(Self { client, name })
    }

    /// The address at which the server sees this machine. Nothing is sent for it.
    ///
    /// # Errors
    /// The server's name is not known, or there is no way to it.
    pub(crate) async fn local_address(&self) -> anyhow::Result<IpAddr> {
        let (host, port) = match self.client.get_connection_info().addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => (host.as_str(), *port),
            _ => return Ok(Ipv4Addr::LOCALHOST.into()),
        };
        let way = async {
            let found = tokio::net::lookup_host((host, port)).await?.next().context("no address has this name")?;
            let from: IpAddr =
                if found.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            let socket = UdpSocket::bind((from, 0)).await?;
            socket.connect(found).await?;
            Ok::<_, anyhow::Error>(socket.local_addr()?.ip())
        };
        way.await.with_context(|| format!("there is no way to Redis at {}", self.name))
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
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await;
        // What takes is the connection's alone from here on: what it feeds ends with it.
        drop(config);
        connection.map_err(refused).with_context(|| format!("cannot connect to Redis at {}", self.name))
    }
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
            let login = found.client.get_connection_info().redis_settings().clone();
            assert_eq!((found.name.as_str(), login.password(), login.db()), (server, password, database));
            assert_eq!(login.protocol(), ProtocolVersion::RESP3);
        }
    }

    #[test]
    fn what_is_no_address_is_told_without_the_password() {
        let error = Server::of(&RedisAddress::Url(Secret::new("http://:pass@x"))).expect_err("no address");
        let text = format!("{error:#}");
        assert!(text.starts_with("REDIS_URL: ") && !text.contains("pass"), "{text}");
    }
}
