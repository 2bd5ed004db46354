//! Clients come and go, or join and leave rooms, again and again: what stays behind?

use std::fmt;
use std::time::Duration;

use anyhow::bail;
use serde::Serialize;

use super::Run;
use crate::arguments::{Arguments, Churn};
use crate::crowd::now;
use crate::measure::{Measured, Servers};
use crate::report::Outcome;

/// What the server's process holds when a cycle has ended: everyone is gone, or out of all rooms.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Cycle {
    resident_kib: i64,
    descriptors: usize,
    /// Memory while everyone was there.
    resident_kib_full: i64,
}

/// How many clients there are.
pub fn connections(arguments: &Arguments) -> usize {
    arguments.connections.unwrap_or(1000)
}

impl fmt::Display for Cycle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resident_kib, descriptors, resident_kib_full } = self;
        write!(out, "memory {resident_kib} KiB, {resident_kib_full} KiB while all were there; open files {descriptors}")
    }
}

pub fn run(mut run: Run<'_>) -> anyhow::Result<Outcome> {
    let connections = connections(run.arguments);
    let before = run.servers.descriptors()?;
    let clients = run.crowd.add_all(connections);
    if run.arguments.of == Churn::Rooms {
        run.crowd.bring_back(clients.clone(), run.connecting())?;
    }
    let measured = Measured::begin(&run.servers)?;
    let mut cycles = Vec::new();
    for _ in 0..run.arguments.cycles {
        let resident_kib_full = match run.arguments.of {
            Churn::Connections => come_and_go(&mut run, clients.clone(), before)?,
            Churn::Rooms => join_and_leave(&mut run, clients.clone())?,
        };
        // What a server gives back to the system, it gives back a moment later.
        run.crowd.linger(Duration::try_from_secs_f64(run.arguments.seconds.unwrap_or(1.0))?)?;
        let (resident_kib, descriptors) = (run.servers.resident_kib()?, run.servers.descriptors()?);
        cycles.push(Cycle { resident_kib, descriptors, resident_kib_full });
    }
    let (unit, each) = match run.arguments.of {
        Churn::Connections => ("connect", 1),
        Churn::Rooms => ("round trip", 2 * u64::from(run.arguments.rooms)),
    };
    let figures = measured.end(connections as u64 * each * u64::from(run.arguments.cycles))?;
    run.crowd.settle()?;
    let faults = run.crowd.checker().faults;
    Ok(Outcome { connections, cycles, faults, ..Outcome::new(unit, figures) })
}

/// Everyone connects and goes; waits until the server knows it. Returns the memory in between.
fn come_and_go(run: &mut Run<'_>, clients: std::ops::Range<usize>, before: usize) -> anyhow::Result<i64> {
    run.crowd.bring_back(clients.clone(), run.connecting())?;
    run.crowd.linger(Duration::from_millis(200))?;
    let full = run.servers.resident_kib()?;
    for client in clients {
        run.crowd.close(client)?;
    }
    wait_until_gone(run, before)?;
    Ok(full)
}

fn wait_until_gone(run: &mut Run<'_>, before: usize) -> anyhow::Result<()> {
    /// A server's own files: logs, connections of its own.
    const SPARE: usize = 16;
    let Servers(pids) = &run.servers;
    if pids.is_empty() {
        return Ok(());
    }
    let deadline = now() + u64::try_from(run.crowd.patience().as_nanos())?;
    while run.servers.descriptors()? > before + SPARE {
        if now() > deadline {
            bail!(
                "the server has {} open files more than before, and nobody is there",
                run.servers.descriptors()? - before
            );
        }
        run.crowd.linger(Duration::from_millis(20))?;
    }
    Ok(())
}

/// Everyone joins all rooms and leaves them. Returns the memory in between.
fn join_and_leave(run: &mut Run<'_>, clients: std::ops::Range<usize>) -> anyhow::Result<i64> {
    let rooms = run.arguments.rooms;
    let places: Vec<_> = clients.flat_map(|client| (0..rooms).map(move |room| (client, room))).collect();
    run.crowd.join_all(&places)?;
    let full = run.servers.resident_kib()?;
    run.crowd.leave_all(&places)?;
    Ok(full)
}
