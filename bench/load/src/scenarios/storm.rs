//! Many clients drop at once and come back, while those who stayed receive a steady flow: how long until all are back, and what do the
//! others notice of it?
//!
//! Everyone comes back at once, as no client library does (they wait, each for a while of its own): the worst case. Who is refused tries
//! again after a second. Those who stay have a thread of their own; on one core the two share it, as far as the kernel is fair.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use serde::Serialize;

use super::Run;
use super::fan_out::Publisher;
use crate::arguments::Arguments;
use crate::check::Faults;
use crate::crowd::{Crowd, now};
use crate::measure::{Measured, Servers};
use crate::report::Outcome;
use crate::session::News;

/// Connects that are begun before the loop looks at its sockets again.
const CONNECTS_PER_TURN: usize = 16;

/// How long who is refused waits.
const AGAIN_NANOS: u64 = 1_000_000_000;

/// How long all may take; who is not back then counts as refused.
const LONGEST_NANOS: u64 = 120_000_000_000;

/// How soon those who are due again are looked for.
const LOOK_NANOS: u64 = 10_000_000;

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Storm {
    /// Those who dropped.
    pub clients: usize,
    /// Those who stayed.
    pub stayers: usize,
    /// From the drop until the last of them was in its room again.
    pub all_back_seconds: f64,
    /// How often one was refused or cut off before it was back.
    pub refused: u64,
    /// What those who stayed saw before the drop; what they saw during the storm is the run's latency.
    pub before_p50_micros: f64,
    /// The same, of the slowest in a hundred.
    pub before_p99_micros: f64,
}

/// Those who drop.
pub fn connections(arguments: &Arguments) -> usize {
    arguments.connections.unwrap_or(10_000)
}

pub fn run(mut run: Run<'_>) -> anyhow::Result<Outcome> {
    let arguments = run.arguments;
    let (clients, stayers) = (connections(arguments), arguments.stayers);
    let phase = Phase::default();
    let plan = run.crowd.plan_beside(clients);
    let (nanos, refused, figures, stayed) = std::thread::scope(|scope| {
        let staying = scope.spawn(|| {
            let stayed =
                Crowd::new(plan).and_then(|crowd| stay(Run { arguments, crowd, servers: Servers(Vec::new()) }, &phase));
            // Nobody is to wait for who has given up.
            phase.reach(AT_PEACE);
            stayed
        });
        let storm = blow(&mut run, &phase);
        phase.reach(OVER);
        let stayed = staying.join().expect("those who stay do not panic")?;
        let (measured, nanos, refused) = storm?;
        anyhow::Ok((nanos, refused, measured.end(stayed.received)?, stayed))
    })?;
    run.crowd.settle()?;
    let storm = Storm {
        clients,
        stayers,
        all_back_seconds: nanos as f64 / 1e9,
        refused,
        before_p50_micros: stayed.before.value_at_quantile(0.5) as f64 / 1e3,
        before_p99_micros: stayed.before.value_at_quantile(0.99) as f64 / 1e3,
    };
    let faults = run.crowd.checker().faults + stayed.faults;
    let outcome = Outcome::new("delivery", figures);
    Ok(Outcome { connections: clients + stayers, faults, latency: Some(stayed.during), storm: Some(storm), ..outcome })
}

/// How far the run is. Those who stay are in a thread of their own, so that the work of connecting thousands is not in what they see.
#[derive(Default)]
struct Phase(AtomicU8);

/// Those who will drop are in: the calm begins.
const GATHERED: u8 = 1;
/// Those who stay have seen the calm: the storm may begin.
const AT_PEACE: u8 = 2;
/// All are back.
const OVER: u8 = 3;

impl Phase {
    fn reach(&self, phase: u8) {
        self.0.fetch_max(phase, Ordering::AcqRel);
    }

    fn is_before(&self, phase: u8) -> bool {
        self.0.load(Ordering::Acquire) < phase
    }
}

/// Those who drop connect, wait for the calm to be seen, drop and come back; how long that took, and how often one was refused.
fn blow(run: &mut Run<'_>, phase: &Phase) -> anyhow::Result<(Measured, u64, u64)> {
    let connecting = run.connecting();
    let leaving = run.crowd.bring_in(connections(run.arguments), connecting)?;
    let rooms: Vec<_> = leaving.clone().map(|client| (client, room_of(client, run.arguments))).collect();
    run.crowd.join_all(&rooms)?;
    phase.reach(GATHERED);
    while phase.is_before(AT_PEACE) {
        run.crowd.linger(Duration::from_millis(10))?;
        super::answers(&mut run.crowd)?;
    }
    let measured = Measured::begin(&run.servers)?;
    let (nanos, refused) = storm(run, leaving)?;
    Ok((measured, nanos, refused))
}

/// What those who stayed saw.
struct Stayed {
    before: Histogram<u64>,
    during: Histogram<u64>,
    /// Deliveries during the storm.
    received: u64,
    faults: Faults,
}

/// A steady flow to those who stay: in the calm, and until the storm is over.
fn stay(mut run: Run<'_>, phase: &Phase) -> anyhow::Result<Stayed> {
    let arguments = run.arguments;
    let connecting = run.connecting();
    let staying = run.crowd.bring_in(arguments.stayers, connecting)?;
    let publisher = run.crowd.bring_in(1, 1)?.start;
    run.crowd.join_all(&staying.map(|client| (client, 0)).collect::<Vec<_>>())?;
    while phase.is_before(GATHERED) {
        run.crowd.linger(Duration::from_millis(10))?;
        super::answers(&mut run.crowd)?;
    }
    let publisher = Publisher { client: publisher, rooms: 1, next: 0, members: arguments.stayers as u64 };
    let interval = (1e9 / arguments.rate.unwrap_or(100.0)) as u64;
    let mut flow = Flow { publisher, interval, due: now() };
    let calm = now() + (arguments.seconds.unwrap_or(5.0) * 1e9) as u64;
    flow.goes_on_while(&mut run, || now() < calm)?;
    let before = take_latency(&mut run);
    let received = run.crowd.checker().received;
    phase.reach(AT_PEACE);
    flow.goes_on_while(&mut run, || phase.is_before(OVER))?;
    flow.wait_for_all(&mut run)?;
    let during = take_latency(&mut run);
    run.crowd.settle()?;
    let checker = run.crowd.checker();
    Ok(Stayed { before, during, received: checker.received - received, faults: checker.faults })
}

/// A room that is not the stayers'.
fn room_of(client: usize, arguments: &Arguments) -> u32 {
    1 + (client % arguments.rooms as usize) as u32
}

fn take_latency(run: &mut Run<'_>) -> Histogram<u64> {
    let latency = &mut run.crowd.checker().latency;
    let taken = latency.clone();
    latency.reset();
    taken
}

/// All drop and come back; how long it took, and how often one was refused.
fn storm(run: &mut Run<'_>, clients: Range<usize>) -> anyhow::Result<(u64, u64)> {
    let began = now();
    for client in clients.clone() {
        run.crowd.close(client)?;
    }
    let in_flight = run.arguments.window.map_or(usize::MAX, |window| window as usize);
    let mut out: VecDeque<(u64, usize)> = clients.clone().map(|client| (began, client)).collect();
    let mut is_back = vec![false; clients.len()];
    let (mut back, mut coming, mut refused) = (0, 0, 0);
    while back < clients.len() {
        for _ in 0..CONNECTS_PER_TURN {
            match out.front() {
                Some((from, client)) if *from <= now() && coming < in_flight => run.crowd.open(*client)?,
                Some(_) | None => break,
            }
            out.pop_front();
            coming += 1;
        }
        let more = out.front().is_some_and(|(from, _)| *from <= now() && coming < in_flight);
        run.crowd.turn(Some(if more { now() } else { now() + LOOK_NANOS }))?;
        for (index, news) in run.crowd.news() {
            let place = clients.contains(&index).then(|| index - clients.start);
            match news {
                News::Entered => run.crowd.join(index, room_of(index, run.arguments))?,
                News::Joined => {
                    if let Some(place) = place
                        && !std::mem::replace(&mut is_back[place], true)
                    {
                        back += 1;
                        coming -= 1;
                    }
                }
                News::Gone(end) => match place {
                    Some(place) if !is_back[place] => {
                        refused += 1;
                        coming -= 1;
                        out.push_back((now() + AGAIN_NANOS, index));
                    }
                    // To let somebody back in only to end the connection is no refusal, and that client is not back.
                    Some(place) => {
                        run.crowd.blame(index, &end);
                        is_back[place] = false;
                        back -= 1;
                        out.push_back((now() + AGAIN_NANOS, index));
                    }
                    None => run.crowd.blame(index, &end),
                },
                News::Refused(words) => bail!("client {index} may not join: {words}"),
                News::Left | News::Echoed => {}
            }
        }
        if now() - began > LONGEST_NANOS {
            run.crowd.checker().faults.refused += (clients.len() - back) as u64;
            break;
        }
    }
    Ok((now() - began, refused))
}

/// Events to those who stayed, on a clock.
struct Flow {
    publisher: Publisher,
    interval: u64,
    /// When the next is due.
    due: u64,
}

impl Flow {
    fn goes_on_while(&mut self, run: &mut Run<'_>, is_on: impl Fn() -> bool) -> anyhow::Result<()> {
        while is_on() {
            self.say_what_is_due(run)?;
            run.crowd.turn(Some(self.due))?;
            super::answers(&mut run.crowd)?;
        }
        Ok(())
    }

    fn say_what_is_due(&mut self, run: &mut Run<'_>) -> anyhow::Result<()> {
        while self.due <= now() {
            self.publisher.say(run, 1, self.due)?;
            self.due += self.interval;
        }
        Ok(())
    }

    fn wait_for_all(&self, run: &mut Run<'_>) -> anyhow::Result<()> {
        let sent = u64::from(run.crowd.checker().sent(0));
        while run.crowd.checker().received < sent * self.publisher.members {
            if !run.crowd.turn(None).context("while the last events are waited for")? {
                break;
            }
            super::answers(&mut run.crowd)?;
        }
        Ok(())
    }
}
