//! Carries the plan out: rounds in random order, a fresh server for every figure, everything kept as it came.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::Value;

use crate::broker::Broker;
use crate::contenders::{Contender, Server};
use crate::plan::{self, Block, Row};
use crate::results::{Measurement, Run, VERSION};
use crate::server::{
    Certificate, EVERY_CORE, Process, SECRET, free_port, make_certificate, raise_descriptor_limit, spawn_on,
};
use crate::{machine, report};

/// The core of the load generator; servers have those below, and share it where they have two.
const LOAD_CORE: usize = 1;

/// How long one figure may take.
const PATIENCE_SECS: u32 = 300;

/// When a quick run begins nothing more.
const QUICK: Duration = Duration::from_secs(280);

/// What to run.
#[derive(Debug)]
pub struct Settings {
    /// The tree with the programs in `target/` and `bench/`.
    pub root: PathBuf,
    /// Less load, fewer points, and an end after five minutes.
    pub quick: bool,
    /// These blocks; all where there are none.
    pub only: Vec<Block>,
    /// How many rounds, instead of what the plan says.
    pub rounds: Option<usize>,
    /// These peers beside the gateway and the limit; all where it is `None`.
    pub peers: Option<Vec<String>>,
    /// Who could not be built, and why.
    pub not_run: BTreeMap<String, String>,
    /// Of the order.
    pub seed: u64,
    /// Where the results go.
    pub output: PathBuf,
}

/// Runs it; whether everything that was asked of the gateway was measured and without a fault.
pub fn run(settings: &Settings) -> anyhow::Result<bool> {
    raise_descriptor_limit()?;
    let cores = std::thread::available_parallelism()?.get();
    anyhow::ensure!(cores > LOAD_CORE, "two cores are needed: one for the server, one for the load");
    let root = &settings.root;
    let mut rows = plan::rows(settings.quick);
    rows.retain(|row| settings.only.is_empty() || settings.only.contains(&row.block));
    let mut not_run = settings.not_run.clone();
    let mut broker = None;
    if rows.iter().any(|row| row.block == Block::Source) {
        match Broker::start(root) {
            Ok(started) => broker = Some(started),
            Err(error) => {
                for server in [Server::RoomcastHomeTrip, Server::HomeTrip, Server::BareConsumer] {
                    not_run.insert(server.key().to_owned(), format!("{error:#}"));
                }
            }
        }
    }
    let bench = Bench { root, certificate: make_certificate(&root.join("target/bench"))?, broker };
    for server in rows.iter().flat_map(|row| &row.contenders).map(|contender| contender.server) {
        if let Some(reason) = absent(settings, server) {
            not_run.entry(server.key().to_owned()).or_insert(reason);
        }
    }
    for row in &mut rows {
        row.contenders.retain(|contender| !not_run.contains_key(contender.server.key()));
    }
    let mut run = Run {
        version: VERSION,
        date: machine::now()?,
        commit: machine::commit(root),
        seed: settings.seed,
        quick: settings.quick,
        machine: machine::facts(),
        versions: machine::versions(root),
        not_run,
        measurements: Vec::new(),
    };
    for (server, reason) in &run.not_run {
        println!("{server} is not run: {reason}");
    }
    println!("seed {}, results in {}", run.seed, settings.output.display());
    let mut random = fastrand::Rng::with_seed(settings.seed);
    let begin = Instant::now();
    let rounds = |row: &Row| settings.rounds.unwrap_or(if settings.quick { 2 } else { row.rounds });
    let most = rows.iter().map(&rounds).max().unwrap_or(0);
    'run: for round in 0..most {
        let mut order: Vec<&Row> = rows.iter().filter(|row| round < rounds(row)).collect();
        random.shuffle(&mut order);
        for row in order {
            if settings.quick && begin.elapsed() > QUICK {
                println!("the five minutes are over in round {round}");
                break 'run;
            }
            let mut contenders = row.contenders.clone();
            random.shuffle(&mut contenders);
            for contender in contenders {
                let measurement = bench.measure(row, contender, round, &mut random);
                println!("{:>6.0} s  {}", begin.elapsed().as_secs_f64(), line(row, &measurement)?);
                run.measurements.push(measurement);
            }
            run.write(&settings.output)?;
        }
    }
    run.write(&settings.output)?;
    println!("\n{}", report::tables_of(std::slice::from_ref(&run))?);
    println!("results: {}", settings.output.display());
    // The keys of everything that is the gateway begin so.
    let of_gateway = |measurement: &&Measurement| measurement.contender.starts_with(Server::Roomcast.key());
    let mut sound = true;
    for measurement in run.measurements.iter().filter(of_gateway) {
        sound &= measurement.error.is_none()
            && measurement.figures()?.is_some_and(|load| load.faults.values().sum::<u64>() == 0);
    }
    Ok(sound)
}

/// Why this server cannot take part.
fn absent(settings: &Settings, server: Server) -> Option<String> {
    let asked = settings.peers.as_ref().is_none_or(|peers| peers.iter().any(|peer| peer == server.key()));
    if !asked && !server.is_gateway() && !server.is_limit() {
        return Some("not asked for".to_owned());
    }
    let program = server.program(&settings.root);
    (!program.exists())
        .then(|| format!("{} is not there", program.strip_prefix(&settings.root).unwrap_or(&program).display()))
}

/// What every figure needs.
struct Bench<'a> {
    root: &'a Path,
    certificate: Certificate,
    broker: Option<Broker>,
}

impl Bench<'_> {
    /// One fresh server under one load.
    fn measure(&self, row: &Row, contender: Contender, round: usize, random: &mut fastrand::Rng) -> Measurement {
        let outcome = match contender.server {
            Server::BareConsumer => self.consume(row),
            Server::Roomcast
            | Server::RoomcastHomeTrip
            | Server::Limit
            | Server::CoalescingLimit
            | Server::Node
            | Server::Socketioxide
            | Server::Centrifuge
            | Server::HomeTrip => free_port(random).and_then(|port| self.serve(row, contender, port)),
        };
        let (load, error) = match outcome {
            Ok(load) => (load, None),
            Err(error) => (Value::Null, Some(format!("{error:#}"))),
        };
        Measurement { row: row.id.clone(), round, contender: contender.key(), load, error }
    }

    fn serve(&self, row: &Row, contender: Contender, port: u16) -> anyhow::Result<Value> {
        let broker = self.broker.as_ref().filter(|_| row.block == Block::Source);
        let server = Process::start(&contender, self.root, &self.certificate, broker, port)?;
        let mut command = Command::new("timeout");
        command.arg(PATIENCE_SECS.to_string()).arg(self.root.join("target/release/roomcast-load"));
        command.arg(row.scenario).args(["--url", &contender.url(server.port)]);
        command.args(["--dialect", contender.dialect.argument(), "--secret", SECRET, "--json"]);
        command.args(["--pid", &server.id().to_string()]).args(&row.options);
        if contender.tls {
            command.arg("--ca").arg(&self.certificate.chain);
        }
        if let Some(broker) = broker {
            command.args(["--amqp", &broker.url]);
            return figures(&EVERY_CORE, &mut command);
        }
        command.args(["--cpu", &LOAD_CORE.to_string()]);
        figures(&[LOAD_CORE], &mut command)
    }

    /// The consumer that only acknowledges publishes to its own queue, empties it and measures itself.
    fn consume(&self, row: &Row) -> anyhow::Result<Value> {
        let broker = self.broker.as_ref().context("there is no broker")?;
        let mut command = Server::BareConsumer.command(self.root, 0, 1);
        let of_both = |pair: &&[String]| ["--events", "--rate", "--seconds"].contains(&pair[0].as_str());
        command.args(["--amqp", &broker.url]).args(row.options.chunks(2).filter(of_both).flatten());
        figures(&EVERY_CORE, &mut command)
    }
}

/// What a program that measures prints; it counts even where it found faults.
fn figures(cores: &[usize], command: &mut Command) -> anyhow::Result<Value> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // What it says of a failure is kept in results, where the paths of a stack trace are of no use.
    command.env("RUST_BACKTRACE", "0");
    let output = spawn_on(cores, command)?.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.stdout.is_empty() {
        anyhow::bail!("{}: {}", output.status, said.trim());
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("the load generator's answer; {}", said.trim()))
}

/// What a developer sees go by.
fn line(row: &Row, measurement: &Measurement) -> anyhow::Result<String> {
    let name = format!("{:<20} {:<18} round {}", measurement.row, measurement.contender, measurement.round);
    if let Some(error) = &measurement.error {
        return Ok(format!("{name}  FAILED: {error}"));
    }
    let Some(load) = measurement.figures()? else { return Ok(name) };
    let figure = report::figure(row.figure, &load).map_or("-".to_owned(), |figure| format!("{figure:.2}"));
    let unit = row.figure.unit();
    let faults: Vec<String> =
        load.faults.iter().filter(|(_, count)| **count > 0).map(|(kind, count)| format!("{count} {kind}")).collect();
    Ok(format!("{name}  {figure} {unit}  {}", faults.join(", ")))
}
