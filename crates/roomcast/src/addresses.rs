//! Where a client is: its peer address, or what trusted proxies say. Knows nothing of HTTP beyond that header's values.

use std::net::IpAddr;
use std::str::FromStr;

use http::HeaderValue;

/// A network in CIDR form, such as `10.0.0.0/8`; a lone address is a network of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address
            .trim()
            .parse()
            .map_err(|_| format!("{text:?} is neither an address nor a network like 10.0.0.0/8"))?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Some(width), |bits| bits.parse().ok().filter(|bits| *bits <= width));
        Ok(Self { address, bits: bits.ok_or_else(|| format!("{text:?}: the part behind / must be 0 to {width}"))? })
    }
}

impl Network {
    /// Whether the address is in the network.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                u32::from(network) & mask == u32::from(address) & mask
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                u128::from(network) & mask == u128::from(address) & mask
            }
            (IpAddr::V4(_), IpAddr::V6(address)) => {
                address.to_ipv4_mapped().is_some_and(|address| self.contains(IpAddr::V4(address)))
            }
            (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// The client's address: from the right of `X-Forwarded-For`, the first hop that is no trusted proxy; the peer where it is no proxy itself.
pub fn client<'a>(peer: IpAddr, forwarded: impl IntoIterator<Item = &'a HeaderValue>, trusted: &[Network]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    if !is_trusted(peer) {
        return peer;
    }
    let values: Vec<&str> = forwarded.into_iter().filter_map(|value| value.to_str().ok()).collect();
    let mut nearest = peer;
    for hop in values.iter().rev().flat_map(|value| value.rsplit(',')) {
        let Ok(address) = hop.trim().parse() else { return nearest };
        nearest = address;
        if !is_trusted(address) {
            return address;
        }
    }
    nearest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_trusted_proxies_are_believed() {
        let trusted: Vec<Network> =
            ["10.0.0.0/8", "127.0.0.1"].iter().map(|text| text.parse().expect("a network")).collect();
        let check = |peer: &str, header: &'static str, expected: &str| {
            let header = HeaderValue::from_static(header);
            let address = client(peer.parse().expect("an address"), [&header], &trusted);
            assert_eq!(address.to_string(), expected, "peer {peer}, header {header:?}");
        };
        check("203.0.113.9", "198.51.100.1", "203.0.113.9");
        check("10.1.2.3", "198.51.100.1", "198.51.100.1");
        check("10.1.2.3", "6.6.6.6, 198.51.100.1, 10.9.9.9", "198.51.100.1");
        check("10.1.2.3", "nonsense", "10.1.2.3");
        check("127.0.0.1", "10.0.0.1", "10.0.0.1");
    }

    #[test]
    fn networks_name_what_is_wrong() {
        assert!("10.0.0.0/33".parse::<Network>().is_err_and(|error| error.contains("0 to 32")));
        assert!("ten".parse::<Network>().is_err_and(|error| error.contains("neither")));
        assert!("0.0.0.0/0".parse::<Network>().is_ok_and(|network| network.contains(IpAddr::from([8, 8, 8, 8]))));
    }
}
