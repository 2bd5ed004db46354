//! A publisher, who is in no room, says something in all rooms in turn: what does a delivery cost, and how long does it take?

use anyhow::ensure;

use super::Run;
use crate::arguments::Arguments;
use crate::crowd::now;
use crate::measure::Measured;
use crate::report::Outcome;

/// Events before the measured part.
const WARM: u64 = 16;

fn members(arguments: &Arguments) -> usize {
    arguments.members.unwrap_or(1000)
}

/// The clients, but for the publisher.
pub fn connections(arguments: &Arguments) -> usize {
    arguments.connections.unwrap_or(members(arguments) * arguments.rooms as usize)
}

pub fn run(mut run: Run<'_>) -> anyhow::Result<Outcome> {
    let arguments = run.arguments;
    let (rooms, members, connections) = (arguments.rooms, members(arguments), connections(arguments));
    ensure!(connections >= members, "{members} members of one room need as many --connections, not {connections}");
    let clients = run.crowd.bring_in(connections, run.connecting())?;
    let publisher = run.crowd.bring_in(1, 1)?.start;
    let places = (0..rooms as usize * members).zip(clients.clone().cycle());
    let joins: Vec<_> = places.map(|(place, client)| (client, (place / members) as u32)).collect();
    run.crowd.join_all(&joins)?;

    let mut publisher = Publisher { client: publisher, rooms, next: 0, members: members as u64 };
    publisher.windows(&mut run, WARM.min(u64::from(rooms) * 4), 1)?;
    let before = run.crowd.checker().received;
    run.crowd.checker().latency.reset();
    let measured = Measured::begin(&run.servers)?;
    let events = match arguments.rate {
        Some(rate) => {
            let fitting = (arguments.seconds.unwrap_or(10.0) * rate).ceil() as u64;
            let events = arguments.events.unwrap_or(fitting);
            publisher.at_rate(&mut run, events, rate)?;
            events
        }
        None => {
            let events = arguments.events.unwrap_or(200);
            publisher.windows(&mut run, events, u64::from(arguments.window.unwrap_or(1)))?;
            events
        }
    };
    let figures = measured.end(run.crowd.checker().received - before)?;
    run.crowd.settle()?;
    let checker = run.crowd.checker();
    let (faults, latency) = (checker.faults, checker.latency.clone());
    Ok(Outcome {
        connections,
        members: Some(members),
        events: Some(events),
        faults,
        latency: Some(latency),
        ..Outcome::new("delivery", figures)
    })
}

/// Who says it.
pub struct Publisher {
    /// Which client it is.
    pub client: usize,
    /// Rooms, from 0.
    pub rooms: u32,
    /// The room whose turn it is.
    pub next: u32,
    /// Members of each.
    pub members: u64,
}

impl Publisher {
    /// Says something in the next rooms.
    pub fn say(&mut self, run: &mut Run<'_>, times: u64, nanos: u64) -> anyhow::Result<()> {
        let (rooms, first) = (u64::from(self.rooms), u64::from(self.next));
        self.next = ((first + times) % rooms) as u32;
        run.crowd.say(self.client, (0..times).map(|time| ((first + time) % rooms) as u32), nanos)
    }

    /// So many at a time, and the next when all members have them.
    fn windows(&mut self, run: &mut Run<'_>, events: u64, window: u64) -> anyhow::Result<()> {
        let mut left = events;
        while left > 0 {
            let times = left.min(window);
            let due = run.crowd.checker().received + times * self.members;
            self.say(run, times, now())?;
            while run.crowd.checker().received < due {
                if !run.crowd.turn(None)? {
                    return Ok(());
                }
                super::answers(&mut run.crowd)?;
            }
            left -= times;
        }
        Ok(())
    }

    /// On a clock, whatever has come; then waits until all has.
    fn at_rate(&mut self, run: &mut Run<'_>, events: u64, rate: f64) -> anyhow::Result<()> {
        let due = run.crowd.checker().received + events * self.members;
        let began = now();
        let moment = |event: u64| began + (event as f64 / rate * 1e9) as u64;
        let mut said = 0;
        while said < events || run.crowd.checker().received < due {
            while said < events && moment(said) <= now() {
                self.say(run, 1, moment(said))?;
                said += 1;
            }
            if !run.crowd.turn((said < events).then(|| moment(said)))? {
                return Ok(());
            }
            super::answers(&mut run.crowd)?;
        }
        Ok(())
    }
}
