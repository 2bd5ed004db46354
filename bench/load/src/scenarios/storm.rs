//! Many clients drop at once and come back, while those who stayed receive a steady flow: how long until all are back, and what do the
//! others notice of it?
//!
//! Everyone comes back at once, as no client library does (they wait, each for a while of its own): the worst case. Who is refused tries
//! again after a second. The load's own work is in what the stayers see, too: its one core connects and receives.

use std::collections::VecDeque;
use std::ops::Range;

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use serde::Serialize;

use super::Run;
use super::fan_out::Publisher;
use crate::arguments::Arguments;
use crate::crowd::now;
use crate::measure::Measured;
use crate::report::Outcome;
use crate::session::News;

/// Connects that are begun before the loop looks at its sockets again.
const CONNECTS_PER_TURN: usize = 16;

/// How long who is refused waits.
const AGAIN_NANOS: u64 = 1_000_000_000;

/// How long all may take; who is not back then counts as refused.
const LONGEST_NANOS: u64 = 120_000_000_000;

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
    let connecting = run.connecting();
    let staying = run.crowd.bring_in(stayers, connecting)?;
    let publisher = run.crowd.bring_in(1, 1)?.start;
    let leaving = run.crowd.bring_in(clients, connecting)?;
    run.crowd.join_all(&staying.map(|client| (client, 0)).collect::<Vec<_>>())?;
    run.crowd.join_all(&leaving.clone().map(|client| (client, room_of(client, arguments))).collect::<Vec<_>>())?;
    super::answers(&mut run.crowd)?;

    let rate = arguments.rate.unwrap_or(100.0);
    let publisher = Publisher { client: publisher, rooms: 1, next: 0, members: stayers as u64 };
    let mut flow = Flow { publisher, interval: (1e9 / rate) as u64, due: now() };
    let calm = now() + (arguments.seconds.unwrap_or(5.0) * 1e9) as u64;
    while now() < calm {
        flow.say_what_is_due(&mut run)?;
        run.crowd.turn(Some(flow.due))?;
        super::answers(&mut run.crowd)?;
    }
    let before = take_latency(&mut run);
    let received = run.crowd.checker().received;

    let measured = Measured::begin(&run.servers)?;
    let (nanos, refused) = storm(&mut run, leaving, &mut flow)?;
    flow.wait_for_all(&mut run)?;
    let figures = measured.end(run.crowd.checker().received - received)?;
    let during = take_latency(&mut run);
    run.crowd.settle()?;
    let storm = Storm {
        clients,
        stayers,
        all_back_seconds: nanos as f64 / 1e9,
        refused,
        before_p50_micros: before.value_at_quantile(0.5) as f64 / 1e3,
        before_p99_micros: before.value_at_quantile(0.99) as f64 / 1e3,
    };
    let faults = run.crowd.checker().faults;
    let outcome = Outcome::new("delivery", figures);
    Ok(Outcome { connections: clients + stayers, faults, latency: Some(during), storm: Some(storm), ..outcome })
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
fn storm(run: &mut Run<'_>, clients: Range<usize>, flow: &mut Flow) -> anyhow::Result<(u64, u64)> {
    let began = now();
    for client in clients.clone() {
        run.crowd.close(client)?;
    }
    let in_flight = run.arguments.window.map_or(usize::MAX, |window| window as usize);
    let mut out: VecDeque<(u64, usize)> = clients.clone().map(|client| (began, client)).collect();
    let mut is_back = vec![false; clients.len()];
    let (mut back, mut coming, mut refused) = (0, 0, 0);
    while back < clients.len() {
        flow.say_what_is_due(run)?;
        for _ in 0..CONNECTS_PER_TURN {
            match out.front() {
                Some((from, client)) if *from <= now() && coming < in_flight => run.crowd.open(*client)?,
                Some(_) | None => break,
            }
            out.pop_front();
            coming += 1;
        }
        let more = out.front().is_some_and(|(from, _)| *from <= now() && coming < in_flight);
        run.crowd.turn(Some(if more { now() } else { flow.due }))?;
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
