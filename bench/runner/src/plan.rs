//! The rows: what is measured, under which load, for whom, against what, and the goal. Data alone; `run` carries it out and `report` shows it.

use crate::contenders::{Contender, Dialect, Server};

/// Rows that belong together; `--only` takes their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Block {
    /// Memory of idle connections.
    Idle,
    /// CPU of a connect.
    Connect,
    /// CPU of a delivery.
    FanOut,
    /// CPU of an acknowledged event of a client's.
    Ack,
    /// Fan-out and round trips over long-polling.
    Polling,
    /// The gateway's rows over TLS.
    Tls,
    /// A delivery against the members of the room.
    Members,
    /// A delivery against the number of rooms.
    Rooms,
    /// A delivery against the connections that are there besides.
    Connections,
    /// A delivery against the number of shards.
    Shards,
    /// Memory over crowds that come and go.
    Cycles,
    /// Everybody comes back at once.
    Storm,
    /// Events from RabbitMQ to sockets.
    Source,
}

/// Which of the load generator's figures a row shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// The server's CPU time for each unit, microseconds.
    Cpu,
    /// The growth of its resident memory for each unit, KiB.
    Memory,
    /// Its memory after each cycle.
    Cycles,
    /// How long until all are back, and what those who stayed saw.
    Storm,
    /// Events a second.
    Throughput,
    /// How long an event took, the slowest in a hundred, milliseconds.
    Latency,
}

impl Figure {
    /// Its unit.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Cpu => "µs",
            Self::Memory | Self::Cycles => "KiB",
            Self::Storm => "s",
            Self::Throughput => "events/s",
            Self::Latency => "ms",
        }
    }
}

/// What a row must reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// At most so many times the base.
    Times(f64),
    /// At least so many times the base.
    AtLeastTimes(f64),
    /// At most so much, in the figure's unit.
    AtMost(f64),
}

/// One row of a table, or one point of a curve.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its name in results.
    pub id: String,
    /// Where it belongs.
    pub block: Block,
    /// Its name in tables.
    pub title: String,
    /// Where it is on the axis, for a point of a curve.
    pub x: Option<f64>,
    /// The load generator's scenario.
    pub scenario: &'static str,
    /// And its options.
    pub options: Vec<String>,
    /// What is read from it.
    pub figure: Figure,
    /// Who takes part; the base is among them.
    pub contenders: Vec<Contender>,
    /// What others are divided by.
    pub base: Option<Contender>,
    /// What the gateway must reach, for each way of speaking to it that has a goal.
    pub goals: Vec<(Contender, Goal)>,
    /// How often, unless the command line says so.
    pub rounds: usize,
}

/// The gateway over Socket.IO.
pub const ROOMCAST: Contender = Contender::new(Server::Roomcast, Dialect::SocketIo);
/// The gateway over plain JSON.
pub const PLAIN: Contender = Contender::new(Server::Roomcast, Dialect::Plain);
/// The gateway over long-polling.
pub const POLLING: Contender = Contender::new(Server::Roomcast, Dialect::Polling);
/// The gateway over TLS.
pub const TLS: Contender = Contender { server: Server::Roomcast, dialect: Dialect::SocketIo, tls: true, shards: 1 };
/// The gateway with two threads.
pub const TWO_SHARDS: Contender =
    Contender { server: Server::Roomcast, dialect: Dialect::SocketIo, tls: false, shards: 2 };
/// A send for each frame and member.
pub const LIMIT: Contender = Contender::new(Server::Limit, Dialect::Bare);
/// A send for each batch and member.
pub const COALESCING: Contender = Contender::new(Server::CoalescingLimit, Dialect::Bare);
/// The gateway between RabbitMQ and sockets.
pub const ROOMCAST_HOMETRIP: Contender = Contender::new(Server::RoomcastHomeTrip, Dialect::HomeTrip);
/// A consumer that only acknowledges.
pub const BARE_CONSUMER: Contender = Contender::new(Server::BareConsumer, Dialect::Bare);
const HOMETRIP: Contender = Contender::new(Server::HomeTrip, Dialect::HomeTrip);
const NODE: Contender = Contender::new(Server::Node, Dialect::SocketIo);
const SOCKETIOXIDE: Contender = Contender::new(Server::Socketioxide, Dialect::SocketIo);
const CENTRIFUGE: Contender = Contender::new(Server::Centrifuge, Dialect::Centrifuge);
const NODE_POLLING: Contender = Contender::new(Server::Node, Dialect::Polling);
const SOCKETIOXIDE_POLLING: Contender = Contender::new(Server::Socketioxide, Dialect::Polling);

/// All rows, in the order of the tables. With `quick` the same ones with less load, and fewer points on the curves.
pub fn rows(quick: bool) -> Vec<Row> {
    // Which of two counts: that of a whole run, and that of a quick one.
    let either = |whole: usize, short: usize| if quick { short } else { whole };
    let idle = either(10_000, 2_000);
    let mut rows = vec![
        all(Block::Idle, "idle", "memory of an idle connection, in its user's room", "idle")
            .load(&[("connections", idle)])
            .figure(Figure::Memory)
            .goals(&[(ROOMCAST, Goal::AtMost(3.0)), (PLAIN, Goal::AtMost(2.5))]),
        all(Block::Connect, "connect", "a connect, with its token checked and its user's room", "connect")
            .load(&[("connections", either(2_000, 500)), ("window", 16)])
            .goals(&[(ROOMCAST, Goal::Times(2.2)), (PLAIN, Goal::Times(2.2))]),
        all(Block::FanOut, "fan-out-1", "a delivery: 1,000 members, one event in flight", "fan-out")
            .load(&[("rooms", 1), ("members", 1_000), ("events", either(200, 50)), ("window", 1)])
            .goals(&[(ROOMCAST, Goal::Times(1.15)), (PLAIN, Goal::Times(1.15))]),
        all(Block::FanOut, "fan-out-8", "a delivery: 1,000 members, 8 events in flight", "fan-out")
            .load(&[("rooms", 1), ("members", 1_000), ("events", either(800, 160)), ("window", 8)])
            .coalescing()
            .goals(&[(ROOMCAST, Goal::Times(1.3)), (PLAIN, Goal::Times(1.3))]),
        all(Block::FanOut, "fan-out-10000-8", "a delivery: 10,000 members, 8 events in flight", "fan-out")
            .load(&[("rooms", 1), ("members", 10_000), ("events", either(80, 16)), ("window", 8)])
            .coalescing()
            .goals(&[(ROOMCAST, Goal::Times(1.3)), (PLAIN, Goal::Times(1.3))]),
        all(Block::FanOut, "many-rooms", "a delivery: 1,000 rooms of 10 members, one event in flight", "fan-out")
            .load(&[("rooms", 1_000), ("members", 10), ("events", either(10_000, 2_000)), ("window", 1)])
            .goals(&[(ROOMCAST, Goal::Times(1.2)), (PLAIN, Goal::Times(1.2))]),
        all(Block::Ack, "ack", "an acknowledged event of a client's, there and back; 64 clients at once", "ack")
            .load(&[("connections", 64), ("events", either(100_000, 20_000)), ("window", 64)])
            .goals(&[(ROOMCAST, Goal::Times(1.4)), (PLAIN, Goal::Times(1.4))]),
        // Most of this one is waking up, for the limit, too.
        all(Block::Ack, "ack-1", "the same, one client at a time", "ack")
            .load(&[("connections", 64), ("events", either(20_000, 5_000)), ("window", 1)])
            .goals(&[(ROOMCAST, Goal::Times(1.4)), (PLAIN, Goal::Times(1.4))]),
        Row::new(Block::Polling, "polling-fan-out", "a delivery over long-polling: 1,000 members", "fan-out")
            .load(&[("rooms", 1), ("members", 1_000), ("events", either(50, 10)), ("window", 1)])
            .among(&[POLLING, SOCKETIOXIDE_POLLING, NODE_POLLING], Some(SOCKETIOXIDE_POLLING))
            .goals(&[(POLLING, Goal::Times(1.0))]),
        Row::new(Block::Polling, "polling-ack", "an acknowledged event over long-polling, there and back", "ack")
            .load(&[("connections", 100), ("events", either(5_000, 1_000)), ("window", 1)])
            .among(&[POLLING, SOCKETIOXIDE_POLLING, NODE_POLLING], Some(SOCKETIOXIDE_POLLING))
            .goals(&[(POLLING, Goal::Times(1.0))]),
    ];
    let encrypted: Vec<Row> = rows.iter().filter(|row| row.contenders.contains(&ROOMCAST)).map(over_tls).collect();
    rows.extend(encrypted);
    rows.extend(curves(quick));
    if quick {
        // Ten thousand connections take some peers longer than all the rest together.
        let large = |row: &&mut Row| row.id.starts_with("fan-out-10000") || row.id.starts_with("many-rooms");
        for row in rows.iter_mut().filter(large) {
            row.contenders.retain(|contender| ![NODE, CENTRIFUGE].contains(contender));
        }
    }
    rows.extend([
        Row::new(Block::Cycles, "cycles", "ten crowds that come and go", "churn")
            .load(&[("connections", idle), ("cycles", either(10, 4))])
            .figure(Figure::Cycles)
            .among(&[ROOMCAST], None)
            .rounds(1),
        Row::new(Block::Storm, "storm", "everybody drops and comes back at once", "storm")
            .load(&[("connections", idle), ("stayers", 1_000)])
            .figure(Figure::Storm)
            // Node takes minutes for it, which a quick run has not.
            .among(if quick { &[ROOMCAST, SOCKETIOXIDE] } else { &[ROOMCAST, SOCKETIOXIDE, NODE] }, None)
            .rounds(3),
    ]);
    rows.extend(from_rabbitmq(quick));
    rows
}

/// Events from the broker: a backlog as fast as it goes, and a steady flow.
fn from_rabbitmq(quick: bool) -> Vec<Row> {
    let either = |whole: usize, short: usize| if quick { short } else { whole };
    let mut rows = Vec::new();
    for (rooms, members, events, title) in [
        (100, 1, either(50_000, 10_000), "a backlog for 100 rooms of one member"),
        (100, 10, either(50_000, 5_000), "a backlog for 100 rooms of 10 members"),
        (1, 1_000, either(1_000, 200), "a backlog for a room of 1,000 members"),
    ] {
        let row = Row::new(Block::Source, &format!("source-backlog-{members}"), title, "source");
        let mut row = row.load(&[("rooms", rooms), ("members", members), ("events", events)]);
        row.figure = Figure::Throughput;
        // What a thousand members cost has nothing to do with the broker.
        let bare = (members < 1_000).then_some(BARE_CONSUMER);
        let contenders: Vec<Contender> = [ROOMCAST_HOMETRIP, HOMETRIP].into_iter().chain(bare).collect();
        row = row.among(&contenders, bare);
        if members == 1 {
            row = row.goals(&[(ROOMCAST_HOMETRIP, Goal::AtLeastTimes(0.7))]);
        }
        rows.push(row);
    }
    for (rate, members, title) in [
        (100, 10, "100 events a second for 100 rooms of 10 members"),
        (1_000, 10, "1,000 events a second for 100 rooms of 10 members"),
        (5_000, 1, "5,000 events a second for 100 rooms of one member"),
        (5_000, 10, "5,000 events a second for 100 rooms of 10 members"),
    ] {
        let row = Row::new(Block::Source, &format!("source-{rate}-{members}"), title, "source");
        let load = [("rooms", 100), ("members", members), ("rate", rate), ("seconds", either(10, 2))];
        // The consumer shows what publisher and broker alone take.
        let contenders = [ROOMCAST_HOMETRIP, HOMETRIP, BARE_CONSUMER];
        let row = row.load(&load).figure(Figure::Latency).rounds(5).among(&contenders, None);
        rows.push(if rate == 5_000 { row.goals(&[(ROOMCAST_HOMETRIP, Goal::AtMost(5.0))]) } else { row });
    }
    rows
}

/// Points at which the cost of a delivery is taken while one thing alone grows.
fn curves(quick: bool) -> Vec<Row> {
    let points = |whole: &[usize], short: &[usize]| if quick { short.to_vec() } else { whole.to_vec() };
    let deliveries = if quick { 40_000 } else { 200_000 };
    let point = |block, name: &str, x: usize, load: &[(&'static str, usize)]| {
        let mut row = Row::new(block, &format!("{name}/{x}"), "a delivery", "fan-out").load(load).rounds(3);
        row.x = Some(x as f64);
        row.among(&[ROOMCAST, LIMIT], Some(LIMIT))
    };
    let mut rows = Vec::new();
    for members in points(&[1, 10, 30, 100, 300, 1_000, 3_000, 10_000], &[10, 1_000]) {
        let events = (deliveries / members).clamp(10, 20_000);
        let load = [("rooms", 1), ("members", members), ("events", events), ("window", 1)];
        rows.push(point(Block::Members, "members", members, &load));
    }
    // The same connections at every point, and ten members in each room: only the number of rooms grows.
    for rooms in points(&[10, 100, 1_000, 10_000, 100_000], &[10, 10_000]) {
        let connections = if quick { 1_000 } else { 10_000 };
        let events = deliveries / 10;
        let load = [("rooms", rooms), ("members", 10), ("connections", connections), ("events", events), ("window", 1)];
        rows.push(point(Block::Rooms, "rooms", rooms, &load));
    }
    // One room of 1,000; the others are idle.
    for connections in points(&[1_000, 2_000, 5_000, 10_000, 19_000], &[1_000, 5_000]) {
        let load = [
            ("rooms", 1),
            ("members", 1_000),
            ("connections", connections),
            ("events", deliveries / 1_000),
            ("window", 1),
        ];
        rows.push(point(Block::Connections, "connections", connections, &load));
    }
    for (id, title, window) in
        [("shards-1", "1,000 members, one event in flight", 1), ("shards-8", "1,000 members, 8 events in flight", 8)]
    {
        let events = window * deliveries / 1_000;
        let load = [("rooms", 1), ("members", 1_000), ("events", events), ("window", window)];
        let row = Row::new(Block::Shards, id, title, "fan-out").load(&load).rounds(3);
        rows.push(row.among(&[ROOMCAST, TWO_SHARDS], Some(ROOMCAST)));
    }
    rows
}

/// A row in which everybody takes part who speaks WebSocket.
fn all(block: Block, id: &str, title: &str, scenario: &'static str) -> Row {
    let everybody = [LIMIT, ROOMCAST, PLAIN, SOCKETIOXIDE, CENTRIFUGE, NODE];
    Row::new(block, id, title, scenario).among(&everybody, Some(LIMIT))
}

/// The same for the gateway over TLS, beside itself and the limit in clear.
fn over_tls(row: &Row) -> Row {
    let base = row.base.filter(|_| row.figure == Figure::Cpu);
    let mut contenders = vec![TLS, ROOMCAST];
    contenders.extend(base);
    let mut tls = row.clone();
    tls.id = format!("{}-tls", row.id);
    tls.block = Block::Tls;
    tls.rounds = 3;
    tls.goals.clear();
    tls.among(&contenders, base)
}

impl Row {
    fn new(block: Block, id: &str, title: &str, scenario: &'static str) -> Self {
        Self {
            id: id.to_owned(),
            block,
            title: title.to_owned(),
            x: None,
            scenario,
            options: Vec::new(),
            figure: Figure::Cpu,
            contenders: Vec::new(),
            base: None,
            goals: Vec::new(),
            rounds: 5,
        }
    }

    fn load(mut self, options: &[(&'static str, usize)]) -> Self {
        self.options = options.iter().flat_map(|(name, value)| [format!("--{name}"), value.to_string()]).collect();
        self
    }

    fn figure(mut self, figure: Figure) -> Self {
        self.figure = figure;
        self
    }

    fn among(mut self, contenders: &[Contender], base: Option<Contender>) -> Self {
        self.contenders = contenders.to_vec();
        self.base = base;
        self
    }

    /// Compared with the limit that coalesces, as everybody may who has several events in hand.
    fn coalescing(mut self) -> Self {
        self.contenders[0] = COALESCING;
        self.base = Some(COALESCING);
        self
    }

    fn goals(mut self, goals: &[(Contender, Goal)]) -> Self {
        self.goals = goals.to_vec();
        self
    }

    fn rounds(mut self, rounds: usize) -> Self {
        self.rounds = rounds;
        self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_whole_run_and_a_quick_one_have_rows_of_all_kinds() {
        for quick in [false, true] {
            let rows = rows(quick);
            for block in <Block as clap::ValueEnum>::value_variants() {
                assert!(rows.iter().any(|row| row.block == *block), "quick {quick}: no row of {block:?}");
            }
            let ids: HashSet<_> = rows.iter().map(|row| &row.id).collect();
            assert_eq!(ids.len(), rows.len(), "two rows of one name");
        }
    }

    #[test]
    fn a_base_and_a_goal_belong_to_who_takes_part() {
        for row in rows(false) {
            for contender in row.goals.iter().map(|(contender, _)| contender).chain(&row.base) {
                assert!(row.contenders.contains(contender), "{}: {}", row.id, contender.key());
            }
        }
    }
}
