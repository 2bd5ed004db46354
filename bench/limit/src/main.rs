//! The limit: what the kernel alone costs. Each subcommand does the least that can be done for one of the benchmark's figures, so that
//! a server's own share is what lies above it. Nothing here is meant to be used as a server.

mod crowd;
mod records;
mod serve;

use clap::{Parser, Subcommand};

/// The least that can be done: what the kernel alone costs for the work of a gateway
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// One thread, one epoll set, one `send` for each member: rooms without a protocol
    #[command(after_help = "Example:\n  PORT=3000 roomcast-limit serve --coalesce")]
    Serve(serve::Options),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Serve(options) => serve::run(&options),
    }
}
