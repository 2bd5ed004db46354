//! How two nodes know each other before anything is said: each shows that it has the cluster's secret, by a code (HMAC-SHA-256) over what both have just
//! thrown in, so that nothing can be said twice by somebody else. What follows is neither enciphered nor signed. Knows nothing of what follows.
//!
//! ```text
//! caller    "roomcast node 1\n"  nonce (16)
//! listener  nonce (16)  code over "listener", its node id and both nonces (32)
//! caller    code over "caller", the same and what it wants (32)  what it wants (19)
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, ensure};
use aws_lc_rs::hmac::{self, HMAC_SHA256, Key, Tag};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::super::nodes::{NodeInfo, Nodes};
use super::CONNECT_MAX;
use crate::shard::ids::NodeId;

/// How a caller begins; the number is that of what follows.
const GREETING: &[u8; 16] = b"roomcast node 1\n";

const NONCE_BYTES: usize = 16;
const CODE_BYTES: usize = 32;
const PURPOSE_BYTES: usize = 19;

/// What a connection between two nodes is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// HTTP/2 follows, with polls of many clients.
    Polls,
    /// HTTP/1.1 follows, as the client at this address sends it, for a session of this shard.
    Tunnel {
        /// Where the client is.
        client: IpAddr,
        /// The shard of its session.
        shard: u8,
    },
}

impl Purpose {
    fn to_bytes(self) -> [u8; PURPOSE_BYTES] {
        let mut bytes = [0; PURPOSE_BYTES];
        match self {
            Self::Polls => bytes[0] = b'P',
            Self::Tunnel { client, shard } => {
                bytes[0] = b'T';
                bytes[1] = shard;
                match client {
                    IpAddr::V4(client) => {
                        bytes[2] = 4;
                        bytes[3..7].copy_from_slice(&client.octets());
                    }
                    IpAddr::V6(client) => {
                        bytes[2] = 6;
                        bytes[3..].copy_from_slice(&client.octets());
                    }
                }
            }
        }
        bytes
    }

    fn of(bytes: [u8; PURPOSE_BYTES]) -> Option<Self> {
        let [kind, shard, version, address @ ..] = bytes;
        let [a, b, c, d, ..] = address;
        match (kind, version) {
            (b'P', 0) => Some(Self::Polls),
            (b'T', 4) => Some(Self::Tunnel { client: Ipv4Addr::new(a, b, c, d).into(), shard }),
            (b'T', 6) => Some(Self::Tunnel { client: Ipv6Addr::from(address).into(), shard }),
            _ => None,
        }
    }
}

/// Connects to a node, for this.
///
/// # Errors
/// Nobody is there in time, or somebody else.
pub(super) async fn connect(node: &NodeInfo, nodes: &Nodes, purpose: Purpose) -> anyhow::Result<TcpStream> {
    let secret = nodes.secret().context("the cluster's secret is not known yet")?;
    let address = node.address.context("it takes nothing")?;
    let calling = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        call(&mut stream, secret.as_bytes(), node.id, purpose).await?;
        Ok(stream)
    };
    timeout(CONNECT_MAX, calling).await.context("it took too long")?
}

/// The caller's side.
async fn call(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    secret: &[u8],
    listener: NodeId,
    purpose: Purpose,
) -> anyhow::Result<()> {
    let own = nonce()?;
    stream.write_all(&[GREETING.as_slice(), &own].concat()).await?;
    let (mut other, mut code) = ([0; NONCE_BYTES], [0; CODE_BYTES]);
    stream.read_exact(&mut other).await?;
    stream.read_exact(&mut code).await?;
    let secret = Key::new(HMAC_SHA256, secret);
    let parts = [b"listener".as_slice(), &listener.0, &own, &other];
    hmac::verify(&secret, &parts.concat(), &code).ok().context("whoever answers is not this node")?;
    let purpose = purpose.to_bytes();
    let code = sign(&secret, &[b"caller".as_slice(), &listener.0, &own, &other, &purpose]);
    stream.write_all(&[code.as_ref(), &purpose].concat()).await?;
    Ok(())
}

/// The listener's side: what the caller wants, if it is of this cluster.
///
/// # Errors
/// It is not, or goes.
pub(super) async fn answer(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    secret: &[u8],
    listener: NodeId,
) -> anyhow::Result<Purpose> {
    let (mut greeting, mut other) = ([0; GREETING.len()], [0; NONCE_BYTES]);
    stream.read_exact(&mut greeting).await?;
    ensure!(greeting == *GREETING, "whoever calls is no node of this version");
    stream.read_exact(&mut other).await?;
    let own = nonce()?;
    let secret = Key::new(HMAC_SHA256, secret);
    let code = sign(&secret, &[b"listener".as_slice(), &listener.0, &other, &own]);
    stream.write_all(&[own.as_slice(), code.as_ref()].concat()).await?;
    let (mut code, mut purpose) = ([0; CODE_BYTES], [0; PURPOSE_BYTES]);
    stream.read_exact(&mut code).await?;
    stream.read_exact(&mut purpose).await?;
    let parts = [b"caller".as_slice(), &listener.0, &other, &own, &purpose];
    // Compared in constant time.
    hmac::verify(&secret, &parts.concat(), &code).ok().context("whoever calls has not the cluster's secret")?;
    Purpose::of(purpose).context("a node wants something unheard of")
}

fn sign(secret: &Key, parts: &[&[u8]]) -> Tag {
    hmac::sign(secret, &parts.concat())
}

fn nonce() -> anyhow::Result<[u8; NONCE_BYTES]> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).map_err(|error| anyhow::anyhow!("the operating system has no randomness: {error}"))?;
    Ok(nonce)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"the cluster's secret";
    const NODE: NodeId = NodeId([1, 2, 3]);

    /// What both sides make of each other.
    async fn check(
        (caller_s, called): (&[u8], NodeId),
        (listener_s, listener): (&[u8], NodeId),
        purpose: Purpose,
    ) -> (bool, Option<Purpose>) {
        let (mut one, mut other) = tokio::io::duplex(1024);
        let calling = async move { call(&mut one, caller_s, called, purpose).await.is_ok() };
        let answering = async move { answer(&mut other, listener_s, listener).await.ok() };
        tokio::join!(calling, answering)
    }

    #[tokio::test]
    async fn nodes_of_one_cluster_know_each_other_and_what_is_wanted() {
        let addresses: [IpAddr; 3] =
            [[10, 0, 0, 7].into(), Ipv6Addr::LOCALHOST.into(), "::ffff:10.0.0.7".parse().expect("an address")];
        let tunnels = addresses.map(|client| Purpose::Tunnel { client, shard: 63 });
        for purpose in tunnels.into_iter().chain([Purpose::Polls]) {
            assert_eq!(check((SECRET, NODE), (SECRET, NODE), purpose).await, (true, Some(purpose)));
        }
    }

    #[tokio::test]
    async fn nobody_speaks_with_strangers() {
        let stranger = b"another secret".as_slice();
        assert_eq!(check((stranger, NODE), (SECRET, NODE), Purpose::Polls).await, (false, None));
        assert_eq!(check((SECRET, NODE), (stranger, NODE), Purpose::Polls).await, (false, None));
        // Another node has the address now.
        assert_eq!(check((SECRET, NodeId([1, 2, 4])), (SECRET, NODE), Purpose::Polls).await, (false, None));
    }

    #[tokio::test]
    async fn a_caller_without_the_secret_learns_nothing_it_could_use() {
        let (mut one, mut other) = tokio::io::duplex(1024);
        let calling = async move {
            one.write_all(&[GREETING.as_slice(), &[7; NONCE_BYTES]].concat()).await?;
            let mut said = [0; NONCE_BYTES + CODE_BYTES];
            one.read_exact(&mut said).await?;
            // The listener's own code, given back.
            one.write_all(&[&said[NONCE_BYTES..], &Purpose::Polls.to_bytes()].concat()).await
        };
        let answering = async move { answer(&mut other, SECRET, NODE).await.map_err(|error| error.to_string()) };
        let (called, answered) = tokio::join!(calling, answering);
        called.expect("the other side listens");
        assert_eq!(answered, Err("whoever calls has not the cluster's secret".to_owned()));
    }
}
