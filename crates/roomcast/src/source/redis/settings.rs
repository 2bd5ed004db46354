//! Where Redis is and what is asked of it, as its client takes it.

use anyhow::{Context, anyhow};
use hub::profile::{Profile, RedisAddress, RedisChannels};
use redis::{Client, ConnectionAddr, IntoConnectionInfo, ProtocolVersion};

/// The settings of the source.
#[derive(Debug, Clone)]
pub struct Settings {
    pub(super) client: Client,
    /// The server, for people: nothing of a password is in it.
    pub(super) server: String,
    pub(super) channels: Vec<String>,
    pub(super) event_max_bytes: u64,
}

impl Settings {
    /// Those of a profile; `None` where it has no such source, or no variable names a Redis.
    ///
    /// # Errors
    /// The address is none.
    pub fn of(profile: &Profile) -> anyhow::Result<Option<Self>> {
        let (Some(address), Some(channels)) = (&profile.redis, &profile.redis_channels) else { return Ok(None) };
        Self::new(address, channels, profile.limits.event_bytes).map(Some)
    }

    /// From their parts.
    ///
    /// # Errors
    /// The address is none.
    pub fn new(address: &RedisAddress, channels: &RedisChannels, event_max_bytes: u64) -> anyhow::Result<Self> {
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
        let server = match info.addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => format!("{host}:{port}"),
            ConnectionAddr::Unix(path) => path.display().to_string(),
            _ => "an address of another kind".to_owned(),
        };
        let client = Client::open(info.set_redis_settings(login)).context("the settings of Redis make no sense")?;
        Ok(Self { client, server, channels: channels.channels.clone(), event_max_bytes })
    }
}

#[cfg(test)]
mod tests {
    use hub::profile::Secret;

    use super::*;

    fn settings(address: &RedisAddress) -> anyhow::Result<Settings> {
        Settings::new(address, &RedisChannels { channels: vec!["a".to_owned()] }, 1_000)
    }

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
            let settings = settings(&address).expect("a good address");
            let login = settings.client.get_connection_info().redis_settings().clone();
            assert_eq!((settings.server.as_str(), login.password(), login.db()), (server, password, database));
            assert_eq!(login.protocol(), ProtocolVersion::RESP3);
        }
    }

    #[test]
    fn what_is_no_address_is_told_without_the_password() {
        let error = settings(&RedisAddress::Url(Secret::new("http://:pass@x"))).expect_err("no address");
        let text = format!("{error:#}");
        assert!(text.starts_with("REDIS_URL: ") && !text.contains("pass"), "{text}");
    }
}
