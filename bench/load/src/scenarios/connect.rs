//! Clients connect: what does it cost, from the handshake until they are in?

use super::Run;
use super::idle::WARM;
use crate::measure::Measured;
use crate::report::Outcome;

pub fn run(mut run: Run<'_>) -> anyhow::Result<Outcome> {
    let connections = run.arguments.connections.unwrap_or(1000);
    let connecting = run.connecting();
    run.crowd.bring_in(WARM, connecting)?;
    let measured = Measured::begin(&run.servers)?;
    run.crowd.bring_in(connections, connecting)?;
    let figures = measured.end(connections as u64)?;
    run.crowd.settle()?;
    super::answers(&mut run.crowd)?;
    let faults = run.crowd.checker().faults;
    Ok(Outcome { connections, faults, ..Outcome::new("connect", figures) })
}
