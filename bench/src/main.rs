//! Measures a running gateway beside the floor: a bare loop of `send` over the same number of sockets, round by round in one run.
//! CPU times are the processes' own (`/proc/PID/task/*/schedstat`), so that the client's work is not counted.

mod client;
mod floor;
mod process;

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Parser, Subcommand};

use client::Crowd;
use process::Server;

/// Measures the gateway beside a bare loop over the same sockets
#[derive(Parser)]
#[command(
    after_help = "Example:\n  cargo build --release --workspace && target/release/roomcast-bench run --members 1000"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Everything: fan-out, memory, connects
    Run {
        /// The gateway's binary
        #[arg(long, default_value = "target/release/roomcast")]
        server: PathBuf,
        /// Members of the room
        #[arg(long, default_value_t = 1000)]
        members: usize,
        /// Events of a round
        #[arg(long, default_value_t = 200)]
        events: usize,
        /// Rounds; figures are their medians
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        /// Idle connections for the memory figure
        #[arg(long, default_value_t = 10_000)]
        idle: usize,
    },
    /// The floor itself: started by `run`
    #[command(hide = true)]
    Floor,
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Floor => floor::serve(),
        Command::Run { server, members, events, rounds, idle } => {
            process::raise_descriptor_limit()?;
            process::pin_self(1)?;
            fan_out(&server, members, events, rounds, 1)?;
            fan_out(&server, members, events, rounds, 8)?;
            connects(&server, members, rounds)?;
            memory(&server, idle, Dialect::Plain)?;
            memory(&server, idle, Dialect::SocketIo)
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Dialect {
    Plain,
    SocketIo,
}

fn fan_out(server: &Path, members: usize, events: usize, rounds: usize, in_flight: usize) -> anyhow::Result<()> {
    let gateway = Server::gateway(server)?;
    let floor = Server::floor()?;
    let mut ratios = Vec::new();
    for round in 0..rounds {
        // New connections for each round: heartbeats, which come every half a minute, would be taken for doubled events.
        let mut crowd = Crowd::connect(gateway.port, members, client::PLAIN)?;
        crowd.join()?;
        let frame_bytes = crowd.one_event()?;
        let mut bare = Crowd::connect(floor.port, members, client::BARE)?;
        bare.frame_bytes(frame_bytes)?;
        let of_gateway = gateway.cpu_of(|| crowd.events(events, in_flight, frame_bytes))?;
        let of_floor = floor.cpu_of(|| bare.triggers(events, in_flight, frame_bytes))?;
        let each = |nanos: u64| nanos as f64 / (events * members) as f64 / 1000.0;
        let ratio = of_gateway as f64 / of_floor as f64;
        println!(
            "fan-out {members} members, {in_flight} in flight, round {round}: gateway {:.2} us, floor {:.2} us a delivery, x{ratio:.3}",
            each(of_gateway),
            each(of_floor)
        );
        ratios.push(ratio);
    }
    println!("fan-out {members} members, {in_flight} in flight: x{:.3} (median)", median(&mut ratios));
    Ok(())
}

fn connects(server: &Path, count: usize, rounds: usize) -> anyhow::Result<()> {
    let mut ratios = Vec::new();
    let gateway = Server::gateway(server)?;
    let floor = Server::floor()?;
    for round in 0..rounds {
        let mut held = Vec::new();
        let of_gateway =
            gateway.cpu_of(|| Crowd::connect(gateway.port, count, client::PLAIN).map(|crowd| held.push(crowd)))?;
        let of_floor =
            floor.cpu_of(|| Crowd::connect(floor.port, count, client::BARE).map(|crowd| held.push(crowd)))?;
        let each = |nanos: u64| nanos as f64 / count as f64 / 1000.0;
        let ratio = of_gateway as f64 / of_floor as f64;
        println!(
            "connect, round {round}: gateway {:.1} us, floor {:.1} us, x{ratio:.2}",
            each(of_gateway),
            each(of_floor)
        );
        ratios.push(ratio);
    }
    println!("connect: x{:.2} (median)", median(&mut ratios));
    Ok(())
}

fn memory(server: &Path, idle: usize, dialect: Dialect) -> anyhow::Result<()> {
    let gateway = Server::gateway(server)?;
    let handshake = match dialect {
        Dialect::Plain => client::PLAIN,
        Dialect::SocketIo => client::SOCKET_IO,
    };
    // What the first connections make the process allocate for good is not theirs.
    let _warm = Crowd::connect(gateway.port, 100, handshake)?;
    let before = gateway.resident_kib()?;
    let _crowd = Crowd::connect(gateway.port, idle, handshake)?;
    let after = gateway.resident_kib()?;
    println!("memory, {idle} idle {dialect:?} connections: {:.2} KiB each", (after - before) as f64 / idle as f64);
    Ok(())
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The program itself, to be started again as the floor.
fn own_path() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("cannot find this program")
}
