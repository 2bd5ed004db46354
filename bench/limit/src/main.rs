//! The limit: what the kernel alone costs. Each subcommand does the least that can be done for one of the benchmark's figures, so that
//! a server's own share is what lies above it. Nothing here is meant to be used as a server.

mod consumer;
mod crowd;
mod records;
mod serve;
mod steady;

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
    /// A consumer of RabbitMQ that only acknowledges: fills a queue, empties it, prints what that cost
    #[command(after_help = "Example:\n  roomcast-limit consumer --amqp amqp://guest:guest@localhost --events 50000")]
    Consumer(consumer::Options),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Serve(options) => serve::run(&options),
        Command::Consumer(options) => consumer::run(&options),
    }
}
