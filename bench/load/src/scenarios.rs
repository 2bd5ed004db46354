//! What the clients do, a file for each scenario; here what they share.

mod ack;
mod churn;
mod connect;
mod fan_out;
mod idle;
mod source;
mod storm;

use anyhow::bail;
pub use churn::Cycle;
pub use storm::Storm;

use crate::arguments::{Arguments, Scenario};
use crate::crowd::Crowd;
use crate::measure::Servers;
use crate::report::Outcome;
use crate::session::News;

/// Clients that connect at the same time, unless the command line says otherwise.
const CONNECTING: usize = 16;

/// A run: what was asked for, the clients, and the server's processes.
pub struct Run<'a> {
    /// What was asked for.
    pub arguments: &'a Arguments,
    /// The clients.
    pub crowd: Crowd,
    /// The server's processes.
    pub servers: Servers,
}

impl Run<'_> {
    /// Does it.
    pub fn go(self) -> anyhow::Result<Outcome> {
        match self.arguments.scenario {
            Scenario::Idle => idle::run(self),
            Scenario::Connect => connect::run(self),
            Scenario::FanOut => fan_out::run(self),
            Scenario::Ack => ack::run(self),
            Scenario::Churn => churn::run(self),
            Scenario::Source => source::run(self),
            Scenario::Storm => storm::run(self),
        }
    }

    /// How many clients connect at the same time.
    fn connecting(&self) -> usize {
        match self.arguments.scenario {
            // Their window is one of events.
            Scenario::FanOut | Scenario::Ack | Scenario::Source => CONNECTING,
            Scenario::Idle | Scenario::Connect | Scenario::Churn | Scenario::Storm => {
                self.arguments.window.map_or(CONNECTING, |window| window as usize)
            }
        }
    }
}

/// How many clients a scenario has, and so how many tokens it needs: the publisher and the first ones for warmth included.
pub fn clients(arguments: &Arguments) -> usize {
    match arguments.scenario {
        Scenario::Idle | Scenario::Connect => arguments.connections.unwrap_or(1000) + idle::WARM,
        Scenario::Ack => ack::connections(arguments),
        Scenario::Churn => churn::connections(arguments),
        Scenario::Storm => storm::connections(arguments) + arguments.stayers + 1,
        Scenario::FanOut => fan_out::connections(arguments) + 1,
        Scenario::Source => source::connections(arguments),
    }
}

/// The window of a scenario, as its results have it.
pub fn window(arguments: &Arguments) -> Option<u32> {
    match arguments.scenario {
        Scenario::Idle | Scenario::Connect | Scenario::Churn => Some(arguments.window.unwrap_or(CONNECTING as u32)),
        Scenario::Ack | Scenario::FanOut if arguments.rate.is_none() => Some(arguments.window.unwrap_or(1)),
        Scenario::Ack | Scenario::FanOut | Scenario::Source => None,
        Scenario::Storm => arguments.window,
    }
}

/// Looks at what happened while nothing but events and answers should; gives the number of answers.
fn answers(crowd: &mut Crowd) -> anyhow::Result<Vec<usize>> {
    let mut answered = Vec::new();
    for (index, news) in crowd.news() {
        match news {
            News::Echoed => answered.push(index),
            News::Refused(words) => bail!("the server refused what client {index} asked for: {words}"),
            News::Gone(end) => crowd.blame(index, &end),
            News::Entered | News::Joined | News::Left => {}
        }
    }
    Ok(answered)
}
