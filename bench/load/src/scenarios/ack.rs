//! Clients ask and are answered, in turn: what does a round trip cost?

use super::Run;
use crate::arguments::Arguments;
use crate::measure::Measured;
use crate::report::Outcome;

/// Round trips before the measured part.
const WARM: u64 = 100;

pub fn connections(arguments: &Arguments) -> usize {
    arguments.connections.unwrap_or(100).max(1)
}

pub fn run(mut run: Run<'_>) -> anyhow::Result<Outcome> {
    let connections = connections(run.arguments);
    let window = u64::from(run.arguments.window.unwrap_or(1));
    let events = run.arguments.events.unwrap_or(10_000);
    run.crowd.bring_in(connections, run.connecting())?;
    round_trips(&mut run, connections, WARM, window)?;
    let before = run.crowd.checker().received;
    run.crowd.checker().latency.reset();
    let measured = Measured::begin(&run.servers)?;
    round_trips(&mut run, connections, events, window)?;
    let received = run.crowd.checker().received - before;
    let figures = measured.end(received)?;
    let latency = run.crowd.checker().latency.clone();
    run.crowd.settle()?;
    let faults = run.crowd.checker().faults;
    let outcome = Outcome::new("round trip", figures);
    Ok(Outcome { connections, events: Some(events), faults, latency: Some(latency), ..outcome })
}

fn round_trips(run: &mut Run<'_>, connections: usize, events: u64, window: u64) -> anyhow::Result<()> {
    let (mut asked, mut answered) = (0, 0);
    while answered < events {
        while asked < events && asked < answered + window {
            run.crowd.echo(usize::try_from(asked)? % connections)?;
            asked += 1;
        }
        if !run.crowd.turn(None)? {
            return Ok(());
        }
        answered += super::answers(&mut run.crowd)?.len() as u64;
    }
    Ok(())
}
