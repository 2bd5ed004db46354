//! Clients connect and stay: what does one cost in memory?

use std::time::Duration;

use super::Run;
use crate::measure::Measured;
use crate::report::Outcome;

/// What the first connections make a process allocate for good is not theirs.
pub const WARM: usize = 100;

pub fn run(mut run: Run<'_>) -> anyhow::Result<Outcome> {
    let connections = run.arguments.connections.unwrap_or(1000);
    let connecting = run.connecting();
    run.crowd.bring_in(WARM, connecting)?;
    run.crowd.linger(Duration::from_millis(200))?;
    let measured = Measured::begin(&run.servers)?;
    run.crowd.bring_in(connections, connecting)?;
    run.crowd.linger(Duration::try_from_secs_f64(run.arguments.seconds.unwrap_or(1.0))?)?;
    let mut figures = measured.end(connections as u64)?;
    if let Some(server) = &mut figures.server {
        let grown = server.resident_kib_after - server.resident_kib_before;
        server.kib_per_unit = Some(grown as f64 / connections.max(1) as f64);
    }
    super::answers(&mut run.crowd)?;
    run.crowd.settle()?;
    let faults = run.crowd.checker().faults;
    Ok(Outcome { connections, faults, ..Outcome::new("connection", figures) })
}
