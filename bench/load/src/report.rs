//! The results of a run: one JSON object for programs, a few lines for people.

use std::fmt::Write;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::arguments::Arguments;
use crate::check::Faults;
use crate::measure::{ClientFigures, Figures, ServerFigures};
use crate::scenarios::{Cycle, Storm};

/// What a scenario found.
pub struct Outcome {
    /// What was counted: `delivery`, `connect`, `round trip` or `connection`.
    pub unit: &'static str,
    /// What it cost.
    pub figures: Figures,
    /// Clients, the publisher left out.
    pub connections: usize,
    /// Members of each room, where there are rooms.
    pub members: Option<usize>,
    /// Events sent, where there are any.
    pub events: Option<u64>,
    /// What went wrong.
    pub faults: Faults,
    /// Nanoseconds, where anything was timed.
    pub latency: Option<Histogram<u64>>,
    /// What stayed behind after each cycle, where there are cycles.
    pub cycles: Vec<Cycle>,
    /// What came of a storm.
    pub storm: Option<Storm>,
}

impl Outcome {
    /// Nothing but what it cost.
    pub fn new(unit: &'static str, figures: Figures) -> Self {
        Self {
            unit,
            figures,
            connections: 0,
            members: None,
            events: None,
            faults: Faults::default(),
            latency: None,
            cycles: Vec::new(),
            storm: None,
        }
    }
}

/// The results, as `--json` prints them.
#[derive(Debug, Serialize)]
pub struct Report {
    version: u32,
    scenario: &'static str,
    dialect: &'static str,
    tls: bool,
    connections: usize,
    rooms: Option<u32>,
    members: Option<usize>,
    events: Option<u64>,
    window: Option<u32>,
    rate: Option<f64>,
    frame_bytes: u32,
    unit: &'static str,
    units: u64,
    seconds: f64,
    /// What went wrong.
    pub faults: Faults,
    server: Option<ServerFigures>,
    client: ClientFigures,
    latency_micros: Option<Latency>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cycles: Vec<Cycle>,
    #[serde(skip_serializing_if = "Option::is_none")]
    storm: Option<Storm>,
}

#[derive(Debug, Serialize)]
struct Latency {
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

impl Latency {
    fn of(nanos: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| nanos.value_at_quantile(quantile) as f64 / 1e3;
        let max = nanos.max() as f64 / 1e3;
        (!nanos.is_empty()).then(|| Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max })
    }
}

impl Report {
    /// Of a run that was asked for so.
    pub fn new(arguments: &Arguments, tls: bool, window: Option<u32>, outcome: Outcome) -> Self {
        Self {
            version: 1,
            scenario: arguments.scenario.name(),
            dialect: arguments.dialect.name(),
            tls,
            connections: outcome.connections,
            rooms: outcome.members.map(|_| arguments.rooms),
            members: outcome.members,
            events: outcome.events,
            window,
            rate: arguments.rate,
            frame_bytes: arguments.frame_bytes,
            unit: outcome.unit,
            units: outcome.figures.units,
            seconds: outcome.figures.seconds,
            faults: outcome.faults,
            server: outcome.figures.server,
            client: outcome.figures.client,
            latency_micros: outcome.latency.as_ref().and_then(Latency::of),
            cycles: outcome.cycles,
            storm: outcome.storm,
        }
    }

    /// A few lines for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |words: std::fmt::Arguments<'_>| {
            text.write_fmt(words).expect("memory takes what is written");
            text.push('\n');
        };
        let Self { scenario, dialect, units, unit, seconds, client, faults, .. } = self;
        let tls = if self.tls { ", TLS" } else { "" };
        line(format_args!("{scenario} ({dialect}{tls}), {} connections", self.connections));
        line(format_args!("  done     {units} x {unit} in {seconds:.3} s, {:.0} a second", *units as f64 / seconds));
        if let Some(server) = &self.server {
            line(format_args!(
                "  server   {:.3} s of CPU, {:.2} us each; memory {} -> {} KiB{}; open files {} -> {}",
                server.cpu_seconds,
                server.cpu_micros_per_unit,
                server.resident_kib_before,
                server.resident_kib_after,
                server.kib_per_unit.map(|kib| format!(", {kib:.2} KiB each")).unwrap_or_default(),
                server.descriptors_before,
                server.descriptors_after,
            ));
        }
        if let Some(Latency { p50, p90, p99, p999, max }) = &self.latency_micros {
            line(format_args!(
                "  latency  p50 {p50:.0} us, p90 {p90:.0} us, p99 {p99:.0} us, p99.9 {p999:.0} us, most {max:.0} us"
            ));
        }
        if let Some(storm) = &self.storm {
            line(format_args!(
                "  storm    {} clients were back after {:.2} s, {} tries were refused",
                storm.clients, storm.all_back_seconds, storm.refused
            ));
            line(format_args!(
                "           before it the {} who stayed saw p50 {:.0} us, p99 {:.0} us",
                storm.stayers, storm.before_p50_micros, storm.before_p99_micros
            ));
        }
        for (index, cycle) in self.cycles.iter().enumerate() {
            line(format_args!("  cycle {index:2} {cycle}"));
        }
        line(format_args!(
            "  load     {:.2} s of CPU in its own code, {:.2} s in the kernel",
            client.user_seconds, client.system_seconds
        ));
        if faults.none() {
            line(format_args!("  checked  nothing lost, doubled, out of order or in the wrong room"));
        } else {
            line(format_args!(
                "  FAULTS   {} lost, {} doubled, {} out of order, {} in the wrong room, {} closed, {} refused, {} garbled",
                faults.lost,
                faults.doubled,
                faults.disordered,
                faults.wrong_room,
                faults.closed,
                faults.refused,
                faults.garbled
            ));
        }
        text
    }
}
