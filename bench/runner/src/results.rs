//! The file of a run: what was measured, on what, with which versions. Knows nothing of how figures are shown.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The form of the file; another number is another form.
pub const VERSION: u32 = 1;

/// One run, as it is kept in `bench/results/`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Run {
    /// [`VERSION`].
    pub version: u32,
    /// When it began, UTC.
    pub date: String,
    /// The commit that was measured, with `-dirty` where the tree had changes.
    pub commit: String,
    /// Of the order in which the rounds went.
    pub seed: u64,
    /// Whether sizes and rounds were those of `--quick`.
    pub quick: bool,
    /// The machine's facts: processor, cores, kernel, memory.
    pub machine: BTreeMap<String, String>,
    /// Versions of servers and toolchains.
    pub versions: BTreeMap<String, String>,
    /// Who was not measured, and why.
    pub not_run: BTreeMap<String, String>,
    /// Everything that was measured, in the order in which it was.
    pub measurements: Vec<Measurement>,
}

/// One fresh server under one load.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measurement {
    /// The row's name, as in the plan.
    pub row: String,
    /// Which round of the row, from 0.
    pub round: usize,
    /// Who, and in which way: the contender's key.
    pub contender: String,
    /// What the load generator said, as it came; `null` where it said nothing.
    pub load: Value,
    /// Why there is no figure.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
}

/// What the load generator reports, as far as tables and charts read it.
#[derive(Debug, Deserialize)]
pub struct Load {
    /// The wall clock of the measured part.
    pub seconds: f64,
    /// How many events, where there are any.
    pub events: Option<f64>,
    /// What went wrong on the way, by kind.
    #[serde(default)]
    pub faults: BTreeMap<String, u64>,
    /// The server's side.
    pub server: Option<Server>,
    /// From sent to received, or there and back.
    pub latency_micros: Option<BTreeMap<String, f64>>,
    /// The storm's own figures.
    pub storm: Option<Storm>,
    /// Memory and descriptors after each cycle of coming and going.
    pub cycles: Option<Vec<Cycle>>,
}

/// What the kernel says of the server.
#[derive(Debug, Deserialize)]
pub struct Server {
    /// CPU time of all its threads.
    pub cpu_seconds: Option<f64>,
    /// The same, for each unit.
    pub cpu_micros_per_unit: Option<f64>,
    /// Growth of resident memory, for each unit.
    pub kib_per_unit: Option<f64>,
}

/// What came of everybody's return.
#[derive(Debug, Deserialize)]
pub struct Storm {
    /// From the drop until the last was in its room again.
    pub all_back_seconds: f64,
    /// How often one was refused, and came again.
    pub refused: f64,
    /// What the slowest hundredth of what came to those who stayed took before.
    pub before_p99_micros: f64,
}

/// The server after everybody has gone again.
#[derive(Debug, Deserialize)]
pub struct Cycle {
    /// Resident memory.
    pub resident_kib: f64,
    /// Open file descriptors.
    pub descriptors: f64,
}

impl Run {
    /// Reads a kept run.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let run: Self = serde_json::from_str(&text).with_context(|| format!("{}: not a run", path.display()))?;
        anyhow::ensure!(run.version == VERSION, "{}: of form {}, not {VERSION}", path.display(), run.version);
        Ok(run)
    }

    /// Writes it whole, or not at all: a run that is interrupted leaves what it has.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        let new = path.with_extension("new");
        fs::write(&new, text).with_context(|| format!("cannot write {}", new.display()))?;
        fs::rename(&new, path).with_context(|| format!("cannot write {}", path.display()))
    }
}

impl Measurement {
    /// The figures, where there are any.
    pub fn figures(&self) -> anyhow::Result<Option<Load>> {
        if self.load.is_null() {
            return Ok(None);
        }
        let load = Load::deserialize(&self.load);
        load.map(Some).with_context(|| format!("{} of {}, round {}", self.row, self.contender, self.round))
    }
}
