//! What the hot paths may cost, counted and not timed: allocations, heap bytes and sends. A count is the same on every machine, so a
//! change that makes a delivery cost something for each member, or an idle connection more memory, fails here and not in production.
//! The bounds are what was counted when they were written and a little more: lower them with what lowers the counts.
//!
//! Everything is counted process-wide, the clients included, which therefore allocate nothing while something is counted; the tests
//! take turns.

#[global_allocator]
static HEAP: dhat::Alloc = dhat::Alloc;

mod client;
mod stage;

use client::{Client, Dialect};
use stage::{Stage, stage};

/// Of the crowd, so many are in the small room; all of it is in the large one.
const FEW: usize = 10;
const MANY: usize = 1_000;

/// A large room is flushed in several turns of the shard, and a turn may cost something; a member may not.
const SLACK: u64 = 4;

/// Events that one command of the profile sends at once.
const BURST: usize = 8;

/// The crowd: half of it speaks Socket.IO and half plain JSON, so that each event is encoded twice.
fn crowd(stage: &Stage) -> Vec<Client> {
    let mut clients: Vec<Client> = Vec::with_capacity(MANY);
    for index in 0..MANY {
        let dialect = if index % 2 == 0 { Dialect::SocketIo } else { Dialect::Plain };
        let mut client = stage.connect(dialect);
        client.ask("join", r#""room":"many""#);
        if index < FEW {
            client.ask("join", r#""room":"few""#);
        }
        clients.push(client);
    }
    clients
}

#[test]
fn an_event_of_a_client_allocates_nothing_for_each_member() {
    let stage = stage();
    let mut members = crowd(&stage);
    let mut sender = stage.connect(Dialect::SocketIo);
    let mut cost = |room: &str, members: &mut [Client]| {
        let frame = sender.command("say", &format!(r#""room":"{room}","data":"hello""#));
        stage.fewest_allocations(|| {
            sender.send(&frame);
            members.iter_mut().for_each(|member| member.expect("hello"));
        })
    };
    let few = cost("few", &mut members[..FEW]);
    let many = cost("many", &mut members);
    assert!(many <= few + SLACK, "an event for {FEW} members makes {few} allocations, one for {MANY} makes {many}");
}

#[test]
fn an_event_of_a_source_allocates_nothing_for_each_member() {
    let stage = stage();
    let mut members = crowd(&stage);
    let cost = |room: &str, members: &mut [Client]| {
        stage.fewest_allocations(|| {
            stage.publish(room, r#"{"data":"hello"}"#);
            members.iter_mut().for_each(|member| member.expect("hello"));
        })
    };
    let few = cost("few", &mut members[..FEW]);
    let many = cost("many", &mut members);
    assert!(many <= few + SLACK, "an event for {FEW} members makes {few} allocations, one for {MANY} makes {many}");
}

#[test]
fn a_member_gets_one_send_for_all_events_of_a_tick() {
    let stage = stage();
    let mut members = crowd(&stage);
    let mut sender = stage.connect(Dialect::SocketIo);
    let frame = sender.command("burst", r#""room":"many""#);
    let before = stage.sends();
    sender.send(&frame);
    for member in &mut members {
        (0..BURST).for_each(|index| member.expect(&format!("burst {index}")));
    }
    let after = stage.sends();
    assert_eq!(after.deliveries - before.deliveries, (BURST * MANY) as u64);
    assert_eq!(after.sends - before.sends, MANY as u64, "{BURST} events for {MANY} members are one send for each");
}

#[test]
fn an_idle_connection_keeps_little() {
    for (dialect, bytes_max) in [(Dialect::SocketIo, 1_200), (Dialect::Plain, 1_150)] {
        let stage = stage();
        // What is made once, for the first connection, is no cost of each.
        let first = stage.connect(dialect);
        let mut clients = Vec::with_capacity(MANY);
        let before = stage.heap_bytes();
        clients.extend((0..MANY).map(|_| stage.connect(dialect)));
        let bytes = (stage.heap_bytes() - before) / MANY;
        assert!(bytes <= bytes_max, "an idle connection ({dialect:?}) keeps {bytes} bytes, {bytes_max} are allowed");
        drop((first, clients));
    }
}

#[test]
fn a_connect_allocates_a_bounded_number_of_times() {
    for (dialect, allocations_max) in [(Dialect::SocketIo, 98), (Dialect::Plain, 90)] {
        let stage = stage();
        let _first = stage.connect(dialect);
        let mut clients = Vec::with_capacity(100);
        let allocations = stage.fewest_allocations(|| {
            clients.clear();
            clients.extend((0..100).map(|_| stage.connect(dialect)));
        }) / 100;
        // Its end is counted with it: the clients of the round before are gone when those of this one come.
        assert!(allocations <= allocations_max, "a connect ({dialect:?}) makes {allocations} allocations");
    }
}

#[test]
fn an_answered_command_allocates_a_bounded_number_of_times() {
    for (dialect, allocations_max) in [(Dialect::SocketIo, 11), (Dialect::Plain, 12)] {
        let stage = stage();
        let mut client = stage.connect(dialect);
        let frame = client.question("echo", r#""data":"hello""#);
        let allocations = stage.fewest_allocations(|| {
            for _ in 0..100 {
                client.send(&frame);
                client.expect("hello");
            }
        }) / 100;
        assert!(allocations <= allocations_max, "an answered command ({dialect:?}) makes {allocations} allocations");
    }
}
