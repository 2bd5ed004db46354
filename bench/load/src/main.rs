//! Loads a real-time gateway with thousands of clients and checks what each of them gets.
//!
//! One thread, one epoll set, no runtime: the clients share the machine with what they measure, and must cost next to nothing.

mod arguments;
mod check;
mod client;
mod crowd;
mod dialect;
mod frames;
mod link;
mod measure;
mod polling;
mod report;
mod scenarios;
mod session;
mod source;
mod target;
mod tls;
mod token;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;

use arguments::Arguments;
use crowd::{Crowd, Plan};
use measure::Servers;
use report::Report;
use scenarios::Run;
use target::Target;
use tls::Trust;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(report) => {
            if arguments.json {
                println!("{}", serde_json::to_string(&report).expect("the report is made of numbers and texts"));
            } else {
                print!("{}", report.text());
            }
            ExitCode::from(u8::from(!report.faults.none()))
        }
        Err(error) => {
            eprintln!("roomcast-load: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    measure::raise_descriptor_limit()?;
    if let Some(core) = arguments.cpu {
        measure::pin_self(core)?;
    }
    let target = Target::resolve(&arguments.url, arguments.dialect)?;
    let trust = target.tls.then(|| Trust::new(&target.host, arguments.ca.as_deref())).transpose()?;
    std::net::TcpStream::connect_timeout(&target.address, Duration::from_secs(5))
        .with_context(|| format!("nobody listens on {} ({})", target.address, arguments.url))?;
    let tls = target.tls;
    let plan = Plan {
        target,
        trust,
        dialect: arguments.dialect,
        tokens: token::tokens(arguments, scenarios::clients(arguments))?,
        addresses: arguments.addresses,
        frame_bytes: arguments.frame_bytes as usize,
        patience: Duration::from_secs(arguments.patience),
    };
    let crowd = Crowd::new(plan)?;
    let outcome = Run { arguments, crowd, servers: Servers(arguments.pid.clone()) }.go()?;
    Ok(Report::new(arguments, tls, scenarios::window(arguments), outcome))
}
