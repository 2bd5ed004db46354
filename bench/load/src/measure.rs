//! What the kernel says of processes: CPU time, memory, descriptors. Reads `/proc` alone.

use std::fs;

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;

use crate::crowd::now;

/// Processes under load.
#[derive(Debug, Clone)]
pub struct Servers(pub Vec<u32>);

impl Servers {
    /// The CPU time of all their threads so far.
    pub fn cpu_nanos(&self) -> anyhow::Result<u64> {
        self.0.iter().map(|pid| cpu_nanos(&pid.to_string())).sum()
    }

    /// Their memory.
    pub fn resident_kib(&self) -> anyhow::Result<i64> {
        self.0.iter().map(|pid| resident_kib(*pid)).sum()
    }

    /// Their open files.
    pub fn descriptors(&self) -> anyhow::Result<usize> {
        let count = |pid: &u32| {
            Ok(fs::read_dir(format!("/proc/{pid}/fd"))
                .with_context(|| format!("cannot look at process {pid}"))?
                .count())
        };
        self.0.iter().map(count).sum()
    }
}

fn cpu_nanos(pid: &str) -> anyhow::Result<u64> {
    let mut nanos = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("there is no process {pid}"))? {
        // A thread may end between the two calls.
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        nanos += text.split(' ').next().unwrap_or_default().parse::<u64>().context("schedstat has no number")?;
    }
    Ok(nanos)
}

fn resident_kib(pid: u32) -> anyhow::Result<i64> {
    let status =
        fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("there is no process {pid}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// User and system time of this process, in clock ticks.
fn own_ticks() -> anyhow::Result<(u64, u64)> {
    let stat = fs::read_to_string("/proc/self/stat").context("cannot read /proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').context("no name in /proc/self/stat")?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks =
        || fields.next().context("/proc/self/stat is short")?.parse().context("no number in /proc/self/stat");
    Ok((ticks()?, ticks()?))
}

/// The figures of the servers, as the results have them.
#[derive(Debug, Clone, Serialize)]
pub struct ServerFigures {
    /// CPU time in the measured part.
    pub cpu_seconds: f64,
    /// The same for each unit.
    pub cpu_micros_per_unit: f64,
    /// Memory when the measured part began.
    pub resident_kib_before: i64,
    /// Memory when it ended.
    pub resident_kib_after: i64,
    /// Open files when it began.
    pub descriptors_before: usize,
    /// Open files when it ended.
    pub descriptors_after: usize,
    /// Memory that each unit cost; for idle connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kib_per_unit: Option<f64>,
}

/// What the load itself cost.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct ClientFigures {
    /// In this program's own code.
    pub user_seconds: f64,
    /// In the kernel.
    pub system_seconds: f64,
}

/// The part of a run that is measured.
pub struct Measured {
    servers: Servers,
    cpu_nanos: u64,
    resident_kib: i64,
    descriptors: usize,
    ticks: (u64, u64),
    began: u64,
}

impl Measured {
    /// From here.
    pub fn begin(servers: &Servers) -> anyhow::Result<Self> {
        Ok(Self {
            resident_kib: servers.resident_kib()?,
            descriptors: servers.descriptors()?,
            ticks: own_ticks()?,
            cpu_nanos: servers.cpu_nanos()?,
            began: now(),
            servers: servers.clone(),
        })
    }

    /// To here.
    pub fn end(self, units: u64) -> anyhow::Result<Figures> {
        let seconds = (now() - self.began) as f64 / 1e9;
        let cpu_seconds = (self.servers.cpu_nanos()? - self.cpu_nanos) as f64 / 1e9;
        let ticks = own_ticks()?;
        let per_second = rustix::param::clock_ticks_per_second() as f64;
        let client = ClientFigures {
            user_seconds: (ticks.0 - self.ticks.0) as f64 / per_second,
            system_seconds: (ticks.1 - self.ticks.1) as f64 / per_second,
        };
        let server = ServerFigures {
            cpu_seconds,
            cpu_micros_per_unit: cpu_seconds * 1e6 / units.max(1) as f64,
            resident_kib_before: self.resident_kib,
            resident_kib_after: self.servers.resident_kib()?,
            descriptors_before: self.descriptors,
            descriptors_after: self.servers.descriptors()?,
            kib_per_unit: None,
        };
        Ok(Figures { units, seconds, client, server: (!self.servers.0.is_empty()).then_some(server) })
    }
}

/// What was measured.
#[derive(Debug, Clone)]
pub struct Figures {
    /// How many units of work were done.
    pub units: u64,
    /// How long they took.
    pub seconds: f64,
    /// What they cost here.
    pub client: ClientFigures,
    /// What they cost the server, if it was named.
    pub server: Option<ServerFigures>,
}

/// As many descriptors as the kernel gives.
pub fn raise_descriptor_limit() -> anyhow::Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).context("cannot raise the limit of open files")
}

/// Keeps this process on one core.
pub fn pin_self(core: usize) -> anyhow::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    rustix::thread::sched_setaffinity(None, &set).with_context(|| format!("cannot run on core {core} alone"))
}
