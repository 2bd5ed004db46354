//! Where Redis is, as the settings say it: one server, some of a Redis Cluster, or Sentinels that know. Knows no connection.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, anyhow};
use hub::profile::{RedisAddress, Secret};
use redis::sentinel::SentinelNodeConnectionInfo;
use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo, TlsMode,
};
use tokio::net::UdpSocket;

use super::NodeAddress;

/// Where Redis is.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// At these addresses, at least one: the one server, or some of a Redis Cluster.
    Fixed { seeds: Vec<ConnectionInfo>, must_be_cluster: bool },
    /// Where Sentinels say, who are asked for each connection.
    Sentinels { sentinels: Vec<ConnectionInfo>, name: String, node: SentinelNodeConnectionInfo },
}

impl Place {
    /// From what a profile says.
    ///
    /// # Errors
    /// The address is none.
    pub(super) fn of(address: &RedisAddress) -> anyhow::Result<Self> {
        let (infos, must_be_cluster) = match address {
            // The client's own words do not repeat the URL, in which a password may stand.
            RedisAddress::Url(url) => {
                (vec![url.reveal().into_connection_info().map_err(|error| anyhow!("REDIS_URL: {error}"))?], false)
            }
            RedisAddress::Parts { host, port, password, database } => {
                let info = (host.as_str(), *port).into_connection_info()?;
                (vec![logged_in(info, password.as_ref(), *database)], false)
            }
            RedisAddress::Cluster { servers, password } => {
                const PORT: u16 = 6_379;
                (infos("REDIS_CLUSTER", servers, PORT, password.as_ref())?, true)
            }
            RedisAddress::Sentinels { sentinels, name, sentinel_password, password, database } => {
                return Self::behind(sentinels, name, sentinel_password.as_ref(), password.as_ref(), *database);
            }
        };
        let seeds: Vec<ConnectionInfo> = infos.into_iter().map(in_resp3).collect();
        let first = seeds.first().context("no server is named")?;
        Client::open(first.clone()).context("the settings of Redis make no sense")?;
        Ok(Self::Fixed { seeds, must_be_cluster })
    }

    fn behind(
        sentinels: &[String],
        name: &str,
        sentinel_password: Option<&Secret>,
        password: Option<&Secret>,
        database: u32,
    ) -> anyhow::Result<Self> {
        const PORT: u16 = 26_379;
        let infos = infos("REDIS_SENTINELS", sentinels, PORT, sentinel_password)?;
        let is_tls = infos.iter().any(|info| matches!(info.addr(), ConnectionAddr::TcpTls { .. }));
        let login = login(&RedisConnectionInfo::default(), password, database).set_protocol(ProtocolVersion::RESP3);
        let mut node = SentinelNodeConnectionInfo::default().set_redis_connection_info(login);
        if is_tls {
            node = node.set_tls_mode(TlsMode::Secure);
        }
        Ok(Self::Sentinels { sentinels: infos, name: name.to_owned(), node })
    }

    /// For people: nothing of a password is in it.
    pub(super) fn name(&self) -> String {
        let names: Vec<String> = self.addresses().map(name_of).collect();
        let names = names.join(", ");
        match self {
            Self::Fixed { must_be_cluster: false, .. } => names,
            Self::Fixed { must_be_cluster: true, .. } => format!("the Redis Cluster of {names}"),
            Self::Sentinels { name, .. } => format!("{name:?} of the Sentinels {names}"),
        }
    }

    /// The address of this machine on the way there. Nothing is sent for it.
    ///
    /// # Errors
    /// No server's name is known, or there is no way to any.
    pub(super) async fn local_address(&self) -> anyhow::Result<IpAddr> {
        let mut outcome = Err(anyhow!("no server is named"));
        // Sentinels stand where Redis does.
        for address in self.addresses() {
            outcome = way_to(address).await;
            if outcome.is_ok() {
                break;
            }
        }
        outcome.with_context(|| format!("there is no way to Redis at {}", self.name()))
    }

    fn addresses(&self) -> impl Iterator<Item = &ConnectionAddr> {
        let (Self::Fixed { seeds: infos, .. } | Self::Sentinels { sentinels: infos, .. }) = self;
        infos.iter().map(ConnectionInfo::addr)
    }
}

/// A server of a Redis Cluster, reached as another one is.
pub(super) fn beside(node: &NodeAddress, like: &ConnectionInfo) -> ConnectionInfo {
    let NodeAddress { host, port } = node.clone();
    let address = match like.addr() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
        }
        _ => ConnectionAddr::Tcp(host, port),
    };
    like.clone().set_addr(address)
}

/// An address for people.
pub(super) fn name_of(address: &ConnectionAddr) -> String {
    match address {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => format!("{host}:{port}"),
        ConnectionAddr::Unix(path) => path.display().to_string(),
        _ => "an address of another kind".to_owned(),
    }
}

/// Its host.
pub(super) fn host_of(address: &ConnectionAddr) -> String {
    match address {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host.clone(),
        _ => Ipv4Addr::LOCALHOST.to_string(),
    }
}

/// Those of a variable, each with its port.
fn infos(
    variable: &str,
    addresses: &[String],
    port: u16,
    password: Option<&Secret>,
) -> anyhow::Result<Vec<ConnectionInfo>> {
    let infos = addresses.iter().map(|address| {
        let info = url_of(address, port).into_connection_info().map_err(|error| anyhow!("{variable}: {error}"))?;
        Ok(logged_in(info, password, 0))
    });
    infos.collect()
}

/// An address as a URL, with its port.
fn url_of(address: &str, port: u16) -> String {
    let (scheme, place) = address.split_once("://").unwrap_or(("redis", address));
    // An IPv6 address has colons of its own, and brackets around them where a port follows.
    let has_port = place.rsplit_once(':').is_some_and(|(host, _)| !host.contains(':') || host.ends_with(']'));
    if has_port { format!("{scheme}://{place}") } else { format!("{scheme}://{place}:{port}") }
}

fn logged_in(info: ConnectionInfo, password: Option<&Secret>, database: u32) -> ConnectionInfo {
    let login = login(info.redis_settings(), password, database);
    info.set_redis_settings(login)
}

/// Who logs in, with what is said.
fn login(login: &RedisConnectionInfo, password: Option<&Secret>, database: u32) -> RedisConnectionInfo {
    let login = login.clone().set_db(i64::from(database));
    match password {
        Some(password) => login.set_password(password.reveal()),
        None => login,
    }
}

/// Commands and messages then go over one connection, so that a canary tells of the very path that the messages take.
fn in_resp3(info: ConnectionInfo) -> ConnectionInfo {
    let login = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    info.set_redis_settings(login)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_url_or_parts_or_servers_of_a_cluster() {
        let url = |url: &str| RedisAddress::Url(Secret::new(url));
        let parts = RedisAddress::Parts {
            host: "redis".to_owned(),
            port: 6380,
            password: Some(Secret::new("p@ss/word")),
            database: 3,
        };
        let cluster = |servers: &[&str]| RedisAddress::Cluster {
            servers: servers.iter().map(|server| (*server).to_owned()).collect(),
            password: Some(Secret::new("pass")),
        };
        for (address, name, password, database) in [
            (url("redis://localhost"), "localhost:6379", None, 0),
            (url("redis://:pass@10.0.0.1:7000/2"), "10.0.0.1:7000", Some("pass"), 2),
            (url("rediss://me:pass@redis.example"), "redis.example:6379", Some("pass"), 0),
            (parts, "redis:6380", Some("p@ss/word"), 3),
            (cluster(&["a", "rediss://b:1"]), "the Redis Cluster of a:6379, b:1", Some("pass"), 0),
        ] {
            let place = Place::of(&address).expect("a good address");
            assert_eq!(place.name(), name);
            let Place::Fixed { seeds, .. } = place else { panic!("it is at fixed addresses") };
            for seed in seeds {
                let login = seed.redis_settings();
                assert_eq!((login.password(), login.db()), (password, database), "{name}");
                assert_eq!(login.protocol(), ProtocolVersion::RESP3, "{name}");
            }
        }
        let error = Place::of(&cluster(&["a", "b:c"])).expect_err("no address").to_string();
        assert!(error.starts_with("REDIS_CLUSTER: "), "{error}");
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
            assert_eq!(url_of(address, 26_379), expected);
        }
        let behind = |sentinels: &[&str]| RedisAddress::Sentinels {
            sentinels: sentinels.iter().map(|address| (*address).to_owned()).collect(),
            name: "main".to_owned(),
            sentinel_password: Some(Secret::new("s1")),
            password: Some(Secret::new("s2")),
            database: 0,
        };
        let place = Place::of(&behind(&["a", "b:7"])).expect("good addresses");
        assert_eq!(place.name(), "\"main\" of the Sentinels a:26379, b:7");
        let error = Place::of(&behind(&["a", "b:c"])).expect_err("no address").to_string();
        assert!(error.starts_with("REDIS_SENTINELS: "), "{error}");
    }

    #[test]
    fn what_is_no_address_is_told_without_the_password() {
        let error = Place::of(&RedisAddress::Url(Secret::new("http://:pass@x"))).expect_err("no address");
        let text = format!("{error:#}");
        assert!(text.starts_with("REDIS_URL: ") && !text.contains("pass"), "{text}");
    }
}
