//! A service publishes to RabbitMQ, and a gateway brings it to the members of rooms: a backlog as fast as it can, or events at a rate.

use super::Run;
use crate::arguments::Arguments;
use crate::measure::Measured;
use crate::report::Outcome;
use crate::source::{Halted, Service};

/// Events before the measured part.
const WARM: u64 = 16;

/// Events of a backlog, unless the command line says otherwise.
const EVENTS: u64 = 50_000;

fn members(arguments: &Arguments) -> usize {
    arguments.members.unwrap_or(1)
}

/// The clients.
pub fn connections(arguments: &Arguments) -> usize {
    arguments.rooms as usize * members(arguments)
}

pub fn run(mut run: Run<'_>) -> anyhow::Result<Outcome> {
    let arguments = run.arguments;
    let (members, connections) = (members(arguments), connections(arguments));
    let clients = run.crowd.bring_in(connections, run.connecting())?;
    let joins: Vec<_> = clients.map(|client| (client, (client / members) as u32)).collect();
    run.crowd.join_all(&joins)?;
    let mut service = Service::connect(arguments)?;
    service.publish_all(WARM)?;
    receive(&mut run, WARM)?;
    let before = run.crowd.checker().received;
    run.crowd.checker().latency.reset();

    let (measured, events) = match arguments.rate {
        Some(rate) => {
            let events = arguments.events.unwrap_or((arguments.seconds.unwrap_or(10.0) * rate).ceil() as u64);
            let measured = Measured::begin(&run.servers)?;
            std::thread::scope(|scope| {
                let publishing = scope.spawn(|| service.publish_at(events, rate));
                receive(&mut run, events)?;
                publishing.join().expect("the publisher does not panic")
            })?;
            (measured, events)
        }
        None => {
            let events = arguments.events.unwrap_or(EVENTS);
            let halted = Halted::halt(&arguments.pid)?;
            service.publish_all(events)?;
            let measured = Measured::begin(&run.servers)?;
            drop(halted);
            receive(&mut run, events)?;
            (measured, events)
        }
    };
    let figures = measured.end(run.crowd.checker().received - before)?;
    run.crowd.settle()?;
    service.close();
    let checker = run.crowd.checker();
    // In a backlog an event's time is that of its turn.
    let latency = arguments.rate.map(|_| checker.latency.clone());
    Ok(Outcome {
        connections,
        members: Some(members),
        events: Some(events),
        faults: checker.faults,
        latency,
        ..Outcome::new("delivery", figures)
    })
}

/// Waits until every member has so many events more, round the rooms; gives up when nothing comes any more.
fn receive(run: &mut Run<'_>, events: u64) -> anyhow::Result<()> {
    let arguments = run.arguments;
    let due = run.crowd.checker().expect(events, arguments.rooms) * members(arguments) as u64;
    while run.crowd.checker().received < due {
        if !run.crowd.turn(None)? {
            return Ok(());
        }
        super::answers(&mut run.crowd)?;
    }
    Ok(())
}
