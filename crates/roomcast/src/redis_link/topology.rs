//! Where the slots of a Redis Cluster are, and so which of its masters has a key or a channel. Pure: what a server says of it comes in as a value.

use std::fmt;

use redis::{FromRedisValue, Value};

/// Slots of every Redis Cluster.
const SLOTS: u16 = 16_384;

/// A server of a Redis Cluster, as the others name it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NodeAddress {
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// How a Redis Cluster is made up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Topology {
    /// In the order of their slots; none overlap.
    ranges: Vec<Range>,
    /// Those that have slots, each once.
    masters: Vec<NodeAddress>,
    replicas: Vec<NodeAddress>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    first: u16,
    last: u16,
    /// The master that has these slots, by its place among the masters.
    master: usize,
}

impl Topology {
    /// From the answer to `CLUSTER SLOTS` of the server that is reached at `asked`. What cannot be read in it is not there.
    pub(crate) fn read(answer: &Value, asked: &str) -> Self {
        let mut topology = Self::default();
        let mut found: Vec<(u16, u16, NodeAddress)> = Vec::new();
        for range in items(answer) {
            let [first, last, master, replicas @ ..] = items(range) else { continue };
            let slots = (number(first), number(last));
            let (Some(first), Some(last), Some(master)) = (slots.0, slots.1, address(master, asked)) else { continue };
            if first <= last && last < SLOTS {
                found.push((first, last, master));
                topology.replicas.extend(replicas.iter().filter_map(|replica| address(replica, asked)));
            }
        }
        found.sort();
        topology.masters = found.iter().map(|(_, _, master)| master.clone()).collect();
        topology.masters.sort();
        topology.masters.dedup();
        topology.replicas.sort();
        topology.replicas.dedup();
        topology.ranges = found
            .into_iter()
            .filter_map(|(first, last, master)| {
                let master = topology.masters.binary_search(&master).ok()?;
                Some(Range { first, last, master })
            })
            .collect();
        topology
    }

    /// The master that has this key or channel, by its place among the [masters](Self::masters); `None` where no server has its slot.
    pub(crate) fn home(&self, key: &str) -> Option<usize> {
        let slot = slot_of(key);
        let next = self.ranges.partition_point(|range| range.last < slot);
        self.ranges.get(next).filter(|range| range.first <= slot).map(|range| range.master)
    }

    /// The masters that have slots, in an order that is the same wherever it is asked for.
    pub(crate) fn masters(&self) -> &[NodeAddress] {
        &self.masters
    }

    /// All servers that serve.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &NodeAddress> {
        self.masters.iter().chain(&self.replicas)
    }

    /// Whether every slot is where it is there.
    pub(crate) fn has_slots_as(&self, other: &Self) -> bool {
        self.ranges == other.ranges && self.masters == other.masters
    }
}

fn items(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) => items,
        _ => &[],
    }
}

fn number(value: &Value) -> Option<u16> {
    // The client cuts off what does not fit.
    u16::try_from(i64::from_redis_value_ref(value).ok()?).ok()
}

/// A server's address. One that does not know its own name is where it was asked.
fn address(server: &Value, asked: &str) -> Option<NodeAddress> {
    let [host, port, ..] = items(server) else { return None };
    let host = match host {
        Value::Nil => String::new(),
        host => String::from_redis_value_ref(host).ok()?,
    };
    let host = if host.is_empty() || host == "?" { asked.to_owned() } else { host };
    Some(NodeAddress { host, port: number(port)? })
}

/// The slot of a key or a channel (Redis Cluster specification, "Key distribution model").
fn slot_of(key: &str) -> u16 {
    crc16(hashed(key).as_bytes()) % SLOTS
}

/// What of a key is hashed: what stands between the first `{` and the `}` after it, where that is something; else all of it.
fn hashed(key: &str) -> &str {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    tag.filter(|tag| !tag.is_empty()).unwrap_or(key)
}

/// CRC-16 as XMODEM has it.
fn crc16(bytes: &[u8]) -> u16 {
    const TABLE: [u16; 256] = table();
    bytes.iter().fold(0, |crc, byte| (crc << 8) ^ TABLE[usize::from((crc >> 8) as u8 ^ byte)])
}

const fn table() -> [u16; 256] {
    const POLYNOMIAL: u16 = 0x1021;
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = (index as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ POLYNOMIAL };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        // As `CLUSTER KEYSLOT` says.
        for (key, slot) in [
            ("123456789", 12_739),
            ("foo", 12_182),
            ("socket.io", 9_972),
            ("socket.io#/#", 13_868),
            ("roomcast:{socket.io}:nodes", 9_972),
            ("{}a", 10_875),
            ("a{}{b}", 15_033),
            ("{{a}b}", 10_276),
            ("{a", 10_276),
            ("", 0),
        ] {
            assert_eq!(slot_of(key), slot, "{key:?}");
        }
    }

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn server(host: Value, port: i64) -> Value {
        Value::Array(vec![host, Value::Int(port), text("id"), Value::Array(Vec::new())])
    }

    fn range(first: i64, last: i64, servers: Vec<Value>) -> Value {
        Value::Array([vec![Value::Int(first), Value::Int(last)], servers].concat())
    }

    #[test]
    fn a_key_is_with_the_master_of_its_slot() {
        let [a, b, replica] = [("a", 1), ("b", 2), ("c", 3)].map(|(host, port)| server(text(host), port));
        let answer = Value::Array(vec![
            range(10_000, 16_383, vec![a.clone(), replica]),
            range(0, 5_000, vec![a]),
            range(5_001, 9_000, vec![b]),
        ]);
        let topology = Topology::read(&answer, "asked");
        let named = |topology: &Topology| topology.nodes().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(named(&topology), ["a:1", "b:2", "c:3"]);
        let home = |key: &str| topology.home(key).map(|master| topology.masters()[master].host.clone());
        let expected = [("socket.io", None), ("socket.io#/#", Some("a")), ("", Some("a")), ("user", Some("b"))];
        for (key, host) in expected {
            assert_eq!(home(key).as_deref(), host, "{key}");
        }
    }

    #[test]
    fn a_server_without_a_name_is_where_it_was_asked_and_nonsense_is_nobody() {
        let answer = Value::Array(vec![
            range(0, 1, vec![server(Value::Nil, 1), server(text(""), 2), server(text("?"), 3)]),
            range(2, 1, vec![server(text("a"), 1)]),
            range(2, 16_384, vec![server(text("a"), 1)]),
            range(2, 3, vec![server(text("a"), 65_536)]),
            range(2, 3, vec![]),
            Value::Nil,
        ]);
        let topology = Topology::read(&answer, "asked");
        assert_eq!(topology.nodes().map(ToString::to_string).collect::<Vec<_>>(), ["asked:1", "asked:2", "asked:3"]);
        assert_eq!(Topology::read(&Value::Nil, "asked"), Topology::default());
    }
}
