//! A connection to Redis, for whoever needs one: where it is, how it is made, and how it is seen to be alive. A server that belongs to a Redis Cluster is recognised, and
//! leads to the others. Knows nothing of what a connection is used for.

mod canary;
mod pushed;
mod topology;

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use hub::profile::{RedisAddress, Secret};
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::sentinel::{SentinelClient, SentinelNodeConnectionInfo, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, ProtocolVersion,
    PushInfo, RedisConnectionInfo, RedisError, TlsMode, Value,
};
use tokio::net::UdpSocket;

use self::canary::patiently;
pub(crate) use self::canary::{Canary, ask};
pub(crate) use self::pushed::{Ear, Pushed, Way};
pub(crate) use self::topology::{NodeAddress, Topology};
use crate::supervisor::Fault;

/// How long a connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);

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
    /// At one address, where other servers of a Redis Cluster may be named.
    Fixed { info: ConnectionInfo, known: Arc<Mutex<Known>> },
    /// Where Sentinels say, who are asked for each connection.
    Sentinels { sentinels: Vec<ConnectionInfo>, name: String, node: SentinelNodeConnectionInfo },
}

/// What is known of a Redis Cluster, for the time when the server that was set is away.
#[derive(Debug, Default)]
struct Known {
    nodes: Vec<NodeAddress>,
    /// Whose turn it is to be asked first: what one of them says may be old, or nobody else's view.
    turn: usize,
}

/// Whom a connection is for, where there are several.
#[derive(Debug, Clone, Copy)]
pub(crate) enum To<'a> {
    /// The master that has this key.
    Owner(&'a str),
    /// Any master; that of this key, as long as it is there.
    Any(&'a str),
}

/// A connection, and what the server is part of.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) connection: MultiplexedConnection,
    /// The server's address, for people.
    pub(crate) name: String,
    /// `None` where the server stands alone.
    pub(crate) cluster: Option<Membership>,
}

/// A master's place in a Redis Cluster.
#[derive(Debug, Clone)]
pub(crate) struct Membership {
    pub(crate) topology: Topology,
    /// Its place among the masters.
    pub(crate) master: usize,
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
        let info = info.set_redis_settings(login);
        Client::open(info.clone()).context("the settings of Redis make no sense")?;
        Ok(Self { place: Place::Fixed { info, known: Arc::default() }, name })
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
    /// The connection cannot be had; in a Redis Cluster also where no master has the key, or the one that has is away.
    pub(crate) async fn connect(
        &self,
        to: To<'_>,
        take: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> anyhow::Result<Connected> {
        let take: Take = Arc::new(take);
        let mut failure = None;
        for seed in self.seeds() {
            let found = async {
                let mut connection = self.open(&seed, &take).await?;
                let topology = self.topology_by(&seed, &mut connection).await?;
                anyhow::Ok((connection, topology))
            };
            match found.await {
                Ok((connection, None)) => {
                    return Ok(Connected { connection, name: self.seed_name(&seed), cluster: None });
                }
                Ok((_, Some(topology))) => {
                    self.remember(&topology);
                    return self.connect_in(topology, to, &take).await;
                }
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        Err(failure.unwrap_or_else(|| anyhow!("there is no server to connect to")))
    }

    /// Connects to a server of the Redis Cluster.
    ///
    /// # Errors
    /// The connection cannot be had.
    pub(crate) async fn connect_to(
        &self,
        node: &NodeAddress,
        take: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> anyhow::Result<MultiplexedConnection> {
        self.open(&Seed::Node(node.clone()), &(Arc::new(take) as Take)).await
    }

    /// How the Redis Cluster is made up, as one of its servers sees it; `None` where the server belongs to none.
    ///
    /// # Errors
    /// The connection was lost.
    pub(crate) async fn topology(
        &self,
        node: &str,
        connection: &mut MultiplexedConnection,
    ) -> anyhow::Result<Option<Topology>> {
        let mut slots = redis::cmd("CLUSTER");
        slots.arg("SLOTS");
        match patiently(slots.query_async::<Value>(connection)).await {
            Some(Ok(answer)) => Ok(Some(Topology::read(&answer, node))),
            // One without a cluster says so by an error. So does one whose user may not ask: there, the first key of another master tells.
            Some(Err(error)) if matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension) => Ok(None),
            Some(Err(error)) => Err(lost(error)),
            None => Err(canary::silent()),
        }
    }

    async fn topology_by(
        &self,
        seed: &Seed,
        connection: &mut MultiplexedConnection,
    ) -> anyhow::Result<Option<Topology>> {
        let host = match (seed, &self.place) {
            (Seed::Node(node), _) => node.host.clone(),
            (Seed::Set, Place::Fixed { info, .. }) => host_of(info.addr()),
            // Sentinels look after one server, which belongs to no cluster.
            (Seed::Set, Place::Sentinels { .. }) => return Ok(None),
        };
        self.topology(&host, connection).await
    }

    async fn connect_in(&self, topology: Topology, to: To<'_>, take: &Take) -> anyhow::Result<Connected> {
        let (To::Owner(key) | To::Any(key)) = to;
        let owner = topology.home(key);
        let masters: Vec<usize> = match to {
            To::Owner(_) => owner.into_iter().collect(),
            To::Any(_) => {
                let others = (0..topology.masters().len()).filter(|master| Some(*master) != owner);
                owner.into_iter().chain(others).collect()
            }
        };
        let mut failure = None;
        for master in masters {
            let node = &topology.masters()[master];
            match self.open(&Seed::Node(node.clone()), take).await {
                Ok(connection) => {
                    let name = node.to_string();
                    return Ok(Connected { connection, name, cluster: Some(Membership { topology, master }) });
                }
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        let nobody = || anyhow!("the Redis Cluster of {} has no master for the slot of {key:?}", self.name);
        Err(failure.unwrap_or_else(nobody))
    }

    async fn open(&self, seed: &Seed, take: &Take) -> anyhow::Result<MultiplexedConnection> {
        let take = take.clone();
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_MAX))
            .set_response_timeout(Some(ANSWER_MAX))
            .set_push_sender(move |push: PushInfo| -> Result<(), Infallible> {
                take(push);
                Ok(())
            });
        let connection = match &self.place {
            Place::Fixed { info, .. } => {
                let info = match seed {
                    Seed::Set => info.clone(),
                    Seed::Node(node) => info.clone().set_addr(address_of(node, info.addr())),
                };
                match Client::open(info) {
                    Ok(client) => client.get_multiplexed_async_connection_with_config(&config).await,
                    Err(error) => Err(error),
                }
            }
            Place::Sentinels { sentinels, name, node } => {
                // Made anew each time, since what a Sentinel said, and its connection, is as old as the last loss.
                let node = Some(node.clone());
                match SentinelClient::build(sentinels.clone(), name, node, SentinelServerType::Master) {
                    Ok(mut client) => client.get_async_connection_with_config(&config).await,
                    Err(error) => Err(error),
                }
            }
        };
        connection.map_err(refused).with_context(|| format!("cannot connect to Redis at {}", self.seed_name(seed)))
    }

    fn seed_name(&self, seed: &Seed) -> String {
        match seed {
            Seed::Set => self.name.clone(),
            Seed::Node(node) => node.to_string(),
        }
    }

    /// Who is asked, one after the other. Bound: the servers that a Redis Cluster named last.
    fn seeds(&self) -> Vec<Seed> {
        let Place::Fixed { known, .. } = &self.place else { return vec![Seed::Set] };
        let mut known = known.lock();
        let nodes = known.nodes.iter().cloned().map(Seed::Node);
        let mut seeds: Vec<Seed> = std::iter::once(Seed::Set).chain(nodes).collect();
        let first = known.turn % seeds.len();
        known.turn = first + 1;
        seeds.rotate_left(first);
        seeds
    }

    fn remember(&self, topology: &Topology) {
        if let Place::Fixed { known, .. } = &self.place
            && !topology.masters().is_empty()
        {
            known.lock().nodes = topology.nodes().cloned().collect();
        }
    }
}

/// What takes what a server sends unasked.
type Take = Arc<dyn Fn(PushInfo) + Send + Sync>;

/// A server that may know where the others are.
#[derive(Debug)]
enum Seed {
    /// Where the settings say.
    Set,
    /// One that a Redis Cluster named.
    Node(NodeAddress),
}

/// The address of a server of a Redis Cluster: reached as the one that was set is.
fn address_of(node: &NodeAddress, like: &ConnectionAddr) -> ConnectionAddr {
    let NodeAddress { host, port } = node.clone();
    match like {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
        }
        _ => ConnectionAddr::Tcp(host, port),
    }
}

fn host_of(address: &ConnectionAddr) -> String {
    match address {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host.clone(),
        _ => Ipv4Addr::LOCALHOST.to_string(),
    }
}

impl Place {
    /// Where Redis is, or those who know it.
    fn addresses(&self) -> Vec<&ConnectionAddr> {
        match self {
            Self::Fixed { info, .. } => vec![info.addr()],
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

/// What an error of a command says of the connection: silence is deafness.
pub(crate) fn lost(error: RedisError) -> anyhow::Error {
    if error.is_timeout() {
        return Fault::Deaf("Redis did not answer".to_owned()).into();
    }
    if matches!(error.code(), Some("MOVED" | "ASK" | "TRYAGAIN" | "CLUSTERDOWN" | "MASTERDOWN" | "READONLY")) {
        return Fault::Moved(format!("this server of Redis serves it no longer: {error}")).into();
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
            let Place::Fixed { info, .. } = &found.place else { panic!("it is at one address") };
            let login = info.redis_settings().clone();
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
