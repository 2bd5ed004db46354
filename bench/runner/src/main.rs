//! Runs the gateway, the limit and the peers side by side under the same load, keeps the results, and writes the tables and charts of
//! `docs/performance.md` from them. `bench/run` builds everything first.

mod broker;
mod contenders;
mod machine;
mod plan;
mod report;
mod results;
mod run;
mod server;
mod statistics;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};

use plan::Block;

/// Measures the gateway beside the limit and its peers
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run rounds and keep what they gave
    #[command(
        after_help = "Examples:\n  bench/run --quick\n  bench/run --only fan-out,connect --rounds 9 --peers node"
    )]
    Run(RunOptions),
    /// Write the tables of docs/performance.md and the README, and the charts, from kept runs; a later run replaces the rows that it has
    #[command(after_help = "Example:\n  roomcast-bench report bench/results/2026-01-01.json")]
    Report {
        /// The runs, as paths below the root of the tree
        #[arg(required = true, value_name = "RUN.json")]
        runs: Vec<String>,
    },
}

#[derive(Args)]
struct RunOptions {
    /// All kinds of rows with less load, in five minutes
    #[arg(long)]
    quick: bool,
    /// These blocks alone
    #[arg(long, value_delimiter = ',', value_name = "BLOCK")]
    only: Vec<Block>,
    /// How many rounds, instead of what each row has
    #[arg(long)]
    rounds: Option<usize>,
    /// These peers alone, beside the gateway and the limit; `none` for none
    #[arg(long, value_delimiter = ',', value_name = "PEER")]
    peers: Option<Vec<String>>,
    /// Who could not be built, and why, as `node=npm is missing`
    #[arg(long, value_name = "PEER=REASON")]
    not_run: Vec<String>,
    /// The order of the rounds, to have the same again
    #[arg(long)]
    seed: Option<u64>,
    /// Where the results go [default: bench/results/DATE.json]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    // The tree that this was built from: what is measured lies there, too.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().context("the tree has moved")?;
    match Cli::parse().command {
        Command::Report { runs } => report::write(&root, &runs).map(|()| ExitCode::SUCCESS),
        Command::Run(options) => {
            let settings = options.settings(root)?;
            Ok(if run::run(&settings)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

impl RunOptions {
    fn settings(self, root: PathBuf) -> anyhow::Result<run::Settings> {
        let reasons = self.not_run.iter().map(|text| {
            let (peer, reason) = text.split_once('=').with_context(|| format!("`{text}` is not PEER=REASON"))?;
            Ok((peer.to_owned(), reason.to_owned()))
        });
        let peers = contenders::Server::ALL.map(contenders::Server::key);
        for peer in self.peers.iter().flatten().filter(|peer| *peer != "none") {
            anyhow::ensure!(
                peers.contains(&peer.as_str()),
                "there is no peer `{peer}`; there are {}",
                peers.join(", ")
            );
        }
        let output = match self.output {
            Some(output) => output,
            None => root.join("bench/results").join(machine::now()?.replace(':', "") + ".json"),
        };
        if let Some(folder) = output.parent() {
            std::fs::create_dir_all(folder)?;
        }
        Ok(run::Settings {
            not_run: reasons.collect::<anyhow::Result<_>>()?,
            quick: self.quick,
            only: self.only,
            rounds: self.rounds,
            peers: self.peers,
            seed: self.seed.unwrap_or_else(|| fastrand::u64(0..1_000_000)),
            output,
            root,
        })
    }
}
